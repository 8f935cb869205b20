-- At which rate jobs ran in spec/chaos/run --spot, compared with what the living workers can do. All jobs of the queue
-- "sleep" are alike, there are always some to claim, and a worker runs a fixed number of them at a time. So each worker
-- completes as many of them per second as it did before the faults.

local rates = {}

-- Completions are counted in steps of half a second.
local STEP = 0.5

-- A worker may take this long to start, in seconds.
local START = 2

-- A worker's own rate is looked at for this long, in seconds.
local MINUTE = 60

local COMPLETIONS = [[
  SELECT e.who, floor(extract(epoch FROM e.at) * 2)::bigint, count(*)
  FROM chaos_events AS e JOIN chaos_plans USING (job) WHERE act = 'complete' AND kind = 'sleep' GROUP BY 1, 2]]

-- Returns the completions of each worker, and of all of them, by the number of the step.
local function read_completions(pg)
  local of, all = {}, {}
  for who, step, count in pg:psql(COMPLETIONS):gmatch "([^|\n]+)|(%d+)|(%d+)" do
    step, count = tonumber(step), tonumber(count)
    of[who] = of[who] or {}
    of[who][step] = count
    all[step] = (all[step] or 0) + count
  end
  return of, all
end

local function sum(steps, from, to)
  local total = 0
  for step = math.floor(from / STEP + 0.5), math.floor(to / STEP + 0.5) - 1 do
    total = total + (steps[step] or 0)
  end
  return total
end

-- How many worker-seconds of life there are from `from` to `to`, without the first `start` seconds of each.
local function lifetime(lives, from, to, start)
  local total = 0
  for _, life in ipairs(lives) do
    total = total + math.max(0, math.min(life.died or to, to) - math.max(life.born + start, from))
  end
  return total
end

local function percentile(numbers, part)
  table.sort(numbers)
  return numbers[math.max(1, math.ceil(#numbers * part))]
end

local function part_of(numbers, least)
  local count = 0
  for _, number in ipairs(numbers) do
    count = count + (number >= least and 1 or 0)
  end
  return #numbers > 0 and count / #numbers
end

-- The rate of each window between two deaths, as a part of what the living workers can do.
local function windows(all, run, each)
  local list, last = {}, run.faults_began
  local edges = { unpack(run.rated_kills) }
  edges[#edges + 1] = { at = run.faults_ended }
  for _, kill in ipairs(edges) do
    local expected = each * lifetime(run.lives, last, kill.at, START)
    if kill.at - last >= 2 and expected > 0 then
      list[#list + 1] = sum(all, last, kill.at) / expected
    end
    -- What follows a power cut is a figure of its own.
    last = math.max(last, kill.cut and kill.at + kill.seconds + 10 or kill.at)
  end
  return list
end

-- How long after `at` the rate of two seconds is back at four fifths of what `workers` can do.
local function back_after(all, at, each, workers)
  for seconds = 0, 60, STEP do
    if sum(all, at + seconds, at + seconds + 2) >= 0.8 * 2 * each * workers then
      return seconds
    end
  end
  return 60
end

-- The rate of each worker that took the place of a dead one, during its first minute, as a part of what it should be.
local function replacements(of, run, each)
  local list = {}
  for _, life in ipairs(run.lives) do
    local from = life.born + START
    local to = math.min(life.died or run.faults_ended, from + MINUTE, run.faults_ended)
    if life.born > run.faults_began and to - from >= 5 then
      list[#list + 1] = sum(of[life.name] or {}, from, to) / (each * (to - from))
    end
  end
  return list
end

local function add(rows, title, value, form, limits)
  limits = limits or {}
  rows[#rows + 1] = { title, value and form:format(value) or "-",
    bad = value and (value < (limits.least or value) or value > (limits.most or value)) or false,
    goal = limits.least and ("at least %g"):format(limits.least) or limits.most and ("at most %g"):format(limits.most) }
end

-- rates.rows(pg, run): a list of { title, value, bad = whether it misses its goal, goal = text }. The run has `lives`,
-- a list of { name =, born =, died = }, `rated_kills`, a list of { at =, cut = whether all died, seconds = until they
-- were started again }, and the times calm_began, faults_began and faults_ended, all in seconds since 1970.
function rates.rows(pg, run)
  local of, all = read_completions(pg)
  local workers = #run.fleet.workers
  local calm = sum(all, run.calm_began, run.faults_began) / (run.faults_began - run.calm_began)
  local each = calm / workers
  local rows, one, cuts = {}, {}, {}
  for _, kill in ipairs(run.rated_kills) do
    local list = kill.cut and cuts or one
    local at = kill.at + (kill.cut and kill.seconds or 0)
    list[#list + 1] = back_after(all, at, each, workers - (kill.cut and 0 or 1))
  end
  local list = windows(all, run, each)
  local fresh = replacements(of, run, each)
  add(rows, "rate before the faults", calm, "%.0f jobs/s")
  local during = sum(all, run.faults_began, run.faults_ended) / (run.faults_ended - run.faults_began)
  add(rows, "rate during the faults", during, "%.0f jobs/s")
  add(rows, "windows between deaths", #list, "%d")
  add(rows, "rate in them: median", percentile(list, 0.5), "%.2f of the living", { least = 0.8 })
  add(rows, "rate in them: lowest", percentile(list, 0), "%.2f of the living")
  add(rows, "windows at 0.80 or more", part_of(list, 0.8), "%.2f", { least = 0.95 })
  add(rows, "rate of replacements: median", percentile(fresh, 0.5), "%.2f of the others", { least = 0.8 })
  add(rows, "rate of replacements: lowest", percentile(fresh, 0), "%.2f of the others")
  add(rows, "rate back after a death: median", percentile(one, 0.5), "%.1f s", { most = 2 })
  add(rows, "rate back after a death: longest", percentile(one, 1), "%.1f s")
  add(rows, "rate back after a power cut", percentile(cuts, 1), "%.1f s", { most = 10 })
  return rows
end

return rates

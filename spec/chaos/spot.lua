-- A chaos run on spot machines: many workers, of which one is killed every few seconds and replaced by a fresh one.

local uv = require "luv"
local Faults = require "spec.chaos.faults"
local Fleet = require "spec.chaos.fleet"
local books = require "spec.chaos.books"
local common = require "spec.chaos.common"
local new_random = require "spec.chaos.random"
local rates = require "spec.chaos.spot_rates"
local spot_books = require "spec.chaos.spot_books"

local spot = {}

-- How long the rest of the jobs may take when the faults are over, in seconds. A poison that is enqueued last has to
-- kill nine times, and each death of a worker is noticed after some seconds.
local DRAIN = 180

-- A run of at least this many minutes is judged by its rate. A shorter run only prints the rate.
local JUDGED_MINUTES = 5

-- The mean length of the jobs of the queue "sleep", in seconds, as chaos_enqueue() chooses them.
local SLEEP = 0.5

-- Jobs of other queues for each of those.
local OTHERS = 0.15

-- Which jobs kill what, in turn.
local POISONS = { { "sleep", "slay" }, { "sleep", "kill" }, { "spin", "slay" }, { "tx", "kill" }, { "tx", "slay" },
  { "spin", "kill" } }

-- Adds faults of a kind to the list, each `every` seconds, beginning at `first`.
local function add(list, options, first, every, make)
  for at = first, options.minutes * 60 - 1, every do
    local fault = make()
    fault.at = at
    list[#list + 1] = fault
  end
end

-- The faults, in the order of time: workers are killed with all their processes, or only the supervisor; executors;
-- sessions; and all workers at once every five minutes, or once in the middle of a shorter run.
function spot.schedule(options)
  local random = new_random(options.seed)
  local list = {}
  local function on_worker(kind, seconds)
    return function()
      local number = math.floor(random() * options.workers) + 1
      local name = kind or random() < 2 / 3 and "kill worker" or "kill supervisor"
      return { kind = name, number = number, target = "w" .. number, pick = random(),
        seconds = seconds and seconds[1] + random() * (seconds[2] - seconds[1]) }
    end
  end
  local every = options.kill_every
  add(list, options, every / 2, every, on_worker(nil, { 0.1, 2 }))
  add(list, options, every * 0.7, every, on_worker "kill executor")
  add(list, options, every * 0.9, every, on_worker "terminate backend")
  local between = math.min(300, options.minutes * 60)
  add(list, options, between / 2, between, function() return { kind = "power cut", target = "all", seconds = 1 } end)
  table.sort(list, function(a, b) return a.at < b.at end)
  return list
end

-- Keeps the list of the lives of the workers' processes.
local function watch_lives(run)
  local fleet = run.fleet
  run.lives, run.slain = {}, {}
  local start_worker = fleet.start_worker
  function fleet:start_worker(number)
    start_worker(self, number)
    run.lives[#run.lives + 1] = { name = self.workers[number].name, born = common.now() }
  end
end

-- A worker that this program has not killed: a job did, which the books check.
local function on_slain(run, worker)
  run.slain[#run.slain + 1] = worker.name
  run.kills[#run.kills + 1] = { at = common.now() }
end

local function start_fleet(run)
  local options = run.options
  local logs = run.pg.dir .. "/logs"
  assert(uv.fs_mkdir(logs, 493))
  local concurrency = math.max(1, math.floor(options.jobs_per_second * SLEEP / options.workers + 0.5))
  run.kills = {}
  run.fleet = Fleet.new {
    pg = run.pg, workers = options.workers, enqueuers = 0, seed = options.seed, logs = logs, direct = true,
    script = "spec/chaos/spot_worker.lua", script_args = { concurrency },
    args = { "--executors", "1", "--grace", "15s" },
    on_kill = function(worker) on_slain(run, worker) end,
  }
  watch_lives(run)
  run.backlog = options.jobs_per_second * 4
  run.fleet:start()
end

-- Lives for some seconds, and keeps the queues filled.
local function live(run, seconds, fn)
  local next_fill = 0
  common.live(run, seconds, function()
    if uv.hrtime() >= next_fill then
      next_fill = uv.hrtime() + 2.5e8
      run.pg:psql(("SELECT chaos_enqueue(%d, %g)"):format(run.backlog, OTHERS))
    end
    return fn and fn()
  end)
end

-- Waits until each worker has begun a job, then for as long as it takes to measure the rate without faults.
local function begin(run)
  local workers = run.options.workers
  local checked = 0
  live(run, 120, function()
    if uv.hrtime() - checked > 1e9 then
      checked = uv.hrtime()
      return tonumber(run.pg:psql "SELECT count(DISTINCT worker) FROM chaos_runs") == workers
    end
  end)
  live(run, 3)
  run.calm_began = common.now()
  live(run, math.max(5, math.min(20, run.options.minutes * 10)))
  run.faults_began = common.now()
end

-- Notes which lives a fault ends, and does it.
local function watch_kills(run)
  local act = run.faults.act
  function run.faults:act(fault)
    if fault.kind == "kill worker" or fault.kind == "kill supervisor" or fault.kind == "power cut" then
      run.kills[#run.kills + 1] = { at = common.now(), cut = fault.kind == "power cut", seconds = fault.seconds }
    end
    act(self, fault)
  end
end

local function break_things(run)
  local minutes = run.options.minutes
  local ends = uv.hrtime() + minutes * 60e9
  local poison_ns = run.options.poisons_per_minute > 0 and 60e9 / run.options.poisons_per_minute or math.huge
  local next_poison, poisons, next_word = uv.hrtime() + 1e9, 0, uv.hrtime() + 60e9
  common.say("%d faults in %g minutes, seed %d", #run.list, minutes, run.options.seed)
  watch_kills(run)
  run.faults:start(run.list)
  live(run, minutes * 60, function()
    local now = uv.hrtime()
    if now >= next_poison and (poisons == 0 or ends - now > 60e9) then
      next_poison, poisons = next_poison + poison_ns, poisons + 1
      run.pg:psql(("SELECT chaos_poison('%s', '%s')"):format(unpack(POISONS[(poisons - 1) % #POISONS + 1])))
    end
    if now >= next_word then
      next_word = next_word + 60e9
      common.say("%d faults so far, %d deaths of workers by jobs", #run.faults:happened(), #run.slain)
    end
  end)
  run.faults_ended = common.now()
  run.rated_kills = { unpack(run.kills) } -- poisons go on to kill while the queues run empty
  common.live(run, 30, function() return run.faults.pending == 0 end)
  run.faults:close()
end

-- Whatever ended a life is in the list of faults, or in the books.
local function end_lives(run, faults)
  local died = {}
  for _, fault in ipairs(faults) do
    if fault.kind == "kill worker" or fault.kind == "kill supervisor" or fault.kind == "power cut" then
      died[fault.who] = fault.began
    end
  end
  for line in run.pg:psql [[SELECT who, extract(epoch FROM min(began_at)) FROM chaos_faults
    WHERE kind = 'deadly job: worker' GROUP BY who]]:gmatch "[^\n]+" do
    local who, at = line:match "^(.-)|(.*)$"
    died[who] = tonumber(at)
  end
  for _, life in ipairs(run.lives) do
    life.died = died[life.name]
  end
  for _, name in ipairs(run.slain) do
    if not died[name] then
      table.insert(run.fleet.problems, ("worker %s ended by SIGKILL, and no job has sent it"):format(name))
    end
  end
end

local function print_faults(faults, missed)
  local counts, total = {}, 0
  for _, fault in ipairs(faults) do
    if not fault.part and fault.kind ~= "standstill" then
      counts[fault.kind] = (counts[fault.kind] or 0) + 1
      total = total + 1
    end
  end
  for _, kind in ipairs { "kill worker", "kill supervisor", "kill executor", "terminate backend", "power cut" } do
    common.line("faults: " .. kind, (counts[kind] or 0) .. (missed[kind] and ", missed " .. missed[kind] or ""))
  end
  common.line("faults, without those by jobs", total)
end

-- Prints the rows, and adds those that miss their goals to the problems.
local function print_rates(run, rows, problems)
  for _, row in ipairs(rows) do
    common.line(row[1], row[2] .. (row.goal and (" (%s)"):format(row.goal) or ""))
    if row.bad and run.options.minutes >= JUDGED_MINUTES then
      problems[#problems + 1] = ("%s: %s, and the goal is %s"):format(row[1], row[2], row.goal)
    end
  end
end

local function add_all(list, more)
  for _, item in ipairs(more) do
    list[#list + 1] = item
  end
end

local function report(run)
  local faults, problems = run.faults:happened(), run.fleet.problems
  add_all(faults, run.standstills)
  books.close(run.pg, faults, {}, true)
  end_lives(run, faults)
  local broken = books.check(run.pg, spot_books.rules)
  add_all(problems, run.fleet:orphans())
  add_all(problems, run.fleet:complaints())
  local rows = rates.rows(run.pg, run)
  local told = books.tell(run.pg, spot_books.figures)
  for i, row in ipairs(told) do
    local figure = spot_books.figures[i]
    row.bad = figure.most and tonumber(row[2]) > figure.most
    row.goal = figure.most and ("at most %g"):format(figure.most)
    row[2] = row[2] .. (figure.unit or "")
  end
  common.line("figure", "value")
  common.line(("-"):rep(34), ("-"):rep(33))
  common.line("seed", run.options.seed)
  common.line("minutes", run.options.minutes)
  common.line("workers", run.options.workers)
  print_rates(run, told, problems)
  print_rates(run, rows, problems)
  common.print_rules(spot_books.rules, broken)
  print_faults(faults, run.faults.missed)
  common.line("times the machine stood still", #run.standstills)
  common.line("supervisor memory, first and most", ("%d, %d KiB, grew %d"):format(common.memory(run.fleet)))
  common.line("drained within", ("%.1f s"):format(run.drain_seconds))
  common.print_broken(broken, problems)
  return #broken == 0 and #problems == 0
end

-- Runs all of it, and prints the table. Returns whether no rule is broken, and the rate was reached if it is judged.
function spot.play(run)
  run.pg = common.start_server { max_connections = 100 + run.options.workers * 12, shared_buffers = "256MB" }
  run.pg:psql "\\i spec/chaos/spot.sql"
  run.faults = Faults.new { pg = run.pg }
  common.watch_machine(run)
  start_fleet(run)
  run.faults.fleet = run.fleet
  begin(run)
  break_things(run)
  run.drain_seconds = common.drain(run, DRAIN)
  common.stop_fleet(run)
  return report(run)
end

return spot

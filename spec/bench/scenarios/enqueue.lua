-- Enqueueing one by one: the rate of the clients, and how much the doorbell lowers it.

local process = require "spec.support.process"
local wait = require "spec.support.wait"
local pgbench = require "spec.bench.pgbench"
local runs = require "spec.bench.runs"
local stats = require "spec.bench.stats"

local enqueue = { name = "enqueue", title = "Enqueueing one by one" }

local SQL = "INSERT INTO pgq_jobs (queue_name, data) VALUES ('bench', '01234567890123456789');\n"
local SENT = "INSERT INTO pgq_jobs (queue_name, data) VALUES ('bench', convert_to($1, 'UTF8'))"

local SITUATIONS = {
  { name = "no worker", workers = 0 },
  { name = "one worker", workers = 1, args = {} },
  { name = "eight workers", workers = 8, args = { "--executors", "1" } },
}
local CLIENTS = { 1, 8, 32 }

-- If more than this percentage of the jobs wait at the end, the workers have not kept up.
local LEFT_MOST = 10

-- Without a doorbell nothing wakes a worker that sleeps when the clients start, so it has to poll.
local POLLING = { "--poll-interval", "50ms" }

local function start_workers(db, situation, bell)
  local workers = {}
  local args = { unpack(situation.args or {}) }
  for _, word in ipairs(bell and {} or POLLING) do
    args[#args + 1] = word
  end
  for i = 1, situation.workers do
    workers[i] = runs.start_serving(db, { args = args, jobs = 100000 })
  end
  return workers
end

local function wait_till_empty(db)
  wait.till("the workers to do the rest", 120, function()
    local left = db:psql "SELECT count(*) FROM pgq_jobs"
    return left == "0", left
  end)
end

-- Sets the table up for one run: empty, at rest, and with its trigger or without.
local function prepare_table(db, bell)
  db:empty()
  if db:has_trigger() then
    db:set_trigger(bell)
  end
  db:settle()
end

-- Jobs per second, and the part of them that still waited when the clients ended.
local function run_clients(db, situation, clients, bell, seconds)
  prepare_table(db, bell)
  local workers = start_workers(db, situation, bell)
  local count, rate = pgbench.run(db, { sql = SQL, clients = clients, seconds = seconds })
  local left = tonumber(db:psql "SELECT count(*) FROM pgq_jobs")
  if #workers > 0 then
    wait_till_empty(db)
  else
    assert(left == count, ("%d jobs in the table, %d enqueued"):format(left, count))
  end
  for _, worker in ipairs(workers) do
    runs.stop(worker)
  end
  return { rate = rate, left = #workers > 0 and left / count * 100 or nil }
end

-- enqueue.send(db, count, seed, sql): one client that waits between jobs. Returns how long each commit took, in ms.
function enqueue.send(db, count, seed, sql)
  local out = process.check {
    "luajit", "spec/bench/sender.lua", db.conninfo, count, seed, sql or SENT, timeout = 1800,
  }
  local list = {}
  for ns in out:gmatch "%d+" do
    list[#list + 1] = ns / 1e6
  end
  return list
end

-- The median time of a commit, in ms, when each meets a worker that sleeps.
local function run_asleep(db, bell, count, round)
  prepare_table(db, bell)
  local worker = runs.start_serving(db, { jobs = count, args = bell and {} or { "--poll-interval", "1s" } })
  local took = enqueue.send(db, count, round)
  wait_till_empty(db)
  runs.stop(worker)
  return { commit = stats.median(took) }
end

-- The names of one thing with and without the trigger, in the order in which they run.
local function pair(bells, name)
  local names = {}
  for i, bell in ipairs(bells) do
    names[i] = { name = name .. (bell and "" or ", no trigger"), bell = bell }
  end
  return names
end

local function add_comparison(plan, name, key, goal, bells)
  if #bells == 2 then
    table.insert(plan.comparisons, { name = name .. ": with trigger to without", of = { name, key },
      to = { name .. ", no trigger", key }, goal = goal })
  end
end

-- A rate with which the workers did not keep up does not count.
local function check_left(plan, name, values)
  if values.left and values.left > LEFT_MOST then
    table.insert(plan.notes, ("%s: the workers did not keep up, and %.0f %% waited at the end of one run."):format(
      name, values.left))
  end
  return values
end

local function add_clients(plan, db, bells, situation, clients, seconds)
  local name = ("%s, %d client%s"):format(situation.name, clients, clients > 1 and "s" or "")
  for _, one in ipairs(pair(bells, name)) do
    table.insert(plan.contenders, { name = one.name, run = function()
      return check_left(plan, one.name, run_clients(db, situation, clients, one.bell, seconds))
    end })
  end
  add_comparison(plan, name, "rate", clients == 32 and { at_least = 0.8 } or nil, bells)
end

function enqueue.prepare(bench)
  local db = bench.server:database "bench"
  local seconds, sent = math.max(1, math.floor(5 * bench.options.scale)), bench.size(100, 10)
  -- Without a doorbell in these tables, there is nothing to compare.
  local bells = db:has_trigger() and { true, false } or { false }
  local plan = {
    about = ("INSERTs of one row and one commit each, by clients of pgbench for %d s; and %d by a client that waits "
      .. "between them, so that each meets a worker that sleeps. Eight workers have one executor each. Without the "
      .. "trigger, workers poll every 50 ms (the sleeping one every second)."):format(seconds, sent),
    contenders = {}, comparisons = {}, notes = {},
    figures = {
      { key = "rate", unit = "jobs/s" }, { key = "left", name = "waiting at the end", unit = "%" },
      { key = "commit", name = "median commit", unit = "ms" },
    },
    close = function()
      if db:has_trigger() then
        db:set_trigger(true)
      end
    end,
  }
  if #bells == 1 then
    plan.notes[1] = "The tables have no trigger: all of this is without one."
  end
  for _, situation in ipairs(SITUATIONS) do
    for _, clients in ipairs(CLIENTS) do
      add_clients(plan, db, bells, situation, clients, seconds)
    end
  end
  for _, one in ipairs(pair(bells, "worker asleep, 1 client")) do
    table.insert(plan.contenders, { name = one.name, run = function(round)
      return run_asleep(db, one.bell, sent, round)
    end })
  end
  add_comparison(plan, "worker asleep, 1 client", "commit", nil, bells)
  return plan
end

return enqueue

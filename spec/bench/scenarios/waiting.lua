-- Thousands of jobs that all wait at the same time.

local uv = require "luv"
local wait = require "spec.support.wait"
local drain = require "spec.bench.scenarios.drain"
local memory = require "spec.bench.memory"
local runs = require "spec.bench.runs"

local waiting = { name = "waiting", title = "Waiting: ten thousand jobs that each wait a second, all at a time" }

local EXECUTORS, POOL = 2, 5
local ARGS = { "--executors", EXECUTORS, "--concurrency", 5000, "--pool", POOL }

-- How often the table and the connections are looked at, and memory, in seconds. Reading the memory of a process keeps
-- it from getting more meanwhile.
local EVERY, MEMORY_EVERY = 0.02, 0.2

-- The time limit of a run, in seconds.
local TIMEOUT = 300

local IDLE, FULL = "worker up and idle", "--drain on the full table"

-- Looks at a worker again and again: returns a function that does, and the most that was seen of each thing.
local function watcher(db, notes)
  local most, next_memory = { memory = 0, sessions = 0 }, 0
  return function(worker)
    most.sessions = math.max(most.sessions, db:sessions())
    if uv.hrtime() >= next_memory then
      local size, is_resident = memory.together(worker.pid)
      most.memory = math.max(most.memory, size)
      notes.resident = notes.resident or is_resident
      next_memory = uv.hrtime() + MEMORY_EVERY * 1e9
    end
  end, most
end

local function run_idle(db, jobs, notes)
  db:empty()
  db:settle()
  local worker = runs.start_serving(db, { kind = "second", jobs = jobs, args = ARGS })
  wait.sleep(1) -- until the worker has fallen asleep
  local idle = db:sessions()
  local look, most = watcher(db, notes)
  local began = db:enqueue_timed(jobs)
  while db:has_jobs() do
    assert(worker:is_running(), "the worker has ended: " .. worker.stderr)
    assert(uv.hrtime() - began < TIMEOUT * 1e9, "the jobs do not come to an end")
    look(worker)
    wait.sleep(EVERY)
  end
  local seconds = (uv.hrtime() - began) / 1e9
  runs.stop(worker)
  db:expect(0)
  return { seconds = seconds, memory = most.memory, idle = idle, sessions = most.sessions, more = most.sessions - idle }
end

local function run_full(db, jobs, notes)
  drain.fill(db, jobs)
  local look, most = watcher(db, notes)
  local _, rate = runs.drain(db, { kind = "second", jobs = jobs, args = ARGS, watch = look, every = EVERY })
  return { seconds = jobs / rate, memory = most.memory, sessions = most.sessions }
end

local function add_notes(plan, seen)
  if seen.resident then
    table.insert(plan.notes, "Memory is of resident sizes here, shared pages included: proportional ones cannot be "
      .. "read.")
  end
end

function waiting.prepare(bench)
  local db, jobs, seen = bench.server:database "bench", bench.size(10000, 20), {}
  local function contender(name, fn)
    return { name = name, run = function() return fn(db, jobs, seen) end }
  end
  local plan = {
    about = ("%d jobs that each wait for a second (`pgq.sleep(1)`), by one worker with `%s`: from the commit that "
      .. "makes them visible until the table is empty; and, drained, from the start of the process to its end. Memory "
      .. "is the most that supervisor and executors were seen with together, shared pages counted once; connections "
      .. "are the most that the server was seen to have."):format(jobs, table.concat(ARGS, " ")),
    contenders = { contender(IDLE, run_idle), contender(FULL, run_full) }, notes = {},
    figures = {
      { key = "seconds", unit = "s" }, { key = "memory", name = "most memory", unit = "MB" },
      { key = "idle", name = "connections before", unit = "" },
      { key = "sessions", name = "most connections", unit = "" },
    },
    comparisons = {
      { name = "till the last is settled", of = { IDLE, "seconds" }, unit = "s", goal = { at_most = 3 } },
      { name = "memory of all processes", of = { IDLE, "memory" }, unit = "MB", goal = { at_most = 150 } },
      { name = "connections more than idle", of = { IDLE, "more" }, unit = "",
        goal = { at_most = 2 + EXECUTORS * POOL } },
    },
  }
  if not runs.has_option("", "--concurrency") then
    plan.contenders = {}
    plan.notes[1] = "Skipped: this pgq-lua has no `--concurrency`, and a handler that waits blocks its executor."
  end
  plan.finish = function() add_notes(plan, seen) end
  return plan
end

return waiting

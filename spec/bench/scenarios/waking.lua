-- What single enqueues cost the server while many workers sleep.

local wait = require "spec.support.wait"
local runs = require "spec.bench.runs"

local waking = { name = "waking", title = "Waking: one enqueue, forty workers asleep" }

local WORKERS = 40

-- The time between two enqueues, in which the workers fall asleep again, in seconds.
local PAUSE = 1

-- Sessions that have become idle report what they have done after ten seconds at most.
local REPORTED = 11

-- Transactions of the whole database, and scans of the index of claims.
local function seen(db)
  wait.sleep(REPORTED)
  return db:query([[SELECT (xact_commit + xact_rollback)::float8 AS transactions,
      pg_stat_get_numscans('pgq_jobs_fetch'::regclass)::float8 AS scans
    FROM pg_stat_database WHERE datname = current_database()]])[1]
end

-- What is seen in a phase of `count` pauses, with an enqueue before each of them or without.
local function count_phase(db, count, enqueue)
  local before = seen(db)
  for i = 1, count do
    if enqueue then
      db:query(("INSERT INTO pgq_jobs (queue_name, data) VALUES ('bench', '%d')"):format(i))
    end
    wait.sleep(PAUSE)
  end
  local after = seen(db)
  return { transactions = after.transactions - before.transactions, scans = after.scans - before.scans }
end

local function run(db, workers, count)
  db:empty()
  db:settle()
  local list = runs.start_fleet(db, workers, { jobs = count })
  local idle = count_phase(db, count, false)
  local busy = count_phase(db, count, true)
  runs.stop_fleet(list)
  db:expect(0)
  return {
    scans = (busy.scans - idle.scans) / count,
    transactions = (busy.transactions - idle.transactions) / count,
    idle = idle.transactions / count / PAUSE,
  }
end

function waking.prepare(bench)
  local db, count = bench.server:database "bench", bench.size(20, 5)
  local many = WORKERS .. " workers"
  local function contender(name, workers)
    return { name = name, run = function() return run(db, workers, count) end }
  end
  return {
    about = ("Workers with one executor each sleep; every %d s one job is enqueued, %d times. The figures are what "
      .. "each enqueue costs beyond the same time without jobs. A look in vain, with the sweep after it, scans the "
      .. "index of claims four times. Transactions are those of the database (pg_stat_database): the enqueue is one "
      .. "of them, and each notification is one for every worker."):format(PAUSE, count),
    contenders = { contender("1 worker", 1), contender(many, WORKERS) },
    figures = {
      { key = "scans", name = "scans of the index", unit = "scans" },
      { key = "transactions", unit = "transactions" },
      { key = "idle", name = "without jobs", unit = "transactions/s" },
    },
    comparisons = {
      { name = many, of = { many, "scans" }, unit = "scans", goal = { at_most = 30 } },
    },
  }
end

return waking

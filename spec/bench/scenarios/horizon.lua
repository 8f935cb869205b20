-- A million jobs in a table from which vacuum can remove nothing, and in a table whose statistics are wrong.

local process = require "spec.support.process"
local drain = require "spec.bench.scenarios.drain"
local runs = require "spec.bench.runs"

local horizon = { name = "horizon", title = "A pinned horizon, and a table that was vacuumed while empty" }

-- Runs fn while another session keeps a snapshot from before.
local function while_pinned(db, fn)
  local session = process.start { "psql", "-X", "-q", "-A", "-t", "-d", db.conninfo, stdin = "pipe" }
  session:write "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT 'pinned by ' || count(*) FROM pgq_jobs;\n"
  session:read_until("pinned by", 60, "stdout")
  local result = fn()
  local left = db:psql "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND state LIKE 'idle in%'"
  assert(left == "1", "the pin has gone")
  session:close_stdin()
  session:wait(30)
  return result
end

local function flow(db, jobs)
  db:enqueue(jobs)
  db:settle()
  return { rate = runs.drain(db, { jobs = jobs }) }
end

function horizon.prepare(bench)
  local db, jobs = bench.server:database "bench", bench.size(1000000, 1000)
  return {
    about = ("%d jobs are enqueued and then drained: as they are; while another session has an open repeatable-read "
      .. "transaction from before, so that no row of theirs can be removed; and in a table that was vacuumed and "
      .. "analyzed when it was empty, and not since."):format(jobs),
    contenders = {
      { name = "plain", run = function()
        db:empty()
        return flow(db, jobs)
      end },
      { name = "pinned", run = function()
        db:empty()
        return while_pinned(db, function() return flow(db, jobs) end)
      end },
      { name = "vacuumed while empty", run = function()
        drain.fill(db, 0)
        db:enqueue(jobs)
        db:psql "CHECKPOINT"
        return { rate = runs.drain(db, { jobs = jobs }) }
      end },
    },
    figures = { { key = "rate", unit = "jobs/s" } },
    comparisons = {
      { name = "pinned to plain", of = { "pinned", "rate" }, to = { "plain", "rate" }, goal = { at_least = 0.9 } },
      { name = "vacuumed while empty to plain", of = { "vacuumed while empty", "rate" }, to = { "plain", "rate" } },
    },
  }
end

return horizon

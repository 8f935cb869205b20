-- Jobs that do nothing, drained by one worker: the cost of the queue itself.

local Peers = require "spec.bench.peers"
local pgbench = require "spec.bench.pgbench"
local runs = require "spec.bench.runs"

local drain = { name = "drain", title = "Drain: jobs that do nothing, one worker" }

local LIMIT_CLIENTS, LIMIT_BATCH = 2, 500

-- What a worker needs to know of a job, taken and done in one statement: no handler could run, and no program that
-- runs them can be faster. With the planner settings of pgq-lua's own connections.
local LIMIT_SQL = [[
DELETE FROM pgq_jobs WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM pgq_jobs WHERE queue_name = 'bench' AND ran_at IS NULL AND run_after <= now()
  ORDER BY run_after, id LIMIT %d FOR UPDATE SKIP LOCKED))
RETURNING id, data, attempt, created_at, run_after, retry_waits;
]]
local LIMIT_ENV = { PGOPTIONS = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off "
  .. "-c enable_sort=off -c jit=off" }

local function run_limit(db, jobs)
  local each = math.ceil(jobs / LIMIT_BATCH / LIMIT_CLIENTS)
  local count, rate, took = pgbench.run(db, {
    sql = LIMIT_SQL:format(LIMIT_BATCH), clients = LIMIT_CLIENTS, transactions = each, env = LIMIT_ENV,
  })
  -- If the two clients met, one of them took less than a batch.
  local left = tonumber(db:psql "SELECT count(*) FROM pgq_jobs")
  assert(left <= LIMIT_BATCH * LIMIT_CLIENTS, left .. " jobs are left by the limit")
  return (jobs - left) / (count / rate), (jobs - left) / took
end

-- Fills the table, and lets the disk come to rest.
function drain.fill(db, jobs, options)
  db:empty()
  db:enqueue(jobs, options)
  db:settle()
end

local function add_peers(bench, plan, jobs)
  for _, name in ipairs(Peers.names) do
    table.insert(plan.contenders, { name = name, run = function()
      local rate, rate_all = bench.peers:drain(bench.server, name, jobs)
      return { rate = rate, rate_all = rate_all }
    end })
    table.insert(plan.comparisons, { name = "pgq-lua to " .. name, of = { "pgq-lua", "rate" }, to = { name, "rate" },
      goal = { at_least = 7 } })
  end
end

function drain.prepare(bench)
  local db, jobs = bench.server:database "bench", bench.size(500000, 1000)
  local function contender(name, fn)
    return { name = name, run = function()
      drain.fill(db, jobs)
      local rate, rate_all = fn(db, jobs)
      return { rate = rate, rate_all = rate_all }
    end }
  end
  local plan = {
    about = ("%d jobs of 20 bytes by one worker, from its first handler to the last commit, which is what the ratios "
      .. "use; and from the start of its process. The limit is one DELETE … RETURNING of %d jobs, again and again, by "
      .. "%d clients of pgbench. Aims beyond the goals: 0.8 of the limit, ten times the peers."):format(
      jobs, LIMIT_BATCH, LIMIT_CLIENTS),
    contenders = {
      contender("limit", run_limit),
      contender("pgq-lua", function() return runs.drain(db, { jobs = jobs }) end),
    },
    figures = {
      { key = "rate", unit = "jobs/s" }, { key = "rate_all", name = "with the process's start", unit = "jobs/s" },
    },
    comparisons = {
      { name = "pgq-lua to the limit", of = { "pgq-lua", "rate" }, to = { "limit", "rate" },
        goal = { at_least = 0.6 } },
    },
  }
  if bench.peers then
    add_peers(bench, plan, jobs)
  end
  return plan
end

return drain

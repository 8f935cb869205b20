-- Handlers that use the database, compared with pgbench and the same statements.

local drain = require "spec.bench.scenarios.drain"
local pgbench = require "spec.bench.pgbench"
local runs = require "spec.bench.runs"
local statements = require "spec.bench.statements"

local queries = { name = "queries", title = "Queries: handlers of three queries and an enqueue" }

local EXECUTORS, POOL = 2, 5

-- What pgbench is asked for: statements prepared once, or parsed each time, as pgq.query has it.
local MODES = { "prepared", "extended" }

local function prepare_tables(db, jobs)
  db:psql(statements.tables)
  drain.fill(db, jobs)
end

-- Every job must have added 1 to an account, and left a job.
local function expect_done(db, jobs)
  local sum = db:psql "SELECT sum(balance) FROM bench_accounts"
  assert(tonumber(sum) == jobs, ("this run did not do its work: %s updates, not %d"):format(sum, jobs))
  db:expect(jobs)
end

-- One worker drains the jobs. Returns its figures, among them with how many connections its handlers were seen at once.
local function run_worker(db, jobs, args)
  prepare_tables(db, jobs)
  local connections = 0
  local rate, _, cpu = runs.drain(db, {
    jobs = jobs, kind = "queries", args = args, rows_left = jobs, every = 0.01,
    watch = function() connections = math.max(connections, db:sessions(statements.condition)) end,
  })
  expect_done(db, jobs)
  return { rate = rate, connections = connections, cpu = cpu }
end

local function run_pgbench(db, jobs, clients, mode)
  prepare_tables(db, 0)
  local count, rate = pgbench.run(db, {
    sql = statements.script, clients = clients, transactions = math.ceil(jobs / clients), mode = mode,
  })
  expect_done(db, count)
  return { rate = rate, connections = clients }
end

-- A worker, and pgbench with as many clients as that worker's handlers have just had connections.
local function add_size(plan, db, jobs, about, args)
  local name, clients = ("%d jobs, %s"):format(jobs, about), nil
  table.insert(plan.contenders, { name = name, run = function()
    local figures = run_worker(db, jobs, { "--executors", EXECUTORS, "--pool", POOL, unpack(args) })
    clients = math.max(1, figures.connections)
    return figures
  end })
  local unprepared = name .. ", --no-prepare"
  table.insert(plan.contenders, { name = unprepared, run = function()
    return run_worker(db, jobs, { "--executors", EXECUTORS, "--pool", POOL, "--no-prepare", unpack(args) })
  end })
  table.insert(plan.comparisons, { name = name .. ": to --no-prepare", of = { name, "rate" },
    to = { unprepared, "rate" } })
  for _, mode in ipairs(MODES) do
    local other = ("pgbench -M %s, %d times"):format(mode, jobs)
    table.insert(plan.contenders, { name = other, run = function() return run_pgbench(db, jobs, clients, mode) end })
    table.insert(plan.comparisons, { name = name .. ": to pgbench -M " .. mode, of = { name, "rate" },
      to = { other, "rate" }, goal = mode == MODES[1] and { at_least = 0.5 } or nil })
  end
end

function queries.prepare(bench)
  local db = bench.server:database "bench"
  local plan = {
    about = ("Handlers that SELECT, UPDATE and SELECT one of %d rows by `pgq.query` and enqueue a job by "
      .. "`pgq.enqueue`, drained by one worker with `--executors %d --pool %d`, from the first handler to the end; and "
      .. "the same four statements by as many clients of pgbench as the worker's handlers were seen to have "
      .. "connections. The worker claims and settles its jobs besides, which no client of pgbench does."):format(
      statements.accounts, EXECUTORS, POOL),
    contenders = {}, comparisons = {}, notes = {},
    figures = {
      { key = "rate", unit = "jobs/s" }, { key = "connections", name = "connections", unit = "" },
      { key = "cpu", name = "CPU time of the executors", unit = "µs/job" },
    },
  }
  if not runs.has_option("", "--pool") then
    plan.notes[1] = "Skipped: the handlers of this pgq-lua have no connections (`--pool`)."
    return plan
  end
  -- A thousand jobs take less than a second; the larger number is more exact, and has the default concurrency.
  add_size(plan, db, bench.size(1000, 100), "all at a time", { "--concurrency", 500 })
  add_size(plan, db, bench.size(20000, 200), "20 at a time", {})
  return plan
end

return queries

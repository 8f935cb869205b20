-- Whether the rate falls when more jobs wait behind those that run.

local runs = require "spec.bench.runs"

local growth = { name = "growth", title = "Growth: the first jobs of a long queue" }

-- The backlogs behind the jobs that are counted. The others are compared with the first.
local BACKLOGS = {
  { name = "10 thousand", behind = 1e4, queues = 1 },
  { name = "1 million", behind = 1e6, queues = 1 },
  { name = "10 million", behind = 1e7, queues = 1, goal = { at_least = 0.99 } },
  { name = "10 thousand, 2 queues", behind = 1e4, queues = 2 },
  { name = "1 million, 2 queues", behind = 1e6, queues = 2 },
  { name = "10 million, 2 queues", behind = 1e7, queues = 2, goal = { at_least = 0.99 } },
  { name = "10 thousand, and 5 million for tomorrow", behind = 1e4, queues = 1, future = 5e6 },
}

local function database_name(backlog)
  return "growth_" .. backlog.name:gsub("%W+", "_")
end

-- Fills the table up to the backlog; what is new comes last. Each backlog has a database that stays: to make ten
-- million jobs takes longer than all that is measured.
local function fill(bench, backlog, jobs)
  local db = bench.server:database(database_name(backlog))
  local wanted = jobs + bench.size(backlog.behind, 1000)
  if backlog.future and db:psql "SELECT NOT EXISTS (SELECT FROM pgq_jobs)" == "t" then
    db:enqueue(bench.size(backlog.future, 1000), { due = "now() + interval '1 day'" })
  end
  local there = tonumber(db:psql "SELECT count(*) FROM pgq_jobs WHERE run_after <= now()")
  if wanted > there then
    db:enqueue(wanted - there, { queues = backlog.queues })
  end
  db:settle()
  return db
end

local function base_of(backlog)
  return BACKLOGS[backlog.queues == 2 and 4 or 1]
end

function growth.prepare(bench)
  -- A run is a fraction of a second, so each round has several.
  local jobs, repeats = bench.size(50000, 500), bench.size(5, 1)
  local plan = {
    about = ("Jobs per second over the first %d jobs that a worker runs after its start, with so many more behind them "
      .. "in the table; %d run(s) in each round. With two queues, half are in each, and the worker serves "
      .. "both. A run is a fraction of a second, and rates spread; blocks, of the table and its indexes, are what the "
      .. "server looked at for a job, in its memory or read in: they do not move with the "
      .. "machine."):format(jobs, repeats),
    contenders = {}, comparisons = {}, figures = {
      { key = "rate", unit = "jobs/s" }, { key = "blocks", name = "blocks a job", unit = "" },
      { key = "read", name = "blocks read in a job", unit = "" },
    },
    rounds = bench.options.rounds * repeats,
    close = function()
      for _, backlog in ipairs(BACKLOGS) do
        bench.server:drop(database_name(backlog))
      end
    end,
  }
  for _, backlog in ipairs(BACKLOGS) do
    table.insert(plan.contenders, { name = backlog.name, run = function()
      local db = fill(bench, backlog, jobs)
      local rate, blocks, read = runs.first_jobs(db, { jobs = jobs, queues = backlog.queues })
      return { rate = rate, blocks = blocks, read = read }
    end })
    if backlog ~= base_of(backlog) then
      table.insert(plan.comparisons, { name = ("%s to %s"):format(backlog.name, base_of(backlog).name),
        of = { backlog.name, "rate" }, to = { base_of(backlog).name, "rate" }, goal = backlog.goal })
      table.insert(plan.comparisons, { name = ("%s to %s: blocks"):format(backlog.name, base_of(backlog).name),
        of = { backlog.name, "blocks" }, to = { base_of(backlog).name, "blocks" } })
    end
  end
  return plan
end

return growth

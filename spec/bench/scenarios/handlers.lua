-- Handlers that compute or wait, compared with the rate that would be possible without a queue.

local machine = require "spec.bench.machine"
local drain = require "spec.bench.scenarios.drain"
local runs = require "spec.bench.runs"

local handlers = { name = "handlers", title = "Handlers that compute, and handlers that wait" }

-- at_once: how many jobs run at a time, at best; seconds: what one takes; jobs: of a run.
local function list_of(cores)
  local list = {
    { name = ("1 ms of CPU, %d executors"):format(cores), kind = "spin", at_once = cores, seconds = 0.001,
      jobs = 2500 * cores },
    { name = ("waits 50 ms, %d executors"):format(cores), kind = "block", at_once = cores, seconds = 0.05,
      jobs = 100 * cores },
    { name = "waits 50 ms, 16 executors", kind = "block", at_once = 16, seconds = 0.05, jobs = 1600,
      args = { "--executors", "16" } },
  }
  if runs.has_option("", "--concurrency") then
    list[#list + 1] = { name = ("waits 50 ms by pgq.sleep, %d executors of 100 jobs"):format(cores), kind = "wait",
      at_once = 100 * cores, seconds = 0.05, jobs = 20000, args = { "--concurrency", "100" } }
  end
  return list
end

local function run(db, what, jobs)
  drain.fill(db, jobs)
  local rate = runs.drain(db, { jobs = jobs, kind = what.kind, args = what.args })
  return { rate = rate, part = rate / (what.at_once / what.seconds) }
end

function handlers.prepare(bench)
  local db = bench.server:database "bench"
  local plan = {
    about = "Drained by one worker. Perfect is as many jobs at once as there are executors (cores, for the CPU), "
      .. "without a pause; the server has the same cores.",
    contenders = {}, comparisons = {}, figures = { { key = "rate", unit = "jobs/s" } }, notes = {},
  }
  for _, what in ipairs(list_of(machine.cores())) do
    local jobs = bench.size(what.jobs, math.min(what.jobs, 2 * what.at_once))
    table.insert(plan.contenders, { name = what.name, run = function() return run(db, what, jobs) end })
    table.insert(plan.comparisons, { name = what.name .. ": to perfect", of = { what.name, "part" } })
  end
  if #plan.contenders == 3 then
    plan.notes[1] = "This pgq-lua has no `--concurrency`: a handler that waits blocks its executor."
  end
  return plan
end

return handlers

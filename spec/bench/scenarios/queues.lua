-- The drain, with the jobs in a thousand queues instead of one.

local drain = require "spec.bench.scenarios.drain"
local runs = require "spec.bench.runs"

local queues = { name = "queues", title = "Queues: jobs in a thousand queues" }

local ONE = "1 queue"

local function contender(name, db, count, jobs)
  return { name = name, run = function()
    drain.fill(db, jobs, { queues = count })
    return { rate = runs.drain(db, { jobs = jobs, queues = count }) }
  end }
end

function queues.prepare(bench)
  local db, count = bench.server:database "bench", bench.size(1000, 20)
  local jobs, name = count * bench.size(200, 20), count .. " queues"
  return {
    about = ("%d jobs that do nothing, in one queue and spread over %d queues, by one worker with default settings, "
      .. "from its first handler to the last commit."):format(jobs, count),
    contenders = { contender(ONE, db, 1, jobs), contender(name, db, count, jobs) },
    figures = { { key = "rate", unit = "jobs/s" } },
    comparisons = {
      { name = name .. " to one", of = { name, "rate" }, to = { ONE, "rate" }, goal = { at_least = 0.5 } },
    },
  }
end

return queues

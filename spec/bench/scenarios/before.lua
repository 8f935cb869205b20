-- The drain by this program and by an earlier one: what the changes in between cost jobs that do nothing.

local drain = require "spec.bench.scenarios.drain"
local folders = require "spec.bench.folders"
local former = require "spec.bench.former"
local runs = require "spec.bench.runs"

local before = { name = "before", title = "Before: jobs that do nothing, with an earlier commit" }

local NOW, THEN = "now", "before"

-- A database and a program, drained by turns. Each program has made its own tables.
local function contender(name, db, jobs, program)
  return { name = name, run = function()
    drain.fill(db, jobs)
    local rate, _, cpu = runs.drain(db, { jobs = jobs, program = program })
    return { rate = rate, cpu = cpu }
  end }
end

function before.prepare(bench)
  local jobs, repeats = bench.size(500000, 2000), bench.size(3, 1)
  local commit = bench.options.before
  local plan = {
    about = ("%d jobs of 20 bytes by one worker, as in the drain, by this program and by that of the commit %s, each "
      .. "on tables of its own making; %d run(s) of each in each round. CPU time is that of the executors, from their "
      .. "first handler on."):format(jobs, commit, repeats),
    contenders = {}, notes = {}, rounds = bench.options.rounds * repeats,
    figures = {
      { key = "rate", unit = "jobs/s" }, { key = "cpu", name = "CPU time of the executors", unit = "µs/job" },
    },
    comparisons = {
      { name = "now to before", of = { NOW, "rate" }, to = { THEN, "rate" }, goal = { at_least = 0.97 } },
      { name = "now to before: CPU time of the executors", of = { NOW, "cpu" }, to = { THEN, "cpu" } },
    },
  }
  local id, problem = former.find(commit)
  if not id then
    plan.notes[1] = "Skipped: " .. problem .. "."
    bench.say("before: skipped: %s", problem)
    return plan
  end
  bench.say("before: building %s", commit)
  local program, folder = former.build(id)
  plan.contenders = {
    contender(THEN, bench.server:database("before", program), jobs, program),
    contender(NOW, bench.server:database "bench", jobs),
  }
  plan.close = function()
    bench.server:drop "before"
    folders.remove(folder)
  end
  return plan
end

return before

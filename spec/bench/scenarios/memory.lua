-- The memory of the processes.

local wait = require "spec.support.wait"
local bulk = require "spec.bench.bulk"
local folders = require "spec.bench.folders"
local drain = require "spec.bench.scenarios.drain"
local memory = require "spec.bench.memory"
local runs = require "spec.bench.runs"

local scenario = { name = "memory", title = "Memory" }

-- Keeps in `most` what a worker's processes have now where that is more than before; of the executors, the biggest.
local function look(worker, most)
  local function see(who, pid)
    for _, what in ipairs { "resident", "proportional" } do
      most[who .. "_" .. what] = math.max(most[who .. "_" .. what] or 0, memory[what](pid) or 0)
    end
  end
  see("supervisor", worker.pid)
  for _, pid in ipairs(memory.children(worker.pid)) do
    see("executor", pid)
  end
end

local function run_idle(db)
  db:empty()
  local worker, most = runs.start_serving(db, { jobs = 1 }), {}
  wait.sleep(2)
  look(worker, most)
  runs.stop(worker)
  return most
end

local function run_drain(db, jobs)
  drain.fill(db, jobs)
  local most = {}
  runs.drain(db, { jobs = jobs, watch = function(worker) look(worker, most) end })
  return most
end

local function add_lines(bench, db, plan)
  if not bulk.is_known() then
    table.insert(plan.notes, "This pgq-lua has no `enqueue --lines`.")
    return
  end
  local count = bench.size(1000000, 1000)
  local folder = bulk.write_files(count)
  plan.close = function() folders.remove(folder) end
  table.insert(plan.contenders, { name = ("enqueue --lines, %d lines"):format(count), run = function()
    local _, most = bulk.lines(db, folder, count)
    return { peak = most }
  end })
end

function scenario.prepare(bench)
  local db, jobs = bench.server:database "bench", bench.size(500000, 50000)
  local plan = {
    about = ("Of a worker that has nothing to do; the most that is seen while it drains %d jobs that do nothing; and "
      .. "the peak of the command that enqueues a file of lines. Proportional: pages that are shared count in part. "
      .. "Of the executors, the biggest."):format(jobs),
    contenders = {
      { name = "idle", run = function() return run_idle(db) end },
      { name = "drain", run = function() return run_drain(db, jobs) end },
    },
    comparisons = {}, notes = {},
    figures = { { key = "peak", name = "peak", unit = "MB" } },
  }
  for _, who in ipairs { "supervisor", "executor" } do
    for _, what in ipairs { "resident", "proportional" } do
      table.insert(plan.figures, { key = who .. "_" .. what, name = who .. ", " .. what, unit = "MB" })
    end
    table.insert(plan.comparisons, { name = who .. " during the drain, resident", unit = "MB",
      of = { "drain", who .. "_resident" }, goal = { at_most = 20 } })
  end
  add_lines(bench, db, plan)
  return plan
end

return scenario

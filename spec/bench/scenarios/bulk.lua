-- Enqueueing a file of lines, beside COPY into the same table.

local bulk = require "spec.bench.bulk"
local folders = require "spec.bench.folders"

local scenario = { name = "bulk", title = "Enqueueing in bulk" }

function scenario.prepare(bench)
  local db, count = bench.server:database "bench", bench.size(1000000, 1000)
  local folder = bulk.write_files(count)
  local function contender(name, fn)
    return { name = name, run = function()
      local rate, most = fn(db, folder, count)
      return { rate = rate, memory = most }
    end }
  end
  local plan = {
    about = ("%d jobs of 20 bytes from a file, by `pgq-lua enqueue bench --lines`, and by psql's \\copy into the same "
      .. "table; from the start of the process to its end."):format(count),
    contenders = { contender("COPY", bulk.copy) }, comparisons = {}, notes = {},
    figures = {
      { key = "rate", unit = "jobs/s" }, { key = "memory", name = "most memory of the process", unit = "MB" },
    },
    close = function() folders.remove(folder) end,
  }
  if bulk.is_known() then
    table.insert(plan.contenders, contender("pgq-lua enqueue --lines", bulk.lines))
    plan.comparisons[1] = { name = "pgq-lua enqueue --lines to COPY", of = { "pgq-lua enqueue --lines", "rate" },
      to = { "COPY", "rate" }, goal = { at_least = 0.5 } }
  else
    plan.notes[1] = "This pgq-lua has no `enqueue --lines`."
  end
  return plan
end

return scenario

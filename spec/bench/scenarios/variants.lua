-- The drain again, with one thing different each time.

local drain = require "spec.bench.scenarios.drain"
local runs = require "spec.bench.runs"

local variants = { name = "variants", title = "Variants of the drain" }

-- Random bytes, so that Postgres cannot compress them.
local DATA_4K = [[(SELECT decode(string_agg(md5(m::text), ''), 'hex') FROM generate_series(1, 255) AS m)
  || decode(md5(n::text), 'hex')]]

-- part: of the jobs; fill: options of enqueueing; args, kind, queues: of the worker; left: part of the rows that stay;
-- failed: part of the rows that have an error then.
local LIST = {
  { name = "plain" },
  { name = "--preserve-completed", args = { "--preserve-completed" }, left = 1 },
  { name = "1 % of the jobs fail", kind = "fail", left = 0.01, failed = 0.01, fill = { waits = "{1h}" } },
  { name = "10 queues", queues = 10, fill = { queues = 10 } },
  { name = "4 KiB of data", part = 0.2, fill = { data = DATA_4K } },
}

local function run(db, variant, all)
  local jobs = math.floor(all * (variant.part or 1))
  drain.fill(db, jobs, variant.fill)
  local rate = runs.drain(db, {
    jobs = jobs, kind = variant.kind, queues = variant.queues, args = variant.args,
    rows_left = math.floor(jobs * (variant.left or 0)), failed = math.floor(jobs * (variant.failed or 0)),
  })
  return { rate = rate }
end

function variants.prepare(bench)
  local db, jobs = bench.server:database "bench", bench.size(500000, 1000)
  local plan = {
    about = ("As the drain, %d jobs, of 4 KiB %d."):format(jobs, jobs * 0.2),
    contenders = {}, comparisons = {}, figures = { { key = "rate", unit = "jobs/s" } },
  }
  for _, variant in ipairs(LIST) do
    table.insert(plan.contenders, { name = variant.name, run = function() return run(db, variant, jobs) end })
    if variant.name ~= "plain" then
      table.insert(plan.comparisons, { name = variant.name .. " to plain", of = { variant.name, "rate" },
        to = { "plain", "rate" } })
    end
  end
  return plan
end

return variants

-- One busy queue that many workers share.

local uv = require "luv"
local wait = require "spec.support.wait"
local cpu = require "spec.bench.cpu"
local runs = require "spec.bench.runs"
local tally = require "spec.bench.tally"

local fleet = { name = "fleet", title = "Fleet: one busy queue, many workers" }

-- The numbers of workers, and the least rate of each in comparison with one worker.
local FLEETS = { { workers = 16, goal = 0.8 }, { workers = 32, goal = 0.6 } }

-- The time limit of a run, in seconds.
local TIMEOUT = 300

-- How often the end of the queue is looked at, in seconds.
local EVERY = 0.01

-- The last job in the order of claims: this is one step in the index, from its end.
local LAST = [[SELECT FROM pgq_jobs WHERE queue_name = 'bench' AND ran_at IS NULL
  ORDER BY run_after DESC, id DESC LIMIT 1]]

local function name_of(workers)
  return workers == 1 and "1 worker" or workers .. " workers"
end

-- The CPU time so far of the workers with their executors, and of the server's sessions for them, in seconds.
local function cpu_of(db, workers)
  local pids, backends = {}, {}
  for i, worker in ipairs(workers) do
    pids[i] = worker.pid
  end
  for i, row in ipairs(db:query [[SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend']]) do
    backends[i] = row.pid
  end
  return cpu.used(pids), cpu.used(backends)
end

local function run(db, workers, jobs)
  db:empty()
  db:settle()
  local list = runs.start_fleet(db, workers, { jobs = jobs })
  local before, server_before = cpu_of(db, list)
  db:enqueue(jobs)
  local began = uv.hrtime()
  while #db:query(LAST) > 0 or db:has_jobs() do
    assert(uv.hrtime() - began < TIMEOUT * 1e9, "the jobs do not come to an end")
    wait.sleep(EVERY)
  end
  local ended = uv.hrtime()
  local after, server_after = cpu_of(db, list)
  local first = tally.time_of(list[1].folder, 1)
  local tenth, most = tally.time_of(list[1].folder, jobs * 0.1), tally.time_of(list[1].folder, jobs * 0.9)
  runs.stop_fleet(list)
  db:expect(0)
  return {
    rate = jobs / ((ended - first) / 1e9), steady = jobs * 0.8 / ((most - tenth) / 1e9),
    server = (server_after - server_before) / jobs * 1e6, worker = (after - before) / jobs * 1e6,
  }
end

function fleet.prepare(bench)
  local db, jobs = bench.server:database "bench", bench.size(500000, 5000)
  local plan = {
    about = ("%d jobs that do nothing, by workers with one executor each, which sleep when the jobs are committed by "
      .. "one INSERT: from the first handler until the table is empty. The second figure is the rate between a tenth "
      .. "and nine tenths of the jobs. CPU times are those of all workers or sessions together."):format(jobs),
    contenders = {}, comparisons = {},
    figures = {
      { key = "rate", unit = "jobs/s" }, { key = "steady", name = "in the middle", unit = "jobs/s" },
      { key = "server", name = "CPU time of the server's sessions", unit = "µs/job" },
      { key = "worker", name = "CPU time of the workers", unit = "µs/job" },
    },
  }
  local function add(workers)
    table.insert(plan.contenders, { name = name_of(workers), run = function() return run(db, workers, jobs) end })
  end
  add(1)
  for _, one in ipairs(FLEETS) do
    add(one.workers)
    for _, figure in ipairs { plan.figures[1], plan.figures[2] } do
      table.insert(plan.comparisons, {
        name = name_of(one.workers) .. " to one" .. (figure.name and ": " .. figure.name or ""),
        of = { name_of(one.workers), figure.key }, to = { name_of(1), figure.key },
        goal = figure.key == "rate" and { at_least = one.goal } or nil,
      })
    end
  end
  return plan
end

return fleet

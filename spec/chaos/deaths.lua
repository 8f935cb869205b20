-- What the death of a worker costs: measurements for spec/figures. Each takes a server whose tables are empty.

local uv = require "luv"
local Worker = require "spec.support.worker"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local deaths = {}

-- Handlers count what they have done, each executor in a file of its own. Arguments: folder, seconds that a job waits,
-- after how many jobs a count is written.
local COUNTING = [[
  local pgq = require "pgq"
  local uv = require "luv"
  local folder, seconds, step = ...
  seconds, step = tonumber(seconds), tonumber(step)
  local count, file = 0, nil
  pgq.register_queue("count", function()
    if seconds > 0 then pgq.sleep(seconds) end
    count = count + 1
    if count % step == 0 then -- always as many digits, so that a reader never sees a part of the count
      file = file or io.open(folder .. "/" .. uv.os_getpid(), "w")
      file:seek "set"
      file:write(("%012d"):format(count))
      file:flush()
    end
  end)]]

-- Prints how each job begins, and waits for the seconds that are its data.
local SLEEPING = [[
  local pgq = require "pgq"
  pgq.register_queue("sleep", function(data, job)
    print(("began %d attempt %d."):format(job.id, job.attempt))
    pgq.sleep(tonumber(data))
    print(("ended %d."):format(job.id))
  end)]]

local function now()
  return uv.hrtime() / 1e9
end

local function new_folder()
  return assert(uv.fs_mkdtemp("/tmp/pgq-figures-XXXXXX"))
end

local function remove_folder(folder)
  process.check { "rm", "-rf", folder }
end

-- The sum of the counts in the folder.
local function total(folder)
  local sum = 0
  local request = assert(uv.fs_scandir(folder))
  for name in function() return uv.fs_scandir_next(request) end do
    local file = io.open(folder .. "/" .. name)
    sum = sum + (file and file:read "*n" or 0)
    if file then
      file:close()
    end
  end
  return sum
end

local function start_counting(pg, folder, load)
  return Worker.start {
    pg = pg, script = COUNTING, args = load.args, script_args = { folder, load.seconds, load.step },
  }
end

local function kill(worker)
  local executors = worker:executors()
  worker:kill "sigkill"
  for _, pid in ipairs(executors) do
    uv.kill(pid, "sigkill")
  end
  worker:wait()
end

-- Jobs per second that are done from now on: for `seconds`, or until `most` are done in all.
local function rate(folder, seconds, most)
  local began, first = now(), total(folder)
  local last
  repeat
    wait.sleep(0.1)
    last = total(folder)
  until now() - began >= seconds or last >= most
  return (last - first) / (now() - began)
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

local function fill(pg, jobs)
  pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'count', '' FROM generate_series(1, %d)"):format(jobs))
  pg:psql "VACUUM ANALYZE pgq_jobs"
  pg:psql "CHECKPOINT"
end

-- deaths.loads: what workers do in deaths.replacement(). `jobs` are enqueued before.
deaths.loads = {
  noop = { jobs = 3000000, seconds = 0, step = 50, args = {} },
  waiting = { jobs = 200000, seconds = 0.2, step = 50, args = { "--concurrency", "1000" } },
}

-- deaths.replacement(pg, load): kills a worker that is at work, starts another one in its place, and returns the rates
-- of both: the first for three seconds, the second for twelve, which begin two seconds after its start.
function deaths.replacement(pg, load)
  local folder = new_folder()
  fill(pg, load.jobs)
  local worker = start_counting(pg, folder, load)
  wait.till("the worker to do jobs", 60, function() return total(folder) > 0 end)
  wait.sleep(1)
  local before = rate(folder, 3, load.jobs * 0.6)
  assert(before > 0, "the worker did nothing before it was killed")
  kill(worker)
  worker = start_counting(pg, folder, load)
  wait.sleep(2)
  assert(total(folder) < load.jobs * 0.9, "there were too few jobs")
  local after = rate(folder, 12, load.jobs * 0.95)
  kill(worker)
  remove_folder(folder)
  return before, after
end

-- What disturbs a worker and leaves it running, by name: function(worker, pg). Each is done every second.
deaths.disturbances = {
  reload = function(worker)
    worker:kill "sighup"
  end,
  session = function(_, pg)
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
  end,
  alter = function(_, pg)
    pg:psql "ALTER TABLE pgq_jobs ADD COLUMN IF NOT EXISTS note text"
    pg:psql "ALTER TABLE pgq_jobs DROP COLUMN note"
  end,
}

deaths.loads.steady = { jobs = 400000, seconds = 0.02, step = 5, args = { "--concurrency", "100" } }

-- deaths.disturbed(pg, load, disturb): the rate of a worker in three seconds; the lowest of ten seconds in each of
-- which it is disturbed once; and the rate of three seconds that begin two seconds later.
function deaths.disturbed(pg, load, disturb)
  local folder = new_folder()
  fill(pg, load.jobs)
  local worker = start_counting(pg, folder, load)
  wait.till("the worker to do jobs", 60, function() return total(folder) > 0 end)
  wait.sleep(1)
  local before, lowest = rate(folder, 3, load.jobs), math.huge
  for _ = 1, 10 do
    disturb(worker, pg)
    lowest = math.min(lowest, rate(folder, 1.1, load.jobs)) -- the same signal twice in a second counts once
  end
  wait.sleep(2)
  local after = rate(folder, 3, load.jobs)
  assert(total(folder) < load.jobs * 0.95, "there were too few jobs")
  assert(disturb ~= deaths.disturbances.reload or count(worker.stderr, "script was reloaded") >= 10, "too few reloads")
  kill(worker)
  remove_folder(folder)
  return before, lowest, after
end

local FLEET = { workers = 4, concurrency = 2500, seconds = 3, step = 20 }

local function start_fleet(pg, folder)
  local workers = {}
  local load = { seconds = FLEET.seconds, step = FLEET.step, args = {
    "--executors", "1", "--concurrency", tostring(FLEET.concurrency) } }
  for i = 1, FLEET.workers do
    workers[i] = start_counting(pg, folder, load)
  end
  return workers
end

-- deaths.power_cut(pg): four workers have 10,000 jobs in flight, which wait for three seconds each. All of them are
-- killed, and started again at once. Returns after how many seconds the rate of two seconds was at four fifths of the
-- rate before, and those two rates.
function deaths.power_cut(pg)
  local folder = new_folder()
  fill(pg, 300000)
  local workers = start_fleet(pg, folder)
  wait.till("the jobs to be done", 60, function() return total(folder) > FLEET.workers * FLEET.concurrency end)
  local before = rate(folder, 4, math.huge)
  for _, worker in ipairs(workers) do
    kill(worker)
  end
  local began = now()
  workers = start_fleet(pg, folder)
  local after, at
  repeat
    at = now() - began
    after = rate(folder, 2, math.huge)
  until after >= 0.8 * before or at > 90
  for _, worker in ipairs(workers) do
    kill(worker)
  end
  remove_folder(folder)
  return at, before, after
end

local function start_sleeping(pg)
  local worker = Worker.start { pg = pg, script = SLEEPING, args = { "--executors", "1", "--concurrency", "1000" } }
  worker:read_until("is serving", 60)
  return worker
end

-- Enqueues jobs whose handlers wait for `seconds`, and waits until the worker has leased all of these jobs.
local function lease_all(pg, jobs, seconds)
  pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'sleep', '%d' FROM generate_series(1, %d)")
    :format(seconds, jobs))
  wait.till("the jobs to be leased", 60, function()
    return pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NULL" == "0"
  end)
end

-- deaths.leased(pg): kills a worker that has leased a hundred jobs, with the default lease. Returns after how many
-- seconds the last of them ran in another worker, and how many of them had lost an attempt.
function deaths.leased(pg)
  local worker = start_sleeping(pg)
  lease_all(pg, 100, 300)
  local other = start_sleeping(pg)
  local began = now()
  kill(worker)
  wait.till("the jobs to run again", 120, function() return count(other.stdout, "began") >= 100 end)
  local took = now() - began
  local charged = count(other.stdout, "attempt [2-9]")
  kill(other)
  return took, charged
end

-- deaths.lost_session(pg): ends all sessions of a worker that has leased 500 jobs, beside another worker. Returns how
-- many jobs began a second time, and how many jobs are not completed afterwards.
function deaths.lost_session(pg)
  local worker = start_sleeping(pg)
  lease_all(pg, 500, 20)
  pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
  local other = start_sleeping(pg)
  wait.till("the jobs to end", 60, function() return count(worker.stdout, "ended") >= 500 end)
  wait.till("the jobs to be completed", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
  local again = count(worker.stdout, "began") - 500 + count(other.stdout, "began")
  local left = tonumber(pg:psql "SELECT count(*) FROM pgq_jobs")
  kill(worker)
  kill(other)
  return again, left
end

return deaths

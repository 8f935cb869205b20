-- Runs pgq-lua workers, and measures them.

local uv = require "luv"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local folders = require "spec.bench.folders"
local tally = require "spec.bench.tally"

local runs = {}

-- The time limit of a run, in seconds.
local TIMEOUT = 1800

local help_texts = {}

-- Whether a command of pgq-lua ("" is the worker) has that option.
function runs.has_option(command, option)
  local words = { os.getenv "PGQ_LUA", "--help" }
  if command ~= "" then
    table.insert(words, 2, command)
  end
  help_texts[command] = help_texts[command] or process.check(words)
  return help_texts[command]:find(option, 1, true) ~= nil
end

-- After how many jobs an executor notes its progress: some hundred notes in each run, whatever its size.
function runs.step(jobs)
  return math.max(1, math.min(500, math.floor(jobs / 200)))
end

-- runs.start(db, { kind =, queues =, args =, jobs =, program =, folder = }): starts a worker on worker.lua, which notes
-- into the field `folder`: a new folder, unless one is given. The program is pgq-lua as built, or another one.
function runs.start(db, options)
  local words = { options.program or os.getenv "PGQ_LUA", "--db", db.conninfo, "--log-level", "info" }
  for _, word in ipairs(options.args or {}) do
    words[#words + 1] = word
  end
  local folder = options.folder or folders.new()
  for _, word in ipairs { "spec/bench/worker.lua", options.kind or "nothing", folder, options.queues or 1,
    runs.step(options.jobs or 1000) } do
    words[#words + 1] = word
  end
  words.env = { DATABASE_URL = false }
  local began = uv.hrtime()
  local worker = process.start(words)
  worker.folder, worker.began = folder, began
  return worker
end

-- The same, and waits until it serves.
function runs.start_serving(db, options)
  local worker = runs.start(db, options)
  worker:read_until("worker is serving", 30, "stderr")
  return worker
end

-- Stops a worker by SIGTERM. Raises an error if its exit status is not 0.
function runs.stop(worker)
  worker:kill "sigterm"
  local result = worker:wait(60)
  assert(result.status == 0 and result.signal == 0, "a worker did not stop in good order: " .. result.stderr)
  folders.remove(worker.folder)
end

-- runs.start_fleet(db, count, options): starts `count` workers with one executor each, which write into the same
-- folder, and waits until they sleep. Returns the list of them. Options are those of runs.start.
function runs.start_fleet(db, count, options)
  local workers, all = {}, { folder = folders.new(), args = { "--executors", 1, unpack(options.args or {}) } }
  for key, value in pairs(options) do
    all[key] = all[key] or value
  end
  for i = 1, count do
    workers[i] = runs.start(db, all)
  end
  for _, worker in ipairs(workers) do
    worker:read_until("worker is serving", 60, "stderr")
  end
  wait.till("all workers to sleep", 60, function()
    local asleep = db:query([[SELECT count(DISTINCT pid) AS workers FROM pg_locks WHERE locktype = 'advisory'
      AND classid = 'pgq_jobs'::regclass AND objid >= 256 AND mode = 'ShareLock' AND granted]])[1].workers
    return asleep == count, asleep
  end)
  return workers
end

-- Stops all workers of a fleet.
function runs.stop_fleet(workers)
  for _, worker in ipairs(workers) do
    worker:kill "sigterm"
  end
  for i, worker in ipairs(workers) do
    local result = worker:wait(60)
    assert(result.status == 0 and result.signal == 0, "a worker did not stop in good order: " .. result.stderr)
    if i == #workers then
      folders.remove(worker.folder)
    end
  end
end

-- runs.drain(db, { jobs =, kind =, queues =, args =, program =, rows_left =, failed =, watch =, every = }): a worker
-- runs all that is due and exits. Returns jobs per second from its first handler on, and those from its start, both
-- till its exit, and so with the last commit; and the executors' CPU time for a job in µs, nil when there were too few
-- to measure. `watch` is called with the worker's process after each `every` seconds (0.05).
function runs.drain(db, options)
  local args = { "--drain", unpack(options.args or {}) }
  local worker = runs.start(db, {
    kind = options.kind, queues = options.queues, args = args, jobs = options.jobs, program = options.program,
  })
  while options.watch and worker:is_running() do
    options.watch(worker)
    wait.sleep(options.every or 0.05)
  end
  local result = worker:wait(TIMEOUT)
  local ended = uv.hrtime()
  assert(result.status == 0 and result.signal == 0, "the worker failed: " .. result.stderr)
  db:expect(options.rows_left or 0, options.failed)
  local first = assert(tally.time_of(worker.folder, 1), "no handler has run")
  local cpu = tally.cpu(worker.folder)
  folders.remove(worker.folder)
  return options.jobs / ((ended - first) / 1e9), options.jobs / ((ended - worker.began) / 1e9), cpu
end

-- runs.first_jobs(db, { jobs =, queues =, args = }): jobs per second over the first so many, from the first handler on;
-- the worker is then stopped. Also the blocks of the table and its indexes that the server looked at for a job, and
-- those of them that it had to read in.
function runs.first_jobs(db, options)
  local before = db:count_work()
  local worker = runs.start(db, options)
  wait.till("the first jobs to be done", TIMEOUT, function()
    assert(worker:is_running(), "the worker has ended: " .. worker.stderr)
    local seen = tally.total(worker.folder)
    return seen >= options.jobs, seen
  end)
  local first, last = tally.time_of(worker.folder, 1), tally.time_of(worker.folder, options.jobs)
  runs.stop(worker)
  local after = db:count_work()
  local deleted = after.deleted - before.deleted
  assert(db:psql "SELECT count(error) FROM pgq_jobs" == "0", "jobs have failed")
  return (options.jobs - 1) / ((last - first) / 1e9), (after.blocks - before.blocks) / deleted,
    (after.read - before.read) / deleted
end

return runs

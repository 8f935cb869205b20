--- Tests for worker scripts: loads a script into a test, runs its handlers, and returns their outcomes. No worker is
-- needed, and no server; with a server, the jobs in its tables are run.
--
--     local testing = require "pgq.testing"
--     local worker = testing.load "worker.lua"
--     local outcome = worker:perform("mail", "to: ann")
--     assert.equal("complete", outcome.status)
--
-- Without a server, jobs are kept in memory; the clock stands still until the test moves it, also for os.time and
-- os.date; and queries are answered by a function of the test, or raise an error.
-- @module pgq.testing

local Memory = require "pgq.testing.memory"
local Sandbox = require "pgq.testing.sandbox"
local Server = require "pgq.testing.server"
local core = require "pgq.core"
local durations = require "pgq.durations"
local rules = require "pgq.testing.rules"
local script = require "pgq.testing.script"

local error, getmetatable, ipairs, pairs, pcall, setmetatable, tostring, type, unpack =
  error, getmetatable, ipairs, pairs, pcall, setmetatable, tostring, type, unpack
local concat, format, sort = table.concat, string.format, table.sort
local create, resume, status = coroutine.create, coroutine.resume, coroutine.status

local testing = {}

-- Luv runs its callbacks on the coroutine that first required it. That must not be the coroutine of a handler, which is
-- collected as garbage.
pcall(require, "luv")

--- A script that has been loaded.
-- @type Worker
local Worker = {}
Worker.__index = Worker

-- If more jobs than these are due in one call, each job probably enqueues the next one without end.
local DRAIN_MOST = 10000

-- ── arguments ──

local LOAD_OPTIONS = { args = "table", db = "string", query = "function" }
local PERFORM_OPTIONS = {
  attempt = "number",
  cancel_after = "duration",
  created_at = "number",
  id = "number",
  retry_waits = "table",
  run_after = "number",
}

local function sorted_names(set)
  local names = {}
  for name in pairs(set) do
    names[#names + 1] = tostring(name)
  end
  sort(names)
  return concat(names, ", ")
end

-- Checks a table of options against their types. Errors are about the caller of the caller.
local function check_options(what, options, types)
  if options ~= nil and type(options) ~= "table" then
    error(format("%s: options must be a table, not a %s", what, type(options)), 3)
  end
  for name, value in pairs(options or {}) do
    local wanted = types[name]
    if not wanted then
      error(format("%s: there is no option %s; there are %s", what, tostring(name), sorted_names(types)), 3)
    end
    if type(value) ~= wanted and wanted ~= "duration" then
      error(format("%s: the option %s must be a %s, not a %s", what, name, wanted, type(value)), 3)
    end
  end
  return options or {}
end

-- ── loading ──

local function close(worker)
  worker._store:close()
  for handle in pairs(worker._handles) do
    handle:close()
  end
end

--- Loads the script of a worker in a sandbox: its modules and globals are not those of the test, nor those of another
-- script. Only modules that the test has loaded before are shared.
-- @tparam string path the script
-- @tparam[opt] table options db: connection string or URI of a server whose tables are used, by default none; query:
-- function(sql, …) that answers the script's queries when there is no server, and returns a list of rows, or nil,
-- message, code; args: list of the script's arguments
-- @treturn Worker the worker. Field settings: the values given to pgq.configure, as texts; field stopped: true after
-- pgq.stop() was called
-- @raise the script's own message when it cannot be loaded; an error when the server or its tables do not exist
function testing.load(path, options)
  if type(path) ~= "string" then
    error("load: the path of the script must be a string, not a " .. type(path), 2)
  end
  options = check_options("load", options, LOAD_OPTIONS)
  if options.db and options.query then
    error("load: with a server (db), queries run on the server; leave out the option query", 2)
  end
  local worker = setmetatable({ _db = options.db, _answers = options.query, stopped = false }, Worker)
  worker._handles = setmetatable({}, { __mode = "k" })
  worker._store = options.db and Server.new(options.db) or Memory.new()
  worker._sandbox = Sandbox.new(worker._store:os_functions())
  local ok, problem = pcall(worker._sandbox.run, worker._sandbox, script.load, worker, path, options.args or {})
  if not ok then
    close(worker)
    error(problem, 0)
  end
  return worker
end

-- ── running ──

-- Closes the connections on which a handler that is not resumed has left a transaction open: its locks would block
-- others.
local function close_transactions(worker)
  for handle in pairs(worker._handles) do
    local state = handle:transaction_state()
    if state == "open" or state == "failed" then
      handle:close()
    end
  end
end

-- Runs the handler in a coroutine, as an executor does. If the handler yields, it is not resumed.
local function run_as_task(worker, queue, job)
  local task = create(worker._host.run)
  local settling = queue.transactional and { lease = job.lease or 1, preserve = queue.preserve_completed } or nil
  local results = { resume(task, queue.number, job.data, job.id, job.attempt, job.created_at, job.run_after,
    #job.retry_waits, settling) }
  local ok = results[1]
  if worker._run.killed then
    close_transactions(worker)
    return false, format("the executor was killed at the time limit of %s while it ran this job",
      (core.duration(worker._run.time_limit or 0)))
  elseif worker._sandbox.exited then
    return false, format("the executor exited with status %d while it ran this job", worker._sandbox.exited)
  elseif status(task) == "suspended" then
    close_transactions(worker)
    return false, "the handler yielded, and nothing resumes it: coroutine.yield is for coroutines of your own"
  elseif not ok then
    return false, worker._describe(results[2])
  end
  return unpack(results, 2, 6)
end

-- Runs the handler. Returns the outcome, and how the job is to be settled. The job is cancelled when its handler has
-- waited for `cancel_after` seconds, if given.
local function run(worker, job, cancel_after)
  local queue = worker._queues[job.queue]
  local refusal = rules.find_refusal(job)
  local ending
  local mark = worker._store:mark()
  if refusal then
    ending = rules.decide(queue, {}, false, refusal)
  elseif job.lost then
    ending = rules.decide(queue, job.retry_waits, false, "worker lost: lease ran out")
  else
    local current = { time_limit = queue.time_limit, cancel_after = cancel_after, slept = 0 }
    worker._run = current
    ending = rules.decide(queue, job.retry_waits, worker._sandbox:run(run_as_task, worker, queue, job))
    worker._run = nil
    if current.cancelled then
      ending = { status = "cancelled", error = ending.error, traceback = ending.traceback, action = "none" }
    elseif ending.status == "complete" and queue.transactional then
      ending.action = "none" -- its transaction has settled it
    end
  end
  return {
    status = ending.status,
    wait = ending.wait,
    error = ending.error,
    traceback = ending.traceback,
    enqueued = worker._store:jobs(nil, mark),
    job = job,
  }, ending
end

-- ── the worker's methods ──

local function check_worker(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Worker then
    error(format("call it with a colon: worker:%s(…)", method), 3)
  end
end

-- The default retry waits that are left at an attempt.
local function waits_left(attempt)
  local waits = {}
  for i = attempt, #rules.DEFAULT_WAITS do
    waits[#waits + 1] = rules.DEFAULT_WAITS[i]
  end
  return waits
end

local function read_waits(waits, attempt)
  local texts = {}
  for i, wait in ipairs(waits or waits_left(attempt)) do
    local ms, text = durations.read(wait)
    if not ms then
      error(format("perform: retry wait %d %s", i, text), 3)
    end
    texts[i] = text
  end
  return texts
end

--- Runs the handler of a queue for one job. The job does not stay anywhere; the jobs that its handler enqueues do.
-- @tparam string queue name of a queue that the script registers
-- @tparam string data the job's data
-- @tparam[opt] table options attempt: a number, 1 by default; retry_waits: list of seconds or durations, the waits that
-- are left, by default those of the default waits that are left at this attempt; id, created_at, run_after (Unix
-- seconds): as the handler finds them in its job; cancel_after: seconds or a duration, after which the job is
-- cancelled, counting the time in pgq.sleep and pgq.await
-- @treturn table the outcome. Field status: "complete"; "retry", the attempt failed and the next one follows after
-- `wait` seconds; "failed", the last attempt failed; "backoff", the attempt failed and the queue slows down, with
-- `wait` if there is a next attempt; "discard"; "snooze", with `wait`; "cancelled". Fields error: the message;
-- traceback; enqueued: list of the jobs that the handler enqueued, as of worker:jobs; job: the job that was run
-- @raise an error when an argument is wrong, or the script does not register the queue
function Worker:perform(queue, data, options)
  check_worker(self, "perform")
  if type(data) ~= "string" then
    error(format("perform: data must be a string, not a %s; encode it first", type(data)), 2)
  end
  if not self._queues[queue] then
    error(format("perform: the script registers no queue %s; it registers %s", tostring(queue),
      sorted_names(self._queues)), 2)
  end
  options = check_options("perform", options, PERFORM_OPTIONS)
  local attempt = options.attempt or 1
  local given = { attempt = attempt, retry_waits = read_waits(options.retry_waits, attempt) }
  given.id, given.created_at, given.run_after = options.id, options.created_at, options.run_after
  local cancel_after = options.cancel_after and script.read_seconds("perform", options.cancel_after, 2)
  local job = self._store:begin(queue, data, given)
  local outcome = run(self, job, cancel_after)
  self._store:drop(job)
  return outcome
end

--- Runs the jobs of the script's queues that are due, in the order of their time, until none is due or pgq.stop() was
-- called. Each job is settled as by a worker: deleted, preserved, due again later, or failed. Jobs that become due
-- meanwhile are run too. A backoff does not delay other jobs of its queue.
-- @tparam[opt] number limit run no more jobs than that; without it, more than 10,000 jobs are an error
-- @treturn table list of outcomes, as of worker:perform, with another field: dropped is true when the job was gone or
-- cancelled by the time its handler had ended
function Worker:drain(limit)
  check_worker(self, "drain")
  if limit ~= nil and type(limit) ~= "number" then
    error("drain: the limit must be a number, not a " .. type(limit), 2)
  end
  local outcomes = {}
  while #outcomes < (limit or DRAIN_MOST + 1) and not self.stopped do
    local job = self._store:claim(self._names)
    if not job then
      break
    end
    local outcome, ending = run(self, job)
    if ending.action ~= "none" then
      outcome.dropped = not self._store:settle(job, ending) or nil
    end
    outcomes[#outcomes + 1] = outcome
    if not limit and #outcomes > DRAIN_MOST then
      error(format("drain: %d jobs were run, and more are due; do they enqueue each other? Give drain a limit",
        DRAIN_MOST), 2)
    end
  end
  return outcomes
end

--- Moves time forward. Without a server this moves the clock, which otherwise stands still. With a server it makes all
-- jobs in the table older instead.
-- @tparam number|string duration a number of seconds, or a duration such as "10m"
function Worker:advance(duration)
  check_worker(self, "advance")
  self._store:age(script.read_seconds("advance", duration, 2))
end

--- Enqueues a job, which worker:drain() runs. As pgq.enqueue.
-- @tparam string queue name of the queue
-- @tparam string data bytes for the handler
-- @tparam[opt] table options delay, after, retry_waits
-- @treturn[1] number id
-- @return[2] nil, message, code
function Worker:enqueue(queue, data, options)
  check_worker(self, "enqueue")
  local id, message, code = self._store:enqueue(queue, data, options)
  return id, message, code
end

local function check_queue(what, queue)
  if queue ~= nil and type(queue) ~= "string" then
    error(format("%s: the queue name must be a string, not a %s", what, type(queue)), 3)
  end
end

--- Returns the jobs that were enqueued and have not been attempted.
-- @tparam[opt] string queue name of a queue, by default all; the script need not register it
-- @treturn table list of jobs, as of worker:jobs
function Worker:enqueued(queue)
  check_worker(self, "enqueued")
  check_queue("enqueued", queue)
  local found = {}
  for _, job in ipairs(self._store:jobs(queue)) do
    if job.state == "waiting" and job.attempt == 0 then
      found[#found + 1] = job
    end
  end
  return found
end

--- Returns all jobs, in the order in which they were enqueued.
-- @tparam[opt] string queue name of a queue, by default all
-- @treturn table list of jobs: id, queue, data, state ("waiting", "failed", "preserved", or "running"), attempt, error,
-- retry_waits (list of durations as Postgres stores them, "1m0s"), created_at, run_after and ran_at (Unix seconds), and
-- delay (seconds from created_at to run_after, or nil). Without a server also `after`, as it was given; if that is a
-- text, which only Postgres can read, there is no run_after, and the job never becomes due
function Worker:jobs(queue)
  check_worker(self, "jobs")
  check_queue("jobs", queue)
  return self._store:jobs(queue)
end

--- Closes the connections to the server, those of the script too. Without a server it does nothing.
function Worker:close()
  check_worker(self, "close")
  close(self)
end

return testing

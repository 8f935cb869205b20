-- Loads the script under test with an instance of pgq of its own, whose host is the test. All of this happens in the
-- sandbox of the script.

local core = require "pgq.core"
local durations = require "pgq.durations"
local tasks = require "pgq.running.tasks"
local offline = require "pgq.testing.offline"

local error, ipairs, loadfile, pcall, rawset, select, setmetatable, type, unpack =
  error, ipairs, loadfile, pcall, rawset, select, setmetatable, type, unpack
local format = string.format
local yield = coroutine.yield
local min = math.min

local script = {}

--- Reads a duration in seconds. Any other value is an error about the function at `level`, where 1 is the caller.
function script.read_seconds(what, value, level)
  local ms, problem = durations.read(value)
  if not ms then
    error(format("%s: the time %s", what, problem), level + 1)
  end
  return ms / 1000
end

-- The table that the script's instance of pgq gets by require "pgq.host".
local function new_host(worker)
  return {
    loading = true,
    conninfo = worker._db,
    stop = function() worker.stopped = true end,
    log = function() end,
  }
end

-- Seconds that a handler may use for cleaning up after an interruption. After that, each of its waits fails at once.
local CLEANUP_SECONDS = { timeout = 5, cancelled = 1 }

-- A handler that goes on after this many interruptions counts as killed.
local MAX_INTERRUPTS = 1000

-- Returns after how many seconds of waiting the handler is interrupted next, and the error; or nil when it is not.
local function next_interrupt(run, outcome)
  if run.value then
    return run.final_at, run.value
  elseif run.cancel_after and (not run.time_limit or run.cancel_after <= run.time_limit) then
    return run.cancel_after, outcome.cancelled
  end
  return run.time_limit, outcome.timeout
end

-- Seconds of a real clock, for comparisons.
local function seconds_now()
  return require "luv".hrtime() / 1e9
end

-- Never returns: the coroutine of the handler stays suspended.
local function kill(run)
  run.killed = true
  while true do
    yield()
  end
end

local function interrupt(worker, run, at, value)
  if run.slept < at then
    worker._store:age(at - run.slept)
    run.slept = at
  end
  if not run.value then
    run.value, run.final_at, run.raises = value, at + CLEANUP_SECONDS[value.name], 0
    run.cancelled = value.name == "cancelled"
  end
  run.raises = run.raises + 1
  if run.raises > MAX_INTERRUPTS then
    kill(run)
  end
  error(value, 0)
end

-- pgq.sleep takes no time, but moves the clock of the test. The handler is interrupted as in an executor.
local function sleep_function(worker, outcome)
  return function(seconds)
    local wait, run = script.read_seconds("sleep", seconds, 2), worker._run
    if run then
      tasks.check_yieldable "sleep"
      local at, value = next_interrupt(run, outcome)
      if at and run.slept + wait >= at then
        interrupt(worker, run, at, value)
      end
      run.slept = run.slept + wait
    end
    worker._store:age(wait)
  end
end

-- pgq.await takes real time. That time counts for the time limit of the handler, but does not move the clock of the
-- test.
local function await_function(worker, outcome, await)
  local function take(run, before, came, ...)
    local at, value = next_interrupt(run, outcome)
    run.slept = came and min(run.slept + seconds_now() - before, at) or at
    if not came then
      interrupt(worker, run, at, value)
    end
    return ...
  end
  return function(start)
    local run = worker._run
    local at, value = next_interrupt(run or {}, outcome)
    if run then
      tasks.check_yieldable "await"
    end
    if not at or type(start) ~= "function" then
      return await.await(start)
    end
    if run.slept >= at then
      interrupt(worker, run, at, value)
    end
    return take(run, seconds_now(), await.await_within(start, at - run.slept))
  end
end

-- The C half for a script with a server. Keeps the script's connections in `handles`, so that the test can close them.
local function recording_core(handles)
  local recording = setmetatable({}, { __index = core })
  function recording.connect(conninfo)
    local handle, message, code = core.connect(conninfo)
    if handle then
      handles[handle] = true
    end
    return handle, message, code
  end
  return recording
end

-- Loads an instance of pgq for this script. Its tasks.lua finds no host, so that calls block; the other files find one.
local function new_module(worker)
  package.loaded["pgq.core"] = recording_core(worker._handles)
  local outcome, its_tasks = require "pgq.running.outcome", require "pgq.running.tasks"
  package.loaded["pgq.host"] = worker._host
  local pgq = require "pgq"
  local sleep = sleep_function(worker, outcome)
  its_tasks.sleep, pgq.sleep = sleep, sleep
  pgq.await = await_function(worker, outcome, require "pgq.running.await")
  if not worker._db then
    offline.install(pgq, worker._store, worker._answers)
    function worker._host.run_transactional(...)
      return offline.run_transactional(worker._store, worker._answers, outcome.of, ...)
    end
  end
  return outcome
end

local function run_file(path, args)
  local chunk, problem = loadfile(path)
  if not chunk then
    error(problem, 0)
  end
  local words = { [0] = path }
  for i, word in ipairs(args) do
    words[i] = word
  end
  rawset(_G, "arg", words)
  chunk(unpack(args))
end

local TRUE = { ["1"] = true, ["true"] = true, yes = true, on = true }

-- The options of a queue: its own, or else those that pgq.configure has set.
local function resolve(number, queue, settings)
  local function is_set(name)
    if queue[name] ~= nil then
      return queue[name]
    end
    return TRUE[(settings[name] or ""):lower()] or false
  end
  local function duration(name, default_ms)
    return settings[name] and select(2, core.duration(settings[name])) or default_ms
  end
  local timeout_ms = queue.timeout_ms
  if timeout_ms < 0 then
    timeout_ms = duration("timeout", 0)
  end
  if queue.transactional and timeout_ms == 0 then -- as in a worker, which does not extend the lease
    timeout_ms = duration("lease", 60000)
  end
  return {
    number = number,
    preserve_completed = is_set "preserve_completed",
    discard_failed = is_set "discard_failed",
    transactional = queue.transactional,
    time_limit = timeout_ms > 0 and timeout_ms / 1000 or nil,
  }
end

--- Loads the script at `path`, and sets the fields of the worker that depend on it. Raises the script's own message
-- when it cannot be loaded.
function script.load(worker, path, args)
  local host = new_host(worker)
  worker._host = host
  worker._describe = new_module(worker).describe
  local ok, problem = pcall(run_file, path, args)
  local exited = worker._sandbox.exited
  if exited then
    error(format("%s: the script ended its process with status %d while it was loaded", path, exited), 0)
  elseif not ok then
    error(worker._describe(problem), 0)
  elseif #host.queues == 0 then
    error(path .. ": the script ends without a queue: call pgq.register_queue(name, handler)", 0)
  end
  host.loading = nil
  worker.settings = host.settings
  worker._queues, worker._names = {}, {}
  for number, queue in ipairs(host.queues) do
    worker._names[number] = queue.name
    worker._queues[queue.name] = resolve(number, queue, host.settings)
  end
end

return script

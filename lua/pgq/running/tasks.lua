-- Tasks: the coroutines in which an executor runs handlers. A handler that waits is suspended, and its executor goes on
-- with others; what wakes it may come from anywhere. In a plain script there are no tasks, and calls block.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local core = require "pgq.core"
local durations = require "pgq.durations"
local outcome = require "pgq.running.outcome"

local create, resume, running, yield = coroutine.create, coroutine.resume, coroutine.running, coroutine.yield
local isyieldable = coroutine.isyieldable
local error, pairs, pcall, require, select, setmetatable, tostring, type, unpack =
  error, pairs, pcall, require, select, setmetatable, tostring, type, unpack
local format = string.format

local found, host = pcall(require, "pgq.host")
if not found or type(host) ~= "table" then
  host = nil
end

local tasks = {}

-- What a task yields when it waits. A coroutine of the user's own that sees it pass yields it too.
local WAIT = {}

-- The coroutines that have yielded it: nobody but us resumes these.
local parked = setmetatable({}, { __mode = "k" })

-- By number: what is known of the tasks that have waited, or asked for something at their end.
local records = {}

local function new_record()
  return { wait = nil, raise = nil, final = false, ends = nil }
end

local function record_of(number)
  local record = records[number]
  if not record then
    record = new_record()
    records[number] = record
    host.report_end(number)
  end
  return record
end

--- Where the caller stands: "plain", where calls block (a plain script, or a worker's while it loads), "task", where
-- they wait, or "callback": in an executor's callback of luv, where nothing may wait.
function tasks.mode()
  if not host or host.loading then
    return "plain"
  end
  return host.task() and "task" or "callback"
end

--- Whether a worker's script is being loaded: then there are no tasks yet, and calls block.
function tasks.is_loading()
  return host ~= nil and host.loading == true
end

--- Whether statements may be prepared in sessions: those of a worker, unless a pooler shares them.
function tasks.prepares()
  return host ~= nil and host.prepare == true
end

--- The number of the task that runs, which no other task has before it ends; nil outside of tasks.
function tasks.id()
  if host and not host.loading then
    return host.task()
  end
end

--- Raises an error about the function at `level`, where 1 is the caller, in a callback of luv.
function tasks.check(what, level)
  if host and not host.loading and not host.task() then
    error(what .. ": nothing may wait in a callback of luv; let the callback resume the handler, as in pgq.await",
      level + 1)
  end
end

--- Writes a line into the worker's log.
-- @tparam string level debug, info, warn or error
-- @tparam string message
function tasks.log(level, message)
  if host then
    host.log(level, message)
  end
end

-- Yields until the task is resumed. The coroutine must be one that can yield.
local function suspend()
  local thread = running()
  parked[thread] = true
  yield(WAIT)
  parked[thread] = nil
end

-- Raises what interrupts the task, if something does.
local function check_interrupt(record)
  local raise = record.raise
  if raise then
    if not record.final then
      record.raise = nil
    end
    error(raise, 0)
  end
end

--- Raises an error when the caller cannot wait, since C code has called it.
local function check_yieldable(what)
  if not isyieldable() then
    error(what .. ": nothing can wait in a function that C code has called, such as table.sort, string.gsub or a "
      .. "metamethod", 0)
  end
end

tasks.check_yieldable = check_yieldable

--- Waits: the task is suspended until wake(…) is called, and what that was given is returned.
-- @tparam string what name of the function that waits, for messages
-- @tparam function start called as start(wake, context), and sees to it that wake is called once: at once, or later,
-- from anywhere. It may return a function that is called as cancel(context) when the wait is interrupted
-- @param[opt] context
-- @return what wake was given
-- @raise what start raises; and pgq.timeout or pgq.cancelled, when the task is interrupted
function tasks.wait(what, start, context)
  local record = record_of(host.task())
  check_interrupt(record)
  check_yieldable(what)
  local number, wait = host.task(), { results = nil, count = 0, over = false, suspended = false }
  local function wake(...)
    if wait.over then
      return false
    end
    wait.results = { ... } -- first: when there is no memory for it, wake can be called again
    wait.over = true
    wait.count = select("#", ...)
    if wait.suspended then
      host.ready(number)
    end
    return true
  end
  local cancel = start(wake, context)
  if not wait.over then
    wait.cancel, wait.context = cancel, context
    wait.suspended = true
    record.wait = wait
    suspend()
    record.wait = nil
    wait.suspended = false
    check_interrupt(record)
    if not wait.over then -- the coroutines around this one could not be suspended
      wait.over = true
      if cancel then
        cancel(context)
      end
      check_yieldable(what)
      error(what .. ": nothing can wait here: a coroutine around this one was called by C code", 0)
    end
  end
  return unpack(wait.results, 1, wait.count)
end

--- Has a function called when the current task has ended, however it did. It must not wait.
-- @tparam function fn
-- @treturn function that takes this back
function tasks.at_end(fn)
  local record = record_of(host.task())
  local ends = record.ends or {}
  record.ends = ends
  ends[fn] = true
  return function()
    ends[fn] = nil
  end
end

-- ── coroutines of the user's own ──

-- The result of resume: while what it ran waits, so does the caller.
local function pass(co, ok, first, ...)
  if not ok or first ~= WAIT then
    return ok, first, ...
  end
  if isyieldable() then
    suspend()
  end -- else the wait in `co` finds that nothing came, and says why
  return pass(co, resume(co))
end

local function resume_user(co, ...)
  if parked[co] then
    return false, "cannot resume a coroutine that waits"
  end
  return pass(co, resume(co, ...))
end

local function results_of_wrap(ok, first, ...)
  if not ok then
    error(first, 0)
  end
  return first, ...
end

local function wrap_user(fn)
  local co = create(fn)
  return function(...)
    return results_of_wrap(resume_user(co, ...))
  end
end

-- ── what the executor calls ──

-- A task is to end: its wait is over, and raises this. `final`: so does every further wait.
local function interrupt(number, name, final)
  local record = records[number]
  if not record then
    return
  end
  record.raise = outcome[name]
  record.final = final
  local wait = record.wait
  if wait and not wait.over then
    wait.over = true
    wait.results = {}
    if wait.cancel then
      pcall(wait.cancel, wait.context)
    end
  end
end

local function ended(number)
  local record = records[number]
  records[number] = nil
  local wait = record and record.wait
  if wait and not wait.over then
    wait.over = true
    if wait.cancel then
      pcall(wait.cancel, wait.context)
    end
  end
  for fn in pairs(record and record.ends or {}) do
    local ok, problem = pcall(fn)
    if not ok then
      tasks.log("error", "at the end of a task: " .. tostring(problem))
    end
  end
end

-- Functions of luv that would take the loop away from the executor.
local FORBIDDEN = { "run", "stop", "loop_close", "walk" }

local function guard(uv)
  for _, name in pairs(FORBIDDEN) do
    uv[name] = function()
      error(format("uv.%s: the loop is the executor's, and %s", name, host.loading and "runs when the script has loaded"
        or "runs already; wait for a callback with pgq.await"), 2)
    end
  end
  return uv
end

if host then
  host.wait, host.interrupt, host.ended, host.guard = WAIT, interrupt, ended, guard
  coroutine.resume, coroutine.wrap = resume_user, wrap_user -- luacheck: ignore 122
end

-- ── for handlers ──

-- A timer that goes off once; what it returns stops it.
local function start_timer(ms, fn)
  local uv = require "luv"
  local timer = uv.new_timer()
  uv.update_time()
  timer:start(ms, 0, function()
    timer:close()
    fn()
  end)
  return function()
    if not timer:is_closing() then
      timer:close()
    end
  end
end

--- Waits. Other jobs of the executor go on meanwhile; in a plain script it blocks.
-- @tparam number|string seconds, or a duration such as "1m30s"
-- @raise pgq.timeout or pgq.cancelled, when the handler is interrupted
function tasks.sleep(seconds)
  local ms, problem = durations.read(seconds)
  if not ms then
    error("sleep: the time " .. problem, 2)
  end
  tasks.check("sleep", 2)
  if tasks.mode() == "plain" then
    core.sleep(ms)
    return
  end
  tasks.wait("sleep", function(wake)
    return start_timer(ms, wake)
  end)
end

return tasks

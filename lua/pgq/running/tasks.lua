-- Tasks: the coroutines in which an executor runs handlers. When a handler waits, its task is suspended, and the
-- executor goes on with others; any code may wake it. In a plain script there are no tasks, and calls block.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

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

-- The value that a task yields when it waits. If the wait is in a coroutine of the user's own, that coroutine yields
-- the value, and so does the task around it.
local WAIT = {}

-- The coroutines that have yielded WAIT: only this file may resume them.
local waiting = setmetatable({}, { __mode = "k" })

-- Records of the tasks that have waited, or that have functions to be called at their end, by the number of the task.
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

--- Where the caller runs: "plain" is a plain script, or the script of a worker while it loads, where calls block;
-- "task" is a task, where they wait; "callback" is a callback of luv in an executor, where nothing may wait.
function tasks.mode()
  if not host or host.loading then
    return "plain"
  end
  return host.task() and "task" or "callback"
end

--- Whether the script of a worker is being loaded. Then there are no tasks yet, and calls block.
function tasks.is_loading()
  return host ~= nil and host.loading == true
end

local luv

--- Luv; in an executor the one of its loop, even if a handler has unloaded it or replaced the loaders of packages.
function tasks.luv()
  luv = luv or host and host.luv and host.luv() or require "luv"
  return luv
end

--- Whether statements may be prepared: in a worker, unless a pooler shares its sessions.
function tasks.prepares()
  return host ~= nil and host.prepare == true
end

--- The number of the current task; nil outside of tasks. Another task may have the same number after this one has
-- ended.
function tasks.id()
  if host and not host.loading then
    return host.task()
  end
end

--- In a callback of luv, raises an error about the function at `level`, where 1 is the caller of this function.
function tasks.check(what, level)
  if host and not host.loading and not host.task() then
    error(what .. ": nothing may wait in a callback of luv; let the callback resume the handler, as in pgq.await",
      level + 1)
  end
end

--- Writes a line to the worker's log; does nothing in a plain script.
-- @tparam string level debug, info, warn or error
-- @tparam string message
function tasks.log(level, message)
  if host then
    host.log(level, message)
  end
end

-- Suspends the current coroutine, which must be yieldable, until the task is resumed.
local function suspend()
  local thread = running()
  waiting[thread] = true
  yield(WAIT)
  waiting[thread] = nil
end

-- Raises pgq.timeout or pgq.cancelled if the task was interrupted.
local function check_interrupt(record)
  local raise = record.raise
  if raise then
    if not record.final then
      record.raise = nil
    end
    error(raise, 0)
  end
end

--- Raises an error if the caller cannot wait, since C code has called it.
local function check_yieldable(what)
  if not isyieldable() then
    error(what .. ": nothing can wait in a function that C code has called, such as table.sort, string.gsub or a "
      .. "metamethod", 0)
  end
end

tasks.check_yieldable = check_yieldable

--- Waits: suspends the task until wake(…) is called, and returns the arguments of wake.
-- @tparam string what name of the function that waits, for messages
-- @tparam function start called as start(wake, context). It must arrange that wake is called once: at once, or later by
-- any code. It may return a function that is called as cancel(context) when the wait is interrupted
-- @param[opt] context
-- @return the arguments of wake
-- @raise an error that start raises; pgq.timeout or pgq.cancelled when the task is interrupted
function tasks.wait(what, start, context)
  check_yieldable(what) -- first: a finalizer must not take the interrupt of the handler that it has disturbed
  local record = record_of(host.task())
  check_interrupt(record)
  local number, wait = host.task(), { results = nil, count = 0, over = false, suspended = false }
  local function wake(...)
    if wait.over then
      return false
    end
    wait.results = { ... } -- first: if memory runs out here, wake can be called again
    wait.over = true
    wait.count = select("#", ...)
    if wait.suspended and record.wait == wait then -- a hook may have ended the wait with an error
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
    if not wait.over then -- a coroutine around this one could not be suspended
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

--- Calls fn when the current task has ended, for any reason. fn must not wait.
-- @tparam function fn
-- @treturn function a function after whose call fn is not called any more
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

-- Returns the results of coroutine.resume. While the coroutine waits, its caller waits too.
local function pass(co, ok, first, ...)
  if not ok or first ~= WAIT then
    return ok, first, ...
  end
  if isyieldable() then
    suspend()
  end -- otherwise the wait in `co` raises an error that says why
  return pass(co, resume(co))
end

local function resume_user(co, ...)
  if waiting[co] then
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

-- ── called by the executor ──

-- Interrupts a task: its wait ends with the error outcome[name]. With `final`, so does every further wait.
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

-- Functions of luv that would interfere with the executor's loop.
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
  require "pgq.running.finalizers".watch(tasks)
  coroutine.resume, coroutine.wrap = resume_user, wrap_user -- luacheck: ignore 122
end

-- ── for handlers ──

-- Calls fn once, after this many milliseconds. Returns a function that stops the timer.
local function start_timer(ms, fn)
  local uv = tasks.luv()
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

--- Waits. Other jobs of the executor go on meanwhile; in a plain script the call blocks.
-- @tparam number|string seconds a number of seconds, or a duration such as "1m30s"
-- @raise pgq.timeout or pgq.cancelled when the handler is interrupted; an error for a value that is not a duration
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

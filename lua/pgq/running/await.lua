-- pgq.await turns a callback into a return value. In a task it waits; in a plain script it runs luv's loop meanwhile.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local tasks = require "pgq.running.tasks"

local create, resume, running = coroutine.create, coroutine.resume, coroutine.running
local assert, error, getmetatable, newproxy, pcall, require, select, type, unpack =
  assert, error, getmetatable, newproxy, pcall, require, select, type, unpack
local ceil, max, loaded = math.ceil, math.max, package.loaded

local await = {}

-- Returns an object that calls fn when it is collected as garbage.
local function on_collection(fn)
  local proxy = newproxy(true)
  getmetatable(proxy).__gc = fn
  return proxy
end

-- The first value of the results: LOST when resume can never be called any more, TIMED_OUT after the time limit, else
-- nil.
local LOST, TIMED_OUT = {}, {}

-- Makes the function `resume`. It calls wake once; so does its collection, if it was not called.
local function make_resume(wake)
  local called = false
  local proxy = on_collection(function()
    if not called then
      wake(LOST)
    end
  end)
  return function(...)
    if called then
      error("pgq.await: resume was called a second time; it can be called only once", 2)
    end
    called = proxy ~= nil
    return wake(nil, ...)
  end
end

-- Luv runs its callbacks on the coroutine that first required it, even after that coroutine was collected. So, unless
-- this is the main coroutine, luv is required in a coroutine of its own, which is never collected.
local luv_thread
local function open_luv()
  local current, is_main = running()
  if current and not is_main and not loaded.luv then
    luv_thread = create(require)
    assert(resume(luv_thread, "luv"))
  end
  return require "luv"
end

-- Luv crashes at the end of a plain script if a handle is still closing. So the youngest object, which is collected
-- first, lets the loop finish.
local youngest
local function finish_at_exit(uv)
  youngest = newproxy(true)
  getmetatable(youngest).__gc = function(proxy)
    if proxy == youngest then
      uv.run "nowait"
    end
  end
end

-- A timer that ends iterations of the loop. It repeats, since an iteration waits for other events even if a timer was
-- due when it began.
local function start_clock(uv, ms)
  local timer = uv.new_timer()
  timer:start(ceil(ms), 10, function() end)
  timer:unref() -- the timer alone does not keep the loop alive
  return timer
end

-- In a plain script: runs luv's loop until resume was called. After this many seconds, if given, calls the function
-- that `start` has returned, and returns TIMED_OUT.
local function await_plain(start, seconds)
  local uv = open_luv()
  local results, iterating
  uv.update_time() -- timers count from the loop's time
  local due = seconds and uv.now() + seconds * 1000
  local cancel = start(make_resume(function(...)
    results = results or { n = select("#", ...), ... }
    if iterating then
      uv.stop() -- otherwise the iteration may go on to wait for other events
    end
    return true
  end))
  uv.update_time()
  local clock = due and start_clock(uv, max(due - uv.now(), 0))
  while not results do
    iterating = true
    local more = uv.run "once"
    iterating = false
    if not results and due and uv.now() >= due then
      results = { n = 1, TIMED_OUT }
      if type(cancel) == "function" then
        pcall(cancel)
      end
    elseif not results and not more then
      results = { n = 1, LOST }
    end
  end
  if clock then
    clock:close()
  end
  uv.run "nowait" -- finishes closing what the callback has closed
  finish_at_exit(uv)
  return unpack(results, 1, results.n)
end

local function await_in_task(start)
  tasks.luv().update_time()
  return tasks.wait("await", function(wake)
    local cancel = start(make_resume(wake))
    return type(cancel) == "function" and cancel or nil
  end)
end

local function pack_results(...)
  return { n = select("#", ...), ... }
end

local function pack(fn, ...)
  return pack_results(fn(...))
end

local function check_found(results, level)
  if results[1] == LOST then
    error("pgq.await: resume can never be called any more: no callback refers to it", level + 1)
  end
end

--- Turns a callback into a return value: calls start(resume), and waits until resume(…) is called.
--
--     local err, stat = pgq.await(function(resume) uv.fs_stat(path, resume) end)
--
-- @tparam function start gets the function resume, which must be called once. It may return a function, which is called
-- when the wait is interrupted
-- @return the arguments of resume
-- @raise an error that start raises; an error when resume can never be called any more; pgq.timeout or pgq.cancelled
-- when the handler is interrupted
function await.await(start)
  if type(start) ~= "function" then
    error("await: a function is needed, not a " .. type(start), 2)
  end
  if tasks.is_loading() then
    error("await: it cannot be used while the script loads; call it in a handler", 2)
  end
  tasks.check("await", 2)
  local results = pack(tasks.mode() == "plain" and await_plain or await_in_task, start)
  check_found(results, 2)
  return unpack(results, 2, results.n)
end

--- The same in a plain script, with a time limit. Errors are about the caller's caller.
-- @tparam function start
-- @tparam number seconds the time limit
-- @treturn boolean whether resume was called in time
-- @return the arguments of resume
function await.await_within(start, seconds)
  local results = pack(await_plain, start, seconds)
  check_found(results, 3)
  if results[1] == TIMED_OUT then
    return false
  end
  return true, unpack(results, 2, results.n)
end

return await

-- pgq.await: a callback as a return value. In a task it waits; in a plain script it runs luv's loop meanwhile.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local tasks = require "pgq.running.tasks"

local create, resume, running = coroutine.create, coroutine.resume, coroutine.running
local assert, error, getmetatable, newproxy, pcall, require, select, type, unpack =
  assert, error, getmetatable, newproxy, pcall, require, select, type, unpack
local ceil, max, loaded = math.ceil, math.max, package.loaded

local await = {}

-- An object that says so when it is collected: then nobody is left who could resume.
local function watch_for_loss(fn)
  local proxy = newproxy(true)
  getmetatable(proxy).__gc = fn
  return proxy
end

-- In place of the nil that comes before what the callback gave.
local LOST, TIMED_OUT = {}, {}

-- The function that is given to the user's; `wake` may be called once.
local function make_resume(wake)
  local called = false
  local proxy = watch_for_loss(function()
    if not called then
      wake(LOST)
    end
  end)
  return function(...)
    if called then
      error("pgq.await: resume was called a second time; once is all that a handler can use", 2)
    end
    called = proxy ~= nil
    return wake(nil, ...)
  end
end

-- Luv makes its callbacks on the coroutine that was first to require it, also when that has been collected: so in
-- another than the main one it gets one of its own, which stays.
local luv_thread
local function open_luv()
  local current, is_main = running()
  if current and not is_main and not loaded.luv then
    luv_thread = create(require)
    assert(resume(luv_thread, "luv"))
  end
  return require "luv"
end

-- At the end of a plain script luv fails on a handle whose closing is not over. What is youngest is collected first.
local youngest
local function finish_at_exit(uv)
  youngest = newproxy(true)
  getmetatable(youngest).__gc = function(proxy)
    if proxy == youngest then
      uv.run "nowait"
    end
  end
end

-- A timer that only makes turns of the loop end. It repeats: what is due when a turn begins does not keep it from
-- waiting for the rest.
local function start_clock(uv, ms)
  local timer = uv.new_timer()
  timer:start(ceil(ms), 10, function() end)
  timer:unref() -- a loop that has only this has nothing
  return timer
end

-- In a plain script: runs luv's loop until the callback has come; or until so many seconds have passed, if given, and
-- then what `start` returned is called, and TIMED_OUT is the result.
local function await_plain(start, seconds)
  local uv = open_luv()
  local results, turning
  uv.update_time() -- by which timers count
  local due = seconds and uv.now() + seconds * 1000
  local cancel = start(make_resume(function(...)
    results = results or { n = select("#", ...), ... }
    if turning then
      uv.stop() -- the turn may have just begun, and would wait for others
    end
    return true
  end))
  uv.update_time()
  local clock = due and start_clock(uv, max(due - uv.now(), 0))
  while not results do
    turning = true
    local more = uv.run "once"
    turning = false
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
  uv.run "nowait" -- for what the callback has closed
  finish_at_exit(uv)
  return unpack(results, 1, results.n)
end

local function await_in_task(start)
  require "luv".update_time()
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
    error("pgq.await: nobody can call resume any more, and nobody has: its callback never fires", level + 1)
  end
end

--- Turns a callback into a return value: calls start(resume), and waits until resume(…) is called.
--
--     local err, stat = pgq.await(function(resume) uv.fs_stat(path, resume) end)
--
-- @tparam function start gets the function resume, to be called once; it may return a function that is called when the
-- wait is interrupted
-- @return what resume was given
-- @raise what start raises; an error when resume can never be called any more; pgq.timeout or pgq.cancelled, when the
-- handler is interrupted
function await.await(start)
  if type(start) ~= "function" then
    error("await: a function is needed, not a " .. type(start), 2)
  end
  if tasks.is_loading() then
    error("await: the loop runs when the script has loaded; call it in a handler", 2)
  end
  tasks.check("await", 2)
  local results = pack(tasks.mode() == "plain" and await_plain or await_in_task, start)
  check_found(results, 2)
  return unpack(results, 2, results.n)
end

--- The same in a plain script, for so many seconds at most. Errors are about the caller's caller.
-- @tparam function start
-- @tparam number seconds
-- @treturn boolean whether the callback has come in this time
-- @return what resume was given
function await.await_within(start, seconds)
  local results = pack(await_plain, start, seconds)
  check_found(results, 3)
  if results[1] == TIMED_OUT then
    return false
  end
  return true, unpack(results, 2, results.n)
end

return await

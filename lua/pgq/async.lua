-- Talking to the database: a call waits in a task, and blocks in a plain script. What is called a connection here is a
-- table with the fields _handle, of pgq.core, and _using, the name of the call that waits for it.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local core = require "pgq.core"
local tasks = require "pgq.tasks"

local assert, collectgarbage, error, pcall, require = assert, collectgarbage, error, pcall, require
local format = string.format

local async = {}

-- What a step waits for, as pgq.core says it: nothing, or one of these events on the socket.
local DONE = 0
local EVENTS = { "r", "rw" }

-- Plain scripts need no luv.
local uv
local function get_uv()
  uv = uv or require "luv"
  return uv
end

--- Calls fn in a callback after so many milliseconds. Returns the timer, to be closed.
function async.timer(ms, fn)
  local timer = get_uv().new_timer()
  uv.update_time() -- the loop's time is that of its last turn, and a handler may have kept it busy since
  timer:start(ms, 0, fn)
  return timer
end

--- The loop's time in milliseconds.
function async.now()
  return get_uv().now()
end

-- Calls wake, also when there is hardly any memory left: Lua frees none by itself when it needs some.
local function call(wake, first, second)
  if not pcall(wake, first, second) then
    collectgarbage()
    wake(first, second)
  end
end

-- Advances the statement on the handle whenever its socket is ready. Calls wake() when the statement has ended, or
-- wake(problem) when that cannot be found out. Returns a function that ends this.
local function follow(handle, wake)
  local poll, events
  local function stop()
    if poll then
      poll:close()
      poll = nil
    end
  end
  local on_event
  local function advance()
    local progress = handle:advance()
    if progress == DONE then
      return true
    end
    if EVENTS[progress] ~= events then
      events = EVENTS[progress]
      poll = poll or assert(get_uv().new_poll(handle:fd()))
      assert(poll:start(events, on_event))
    end
  end
  function on_event()
    local ok, done = pcall(advance)
    if not ok or done then
      stop()
      call(wake, not ok and done or nil)
    end
  end
  on_event()
  return stop
end

-- Waits until start's argument is called, and returns what that got. A wait that is interrupted ends with undo(), once
-- or twice, and an error.
local function wait(what, start, undo)
  local ok, first, second = pcall(tasks.wait, what, function(wake)
    start(wake)
    return undo
  end)
  if not ok then
    undo()
    error(first, 0)
  end
  return first, second
end

-- A large result brings many events, and takes memory that compiling needs as well; LuaJIT cannot do without then.
jit.off(follow, true)

--- Waits until what was sent on the connection has been answered. When the wait is interrupted, the connection is
-- closed.
function async.finish(conn, what)
  local handle = conn._handle
  if tasks.mode() ~= "task" then
    return handle:finish()
  end
  local before, stop = conn._using, nil
  conn._using = what
  local function give_up()
    if stop then
      stop()
    end
    handle:abandon()
    conn._using = nil
  end
  local problem = wait(what, function(wake) stop = follow(handle, wake) end, give_up)
  if problem then
    give_up()
    error(problem, 0)
  end
  conn._using = before
end

-- Makes Lua values of what has come; a result that does not fit into memory is not kept.
local function take(handle, method)
  local ok, value, second, third = pcall(handle[method], handle)
  if not ok then
    handle:clear()
    collectgarbage()
    error(value, 0)
  end
  return value, second, third
end

--- Sends without blocking in a task: to be called before something is sent otherwise than by the functions here.
function async.prepare(conn)
  conn._handle:nonblocking(tasks.mode() == "task")
end

--- Runs a statement.
-- @return rows, tag; or nil, message, code; or false, message when a value cannot be a parameter
function async.exec(conn, what, sql, ...)
  async.prepare(conn)
  local sent, message, code = conn._handle:send(sql, ...)
  if not sent then
    return sent, message, code
  end
  async.finish(conn, what)
  return take(conn._handle, "take_rows")
end

--- Enqueues a job with arguments that job.prepare has checked.
-- @return id; or nil, message, code
function async.enqueue(conn, queue, data, prepared)
  async.prepare(conn)
  local sent, message, code = conn._handle:send_job(data, queue, prepared.after, prepared.delay_ms, prepared.waits)
  if not sent then
    return nil, message, code
  end
  async.finish(conn, "enqueue")
  return take(conn._handle, "take_id")
end

-- Goes on connecting whenever the socket is ready, until wake() when there is a connection, or wake(message, code).
-- Returns a function that ends this.
local function follow_connecting(handle, wake)
  local poll, timer, on_event
  local function stop()
    if poll then
      poll:close()
    end
    if timer then
      timer:close()
    end
    poll, timer = nil, nil
  end
  -- With each step libpq may close the socket and open another, even of the same number: each gets a poll of its own.
  local function watch(progress)
    poll = assert(get_uv().new_poll(handle:fd()))
    assert(poll:start(progress == 2 and "w" or "r", on_event))
  end
  local function step()
    poll:close()
    poll = nil
    local progress, message, code = handle:connect_step()
    if progress and progress ~= DONE then
      watch(progress)
      return nil
    end
    return true, message, code
  end
  function on_event()
    local ok, done, message, code = pcall(step)
    if not ok then
      message, code = format("cannot connect: %s", done), "08001"
    end
    if not ok or done then
      stop()
      call(wake, message, code)
    end
  end
  local patience = handle:patience()
  if patience > 0 then
    timer = async.timer(1000 * patience, function()
      stop()
      wake(format("cannot connect: no answer within %d s", patience), "08001")
    end)
  end
  watch(2)
  return stop
end

--- Connects.
-- @return a handle of pgq.core; or nil, message, code
function async.connect(conninfo, what)
  if tasks.mode() ~= "task" then
    return core.connect(conninfo)
  end
  local handle, problem, code = core.connect_start(conninfo)
  if not handle then
    return nil, problem, code
  end
  local stop
  local function give_up()
    if stop then
      stop()
    end
    handle:close()
  end
  problem, code = wait(what, function(wake) stop = follow_connecting(handle, wake) end, give_up)
  if problem then
    handle:close()
    return nil, problem, code
  end
  return handle
end

return async

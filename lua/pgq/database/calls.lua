-- Calls on a connection: they wait in a task, and block in a plain script. A connection here is a table with the fields
-- _handle, of pgq.core; _using, the name of the call that waits for it; and those of socket_poll.lua.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local core = require "pgq.core"
local socket_poll = require "pgq.database.socket_poll"
local tasks = require "pgq.running.tasks"

local assert, collectgarbage, error, pcall = assert, collectgarbage, error, pcall
local format = string.format

local calls = {}

-- What handle:connect_step() returns: the connection is there; it waits until the socket can be written.
local DONE, WAIT_WRITE = 0, 2

-- Loaded when it is needed: plain scripts need no luv.
local uv
local function get_uv()
  uv = uv or tasks.luv()
  return uv
end

--- Calls fn in a callback after this many milliseconds. Returns the timer, which the caller must close.
function calls.timer(ms, fn)
  local timer = get_uv().new_timer()
  uv.update_time() -- the loop's time may be old, since a handler may have kept the loop busy
  timer:start(ms, 0, fn)
  return timer
end

--- Milliseconds, for comparisons. Unlike the loop's time, they go on while a handler is busy.
function calls.now()
  return get_uv().hrtime() / 1e6
end

-- Calls start(wake, context), waits until wake is called, and returns the arguments of wake. If the wait is
-- interrupted, calls undo(context), once or twice, and raises the error.
local function wait(what, start, undo, context)
  local ok, first, second = pcall(tasks.wait, what, start, context)
  if not ok then
    undo(context)
    error(first, 0)
  end
  return first, second
end

--- Closes the connection.
function calls.close(conn)
  socket_poll.close(conn)
  conn._handle:close()
end

--- Closes the connection whatever state it is in.
function calls.abandon(conn)
  socket_poll.close(conn)
  conn._handle:abandon()
  conn._using = nil
end

local abandon = calls.abandon

local function start_polling(wake, conn)
  socket_poll.start(conn, wake)
  return abandon
end

--- Waits until the statement that was sent has ended. If the wait is interrupted, the connection is closed.
function calls.finish(conn, what)
  if tasks.mode() ~= "task" then
    return conn._handle:finish()
  end
  local before = conn._using
  conn._using = what
  local problem = wait(what, start_polling, abandon, conn)
  if problem then
    abandon(conn)
    error(problem, 0)
  end
  conn._using = before
end

-- Makes Lua values of the result. If they do not fit into memory, drops the result and raises the error.
local function take(handle, method)
  local ok, value, second, third = pcall(handle[method], handle)
  if not ok then
    handle:clear()
    collectgarbage()
    error(value, 0)
  end
  return value, second, third
end

--- Makes sending block in a plain script only. Must be called before methods of the handle that send something.
function calls.set_blocking(conn)
  conn._handle:nonblocking(tasks.mode() == "task")
end

--- Must be called after a method of the handle has sent something, or has failed to send it, unless calls.finish
-- follows.
calls.check = socket_poll.check

--- Whether the loop has seen nothing from the server since the last call on this connection.
calls.is_quiet = socket_poll.is_quiet

-- How handle:send() has sent a statement.
local PREPARED, PREPARE = 2, 3

-- Sends a statement, waits, and takes the result. If the statement was only prepared so far, it is sent again. It is
-- also sent again when the server cannot use the prepared statement any more, except in a transaction, which has failed
-- then.
local function run(conn, what, send, take_method, ...)
  local handle = conn._handle
  local sent, message, code = handle[send](handle, ...)
  if not sent then
    socket_poll.check(conn)
    return sent, message, code
  end
  calls.finish(conn, what)
  if sent == PREPARE then
    local prepared
    prepared, message, code = take(handle, "take_prepared")
    if not prepared then
      return nil, message, code
    end
    return run(conn, what, send, take_method, ...)
  elseif sent == PREPARED and handle:is_stale() then
    handle:forget_prepared()
    conn._pooled.needs_reset = true
    if handle:transaction_state() == "idle" then
      return run(conn, what, send, take_method, ...)
    end
  end
  return take(handle, take_method)
end

--- Runs a statement.
-- @return rows, tag; or nil, message, code; or false, message when a value cannot be a parameter
function calls.exec(conn, what, sql, ...)
  calls.set_blocking(conn)
  return run(conn, what, "send", "take_rows", sql, ...)
end

--- Runs several statements, separated by semicolons, in one round trip.
-- @return true; or nil, message, code of the first that failed
function calls.exec_several(conn, what, sql)
  calls.set_blocking(conn)
  local rows, message, code = run(conn, what, "send_several", "take_rows", sql)
  if rows then
    return true
  end
  return rows, message, code
end

--- Enqueues a job.
-- @tparam table options what enqueue_arguments.check has returned
-- @return id; or nil, message, code
function calls.enqueue(conn, queue, data, options)
  calls.set_blocking(conn)
  return run(conn, "enqueue", "send_job", "take_id", data, queue, options.after, options.delay_ms, options.waits)
end

-- Connects step by step, whenever the descriptor is ready or the time for an address is over. At the end calls wake(),
-- or wake(message, code) after a failure. Returns a function that stops this.
local function follow_connecting(handle, wake)
  local poll, timer, step
  local function stop()
    if poll then
      poll:close()
    end
    if timer then
      timer:close()
    end
    poll, timer = nil, nil
  end
  local function advance(method)
    local ok, done, message, code = pcall(step, method)
    if not ok then
      message, code = format("cannot connect: %s", done), "08001"
    end
    if not ok or done then
      stop()
      socket_poll.wake(wake, message, code)
    end
  end
  -- In each step the descriptor may be closed and another one opened, even with the same number. So each step has its
  -- own poll handle.
  function step(method)
    stop()
    local progress, message, code = handle[method](handle)
    if not progress or progress == DONE then
      return true, message, code
    end
    poll = assert(get_uv().new_poll(handle:fd()))
    assert(poll:start(progress == WAIT_WRITE and "w" or "r", function() advance("connect_step") end))
    local left = handle:connect_left()
    if left >= 0 then
      timer = calls.timer(left, function() advance("connect_expire") end)
    end
    return false
  end
  advance("connect_step")
  return stop
end

--- Connects.
-- @return a handle of pgq.core; or nil, message, code
function calls.connect(conninfo, what)
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
  local function start(wake)
    stop = follow_connecting(handle, wake)
    return give_up
  end
  problem, code = wait(what, start, give_up)
  if problem then
    handle:close()
    return nil, problem, code
  end
  return handle
end

return calls

-- Talking to the database: a call waits in a task, and blocks in a plain script. What is called a connection here is a
-- table with the fields _handle, of pgq.core, _using, the name of the call that waits for it, and _watch, which is
-- socket_poll.lua's.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local core = require "pgq.core"
local tasks = require "pgq.running.tasks"
local watch = require "pgq.database.socket_poll"

local assert, collectgarbage, error, pcall, require = assert, collectgarbage, error, pcall, require
local format = string.format

local async = {}

-- A step of connecting that was the last.
local DONE = 0

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

--- A time in milliseconds, for comparing. Not the loop's, which stands still while a handler is busy.
function async.now()
  return get_uv().hrtime() / 1e6
end

-- Waits until start's argument is called, and returns what that got. A wait that is interrupted ends with an error and
-- with undo(context), once or twice.
local function wait(what, start, undo, context)
  local ok, first, second = pcall(tasks.wait, what, start, context)
  if not ok then
    undo(context)
    error(first, 0)
  end
  return first, second
end

--- Closes the connection.
function async.close(conn)
  watch.close(conn)
  conn._handle:close()
end

--- Closes the connection in the middle of whatever it does.
function async.abandon(conn)
  watch.close(conn)
  conn._handle:abandon()
  conn._using = nil
end

local abandon = async.abandon

local function start_watching(wake, conn)
  watch.start(conn, wake)
  return abandon
end

--- Waits until what was sent on the connection has been answered. When the wait is interrupted, the connection is
-- closed.
function async.finish(conn, what)
  if tasks.mode() ~= "task" then
    return conn._handle:finish()
  end
  local before = conn._using
  conn._using = what
  local problem = wait(what, start_watching, abandon, conn)
  if problem then
    abandon(conn)
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

--- To be called when something was sent in another way, or could not be, unless finish comes right behind.
async.check = watch.check

--- Whether nothing has come from the server since the last call, as far as the loop has looked.
async.is_quiet = watch.is_quiet

-- How a statement was sent, as pgq.core says it.
local PREPARED, PREPARING = 2, 3

-- Sends a statement, waits, and takes what came; all over again when it was only prepared, or when its prepared form is
-- of no use any more, but for the latter not in a transaction, which has failed then.
local function run(conn, what, send, take_method, ...)
  local handle = conn._handle
  local sent, message, code = handle[send](handle, ...)
  if not sent then
    watch.check(conn)
    return sent, message, code
  end
  async.finish(conn, what)
  if sent == PREPARING then
    local prepared
    prepared, message, code = take(handle, "take_prepared")
    if not prepared then
      return nil, message, code
    end
    return run(conn, what, send, take_method, ...)
  elseif sent == PREPARED and handle:is_stale() then
    handle:forget_prepared()
    conn._pooled.soiled = true
    if handle:transaction_state() == "idle" then
      return run(conn, what, send, take_method, ...)
    end
  end
  return take(handle, take_method)
end

--- Runs a statement.
-- @return rows, tag; or nil, message, code; or false, message when a value cannot be a parameter
function async.exec(conn, what, sql, ...)
  async.prepare(conn)
  return run(conn, what, "send", "take_rows", sql, ...)
end

--- Enqueues a job with arguments that job.prepare has checked.
-- @return id; or nil, message, code
function async.enqueue(conn, queue, data, prepared)
  async.prepare(conn)
  return run(conn, "enqueue", "send_job", "take_id", data, queue, prepared.after, prepared.delay_ms, prepared.waits)
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
  local function look_out(progress)
    poll = assert(get_uv().new_poll(handle:fd()))
    assert(poll:start(progress == 2 and "w" or "r", on_event))
  end
  local function step()
    poll:close()
    poll = nil
    local progress, message, code = handle:connect_step()
    if progress and progress ~= DONE then
      look_out(progress)
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
      watch.wake(wake, message, code)
    end
  end
  local patience = handle:connect_timeout()
  if patience > 0 then
    timer = async.timer(1000 * patience, function()
      stop()
      wake(format("cannot connect: no answer within %d s", patience), "08001")
    end)
  end
  look_out(2)
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

return async

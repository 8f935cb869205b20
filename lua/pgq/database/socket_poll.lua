-- The watch on the socket of a connection that tasks use: one poll handle of luv, which lives as long as the socket. It
-- reads on while nobody waits, for what comes then is news of the connection's end, or a notice.
--
-- The handle must be gone before the number of the socket can be another's: libuv would take that one out of its epoll.
-- So it is closed before the socket is, also by the collector; and where libpq itself has closed the socket within a
-- step, right after that step.
--
-- What is called a connection here has the fields _handle, of pgq.core, and _watch.

local assert, collectgarbage, getmetatable, newproxy, pcall, require =
  assert, collectgarbage, getmetatable, newproxy, pcall, require

-- What comes with a large result takes memory that compiling needs as well; LuaJIT cannot do without then.
jit.off(true, true)

local watch = {}

-- What a step says that a statement waits for, and the events for that.
local DONE, LOST = 0, 3
local EVENTS = { "r", "rw" }

--[[ A watch is a table with
       poll     the handle, nil once closed
       events   what it looks for, nil while it is stopped
       handle   that of the connection, while a call waits: else nothing here keeps the connection
       wake     whom to wake then
       guard    closes the poll when the connection is collected; kept by the connection only ]]

--- Calls wake, also when there is hardly any memory left: Lua frees none by itself when it needs some.
function watch.wake(wake, first, second)
  if not pcall(wake, first, second) then
    collectgarbage()
    wake(first, second)
  end
end

local wake_up = watch.wake

local function close(w)
  local poll = w.poll
  w.poll, w.events, w.handle, w.wake = nil, nil, nil, nil
  if poll and not poll:is_closing() then -- an executor that ends closes them all
    poll:close()
  end
end

local function listen(w, events)
  if w.events ~= events then
    w.events = nil
    assert(w.poll:start(events, w.on_event))
    w.events = events
  end
end

-- Advances the statement. Returns whether it has ended.
local function advance(w)
  local progress = w.handle:advance()
  if progress == LOST then
    close(w)
    return true
  end
  listen(w, EVENTS[progress] or "r")
  return progress == DONE
end

-- The socket is ready.
local function on_event(w, problem)
  if problem then
    w.events = nil -- luv has stopped it
  end
  if not w.handle then
    w.poll:stop()
    w.events = nil
    return
  end
  local wake = w.wake
  local ok, done = pcall(advance, w)
  if not ok or done then
    w.handle, w.wake = nil, nil
    wake_up(wake, not ok and done or nil)
  end
end

local function new(conn)
  local uv = require "luv"
  local w = { poll = assert(uv.new_poll(conn._handle:fd())), events = nil, handle = nil, wake = nil }
  w.poll:unref()
  function w.on_event(problem)
    on_event(w, problem)
  end
  local guard = newproxy(true) -- the youngest: of those that die together the collector takes it first
  getmetatable(guard).__gc = function()
    close(w)
  end
  conn._watch, conn._guard = w, guard
  return w
end

--- Wakes when the statement that was sent has ended, with nothing; or with a problem, when that cannot be found out.
function watch.start(conn, wake)
  local handle = conn._handle
  local progress = handle:flush()
  if progress == LOST then
    watch.close(conn)
    handle:advance() -- to the reason
    return wake()
  end
  local w = conn._watch
  if not w or not w.poll then
    w = new(conn)
  end
  w.handle, w.wake = handle, wake
  listen(w, EVENTS[progress])
end

--- Ends the watch: to be called before the socket is closed. Whoever waits for a statement is woken, to find that out.
function watch.close(conn)
  local w = conn._watch
  conn._watch = nil
  if w then
    local wake = w.wake
    close(w)
    if wake then
      wake_up(wake)
    end
  end
end

--- To be called after libpq has sent or read something: ends the watch when that has closed the socket.
function watch.check(conn)
  if conn._watch and conn._handle:fd() < 0 then
    watch.close(conn)
  end
end

--- Whether the server has sent nothing on a connection that nobody uses, as far as the loop has looked.
function watch.is_quiet(conn)
  local w = conn._watch
  return w ~= nil and w.events ~= nil
end

return watch

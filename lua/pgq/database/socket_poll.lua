-- The poll handle of luv on the socket of a connection that tasks use. It lives as long as the socket. It also watches
-- the socket between calls: a message that arrives then is a notice, or says that the connection ends.
--
-- The poll handle must be closed before another socket can get the same descriptor: otherwise libuv would remove that
-- socket from its epoll set. So the poll handle is closed before the socket is closed, also when the connection is
-- collected as garbage. If libpq has closed the socket within a step, the poll handle is closed right after that step.
--
-- A connection here is a table with the fields _handle, of pgq.core, and _poll.

local tasks = require "pgq.running.tasks"

local assert, collectgarbage, getmetatable, newproxy, pcall =
  assert, collectgarbage, getmetatable, newproxy, pcall

-- A large result can take so much memory that nothing is left for compiling, and then LuaJIT ends the process.
jit.off(true, true)

local socket_poll = {}

-- The results of a step after which no event is awaited, and the events to await after the other results.
local DONE, LOST = 0, 3
local EVENTS = { "r", "rw" }

--[[ conn._poll is a table with
       poll     the handle of luv; nil once it is closed
       events   the events that it waits for; nil while it is stopped
       handle   the handle of pgq.core while a call waits; otherwise nil, so that the connection can be collected
       wake     the function that wakes the task of that call
     conn._poll_guard closes the poll handle when the connection is collected; only the connection refers to it ]]

--- Calls wake, also when hardly any memory is left. LuaJIT does not collect garbage by itself when an allocation fails.
function socket_poll.wake(wake, first, second)
  if not pcall(wake, first, second) then
    collectgarbage()
    wake(first, second)
  end
end

local wake_up = socket_poll.wake

local function close(self)
  local poll = self.poll
  self.poll, self.events, self.handle, self.wake = nil, nil, nil, nil
  if poll and not poll:is_closing() then -- an executor that ends has closed all handles already
    poll:close()
  end
end

local function listen(self, events)
  if self.events ~= events then
    self.events = nil
    assert(self.poll:start(events, self.on_event))
    self.events = events
  end
end

-- Advances the statement. Returns whether it has ended.
local function advance(self)
  local progress = self.handle:advance()
  if progress == LOST then
    close(self)
    return true
  end
  listen(self, EVENTS[progress] or "r")
  return progress == DONE
end

-- Luv's callback: the socket is ready.
local function on_event(self, problem)
  if problem then
    self.events = nil -- luv has stopped the handle
  end
  if not self.handle then
    self.poll:stop()
    self.events = nil
    return
  end
  local wake = self.wake
  local ok, done = pcall(advance, self)
  if not ok or done then
    self.handle, self.wake = nil, nil
    wake_up(wake, not ok and done or nil)
  end
end

local function new(conn)
  local uv = tasks.luv()
  local self = { poll = assert(uv.new_poll(conn._handle:fd())), events = nil, handle = nil, wake = nil }
  self.poll:unref()
  function self.on_event(problem)
    on_event(self, problem)
  end
  -- Of objects that are collected together, the youngest is finalized first: this one before the connection's handle.
  local guard = newproxy(true)
  getmetatable(guard).__gc = function()
    close(self)
  end
  conn._poll, conn._poll_guard = self, guard
  return self
end

--- Calls wake() when the statement that was sent has ended, or wake(problem) after an error that is not the database's.
function socket_poll.start(conn, wake)
  local handle = conn._handle
  local progress = handle:flush()
  if progress == LOST then
    socket_poll.close(conn)
    handle:advance() -- takes the error
    return wake()
  end
  local self = conn._poll
  if not self or not self.poll then
    self = new(conn)
  end
  self.handle, self.wake = handle, wake
  listen(self, EVENTS[progress])
end

--- Closes the poll handle. Must be called before the socket is closed. A call that waits for a statement is woken, and
-- finds that the connection is gone.
function socket_poll.close(conn)
  local self = conn._poll
  conn._poll = nil
  if self then
    local wake = self.wake
    close(self)
    if wake then
      wake_up(wake)
    end
  end
end

--- Closes the poll handle if libpq has closed the socket. Must be called after libpq has sent or read something.
function socket_poll.check(conn)
  if conn._poll and conn._handle:fd() < 0 then
    socket_poll.close(conn)
  end
end

--- Whether the loop has seen nothing from the server since the last call on this connection.
function socket_poll.is_quiet(conn)
  local self = conn._poll
  return self ~= nil and self.events ~= nil
end

return socket_poll

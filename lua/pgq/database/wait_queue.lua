-- The wait queue of a connection of the user's own that several tasks share. One call or transaction at a time has the
-- connection. The other calls wait, and get the connection in the order of the calls. In a plain script there is only
-- one caller.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local tasks = require "pgq.running.tasks"

local error, pcall, remove = error, pcall, table.remove

local wait_queue = {}

--- Whether another task has the connection, so that a call of this task has to wait.
function wait_queue.must_wait(conn)
  local id = tasks.id()
  return id ~= nil and conn._owner ~= nil and conn._owner ~= id
end

-- Gives the connection to the task that has waited longest, if any.
local function release(conn)
  local waiter = conn._waiters and remove(conn._waiters, 1)
  conn._owner = waiter and waiter.id or nil
  if waiter then
    waiter.wake()
  end
end

local function leave(conn, waiter)
  local waiters = conn._waiters
  for i = 1, #waiters do
    if waiters[i] == waiter then
      remove(waiters, i)
      return
    end
  end
end

-- Waits until the task has the connection.
local function wait(conn, what, id, unguard)
  local ok, problem = pcall(tasks.wait, what, function(wake)
    local waiter = { id = id, wake = wake }
    conn._waiters = conn._waiters or {}
    conn._waiters[#conn._waiters + 1] = waiter
    return function() leave(conn, waiter) end
  end)
  if ok then
    return
  end
  unguard()
  if conn._owner == id then -- the task was given the connection, and then interrupted before it went on
    release(conn)
  end
  error(problem, 0)
end

-- A task that is never resumed does not return from its call, so the connection is released when the task ends.
local function release_at_end(conn, id)
  return tasks.at_end(function()
    if conn._owner == id then
      release(conn)
    end
  end)
end

local function finish(conn, unguard, ok, ...)
  unguard()
  release(conn)
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Calls fn(…) as soon as the task has the connection, and returns what fn returned.
-- @tparam string what the name of the call
function wait_queue.call(conn, what, fn, ...)
  local id = tasks.id()
  if not id or conn._owner == id then
    return fn(...)
  end
  local unguard = release_at_end(conn, id)
  if conn._owner then
    wait(conn, what, id, unguard)
  else
    conn._owner = id
  end
  return finish(conn, unguard, pcall(fn, ...))
end

return wait_queue

-- A connection that several tasks share: one call at a time has it, a transaction until its end, and the others wait
-- their turn, in the order in which they came. In a plain script there is nobody to wait for.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local tasks = require "pgq.running.tasks"

local error, pcall, remove = error, pcall, table.remove

local turns = {}

--- Whether another task has the connection, for which the caller, a task too, can wait.
function turns.is_elsewhere(conn)
  local id = tasks.id()
  return id ~= nil and conn._owner ~= nil and conn._owner ~= id
end

-- The next one's turn.
local function give_on(conn)
  local waiter = conn._waiters and remove(conn._waiters, 1)
  conn._owner = waiter and waiter.id or nil
  if waiter then
    waiter.wake()
  end
end

local function leave_queue(conn, waiter)
  local waiters = conn._waiters
  for i = 1, #waiters do
    if waiters[i] == waiter then
      remove(waiters, i)
      return
    end
  end
end

local function wait(conn, what, id, unguard)
  local ok, problem = pcall(tasks.wait, what, function(wake)
    local waiter = { id = id, wake = wake }
    conn._waiters = conn._waiters or {}
    conn._waiters[#conn._waiters + 1] = waiter
    return function() leave_queue(conn, waiter) end
  end)
  if ok then
    return
  end
  unguard()
  if conn._owner == id then -- its turn had come when it was interrupted
    give_on(conn)
  end
  error(problem, 0)
end

-- A task that is given up never comes back to where it has its turn: others get theirs when it ends.
local function guard(conn, id)
  return tasks.at_end(function()
    if conn._owner == id then
      give_on(conn)
    end
  end)
end

local function finish(conn, unguard, ok, ...)
  unguard()
  give_on(conn)
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Calls fn(…) when it is the task's turn to use the connection, and returns what that returned.
-- @tparam string what the name of the call
function turns.call(conn, what, fn, ...)
  local id = tasks.id()
  if not id or conn._owner == id then
    return fn(...)
  end
  local unguard = guard(conn, id)
  if conn._owner then
    wait(conn, what, id, unguard)
  else
    conn._owner = id
  end
  return finish(conn, unguard, pcall(fn, ...))
end

return turns

-- The pool: the connections of pgq.query, pgq.transaction, pgq.enqueue and pgq.enqueue_many. They are opened when they
-- are needed, and the one given back last is taken first. In a task, who finds all of them taken waits his turn; in a
-- plain script one connection is kept, and calls inside of calls open more for their time.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local async = require "pgq.database.calls"
local connection = require "pgq.database.connection"
local tasks = require "pgq.running.tasks"

local error, pcall, remove, setmetatable = error, pcall, table.remove, setmetatable
local format, max = string.format, math.max

-- Milliseconds: after how long a wait for a connection is logged, and after how long it ends; how long a connection may
-- be idle before it is closed, and how often that is looked at; and for how long it is taken for alive unseen.
local LOG_AFTER, GIVE_UP_AFTER = 5000, 30000
local IDLE_FOR, LOOK_EVERY, TRUSTED_FOR = 60000, 10000, 100

local Pool = {}
Pool.__index = Pool

--[[ What one call has of the pool is a lease: a table with
       slot   whether it counts among the connections of the pool
       long   whether it is the transaction of a job, and lasts as long as a handler: one connection is not for these,
              or handlers of which each has one, and needs another for a moment, would wait for each other
       conn   the connection, once there is one; only with a slot
       task   the number of the task whose call it is; nil in a plain script
       unguard()   takes back that the lease is dropped when the task ends
     Pool.count is the number of slots and idle connections together, Pool.long that of leases that last; Pool.held has
     the number of slots by task. ]]

local function most_long(self)
  return max(self._size() - 1, 1)
end

local function may_have_slot(self, lease)
  return not lease.long or self._long < most_long(self)
end

local function count_slot(self, lease, change)
  local task, held = lease.task, self._held
  self._long = self._long + (lease.long and change or 0)
  if task then
    local count = (held[task] or 0) + change
    held[task] = count > 0 and count or nil
  end
end

local function give_slot(self, lease)
  lease.slot = true
  count_slot(self, lease, 1)
end

local function take_slot(self, lease)
  lease.slot = false
  count_slot(self, lease, -1)
end

-- Whether the task has all connections itself: nobody else can give one back.
local function has_all(self, lease)
  return lease.task ~= nil and (self._held[lease.task] or 0) >= self._size()
end

-- ---- Waiting

-- Takes those off the front of the queue who wait no more.
local function trim(queue)
  while queue.first <= queue.last and not queue[queue.first].waits do
    queue[queue.first] = nil
    queue.first = queue.first + 1
  end
end

local function stop_waiting(self, waiter)
  if waiter.waits then
    waiter.waits = false
    waiter.timer:close()
    trim(self._queue)
    self._waiting = self._waiting - 1
    if self._waiting == 0 then
      self._logged = false
    end
  end
end

-- The one who waits longest of those who may have a slot now.
local function next_waiter(self)
  local queue = self._queue
  for i = queue.first, queue.last do
    local waiter = queue[i]
    if waiter.waits and may_have_slot(self, waiter.lease) then
      return waiter
    end
  end
end

-- Gives a slot to somebody who waits, with the connection if there is one. Returns whether there was somebody.
local function serve(self, conn)
  local waiter = next_waiter(self)
  if not waiter then
    return false
  end
  stop_waiting(self, waiter)
  give_slot(self, waiter.lease)
  waiter.lease.conn = conn
  waiter.wake(true)
  return true
end

-- Ends a lease whose connection, if it has one, is of no more use.
local function drop(self, lease)
  lease.unguard()
  if lease.conn then
    lease.conn:_break()
    lease.conn = nil
  end
  if lease.slot then
    take_slot(self, lease)
    if not serve(self, nil) then
      self._count = self._count - 1
    end
  end
end

local function describe_taken(self, lease)
  if lease.long then
    return format("all %d connections that the pool has for transactional handlers are taken", most_long(self))
  end
  return format("all %d connections of the pool are taken", self._size())
end

local function log_waiting(self, lease)
  if not self._logged then
    self._logged = true
    tasks.log("warn", format("%s, and %d calls wait for one: does a handler wait inside of %s, or is --pool too small?",
      describe_taken(self, lease), self._waiting, lease.long and "its transaction" or "pgq.transaction"))
  end
end

-- Waits until the lease has a slot. Returns whether it has got one in time.
local function wait_for_slot(self, lease, what)
  local ok, in_time = pcall(tasks.wait, what, function(wake)
    local waiter = { lease = lease, wake = wake, waits = true }
    local queue = self._queue
    queue.last = queue.last + 1
    queue[queue.last] = waiter
    self._waiting = self._waiting + 1
    waiter.timer = async.timer(LOG_AFTER, function()
      log_waiting(self, lease)
      waiter.timer:close()
      waiter.timer = async.timer(GIVE_UP_AFTER - LOG_AFTER, function()
        stop_waiting(self, waiter)
        wake(false)
      end)
    end)
    return function() stop_waiting(self, waiter) end
  end)
  if not ok then
    drop(self, lease) -- it may have been given a connection when the wait was interrupted
    error(in_time, 0)
  end
  return in_time
end

-- ---- Connections that nobody uses

-- Whether the connection still stands. The server is asked when the loop may not have looked, or has seen something.
local function stands(conn)
  return async.is_quiet(conn) and async.now() - conn._idle_since < TRUSTED_FOR or conn._handle:is_alive()
end

-- The idle connection that was used last and still stands, or nil.
local function take_idle(self)
  while true do
    local conn = remove(self._idle)
    if not conn or stands(conn) then
      return conn
    end
    async.close(conn)
    self._count = self._count - 1
  end
end

-- The oldest are at the front of the list.
local function close_oldest(self, is_due)
  local idle = self._idle
  while idle[1] and is_due(idle[1]) do
    async.close(remove(idle, 1))
    self._count = self._count - 1
  end
end

local function look(self)
  local now = async.now()
  close_oldest(self, function(conn) return now - conn._idle_since >= IDLE_FOR end)
  if not self._idle[1] then
    self._timer:close()
    self._timer = nil
  else
    self._timer:again()
  end
end

local function keep(self, conn)
  local idle = self._idle
  if tasks.mode() ~= "task" then
    close_oldest(self, function() return true end)
    conn._idle_since = 0
  else
    conn._idle_since = async.now()
    if not self._timer then
      self._timer = async.timer(LOOK_EVERY, function() look(self) end)
      self._timer:set_repeat(LOOK_EVERY)
      self._timer:unref()
    end
  end
  idle[#idle + 1] = conn
end

-- ---- Leases

-- Ends a lease whose connection the next call may have.
local function give_back(self, lease)
  local conn = lease.conn
  local handle = conn._handle
  if handle:transaction_state() ~= "idle" or handle:is_bloated() then
    return drop(self, lease)
  end
  lease.unguard()
  take_slot(self, lease)
  lease.conn = nil
  if not serve(self, conn) then
    keep(self, conn)
  end
end

local function new_lease(self, what)
  local lease = { slot = false, long = what == "job.tx", conn = nil, task = tasks.id(), unguard = function() end }
  if tasks.mode() == "task" then
    lease.unguard = tasks.at_end(function() drop(self, lease) end)
  end
  return lease
end

local function fail_taken(self, lease)
  local why = ""
  if has_all(self, lease) then
    why = ", by this handler itself; --pool says how many there are"
  elseif lease.task then
    why = format(", and none was given back within %d s", GIVE_UP_AFTER / 1000)
  end
  drop(self, lease)
  return nil, describe_taken(self, lease) .. why, "53300"
end

-- When the process is killed, the server is to notice in the middle of a statement, which would else go on, and commit,
-- beside the next attempt. Servers before Postgres 14 do not have that.
local function have_client_watched(conn)
  if tasks.prepares() then
    async.exec(conn, "connect", "SET client_connection_check_interval = '1s'")
  end
end

local function open_session(conninfo)
  local conn, message, code = connection.open(conninfo)
  if conn and tasks.prepares() then
    conn._handle:enable_preparing()
    have_client_watched(conn)
  end
  return conn, message, code
end

-- Opens the connection of a lease that has a slot.
local function open(self, lease)
  local ok, conn, message, code = pcall(open_session, self._conninfo())
  if not ok or not conn then
    drop(self, lease)
  end
  if not ok then
    error(conn, 0)
  elseif not conn then
    return nil, message, code
  end
  conn._pooled = {}
  lease.conn = conn
  return lease
end

-- Returns a lease with a connection; or nil, message, code.
local function take(self, what)
  local lease = new_lease(self, what)
  local may_have = may_have_slot(self, lease)
  lease.conn = may_have and take_idle(self) or nil -- nobody waits who may have it
  if lease.conn then
    give_slot(self, lease)
  elseif may_have and self._count < self._size() then
    self._count = self._count + 1
    give_slot(self, lease)
  elseif not lease.task or has_all(self, lease) or not wait_for_slot(self, lease, what) then
    return fail_taken(self, lease)
  end
  if lease.conn then
    return lease
  end
  return open(self, lease)
end

-- ---- Calls

-- Makes the connection as it was when it was opened. Returns whether a transaction was left open on it.
local function clean(conn, what)
  local pooled = conn._pooled
  local state = conn._handle:transaction_state()
  local left = state == "open" or state == "failed"
  if left then
    async.exec(conn, what, "ROLLBACK")
  end
  if pooled.soiled and conn._handle:transaction_state() == "idle" then
    if async.exec(conn, what, "DISCARD ALL") then
      have_client_watched(conn)
    else
      async.close(conn)
    end
    conn._handle:forget_prepared()
    pooled.soiled = false
  end
  return left
end

-- What comes after the function of a call: `ok` and what follows is what pcall gave.
local function finish(self, what, lease, ok, ...)
  local cleaned, left = pcall(clean, lease.conn, what)
  if not cleaned then
    drop(self, lease)
    error(left, 0)
  end
  give_back(self, lease)
  if not ok then
    error((...), 0)
  elseif left then
    return nil, what .. ": the statement left a transaction open, which was rolled back; use pgq.transaction", "25001"
  end
  return ...
end

--- Calls fn(conn, …) with a connection of the pool and gives it back. Returns what fn returned; or nil, message, code
-- when there is no connection, or fn left a transaction open. What fn throws goes on to the caller.
-- @tparam string what the name of the call; "job.tx" for the transaction of a job
function Pool:with(what, fn, ...)
  local lease, message, code = take(self, what)
  if not lease then
    return nil, message, code
  end
  return finish(self, what, lease, pcall(fn, lease.conn, ...))
end

-- Statements that end a transaction: there is none of the caller's.
local ENDS = { COMMIT = true, ROLLBACK = true }

local function query(conn, sql, ...)
  local rows, message, code = conn:_query(sql, ...)
  if rows and ENDS[conn._pooled.tag] then
    return nil, "query: there is no transaction to end; use pgq.transaction", "25P01"
  end
  return rows, message, code
end

--- Runs a statement.
-- @return rows; or nil, message, code; or false, message when a value cannot be a parameter
function Pool:query(sql, ...)
  return self:with("query", query, sql, ...)
end

--- Makes a pool. Both functions are called when their answer is needed.
-- @tparam function size gives the most connections that it may have
-- @tparam function conninfo gives the connection string
local function new(size, conninfo)
  return setmetatable({
    _size = size, _conninfo = conninfo, _count = 0, _long = 0, _held = {}, _idle = {}, _queue = { first = 1, last = 0 },
    _waiting = 0, _logged = false, _timer = nil,
  }, Pool)
end

return { new = new }

-- The pool: the connections of pgq.query, pgq.transaction, pgq.enqueue and pgq.enqueue_many. A connection is opened
-- when it is needed, and the connection that was returned last is used first. If all connections are busy, a call in a
-- task waits. In a plain script one connection is kept, and a call inside of another call opens one more while it
-- lasts.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local calls = require "pgq.database.calls"
local connection = require "pgq.database.connection"
local tasks = require "pgq.running.tasks"

local error, pcall, remove, setmetatable = error, pcall, table.remove, setmetatable
local format, max = string.format, math.max

-- Milliseconds after which a wait for a connection is logged, and after which the call fails.
local LOG_AFTER_MS, GIVE_UP_AFTER_MS = 5000, 30000
-- Milliseconds after which an idle connection is closed, and between two searches for these.
local CLOSE_AFTER_MS, SEARCH_EVERY_MS = 60000, 10000
-- For this many milliseconds after a call a connection is used again without asking whether the server has closed it.
local TRUST_FOR_MS = 100

local Pool = {}
Pool.__index = Pool

--[[ A loan is the use of a connection by one call: a table with
       slot   whether the loan counts as one of the connections of the pool
       long   whether it is the transaction of a job, which lasts as long as the handler. One connection is never lent
              for these: otherwise handlers that each have a connection, and need another one for a moment, would wait
              for each other
       conn   the connection, once there is one; only with a slot
       task   the number of the task that makes the call; nil in a plain script
       unguard()   keeps the end of the task from ending the loan
     Pool._count is the number of slots and idle connections together; Pool._long the number of long loans that have a
     slot; Pool._held the number of slots by task. ]]

local function max_long(self)
  return max(self._size() - 1, 1)
end

local function may_have_slot(self, loan)
  return not loan.long or self._long < max_long(self)
end

local function count_slot(self, loan, change)
  local task, held = loan.task, self._held
  self._long = self._long + (loan.long and change or 0)
  if task then
    local count = (held[task] or 0) + change
    held[task] = count > 0 and count or nil
  end
end

local function give_slot(self, loan)
  loan.slot = true
  count_slot(self, loan, 1)
end

local function take_slot(self, loan)
  loan.slot = false
  count_slot(self, loan, -1)
end

-- Whether the task has all connections itself, so that it would wait for itself.
local function has_all(self, loan)
  return loan.task ~= nil and (self._held[loan.task] or 0) >= self._size()
end

-- ---- Waiting

-- Removes the calls from the front of the wait queue that do not wait any more.
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

-- The call that has waited longest among those that may have a slot now.
local function next_waiter(self)
  local queue = self._queue
  for i = queue.first, queue.last do
    local waiter = queue[i]
    if waiter.waits and may_have_slot(self, waiter.loan) then
      return waiter
    end
  end
end

-- Gives a slot to a call that waits, and `conn`, if it is not nil. Returns false if no call waits.
local function serve_waiter(self, conn)
  local waiter = next_waiter(self)
  if not waiter then
    return false
  end
  stop_waiting(self, waiter)
  give_slot(self, waiter.loan)
  waiter.loan.conn = conn
  waiter.wake(true)
  return true
end

-- Ends a loan, and closes its connection, if it has one.
local function drop(self, loan)
  loan.unguard()
  if loan.conn then
    loan.conn:_break()
    loan.conn = nil
  end
  if loan.slot then
    take_slot(self, loan)
    if not serve_waiter(self, nil) then
      self._count = self._count - 1
    end
  end
end

local function describe_taken(self, loan)
  if loan.long then
    return format("all %d connections that the pool has for transactional handlers are taken", max_long(self))
  end
  return format("all %d connections of the pool are taken", self._size())
end

local function log_waiting(self, loan)
  if not self._logged then
    self._logged = true
    tasks.log("warn", format("%s, and %d calls wait for one: does a handler wait inside of %s, or is --pool too small?",
      describe_taken(self, loan), self._waiting, loan.long and "its transaction" or "pgq.transaction"))
  end
end

-- Waits until the loan has a slot. Returns false if it got none in time.
local function wait_for_slot(self, loan, what)
  local ok, in_time = pcall(tasks.wait, what, function(wake)
    local waiter = { loan = loan, wake = wake, waits = true }
    local queue = self._queue
    queue.last = queue.last + 1
    queue[queue.last] = waiter
    self._waiting = self._waiting + 1
    waiter.timer = calls.timer(LOG_AFTER_MS, function()
      log_waiting(self, loan)
      waiter.timer:close()
      waiter.timer = calls.timer(GIVE_UP_AFTER_MS - LOG_AFTER_MS, function()
        stop_waiting(self, waiter)
        wake(false)
      end)
    end)
    return function() stop_waiting(self, waiter) end
  end)
  if not ok then
    drop(self, loan) -- it may have got a slot at the moment of the interruption
    error(in_time, 0)
  end
  return in_time
end

-- ---- Idle connections

-- Whether the connection still works. The socket is read if the connection was idle for longer than TRUST_FOR_MS, or if
-- something has arrived on it.
local function is_alive(conn)
  return calls.is_quiet(conn) and calls.now() - conn._idle_since < TRUST_FOR_MS or conn._handle:is_alive()
end

-- Returns the idle connection that was used last and still works, or nil.
local function take_idle(self)
  while true do
    local conn = remove(self._idle)
    if not conn or is_alive(conn) then
      return conn
    end
    calls.close(conn)
    self._count = self._count - 1
  end
end

-- Closes idle connections, those first that have been idle longest, as long as is_due(conn) is true.
local function close_idle(self, is_due)
  local idle = self._idle
  while idle[1] and is_due(idle[1]) do
    calls.close(remove(idle, 1))
    self._count = self._count - 1
  end
end

local function close_unused(self)
  local now = calls.now()
  close_idle(self, function(conn) return now - conn._idle_since >= CLOSE_AFTER_MS end)
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
    close_idle(self, function() return true end)
    conn._idle_since = 0
  else
    conn._idle_since = calls.now()
    if not self._timer then
      self._timer = calls.timer(SEARCH_EVERY_MS, function() close_unused(self) end)
      self._timer:set_repeat(SEARCH_EVERY_MS)
      self._timer:unref()
    end
  end
  idle[#idle + 1] = conn
end

-- ---- Loans

-- Ends a loan, and gives its connection to the next call.
local function give_back(self, loan)
  local conn = loan.conn
  local handle = conn._handle
  if handle:transaction_state() ~= "idle" or handle:is_bloated() then
    return drop(self, loan)
  end
  loan.unguard()
  take_slot(self, loan)
  loan.conn = nil
  if not serve_waiter(self, conn) then
    keep(self, conn)
  end
end

local function new_loan(self, what)
  local loan = { slot = false, long = what == "job.tx", conn = nil, task = tasks.id(), unguard = function() end }
  if tasks.mode() == "task" then
    loan.unguard = tasks.at_end(function() drop(self, loan) end)
  end
  return loan
end

local function fail_taken(self, loan)
  local why = ""
  if has_all(self, loan) then
    why = " by this handler itself; --pool sets their number"
  elseif loan.task then
    why = format(", and none was given back within %d s", GIVE_UP_AFTER_MS / 1000)
  end
  drop(self, loan)
  return nil, describe_taken(self, loan) .. why, "53300"
end

local function open_session(conninfo)
  local conn, message, code = connection.open(conninfo, tasks.prepares())
  if conn and tasks.prepares() then
    conn._handle:enable_preparing()
  end
  return conn, message, code
end

-- Opens the connection of a loan that has a slot.
local function open(self, loan)
  local ok, conn, message, code = pcall(open_session, self._conninfo())
  if not ok or not conn then
    drop(self, loan)
  end
  if not ok then
    error(conn, 0)
  elseif not conn then
    return nil, message, code
  end
  conn._pooled = {}
  loan.conn = conn
  return loan
end

-- Returns a loan with a connection; or nil, message, code.
local function borrow(self, what)
  local loan = new_loan(self, what)
  local may_have = may_have_slot(self, loan)
  loan.conn = may_have and take_idle(self) or nil -- no call waits that may have it
  if loan.conn then
    give_slot(self, loan)
  elseif may_have and self._count < self._size() then
    self._count = self._count + 1
    give_slot(self, loan)
  elseif not loan.task or has_all(self, loan) or not wait_for_slot(self, loan, what) then
    return fail_taken(self, loan)
  end
  if loan.conn then
    return loan
  end
  return open(self, loan)
end

-- ---- Calls

-- Resets the session to its state after connecting. Returns whether the call has left a transaction open.
local function reset(conn, what)
  local pooled = conn._pooled
  local state = conn._handle:transaction_state()
  local left = state == "open" or state == "failed"
  if left then
    calls.exec(conn, what, "ROLLBACK")
  end
  if pooled.needs_reset and conn._handle:transaction_state() == "idle" then
    if calls.exec(conn, what, "DISCARD ALL") then
      conn:_make_settings(tasks.prepares())
    else
      calls.close(conn)
    end
    conn._handle:forget_prepared()
    pooled.needs_reset = false
  end
  return left
end

-- Ends a call. `ok` and the values after it are the results of pcall for its function.
local function finish(self, what, loan, ok, ...)
  local was_reset, left = pcall(reset, loan.conn, what)
  if not was_reset then
    drop(self, loan)
    error(left, 0)
  end
  give_back(self, loan)
  if not ok then
    error((...), 0)
  elseif left then
    return nil, what .. ": the statement left a transaction open, which was rolled back; use pgq.transaction", "25001"
  end
  return ...
end

--- Calls fn(conn, …) with a connection of the pool. Returns what fn returned; or nil, message, code when there is no
-- connection, or when fn has left a transaction open. Raises what fn raises.
-- @tparam string what the name of the call; "job.tx" for the transaction of a job
function Pool:with(what, fn, ...)
  local loan, message, code = borrow(self, what)
  if not loan then
    return nil, message, code
  end
  return finish(self, what, loan, pcall(fn, loan.conn, ...))
end

-- Statements that end a transaction; the caller has none.
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

--- Makes a pool. Both functions are called each time when the value is needed.
-- @tparam function size returns the maximum number of connections
-- @tparam function conninfo returns the connection string
local function new(size, conninfo)
  return setmetatable({
    _size = size, _conninfo = conninfo, _count = 0, _long = 0, _held = {}, _idle = {}, _queue = { first = 1, last = 0 },
    _waiting = 0, _logged = false, _timer = nil,
  }, Pool)
end

return { new = new }

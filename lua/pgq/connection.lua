--- Connections to the database, as pgq.connect returns them, and the transactions on them.
-- Every call blocks until the database has answered. What fails is returned as nil, message, code, where code is an
-- SQLSTATE; only wrong use raises an error: a wrong type, an unknown option, a transaction used after its end.
-- @module pgq.connection

local core = require "pgq.core"
local job = require "pgq.job"

-- A handler may change globals: what is needed later is kept here when the module is loaded.
local error, getmetatable, pcall, select, setmetatable, type =
  error, getmetatable, pcall, select, setmetatable, type
local format = string.format

local connection = {}

--- A connection to the database.
-- @type Connection
local Connection = {}
Connection.__index = Connection

--- A transaction, as the function given to conn:transaction receives it.
-- @type Transaction
local Transaction = {}
Transaction.__index = Transaction

function Connection:__tostring()
  return format("pgq connection (%s)", self._handle:describe())
end

function Transaction:__tostring()
  return format("pgq transaction (%s)", self._open and self._connection._handle:describe() or "ended")
end

-- Raises an error when the caller stands in the function that gives the jobs of enqueue_many: the connection is in use.
local function check_idle(conn, what, level)
  if conn._handle:is_busy() then
    error(what .. ": the connection is busy with enqueue_many; what gives the jobs needs another one", level + 1)
  end
end

-- Raises an error about the caller of the method unless `self` can be used.
local function check_connection(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Connection then
    error(format("call it with a colon: conn:%s(…)", method), 3)
  end
  if self._transaction then
    error(format("the connection has an open transaction: use tx:%s in its function, not conn:%s", method, method), 3)
  end
  check_idle(self, method, 3)
end

local function check_transaction(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Transaction then
    error(format("call it with a colon: tx:%s(…)", method), 3)
  end
  if not self._open then
    error("the transaction has ended: tx is of use in the function given to conn:transaction only", 3)
  end
  check_idle(self._connection, method, 3)
end

local PARAMETER_TYPES = { ["nil"] = true, boolean = true, number = true, string = true }

local function check_statement(sql, ...)
  if type(sql) ~= "string" then
    error(format("query: the statement must be a string, not a %s", type(sql)), 3)
  end
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if not PARAMETER_TYPES[type(value)] and getmetatable(value) ~= "pgq.bytea" then
      error(format("query: parameter %d is a %s; give nil, a boolean, a number, a string or pgq.bytea(string)", i,
        type(value)), 3)
    end
  end
end

--- Opens a connection. An empty string leaves everything to libpq: PG* variables, service file, defaults.
-- @tparam string conninfo connection string or URI
-- @treturn[1] Connection the connection
-- @return[2] nil
-- @treturn[2] string message; it quotes neither a password nor a string that cannot be read
-- @treturn[2] string code: 08001 when there is no connection, 22023 for a string that cannot be read
function connection.open(conninfo)
  local handle, message, code = core.connect(conninfo)
  if not handle then
    return nil, message, code
  end
  return setmetatable({ _handle = handle, _transaction = nil }, Connection)
end

--- Enqueues a job.
-- @function Connection:enqueue
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam string data bytes for the handler: any bytes, none included, up to 256 MiB
-- @tparam[opt] table options delay: seconds or a duration such as "1h30m", the job runs not before; after: Unix
-- seconds or the text of a timestamp, the same as a point in time; retry_waits: list of seconds or durations, one
-- for each retry, {} for none, by default {60, 600, 1800}
-- @treturn[1] number id of the job
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: 22023 for a value that cannot be used, 54000 for too much of something, 08003 after
-- close, 08006 when the connection broke (whether the job was enqueued is then not known), or what the database
-- said
function Connection:enqueue(queue, data, options)
  check_connection(self, "enqueue")
  local prepared, message, code = job.prepare(queue, data, options, 2)
  if not prepared then
    return nil, message, code
  end
  return self:_enqueue(queue, data, prepared)
end

--- Enqueues many jobs, all or none of them: in a transaction of its own, which it commits. They keep their order, and
-- travel in batches, so that a function can give any number of them in bounded memory (but for the list of ids).
-- @function Connection:enqueue_many
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam table|function jobs the data of the jobs: a list of strings; or a function that returns the next string,
-- and nil at the end, such as io.lines(path) or coroutine.wrap(f). It must not use the connection, nor yield
-- @tparam[opt] table options as for Connection:enqueue; they are those of all jobs
-- @treturn[1] table list of the ids, in the order of the jobs; {} when there were none
-- @return[2] nil, and nothing is enqueued
-- @treturn[2] string message, which names the job or the jobs ("jobs 1 to 8192: …") where it is about them
-- @treturn[2] string code: those of Connection:enqueue, and 08007 when the connection broke during the COMMIT: all
-- jobs may then be enqueued, or none
-- @raise what the function throws, after the rollback; an error for an element that is no string, or is missing
function Connection:enqueue_many(queue, jobs, options)
  check_connection(self, "enqueue_many")
  local prepared, message, code = job.prepare_many(queue, jobs, options, 2)
  if not prepared then
    return nil, message, code
  end
  local ids
  ids, message, code = self:_enqueue_many(queue, jobs, prepared)
  job.check_given(2, ids, message, code)
  return ids, message, code
end

--- Runs one SQL statement.
-- @function Connection:query
-- @tparam string sql the statement, with $1, $2, … for the parameters
-- @param ... parameters: nil, booleans, numbers, strings; bytes for a bytea as pgq.bytea(bytes)
-- @treturn[1] table list of rows, each a table by column name; the field `affected` is the number of rows that the
-- statement returned or changed. NULL is nil, boolean is a boolean, integers and floats are numbers (a bigint that
-- a number cannot hold exactly is its digits), bytea is its bytes, and everything else its text
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code, the SQLSTATE: 42601 for more than one statement, 0A000 for COPY, 22021 for a NUL byte
-- in a text, 08003 after close, 08006 when the connection broke, or what the database said
function Connection:query(sql, ...)
  check_connection(self, "query")
  check_statement(sql, ...)
  return self._handle:exec(sql, ...)
end

--- Closes the connection. Later calls return nil, message, "08003"; closing again does nothing.
-- @function Connection:close
function Connection:close()
  check_connection(self, "close")
  self._handle:close()
end

-- Enqueues with arguments that job.prepare has checked.
function Connection:_enqueue(queue, data, prepared)
  return self._handle:enqueue(queue, data, prepared.after, prepared.delay_ms, prepared.waits)
end

-- Enqueues with arguments that job.prepare_many has checked; the outcome is for job.check_given.
function Connection:_enqueue_many(queue, jobs, prepared)
  return self._handle:enqueue_many(queue, jobs, prepared.after, prepared.delay_ms, prepared.waits)
end

-- For pgq.enqueue and pgq.enqueue_many, which have no connection to name; `level` counts from here.
Connection._check_idle = check_idle

-- Whether the connection still stands, as far as can be told without asking the server.
function Connection:_is_alive()
  return self._handle:is_alive()
end

-- Remembers the first error that made the transaction fail, until a savepoint brings it back.
local function note(tx, value, message, code)
  local state = tx._connection._handle:transaction_state()
  if state ~= "failed" then
    tx._failure = nil
  elseif not value and not tx._failure then
    tx._failure = { message = message, code = code }
  end
  return value, message, code
end

--- Enqueues a job that workers see once the transaction commits, and never if it does not. As Connection:enqueue.
-- @function Transaction:enqueue
function Transaction:enqueue(queue, data, options)
  check_transaction(self, "enqueue")
  local prepared, message, code = job.prepare(queue, data, options, 2)
  if not prepared then
    return nil, message, code
  end
  return note(self, self._connection:_enqueue(queue, data, prepared))
end

--- Enqueues many jobs that workers see once the transaction commits. As Connection:enqueue_many, in this transaction;
-- when it fails after the check of its arguments, also by an error of the function that gives the jobs, the transaction
-- has failed, and can only be rolled back, to a savepoint at best.
-- @function Transaction:enqueue_many
function Transaction:enqueue_many(queue, jobs, options)
  check_transaction(self, "enqueue_many")
  local prepared, message, code = job.prepare_many(queue, jobs, options, 2)
  if not prepared then
    return nil, message, code
  end
  local ids
  ids, message, code = self._connection:_enqueue_many(queue, jobs, prepared)
  job.check_given(2, ids, message, code)
  return note(self, ids, message, code)
end

--- Runs one SQL statement in the transaction. As Connection:query.
-- @function Transaction:query
function Transaction:query(sql, ...)
  check_transaction(self, "query")
  check_statement(sql, ...)
  return note(self, self._connection._handle:exec(sql, ...))
end

--- Raises an error: transactions do not nest. Use SAVEPOINT and ROLLBACK TO with tx:query.
-- @function Transaction:transaction
function Transaction:transaction()
  check_transaction(self, "transaction")
  error("transactions do not nest; use SAVEPOINT and ROLLBACK TO with tx:query", 2)
end

local function begin(handle)
  local state = handle:transaction_state()
  if state == "open" or state == "failed" then
    return nil, "the connection is in a transaction already, by a BEGIN of your own", "25001"
  end
  return handle:exec("BEGIN")
end

-- Commits what the function of the transaction has done, or says why that cannot be.
local function commit(handle, failure)
  local state = handle:transaction_state()
  if state == "idle" then
    return nil, "the transaction ended before its function did, by a COMMIT or ROLLBACK of its own", "25P01"
  end
  if state == "failed" then
    handle:exec("ROLLBACK")
    failure = failure or { message = "a statement failed", code = "25P02" }
    return nil, "the transaction was rolled back, since a statement in it had failed: " .. failure.message, failure.code
  end
  return handle:exec("COMMIT")
end

local function roll_back(handle)
  local state = handle:transaction_state()
  if state == "open" or state == "failed" then
    handle:exec("ROLLBACK")
  end
end

-- What comes after the function of a transaction: `ok` and what follows is what pcall gave.
local function finish(conn, tx, ok, ...)
  local handle = conn._handle
  tx._open = false
  conn._transaction = nil
  if not ok then
    roll_back(handle)
    error((...), 0)
  end
  local first, second = ...
  if not first and second ~= nil then
    roll_back(handle)
    return ...
  end
  local committed, message, code = commit(handle, tx._failure)
  if not committed then
    return nil, message, code
  end
  return true, ...
end

--- Runs a function in a transaction: BEGIN, fn(tx), COMMIT. All that is done through tx comes about, or nothing
-- does. The transaction is rolled back when fn returns nil or false with a message behind it, when it raises an
-- error, and when an error of the database in it was passed over. The connection itself cannot be used until the
-- transaction has ended.
-- @function Connection:transaction
-- @tparam function fn gets a Transaction
-- @return[1] true, and what fn returned
-- @return[2] nil or false, message, …: what fn returned, after the rollback
-- @return[3] nil
-- @treturn[3] string message: why there was no BEGIN or no COMMIT
-- @treturn[3] string code
-- @raise what fn raised, after the rollback
function Connection:transaction(fn)
  if type(self) == "table" and getmetatable(self) == Connection and self._transaction then
    error("the connection has an open transaction, and transactions do not nest; use SAVEPOINT with tx:query", 2)
  end
  check_connection(self, "transaction")
  if type(fn) ~= "function" then
    error(format("transaction: a function is needed, not a %s", type(fn)), 2)
  end
  local began, message, code = begin(self._handle)
  if not began then
    return nil, message, code
  end
  local tx = setmetatable({ _connection = self, _open = true, _failure = nil }, Transaction)
  self._transaction = tx
  return finish(self, tx, pcall(fn, tx))
end

return connection

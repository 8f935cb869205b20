--- Connections to the database, as pgq.connect returns them, and the transactions on them.
-- In a handler a call waits until the database has answered, and other handlers go on; elsewhere it blocks. What fails
-- is returned as nil, message, code, where code is an SQLSTATE; only wrong use raises an error: a wrong type, an
-- unknown option, a transaction used after its end. Handlers that share a connection wait their turn.
-- @module pgq.database.connection

local async = require "pgq.database.calls"
local enqueue_many = require "pgq.database.enqueue_many"
local job = require "pgq.database.enqueue_arguments"
local session = require "pgq.database.session_effects"
local tasks = require "pgq.running.tasks"
local turns = require "pgq.database.wait_queue"

-- A handler may change globals: what is needed later is kept here when the module is loaded.
local error, getmetatable, pcall, setmetatable, type = error, getmetatable, pcall, setmetatable, type
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

-- Raises an error when a call uses the connection: one of another task, or enqueue_many while the function that gives
-- its jobs runs.
local function check_idle(conn, what, level)
  local using = conn._using
  if using then
    error(format("%s: the connection is busy with %s; %s another one", what, using,
      using == "enqueue_many" and "what gives the jobs, or another task, needs" or "each task needs"), level + 1)
  end
end

-- Raises an error about the caller of the method unless `self` can be used.
local function check_connection(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Connection then
    error(format("call it with a colon: conn:%s(…)", method), 3)
  end
  if method ~= "close" then -- which waits for nothing
    tasks.check(method, 3)
  end
  if turns.is_elsewhere(self) then -- the caller waits
    return
  end
  check_idle(self, method, 3)
  if self._transaction then
    error(format("the connection has an open transaction: use tx:%s in its function, not conn:%s", method, method), 3)
  end
end

local function check_transaction(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Transaction then
    error(format("call it with a colon: tx:%s(…)", method), 3)
  end
  if not self._open then
    error("the transaction has ended: tx is of use in the function given to transaction only", 3)
  end
  tasks.check(method, 3)
  check_idle(self._connection, method, 3)
end

-- Raises an error about the caller of the method unless it can be a statement.
local function check_statement(sql)
  if type(sql) ~= "string" then
    error(format("query: the statement must be a string, not a %s", type(sql)), 3)
  end
end

--- Opens a connection. An empty string leaves everything to libpq: PG* variables, service file, defaults.
-- @tparam string conninfo connection string or URI
-- @treturn[1] Connection the connection
-- @return[2] nil
-- @treturn[2] string message; it quotes neither a password nor a string that cannot be read
-- @treturn[2] string code: 08001 when there is no connection, 22023 for a string that cannot be read
function connection.open(conninfo)
  local handle, message, code = async.connect(conninfo, "connect")
  if not handle then
    return nil, message, code
  end
  return setmetatable({ _handle = handle, _transaction = nil, _using = nil }, Connection)
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
  return turns.call(self, "enqueue", self._enqueue, self, queue, data, prepared)
end

--- Enqueues many jobs, all or none of them: in a transaction of its own, which it commits. They keep their order, and
-- travel in batches, so that a function can give any number of them in bounded memory (but for the list of ids).
-- @function Connection:enqueue_many
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam table|function jobs the data of the jobs: a list of strings; or a function that returns the next string,
-- and nil at the end, such as io.lines(path) or coroutine.wrap(f). It must not use the connection
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
  ids, message, code = turns.call(self, "enqueue_many", self._enqueue_many, self, queue, jobs, prepared)
  job.check_given(2, ids, message, code)
  return ids, message, code
end

--- Runs one SQL statement.
-- @function Connection:query
-- @tparam string sql the statement, with $1, $2, … for the parameters
-- @param ... parameters: nil or pgq.null, booleans, numbers, 64-bit integers as 42LL, strings; lists of these, for
-- arrays; bytes for a bytea as pgq.bytea(bytes); other structures for a jsonb as pgq.json(value)
-- @treturn[1] table list of rows, each a table by column name; the field `affected` is the number of rows that the
-- statement returned or changed. NULL is pgq.null, boolean is a boolean, integers and floats are numbers (a bigint that
-- a number cannot hold exactly is its digits), bytea is its bytes, and everything else its text
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code, the SQLSTATE: 42601 for more than one statement, 0A000 for COPY, 22021 for a NUL byte
-- in a text, 08003 after close, 08006 when the connection broke, or what the database said
function Connection:query(sql, ...)
  check_connection(self, "query")
  check_statement(sql)
  local rows, message, code = turns.call(self, "query", self._query, self, sql, ...)
  if rows == false then
    error("query: " .. message, 2)
  end
  return rows, message, code
end

--- Closes the connection. Later calls return nil, message, "08003"; closing again does nothing.
-- @function Connection:close
function Connection:close()
  check_connection(self, "close")
  turns.call(self, "close", async.close, self)
end

-- Runs a statement; what it returns is false, message when a value cannot be a parameter. On a connection of the pool
-- it also sees what the statement leaves behind.
function Connection:_query(sql, ...)
  local rows, message, code = async.exec(self, "query", sql, ...)
  local problem, its_code
  if self._pooled then
    problem, its_code = session.note(self._pooled, sql, rows and message)
    if self._pooled.soiled then
      self._handle:forget_prepared() -- by DEALLOCATE, perhaps
    end
  end
  if problem then
    return nil, problem, its_code
  elseif rows then
    return rows -- without the tag behind them
  end
  return rows, message, code
end

-- Enqueues with arguments that job.prepare has checked.
function Connection:_enqueue(queue, data, prepared)
  return async.enqueue(self, queue, data, prepared)
end

local function end_guarded(unguard, ok, ...)
  unguard()
  if not ok then
    error((...), 0)
  end
  return ...
end

-- Calls fn(conn, …), which leaves the connection as it is to be, whatever happens in it; but when the task ends in the
-- middle, the connection is closed: a task that is given up never comes back from where it waits.
local function guarded(fn, conn, ...)
  if tasks.mode() ~= "task" then
    return fn(conn, ...)
  end
  return end_guarded(tasks.at_end(function() conn:_break() end), pcall(fn, conn, ...))
end

-- Enqueues with arguments that job.prepare_many has checked; the outcome is for job.check_given.
function Connection:_enqueue_many(queue, jobs, prepared)
  return guarded(enqueue_many, self, queue, jobs, prepared)
end

-- Closes the connection in the middle of whatever it does.
function Connection:_break()
  local tx = self._transaction
  if tx then
    tx._open = false
  end
  self._transaction = nil
  async.abandon(self)
end

-- Remembers the first error that made the transaction fail, until a savepoint undoes it.
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

--- Runs one SQL statement in the transaction. As Connection:query; one that would end the transaction, such as COMMIT,
-- is refused with the code 2D000, and the transaction is rolled back when its function ends.
-- @function Transaction:query
function Transaction:query(sql, ...)
  check_transaction(self, "query")
  check_statement(sql)
  self._refused = session.check_inside(sql) or self._refused
  if self._refused then
    return nil, self._refused, "2D000"
  end
  local rows, message, code = note(self, self._connection:_query(sql, ...))
  if rows == false then
    error("query: " .. message, 2)
  end
  return rows, message, code
end

-- Whether a statement in it has failed, and no savepoint has brought it back.
function Transaction:_has_failed()
  return self._connection._handle:transaction_state() == "failed"
end

--- Raises an error: transactions do not nest. Use SAVEPOINT and ROLLBACK TO with tx:query.
-- @function Transaction:transaction
function Transaction:transaction()
  check_transaction(self, "transaction")
  error("transactions do not nest; use SAVEPOINT and ROLLBACK TO with tx:query", 2)
end

local function run(conn, sql)
  return async.exec(conn, "transaction", sql)
end

local function begin(conn)
  local state = conn._handle:transaction_state()
  if state == "open" or state == "failed" then
    return nil, "the connection is in a transaction already, by a BEGIN of your own", "25001"
  end
  return run(conn, "BEGIN")
end

local function roll_back(conn)
  local state = conn._handle:transaction_state()
  if state == "open" or state == "failed" then
    run(conn, "ROLLBACK")
  elseif state == "busy" then
    async.abandon(conn)
  end
end

-- Commits what the function of the transaction has done, or says why that cannot be.
local function commit(conn, failure, refused)
  local state = conn._handle:transaction_state()
  if state == "idle" then
    return nil, "the transaction ended before its function did, by a COMMIT or ROLLBACK of its own", "25P01"
  end
  if state == "busy" then
    async.abandon(conn)
    return nil, "the transaction was rolled back: another task ran a statement in it when its function ended", "55000"
  end
  if state == "failed" then
    run(conn, "ROLLBACK")
    failure = failure or { message = "a statement failed", code = "25P02" }
    return nil, "the transaction was rolled back, since a statement in it had failed: " .. failure.message, failure.code
  end
  if refused then
    roll_back(conn)
    return nil, "the transaction was rolled back: " .. refused, "2D000"
  end
  return run(conn, "COMMIT")
end

-- What comes after the function of a transaction: `ok` and what follows is what pcall gave.
local function finish(conn, tx, ok, ...)
  tx._open = false
  conn._transaction = nil
  if not ok then
    roll_back(conn)
    error((...), 0)
  end
  local first, second = ...
  if not first and second ~= nil then
    roll_back(conn)
    return ...
  end
  local committed, message, code = commit(conn, tx._failure, tx._refused)
  if not committed then
    return nil, message, code
  end
  return true, ...
end

local function run_transaction(conn, fn)
  local began, message, code = begin(conn)
  if not began then
    return nil, message, code
  end
  local tx = setmetatable({ _connection = conn, _open = true, _failure = nil, _refused = nil }, Transaction)
  conn._transaction = tx
  return finish(conn, tx, pcall(fn, tx))
end

-- Runs the function of a transaction, as Connection:transaction does.
function Connection:_run(fn)
  return guarded(run_transaction, self, fn)
end

--- Runs a function in a transaction: BEGIN, fn(tx), COMMIT. All that is done through tx comes about, or nothing
-- does. The transaction is rolled back when fn returns nil or false with a message behind it, when it raises an
-- error, when an error of the database in it was passed over, and when the task ends in the middle. The connection
-- itself cannot be used until the transaction has ended.
-- @function Connection:transaction
-- @tparam function fn gets a Transaction
-- @return[1] true, and what fn returned
-- @return[2] nil or false, message, …: what fn returned, after the rollback
-- @return[3] nil
-- @treturn[3] string message: why there was no BEGIN or no COMMIT
-- @treturn[3] string code
-- @raise what fn raised, after the rollback
function Connection:transaction(fn)
  if type(self) == "table" and getmetatable(self) == Connection and self._transaction
    and not turns.is_elsewhere(self) then
    error("the connection has an open transaction, and transactions do not nest; use SAVEPOINT with tx:query", 2)
  end
  check_connection(self, "transaction")
  if type(fn) ~= "function" then
    error(format("transaction: a function is needed, not a %s", type(fn)), 2)
  end
  return turns.call(self, "transaction", self._run, self, fn)
end

-- What the functions of the module run on a connection of the pool.
connection.enqueue, connection.enqueue_many = Connection._enqueue, Connection._enqueue_many
connection.run = Connection._run

return connection

--- Connections to the database, as pgq.connect returns them, and the transactions on them.
-- In a handler a call waits until the database has answered, while other handlers go on; elsewhere it blocks. A failure
-- is returned as nil, message, code, where code is an SQLSTATE. Only misuse raises an error: a wrong type, an unknown
-- option, a transaction used after its end. When handlers share a connection, their calls wait in a queue.
-- @module pgq.database.connection

local calls = require "pgq.database.calls"
local core = require "pgq.core"
local enqueue_many = require "pgq.database.enqueue_many"
local enqueue_arguments = require "pgq.database.enqueue_arguments"
local session_effects = require "pgq.database.session_effects"
local tasks = require "pgq.running.tasks"
local wait_queue = require "pgq.database.wait_queue"

-- A handler may change globals, so this file keeps what it needs when it is loaded.
local error, getmetatable, pcall, setmetatable, type = error, getmetatable, pcall, setmetatable, type
local format = string.format

local SETTINGS = core.sql.session_settings

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

-- Raises an error while another call uses the connection: a call of another task, or enqueue_many while the function
-- that returns its jobs runs.
local function check_idle(conn, what, level)
  local using = conn._using
  if using then
    local many = using == "enqueue_many"
    local needs = many and "the function that returns the jobs, or another task, needs" or "each task needs"
    error(format("%s: the connection is busy with %s; %s another one", what, using, needs), level + 1)
  end
end

-- Raises an error about the caller of the method unless `self` can be used.
local function check_connection(self, method)
  if type(self) ~= "table" or getmetatable(self) ~= Connection then
    error(format("call it with a colon: conn:%s(…)", method), 3)
  end
  if method ~= "close" then -- close does not wait
    tasks.check(method, 3)
  end
  if wait_queue.must_wait(self) then -- it may be busy: the call waits
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
    error("the transaction has ended: use tx only in the function given to transaction", 3)
  end
  tasks.check(method, 3)
  check_idle(self._connection, method, 3)
end

-- Raises an error about the caller of the method unless `sql` is a string.
local function check_statement(sql)
  if type(sql) ~= "string" then
    error(format("query: the statement must be a string, not a %s", type(sql)), 3)
  end
end

-- Makes the settings of the session. A failure means that the session keeps those of the role, or that the connection
-- is lost, which the next call finds out.
function Connection:_make_settings(is_own)
  local pid = not is_own and self._handle:server_pid() or nil
  local made, _, code = calls.exec(self, "connect", SETTINGS, pid, true)
  if not made and code ~= "08006" then
    calls.exec(self, "connect", SETTINGS, pid, false)
  end
end

--- Opens a connection. An empty string leaves everything to libpq: PG* variables, service file, defaults.
-- @tparam string conninfo connection string or URI
-- @tparam[opt] boolean is_own whether the session is known to be the client's own, whatever pooler is in between
-- @treturn[1] Connection the connection
-- @return[2] nil
-- @treturn[2] string message, without a password, and without a connection string that cannot be read
-- @treturn[2] string code: 08001 when there is no connection, 22023 for a string that cannot be read
function connection.open(conninfo, is_own)
  local handle, message, code = calls.connect(conninfo, "connect")
  if not handle then
    return nil, message, code
  end
  local conn = setmetatable({ _handle = handle, _transaction = nil, _using = nil }, Connection)
  conn:_make_settings(is_own)
  return conn
end

--- Enqueues a job.
-- @function Connection:enqueue
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam string data bytes for the handler: any bytes, up to 256 MiB; "" is allowed
-- @tparam[opt] table options delay: seconds or a duration such as "1h30m" before which the job does not run; after: the
-- same as a point in time, in Unix seconds or as the text of a timestamp; retry_waits: list of seconds or durations,
-- one for each retry, {} for none, by default {60, 600, 1800}
-- @treturn[1] number id of the job; its digits as a string when it is beyond 2^53
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: 22023 for a value that cannot be used, 54000 for data that is too large, 08003 after close,
-- 08006 when the connection broke (then it is unknown whether the job was enqueued), or the database's SQLSTATE
function Connection:enqueue(queue, data, options)
  check_connection(self, "enqueue")
  local checked, message, code = enqueue_arguments.check(queue, data, options, 2)
  if not checked then
    return nil, message, code
  end
  return wait_queue.call(self, "enqueue", self._enqueue, self, queue, data, checked)
end

--- Enqueues many jobs, all or none of them: in a transaction of its own, which it commits. The jobs keep their order.
-- They are sent in batches, so that a function can return any number of them in bounded memory (except for the list of
-- ids).
-- @function Connection:enqueue_many
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam table|function jobs the data of the jobs: a list of strings; or a function that returns the next string,
-- and nil at the end, such as io.lines(path) or coroutine.wrap(f). The function must not use the connection
-- @tparam[opt] table options as for Connection:enqueue; they apply to all jobs
-- @treturn[1] table list of the ids, in the order of the jobs; {} when there were none
-- @return[2] nil, and nothing is enqueued
-- @treturn[2] string message; it names the job or the jobs that it is about ("jobs 1 to 8192: …")
-- @treturn[2] string code: those of Connection:enqueue; 08007 when the connection broke during the COMMIT: then it is
-- unknown whether all jobs were enqueued, or none
-- @raise what the function raises, after the rollback; an error for an element that is not a string, or is missing
function Connection:enqueue_many(queue, jobs, options)
  check_connection(self, "enqueue_many")
  local checked, message, code = enqueue_arguments.check_many(queue, jobs, options, 2)
  if not checked then
    return nil, message, code
  end
  local ids
  ids, message, code = wait_queue.call(self, "enqueue_many", self._enqueue_many, self, queue, jobs, checked)
  enqueue_arguments.raise_misuse(2, ids, message, code)
  return ids, message, code
end

--- Runs one SQL statement.
-- @function Connection:query
-- @tparam string sql the statement, with $1, $2, … for the parameters
-- @param ... parameters: nil or pgq.null, booleans, numbers, 64-bit integers such as 42LL, strings; lists of these for
-- arrays; pgq.bytea(bytes) for a bytea; pgq.json(value) for a jsonb
-- @treturn[1] table list of rows, each a table by column name. The field `affected` is the number of rows that the
-- statement returned or changed. NULL is pgq.null, boolean is a boolean, integers and floats are numbers (a bigint that
-- a number cannot hold exactly is its digits), bytea is its bytes, and any other type is its text
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code, the SQLSTATE: 42601 for more than one statement, 0A000 for COPY, 22021 for a NUL byte
-- in a text, 08003 after close, 08006 when the connection broke, or the database's
function Connection:query(sql, ...)
  check_connection(self, "query")
  check_statement(sql)
  local rows, message, code = wait_queue.call(self, "query", self._query, self, sql, ...)
  if rows == false then
    error("query: " .. message, 2)
  end
  return rows, message, code
end

--- Closes the connection. Later calls return nil, message, "08003". Closing again does nothing.
-- @function Connection:close
function Connection:close()
  check_connection(self, "close")
  wait_queue.call(self, "close", calls.close, self)
end

-- Runs a statement. Returns false, message when a value cannot be a parameter. On a connection of the pool it also
-- notes what the statement leaves behind.
function Connection:_query(sql, ...)
  local rows, message, code = calls.exec(self, "query", sql, ...)
  local problem, its_code
  if self._pooled then
    problem, its_code = session_effects.note(self._pooled, sql, rows and message)
    if self._pooled.needs_reset then
      self._handle:forget_prepared() -- the statement may have been DEALLOCATE
    end
  end
  if problem then
    return nil, problem, its_code
  elseif rows then
    return rows -- without the command tag
  end
  return rows, message, code
end

-- Enqueues a job; `checked` is what enqueue_arguments.check has returned.
function Connection:_enqueue(queue, data, checked)
  return calls.enqueue(self, queue, data, checked)
end

local function finish_guarded(unguard, ok, ...)
  unguard()
  if not ok then
    error((...), 0)
  end
  return ...
end

-- Calls fn(conn, …), which cleans up the connection itself. If the task ends during the call, the connection is closed:
-- a task that is never resumed does not return from its wait.
local function close_at_task_end(fn, conn, ...)
  if tasks.mode() ~= "task" then
    return fn(conn, ...)
  end
  return finish_guarded(tasks.at_end(function() conn:_break() end), pcall(fn, conn, ...))
end

-- Enqueues many jobs; `checked` is what enqueue_arguments.check_many has returned.
function Connection:_enqueue_many(queue, jobs, checked)
  return close_at_task_end(enqueue_many, self, queue, jobs, checked)
end

-- Closes the connection whatever state it is in.
function Connection:_break()
  local tx = self._transaction
  if tx then
    tx._open = false
  end
  self._transaction = nil
  calls.abandon(self)
end

-- Keeps the first error that made the transaction fail, until ROLLBACK TO a savepoint undoes it.
local function note(tx, value, message, code)
  local state = tx._connection._handle:transaction_state()
  if state ~= "failed" then
    tx._failure = nil
  elseif not value and not tx._failure then
    tx._failure = { message = message, code = code }
  end
  return value, message, code
end

--- Enqueues a job that workers see when the transaction commits. Otherwise as Connection:enqueue.
-- @function Transaction:enqueue
function Transaction:enqueue(queue, data, options)
  check_transaction(self, "enqueue")
  local checked, message, code = enqueue_arguments.check(queue, data, options, 2)
  if not checked then
    return nil, message, code
  end
  return note(self, self._connection:_enqueue(queue, data, checked))
end

--- Enqueues many jobs that workers see when the transaction commits. Otherwise as Connection:enqueue_many. When it
-- fails after its arguments were checked, also when the function that returns the jobs raises an error, the
-- transaction has failed: it can only be rolled back, or rolled back to a savepoint.
-- @function Transaction:enqueue_many
function Transaction:enqueue_many(queue, jobs, options)
  check_transaction(self, "enqueue_many")
  local checked, message, code = enqueue_arguments.check_many(queue, jobs, options, 2)
  if not checked then
    return nil, message, code
  end
  local ids
  ids, message, code = self._connection:_enqueue_many(queue, jobs, checked)
  enqueue_arguments.raise_misuse(2, ids, message, code)
  return note(self, ids, message, code)
end

--- Runs one SQL statement in the transaction. Otherwise as Connection:query. A statement that would end the
-- transaction, such as COMMIT, is refused with the code 2D000; then the transaction is rolled back when its function
-- returns.
-- @function Transaction:query
function Transaction:query(sql, ...)
  check_transaction(self, "query")
  check_statement(sql)
  self._refused = session_effects.check_inside(sql) or self._refused
  if self._refused then
    return nil, self._refused, "2D000"
  end
  local rows, message, code = note(self, self._connection:_query(sql, ...))
  if rows == false then
    error("query: " .. message, 2)
  end
  return rows, message, code
end

-- Whether a statement in the transaction has failed, and no ROLLBACK TO a savepoint has undone that.
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
  return calls.exec(conn, "transaction", sql)
end

local function begin(conn, statements)
  local state = conn._handle:transaction_state()
  if state == "open" or state == "failed" then
    return nil, "the connection is in a transaction already, by a BEGIN of your own", "25001"
  end
  if statements then
    return calls.exec_several(conn, "transaction", statements)
  end
  return run(conn, "BEGIN")
end

local function roll_back(conn)
  local state = conn._handle:transaction_state()
  if state == "open" or state == "failed" then
    run(conn, "ROLLBACK")
  elseif state == "busy" then
    calls.abandon(conn)
  end
end

-- Commits the transaction. Returns true; or nil, message, code when it cannot be committed.
local function commit(conn, failure, refused)
  local state = conn._handle:transaction_state()
  if state == "idle" then
    return nil, "the transaction ended before its function did, by a COMMIT or ROLLBACK of its own", "25P01"
  end
  if state == "busy" then
    calls.abandon(conn)
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

-- Ends a transaction. `ok` and the values after it are the results of pcall for its function.
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

local function run_transaction(conn, fn, statements)
  local began, message, code = begin(conn, statements)
  if not began then
    return nil, message, code
  end
  local tx = setmetatable({ _connection = conn, _open = true, _failure = nil, _refused = nil }, Transaction)
  conn._transaction = tx
  return finish(conn, tx, pcall(fn, tx))
end

-- Runs the function of a transaction, as Connection:transaction does. `statements` begin it, if given, instead of
-- BEGIN.
function Connection:_run(fn, statements)
  return close_at_task_end(run_transaction, self, fn, statements)
end

--- Runs a function in a transaction: BEGIN, fn(tx), COMMIT. The transaction is rolled back when fn returns nil or false
-- and a message, when it raises an error, when a statement in it has failed, even if fn has ignored that, and when the
-- task ends meanwhile. The connection itself cannot be used until the transaction has ended.
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
    and not wait_queue.must_wait(self) then
    error("the connection has an open transaction, and transactions do not nest; use SAVEPOINT with tx:query", 2)
  end
  check_connection(self, "transaction")
  if type(fn) ~= "function" then
    error(format("transaction: a function is needed, not a %s", type(fn)), 2)
  end
  return wait_queue.call(self, "transaction", self._run, self, fn)
end

-- For the functions of the module, which run these on a connection of the pool.
connection.enqueue, connection.enqueue_many = Connection._enqueue, Connection._enqueue_many
connection.run = Connection._run

return connection

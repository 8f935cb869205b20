--- pgq-lua: a Postgres job queue whose workers are scripted in Lua. The same module serves the scripts of workers
-- and any plain LuaJIT script that enqueues.
--
--     local pgq = require "pgq"
--     local id, message, code = pgq.enqueue("mail", "to: ann", { delay = "10m" })
--
-- Durations are numbers of seconds or texts such as "1h30m", "10m0s", "250ms". What fails is returned as nil,
-- message, code, where code is an SQLSTATE; only wrong use raises an error.
-- @module pgq

local await = require "pgq.running.await"
local core = require "pgq.core"
local connection = require "pgq.database.connection"
local job = require "pgq.database.enqueue_arguments"
local outcome = require "pgq.running.outcome"
local tasks = require "pgq.running.tasks"

-- A handler may change globals: what is needed later is kept here when the module is loaded.
local error, getenv, type = error, os.getenv, type

-- What pgq-lua, the program, provides when it runs the script; absent in a plain LuaJIT script.
local found, host = pcall(require, "pgq.host")
if not found or type(host) ~= "table" then
  host = nil
end
local handlers = require "pgq.running.handlers"(host)

local pgq = {
  --- Version of pgq-lua.
  _VERSION = core.version,
  --- NULL, in rows and as a parameter; cjson.null is the same. To be compared with ==, for it is not false.
  null = core.null,
  register_queue = handlers.register_queue,
  configure = handlers.configure,
  stop = handlers.stop,
  backoff = outcome.backoff,
  snooze = outcome.snooze,
  discard = outcome.discard,
  retry = outcome.retry,
  timeout = outcome.timeout,
  cancelled = outcome.cancelled,
  sleep = tasks.sleep,
  await = await.await,
}

local function default_conninfo()
  local url = host and host.conninfo or getenv "DATABASE_URL"
  return url or ""
end

--- Opens a connection to the database, with a time limit of 10 seconds unless the connection string or the
-- environment sets another. It stays the caller's until it is closed or collected; a worker's own connections are
-- others.
-- @tparam[opt] string conninfo connection string or URI, as for psql. By default the database of the worker that
-- runs the script; in a plain script DATABASE_URL, else what libpq finds in PG* variables and its service file
-- @treturn[1] Connection the connection: see pgq.database.connection
-- @return[2] nil
-- @treturn[2] string message, never with a password in it
-- @treturn[2] string code: 08001 when there is no connection, 22023 for a string that cannot be read
function pgq.connect(conninfo)
  tasks.check("connect", 2)
  if conninfo ~= nil and type(conninfo) ~= "string" then
    error("connect: the connection string must be a string, not a " .. type(conninfo), 2)
  end
  return connection.open(conninfo or default_conninfo())
end

local pool = require "pgq.database.pool".new(function() return host and host.pool or 5 end, default_conninfo)

if host then
  local run_transactional = require "pgq.database.transactional".run
  function host.run_transactional(...)
    return run_transactional(pool, ...)
  end
end

--- Enqueues a job over a connection of the pool. One that was lost since it was used last is replaced; when it breaks
-- during the call, whether the job was enqueued is not known, and the code is 08006.
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam string data bytes for the handler: any bytes, none included, up to 256 MiB
-- @tparam[opt] table options delay: seconds or a duration such as "1h30m", the job runs not before; after: Unix
-- seconds or the text of a timestamp, the same as a point in time; retry_waits: list of seconds or durations, one
-- for each retry, {} for none, by default {60, 600, 1800}
-- @treturn[1] number id of the job; its digits when it is beyond 2^53
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: 22023 for a value that cannot be used, 54000 for too much of something, 08001 when
-- there is no connection, 53300 when all of the pool stay taken, 08006 when it broke, or what the database said
function pgq.enqueue(queue, data, options)
  tasks.check("enqueue", 2)
  local prepared, message, code = job.prepare(queue, data, options, 2)
  if not prepared then
    return nil, message, code
  end
  local id
  id, message, code = pool:with("enqueue", connection.enqueue, queue, data, prepared)
  return id, message, code
end

--- Enqueues many jobs, all or none of them, over a connection of the pool. They keep their order, and travel in
-- batches, so that a function can give any number of them in bounded memory (but for the list of ids).
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam table|function jobs the data of the jobs: a list of strings; or a function that returns the next string,
-- and nil at the end, such as io.lines(path) or coroutine.wrap(f)
-- @tparam[opt] table options as for pgq.enqueue; they are those of all jobs
-- @treturn[1] table list of the ids, in the order of the jobs; {} when there were none
-- @return[2] nil, and nothing is enqueued
-- @treturn[2] string message, which names the job or the jobs ("jobs 1 to 8192: …") where it is about them
-- @treturn[2] string code: those of pgq.enqueue, and 08007 when the connection broke during the COMMIT: all jobs may
-- then be enqueued, or none
-- @raise what the function throws, after the rollback; an error for an element that is no string, or is missing
function pgq.enqueue_many(queue, jobs, options)
  tasks.check("enqueue_many", 2)
  local prepared, message, code = job.prepare_many(queue, jobs, options, 2)
  if not prepared then
    return nil, message, code
  end
  local ids
  ids, message, code = pool:with("enqueue_many", connection.enqueue_many, queue, jobs, prepared)
  job.check_given(2, ids, message, code)
  return ids, message, code
end

--- Runs one SQL statement on a connection of the pool, in a transaction of its own. As conn:query; besides, what the
-- statement leaves in the session (SET, temporary tables, advisory locks …) is undone before another call gets the
-- connection, LISTEN is refused, and so is what begins or ends a transaction: use pgq.transaction.
-- @tparam string sql the statement, with $1, $2, … for the parameters
-- @param ... parameters: nil or pgq.null, booleans, numbers, 64-bit integers as 42LL, strings; lists of these, for
-- arrays; bytes for a bytea as pgq.bytea(bytes); other structures for a jsonb as pgq.json(value)
-- @treturn[1] table list of rows, each a table by column name, with the field `affected`; NULL is pgq.null
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: those of conn:query; 08001 when there is no connection, 53300 when all of the pool stay
-- taken for 30 seconds, 25001 for BEGIN, 25P01 for COMMIT and ROLLBACK
function pgq.query(sql, ...)
  tasks.check("query", 2)
  if type(sql) ~= "string" then
    error("query: the statement must be a string, not a " .. type(sql), 2)
  end
  local rows, message, code = pool:query(sql, ...)
  if rows == false then
    error("query: " .. message, 2)
  end
  return rows, message, code
end

--- Runs a function in a transaction on a connection of the pool: BEGIN, fn(tx), COMMIT. As conn:transaction. Only what
-- is done through tx is part of it: pgq.query and pgq.enqueue inside of fn use another connection of the pool.
-- @tparam function fn gets a transaction, with tx:query, tx:enqueue and tx:enqueue_many
-- @return[1] true, and what fn returned
-- @return[2] nil or false, message, …: what fn returned, after the rollback
-- @return[3] nil
-- @treturn[3] string message: why there was no BEGIN or no COMMIT
-- @treturn[3] string code
-- @raise what fn raised, after the rollback
function pgq.transaction(fn)
  tasks.check("transaction", 2)
  if type(fn) ~= "function" then
    error("transaction: a function is needed, not a " .. type(fn), 2)
  end
  return pool:with("transaction", connection.run, fn)
end

--- Marks bytes as a parameter of type bytea for a query. A plain string travels as text, which cannot hold every byte.
-- @tparam string bytes any bytes
-- @return a value for pgq.query, conn:query and tx:query
function pgq.bytea(bytes)
  if type(bytes) ~= "string" then
    error("bytea: bytes must be a string, not a " .. type(bytes), 2)
  end
  return core.bytea(bytes)
end

--- Makes a parameter of type jsonb of a Lua value. Lists become arrays, all other tables objects, {} too; pgq.null and
-- nil become null.
-- @param value a table, string, number, boolean, 64-bit integer such as 42LL, pgq.null or nil
-- @return a value for pgq.query, conn:query and tx:query
-- @raise for what JSON does not have: functions, NaN, a table that contains itself, bytes that are no UTF-8 …
function pgq.json(value)
  local json, problem = core.json(value)
  if not json then
    error("json: " .. problem, 2)
  end
  return json
end

return pgq

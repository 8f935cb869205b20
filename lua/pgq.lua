--- pgq-lua: a Postgres job queue whose workers are scripted in Lua. Scripts of workers and plain LuaJIT scripts, which
-- enqueue jobs, use the same module.
--
--     local pgq = require "pgq"
--     local id, message, code = pgq.enqueue("mail", "to: ann", { delay = "10m" })
--
-- Durations are numbers of seconds or texts such as "1h30m", "10m0s", "250ms". A failure is returned as nil, message,
-- code, where code is an SQLSTATE. Only misuse raises an error.
-- @module pgq

local await = require "pgq.running.await"
local core = require "pgq.core"
local connection = require "pgq.database.connection"
local enqueue_arguments = require "pgq.database.enqueue_arguments"
local outcome = require "pgq.running.outcome"
local tasks = require "pgq.running.tasks"

-- A handler may change globals, so this file keeps what it needs when it is loaded.
local error, getenv, type = error, os.getenv, type

-- The table that the program pgq-lua provides when it runs the script. A plain LuaJIT script has none.
local found, host = pcall(require, "pgq.host")
if not found or type(host) ~= "table" then
  host = nil
end
local handlers = require "pgq.running.handlers"(host)

local pgq = {
  --- Version of pgq-lua.
  _VERSION = core.version,
  --- NULL, in rows and as a parameter. It is the same value as cjson.null. Compare with ==, since it is not false.
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

--- Opens a connection to the database, with a time limit of 10 seconds unless the connection string or the environment
-- sets another. The connection belongs to the caller until it is closed or collected as garbage.
-- @tparam[opt] string conninfo connection string or URI, as for psql. By default the database of the worker that runs
-- the script; in a plain script the variable DATABASE_URL, or else what libpq finds in PG* variables and its service
-- file
-- @treturn[1] Connection the connection: see lua/pgq/database/connection.lua
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

--- Enqueues a job on a connection of the pool. A connection that was lost since its last call is replaced.
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam string data bytes for the handler: any bytes, up to 256 MiB; "" is allowed
-- @tparam[opt] table options delay: seconds or a duration such as "1h30m" before which the job does not run; after: the
-- same as a point in time, in Unix seconds or as the text of a timestamp; retry_waits: list of seconds or durations,
-- one for each retry, {} for none, by default {60, 600, 1800}
-- @treturn[1] number id of the job; its digits as a string when it is beyond 2^53
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: 22023 for a value that cannot be used, 54000 for data that is too large, 08001 when no
-- connection can be made, 53300 when all connections of the pool stay busy for 30 seconds, 08006 when the connection
-- broke (then it is unknown whether the job was enqueued), or the database's SQLSTATE
function pgq.enqueue(queue, data, options)
  tasks.check("enqueue", 2)
  local checked, message, code = enqueue_arguments.check(queue, data, options, 2)
  if not checked then
    return nil, message, code
  end
  local id
  id, message, code = pool:with("enqueue", connection.enqueue, queue, data, checked)
  return id, message, code
end

--- Enqueues many jobs, all or none of them, on a connection of the pool. The jobs keep their order. They are sent in
-- batches, so that a function can return any number of them in bounded memory (except for the list of ids).
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam table|function jobs the data of the jobs: a list of strings; or a function that returns the next string,
-- and nil at the end, such as io.lines(path) or coroutine.wrap(f)
-- @tparam[opt] table options as for pgq.enqueue; they apply to all jobs
-- @treturn[1] table list of the ids, in the order of the jobs; {} when there were none
-- @return[2] nil, and nothing is enqueued
-- @treturn[2] string message; it names the job or the jobs that it is about ("jobs 1 to 8192: …")
-- @treturn[2] string code: those of pgq.enqueue; 08007 when the connection broke during the COMMIT: then it is unknown
-- whether all jobs were enqueued, or none
-- @raise what the function raises, after the rollback; an error for an element that is not a string, or is missing
function pgq.enqueue_many(queue, jobs, options)
  tasks.check("enqueue_many", 2)
  local checked, message, code = enqueue_arguments.check_many(queue, jobs, options, 2)
  if not checked then
    return nil, message, code
  end
  local ids
  ids, message, code = pool:with("enqueue_many", connection.enqueue_many, queue, jobs, checked)
  enqueue_arguments.raise_misuse(2, ids, message, code)
  return ids, message, code
end

--- Runs one SQL statement on a connection of the pool, in a transaction of its own. As conn:query, with two
-- differences: what the statement leaves in the session (SET, temporary tables, advisory locks …) is undone before
-- another call gets the connection; and LISTEN, and statements that begin or end a transaction, are refused (use
-- pgq.transaction).
-- @tparam string sql the statement, with $1, $2, … for the parameters
-- @param ... parameters: nil or pgq.null, booleans, numbers, 64-bit integers such as 42LL, strings; lists of these for
-- arrays; pgq.bytea(bytes) for a bytea; pgq.json(value) for a jsonb
-- @treturn[1] table list of rows, each a table by column name, with the field `affected`; NULL is pgq.null
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: those of conn:query; 08001 when no connection can be made, 53300 when all connections of the
-- pool stay busy for 30 seconds, 25001 for BEGIN, 25P01 for COMMIT and ROLLBACK
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

--- Runs a function in a transaction on a connection of the pool: BEGIN, fn(tx), COMMIT. As conn:transaction. Only calls
-- of tx are part of the transaction: pgq.query and pgq.enqueue inside of fn use another connection of the pool.
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

--- Marks bytes as a parameter of type bytea. A plain string is sent as text, which cannot contain every byte.
-- @tparam string bytes any bytes
-- @return a value for pgq.query, conn:query and tx:query
function pgq.bytea(bytes)
  if type(bytes) ~= "string" then
    error("bytea: bytes must be a string, not a " .. type(bytes), 2)
  end
  return core.bytea(bytes)
end

--- Makes a parameter of type jsonb from a Lua value. Lists become arrays; other tables, and {}, become objects;
-- pgq.null and nil become null.
-- @param value a table, string, number, boolean, 64-bit integer such as 42LL, pgq.null or nil
-- @return a value for pgq.query, conn:query and tx:query
-- @raise an error for a value that JSON cannot represent: a function, NaN, a table that contains itself, text that is
-- not UTF-8 …
function pgq.json(value)
  local json, problem = core.json(value)
  if not json then
    error("json: " .. problem, 2)
  end
  return json
end

return pgq

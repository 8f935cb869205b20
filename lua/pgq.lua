--- pgq-lua: a Postgres job queue whose workers are scripted in Lua. The same module serves the scripts of workers
-- and any plain LuaJIT script that enqueues.
--
--     local pgq = require "pgq"
--     local id, message, code = pgq.enqueue("mail", "to: ann", { delay = "10m" })
--
-- Durations are numbers of seconds or texts such as "1h30m", "10m0s", "250ms". What fails is returned as nil,
-- message, code, where code is an SQLSTATE; only wrong use raises an error.
-- @module pgq

local core = require "pgq.core"
local connection = require "pgq.connection"
local job = require "pgq.job"
local outcome = require "pgq.outcome"
local tasks = require "pgq.tasks"

-- A handler may change globals: what is needed later is kept here when the module is loaded.
local error, getenv, type = error, os.getenv, type

-- What pgq-lua, the program, provides when it runs the script; absent in a plain LuaJIT script.
local found, host = pcall(require, "pgq.host")
if not found or type(host) ~= "table" then
  host = nil
end
local handlers = require "pgq.handlers"(host)

local pgq = {
  --- Version of pgq-lua.
  _VERSION = core.version,
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
  await = tasks.await,
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
-- @treturn[1] Connection the connection: see pgq.connection
-- @return[2] nil
-- @treturn[2] string message, never with a password in it
-- @treturn[2] string code: 08001 when there is no connection, 22023 for a string that cannot be read
function pgq.connect(conninfo)
  if conninfo ~= nil and type(conninfo) ~= "string" then
    error("connect: the connection string must be a string, not a " .. type(conninfo), 2)
  end
  return connection.open(conninfo or default_conninfo())
end

-- The connection of pgq.enqueue: opened by the first call, and again by the call after it was lost.
local default

local function default_connection(method)
  if default then
    default:_check_idle(method, 3)
  end
  if default and not default:_is_alive() then
    default:close()
    default = nil
  end
  local message, code
  if not default then
    default, message, code = connection.open(default_conninfo())
  end
  return default, message, code
end

--- Enqueues a job over a connection that the module opens by itself and keeps. A connection that was lost since the
-- last call is opened anew; when it breaks during the call, whether the job was enqueued is not known, and the
-- code is 08006.
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam string data bytes for the handler: any bytes, none included, up to 256 MiB
-- @tparam[opt] table options delay: seconds or a duration such as "1h30m", the job runs not before; after: Unix
-- seconds or the text of a timestamp, the same as a point in time; retry_waits: list of seconds or durations, one
-- for each retry, {} for none, by default {60, 600, 1800}
-- @treturn[1] number id of the job
-- @return[2] nil
-- @treturn[2] string message
-- @treturn[2] string code: 22023 for a value that cannot be used, 54000 for too much of something, 08001 when
-- there is no connection, 08006 when it broke, or what the database said
function pgq.enqueue(queue, data, options)
  local prepared, message, code = job.prepare(queue, data, options, 2)
  if not prepared then
    return nil, message, code
  end
  local conn
  conn, message, code = default_connection("enqueue")
  if not conn then
    return nil, message, code
  end
  return conn:_enqueue(queue, data, prepared)
end

--- Enqueues many jobs, all or none of them, over the connection of pgq.enqueue. They keep their order, and travel in
-- batches, so that a function can give any number of them in bounded memory (but for the list of ids).
-- @tparam string queue name of the queue, UTF-8 and not empty
-- @tparam table|function jobs the data of the jobs: a list of strings; or a function that returns the next string,
-- and nil at the end, such as io.lines(path) or coroutine.wrap(f). It must call neither pgq.enqueue nor
-- pgq.enqueue_many, nor yield
-- @tparam[opt] table options as for pgq.enqueue; they are those of all jobs
-- @treturn[1] table list of the ids, in the order of the jobs; {} when there were none
-- @return[2] nil, and nothing is enqueued
-- @treturn[2] string message, which names the job or the jobs ("jobs 1 to 8192: …") where it is about them
-- @treturn[2] string code: those of pgq.enqueue, and 08007 when the connection broke during the COMMIT: all jobs may
-- then be enqueued, or none
-- @raise what the function throws, after the rollback; an error for an element that is no string, or is missing
function pgq.enqueue_many(queue, jobs, options)
  local prepared, message, code = job.prepare_many(queue, jobs, options, 2)
  if not prepared then
    return nil, message, code
  end
  local conn
  conn, message, code = default_connection("enqueue_many")
  if not conn then
    return nil, message, code
  end
  local ids
  ids, message, code = conn:_enqueue_many(queue, jobs, prepared)
  job.check_given(2, ids, message, code)
  return ids, message, code
end

--- Marks bytes as a parameter of type bytea for conn:query. A plain string travels as text, which cannot hold every
-- byte.
-- @tparam string bytes any bytes
-- @return a value for conn:query
function pgq.bytea(bytes)
  if type(bytes) ~= "string" then
    error("bytea: bytes must be a string, not a " .. type(bytes), 2)
  end
  return core.bytea(bytes)
end

return pgq

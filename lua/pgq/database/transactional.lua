-- Transactional handlers: the changes that a handler makes through job.tx are committed together with the completion of
-- its job, or not at all.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local connection = require "pgq.database.connection"
local core = require "pgq.core"
local outcome = require "pgq.running.outcome"
local tasks = require "pgq.running.tasks"

local select, tostring, unpack = select, tostring, unpack
local format = string.format

local COMPLETE, PRESERVE = core.sql.transactional_complete, core.sql.transactional_preserve

-- The schema of the table, quoted. It is read before the handler runs, since the handler may change the search path.
local SCHEMA = core.sql.transactional_schema

-- The server ends the session when its transaction has been idle for the time limit of the handler and this margin:
-- the handler may clean up for five seconds. The lease of the job lasts two seconds longer. So the next attempt does
-- not meet the locks of this one, even if the machine is gone and the server has not noticed.
local MARGIN_MS = 8000

-- Milliseconds until a job runs again whose handler could not begin.
local AGAIN_MS = 5000

-- Whether the lease is still in the row that could not be written.
local STILL = core.sql.transactional_still

local IGNORED = "the database ignores the completion of the job; is there a trigger, rule or row security on pgq_jobs? "
  .. "The transaction was rolled back"

local LOST = "the lease of the job was lost: it ran out, or the job was cancelled; the transaction was rolled back"

local function pack(...)
  return { n = select("#", ...), ... }
end

-- Completes the job in the transaction of its handler. Returns true, so that the transaction commits; or nil, message.
local function complete(tx, schema, job, token, preserve)
  if tx:_has_failed() then
    return true -- the COMMIT will fail, and report the first error
  end
  local rows, message, code = tx:query(format(preserve and PRESERVE or COMPLETE, schema), job.id, token)
  if not rows then
    return nil, message, code
  elseif rows.affected ~= 1 then
    rows = tx:query(format(STILL, schema), job.id, token)
    return nil, rows and rows[1] and IGNORED or LOST
  end
  return true
end

-- The statements that begin the transaction of a handler with this time limit. They take no snapshot, so that the
-- handler can still choose the isolation level. The role may be read-only by default, but the job is to be completed.
local function beginning(conn, limit_ms)
  local sql = "BEGIN READ WRITE"
  local ms = limit_ms + MARGIN_MS
  if limit_ms > 0 and ms < 2 ^ 31 then
    sql = format("%s; SET LOCAL idle_in_transaction_session_timeout = %d", sql, ms)
    if conn._handle:server_version() >= 170000 then
      sql = format("%s; SET LOCAL transaction_timeout = %d", sql, ms)
    end
  end
  return sql
end

-- Calls fn(tx, schema) in a transaction on the connection, as connection.run does.
local function run_in(conn, fn, limit_ms)
  if not conn._schema then -- asked before BEGIN, so that the handler can still choose the isolation level
    local rows, message, code = conn:_query(SCHEMA)
    if not rows then
      return nil, message, code
    end
    if not rows[1] then
      return nil, "there is no table pgq_jobs in the search path of this session", "42P01"
    end
    conn._schema = rows[1].name
  end
  return connection.run(conn, function(tx)
    return fn(tx, conn._schema)
  end, beginning(conn, limit_ms))
end

-- The handler has not begun: there was no connection, or no BEGIN. That is not the fault of the job.
local function try_again(message)
  tasks.log("warn", format("no transaction for a job: %s; its handler has not begun, and the job runs again in %d s",
    tostring(message), AGAIN_MS / 1000))
  return false, "snooze", "snooze", AGAIN_MS
end

--- Runs a handler in a transaction on a connection of the pool.
-- @tparam[opt=0] number limit_ms the time limit of the handler in milliseconds; 0 for none
-- @return true, "settled" after a commit; otherwise what outcome.of() returns
local function run(pool, handler, data, job, token, preserve, limit_ms)
  local ended
  local began, commits = false, false
  local result = pack(outcome.of(function()
    local committed, message, code = pool:with("job.tx", run_in, function(tx, schema)
      job.tx, began = tx, true
      ended = pack(outcome.of(handler, data, job))
      if not ended[1] then
        return nil, "rolled back"
      end
      local completed, problem, its_code = complete(tx, schema, job, token, preserve)
      commits = completed and not tx:_has_failed()
      return completed, problem, its_code
    end, limit_ms or 0)
    if not committed and commits and code == "08006" then
      return nil, "whether the transaction was committed is not known: " .. message
    end
    return committed, message
  end))
  if not began and result[3] ~= "cancelled" then
    return try_again(result[2])
  elseif ended and not ended[1] then
    return unpack(ended, 1, ended.n)
  elseif result[1] then
    return true, "settled"
  end
  return unpack(result, 1, result.n)
end

return { run = run }

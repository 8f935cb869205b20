-- Transactional handlers: the changes that a handler makes through job.tx are committed together with the completion of
-- its job, or not at all.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local connection = require "pgq.database.connection"
local core = require "pgq.core"
local outcome = require "pgq.running.outcome"

local select, unpack = select, unpack
local format = string.format

local COMPLETE, PRESERVE = core.sql.transactional_complete, core.sql.transactional_preserve

-- The schema of the table, quoted. It is read before the handler runs, since the handler may change the search path.
local SCHEMA = core.sql.transactional_schema

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
    return nil, LOST
  end
  return true
end

-- Calls fn(tx, schema) in a transaction on the connection, as connection.run does.
local function run_in(conn, fn)
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
  end)
end

--- Runs a handler in a transaction on a connection of the pool.
-- @return true, "settled" after a commit; otherwise what outcome.of() returns
local function run(pool, handler, data, job, token, preserve)
  local ended
  local commits = false
  local result = pack(outcome.of(function()
    local committed, message, code = pool:with("job.tx", run_in, function(tx, schema)
      job.tx = tx
      ended = pack(outcome.of(handler, data, job))
      if not ended[1] then
        return nil, "rolled back"
      end
      local completed, problem, its_code = complete(tx, schema, job, token, preserve)
      commits = completed and not tx:_has_failed()
      return completed, problem, its_code
    end)
    if not committed and commits and code == "08006" then
      return nil, "whether the transaction was committed is not known: " .. message
    end
    return committed, message
  end))
  if ended and not ended[1] then
    return unpack(ended, 1, ended.n)
  elseif result[1] then
    return true, "settled"
  end
  return unpack(result, 1, result.n)
end

return { run = run }

-- Transactional handlers: what a handler does through job.tx and the completion of its job come about together, or not
-- at all.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local connection = require "pgq.connection"
local outcome = require "pgq.outcome"

local unpack = unpack
local select = select

-- The job is this handler's as long as its row has the token: a worker that lost it finds no row, and its transaction
-- is rolled back.
local DELETE = "DELETE FROM pgq_jobs WHERE id = $1 AND lease = $2"
local PRESERVE = [[UPDATE pgq_jobs SET ran_at = statement_timestamp(), error = NULL, lease = NULL
  WHERE id = $1 AND lease = $2]]

local LOST = "the lease of the job was lost: it ran out, or the job was cancelled; the transaction was rolled back"

local function pack(...)
  return { n = select("#", ...), ... }
end

-- Completes the job in the transaction of its handler; what it returns commits it, or not.
local function complete(tx, job, token, preserve)
  if not tx:_is_open() then
    return true -- the handler has ended it by itself: that it cannot be committed is told then
  end
  local rows, message, code = tx:query(preserve and PRESERVE or DELETE, job.id, token)
  if not rows then
    return nil, message, code
  elseif rows.affected ~= 1 then
    return nil, LOST
  end
  return true
end

--- Runs a handler in a transaction on a connection of the pool.
-- @return what outcome.of() does; after a commit true, "settled"
local function run(pool, handler, data, job, token, preserve)
  local ended
  local result = pack(outcome.of(function()
    local committed, message, code = pool:with("transaction", connection.run, function(tx)
      job.tx = tx
      ended = pack(outcome.of(handler, data, job))
      if not ended[1] then
        return nil, "rolled back"
      end
      return complete(tx, job, token, preserve)
    end)
    if not committed and code == "08006" then
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

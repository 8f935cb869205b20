-- Moves money exactly once: the statements through job.tx and the completion of the job are one transaction.
-- Tables:   psql "$(pgq-lua dev conninfo)" -f examples/tables.sql
-- Run:      pgq-lua --dev examples/transfer.lua
-- Enqueue:  pgq-lua --dev enqueue transfer 'ann ben 250'
-- Look:     psql "$(pgq-lua dev conninfo)" -c 'SELECT * FROM accounts ORDER BY name'
local pgq = require "pgq"

local CHECK_VIOLATION = "23514"

pgq.register_queue("transfer", function(data, job)
  local from, to, cents = data:match "^(%S+) (%S+) (%d+)$"
  if not from or from == to then
    return pgq.discard "the data is not two accounts and a number of cents"
  end
  -- Locks the accounts in the order of their names, so that two transfers never wait for each other.
  local rows = assert(job.tx:query("SELECT FROM accounts WHERE name IN ($1, $2) ORDER BY name FOR UPDATE", from, to))
  if #rows < 2 then
    return pgq.discard(("%s or %s has no account"):format(from, to))
  end
  assert(job.tx:query("UPDATE accounts SET cents = cents + $1 WHERE name = $2", cents, to))
  local taken, problem, code = job.tx:query("UPDATE accounts SET cents = cents - $1 WHERE name = $2", cents, from)
  if code == CHECK_VIOLATION then
    return pgq.discard(from .. " has not enough money") -- this also rolls back the first UPDATE
  elseif not taken then
    return nil, problem
  end
end, { transactional = true })

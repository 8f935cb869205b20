-- A transaction adds a user and enqueues the welcome mail: either both happen, or neither.
-- Tables:   psql "$(pgq-lua dev conninfo)" -f examples/tables.sql
-- Run:      pgq-lua --dev examples/welcome.lua
-- Enqueue:  pgq-lua --dev enqueue signup 'eve@example.com Eve'
local pgq = require "pgq"

pgq.register_queue("signup", function(data)
  local email, name = data:match "^(%S+@%S+) (.+)$"
  if not email then
    return pgq.discard "the data is not an address, a space, and a name"
  end
  -- pgq.transaction returns true after the COMMIT, or nil and a message after a ROLLBACK, as a handler should.
  return pgq.transaction(function(tx)
    -- A job may run more than once: a user who exists already gets no second mail.
    local added = assert(tx:query("INSERT INTO users VALUES ($1, $2) ON CONFLICT DO NOTHING", email, name))
    if added.affected == 1 then
      assert(tx:enqueue("welcome", data))
    end
  end)
end)

-- Workers see the jobs of a transaction when it commits.
pgq.register_queue("welcome", function(data)
  local email, name = data:match "^(%S+) (.+)$"
  print(("to %s: welcome, %s!"):format(email, name))
end)

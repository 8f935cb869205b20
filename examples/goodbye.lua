-- A query through a closure: the handler is made by a function, which hands it what it needs.
-- Tables:   psql "$(pgq-lua dev conninfo)" -f examples/tables.sql
-- Run:      pgq-lua --dev examples/goodbye.lua
-- Enqueue:  pgq-lua --dev enqueue goodbye ann@example.com
local pgq = require "pgq"

-- Returns a handler that knows users by find_name: a database here, a table in a test.
local function make_goodbye(find_name)
  return function(email)
    local name, problem = find_name(email)
    if problem then
      return nil, problem
    elseif not name then
      return pgq.discard("there is no user " .. email) -- the next attempt would find none either
    end
    print(("goodbye, %s!"):format(name))
  end
end

-- While the handler waits for the answer, other jobs of the executor go on.
local function query_name(email)
  local rows, problem = pgq.query("SELECT name FROM users WHERE email = $1", email)
  if not rows then
    return nil, problem
  end
  return rows[1] and rows[1].name
end

pgq.register_queue("goodbye", make_goodbye(query_name))

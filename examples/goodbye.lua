-- A handler that is a closure: a function makes the handler, and gives it the function that looks up users.
-- Tables:   psql "$(pgq-lua dev conninfo)" -f examples/tables.sql
-- Run:      pgq-lua --dev examples/goodbye.lua
-- Enqueue:  pgq-lua --dev enqueue goodbye ann@example.com
local pgq = require "pgq"

-- Returns a handler that looks up users with find_name: in a database here, in a Lua table in a test.
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

-- While the handler waits for the answer, the executor runs other jobs.
local function query_name(email)
  local rows, problem = pgq.query("SELECT name FROM users WHERE email = $1", email)
  if not rows then
    return nil, problem
  end
  return rows[1] and rows[1].name
end

pgq.register_queue("goodbye", make_goodbye(query_name))

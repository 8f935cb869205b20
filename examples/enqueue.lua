-- Enqueues greetings for hello.lua, from any program in Lua.
-- Run:      DATABASE_URL="$(pgq-lua dev conninfo)" luajit examples/enqueue.lua Ann
local pgq = require "pgq"

local name = arg[1] or "Lua"

-- The short way: over a connection that pgq opens by itself and keeps.
local id, message, code = pgq.enqueue("hello", name)
if not id then
  io.stderr:write(("cannot enqueue: %s (%s)\n"):format(message, code))
  os.exit(1)
end
print("enqueued job " .. id)

-- Options: not before half a minute has gone by, and two retries.
id = assert(pgq.enqueue("hello", name .. ", later", { delay = "30s", retry_waits = { 5, "1m" } }))
print("enqueued job " .. id .. ", due in 30 seconds")

-- A connection of one's own, for jobs that belong to other changes: both commit, or neither.
local conn = assert(pgq.connect())
assert(conn:transaction(function(tx)
  local row = assert(tx:query("SELECT upper($1) AS name", name))[1]
  id = assert(tx:enqueue("hello", row.name))
end))
print("enqueued job " .. id .. " in a transaction")
conn:close()

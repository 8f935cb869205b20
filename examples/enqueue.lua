-- Enqueues greetings for hello.lua, from a plain Lua script.
-- Run:      DATABASE_URL="$(pgq-lua dev conninfo)" luajit examples/enqueue.lua Ann
local pgq = require "pgq"

local name = arg[1] or "Lua"

-- The short way: pgq opens a connection when it is first needed, and keeps it.
local id, message, code = pgq.enqueue("hello", name)
if not id then
  io.stderr:write(("cannot enqueue: %s (%s)\n"):format(message, code))
  os.exit(1)
end
print("enqueued job " .. id)

-- With options: the job does not run before 30 seconds have passed, and has two retries.
id = assert(pgq.enqueue("hello", name .. ", later", { delay = "30s", retry_waits = { 5, "1m" } }))
print("enqueued job " .. id .. ", due in 30 seconds")

-- A connection of your own, for jobs that belong to other changes: both commit, or neither.
local conn = assert(pgq.connect())
assert(conn:transaction(function(tx)
  local row = assert(tx:query("SELECT upper($1) AS name", name))[1]
  id = assert(tx:enqueue("hello", row.name))
end))
print("enqueued job " .. id .. " in a transaction")
conn:close()

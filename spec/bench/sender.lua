-- Enqueues jobs one by one, with pauses between them. Arguments: connection string, number of jobs, seed, the
-- statement, which has the time of sending (ns) as its parameter. Prints how long each took to commit, in ns.
--
-- Before each job it waits for 60 ms and a random time of 40 ms on average, so that an idle worker has gone to sleep.

local pgq = require "pgq"
local uv = require "luv"
local new_random = require "spec.chaos.random"

local conninfo, count, seed, sql = ...
local random = new_random(tonumber(seed))
local conn = assert(pgq.connect(conninfo))
for _ = 1, tonumber(count) do
  uv.sleep(math.floor(60 - 40 * math.log(1 - random())))
  local began = uv.hrtime()
  assert(conn:query(sql, ("%.0f"):format(began)))
  print(("%.0f"):format(uv.hrtime() - began))
end
conn:close()

-- Runs pgbench, which comes with Postgres; its clients need very little CPU time.

local uv = require "luv"
local process = require "spec.support.process"
local folders = require "spec.bench.folders"
local machine = require "spec.bench.machine"

local pgbench = {}

local function write_script(sql)
  local folder = folders.new()
  local path = folder .. "/script.sql"
  local file = assert(io.open(path, "w"))
  file:write(sql)
  file:close()
  return path, folder
end

-- pgbench.run(db, { sql =, clients =, seconds = or transactions = of each client, env =, mode = }): returns
-- transactions, transactions per second from when all were connected, and the seconds that it took in all. The mode is
-- that of -M, "prepared" unless it is said.
function pgbench.run(db, options)
  local path, folder = write_script(options.sql)
  local words = { "pgbench", "-n", "-M", options.mode or "prepared", "-f", path, "-c", options.clients,
    "-j", math.min(options.clients, machine.cores()), "-d", db.conninfo, timeout = 1800, env = options.env }
  words[#words + 1] = options.seconds and "-T" or "-t"
  words[#words + 1] = options.seconds or options.transactions
  local began = uv.hrtime()
  local out = process.check(words)
  local took = (uv.hrtime() - began) / 1e9
  folders.remove(folder)
  assert(not out:find "number of failed transactions: [1-9]", out)
  local rate
  for tps in out:gmatch "tps = ([%d.]+)" do
    rate = tonumber(tps)
  end
  return tonumber(out:match "actually processed: (%d+)"), rate, took
end

return pgbench

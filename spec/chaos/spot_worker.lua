-- The script of the workers of spec/chaos/run --spot. Arguments: this worker's name, the connection string of the
-- audit, how many jobs of the queue "sleep" an executor may have in flight.

local pgq = require "pgq"
local uv = require "luv"
local new_record = require "spec.chaos.record"

local worker, audit_conninfo, concurrency = ...
local pid = uv.os_getpid()
local record = new_record(worker, audit_conninfo)

local function spin(seconds)
  local until_ns = uv.hrtime() + seconds * 1e9
  local x = 0
  while uv.hrtime() < until_ns do
    x = x + 1
  end
  return x
end

-- How a handler goes on after it has killed its worker or its executor: as the other handlers of its queue do.
local function linger(job)
  if job.queue == "sleep" then
    pgq.sleep(10)
  elseif job.tx then
    job.tx:query "SELECT pg_sleep(10)"
  else
    spin(10)
  end
end

local acts = {
  quick = function() end,
  sleep = function(seconds) pgq.sleep(seconds) end,
  spin = spin,
  tx = function(_, job) assert(job.tx:query("INSERT INTO chaos_effects VALUES ($1)", job.id)) end,
  kill = function(_, job)
    uv.kill(pid, "sigkill")
    linger(job)
  end,
  slay = function(_, job)
    uv.kill(uv.os_getppid(), "sigkill")
    linger(job)
  end,
}

local function run(data, job)
  record(job)
  local act, number = data:match "^(%a+) (.+)$"
  acts[act](tonumber(number), job)
end

pgq.register_queue("sleep", run, { concurrency = tonumber(concurrency) })
pgq.register_queue("tx", run, { transactional = true })
pgq.register_queue("spin", run)
pgq.register_queue("quick", run)

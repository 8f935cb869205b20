-- The script of the workers of a chaos run. Arguments: this worker's name, the connection string of the audit.

local pgq = require "pgq"
local uv = require "luv"
local plan = require "spec.chaos.plan"
local new_record = require "spec.chaos.record"

local worker, audit_conninfo = ...
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

local acts = {
  quick = function() end,
  sleep = function(seconds) uv.sleep(math.ceil(seconds * 1000)) end,
  spin = function(seconds) spin(seconds) end,
  doom = function() error("doomed") end,
  fail = function(last, job)
    if job.attempt <= last then
      error(("failed as planned, attempt %d of %d"):format(job.attempt, last))
    end
  end,
  exit = function(last, job)
    if job.attempt <= last then
      os.exit(3)
    end
  end,
  kill = function(last, job)
    if job.attempt <= last then
      uv.kill(pid, "sigkill")
      uv.sleep(1000)
    end
  end,
}

local function run(data, job)
  record(job)
  local act, number = data:match "^(%a+) (.+)$"
  acts[act](tonumber(number), job)
end

for _, queue in ipairs(plan.queues) do
  pgq.register_queue(queue, run)
end

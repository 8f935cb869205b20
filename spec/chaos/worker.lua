-- The script of the workers of a chaos run. Arguments: this worker's name, the connection string of the audit.

local pgq = require "pgq"
local uv = require "luv"
local plan = require "spec.chaos.plan"

local worker, audit_conninfo = ...
local pid = uv.os_getpid()
local runs = 0
local audit

-- Writes the row of this run, and tries again when the server goes away. All handlers share the connection.
local function record(job)
  runs = runs + 1
  local run = runs
  while true do
    audit = audit or pgq.connect(audit_conninfo)
    local conn = audit
    if conn then
      local done, message, code = conn:query("INSERT INTO chaos_runs (worker, pid, run, job, attempt) VALUES "
        .. "($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", worker, pid, run, job.id, job.attempt)
      if done then
        return
      end
      if code:sub(1, 2) ~= "08" and code:sub(1, 2) ~= "57" then
        io.stderr:write("chaos: cannot write a run: ", message, " ", code, "\n")
      end
      conn:close()
      audit = audit ~= conn and audit or nil
    end
    pgq.sleep(0.02)
  end
end

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

-- An enqueuer of a chaos run, a process of its own. Arguments: connection string, seed, jobs per second, the file for
-- ids whose commit was acknowledged. It ends when its stdin closes, and prints how many jobs it tried to enqueue and of
-- how many it does not know whether they exist.

local pgq = require "pgq"
local uv = require "luv"
local plan = require "spec.chaos.plan"
local new_random = require "spec.chaos.random"

local conninfo, seed, rate, path = ...
local random = new_random(tonumber(seed))
local file = assert(io.open(path, "w"))
local MOST = 20 -- jobs of one transaction

local conn
local began_ns, tried, unknown = uv.hrtime(), 0, 0

local function acknowledge(ids)
  for _, id in ipairs(ids) do
    file:write(("%d\n"):format(id))
  end
end

-- Returns the ids, or nil when it is not known whether the jobs exist.
local function enqueue_one(queue, data, waits)
  local id = conn:enqueue(queue, data, { retry_waits = waits })
  return id and { id }
end

local function enqueue_some(jobs)
  local ids = {}
  local ok = conn:transaction(function(tx)
    for i, job in ipairs(jobs) do
      local id, message, code = tx:enqueue(job[1], job[2], { retry_waits = job[3] })
      if not id then
        return nil, message, code
      end
      ids[i] = id
    end
    return true
  end)
  return ok and ids
end

local function step()
  conn = conn or pgq.connect(conninfo)
  if not conn then
    uv.sleep(50)
    return
  end
  local jobs = {}
  for i = 1, random() < 0.5 and 1 or 2 + math.floor(random() * (MOST - 1)) do
    jobs[i] = { plan.choose(random) }
  end
  local ids = #jobs == 1 and enqueue_one(unpack(jobs[1])) or #jobs > 1 and enqueue_some(jobs)
  tried = tried + #jobs
  if ids then
    acknowledge(ids)
  else
    unknown = unknown + #jobs
    conn:close()
    conn = nil
  end
end

local stopped = false
local stdin = uv.new_pipe(false)
stdin:open(0)
stdin:read_start(function() stopped = true end)
while not stopped do
  local due = (uv.hrtime() - began_ns) / 1e9 * tonumber(rate)
  if tried < due then -- after an outage it catches up at once
    step()
  else
    uv.sleep(5)
  end
  uv.run("nowait")
end
file:close()
print(("tried %d unknown %d"):format(tried, unknown))

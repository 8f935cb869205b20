-- The faults of a chaos run, from its seed: their kinds, times and targets. Nothing else influences them, so the same
-- seed and options always give the same list.

local new_random = require "spec.chaos.random"

local schedule = {}

-- weight: how often among all; `seconds`: how long it lasts, or how long the dead stay dead; `longer`: a second range,
-- beyond lease and timeouts, for one in three. `target`: worker, client (workers and enqueuers), server.
schedule.kinds = {
  { name = "kill supervisor", weight = 10, target = "worker", seconds = { 0.1, 1.5 } },
  { name = "kill executor", weight = 20, target = "worker" },
  { name = "stop supervisor", weight = 10, target = "worker", seconds = { 0.2, 3 }, longer = { 5.5, 9 } },
  { name = "stop executor", weight = 9, target = "worker", seconds = { 0.2, 3 }, longer = { 5.5, 9 } },
  { name = "restart fast", weight = 5, target = "server", seconds = { 0, 0.5 } },
  { name = "restart immediate", weight = 6, target = "server", seconds = { 0, 0.5 } },
  { name = "cut reset", weight = 12, target = "client" },
  { name = "cut end", weight = 8, target = "client" },
  { name = "stall", weight = 8, target = "client", seconds = { 0.5, 3 }, longer = { 5, 9 } },
  { name = "delay", weight = 4, target = "client", seconds = { 0.2, 2 }, longer = { 2, 5 } },
  { name = "terminate backend", weight = 10, target = "worker" },
}

local function choose(kinds, random)
  local sum = 0
  for _, kind in ipairs(kinds) do
    sum = sum + kind.weight
  end
  local left = random() * sum
  for _, kind in ipairs(kinds) do
    left = left - kind.weight
    if left < 0 then
      return kind
    end
  end
  return kinds[#kinds]
end

local function within(range, random)
  return range[1] + random() * (range[2] - range[1])
end

-- The number of a target, from 1, and its name.
local function choose_target(kind, options, random)
  local value = random()
  if kind.target == "server" then
    return nil, "server"
  end
  local count = options.workers
  if kind.target == "client" and random() < 0.25 then
    count = options.enqueuers
    local number = math.floor(value * count) + 1
    return number, "e" .. number
  end
  local number = math.floor(value * count) + 1
  return number, "w" .. number
end

-- schedule.make{ seed =, minutes =, faults_per_minute =, workers =, enqueuers = }: a list of { at = seconds from the
-- start, kind = name, target = "w1", "e2" or "server", number =, seconds = how long, pick = a number in [0, 1) that
-- chooses among what is there at that moment: an executor, a connection, a byte of a message }, in the order of `at`.
function schedule.make(options)
  local random = new_random(options.seed)
  local faults = {}
  local seconds = options.minutes * 60
  local count = math.floor(options.minutes * options.faults_per_minute + 0.5)
  for i = 1, count do
    local kind = choose(schedule.kinds, random)
    local fault = { kind = kind.name, at = (i - 1 + random()) * seconds / count }
    fault.number, fault.target = choose_target(kind, options, random)
    local longer = random() < 1 / 3
    fault.seconds = kind.seconds and within(longer and kind.longer or kind.seconds, random)
    fault.pick = random()
    faults[i] = fault
  end
  return faults
end

function schedule.describe(fault)
  return ("%8.2f s  %-18s %-6s%s"):format(fault.at, fault.kind, fault.target,
    fault.seconds and (" %.2f s"):format(fault.seconds) or "")
end

return schedule

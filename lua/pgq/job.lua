-- The arguments of enqueue, checked and brought into the form that the C half takes.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local core = require "pgq.core"

local error, ipairs, pairs, type = error, ipairs, pairs, type
local format = string.format

local job = {}

local OPTIONS = { after = true, delay = true, retry_waits = true }

-- Raises an error about the caller of the public function that called; `level` counts from here.
local function misuse(level, message, ...)
  error("enqueue: " .. format(message, ...), level + 1)
end

local function check_types(queue, data, options, level)
  if type(queue) ~= "string" then
    misuse(level + 1, "the queue name must be a string, not a %s", type(queue))
  end
  if type(data) ~= "string" then
    misuse(level + 1, "data must be a string, not a %s; encode it first", type(data))
  end
  if options ~= nil and type(options) ~= "table" then
    misuse(level + 1, "options must be a table, not a %s", type(options))
  end
  for name in pairs(options or {}) do
    if not OPTIONS[name] then
      local shown = type(name) == "string" and '"' .. name .. '"' or "a " .. type(name)
      misuse(level + 1, "%s is not an option; there are after, delay and retry_waits", shown)
    end
  end
end

local function check_option(value, name, level)
  if value ~= nil and type(value) ~= "number" and type(value) ~= "string" then
    misuse(level + 1, "%s must be a number or a string, not a %s", name, type(value))
  end
end

local function check_waits(waits, level)
  if waits == nil then
    return
  end
  if type(waits) ~= "table" then
    misuse(level + 1, "retry_waits must be a list, not a %s", type(waits))
  end
  local count = 0
  for _ in pairs(waits) do
    count = count + 1
  end
  for i, wait in ipairs(waits) do
    check_option(wait, "retry wait " .. i, level + 1)
    count = count - 1
  end
  if count ~= 0 then
    misuse(level + 1, "retry_waits must be a list without holes or names")
  end
end

local function shown(value)
  return type(value) == "string" and '"' .. value .. '"' or format("%.14g", value)
end

local function bad_value(what, value, problem)
  return format("%s (%s) %s; write seconds, or 1h30m, 10m0s, 45s, 250ms", what, shown(value), problem)
end

-- Each of these returns what the C half takes (nil for an option that is absent), then a problem if there is one.

local function read_delay(delay)
  if delay == nil then
    return nil
  end
  local text, ms = core.duration(delay)
  return text and ms, not text and bad_value("the delay", delay, ms)
end

local function read_after(after)
  if type(after) ~= "number" then
    return after
  end
  local text, problem = core.timestamp(after)
  return text, problem and format("the earliest time to run (%.14g) %s; write seconds since 1970", after, problem)
end

local function read_waits(waits)
  if waits == nil then
    return nil
  end
  local texts = {}
  for i, wait in ipairs(waits) do
    local text, problem = core.duration(wait)
    if not text then
      return nil, bad_value("retry wait " .. i, wait, problem)
    end
    texts[i] = text
  end
  return texts
end

--- Checks the arguments of enqueue. A wrong type or an unknown option is an error about the function at `level`,
-- where 1 is the caller of this function.
-- @return a table with after (text or nil), delay_ms (number or nil) and waits (list of texts or nil); or nil,
-- message, code for a value that cannot be used
function job.prepare(queue, data, options, level)
  check_types(queue, data, options, level + 1)
  options = options or {}
  check_option(options.delay, "delay", level + 1)
  check_option(options.after, "after", level + 1)
  check_waits(options.retry_waits, level + 1)
  if options.delay ~= nil and options.after ~= nil then
    return nil, "both a delay and an earliest time to run are given; give one of them", "22023"
  end
  local delay_ms, delay_problem = read_delay(options.delay)
  local after, after_problem = read_after(options.after)
  local waits, waits_problem = read_waits(options.retry_waits)
  local problem = delay_problem or after_problem or waits_problem
  if problem then
    return nil, problem, "22023"
  end
  return { after = after, delay_ms = delay_ms, waits = waits }
end

return job

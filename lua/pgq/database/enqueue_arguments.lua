-- Checks the arguments of enqueue and enqueue_many, and converts them for the C half.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local core = require "pgq.core"
local durations = require "pgq.durations"

local error, ipairs, pairs, type = error, ipairs, pairs, type
local format = string.format

local enqueue_arguments = {}

local OPTIONS = { after = true, delay = true, retry_waits = true }

-- Each of these returns a message if the argument is misused, or nothing.

local function misused_data(data)
  if type(data) ~= "string" then
    return format("data must be a string, not a %s; encode it first", type(data))
  end
end

-- The C half would take a hole for the end of the list, and would ignore other keys.
local function misused_list(list)
  local count = 0
  for _ in pairs(list) do
    count = count + 1
  end
  for i = 1, count do
    local data = list[i]
    if data == nil then
      return format("job %d is nil, but there is more in the list: it must be one without holes or names", i)
    elseif type(data) ~= "string" then
      return format("job %d must be a string, not a %s; encode it first", i, type(data))
    end
  end
end

-- The values that a function returns are checked when it returns them.
local function misused_jobs(jobs)
  if type(jobs) == "table" then
    return misused_list(jobs)
  elseif type(jobs) ~= "function" then
    return format("the jobs must be a list of strings, or a function that returns the next, not a %s", type(jobs))
  end
end

local function misused_option(value, name)
  if value ~= nil and type(value) ~= "number" and type(value) ~= "string" then
    return format("%s must be a number or a string, not a %s", name, type(value))
  end
end

local function misused_waits(waits)
  if waits == nil then
    return nil
  end
  if type(waits) ~= "table" then
    return format("retry_waits must be a list, not a %s", type(waits))
  end
  local count = 0
  for _ in pairs(waits) do
    count = count + 1
  end
  for i, wait in ipairs(waits) do
    local problem = misused_option(wait, "retry wait " .. i)
    if problem then
      return problem
    end
    count = count - 1
  end
  if count ~= 0 then
    return "retry_waits must be a list without holes or names"
  end
end

local function misused_options(options)
  if options == nil then
    return nil
  end
  if type(options) ~= "table" then
    return format("options must be a table, not a %s", type(options))
  end
  for name in pairs(options) do
    if not OPTIONS[name] then
      local shown = type(name) == "string" and '"' .. name .. '"' or "a " .. type(name)
      return format("%s is not an option; there are after, delay and retry_waits", shown)
    end
  end
  return misused_option(options.delay, "delay") or misused_option(options.after, "after")
    or misused_waits(options.retry_waits)
end

local function misused_queue(queue)
  if type(queue) ~= "string" then
    return format("the queue name must be a string, not a %s", type(queue))
  end
end

-- Each of these returns what the C half takes, nil for an option that is absent; or nil and a problem.

local function read_delay(delay)
  if delay == nil then
    return nil
  end
  local ms, problem = durations.read(delay)
  return ms, not ms and "the delay " .. problem or nil
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
    local ms, text = durations.read(wait)
    if not ms then
      return nil, format("retry wait %d %s", i, text)
    end
    texts[i] = text
  end
  return texts
end

-- The options, whose types have been checked.
local function read_options(options)
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

--- Checks the arguments of enqueue. Misuse, such as a wrong type or an unknown option, is an error about the function
-- at `level`, where 1 is the caller of this function.
-- @return the options as a table with after (text or nil), delay_ms (number or nil) and waits (list of texts or nil);
-- or nil, message, code for a value that cannot be used
function enqueue_arguments.check(queue, data, options, level)
  local problem = misused_queue(queue) or misused_data(data) or misused_options(options)
  if problem then
    error("enqueue: " .. problem, level + 1)
  end
  return read_options(options or {})
end

--- Checks the arguments of enqueue_many in the same way. `jobs` is a list or a function.
function enqueue_arguments.check_many(queue, jobs, options, level)
  local problem = misused_queue(queue) or misused_jobs(jobs) or misused_options(options)
  if problem then
    error("enqueue_many: " .. problem, level + 1)
  end
  return read_options(options or {})
end

--- Raises an error about the function at `level`, where 1 is the caller of this function, if enqueue_many has failed
-- without a code: then the function that returns the jobs was misused.
function enqueue_arguments.raise_misuse(level, ids, message, code)
  if not ids and not code then
    error("enqueue_many: " .. message, level + 1)
  end
end

return enqueue_arguments

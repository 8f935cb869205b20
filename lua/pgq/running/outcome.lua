-- How a handler ended: what it returned or threw, told as an outcome. It is used where handlers are called: by the
-- executor and by pgq.testing.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local durations = require "pgq.durations"

local error, getmetatable, pcall, rawget, tostring, type = error, getmetatable, pcall, rawget, tostring, type
local format, sub = string.format, string.sub
local setmetatable, traceback, xpcall = setmetatable, debug.traceback, xpcall

local outcome = {}

--- Whatever it is as a text, even when its __tostring fails.
function outcome.describe(value)
  if type(value) == "string" then
    return value
  end
  local ok, text = pcall(tostring, value)
  if ok and type(text) == "string" then
    return text
  end
  return format("(a %s whose __tostring fails)", type(value))
end

local describe = outcome.describe

-- What interrupts a handler is an error value of its own, which a pcall can tell from all others.
local Interrupt = {
  __tostring = function(interrupt)
    return interrupt.message
  end,
}

local function new_interrupt(name, message)
  return setmetatable({ name = name, message = message }, Interrupt)
end

--- What is thrown in a handler that waits when its time limit is reached.
outcome.timeout = new_interrupt("timeout", "pgq.timeout: the time limit of the handler was reached")

--- What is thrown in a handler that waits when its job was cancelled, or is somebody else's by now.
outcome.cancelled = new_interrupt("cancelled", "pgq.cancelled: the job was cancelled, or its lease was lost")

--- Whether a value is one of the two.
function outcome.is_interrupt(value)
  return getmetatable(value) == Interrupt
end

-- The fields by which a table says how the attempt ended.
local FIELDS = { "error", "backoff", "snooze", "discard", "retry" }

local function is_ending(value)
  if type(value) ~= "table" or outcome.is_interrupt(value) then
    return false
  end
  for i = 1, #FIELDS do
    if rawget(value, FIELDS[i]) ~= nil then
      return true
    end
  end
  return false
end

local function is_set(value, name)
  local field = rawget(value, name)
  return field ~= nil and field ~= false
end

-- The wait of a snooze or a retry in milliseconds; or nil, message.
local function read_wait(value)
  local ms, problem = durations.read(value)
  return ms, not ms and "the wait " .. problem or nil
end

-- A table that ends the attempt, as: false, message, how, wait in ms.
local function read_ending(value)
  local message = rawget(value, "error")
  message = message ~= nil and describe(message)
  if rawget(value, "snooze") ~= nil then
    local ms, problem = read_wait(rawget(value, "snooze"))
    return false, problem or "snooze", ms and "snooze", ms
  elseif is_set(value, "discard") then
    return false, message or "discarded", "discard"
  elseif rawget(value, "retry") ~= nil then
    local ms, problem = read_wait(rawget(value, "retry"))
    return false, problem or message or "retry", is_set(value, "backoff") and "backoff" or "retry", ms
  end
  return false, message or "backoff", is_set(value, "backoff") and "backoff" or nil
end

--- Says that a job failed because what it needs is out of order, so that its whole queue slows down: 100 ms, doubling
-- with each further backoff up to a minute, until a job of the queue succeeds. To be returned by a handler, or thrown
-- with error().
-- @tparam[opt] string message why
-- @treturn table { error = message, backoff = true }
function outcome.backoff(message)
  return { error = message == nil and "backoff" or describe(message), backoff = true }
end

local function check_wait(name, seconds)
  local ms, problem = read_wait(seconds)
  if not ms then
    error(name .. ": " .. problem, 3)
  end
  return ms / 1000
end

--- Says that a job is to run again later, and that this was no attempt: none is counted, and no retry wait is used up.
-- To be returned by a handler, or thrown with error().
-- @tparam number|string seconds from now, or a duration such as "10m"
-- @treturn table { snooze = seconds }
function outcome.snooze(seconds)
  return { snooze = check_wait("snooze", seconds) }
end

--- Says that a job failed for good: it is not tried again, whatever retry waits are left. To be returned by a handler,
-- or thrown with error().
-- @tparam[opt] string message why
-- @treturn table { error = message, discard = true }
function outcome.discard(message)
  return { error = message == nil and "discarded" or describe(message), discard = true }
end

--- Says that a job failed and when it is to be tried again: after this wait instead of the next of its retry waits,
-- which it uses up. A job that has none left has failed for good. To be returned by a handler, or thrown with error().
-- @tparam number|string seconds from now, or a duration such as "10m"
-- @tparam[opt] string message why
-- @treturn table { error = message, retry = seconds }
function outcome.retry(seconds, message)
  return { retry = check_wait("retry", seconds), error = message == nil and "retry" or describe(message) }
end

-- What a handler returned.
local function judge(first, second)
  if first == true or (first == nil and second == nil) then
    return true
  end
  if is_ending(first) then
    return read_ending(first)
  end
  if first == nil or first == false then
    if is_ending(second) then
      return read_ending(second)
    end
    return false, second == nil and "the handler returned false" or describe(second)
  end
  return false, format("the handler returned a %s (%s): return nothing or true for success; nil and a message, or a "
    .. "table with the field error, for failure", type(first), sub(describe(first), 1, 200))
end

-- Runs where an error was raised, while its stack is still there.
local function on_error(value)
  if is_ending(value) and (rawget(value, "error") == nil or is_set(value, "backoff") or is_set(value, "discard")
    or rawget(value, "retry") ~= nil) then
    return { value = value }
  end
  return { value = value, traceback = sub(traceback("", 2), 2) } -- without the newline behind the empty message
end

-- What a handler threw, as on_error() has kept it.
local function judge_error(caught)
  if type(caught) ~= "table" then -- on_error itself failed: no stack or no memory was left
    return false, describe(caught)
  end
  local value = rawget(caught, "value")
  if is_ending(value) then
    local ok, message, how, wait_ms = read_ending(value)
    return ok, message, how, wait_ms, rawget(caught, "traceback")
  end
  local message = value == nil and "the handler called error(nil)" or describe(value)
  local how = value == outcome.cancelled and "cancelled" or nil
  return false, message, how, nil, rawget(caught, "traceback")
end

local function finish(ok, first, second)
  if ok then
    return judge(first, second)
  end
  return judge_error(first)
end

--- Calls a handler, and says how it ended.
-- @return[1] true
-- @return[2] false
-- @treturn[2] string message
-- @treturn[2] string how: nil for a plain failure, "backoff", "snooze", "discard", "retry", or "cancelled"
-- @treturn[2] number wait in milliseconds, or nil: until it runs again ("snooze"), or instead of the next retry wait
-- @treturn[2] string traceback, or nil
function outcome.of(handler, ...)
  return finish(xpcall(handler, on_error, ...))
end

return outcome

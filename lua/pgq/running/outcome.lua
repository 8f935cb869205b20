-- The outcome of a handler, judged by what it has returned or raised. The executor and pgq.testing use it.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local durations = require "pgq.durations"

local error, getmetatable, pcall, rawget, tostring, type = error, getmetatable, pcall, rawget, tostring, type
local format, sub = string.format, string.sub
local setmetatable, traceback, xpcall = setmetatable, debug.traceback, xpcall

local outcome = {}

--- Any value as a text, even if its __tostring fails.
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

-- A handler is interrupted by an error value of its own type, so that a pcall can tell it from all other errors.
local Interrupt = {
  __tostring = function(interrupt)
    return interrupt.message
  end,
}

local function new_interrupt(name, message)
  return setmetatable({ name = name, message = message }, Interrupt)
end

--- The error that is raised in a handler that waits when its time limit is reached.
outcome.timeout = new_interrupt("timeout", "pgq.timeout: the time limit of the handler was reached")

--- The error that is raised in a handler that waits when its job was cancelled, or when its lease was lost.
outcome.cancelled = new_interrupt("cancelled", "pgq.cancelled: the job was cancelled, or its lease was lost")

--- Whether a value is pgq.timeout or pgq.cancelled.
function outcome.is_interrupt(value)
  return getmetatable(value) == Interrupt
end

-- A table with one of these fields says how the attempt ended.
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

-- Reads a table that says how the attempt ended. Returns false, message, how, wait in milliseconds.
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

--- The job fails because a service that it needs does not work, and its whole queue slows down: by 100 ms, doubling
-- with each further backoff up to a minute, until a job of the queue succeeds. A handler returns the table, or raises
-- it with error().
-- @tparam[opt] string message the reason
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

--- The job runs again later. No attempt is counted, and no retry wait is used up. A handler returns the table, or
-- raises it with error().
-- @tparam number|string seconds from now: a number, or a duration such as "10m"
-- @treturn table { snooze = seconds }
-- @raise an error for a value that is not a duration
function outcome.snooze(seconds)
  return { snooze = check_wait("snooze", seconds) }
end

--- The job fails, and is not tried again, even if it has retry waits left. A handler returns the table, or raises it
-- with error().
-- @tparam[opt] string message the reason
-- @treturn table { error = message, discard = true }
function outcome.discard(message)
  return { error = message == nil and "discarded" or describe(message), discard = true }
end

--- The job fails, and is tried again after this wait instead of its next retry wait, which is used up. A job that has
-- no retry wait left is not tried again. A handler returns the table, or raises it with error().
-- @tparam number|string seconds from now: a number, or a duration such as "10m"
-- @tparam[opt] string message the reason
-- @treturn table { error = message, retry = seconds }
-- @raise an error for a value that is not a duration
function outcome.retry(seconds, message)
  return { retry = check_wait("retry", seconds), error = message == nil and "retry" or describe(message) }
end

-- Judges what a handler has returned. Returns what outcome.of() does.
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

-- The message handler of xpcall: adds a traceback, unless the value is the table of pgq.backoff, pgq.retry or similar.
local function on_error(value)
  if is_ending(value) and (rawget(value, "error") == nil or is_set(value, "backoff") or is_set(value, "discard")
    or rawget(value, "retry") ~= nil) then
    return { value = value }
  end
  return { value = value, traceback = sub(traceback("", 2), 2) } -- without the newline after the empty message
end

-- Judges an error that a handler has raised, as on_error() has returned it.
local function judge_error(caught)
  if type(caught) ~= "table" then -- on_error itself has failed: the stack or the memory was exhausted
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

--- Calls a handler, and returns its outcome.
-- @return[1] true when it has succeeded
-- @return[2] false
-- @treturn[2] string message
-- @treturn[2] string how: "backoff", "snooze", "discard", "retry" or "cancelled"; nil for any other failure
-- @treturn[2] number milliseconds until the job runs again ("snooze"), or instead of its next retry wait; or nil
-- @treturn[2] string traceback, or nil
function outcome.of(handler, ...)
  return finish(xpcall(handler, on_error, ...))
end

return outcome

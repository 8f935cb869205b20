-- Durations that callers give: numbers of seconds, or texts such as "1h30m". The C half has the grammar.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local core = require "pgq.core"

local type = type
local format = string.format

local durations = {}

--- Reads a duration.
-- @return[1] milliseconds
-- @treturn[1] string the duration as Go writes it, such as "1m30s"
-- @return[2] nil
-- @treturn[2] string the rest of a sentence that begins with the name of the value, such as "the delay"
function durations.read(value)
  if type(value) ~= "number" and type(value) ~= "string" then
    return nil, format("must be a number of seconds or a duration such as 1m30s, not a %s", type(value))
  end
  local text, ms = core.duration(value)
  if text then
    return ms, text
  end
  local shown = type(value) == "string" and '"' .. value .. '"' or format("%.14g", value)
  return nil, format("(%s) %s; write seconds, or 1h30m, 10m0s, 45s, 250ms", shown, ms)
end

return durations

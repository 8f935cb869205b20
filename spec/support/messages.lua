-- The log messages in the program's sources, found by reading the calls of log_line() and similar functions.

local process = require "spec.support.process"

local messages = {}

-- The functions that log, and the position of the message among their arguments.
local LOGGERS = { log_line = 2, log_info = 1, log_warn = 1, log_error = 1 }
local LEVEL_OF = { log_info = "info", log_warn = "warn", log_error = "error" }

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- The arguments of a call whose opening bracket is at `from`, as texts.
local function read_arguments(text, from)
  local arguments, depth, start, at = {}, 0, from + 1, from
  while at <= #text do
    local char = text:sub(at, at)
    if char == '"' or (char == "'" and depth > 0 and text:sub(at + 2, at + 2) == "'") then
      repeat
        at = at + 1
        if text:sub(at, at) == "\\" then at = at + 2 end
      until text:sub(at, at) == char or at > #text
    elseif char == "(" or char == "{" or char == "[" then
      depth = depth + 1
    elseif char == ")" or char == "}" or char == "]" then
      depth = depth - 1
    end
    if (char == "," and depth == 1) or depth == 0 then
      arguments[#arguments + 1] = text:sub(start, at - 1)
      start = at + 1
    end
    if depth == 0 then return arguments end
    at = at + 1
  end
end

-- The string literals in an expression; neighbours are one. In formats, what is filled in becomes "…".
local function read_literals(expression)
  local literals = {}
  expression = expression:gsub('"%s*"', ""):gsub('"%s*%.%.%s*"', "") -- "a" "b" in C, "a" .. "b" in Lua
  for literal in expression:gmatch '"([^"]*)"' do
    literals[#literals + 1] = (literal:gsub("%%[sd]", "…"):gsub(": $", ": …"))
  end
  return literals
end

-- The name of the C function around a place.
local function function_around(text, place)
  local name
  for found in text:sub(1, place):gmatch "\n[%l][^\n;#]-([%w_]+)%([^\n;]-[%){,]*[^\n;]-{?\n" do name = found end
  return name
end

local function add(found, path, literals, levels)
  for _, literal in ipairs(literals) do
    local entry = found[literal] or { where = path, levels = {} }
    for level in pairs(levels) do entry.levels[level] = true end
    found[literal] = entry
  end
  return #literals > 0
end

-- All calls of a function in a text: iterates over the places and the arguments.
local function calls(text, name)
  local at = 1
  return function()
    local from, to = text:find("%f[%w_]" .. name .. "%s*%(", at)
    if not from then return nil end
    at = to + 1
    return from, assert(read_arguments(text, to), name)
  end
end

local function scan_c(found, path)
  local text = read(path)
  for logger, position in pairs(LOGGERS) do
    for place, arguments in calls(text, logger) do
      local levels = { [LEVEL_OF[logger] or false] = true }
      for level in (logger == "log_line" and arguments[1] or ""):gmatch "LOG_(%u+)" do levels[level:lower()] = true end
      if arguments[1]:find "%.level" then levels = { info = true, warn = true, error = true } end -- from an executor
      levels[false], levels.debug = nil, nil
      if next(levels) and not add(found, path, read_literals(arguments[position]), levels) then
        -- The message is a parameter: its literals are in the calls of the function around.
        local around = function_around(text, place)
        for _, its_arguments in calls(text, around) do
          for _, argument in ipairs(its_arguments) do
            -- It is not known which message has which level: the function may log some messages at level debug.
            if argument:find '^%s*"' then
              add(found, path, read_literals(argument), levels)
              add(found, path, read_literals(argument), { debug = true })
            end
          end
        end
      end
    end
  end
  for literal in text:gmatch 'static const char about%[%] = "([^"]*)"' do -- of an error in a callback
    add(found, path, read_literals('"' .. literal .. '"'), { error = true })
  end
end

local function scan_lua(found, path)
  local text = read(path)
  for _, arguments in calls(text, "tasks%.log") do
    if arguments[1] ~= "level" then
      add(found, path, { read_literals(arguments[2])[1] }, { [arguments[1]:match '"(%l+)"'] = true })
    end
  end
end

-- Every message of the levels info, warn and error: message → { where, levels }.
function messages.in_sources()
  local found = {}
  for path in process.check({ "find", "runtime", "lua", "-name", "*.c", "-o", "-name", "*.lua" }):gmatch "[^\n]+" do
    if path:find "%.lua$" then
      scan_lua(found, path)
    elseif not path:find "common/log%.c$" then
      scan_c(found, path)
    end
  end
  return found
end

return messages

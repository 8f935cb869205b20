-- A world of its own for the script under test: its modules, its globals and its clock are there while it runs, and
-- hidden while the spec does. Two scripts do not see each other; an executor has a Lua state for each, a spec has not.

local error, getinfo, next, pairs, pcall, rawset, setmetatable, type =
  error, debug.getinfo, next, pairs, pcall, rawset, setmetatable, type
local find, searchpath = string.find, package.searchpath

local Sandbox = {}
Sandbox.__index = Sandbox

-- What os.exit throws in the script: it would end the spec.
local EXIT = setmetatable({}, { __tostring = function() return "os.exit was called" end })

-- In place of a value that is hidden.
local ABSENT = {}

local function copy(from)
  local to = {}
  for key, value in next, from do
    to[key] = value
  end
  return to
end

-- Makes `target` what `wanted` is.
local function restore(target, wanted)
  for key in pairs(copy(target)) do
    if wanted[key] == nil then
      rawset(target, key, nil)
    end
  end
  for key, value in pairs(wanted) do
    rawset(target, key, value)
  end
end

-- What is other in `target` than in `before`, but for the keys of `keep`.
local function changes(target, before, keep)
  local found = {}
  for key, value in next, target do
    if before[key] ~= value then
      if keep and keep(key) then
        before[key] = value
      else
        found[key] = value
      end
    end
  end
  for key in pairs(before) do
    if target[key] == nil then
      found[key] = ABSENT
    end
  end
  return found
end

-- A module in C is loaded once per process: a second time may crash it. Ours is, and what the script gets in its place
-- is Lua.
local function is_in_c(name)
  if name == "pgq.core" then
    return false
  end
  local preload = package.preload[name]
  if preload then
    return getinfo(preload, "S").what == "C"
  end
  return type(name) == "string" and not searchpath(name, package.path) and searchpath(name, package.cpath) ~= nil
end

-- The spec's own instance of the module, which the script is not to see.
local function is_ours(name)
  return type(name) == "string" and name ~= "pgq.core" and (name == "pgq" or find(name, "^pgq%.") ~= nil)
    and not find(name, "^pgq%.testing")
end

--- A new sandbox. `os_functions` take the place of those of os for the script.
function Sandbox.new(os_functions)
  local self = setmetatable({ exited = nil, running = false }, Sandbox)
  self._overlays = {
    { target = package.loaded, values = {}, keep = is_in_c, hide = is_ours },
    { target = _G, values = {} },
    { target = os, values = os_functions },
  }
  function os_functions.exit(status)
    self.exited = status == false and 1 or type(status) == "number" and status or 0
    error(EXIT, 0)
  end
  return self
end

function Sandbox:_enter()
  for _, overlay in pairs(self._overlays) do
    overlay.before = copy(overlay.target)
    for key in pairs(overlay.before) do
      if overlay.hide and overlay.hide(key) then
        rawset(overlay.target, key, nil)
      end
    end
    for key, value in pairs(overlay.values) do
      if value == ABSENT then
        value = nil
      end
      rawset(overlay.target, key, value)
    end
  end
  self.running = true
end

function Sandbox:_leave()
  self.running = false
  for _, overlay in pairs(self._overlays) do
    local before = overlay.before
    overlay.values = changes(overlay.target, before, overlay.keep)
    restore(overlay.target, before)
    overlay.before = nil
  end
end

local function finish(self, ok, ...)
  self:_leave()
  if not ok then
    error((...), 0)
  end
  return ...
end

--- Calls a function in the sandbox, and returns what it returns. What it throws goes on, as it is.
function Sandbox:run(fn, ...)
  if self.running then
    return fn(...)
  end
  self.exited = nil
  self:_enter()
  return finish(self, pcall(fn, ...))
end

return Sandbox

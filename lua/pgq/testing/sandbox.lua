-- A sandbox for the script under test. The script's modules, globals and clock are in place while it runs, and are
-- removed while the test runs. So two scripts do not see each other, though, unlike in executors, they share a Lua
-- state.

local error, getinfo, next, pairs, pcall, rawset, setmetatable, type =
  error, debug.getinfo, next, pairs, pcall, rawset, setmetatable, type
local find, searchpath = string.find, package.searchpath

local Sandbox = {}
Sandbox.__index = Sandbox

-- The error that os.exit raises in the script, since it must not end the test.
local EXIT = setmetatable({}, { __tostring = function() return "os.exit was called" end })

-- Marks a value that the script has removed.
local ABSENT = {}

local function copy(from)
  local to = {}
  for key, value in next, from do
    to[key] = value
  end
  return to
end

-- Gives `target` the same fields as `wanted`.
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

-- Returns the fields of `target` that differ from `before`. Those for which keep(key) is true become part of `before`.
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

-- Whether the module is written in C. Such a module stays loaded, since loading it again may crash the process.
-- pgq.core is no exception: the script gets a Lua table in its place.
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

-- Whether the module belongs to the test's own instance of pgq, which the script must not see.
local function is_ours(name)
  return type(name) == "string" and name ~= "pgq.core" and (name == "pgq" or find(name, "^pgq%.") ~= nil)
    and not find(name, "^pgq%.testing")
end

--- Makes a sandbox. `os_functions` replace those of `os` in the script.
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

--- Calls a function in the sandbox. Returns what it returns, and raises what it raises.
function Sandbox:run(fn, ...)
  if self.running then
    return fn(...)
  end
  self.exited = nil
  self:_enter()
  return finish(self, pcall(fn, ...))
end

return Sandbox

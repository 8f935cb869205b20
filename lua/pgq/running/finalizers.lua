-- Finalizers of a worker's script. LuaJIT runs them wherever memory is allocated: in the handler of any other job, or
-- in a callback of luv, where an error would end the executor. So an error of a finalizer ends here, and is logged.
--
-- In this version of Lua only userdata and cdata have finalizers. The functions that set one are replaced. A finalizer
-- that is set behind their back, by rawset or by a C module, is not guarded.

local ffi = require "ffi"

local getmetatable, newproxy, pcall, rawget, rawset, setmetatable, tostring, type =
  getmetatable, newproxy, pcall, rawget, rawset, setmetatable, tostring, type
local format, time = string.format, os.time
local ffi_gc, ffi_metatype, debug_setmetatable = ffi.gc, ffi.metatype, debug.setmetatable

local finalizers = {}

-- ── errors ──

local tasks
local reported_at, unreported = 0, 0

-- Logs one error a second: as many objects as errors may be collected at once.
local function report(problem)
  local now = time()
  if now == reported_at then
    unreported = unreported + 1
    return
  end
  local others = unreported > 0 and format("; %d more have done so before", unreported) or ""
  reported_at, unreported = now, 0
  tasks.log("error", "a finalizer raised an error: " .. tostring(problem) .. others)
end

-- The guarded form of each finalizer, so that one function gets one. An object keeps the guarded form, and that keeps
-- the function.
local guarded = setmetatable({}, { __mode = "kv" })

local function guard(finalizer)
  local known = guarded[finalizer]
  if known then
    return known
  end
  local function finalize(object)
    local ok, problem = pcall(finalizer, object)
    if not ok then
      pcall(report, problem) -- the error may be an object whose own functions fail
    end
  end
  guarded[finalizer], guarded[finalize] = finalize, finalize
  return finalize
end

local function guard_field(metatable)
  local finalizer = type(metatable) == "table" and rawget(metatable, "__gc")
  if type(finalizer) == "function" then
    rawset(metatable, "__gc", guard(finalizer))
  end
end

-- ── the functions that set a finalizer ──

-- The metatable of the metatable of a new proxy.
local PROXY = {
  __newindex = function(metatable, key, value)
    rawset(metatable, key, key == "__gc" and type(value) == "function" and guard(value) or value)
  end,
}

local function new_proxy(with)
  local proxy = newproxy(with)
  if with == true then
    setmetatable(getmetatable(proxy), PROXY)
  end
  return proxy
end

local function set_finalizer(object, finalizer)
  return ffi_gc(object, type(finalizer) == "function" and guard(finalizer) or finalizer)
end

local function make_metatype(ctype, metatable)
  guard_field(metatable)
  return ffi_metatype(ctype, metatable)
end

local function set_metatable(value, metatable)
  if type(value) == "userdata" then
    guard_field(metatable)
  end
  return debug_setmetatable(value, metatable)
end

--- Replaces the functions that set a finalizer.
-- @tparam table with_log the module pgq.running.tasks, which requires this one
function finalizers.watch(with_log)
  tasks = with_log
  _G.newproxy, debug.setmetatable = new_proxy, set_metatable -- luacheck: ignore 122
  ffi.gc, ffi.metatype = set_finalizer, make_metatype
  package.preload.ffi = function() -- for a script that unloads it
    return ffi
  end
end

return finalizers

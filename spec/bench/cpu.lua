-- The CPU time of processes, from /proc.

local uv = require "luv"

local cpu = {}

-- Clock ticks in a second: the same on all machines that Linux runs on today.
local TICKS = 100

-- The fields behind the name of a process: state, parent, …; nil when there is no such process.
local function fields_of(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local text = file and file:read "*a"
  if file then
    file:close()
  end
  local fields = {}
  for field in (text and text:match ".*%)(.*)$" or ""):gmatch "%S+" do
    fields[#fields + 1] = field
  end
  return fields[13] and fields
end

-- cpu.used(pids): the seconds that these processes and their children have used. Children that have ended do not count.
function cpu.used(pids)
  local wanted, ticks, request = {}, 0, assert(uv.fs_scandir "/proc")
  for _, pid in ipairs(pids) do
    wanted[tonumber(pid)] = true
  end
  for name in function() return uv.fs_scandir_next(request) end do
    local fields = name:match "^%d+$" and fields_of(name)
    if fields and (wanted[tonumber(name)] or wanted[tonumber(fields[2])]) then
      ticks = ticks + fields[12] + fields[13]
    end
  end
  return ticks / TICKS
end

return cpu

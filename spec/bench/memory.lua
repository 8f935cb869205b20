-- The memory of processes in MB, from /proc; nil for a process that has ended.

local memory = {}

local function read(pid, name)
  local file = io.open(("/proc/%d/%s"):format(pid, name))
  local text = file and file:read "*a"
  if file then
    file:close()
  end
  return text ~= "" and text or nil
end

local function field(pid, name, word)
  local text = read(pid, name)
  local kib = text and text:match(word .. ":%s+(%d+) kB")
  return kib and kib / 1024
end

-- Resident memory, including shared pages.
function memory.resident(pid)
  return field(pid, "status", "VmRSS")
end

-- The same, but each shared page is divided by the number of processes that share it.
function memory.proportional(pid)
  return field(pid, "smaps_rollup", "Pss")
end

-- The peak of the resident memory.
function memory.peak(pid)
  return field(pid, "status", "VmHWM")
end

-- The pids of a process's children.
function memory.children(pid)
  local list = {}
  for child in (read(pid, ("task/%d/children"):format(pid)) or ""):gmatch "%d+" do
    list[#list + 1] = tonumber(child)
  end
  return list
end

-- The memory of a process and its children together; and whether resident sizes were used for some of them, because the
-- proportional ones cannot be read.
function memory.together(pid)
  local sum, is_resident = 0, false
  for _, one in ipairs { pid, unpack(memory.children(pid)) } do
    local size = memory.proportional(one)
    if not size then
      size = memory.resident(one)
      is_resident = is_resident or size ~= nil
    end
    sum = sum + (size or 0)
  end
  return sum, is_resident
end

return memory

-- Records the progress of a worker's handlers. After a number of jobs, each executor adds a line "time count CPU-time"
-- to a file of its own. This disturbs the run less than queries would, and is more exact.

local uv = require "luv"
local folders = require "spec.bench.folders"

local tally = {}

-- In the worker: tally.counter(folder, step) returns a function that counts one job.
function tally.counter(folder, step)
  local count, next_note, file = 0, 1, nil
  return function()
    count = count + 1
    if count == next_note then
      file = file or assert(io.open(("%s/%d"):format(folder, uv.os_getpid()), "w"))
      file:write(("%.0f %d %.0f\n"):format(uv.hrtime(), count, os.clock() * 1e9))
      file:flush()
      next_note = count < step and step or count + step
    end
  end
end

-- An iterator over what was noted, line by line and file by file: number of the file, time (ns), count, CPU time of the
-- process (ns).
local function lines_of(folder)
  return coroutine.wrap(function()
    for number, path in ipairs(folders.files(folder)) do
      for line in io.lines(path) do
        local time, count, cpu = line:match "^(%d+) (%d+) (%d+)$"
        if time then -- what is being written may be half a line
          coroutine.yield(number, tonumber(time), tonumber(count), tonumber(cpu))
        end
      end
    end
  end)
end

-- tally.read(folder): all notes, in the order of time: a list of { time = ns, jobs = how many more }.
function tally.read(folder)
  local steps, before = {}, {}
  for number, time, count in lines_of(folder) do
    steps[#steps + 1] = { time = time, jobs = count - (before[number] or 0) }
    before[number] = count
  end
  table.sort(steps, function(a, b) return a.time < b.time end)
  return steps
end

-- The number of jobs that were noted.
function tally.total(folder)
  local total = 0
  for _, step in ipairs(tally.read(folder)) do
    total = total + step.jobs
  end
  return total
end

-- tally.time_of(folder, count): the time when this number of jobs had begun, in ns; nil if there are fewer.
function tally.time_of(folder, count)
  local total = 0
  for _, step in ipairs(tally.read(folder)) do
    total = total + step.jobs
    if total >= count then
      return step.time
    end
  end
end

-- The CPU time of the executors from the first note of each to its last, for a job, in µs; nil when none has two notes.
function tally.cpu(folder)
  local first, last = {}, {}
  for number, _, count, cpu in lines_of(folder) do
    last[number] = { count = count, cpu = cpu }
    first[number] = first[number] or last[number]
  end
  local jobs, spent = 0, 0
  for number in pairs(first) do
    jobs = jobs + last[number].count - first[number].count
    spent = spent + last[number].cpu - first[number].cpu
  end
  return jobs > 0 and spent / jobs / 1000 or nil
end

return tally

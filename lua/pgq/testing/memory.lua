-- The jobs of a test without a server: a Lua table, with a clock that stands still until the test moves it. It has the
-- same methods as server.lua, which works on the tables of a server.

local enqueue_arguments = require "pgq.database.enqueue_arguments"
local core = require "pgq.core"
local rules = require "pgq.testing.rules"

local floor, huge, ipairs, os_date, os_time, pairs, remove, setmetatable, sort, type =
  math.floor, math.huge, ipairs, os.date, os.time, pairs, table.remove, setmetatable, table.sort, type
local format = string.format

local Memory = {}
Memory.__index = Memory

function Memory.new()
  return setmetatable({ now = os_time(), _jobs = {}, _last_id = 0 }, Memory)
end

--- The functions that replace those of `os` in the script, so that they show this clock.
function Memory:os_functions()
  return {
    time = function(when)
      return when == nil and floor(self.now) or os_time(when)
    end,
    date = function(form, when)
      return os_date(form or "%c", when or floor(self.now))
    end,
  }
end

--- Moves the clock.
function Memory:age(seconds)
  self.now = self.now + seconds
end

-- Returns message, code when a job cannot be enqueued, with the messages of libpgq.
local function find_problem(queue, data)
  if queue == "" then
    return "the queue name is empty", "22023"
  elseif queue:find("\0", 1, true) then
    return "the queue name holds a NUL byte", "22023"
  elseif not core.is_text(queue) then
    return "the queue name is not valid UTF-8", "22023"
  elseif #data > core.data_max then
    return format("data has %d bytes, the limit is %d", #data, core.data_max), "54000"
  end
end

-- The time when a job is due: never, if `after` is a text, which only Postgres can read.
local function due_time(self, checked, after)
  if checked.delay_ms then
    return self.now + checked.delay_ms / 1000
  elseif type(after) == "number" then
    return after
  end
  return after and huge or self.now
end

--- Makes a job, which is not in the table yet. Returns nil, message, code when it cannot be enqueued. `checked` is what
-- enqueue_arguments.check has returned, `after` the option as it was given.
function Memory:make(queue, data, checked, after)
  local problem, code = find_problem(queue, data)
  if problem then
    return nil, problem, code
  end
  return {
    queue = queue,
    data = data,
    created_at = self.now,
    run_after = due_time(self, checked, after),
    after = after,
    retry_waits = rules.copy_list(checked.waits or rules.DEFAULT_WAITS),
    attempt = 0,
    state = "waiting",
  }
end

--- Gives a job its id.
function Memory:reserve(job)
  self._last_id = self._last_id + 1
  job.id = self._last_id
  return job.id
end

--- Puts a job into the table, and returns its id.
function Memory:put(job)
  local id = job.id or self:reserve(job)
  self._jobs[id] = job
  return id
end

--- As conn:enqueue.
function Memory:enqueue(queue, data, options)
  local checked, job, message, code
  checked, message, code = enqueue_arguments.check(queue, data, options, 3)
  if checked then
    job, message, code = self:make(queue, data, checked, options and options.after)
  end
  if not job then
    return nil, message, code
  end
  return self:put(job)
end

--- The largest id so far. Jobs that are enqueued later have larger ids.
function Memory:mark()
  return self._last_id
end

-- Returns the job as a test sees it: a copy, with its delay.
local function show(job)
  local shown = rules.copy_list(job)
  for name, value in pairs(job) do
    shown[name] = value
  end
  shown.retry_waits = rules.copy_list(job.retry_waits)
  shown.run_after = job.run_after < huge and job.run_after or nil
  shown.delay = rules.delay(job.created_at, shown.run_after)
  return shown
end

--- The jobs with ids above `mark`, of a queue or of all (nil), in the order in which they were enqueued.
function Memory:jobs(queue, mark)
  local found = {}
  for id, job in pairs(self._jobs) do
    if id > (mark or 0) and (queue == nil or job.queue == queue) then
      found[#found + 1] = show(job)
    end
  end
  sort(found, function(a, b) return a.id < b.id end)
  return found
end

local function is_earlier(a, b)
  return a.run_after < b.run_after or (a.run_after == b.run_after and a.id < b.id)
end

--- Returns the job of these queues that is due first, and counts its attempt. Returns nil when none is due.
function Memory:claim(names)
  local wanted, first = {}, nil
  for _, name in ipairs(names) do
    wanted[name] = true
  end
  for _, job in pairs(self._jobs) do
    if wanted[job.queue] and job.state == "waiting" and job.run_after <= self.now
      and (not first or is_earlier(job, first)) then
      first = job
    end
  end
  if not first then
    return nil
  end
  first.attempt = first.attempt + 1
  return show(first)
end

--- Settles a claimed job. Returns false when the job does not exist any more.
function Memory:settle(shown, ending)
  local job = self._jobs[shown.id]
  if not job then
    return false
  end
  job.error = ending.error
  if ending.action == "delete" then
    self._jobs[job.id] = nil
  elseif ending.action == "snooze" then
    job.attempt = job.attempt - 1
    job.error = shown.error
    job.run_after = self.now + ending.wait
  elseif ending.action == "retry" then
    remove(job.retry_waits, 1)
    job.run_after = self.now + ending.wait
  else
    job.state = ending.action == "preserve" and "preserved" or "failed"
    job.ran_at = self.now
  end
  return true
end

--- Returns a job for one run, which is not put into the table. The options are those of worker:perform.
function Memory:begin(queue, data, options)
  local job = {
    queue = queue,
    data = data,
    created_at = options.created_at or self.now,
    run_after = options.run_after or self.now,
    retry_waits = options.retry_waits,
    attempt = options.attempt,
  }
  self:reserve(job)
  job.id = options.id or job.id
  return job
end

--- Ends a run that begin() has begun.
function Memory.drop()
end

function Memory.close()
end

return Memory

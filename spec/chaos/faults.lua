-- Carries out the faults of the schedule on workers, enqueuers and the server, and keeps a list of them.

local uv = require "luv"
local loop = require "spec.support.loop"
local process = require "spec.support.process"

local Faults = {}
Faults.__index = Faults

-- How long a cut waits for a message that it can cut.
local PATIENCE = 1

local function now()
  local seconds, microseconds = uv.gettimeofday()
  return seconds + microseconds / 1e6
end

-- A function after(seconds, fn): calls fn then, from the loop, whatever the program is waiting for at that time.
local function new_after(timers)
  return function(seconds, fn)
    local timer = uv.new_timer()
    timers[timer] = true
    timer:start(math.floor(seconds * 1000), 0, function()
      timers[timer] = nil
      loop.close(timer)
      fn()
    end)
  end
end

-- Faults.new{ fleet =, pg = }
function Faults.new(options)
  local timers = {}
  return setmetatable({
    fleet = options.fleet, pg = options.pg, done = {}, missed = {}, pending = 0, server_down = false, kills = {},
    _timers = timers, _after = new_after(timers),
  }, Faults)
end

-- Each function carries out a fault, and calls done() when it is over; or returns false when it finds no target.
local acts = {}

acts["kill supervisor"] = function(self, fault, done)
  local fleet, number = self.fleet, fault.number
  if not fleet:is_up(number) then
    return false
  end
  fleet:executors(number) -- so that they are known, should they stay
  fleet.workers[number].killed = true
  fleet.workers[number].process:kill("sigkill")
  self._after(fault.seconds, function()
    fleet:start_worker(number)
    done()
  end)
end

-- Supervisor and executors, as when a machine is gone.
local function kill_whole(self, number)
  local worker = self.fleet.workers[number]
  local pids = self.fleet:executors(number)
  worker.killed = true
  worker.process:kill("sigkill")
  for _, pid in ipairs(pids) do
    uv.kill(pid, "sigkill")
  end
end

acts["kill worker"] = function(self, fault, done)
  if not self.fleet:is_up(fault.number) then
    return false
  end
  kill_whole(self, fault.number)
  self._after(fault.seconds, function()
    self.fleet:start_worker(fault.number)
    done()
  end)
end

-- All workers at once. The list of what was done has the cut, and a part of it for each worker.
acts["power cut"] = function(self, fault, done)
  local fleet, numbers, began = self.fleet, {}, now()
  for number, worker in ipairs(fleet.workers) do
    if fleet:is_up(number) then
      numbers[#numbers + 1] = number
      self.done[#self.done + 1] = { kind = "power cut", who = worker.name, began = began, ended = began, part = true }
      kill_whole(self, number)
    end
  end
  self._after(fault.seconds, function()
    for _, number in ipairs(numbers) do
      fleet:start_worker(number)
    end
    done()
  end)
end

acts["kill executor"] = function(self, fault, done)
  local pids = self.fleet:is_up(fault.number) and self.fleet:executors(fault.number) or {}
  local pid = pids[math.floor(fault.pick * #pids) + 1]
  if not pid or not uv.kill(pid, "sigkill") then
    return false
  end
  done()
end

local function stop_and_continue(self, fault, pid, done)
  if not pid or not uv.kill(pid, "sigstop") then
    return false
  end
  self._after(fault.seconds, function()
    uv.kill(pid, "sigcont")
    done()
  end)
end

acts["stop supervisor"] = function(self, fault, done)
  local worker = self.fleet.workers[fault.number]
  if not self.fleet:is_up(fault.number) or worker.stopped then
    return false
  end
  local process_stopped = worker.process
  worker.stopped = true
  process_stopped:kill("sigstop")
  self._after(fault.seconds, function()
    process_stopped:kill("sigcont")
    if worker.process == process_stopped then
      worker.stopped = nil
    end
    done()
  end)
end

acts["stop executor"] = function(self, fault, done)
  local pids = self.fleet:is_up(fault.number) and self.fleet:executors(fault.number) or {}
  return stop_and_continue(self, fault, pids[math.floor(fault.pick * #pids) + 1], done)
end

-- The postmaster is stopped by a signal; the program would have to wait for pg_ctl.
local function restart(signal)
  return function(self, fault, done)
    local file = not self.server_down and io.open(self.pg.dir .. "/data/postmaster.pid")
    local pid = file and file:read("*n")
    if file then
      file:close()
    end
    if not pid or not uv.kill(pid, signal) then
      return false
    end
    self.server_down = { done = done, up_at = now() + fault.seconds }
  end
end

acts["restart fast"] = restart "sigint"
acts["restart immediate"] = restart "sigquit"

local function proxy_of(self, fault)
  local list = fault.target:sub(1, 1) == "e" and self.fleet.enqueuers or self.fleet.workers
  return list[fault.number].proxy
end

local function cut(with_reset)
  return function(self, fault, done)
    if proxy_of(self, fault):cut(fault.pick, with_reset, self._after, PATIENCE) == 0 then
      return false
    end
    self._after(PATIENCE, done)
  end
end

acts["cut reset"] = cut(true)
acts["cut end"] = cut(false)

acts["stall"] = function(self, fault, done)
  return proxy_of(self, fault):stall(fault.pick, fault.seconds, self._after, done) > 0
end

acts["delay"] = function(self, fault, done)
  return proxy_of(self, fault):delay(fault.pick, fault.seconds, self._after, done) > 0
end

acts["terminate backend"] = function(self, fault, done)
  if self.server_down or not self.fleet:is_up(fault.number) then
    return false
  end
  local sql = ([[
    SELECT pg_terminate_backend(pid) FROM (
      SELECT pid, row_number() OVER (ORDER BY backend_start, pid) AS n, count(*) OVER () AS of
      FROM pg_stat_activity WHERE application_name = '%s') AS a
    WHERE n = floor(%.6f * of) + 1]])
    :format(self.fleet.workers[fault.number].name, fault.pick)
  local psql = process.start { "psql", "-X", "-q", "-A", "-t", "-d", self.pg.conninfo, "-c", sql }
  self.kills[psql] = true
  self._after(0.5, function()
    self.kills[psql] = nil
    done(psql._exit and psql.stdout:match "^t" ~= nil)
  end)
end

-- The target of a fault as the books name it: a worker by its current name, since its replacement has no jobs yet.
local function victim(self, fault)
  if fault.target == "server" then
    return "*"
  elseif fault.target == "all" then
    return "all"
  end
  return fault.target:sub(1, 1) == "w" and self.fleet.workers[fault.number].name or fault.target
end

local function miss(self, fault)
  self.missed[fault.kind] = (self.missed[fault.kind] or 0) + 1
end

-- Does one fault. It is in the list `done` as { kind =, who =, began =, ended = } from its beginning; `ended` is
-- missing until it is over. What finds nothing to break is counted in `missed`.
function Faults:act(fault)
  local record = { kind = fault.kind, who = victim(self, fault), began = now() }
  local over = false
  self.pending = self.pending + 1
  self.done[#self.done + 1] = record
  local function done(happened)
    assert(not over)
    over = true
    record.ended = now()
    record.void = happened == false
    self.pending = self.pending - 1
    if record.void then
      miss(self, fault)
    end
  end
  if acts[fault.kind](self, fault, done) == false then
    done(false)
  end
end

-- Starts the list of the schedule now.
function Faults:start(list)
  for _, fault in ipairs(list) do
    self._after(fault.at, function()
      if not self.finished then
        self:act(fault)
      end
    end)
  end
end

-- Must be called often: starts the server again when it has stopped.
function Faults:look()
  local down = self.server_down
  if down and now() >= down.up_at and not uv.fs_stat(self.pg.dir .. "/data/postmaster.pid") then
    self.pg:up()
    self.server_down = false
    down.done()
  end
end

-- Returns the faults that happened.
function Faults:happened()
  local list = {}
  for _, record in ipairs(self.done) do
    if not record.void then
      list[#list + 1] = record
    end
  end
  return list
end

function Faults:close()
  self.finished = true
  for timer in pairs(self._timers) do
    loop.close(timer)
  end
  self._timers = {}
end

return Faults

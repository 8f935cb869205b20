-- The processes of a chaos run: workers and enqueuers, each behind a proxy of its own, and the watch.

local uv = require "luv"
local process = require "spec.support.process"
local Proxy = require "spec.chaos.proxy"

local Fleet = {}
Fleet.__index = Fleet

local SIGKILL = 9

local ARGS = { "--executors", "2", "--poll-interval", "250ms", "--grace", "15s" }
local LEASE = { "--lease", "5s", "--hold-limit", "500ms" }

local function conninfo(port, name)
  return ("host=127.0.0.1 port=%d dbname=postgres user=postgres sslmode=disable gssencmode=disable application_name=%s")
    :format(port, name)
end

local function read_file(path)
  local file = io.open(path)
  local text = file and file:read("*a")
  if file then
    file:close()
  end
  return text
end

-- A supervisor's memory in KiB, or nil.
local function resident(pid)
  local status = read_file(("/proc/%d/status"):format(pid))
  return status and tonumber(status:match "VmRSS:%s*(%d+)")
end

-- Parent and start time of a process, nil when there is none. A process that has ended and is not waited for is none.
local function stat(pid)
  local text = read_file(("/proc/%s/stat"):format(pid))
  local state, parent, rest = (text or ""):match "^%d+ %b() (%a) (%d+) (.*)$"
  if not state or state == "Z" or state == "X" then
    return nil
  end
  local fields = {}
  for field in rest:gmatch "%S+" do
    fields[#fields + 1] = field
  end
  return tonumber(parent), fields[18]
end

-- Fleet.new{ pg = server, workers =, enqueuers =, rate = jobs a second, seed =, logs = folder, leases = whether pgq-lua
-- knows --lease, direct = no proxies, script =, script_args =, args = other options of pgq-lua than those above,
-- on_kill = called with a worker that ended by a SIGKILL which this program did not send, instead of a complaint }
function Fleet.new(options)
  local self = setmetatable({ workers = {}, enqueuers = {}, executors_seen = {}, memory = {}, problems = {} }, Fleet)
  self.options = options
  for i = 1, options.workers do
    self.workers[i] = { number = i, starts = 0, proxy = not options.direct and Proxy.listen(options.pg.port) or nil }
  end
  for i = 1, options.enqueuers do
    self.enqueuers[i] = { number = i, proxy = Proxy.listen(options.pg.port) }
  end
  return self
end

-- Starts a worker that does not run. Its name is new each time.
function Fleet:start_worker(number)
  local worker, options = self.workers[number], self.options
  worker.starts = worker.starts + 1
  worker.name = ("w%d.%d"):format(number, worker.starts)
  local words = {
    "sh", "-c", 'exec "$@" >>"$CHAOS_LOG" 2>&1', "sh",
    os.getenv "PGQ_LUA", "--db", conninfo(worker.proxy and worker.proxy.port or options.pg.port, worker.name),
  }
  local script = { options.script or "spec/chaos/worker.lua", worker.name, conninfo(options.pg.port, "audit") }
  for _, list in ipairs { options.args or ARGS, options.leases and LEASE or {}, script, options.script_args or {} } do
    for _, word in ipairs(list) do
      words[#words + 1] = word
    end
  end
  words.env = { CHAOS_LOG = ("%s/w%d.log"):format(options.logs, number), DATABASE_URL = false }
  worker.process, worker.stopped, worker.killed = process.start(words), nil, nil
  worker.born = uv.hrtime()
  self.memory[worker.name] = {}
end

function Fleet:start()
  local options = self.options
  for i = 1, options.workers do
    self:start_worker(i)
  end
  for i, enqueuer in ipairs(self.enqueuers) do
    enqueuer.path = ("%s/acknowledged-%d"):format(options.logs, i)
    enqueuer.process = process.start {
      "luajit", "spec/chaos/enqueuer.lua", conninfo(enqueuer.proxy.port, "e" .. i), options.seed * 100 + i,
      options.rate / options.enqueuers, enqueuer.path, stdin = "pipe",
    }
  end
  self.watch = process.start {
    "luajit", "spec/chaos/watch.lua", conninfo(options.pg.port, "watch"), stdin = "pipe",
  }
end

-- The pids of a running worker's executors.
function Fleet:executors(number)
  local worker, pids = self.workers[number], {}
  local request = assert(uv.fs_scandir "/proc")
  for name in function() return uv.fs_scandir_next(request) end do
    if name:match "^%d+$" then
      local parent, born = stat(name)
      if parent == worker.process.pid then
        pids[#pids + 1] = tonumber(name)
        self.executors_seen[name] = { born = born, worker = worker.name }
      end
    end
  end
  table.sort(pids)
  return pids
end

function Fleet:is_up(number)
  local worker = self.workers[number]
  return worker.process and not worker.process._exit and not worker.killed
end

-- Must be called from time to time: reads the supervisors' memory, and notes processes that ended by themselves.
function Fleet:look()
  for number, worker in ipairs(self.workers) do
    local exit = worker.process and worker.process._exit
    if exit and not worker.killed then
      worker.killed = true
      if exit.signal == SIGKILL and self.options.on_kill then
        self.options.on_kill(worker)
      else
        self.problems[#self.problems + 1] = ("worker %s ended by itself: status %d, signal %d"):format(
          worker.name, exit.status, exit.signal)
      end
      self:start_worker(number)
    elseif not exit then
      local samples = self.memory[worker.name]
      samples[#samples + 1] = resident(worker.process.pid)
    end
  end
  for i, enqueuer in ipairs(self.enqueuers) do
    if enqueuer.process._exit and not enqueuer.told then
      enqueuer.told = true
      self.problems[#self.problems + 1] = ("enqueuer e%d ended by itself: %s"):format(i, enqueuer.process.stderr)
    end
  end
end

-- Ends the enqueuers. Returns how many jobs they tried to enqueue, and of how many they do not know whether they exist.
function Fleet:stop_enqueuers()
  local tried, unknown = 0, 0
  for _, enqueuer in ipairs(self.enqueuers) do
    enqueuer.process:close_stdin()
    local result = enqueuer.process:wait(30)
    enqueuer.told = true
    local t, u = result.stdout:match "tried (%d+) unknown (%d+)"
    assert(t, "an enqueuer failed: " .. result.stderr)
    tried, unknown = tried + t, unknown + u
  end
  return tried, unknown
end

-- Ends the workers by SIGTERM; one that does not exit with 0 is a problem.
function Fleet:stop_workers()
  for _, worker in ipairs(self.workers) do
    worker.process:kill("sigterm")
  end
  for _, worker in ipairs(self.workers) do
    local ok, result = pcall(worker.process.wait, worker.process, 25)
    worker.killed = true
    if not ok or result.status ~= 0 or result.signal ~= 0 then
      self.problems[#self.problems + 1] = ("worker %s did not stop by SIGTERM with status 0: %s"):format(
        worker.name, ok and ("status %d, signal %d"):format(result.status, result.signal) or result)
    end
  end
end

-- Returns executors that still run although their workers have ended.
function Fleet:orphans()
  local found = {}
  for pid, seen in pairs(self.executors_seen) do
    local parent, born = stat(pid)
    if parent and born == seen.born then
      found[#found + 1] = ("executor %s of %s has outlived its worker"):format(pid, seen.worker)
      uv.kill(tonumber(pid), "sigkill")
    end
  end
  return found
end

-- Reports of a sanitizer in the workers' logs, except about leaks: an executor that ends by os.exit frees nothing. That
-- a supervisor leaks shows in its status.
function Fleet:complaints()
  local found = {}
  for number in ipairs(self.workers) do
    local path = ("%s/w%d.log"):format(self.options.logs, number)
    for text in (read_file(path) or ""):gmatch "[^\n]+" do
      if text:find("ERROR: AddressSanitizer", 1, true) or text:find("runtime error: ", 1, true) then
        found[#found + 1] = ("w%d.log: %s"):format(number, text)
      end
    end
  end
  return found
end

-- Transactions seen by the watch: a list of { now =, worker =, age =, what = }, in seconds.
function Fleet:stop_watch()
  self.watch:close_stdin()
  self.watch:wait(20)
  local seen = {}
  for now, name, age, what in self.watch.stdout:gmatch "(%S+)\t(%S+)\t(%S+)\t([^\n]*)\n" do
    seen[#seen + 1] = { now = tonumber(now), worker = name, age = tonumber(age), what = what }
  end
  return seen
end

-- Kills all processes that still run, when the run was interrupted.
function Fleet:kill_all()
  for _, list in ipairs { self.workers, self.enqueuers, { { process = self.watch } } } do
    for _, member in ipairs(list) do
      if member.process then
        member.process:kill("sigkill")
      end
      if member.proxy then
        member.proxy:close()
      end
    end
  end
end

return Fleet

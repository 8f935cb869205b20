-- Runs a pgq-lua worker on a script that is given as a text.

local uv = require "luv"
local process = require "spec.support.process"

local Worker = {}

-- Folders of scripts, removed when all specs have run.
local folders = {}

-- Workers that Worker.kill_all ends.
local started = {}

local function write_file(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

-- Worker.start{ script = "Lua source", args = { options of pgq-lua }, script_args = {}, pg = server, env = {},
-- keep = true }: starts $PGQ_LUA on the script, with --db of the server (unless pg is nil), and returns the process of
-- spec/support/process.lua with three more: `script_path`, :stop() and :executors(). Worker.kill_all kills it unless
-- `keep` is set.
function Worker.start(options)
  local dir = assert(uv.fs_mkdtemp("/tmp/pgq-worker-XXXXXX"))
  folders[#folders + 1] = dir
  local path = dir .. "/worker.lua"
  write_file(path, options.script)
  local words = { os.getenv("PGQ_LUA"), env = options.env, cwd = options.cwd }
  if options.pg then
    words[#words + 1] = "--db"
    words[#words + 1] = options.pg.conninfo
  end
  for _, word in ipairs(options.args or {}) do
    words[#words + 1] = word
  end
  words[#words + 1] = path
  for _, word in ipairs(options.script_args or {}) do
    words[#words + 1] = word
  end

  local worker = process.start(words)
  worker.script_path = path
  if not options.keep then
    started[#started + 1] = worker
  end
  -- Asks it to stop and expects a clean end. Returns what :wait returns.
  function worker:stop(timeout)
    self:kill("sigterm")
    local result = self:wait(timeout)
    if result.status ~= 0 or result.signal ~= 0 then
      error("SIGTERM did not end in exit 0: " .. self:_describe(), 2)
    end
    return result
  end
  -- The process numbers of its executors.
  function worker:executors()
    local file = io.open(("/proc/%d/task/%d/children"):format(self.pid, self.pid))
    local pids = {}
    for pid in (file and file:read "*a" or ""):gmatch "%d+" do
      pids[#pids + 1] = tonumber(pid)
    end
    if file then
      file:close()
    end
    return pids
  end
  return worker
end

-- Worker.run{ … }: as Worker.start, for workers that end by themselves (--drain, a bad script). `timeout` in seconds.
function Worker.run(options)
  return Worker.start(options):wait(options.timeout)
end

-- Kills the workers that still run, and waits for their end.
function Worker.kill_all()
  for _, worker in ipairs(started) do
    if worker:kill "sigkill" then
      worker:wait()
    end
  end
  started = {}
end

function Worker.remove_scripts()
  for _, dir in ipairs(folders) do
    os.remove(dir .. "/worker.lua")
    uv.fs_rmdir(dir)
  end
  folders = {}
end

return Worker

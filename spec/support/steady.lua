-- The part of spec/steady that runs the test: luajit spec/support/steady.lua N COMMAND…

local ffi = require "ffi"
local uv = require "luv"

ffi.cdef [[
  int prctl(int option, unsigned long arg2, unsigned long arg3, unsigned long arg4, unsigned long arg5);
  int waitpid(int pid, int *status, int options);
]]

local PR_SET_CHILD_SUBREAPER, WNOHANG = 36, 1

-- A run goes on for a random time in the first range, and is then stopped for a time in the second range (ms).
local RUNS_MS, STOPS_MS = { 200, 1500 }, { 20, 200 }

-- How long the processes of a run may take to end after the run (ms): they stop servers and remove folders.
local LEFTOVERS_MS = 15000

local BUSY_LOOPS = 2

local me = uv.os_getpid()
local helpers = {} -- process numbers of the busy loops and of the current run: luv waits for them

-- All processes: { [pid] = { parent =, state = } }. A name may have spaces and parentheses, so it is read to its end.
local function all_processes()
  local found = {}
  local folder = uv.fs_scandir "/proc"
  for name in function() return uv.fs_scandir_next(folder) end do
    local file = name:find "^%d+$" and io.open("/proc/" .. name .. "/stat")
    if file then
      local state, parent = (file:read "*a" or ""):match ".*%) (%a) (%d+)"
      file:close()
      if state then
        found[tonumber(name)] = { parent = tonumber(parent), state = state }
      end
    end
  end
  return found
end

-- The processes of the current run: what descends from this process, without the busy loops. As a subreaper this
-- process becomes the parent of daemons, too; it also waits for those that have ended.
local function processes_of_run()
  local all, mine = all_processes(), {}
  local function is_mine(pid)
    local process = all[pid]
    return process and (process.parent == me or is_mine(process.parent)) or false
  end
  for pid, process in pairs(all) do
    if helpers[pid] ~= "busy" and is_mine(pid) then
      if process.state ~= "Z" then
        mine[pid] = process
      elseif process.parent == me and not helpers[pid] then
        ffi.C.waitpid(pid, nil, WNOHANG)
      end
    end
  end
  return mine
end

local function signal_all(processes, signal)
  for pid in pairs(processes) do
    uv.kill(pid, signal)
  end
end

local function spawn(kind, file, options, on_exit)
  local handle, pid
  handle, pid = uv.spawn(file, options, function(status, signal)
    helpers[pid] = nil
    handle:close()
    on_exit(status, signal)
  end)
  assert(handle, pid)
  helpers[pid] = kind
  return pid
end

local function start_busy_loops()
  for _ = 1, BUSY_LOOPS do
    spawn("busy", "setpriv", { args = { "--pdeathsig", "KILL", "luajit", "-e", "while true do end" } }, function() end)
  end
end

-- Stops and continues the run until the function that it returns is called.
local function disturb()
  local timer, stopped = uv.new_timer(), {}
  local stop
  local function continue()
    signal_all(stopped, "sigcont")
    stopped = {}
    timer:start(math.random(unpack(RUNS_MS)), 0, stop)
  end
  function stop()
    for pid, process in pairs(processes_of_run()) do
      if process.state ~= "T" and process.state ~= "t" and uv.kill(pid, "sigstop") then
        stopped[pid] = process
      end
    end
    timer:start(math.random(unpack(STOPS_MS)), 0, continue)
  end
  timer:start(math.random(unpack(RUNS_MS)), 0, stop)
  return function()
    signal_all(stopped, "sigcont")
    timer:close()
  end
end

-- Ends what the run has left, and returns how many processes that were.
local function end_leftovers()
  local deadline = uv.hrtime() + LEFTOVERS_MS * 1e6
  while next(processes_of_run()) and uv.hrtime() < deadline do
    uv.sleep(50)
  end
  local left, count = processes_of_run(), 0
  for _ in pairs(left) do
    count = count + 1
  end
  signal_all(left, "sigkill")
  return count
end

-- Runs the command once; returns whether it passed, and all that it printed.
local function run(command)
  local chunks, result = {}, nil
  local pipes = { uv.new_pipe(false), uv.new_pipe(false) }
  local pid = spawn("run", command[1], { args = { unpack(command, 2) }, stdio = { nil, unpack(pipes) } },
    function(status, signal)
      result = { passed = status == 0 and signal == 0 }
    end)
  assert(pid)
  for _, pipe in ipairs(pipes) do
    pipe:read_start(function(_, chunk) chunks[#chunks + 1] = chunk end)
  end
  local settle = disturb()
  while not result do
    uv.run "once"
  end
  settle()
  uv.run "nowait"
  for _, pipe in ipairs(pipes) do
    pipe:close()
  end
  uv.run "nowait"
  local left = end_leftovers()
  if left > 0 then
    chunks[#chunks + 1] = ("\n%d processes of the run did not end with it\n"):format(left)
  end
  return result.passed and left == 0, table.concat(chunks)
end

local function stop_at(signal, status)
  local handle = uv.new_signal()
  handle:start(signal, function()
    signal_all(processes_of_run(), "sigkill")
    os.exit(status)
  end)
  handle:unref()
end

io.stdout:setvbuf "line"
ffi.C.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
math.randomseed(os.time())
stop_at("sigint", 130)
stop_at("sigterm", 143)
start_busy_loops()

local runs, command, failed = tonumber(arg[1]), { unpack(arg, 2) }, {}
for i = 1, runs do
  local began = uv.hrtime()
  local passed, output = run(command)
  print(("run %d of %d: %s in %.1f s"):format(i, runs, passed and "passed" or "FAILED", (uv.hrtime() - began) / 1e9))
  if not passed then
    failed[#failed + 1] = i
    print(output)
  end
end
print(("%d of %d runs passed%s"):format(runs - #failed, runs,
  #failed > 0 and "; these failed: " .. table.concat(failed, ", ") or ""))
for pid, kind in pairs(helpers) do
  if kind == "busy" then
    uv.kill(pid, "sigkill")
  end
end
os.exit(#failed > 0 and 1 or 0)

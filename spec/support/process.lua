-- Child processes of specs: started without a shell, read as they write, and never waited for without a deadline.

local uv = require "luv"
local loop = require "spec.support.loop"

local process = {}

local Process = {}

-- How much of each stream an error shows.
local TAIL = 4000

-- The default timeout of waits, in seconds. It is for events that come at once unless something is wrong, so a long
-- timeout only delays failures, and a busy machine needs it.
local PATIENCE = 30

local SIGNAL_NAMES = { [1] = "SIGHUP", [2] = "SIGINT", [3] = "SIGQUIT", [6] = "SIGABRT", [9] = "SIGKILL",
  [11] = "SIGSEGV", [13] = "SIGPIPE", [15] = "SIGTERM" }

-- p.stdout and p.stderr: all that has been written so far, as a string.
function Process:__index(key)
  local stream = key == "stdout" and self._out or key == "stderr" and self._err
  if not stream then
    return Process[key]
  end
  if #stream.chunks > 1 then
    stream.chunks = { table.concat(stream.chunks) }
  end
  return stream.chunks[1] or ""
end

local function open_stream(pipe)
  local stream = { chunks = {}, position = 1, open = true }
  pipe:read_start(function(_, chunk)
    if chunk then
      stream.chunks[#stream.chunks + 1] = chunk
    else
      stream.open = false
      loop.close(pipe)
    end
  end)
  return stream
end

-- The inherited environment with `changes` applied; false removes a name. Only luajit gets the sanitizer's preload:
-- it loads instrumented modules without being instrumented itself. Instrumented programs also check for leaks.
local function environment(changes, is_luajit)
  local env = uv.os_environ()
  if env.PGQ_ASAN_LIBRARY and not is_luajit then
    env.LD_PRELOAD = nil
    env.ASAN_OPTIONS = env.ASAN_OPTIONS and env.ASAN_OPTIONS:gsub("detect_leaks=0", "detect_leaks=1")
  end
  for name, value in pairs(changes or {}) do
    env[name] = value or nil
  end
  local list = {}
  for name, value in pairs(env) do
    list[#list + 1] = name .. "=" .. value
  end
  return list
end

local function tail(text)
  return #text > TAIL and "…" .. text:sub(-TAIL) or text
end

-- A description of the process, for error messages.
function Process:_describe()
  local state = "still running"
  if self._exit then
    local signal = self._exit.signal
    state = signal ~= 0 and "ended by " .. (SIGNAL_NAMES[signal] or "signal " .. signal)
      or "exited with " .. self._exit.status
  end
  return ("%s, %s\n--- stdout\n%s\n--- stderr\n%s\n---"):format(
    self.command, state, tail(self.stdout), tail(self.stderr))
end

-- process.start{ "cmd", "arg", …, env = { NAME = "value" }, cwd =, input =, stdin =, outlive = }: starts cmd, found in
-- PATH or by its path, and returns it. `env` is added to the inherited environment, false removes a name. `input` is
-- written to its stdin, which is then closed; with `stdin = "pipe"` it stays open for :write. Otherwise stdin is
-- /dev/null. The process gets SIGKILL when the specs end before it does, unless `outlive` is set.
function process.start(options)
  local args = {}
  for i = 1, #options do
    args[i] = tostring(options[i])
  end
  local file = args[1]
  if options.outlive then
    table.remove(args, 1)
  else
    file, args = "setpriv", { "--pdeathsig", "KILL", "--", unpack(args) }
  end

  local stdin = (options.input or options.stdin == "pipe") and uv.new_pipe(false) or nil
  local stdout, stderr = uv.new_pipe(false), uv.new_pipe(false)
  local self = setmetatable({ command = table.concat(options, " ") }, Process)
  local handle, pid
  handle, pid = uv.spawn(file, {
    args = args,
    env = environment(options.env, options[1]:match("[^/]*$") == "luajit"),
    cwd = options.cwd,
    stdio = { stdin, stdout, stderr },
    detached = options.outlive,
  }, function(status, signal)
    self._exit = { status = status, signal = signal }
    loop.close(handle)
  end)
  if not handle then
    error(("cannot start %s: %s"):format(self.command, pid), 2)
  end
  self.pid = pid
  self._handle, self._stdin = handle, stdin
  self._out, self._err = open_stream(stdout), open_stream(stderr)
  if options.input then
    self:write(options.input)
    self:close_stdin()
  end
  return self
end

-- Writes to the stdin of a process started with `stdin = "pipe"`.
function Process:write(text)
  -- No error: the spec may be about a process that has closed its stdin.
  self._stdin:write(text, function() end)
end

function Process:close_stdin()
  local stdin = self._stdin
  stdin:shutdown(function() loop.close(stdin) end)
end

-- Sends a signal, by name ("sigterm", the default) or number. Returns false when the process has ended.
function Process:kill(signal)
  if self._exit then
    return false
  end
  return self._handle:kill(signal or "sigterm") ~= nil
end

function Process:is_running()
  uv.run("nowait")
  return self._exit == nil
end

-- Waits until one of the streams has the Lua pattern, behind the text that an earlier call found, and returns what
-- string.match would. With `stream` ("stdout" or "stderr") only that one is searched. Raises an error after `timeout`
-- seconds (30), or as soon as the process has ended without it.
function Process:read_until(pattern, timeout, stream)
  timeout = timeout or PATIENCE
  local function search(name, state)
    if stream and stream ~= name then
      return nil
    end
    local found = { self[name]:find(pattern, state.position) }
    if not found[1] then
      return nil
    end
    local match = self[name]:sub(found[1], found[2])
    state.position = found[2] + 1
    return found[3] and { unpack(found, 3, table.maxn(found)) } or { match }
  end
  local function look()
    return search("stdout", self._out) or search("stderr", self._err)
  end
  local found = loop.run_until(timeout, function()
    return look() or (self._exit and not self._out.open and not self._err.open and "ended")
  end)
  if type(found) == "table" then
    return unpack(found)
  end
  error(("waited %s for %q from %s"):format(
    found == "ended" and "until its end" or timeout .. "s", pattern, self:_describe()), 2)
end

-- Waits for the end, for at most `timeout` seconds (30). Returns { status =, signal =, stdout =, stderr = }; signal is
-- 0 unless a signal ended the process. If the process does not end, kills it and raises an error.
function Process:wait(timeout)
  timeout = timeout or PATIENCE
  if not loop.run_until(timeout, function() return self._exit end) then
    local seen = self:_describe()
    self:kill("sigkill")
    error(("waited %gs for the end of %s"):format(timeout, seen), 2)
  end
  -- A child of the process may keep the pipes open for longer.
  loop.run_until(1, function() return not self._out.open and not self._err.open end)
  return { status = self._exit.status, signal = self._exit.signal, stdout = self.stdout, stderr = self.stderr }
end

-- process.run{ … }: start and wait. `timeout` is in seconds (30); the other options are those of process.start.
function process.run(options)
  return process.start(options):wait(options.timeout)
end

-- process.check{ … }: as process.run, for commands that must succeed: returns stdout, or raises an error with all that
-- was seen.
function process.check(options)
  local child = process.start(options)
  local result = child:wait(options.timeout)
  if result.status ~= 0 or result.signal ~= 0 then
    error(child:_describe(), 2)
  end
  return result.stdout
end

return process

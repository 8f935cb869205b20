local uv = require "luv"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local Worker = require "spec.support.worker"

local PGQ_LUA = os.getenv("PGQ_LUA")

-- Stops the server and removes the folder, also when the specs are killed.
local GUARD = [[
cat >/dev/null
cd "$1" && "$2" dev stop
cd / && rm -rf "$1"]]

local function read_file(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

-- False for a process that has ended, whether or not its parent has asked for its status.
local function is_running(pid)
  return uv.fs_readlink(("/proc/%d/cwd"):format(pid)) ~= nil
end

local function write_file(path, text, mode)
  local file = assert(io.open(path, mode or "w"))
  file:write(text)
  file:close()
end

-- Runs `pgq-lua …` in the folder.
local function pgq(dir, ...)
  return process.run { cwd = dir, timeout = 120, PGQ_LUA, ... }
end

describe("pgq-lua dev", function()
  local top, dir, guard

  -- A folder as a checkout under a home of root: no other user may enter it, and its path is longer than that of a
  -- socket may be.
  setup(function()
    top = assert(uv.fs_mkdtemp("/tmp/pgq-dev-spec-XXXXXX"))
    dir = top .. "/a folder/" .. ("long"):rep(40)
    process.check { "mkdir", "-p", dir }
    guard = process.start { "sh", "-c", GUARD, "sh", dir, PGQ_LUA, stdin = "pipe", outlive = true, cwd = "/" }
  end)

  teardown(function()
    guard:close_stdin()
    guard:wait(60)
    process.check { "rm", "-rf", top }
  end)

  local function start()
    local result = pgq(dir, "dev", "start")
    assert.equal(0, result.status, result.stderr)
    return result
  end

  local function conninfo()
    local result = pgq(dir, "dev", "conninfo")
    assert.equal(0, result.status, result.stderr)
    return (result.stdout:gsub("\n$", ""))
  end

  local function server_pid()
    return tonumber((read_file(dir .. "/.pgq-dev/data/postmaster.pid"):match("^%d+")))
  end

  local function query(sql)
    return (process.check({ "psql", "-XAqtc", sql, "-d", conninfo() }):gsub("\n$", ""))
  end

  it("says that no server runs, and stops silently, if there is no .pgq-dev", function()
    local status = pgq(dir, "dev", "status")
    assert.equal("not running\n", status.stdout)
    assert.equal(3, status.status)
    assert.same({ status = 0, signal = 0, stdout = "", stderr = "" }, pgq(dir, "dev", "stop"))
    assert.is_nil(uv.fs_stat(dir .. "/.pgq-dev"))
  end)

  it("creates the database for a worker with --dev, with its tables", function()
    local worker = Worker.start {
      script = [[require("pgq").register_queue("greet", function(data) print("hello " .. data) end)]],
      args = { "--dev", "--poll-interval", "100ms" },
      cwd = dir,
    }
    wait.till("the table", 90, function()
      local result = pgq(dir, "--dev", "enqueue", "greet", "dev")
      return result.status == 0, result.stderr
    end)
    worker:read_until("hello dev", 60, "stdout")
    worker:stop()
  end)

  it("leaves the server running, which does not listen on the network, with its output in the log", function()
    start()
    local pid = server_pid()
    assert.equal("", query("show listen_addresses"))
    assert.equal("on", query("show fsync"))
    assert.equal(pid, server_pid())
    local log = uv.fs_realpath(dir .. "/.pgq-dev/log")
    for fd = 1, 2 do
      assert.equal(log, uv.fs_readlink(("/proc/%d/fd/%d"):format(pid, fd)))
    end
    -- If the server kept the pipe of its starter open, the starter's output could never be read to its end.
    assert.is_truthy(read_file(log):find("ready to accept connections", 1, true))
  end)

  it("runs the server as an unprivileged user, in a socket folder of its own", function()
    start()
    local socket = read_file(dir .. "/.pgq-dev/socket")
    local owner = assert(uv.fs_stat("/proc/" .. server_pid())).uid
    local status = assert(uv.fs_stat(socket))
    assert.not_equal(0, owner)
    assert.equal(owner, status.uid)
    assert.equal("0700", ("%04o"):format(status.mode % 512))
    assert.is_truthy(conninfo():find("host=" .. socket .. " ", 1, true))
  end)

  it("prints the status with the process number and the connection string", function()
    start()
    local result = pgq(dir, "dev", "status")
    assert.equal(("running, process %d: %s\n"):format(server_pid(), conninfo()), result.stdout)
    assert.equal(0, result.status)
  end)

  it("starts again after a kill -9, with all committed data", function()
    start()
    query("create table kept as select 7 as number")
    local pid = server_pid()
    uv.kill(pid, "sigkill")
    assert.equal("7", query("select number from kept"))
    assert.not_equal(pid, server_pid())
  end)

  it("restarts the server when /tmp was cleaned while it ran", function()
    start()
    local socket = read_file(dir .. "/.pgq-dev/socket")
    process.check { "rm", "-rf", socket }
    assert.equal("1", query("select 1"))
    assert.not_equal(socket, read_file(dir .. "/.pgq-dev/socket"))
  end)

  it("does not take another program for the server whose process id it got", function()
    start()
    local pid = server_pid()
    local owner = assert(uv.fs_stat("/proc/" .. pid)).uid
    uv.kill(pid, "sigkill")
    wait.till("the end of the server's processes", 30, function()
      return not is_running(pid)
    end)
    -- The process must belong to the same user, or Postgres would ignore it.
    local words = { "sleep", "600" }
    if uv.getuid() == 0 then
      words = { "setpriv", "--reuid", tostring(owner), "--clear-groups", "sleep", "600" }
    end
    local other = process.start(words)
    wait.till("the user of sleep", 30, function()
      return uv.fs_stat("/proc/" .. other.pid).uid == owner
    end)
    local path = dir .. "/.pgq-dev/data/postmaster.pid"
    write_file(path, (read_file(path):gsub("^%d+", tostring(other.pid))), "r+")
    local stopped = pgq(dir, "dev", "stop")
    assert.equal(0, stopped.status)
    assert.is_true(other:is_running())
    assert.equal("1", query("select 1"))
    assert.is_true(other:is_running())
    other:kill()
    other:wait()
  end)

  it("stops silently, removes the socket's folder, and may be called twice", function()
    start()
    local socket, pid = read_file(dir .. "/.pgq-dev/socket"), server_pid()
    for _ = 1, 2 do
      assert.same({ status = 0, signal = 0, stdout = "", stderr = "" }, pgq(dir, "dev", "stop"))
    end
    assert.is_nil(uv.fs_stat(socket))
    assert.is_false(is_running(pid))
    assert.equal(3, pgq(dir, "dev", "status").status)
  end)

  it("starts one server when three commands ask for it at once", function()
    local commands, answers = {}, {}
    for i = 1, 3 do
      commands[i] = process.start { PGQ_LUA, "dev", "conninfo", cwd = dir }
    end
    for i, command in ipairs(commands) do
      local result = command:wait(120)
      assert.equal(0, result.status, result.stderr)
      answers[i] = result.stdout
    end
    assert.equal(answers[1], answers[2])
    assert.equal(answers[1], answers[3])
  end)

  it("shows the end of the log and what to do when the server does not start", function()
    pgq(dir, "dev", "stop")
    local settings = dir .. "/.pgq-dev/data/postgresql.auto.conf"
    local before = read_file(settings)
    write_file(settings, "no_such_setting = 1\n", "a")
    local result = pgq(dir, "dev", "start")
    write_file(settings, before)
    assert.equal(1, result.status)
    assert.is_truthy(result.stderr:find('unrecognized configuration parameter "no_such', 1, true), result.stderr)
    assert.is_truthy(result.stderr:find("remove the folder .pgq-dev", 1, true), result.stderr)
  end)

  it("answers an unknown verb with the usage", function()
    local result = pgq(dir, "dev", "restart")
    assert.equal(2, result.status)
    assert.is_truthy(result.stderr:find("start|stop|status|conninfo", 1, true), result.stderr)
  end)
end)

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

  it("is reached whatever libpq's variables say about other servers", function()
    start()
    local env = { PGSERVICE = "nowhere", PGREQUIREPEER = "nobody-at-all", PGHOSTADDR = "192.0.2.1", PGSSLMODE = "require",
      PGOPTIONS = "-c no_such_setting=1", PGTARGETSESSIONATTRS = "standby", PGCHANNELBINDING = "require", PGHOST = "nowhere",
      PGPORT = "1", PGUSER = "nobody-at-all", PGDATABASE = "nowhere", PGREQUIREAUTH = "gss", PGGSSENCMODE = "require",
      PGSERVICEFILE = "/nowhere", PGCLIENTENCODING = "LATIN1" }
    local status = process.run { PGQ_LUA, "dev", "status", cwd = dir, env = env }
    assert.equal(0, status.status, status.stdout .. status.stderr)
    local enqueued = process.run { PGQ_LUA, "--dev", "enqueue", "greet", "env", cwd = dir, env = env }
    assert.equal(0, enqueued.status, enqueued.stderr)
    local worker = Worker.run { args = { "--dev", "--drain" }, cwd = dir, env = env, script = [[
      local pgq = require "pgq"
      pgq.register_queue("greet", function(data)
        print(data .. " " .. #assert(pgq.query "SELECT 1"), os.getenv "PGSERVICE")
      end)]] }
    assert.equal(0, worker.status, worker.stderr)
    assert.equal("env 1\tnil\n", worker.stdout)
  end)

  it("leaves a folder alone that stands in .pgq-dev/socket and is not the socket's folder", function()
    start()
    local socket = read_file(dir .. "/.pgq-dev/socket")
    local owner = assert(uv.fs_stat(socket))
    for _, name in ipairs { top .. "/precious", "/tmp/pgq-dev-Prec1o" } do
      process.check { "mkdir", "-m", "700", name }
      finally(function() process.check { "rm", "-rf", "/tmp/pgq-dev-Prec1o" } end)
      write_file(name .. "/.s.PGSQL.5432", "precious")
      assert(uv.fs_chown(name, owner.uid, owner.gid))
      write_file(dir .. "/.pgq-dev/socket", name)
      assert.equal(0, pgq(dir, "dev", "stop").status)
      assert.equal("precious", read_file(name .. "/.s.PGSQL.5432"))
      start()
    end
    process.check { "rm", "-rf", socket }
  end)

  it("answers an unknown verb with the usage", function()
    local result = pgq(dir, "dev", "restart")
    assert.equal(2, result.status)
    assert.is_truthy(result.stderr:find("start|stop|status|conninfo", 1, true), result.stderr)
  end)
end)

describe("a .pgq-dev that pgq-lua did not create here", function()
  local top

  before_each(function()
    top = assert(uv.fs_mkdtemp("/tmp/pgq-dev-spec-XXXXXX"))
    process.check { "mkdir", "-p", "-m", "700", top .. "/repo/.pgq-dev", top .. "/home/.ssh" }
    write_file(top .. "/home/.ssh/id", "key")
  end)

  after_each(function() process.check { "rm", "-rf", top } end)

  local function refuses(reason)
    for _, words in ipairs { { "dev", "stop" }, { "dev", "start" }, { "--dev", "enqueue", "q" } } do
      local result = pgq(top .. "/repo", unpack(words))
      assert.equal(1, result.status)
      assert.is_truthy(result.stderr:find(reason, 1, true), result.stderr)
    end
    assert.equal("key", read_file(top .. "/home/.ssh/id"))
  end

  it("is refused, and nothing that its file socket names is removed", function()
    write_file(top .. "/repo/.pgq-dev/socket", "../home/.ssh")
    refuses "was not created here by pgq-lua"
    write_file(top .. "/repo/.pgq-dev/socket", top .. "/home/.ssh")
    refuses "was not created here by pgq-lua"
  end)

  it("is refused with a cluster whose settings would run commands", function()
    local data = top .. "/repo/.pgq-dev/data"
    process.check { "mkdir", "-m", "700", data }
    write_file(data .. "/PG_VERSION", "15\n")
    write_file(data .. "/postgresql.conf", ("ssl = on\nssl_passphrase_command = 'rm %s/home/.ssh/id'\n"):format(top))
    write_file(data .. "/postmaster.pid", uv.os_getpid() .. "\n")
    refuses "was not created here by pgq-lua"
    write_file(top .. "/repo/.pgq-dev/created", "1 0.000000000\n")
    refuses "was not created here by pgq-lua"
  end)

  it("is refused when it is a link", function()
    process.check { "rmdir", top .. "/repo/.pgq-dev" }
    process.check { "ln", "-s", "../home/.ssh", top .. "/repo/.pgq-dev" }
    refuses "a link or a file"
    assert.is_nil(uv.fs_stat(top .. "/home/.ssh/lock"))
  end)

  it("is refused when it is a copy of one that pgq-lua has created, and when others may write to it", function()
    process.check { "rmdir", top .. "/repo/.pgq-dev" }
    process.check { "mkdir", top .. "/first" }
    assert.equal(0, pgq(top .. "/first", "dev", "start").status)
    finally(function()
      process.check { "chmod", "755", top .. "/first/.pgq-dev" }
      assert.equal(0, pgq(top .. "/first", "dev", "stop").status)
    end)
    process.check { "cp", "-a", top .. "/first/.pgq-dev", top .. "/repo/" }
    refuses "was not created here by pgq-lua"
    assert.equal(0, pgq(top .. "/first", "dev", "status").status)
    process.check { "chmod", "777", top .. "/first/.pgq-dev" }
    assert.matches("can be written by other users", pgq(top .. "/first", "dev", "start").stderr)
  end)
end)

local uv = require "luv"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

local scripts = {}

-- Writes a worker's script, which is removed after the test, and returns its path.
local function script_file(text)
  local path = os.tmpname()
  scripts[#scripts + 1] = path
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  return path
end

-- Whether this command succeeds here: namespaces and cgroups need root, and a kernel that has them.
local function works(...)
  local result = process.run { ... }
  return result.status == 0 and result.signal == 0
end

local QUIET = 'local pgq = require "pgq" pgq.register_queue("q", function() end)'

describe("a worker in a container", function()
  local pg = fixture.server()
  local has_namespaces = works("unshare", "--fork", "--pid", "--mount-proc", "true")

  after_each(function()
    for _, path in ipairs(scripts) do os.remove(path) end
    scripts = {}
  end)

  -- Starts the worker as process 1 of a PID namespace, behind the words of a shell command. Its process is found by
  -- its parent.
  local function start_as_1(script, ...)
    if not has_namespaces then
      pending "PID namespaces need root"
    end
    local words = { "unshare", "--fork", "--pid", "--mount-proc", PGQ_LUA, "--db", pg.conninfo, "--executors", "1",
      "--poll-interval", "100ms", ... }
    words[#words + 1] = script_file(script)
    return process.start(words)
  end

  local function child_of(pid)
    local child
    wait.till("the worker", 20, function()
      child = tonumber((process.run { "pgrep", "-P", pid }.stdout:match "%d+"))
      return child
    end)
    return child
  end

  it("runs as process 1, and drains its queue", function()
    pg:psql "SELECT pgq_enqueue('q', '')"
    local result = start_as_1(QUIET, "--drain"):wait()
    assert.equal(0, result.status, result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  for _, signal in ipairs { "TERM", "INT", "QUIT" } do
    it("stops as process 1 on SIG" .. signal, function()
      local unshare = start_as_1(QUIET)
      unshare:read_until "worker is serving"
      process.check { "kill", "-" .. signal, child_of(unshare.pid) }
      local result = unshare:wait()
      assert.equal(0, result.status, result.stderr)
      assert.matches("stopping reason=SIG" .. signal, result.stderr)
    end)
  end

  it("as process 1 reaps the orphans of its handlers, and still sees its executors die", function()
    local unshare = start_as_1([[
      local pgq = require "pgq"
      pgq.register_queue("orphans", function()
        os.execute "for i in 1 2 3 4 5; do setsid sleep 0.$i & done"
      end)
      pgq.register_queue("crash", function() os.exit(3) end)]])
    unshare:read_until "worker is serving"
    pg:psql "SELECT pgq_enqueue('orphans', ''); SELECT pgq_enqueue('crash', '')"
    unshare:read_until "an executor died.*exited with status 3"
    pg:psql "SELECT pgq_enqueue('orphans', '')"
    local worker = child_of(unshare.pid)
    wait.till("one child, alive", 20, function()
      local children = process.run { "ps", "-o", "stat=,args=", "--ppid", worker }.stdout
      local _, count = children:gsub("\n", "")
      local left = pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'orphans'"
      return left == "0" and count == 1 and not children:find "^Z", children
    end)
    process.check { "kill", worker }
    assert.equal(0, unshare:wait().status)
  end)

  it("runs where there is no /proc", function()
    if not works("unshare", "--mount", "umount", "-l", "/proc") then
      pending "mount namespaces need root"
    elseif os.getenv "PGQ_ASAN_LIBRARY" then
      pending "the sanitizer needs /proc"
    end
    local path = script_file(QUIET)
    pg:psql "SELECT pgq_enqueue('q', '')"
    local result = process.run { "unshare", "--mount", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", PGQ_LUA, "--db",
      pg.conninfo, "--drain", "--executors", "2", path }
    assert.equal(0, result.status, result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  -- Each of these lines of Python forbids memory that is written and then executed.
  for name, python in pairs {
    ["prctl(PR_SET_MDWE)"] = "libc.prctl(65, 1, 0, 0, 0) and sys.exit(99)",
    -- A filter of system calls as systemd makes one: mprotect and pkey_mprotect with PROT_EXEC fail with EPERM.
    ["MemoryDenyWriteExecute"] = [[
      F = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *i) for i in (
        (0x20, 0, 0, 0), (0x15, 0, 3, 10), (0x20, 0, 0, 32), (0x45, 0, 1, 4), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7fff0000))))
      P = ctypes.create_string_buffer(struct.pack("@HP", 6, ctypes.addressof(F)))
      libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, P, 0, 0) and sys.exit(99)]],
  } do
    it("runs its handlers without LuaJIT's compiler under " .. name, function()
      local path = script_file [[
        local pgq = require "pgq"
        jit.on()
        pgq.register_queue("q", function()
          local sum = 0
          for i = 1, 1e6 do sum = sum + i % 7 end
          print(sum, jit.status())
        end)]]
      pg:psql "SELECT pgq_enqueue('q', '')"
      local result = process.run { "python3", "-c", "import ctypes, os, struct, sys\nlibc = ctypes.CDLL(None)\n"
        .. python:gsub("%f[^%z\n]%s+", "") .. "\nos.execv(sys.argv[1], sys.argv[1:])", PGQ_LUA, "--db", pg.conninfo,
        "--drain", "--executors", "1", path }
      if result.status == 99 then
        pending "the kernel does not have it"
      end
      assert.equal(0, result.status, result.stderr)
      assert.matches("^2999998\tfalse", result.stdout, nil, false, result.stderr)
      assert.matches("LuaJIT's compiler is off", result.stderr)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end

  describe("with a CPU limit", function()
    -- Runs a worker to its end under the words, and returns the number of executors in its log.
    local function executors(...)
      local path = script_file(QUIET)
      local words = { ... }
      for _, word in ipairs { PGQ_LUA, "--db", pg.conninfo, "--drain", path } do
        words[#words + 1] = word
      end
      local result = process.run(words)
      assert.equal(0, result.status, result.stderr)
      return tonumber(result.stderr:match "worker is serving.-executors=(%d+)")
    end

    -- Makes a cgroup whose quota is half a core, in whichever version is here, and returns its folder.
    local function half_a_core()
      local v1, v2 = "/sys/fs/cgroup/cpu", "/sys/fs/cgroup"
      for _, try in ipairs { { v1, "cpu.cfs_quota_us", "50000" }, { v2, "cpu.max", "50000 100000" } } do
        local folder = ("%s/pgq-spec-%d"):format(try[1], uv.os_getpid())
        if uv.fs_mkdir(folder, 448) then
          local file = io.open(folder .. "/" .. try[2], "w")
          if file and file:write(try[3]) and file:close() then
            return folder
          end
          uv.fs_rmdir(folder)
        end
      end
    end

    it("has one executor in a cpuset of one core", function()
      if not works("taskset", "-c", "0", "true") then
        pending "taskset does not work here"
      end
      assert.equal(1, executors("taskset", "-c", "0"))
    end)

    it("has one executor for a quota of half a core, also in a group below", function()
      local folder = half_a_core()
      if not folder then
        pending "no cgroup can be made here"
      end
      local below = folder .. "/below"
      finally(function()
        uv.fs_rmdir(below)
        uv.fs_rmdir(folder)
      end)
      assert.equal(1, executors("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', folder))
      if uv.fs_mkdir(below, 448) then
        assert.equal(1, executors("sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', below))
      end
    end)
  end)

  describe("with a limit on open files", function()
    it("raises the soft limit as far as it needs", function()
      pg:psql "SELECT pgq_enqueue('q', '')"
      local result = process.run { "sh", "-c", 'ulimit -Sn 24; exec "$@"', "sh", PGQ_LUA, "--db", pg.conninfo, "--drain",
        "--executors", "8", script_file(QUIET) }
      assert.equal(0, result.status, result.stderr)
      assert.matches("executors=8", result.stderr)
      assert.is_nil(result.stderr:find "level=warn", result.stderr)
    end)

    for _, limit in ipairs { 24, 30, 40 } do
      it("of " .. limit .. " starts fewer executors, says so, and ends a drain", function()
        pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 100)"
        local result = process.run { "sh", "-c", ('ulimit -n %d; exec "$@"'):format(limit), "sh", PGQ_LUA, "--db",
          pg.conninfo, "--drain", "--executors", "16", script_file(QUIET) }
        assert.equal(0, result.status, result.stderr)
        assert.matches("the limit on open files allows fewer executors.*limit=" .. limit .. " executors=%d+ wanted=16",
          result.stderr)
        assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
      end)
    end
  end)

  it("drains with the executors that it gets under a limit on processes, which does not apply to root", function()
    local words, user = Postgres.as_user()
    local path, program = script_file(QUIET), os.tmpname()
    finally(function() os.remove(program) end)
    process.check { "cp", PGQ_LUA, program }
    process.check { "chmod", "755", program, path }
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 100)"
    -- Threads count too. The server runs as that user.
    local count = "ps -L -u " .. (user ~= "" and user or uv.getuid()) .. " -o pid= | wc -l"
    local running = tonumber(process.check { "sh", "-c", count })
    for _, word in ipairs { "prlimit", "--nproc=" .. running + 20, program, "--db", pg.conninfo, "--drain", "--executors",
      "16", path } do
      words[#words + 1] = word
    end
    local result = process.run(words)
    assert.equal(0, result.status, result.stderr)
    assert.matches("cannot start an executor", result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("drains with the connections that it gets", function()
    pg:psql [[DO $$ BEGIN CREATE ROLE few LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;
      ALTER ROLE few CONNECTION LIMIT 2;
      GRANT SELECT, INSERT, UPDATE, DELETE ON pgq_jobs, pgq_workers, pgq_attempts, pgq_stats, pgq_queues TO few]]
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 100)"
    local result = Worker.run { script = QUIET, args = { "--db", pg.conninfo .. " user=few", "--drain", "--executors", "4" } }
    assert.equal(0, result.status, result.stderr)
    assert.matches("too many connections for role", result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)
end)

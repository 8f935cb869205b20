local fixture = require "spec.support.fixture"

local HEAD = [[
  local pgq, ffi, uv = require "pgq", require "ffi", require "luv"
  ffi.cdef "int chdir(const char *); unsigned umask(unsigned); char *setlocale(int, const char *);"
  ffi.cdef "int getpid(void); void *signal(int, void *); int raise(int); unsigned alarm(unsigned); int fesetround(int);"
  ffi.cdef "int fegetround(void); int open(const char *, int, ...); int dup2(int, int); int close(int); int nice(int);"
  ffi.cdef "struct limit { unsigned long current, most; }; int setrlimit(int, struct limit *); int getrlimit(int, struct limit *);"
  ffi.cdef "int sigprocmask(int, const unsigned long *, unsigned long *); int setenv(const char *, const char *, int);"
  ffi.cdef "int clearenv(void); long syscall(long, ...); int snprintf(char *, size_t, const char *, ...); int getuid(void);"
  ffi.cdef "int setresuid(unsigned, unsigned, unsigned); int fcntl(int, int, ...); int seteuid(unsigned); void *stdout; int fclose(void *);"
  local C = ffi.C
  local function link(path) return uv.fs_readlink(path) or "nothing" end
  local function limit(which) local l = ffi.new "struct limit" C.getrlimit(which, l) return tostring(l.current) end
  local function blocked() local m = ffi.new "unsigned long[16]" C.sigprocmask(0, nil, m) return tostring(m[0]) end
  local function handler(sig) local file = io.open "/proc/self/status" local text = file:read "*a" file:close()
    return text:match "SigIgn:%s*(%x+)" .. text:match "SigCgt:%s*(%x+)" end
  local function number() local b = ffi.new "char[32]" C.snprintf(b, 32, "%.1f", ffi.cast("double", 1.5)) return ffi.string(b) end
]]

-- What a handler sets for the whole process or the whole Lua state, for each: what it does, and an expression for what
-- another job sees. `waits`: true in the handler after it has waited; `lost`: whether it cannot be set back; `fails`: the
-- handler fails.
local CASES = {
  { "a debug hook", [[debug.sethook(function() error "hooked" end, "", 1000) for _ = 1, 1e5 do tostring(1) end]], "debug.gethook() == nil" },
  { "a debug hook of calls", [[debug.sethook(function() end, "crl")]], "tostring((debug.gethook()))", waits = [[debug.gethook() ~= nil]] },
  { "a debug hook in a coroutine of its own", [[coroutine.wrap(function() debug.sethook(function() error "hooked" end, "c") end)()]],
    "tostring((debug.gethook()))", fails = true },
  { "the working directory", [[C.chdir "/"]], "uv.cwd()", waits = [[uv.cwd() == "/"]] },
  { "the working directory, with luv", [[uv.chdir "/"]], "uv.cwd()", waits = [[uv.cwd() == "/"]] },
  { "a working directory that is deleted then", [[uv.fs_mkdir("/tmp/gone" .. C.getpid(), 448) uv.chdir("/tmp/gone" .. C.getpid())
    uv.fs_rmdir("/tmp/gone" .. C.getpid())]], "uv.cwd()" },
  { "the file mode mask", [[C.umask(63)]], "(function() local m = C.umask(18) C.umask(m) return m end)()" },
  { "the locale", [[assert(os.setlocale "C.UTF-8" or os.setlocale "C.utf8")]], "os.setlocale()", waits = [[os.setlocale():match "UTF"]] },
  { "how numbers are rounded", [[C.fesetround(0x800)]], "C.fegetround()" },
  { "an ignored signal", [[C.signal(10, ffi.cast("void *", 1))]], "handler()" },
  { "an ignored SIGCHLD", [[C.signal(17, ffi.cast("void *", 1))]], "handler()" },
  { "SIGTERM that ends it", [[C.signal(15, nil)]], "handler()" },
  { "SIGTERM after luv has watched it", [[local s = uv.new_signal() s:start("sigterm", function() end) s:stop() s:close()]], "handler()" },
  { "blocked signals", [[C.sigprocmask(2, ffi.new("unsigned long[16]", {0x7fffffff}), nil)]], "blocked()" },
  { "an alarm", [[C.alarm(1)]], "C.alarm(0)" },
  { "the environment", [[C.setenv("HOME", "/nowhere", 1) C.setenv("LEFT", "1", 1)]], [[os.getenv "HOME" .. tostring(os.getenv "LEFT")]],
    waits = [[os.getenv "LEFT" == "1"]] },
  { "an empty environment", [[C.clearenv()]], [[os.getenv "HOME"]] },
  { "a variable, with luv", [[uv.os_setenv("LEFT", "1")]], [[tostring(os.getenv "LEFT")]] },
  { "stdout that is another file", [[local fd = C.open("/dev/null", 1) C.dup2(fd, 1) C.close(fd)]], [[link "/proc/self/fd/1"]] },
  { "closed standard streams", [[C.close(0) C.close(1) C.close(2)]], [[link "/proc/self/fd/0" .. link "/proc/self/fd/1" .. link "/proc/self/fd/2"]] },
  { "the closed socket of the supervisor", [[C.close(3)]], [[link "/proc/self/fd/3"]] },
  { "standard streams that children do not get", [[uv.disable_stdio_inheritance()]], "C.fcntl(1, 1) .. C.fcntl(2, 1)" },
  { "io.output", [[io.output "/dev/null"]], "tostring(io.output() == io.stdout)", waits = "io.output() ~= io.stdout" },
  { "io.input", [[io.input "/dev/null"]], "tostring(io.input() == io.stdin)" },
  { "a buffer of stdout", [[io.stdout:setvbuf("full", 65536) io.write "kept\n"]], "'-'" },
  { "a limit of open files", [[local l = ffi.new "struct limit" C.getrlimit(7, l) l.most = l.most - 1 l.current = 20
    assert(C.setrlimit(7, l) == 0)]], "limit(7)", lost = "perhaps" },
  { "a limit of core files", [[local l = ffi.new "struct limit" C.getrlimit(4, l) l.current = l.current == 0 and l.most or 0 C.setrlimit(4, l)]], "limit(4)" },
  { "the priority", [[C.nice(3)]], "uv.os_getpriority(0)", lost = "perhaps" },
  { "the priority, with luv", [[uv.os_setpriority(0, 7)]], "uv.os_getpriority(0)", lost = "perhaps" },
  { "the user", [[assert(C.setresuid(65534, 65534, 65534) == 0)]], "C.getuid()", lost = "if_root" },
  { "stdout that fclose() has closed", [[C.fclose(C.stdout)]], [[link "/proc/self/fd/1"]], lost = true },
  { "a stopped garbage collector", [[collectgarbage "stop"]], "'-'" },
  { "a lazy garbage collector", [[collectgarbage("setpause", 100000)]], "collectgarbage('setpause', 200)" },
  { "the compiler switched off", [[jit.off()]], "tostring(jit.status())" },
  { "options of the compiler", [[jit.opt.start "hotloop=10000"]], "'-'", lost = true },
  { "a metatable of nil", [[debug.setmetatable(nil, { __index = function() return 1 end })]], "tostring(debug.getmetatable(nil))",
    waits = "(nil).x == 1" },
  { "no metatable of strings", [[debug.setmetatable("", nil)]], "tostring(debug.getmetatable('') ~= nil)" },
  { "a metatable of numbers", [[debug.setmetatable(0, { __index = { x = 1 } })]], "tostring(debug.getmetatable(0))" },
  { "the seed of math.random", [[math.randomseed(42)]], "'-'" },
}

describe("what a handler leaves behind", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg, { head = HEAD })
  local is_root = io.popen("id -u"):read "*n" == 0

  local function count(text, pattern)
    return select(2, text:gsub(pattern, ""))
  end

  -- Without the right to do so, a limit or a priority cannot be set back.
  local function is_lost(case, pids)
    return case.lost == true or (case.lost == "if_root" and is_root) or (case.lost == "perhaps" and pids[1] ~= pids[2])
  end

  -- The handler of all jobs: those whose data is empty tell what they see, the others call the function of that name.
  local LOOKS = [[
    local handlers = {}
    pgq.register_queue("q", function(data, job)
      if data ~= "" then return handlers[data](data, job) end
      local seen = tostring(%s)
      io.stderr:write("look " .. C.getpid() .. " " .. seen .. "\n")
    end)]]

  -- The executors and the values that the jobs saw, in the order of the lines.
  local function looks(result)
    local pids, values = {}, {}
    for pid, value in result.stderr:gmatch "look (%d+) ([^\n]*)\n" do
      pids[#pids + 1], values[#values + 1] = pid, value
    end
    return pids, values
  end

  for _, case in ipairs(CASES) do
    it(case[1] .. ": the next job finds the settings that the first one did", function()
      enqueue "q"
      enqueue("q", "leaves")
      enqueue("q", "", 3)
      local result = drain((LOOKS .. [[ function handlers.leaves() %s end]]):format(case[3], case[2]))
      local pids, values = looks(result)
      assert.equal(4, #values, result.stderr)
      assert.same({ values[1], values[1], values[1], values[1] }, values, result.stderr)
      assert.equal(case.fails and "1" or "0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
      assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
      if is_lost(case, pids) then
        assert.is_true(pids[1] ~= pids[2], result.stderr)
        assert.equal(1, count(result.stderr, 'level=warn msg="a job has changed what its executor cannot set back'), result.stderr)
        assert.matches("job=2", result.stderr)
      else
        assert.equal(pids[1], pids[4], result.stderr)
        assert.equal(1, count(result.stderr, "job 2 has left settings changed"), result.stderr)
      end
    end)
  end

  for _, case in ipairs(CASES) do
    if case.waits then
      it(case[1] .. ": a handler that waits keeps its own, and other jobs do not see them", function()
        enqueue "q"
        enqueue("q", "leaves", 3)
        enqueue("q", "", 2)
        local result = drain((LOOKS .. [[
          function handlers.leaves()
            %s
            for _ = 1, 3 do
              pgq.sleep(0.02)
              assert(%s, "its own setting is gone")
            end
          end]]):format(case[3], case[2], case.waits))
        local _, values = looks(result)
        assert.same({ values[1], values[1], values[1] }, values, result.stderr)
        assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
      end)
    end
  end

  it("and the first one kept its settings of the script", function()
    enqueue("q", "leaves")
    enqueue "q"
    local result = drain((LOOKS .. [[
      os.setlocale "C.UTF-8" uv.chdir "/tmp" debug.sethook(function() end, "", 1000000)
      function handlers.leaves() os.setlocale "C" uv.chdir "/" debug.sethook() end]])
      :format "os.setlocale() .. uv.cwd() .. tostring(debug.gethook() ~= nil)")
    assert.matches("look %d+ C.UTF%-8/tmptrue", result.stderr)
  end)

  it("is found without a call of the C library, within a tenth of a second", function()
    if jit.arch ~= "x64" then
      return pending "the numbers of system calls are those of x86-64"
    end
    enqueue("q", "leaves")
    enqueue("q", "waits")
    enqueue "q"
    local result = drain((LOOKS .. [[
      function handlers.waits() uv.sleep(100) end
      function handlers.leaves() C.syscall(80, "/") end]]):format "uv.cwd() ~= '/'")
    assert.matches("look %d+ true", result.stderr)
  end)

  it("does not disturb a thousand jobs that wait, of which one has settings of its own", function()
    enqueue("q", "", 1000)
    enqueue("q", "leaves", 20)
    enqueue("q", "", 100)
    local result = drain([[
      local home = uv.cwd()
      pgq.register_queue("q", function(data, job)
        if data == "" then
          for _ = 1, 3 do assert(uv.cwd() == home) pgq.sleep(0.1) end
          return
        end
        local own = job.id % 2 == 0 and "/" or "/tmp"
        uv.chdir(own)
        for _ = 1, 3 do assert(uv.cwd() == own) pgq.sleep(0.03) end
      end)]], "--concurrency", "1200")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
  end)

  it("that cannot be set back ends its executor in good order: no other job is charged or run twice", function()
    enqueue("q", "", 50)
    enqueue("q", "leaves")
    enqueue("q", "", 50)
    local result = drain([[
      pgq.register_queue("q", function(data, job)
        if data ~= "" then return jit.opt.start "hotloop=100" end
        pgq.sleep(0.3)
        io.stderr:write("ran " .. job.id .. "\n")
      end)]], "--concurrency", "100")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    assert.equal(100, count(result.stderr, "ran %d+"), result.stderr)
    assert.is_nil(result.stderr:find("died", 1, true))
  end)

  it("cannot take from the worker what it needs: its functions, modules and metatables", function()
    enqueue("breaks")
    enqueue("waits", "", 20)
    local result = drain [[
      pgq.register_queue("breaks", function()
        for name in pairs(package.loaded) do if name:match "^pgq" or name == "luv" then package.loaded[name] = nil end end
        for _, library in ipairs { string, table, math, coroutine, debug, os, io, bit, jit } do
          for name in pairs(library) do library[name] = nil end
        end
        package.preload, package.loaders, package.searchers = nil, nil, nil
        getmetatable("").__index = nil
        for name in pairs(_G) do if name ~= "_G" then _G[name] = nil end end
        setmetatable(_G, { __index = function() error "strict" end, __newindex = function() error "strict" end })
      end)
      pgq.register_queue("waits", function(data, job)
        pgq.sleep(0.01)
        pgq.query "SELECT 1"
        return nil, "as it should be"
      end)]]
    assert.equal("20", pg:psql "SELECT count(*) FROM pgq_jobs WHERE error = 'as it should be' AND queue_name = 'waits'", result.stderr)
  end)

  it("can be a module of pgq that was unloaded: it is the same one when it is loaded again", function()
    enqueue("unloads", "", 3)
    local result = drain [[
      pgq.register_queue("unloads", function()
        for name in pairs(package.loaded) do if name:match "^pgq" or name == "luv" then package.loaded[name] = nil end end
        assert(require "pgq" == pgq)
        assert(require "luv" == uv)
        require "pgq".sleep(0.01)
        assert(require "pgq".query "SELECT 1")
      end)]]
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
  end)

  it("in a worker that goes on: every queue still works after all of that", function()
    local script = { 'pgq.register_queue("last", function() print "the end" end)' }
    for i, case in ipairs(CASES) do
      enqueue("q" .. i, "", 2)
      script[#script + 1] = ('pgq.register_queue("q%d", function(data, job) %s end)'):format(i, case[2])
    end
    enqueue("last", "", 20)
    local worker = start(table.concat(script, "\n"), "--poll-interval", "100ms")
    for _ = 1, 20 do
      worker:read_until "the end"
    end
    worker:stop()
    assert.is_nil(worker.stderr:find("executor died", 1, true), worker.stderr)
  end)
end)

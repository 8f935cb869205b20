local fixture = require "spec.support.fixture"

-- The child of a handler that forks has a copy of the executor. None of the executor's code may run in it: not at its
-- exit, not when its handler returns, and not through what it shares with its parent.
describe("a handler that forks: the parent's jobs run once, and its executor lives on, when the child", function()
  local pg = fixture.server()
  local HEAD = [[
    local pgq, ffi = require "pgq", require "ffi"
    ffi.cdef "int fork(void); int waitpid(int, int *, int); long syscall(long, ...);"
    ffi.cdef "long write(int, const char *, size_t); int close(int);"
    local status = ffi.new "int[1]"
    local function fork(child)
      local pid = ffi.C.fork()
      if pid == 0 then return child() end
      ffi.C.waitpid(pid, status, 0)
      print("status " .. bit.rshift(status[0], 8))
    end
  ]]
  local enqueue = fixture.enqueuer(pg)
  -- A child looks for no leaks when it exits: another thread of its parent may have been in the sanitizer's allocator,
  -- whose lock then stays locked in the child.
  local _, drain = fixture.workers(pg, { head = HEAD, env = { ASAN_OPTIONS = os.getenv "ASAN_OPTIONS" } })

  -- Runs six jobs whose handlers fork, among others. Returns what drain returned.
  local function run(child)
    for _ = 1, 6 do
      enqueue "forks"
      enqueue("other", "", 5)
    end
    local result = drain(([[
      pgq.register_queue("other", function(data, job) print("other " .. job.id) end)
      pgq.register_queue("forks", function(data, job)
        local parent = true
        local function child() parent = false %s end
        local result, message = fork(child)
        if parent then print("parent " .. job.id) end
        return result, message
      end)]]):format(child))
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
    assert.equal(6, select(2, result.stdout:gsub("parent %d+\n", "")), result.stdout)
    assert.equal(30, select(2, result.stdout:gsub("other %d+\n", "")), result.stdout)
    return result
  end

  local function count(text, pattern)
    return select(2, text:gsub(pattern, ""))
  end

  it("calls os.exit", function()
    assert.equal(6, count(run("os.exit(3)").stdout, "status 3\n"))
  end)

  it("calls os.exit, which also closes the Lua state", function()
    assert.equal(6, count(run("os.exit(0, true)").stdout, "status 0\n"))
  end)

  it("returns from the handler", function()
    assert.equal(6, count(run("return").stdout, "status 0\n"))
  end)

  it("fails", function()
    local result = run "return nil, 'only the child'"
    assert.equal(6, count(result.stdout, "status 1\n"))
    assert.equal(6, count(result.stderr, "a process that a handler has forked ends: only the child"))
  end)

  it("raises an error", function()
    assert.equal(6, count(run("error 'in the child'").stdout, "status 1\n"))
  end)

  it("waits", function()
    local result = run "pgq.sleep(0.01) print 'never'"
    assert.equal(6, count(result.stdout, "status 1\n"))
    assert.equal(6, count(result.stderr, "its handler waits, and it has no loop"))
  end)

  it("stops the worker, and logs", function()
    run "pgq.stop()"
  end)

  it("writes to the descriptors of the executor, and closes them", function()
    run [[for fd = 3, 30 do ffi.C.write(fd, "\255\255\255\255\255\255\255\255", 8) end
      for fd = 3, 30 do ffi.C.close(fd) end os.exit(0)]]
  end)

  it("was made by another system call than fork()", function()
    if jit.arch ~= "x64" then
      return pending "the numbers of system calls are those of x86-64"
    end
    enqueue("raw", "", 6)
    local result = drain [[
      pgq.register_queue("raw", function()
        local pid = tonumber(ffi.C.syscall(57))
        if pid == 0 then return end
        ffi.C.waitpid(pid, status, 0)
        print("status " .. status[0])
      end)]]
    assert.equal(6, count(result.stdout, "status 0\n"), result.stdout)
    assert.is_nil(result.stderr:find "executor died")
  end)

  it("shares its memory, and ends", function()
    run "require 'luv' os.execute 'true' os.exit(0)"
  end)

  it("uses a connection of its parent, or ends its Lua state with it", function()
    enqueue("sql", "", 3)
    local result = drain([[
      local own = assert(pgq.connect())
      pgq.register_queue("sql", function()
        local before = assert(pgq.query "SELECT pg_backend_pid() AS pid")[1].pid
        local own_before = assert(own:query "SELECT pg_backend_pid() AS pid")[1].pid
        for _, call in ipairs { function() return own:query "SELECT 1" end, function() collectgarbage() end } do
          local pid = ffi.C.fork()
          if pid == 0 then
            local rows, message = call()
            if message then io.stderr:write(message .. "\n") end
            os.exit(0, true)
          end
          ffi.C.waitpid(pid, status, 0)
        end
        assert(assert(own:query "SELECT pg_backend_pid() AS pid")[1].pid == own_before)
        assert(assert(pgq.query "SELECT pg_backend_pid() AS pid")[1].pid == before)
        print "same sessions"
      end)]], "--concurrency", "1")
    assert.equal(3, count(result.stdout, "same sessions"), result.stdout .. result.stderr)
    assert.equal(3, count(result.stderr, "belongs to the process that has forked this one"), result.stderr)
  end)

  it("closes the handles of its copy of the loop", function()
    enqueue("handles", "", 3)
    local result = drain [[
      local uv = require "luv"
      pgq.register_queue("handles", function()
        local server = uv.new_tcp()
        server:bind("127.0.0.1", 0)
        server:listen(1, function() local peer = uv.new_tcp() server:accept(peer) peer:close() server:close() end)
        pgq.sleep(0.01)
        local pid = ffi.C.fork()
        if pid == 0 then server:close() os.exit(0, true) end
        ffi.C.waitpid(pid, status, 0)
        local client = uv.new_tcp()
        local problem = pgq.await(function(resume) client:connect("127.0.0.1", server:getsockname().port, resume) end)
        while server:is_active() do pgq.sleep(0.01) end
        client:close()
        print("connected", problem)
      end)]]
    assert.equal(3, count(result.stdout, "connected\tnil"), result.stdout .. result.stderr)
  end)

  it("is that of a script that loads", function()
    enqueue("loads", "", 3)
    local result = drain [[
      local pid = ffi.C.fork()
      if pid > 0 then ffi.C.waitpid(pid, status, 0) end
      pgq.register_queue("loads", function() print "ran" end)]]
    assert.equal(3, count(result.stdout, "ran\n"))
  end)
end)

local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"

describe("a handler", function()
  local pg = fixture.server()

  -- Runs one job with a handler that has this body (arguments data, job), and returns what is left of the job:
  -- "completed", or "attempt|retried or failed|error", and what the worker printed.
  local function run(body, data, before)
    pg:psql(("SELECT pgq_enqueue('q', %s, now(), '{1h}')"):format(data or "'x'"))
    local result = Worker.run { pg = pg, args = { "--drain", "--executors", "1" }, timeout = 60,
      script = ('local pgq = require "pgq"\n%s\npgq.register_queue("q", function(data, job)\n%s\nend)'):format(before or "", body) }
    assert.equal(0, result.status, result.stderr)
    local left = pg:psql "SELECT attempt, CASE WHEN ran_at IS NULL THEN 'retried' ELSE 'failed' END, error FROM pgq_jobs"
    pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    return left == "" and "completed" or left, result
  end

  local _, drain = fixture.workers(pg)

  -- As `run`, for many bodies at once. Returns a list of what is left of each job, and the worker's result.
  local function run_all(bodies) return fixture.run_all(pg, drain, bodies) end

  describe("is given", function()
    it("the bytes as they are, and a job with all its fields", function()
      local _, result = run([[
        assert(data == "a\0b\255\n\r" .. string.rep("\1", 3), "wrong bytes")
        print(job.id, job.queue, job.attempt, job.retries_left)
        local now = os.time()
        assert(job.created_at > now - 100 and job.created_at < now + 100, "created_at " .. job.created_at)
        assert(job.run_after > now - 100 and job.run_after < now + 100, "run_after " .. job.run_after)
        assert(job.created_at % 1 ~= 0, "created_at has no fraction")]], [['\x610062ff0a0d010101'::bytea]])
      assert.equal("1\tq\t1\t1\n", result.stdout)
    end)

    it("empty data as an empty string", function()
      assert.equal("completed", (run([[assert(data == "")]], "''")))
    end)

    it("64 MiB of data, and smaller jobs beside it #slow", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', decode(repeat('00ff4a0b', 16777216), 'hex')"
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', decode(repeat('00ff4a0b', n * 262144), 'hex') FROM generate_series(1, 10) n"
      local left, result = run [[
        if data == "x" then return end
        assert(#data % 4 == 0 and data == ("\0\255J\11"):rep(#data / 4), "wrong bytes")
        print(#data)]]
      assert.equal("completed", left)
      assert.equal(11, select(2, result.stdout:gsub("\n", "")))
      assert.matches("67108864\n", result.stdout)
    end)
  end)

  describe("succeeds", function()
    it("by returning nothing, nil or true", function()
      local left = run_all { "", "return", "return nil", "return true", "return nil, nil", "return true, 'ignored'" }
      assert.same({ "completed", "completed", "completed", "completed", "completed", "completed" }, left)
    end)
  end)

  describe("fails", function()
    -- Expects attempts to fail with these messages: { { body, message }, … }. Returns the worker's result.
    local function fail(cases)
      local bodies = {}
      for i, case in ipairs(cases) do
        bodies[i] = case[1]
      end
      local left, result = run_all(bodies)
      for i, case in ipairs(cases) do
        assert.equal("1|retried|" .. case[2], left[i], case[1])
      end
      return result
    end

    it("by returning nil or false and a message", function()
      fail {
        { "return nil, 'why'", "why" },
        { "return false, 'why'", "why" },
        { "return false", "the handler returned false" },
        { "return nil, 42", "42" },
        { "return nil, { error = 'inside' }", "inside" },
      }
    end)

    it("by throwing, with a traceback in the log", function()
      local left, result = run "local function deep() error('thrown', 0) end deep()"
      assert.equal("1|retried|thrown", left)
      assert.matches('traceback="stack traceback:.*worker.lua:4: in function .deep', result.stderr)
      assert.matches("^1|retried|.*worker.lua:4: attempt to index local 't' %(a nil value%)$", (run "local t = nil return t.x"))
      fail {
        { "error()", "the handler called error(nil)" },
        { "error({ error = 'from a table' })", "from a table" },
        { "error(setmetatable({}, { __tostring = function() return 'an object' end }))", "an object" },
      }
    end)

    it("with backoff by a table that says so, returned or thrown", function()
      local cases = {}
      for i, body in ipairs {
        "return { error = 'slow down', backoff = true }", "error({ error = 'slow down', backoff = true })",
        "return pgq.backoff('slow down')", "error(pgq.backoff('slow down'))", "return nil, pgq.backoff('slow down')",
      } do
        cases[i] = { body, "slow down" }
      end
      cases[6] = { "return { error = 'no backoff', backoff = false }", "no backoff" }
      local log = fail(cases).stderr
      for i = 1, 5 do
        assert.matches(("queue backs off. queue=q%d job=%%d error=.slow down. pause=0.100000"):format(i), log)
      end
      assert.equal(5, select(2, log:gsub("backs off", "")), log)
    end)

    it("when it returns another value, and the error says which values are allowed", function()
      local help = ": return nothing or true for success; nil and a message, or a table with the field error, for failure"
      fail {
        { "return 42", "the handler returned a number (42)" .. help },
        { "return 'ok'", "the handler returned a string (ok)" .. help },
        { "return setmetatable({}, { __tostring = function() error('broken') end })",
          "the handler returned a table ((a table whose __tostring fails))" .. help },
        { "return setmetatable({}, { __tostring = function() return {} end, __index = error })",
          "the handler returned a table ((a table whose __tostring fails))" .. help },
        { "error(setmetatable({}, { __tostring = function() error('broken') end }))", "(a table whose __tostring fails)" },
      }
      assert.matches("the handler returned a function %(function: ", (run "return print"))
    end)

    it("when it yields, or exhausts the stack or the memory", function()
      fail { { "coroutine.yield()",
        "the handler yielded, and nothing resumes it: coroutine.yield is for coroutines of your own" } }
      assert.matches("stack overflow", (run "local function f() return 1 + f() end return f()"))
      assert.matches("1|retried|.*not enough memory", (run "local s = ('x'):rep(2^31 - 100) return s .. s"))
      assert.equal("completed", (run "return coroutine.wrap(function() coroutine.yield(true) end)()"))
    end)
  end)

  describe("whose message", function()
    it("has a NUL, invalid UTF-8 or a megabyte is settled all the same, the message cleaned and cut", function()
      assert.equal("1|retried|a\239\191\189b", (run [[return nil, "a\0b"]]))
      assert.equal("1|retried|\239\191\189\239\191\189(ä\239\191\189", (run [[return nil, "\255\254(ä\xc3"]]))
      local left = run [[error(("ä"):rep(500000), 0)]]
      assert.matches("^1|retried|", left)
      local message = left:sub(#"1|retried|" + 1)
      assert.is_true(#message <= 10240 and #message > 10000, #message .. " bytes")
      assert.equal("…", message:sub(-3))
    end)

    it("has quotes, backslashes and percent signs arrives as it is", function()
      assert.equal([[1|retried|it's "100%s" \x {a,b} $1]], (run [==[return nil, [[it's "100%s" \x {a,b} $1]]]==]))
    end)
  end)

  describe("that misbehaves", function()
    -- Twenty jobs, the tenth of which does `mischief`: the others complete, and what became of the tenth is returned.
    local function one_of_twenty(mischief)
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'q', n::text::bytea, '{1h}' FROM generate_series(1, 20) n"
      local result = Worker.run { pg = pg, args = { "--drain", "--executors", "2" }, timeout = 60,
        script = ([[
          local pgq = require "pgq"
          pgq.register_queue("q", function(data, job)
            if data ~= "10" then return end
            %s
          end)]]):format(mischief) }
      assert.equal(0, result.status, result.stderr)
      local left = pg:psql "SELECT convert_from(data, 'UTF8'), attempt, error FROM pgq_jobs ORDER BY id"
      pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
      return left, result
    end

    it("by calling os.exit fails that one job, and the worker goes on", function()
      local left, result = one_of_twenty "os.exit(3)"
      assert.matches("^10|1|the executor exited with status 3 while it ran this job %(for [%d.]+ s[^)]*%)$", left)
      assert.matches('an executor died. executor=%d cause=.exited with status 3. job=10', result.stderr)
      assert.matches("^10|1|the executor exited with status 0 while it ran this job %(", (one_of_twenty "os.exit(0)"))
      assert.matches("^10|1|the executor exited with status 1 while it ran this job %(", (one_of_twenty "os.exit(false, true)"))
    end)

    it("by crashing its process fails that one job, and the worker goes on", function()
      assert.matches("^10|1|the executor was killed by SIGKILL while it ran this job %(",
        (one_of_twenty 'local uv = require "luv" uv.kill(uv.os_getpid(), "sigkill")'))
      assert.matches("^10|1|the executor .* while it ran this job %(",
        (one_of_twenty 'local ffi = require "ffi" ffi.cast("int *", 8)[0] = 1'))
    end)

    it("by changing globals does no harm to the code that runs it", function()
      assert.equal("", (one_of_twenty [[
        local G = _G for name in pairs(G) do G[name] = nil end]]))
      assert.equal("", (one_of_twenty [[
        error, pcall, xpcall, type, tostring, rawget, string.format, debug.traceback, debug.getinfo = nil
        setmetatable(_G, { __index = function() return nil end, __newindex = function() end })]]))
      assert.equal("10|1|after all", (one_of_twenty [[
        local fail = error
        local G = _G for name in pairs(G) do G[name] = nil end
        fail("after all", 0)]]))
      assert.equal("", (one_of_twenty [[
        package.loaded.pgq, package.loaded["pgq.host"], package.preload = nil
        string.rep, string.gsub = error, error]]))
    end)

    it("by printing, writing and closing streams does no harm", function()
      local left, result = one_of_twenty [[print("out") io.write("more\n") io.stderr:write("err\n") assert(io.read() == nil)]]
      assert.equal("", left)
      assert.matches("out\nmore\n", result.stdout)
      assert.matches("err\n", result.stderr)
    end)

    it("by registering a queue or configuring fails with a message", function()
      assert.matches("10|1|.*worker.lua:4: register_queue: it can be called only while the script loads, not in a handler",
        (one_of_twenty 'pgq.register_queue("new", print)'))
      assert.matches("10|1|.*configure: it can be called only while the script loads", (one_of_twenty 'pgq.configure { grace = 1 }'))
    end)

    it("by changing the compiler's settings and hooks does no harm", function()
      assert.equal("", (one_of_twenty "jit.off() jit.flush() collectgarbage('stop')"))
      assert.matches("^10|1|.*count", (one_of_twenty "debug.sethook(function() error('count') end, '', 1)"))
    end)
  end)

  it("draws other random numbers than those of other executors", function()
    local worker = Worker.start { pg = pg, args = { "--executors", "3" },
      script = "print(('drawn %.14f'):format(math.random())) require 'pgq'.register_queue('q', function() end)" }
    local seen = {}
    for _ = 1, 3 do
      local number = worker:read_until "drawn (%S+)\n"
      assert.is_nil(seen[number])
      seen[number] = true
    end
    worker:stop()
  end)
end)

local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"

describe("a handler", function()
  local pg

  setup(function()
    pg = Postgres.start { migrated = true }
  end)

  teardown(function() pg:stop() end)

  before_each(function() pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY" end)

  -- Runs one job through a handler with this body (arguments data, job), and returns what is left of it: "completed",
  -- or "attempt|retried or failed|error", and what the worker printed.
  local function run(body, data, before)
    pg:psql(("SELECT pgq_enqueue('q', %s, now(), '{1h}')"):format(data or "'x'"))
    local result = Worker.run { pg = pg, args = { "--drain", "--executors", "1" }, timeout = 60,
      script = ('local pgq = require "pgq"\n%s\npgq.register_queue("q", function(data, job)\n%s\nend)'):format(before or "", body) }
    assert.equal(0, result.status, result.stderr)
    local left = pg:psql "SELECT attempt, CASE WHEN ran_at IS NULL THEN 'retried' ELSE 'failed' END, error FROM pgq_jobs"
    pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    return left == "" and "completed" or left, result
  end

  describe("is given", function()
    it("the bytes as they are, and a job with what is known of it", function()
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

    it("64 MiB of data, and smaller jobs beside it", function()
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
      for _, body in ipairs { "", "return", "return nil", "return true", "return nil, nil", "return true, 'ignored'" } do
        assert.equal("completed", (run(body)), body)
      end
    end)
  end)

  describe("fails", function()
    local function fails(body, expected, before)
      local left, result = run(body, nil, before)
      assert.equal("1|retried|" .. expected, left, body)
      return result
    end

    it("by returning nil or false and a message", function()
      fails("return nil, 'why'", "why")
      fails("return false, 'why'", "why")
      fails("return false", "the handler returned false")
      fails("return nil, 42", "42")
      fails("return nil, { error = 'inside' }", "inside")
    end)

    it("by throwing, with a traceback in the log", function()
      local result = fails("local function deep() error('thrown', 0) end deep()", "thrown")
      assert.matches('traceback="stack traceback:.*worker.lua:4: in function .deep', result.stderr)
      fails("error()", "the handler called error(nil)")
      fails("error({ error = 'from a table' })", "from a table")
      fails("error(setmetatable({}, { __tostring = function() return 'an object' end }))", "an object")
      assert.matches("^1|retried|.*worker.lua:4: attempt to index local 't' %(a nil value%)$", (run "local t = nil return t.x"))
    end)

    it("with backoff by a table that says so, returned or thrown", function()
      for _, body in ipairs {
        "return { error = 'slow down', backoff = true }", "error({ error = 'slow down', backoff = true })",
        "return pgq.backoff('slow down')", "error(pgq.backoff('slow down'))", "return nil, pgq.backoff('slow down')",
      } do
        local result = fails(body, "slow down")
        assert.matches("queue backs off. queue=q job=1 error=.slow down. pause=0.100000", result.stderr)
      end
      assert.is_nil(fails("return { error = 'no backoff', backoff = false }", "no backoff").stderr:find "backs off")
    end)

    it("when it returns nonsense, and is told what to return", function()
      local help = ": return nothing or true for success; nil and a message, or a table with the field error, for failure"
      fails("return 42", "the handler returned a number (42)" .. help)
      fails("return 'ok'", "the handler returned a string (ok)" .. help)
      fails("return setmetatable({}, { __tostring = function() error('broken') end })",
        "the handler returned a table ((a table whose __tostring fails))" .. help)
      fails("return setmetatable({}, { __tostring = function() return {} end, __index = error })",
        "the handler returned a table ((a table whose __tostring fails))" .. help)
      fails("error(setmetatable({}, { __tostring = function() error('broken') end }))", "(a table whose __tostring fails)")
      local left = run("return print")
      assert.matches("the handler returned a function %(function: ", left)
    end)

    it("when it yields, or ends up without stack or memory", function()
      fails("coroutine.yield()",
        "the handler yielded, and nothing resumes it: coroutine.yield is for coroutines of your own")
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

    it("by changing globals does no harm to what runs it", function()
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
      assert.matches("10|1|.*worker.lua:4: register_queue: only while the script loads, not in a handler",
        (one_of_twenty 'pgq.register_queue("new", print)'))
      assert.matches("10|1|.*configure: only while the script loads", (one_of_twenty 'pgq.configure { grace = 1 }'))
    end)

    it("by turning the compiler and hooks inside out does no harm", function()
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

-- Handlers that wait: tasks on the loop of their executor.
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local uv = require "luv"

describe("a handler that waits", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg)

  -- Runs a job through a handler with this body, and returns what is left of it: "completed", or
  -- "attempt|retried or failed|error", and the worker's result.
  local function run(body, ...)
    enqueue "q"
    local result = drain(('pgq.register_queue("q", function(data, job)\n%s\nend)'):format(body), ...)
    local left = pg:psql "SELECT attempt, CASE WHEN ran_at IS NULL THEN 'retried' ELSE 'failed' END, error FROM pgq_jobs"
    pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    return left == "" and "completed" or left, result
  end

  -- Expects the attempts to fail with these messages (patterns): { { body, message }, … }.
  local function fail(cases, ...)
    local bodies = {}
    for i, case in ipairs(cases) do
      bodies[i] = case[1]
    end
    local left, result = fixture.run_all(pg, drain, bodies, ...)
    for i, case in ipairs(cases) do
      assert.matches("^1|retried|" .. case[2], left[i], 1, false, case[1])
    end
    return result
  end

  -- How many seconds the quickest of five jobs takes, whose handler prints their queue and their data: a busy machine
  -- slows some of them down, but not all.
  local function quickest(worker, queue)
    local least = math.huge
    for i = 1, 5 do
      local began = uv.hrtime() / 1e9
      enqueue(queue, i)
      worker:read_until(queue .. " " .. i, 30)
      least = math.min(least, uv.hrtime() / 1e9 - began)
    end
    return least
  end

  describe("for a time", function()
    it("lets others run meanwhile, as many as --concurrency says", function()
      enqueue("q", "", 40)
      local result = drain([[
        local running, most, began = 0, 0, now()
        pgq.register_queue("q", function()
          running = running + 1
          most = math.max(most, running)
          wait_for(function() return most >= 20 end)
          pgq.sleep(0.3)
          running = running - 1
          print(most, now() - began)
        end)]], "--concurrency", "20")
      local most, took = result.stdout:match "(%d+)%s+([%d.]+)\n$"
      assert.equal("20", most)
      assert.is_true(tonumber(took) < 6, "took " .. took) -- 0.6 s; one by one they take 12
      assert.equal(40, select(2, result.stdout:gsub("\n", "")))
    end)

    it("of a queue with a concurrency of its own keeps to it, and others do not wait for it", function()
      enqueue("narrow", "", 6)
      enqueue("wide", "", 30)
      local result = drain([[
        local running, most = {}, {}
        local function handle(_, job)
          local q = job.queue
          running[q] = (running[q] or 0) + 1
          most[q] = math.max(most[q] or 0, running[q])
          wait_for(function() return most[q] >= (q == "narrow" and 2 or 6) end)
          pgq.sleep(0.2)
          running[q] = running[q] - 1
          print(q, most[q])
        end
        pgq.register_queue("narrow", handle, { concurrency = 2 })
        pgq.register_queue("wide", handle)]], "--concurrency", "30")
      local narrow, wide = 0, 0
      for most in result.stdout:gmatch "narrow\t(%d+)" do narrow = math.max(narrow, tonumber(most)) end
      for most in result.stdout:gmatch "wide\t(%d+)" do wide = math.max(wide, tonumber(most)) end
      assert.equal(2, narrow)
      assert.is_true(wide > 5, "only " .. wide)
      assert.equal(36, select(2, result.stdout:gsub("\n", "")))
    end)

    it("waits for no less than that, also when its executor was kept busy", function()
      assert.equal("completed", (run [[
        local began = now()
        while now() - began < 0.3 do end
        began = now()
        pgq.sleep("250ms")
        assert(now() - began >= 0.249, "only " .. now() - began)
        pgq.sleep(0)
        assert(now() - began < 10)]]))
    end)

    it("lets thousands of jobs wait at the same time", function()
      enqueue("q", "", 3000)
      local result = drain([[
        local begun = 0
        pgq.register_queue("q", function()
          begun = begun + 1
          for _ = 1, 20 do
            pgq.sleep(1)
            if begun == 3000 then return print "beside all others" end
          end
        end)]], "--concurrency", "3000")
      assert.equal(3000, select(2, result.stdout:gsub("beside all others\n", "")))
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it("does not keep jobs of others from being claimed", function()
      local worker = start [[
        pgq.register_queue("long", function() print "long"; pgq.sleep(60) end)
        pgq.register_queue("short", function(data) print("short " .. data) end)]]
      enqueue("long", "", 3)
      worker:read_until "long\nlong\nlong\n"
      assert.is_true(quickest(worker, "short") < 1)
      wait.till("the long ones to be leased", 30, function()
        return pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL" == "3"
      end)
    end)

    it("lets jobs run that do not wait; a full queue is not claimed from again and again", function()
      for _, queue in ipairs { "shared", "own", "tx" } do enqueue(queue, "", 100) end
      local worker = start [[
        local function handle(_, job) print(job.queue); pgq.sleep(60) end
        pgq.register_queue("shared", handle)
        pgq.register_queue("own", handle, { concurrency = 3 })
        pgq.register_queue("tx", handle, { transactional = true })
        pgq.register_queue("quick", function(data) print("quick " .. data) end)]]
      wait.till("all room to be taken", 30, function()
        local taken = pg:psql [[SELECT string_agg(queue_name || n, ',' ORDER BY queue_name)
          FROM (SELECT queue_name, count(lease) AS n FROM pgq_jobs GROUP BY 1) AS q]]
        return taken == "own3,shared10,tx4", taken
      end)
      wait.sleep(1)
      local function transactions()
        return tonumber(pg:psql "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
      end
      local before, began = transactions(), uv.hrtime()
      wait.sleep(3)
      local a_second = (transactions() - before) / ((uv.hrtime() - began) / 1e9)
      assert.is_true(a_second < 33, "transactions a second: " .. a_second)
      assert.is_true(quickest(worker, "quick") < 1)
    end)

    it("gets an error for a wrong time", function()
      fail {
        { "pgq.sleep('soon')", '.*worker.lua:%d+: sleep: the time %("soon"%) .*; write seconds, or 1h30m' },
        { "pgq.sleep(-1)", ".*worker.lua:%d+: sleep: the time %(%-1%) is negative" },
        { "pgq.sleep {}", ".*worker.lua:%d+: sleep: the time must be a number of seconds or a duration such as 1m30s, not a table" },
      }
    end)
  end)

  describe("for a callback of luv", function()
    it("gets what the callback was given", function()
      assert.equal("completed", (run [[
        local err, stat = pgq.await(function(resume) uv.fs_stat("/tmp", resume) end)
        assert(not err and stat.type == "directory")
        local problem, none = pgq.await(function(resume) uv.fs_stat("/nowhere", resume) end)
        assert(problem:find "ENOENT" and none == nil)
        assert(select("#", pgq.await(function(resume) resume() end)) == 0)
        local a, b, c = pgq.await(function(resume) resume(nil, 2, nil) end)
        assert(a == nil and b == 2 and c == nil)]]))
    end)

    it("gets the output and the status of a child process", function()
      local left, result = run [[
        local out, parts = uv.new_pipe(), {}
        local status = pgq.await(function(resume)
          local code
          local handle = uv.spawn("sh", { args = { "-c", "echo from a child; exit 3" }, stdio = { nil, out } }, function(exit)
            code = exit
            resume(code)
          end)
          assert(handle)
          uv.read_start(out, function(_, text) parts[#parts + 1] = text end)
        end)
        pgq.sleep(0.1)
        print(table.concat(parts), status)]]
      assert.equal("completed", left)
      assert.matches("from a child\n\t3", result.stdout)
    end)

    it("may use the executor's own loop, but not take it", function()
      fail {
        { "uv.run()", ".*worker.lua:%d+: uv.run: the loop is the executor's" },
        { "uv.walk(print)", ".*worker.lua:%d+: uv.walk: the loop is the executor's" },
        { "pgq.await(42)", ".*worker.lua:%d+: await: a function is needed, not a number" },
      }
    end)

    it("that is called twice goes on once, and the error is in the log", function()
      local left, result = run [[
        local value = pgq.await(function(resume)
          local timer = uv.new_timer()
          timer:start(1, 0, function()
            timer:close()
            resume "once"
            resume "twice"
          end)
        end)
        assert(value == "once")
        pgq.sleep(0.1)]]
      assert.equal("completed", left)
      assert.matches("an error in a callback of luv: .*worker.lua:%d+: pgq.await: resume was called a second time",
        result.stderr)
    end)

    it("that can never be called gets an error", function()
      fail {
        { "pgq.await(function() end)", ".*worker.lua:%d+: pgq.await: resume can never be called any more" },
      }
    end)

    it("works also after the handler that first required luv has ended", function()
      enqueue("first")
      enqueue("q", "", 100)
      local result = Worker.run { pg = pg, args = { "--executors", "1", "--drain" }, timeout = 60, script = [[
        local pgq = require "pgq"
        pgq.register_queue("first", function()
          pgq.sleep(0.01)
          coroutine.yield "and its coroutine is thrown away"
        end)
        pgq.register_queue("q", function()
          for _ = 1, 5 do
            pgq.sleep(0.01)
            collectgarbage()
          end
        end)]] }
      assert.equal(0, result.status, result.stderr)
      assert.is_nil(result.stderr:find "an executor died", result.stderr)
      assert.equal("first|the handler yielded", pg:psql "SELECT queue_name, left(error, 19) FROM pgq_jobs")
    end)

    it("that raises an error leaves the executor alive, with the error in the log", function()
      local left, result = run [[
        local timer = uv.new_timer()
        timer:start(1, 0, function() timer:close(); error "thrown in a callback" end)
        pgq.sleep(0.1)
        print "alive"]]
      assert.equal("completed", left)
      assert.matches("alive", result.stdout)
      assert.matches("an error in a callback of luv: .*thrown in a callback", result.stderr)
      assert.is_nil(result.stderr:find "an executor died")
    end)

    it("that tries to wait gets an error", function()
      local _, result = run [[
        local timer = uv.new_timer()
        timer:start(1, 0, function() timer:close(); pgq.sleep(1) end)
        pgq.sleep(0.1)]]
      assert.matches("sleep: nothing may wait in a callback of luv", result.stderr)
    end)

    it("gets the error of what starts it", function()
      fail {
        { "pgq.await(function() error 'not even begun' end)", ".*not even begun" },
      }
    end)
  end)

  describe("in a coroutine of its own", function()
    it("waits in the same way", function()
      assert.equal("completed", (run [[
        local began, seen = now(), {}
        local co = coroutine.create(function(a)
          pgq.sleep(0.1)
          local b = coroutine.yield(a + 1)
          pgq.sleep(0.1)
          for c in coroutine.wrap(function() pgq.sleep(0.1); coroutine.yield(7); pgq.sleep(0.1); coroutine.yield(8) end) do
            seen[#seen + 1] = c
          end
          return b
        end)
        local ok, value = coroutine.resume(co, 1)
        assert(ok and value == 2 and coroutine.status(co) == "suspended")
        ok, value = coroutine.resume(co, "b")
        assert(ok and value == "b" and coroutine.status(co) == "dead")
        assert(table.concat(seen, ",") == "7,8")
        assert(now() - began > 0.39, "took " .. now() - began)
        local fine, problem = pcall(coroutine.wrap(function() pgq.sleep(0.01); error("inside", 0) end))
        assert(not fine and problem == "inside")
        ok, problem = coroutine.resume(coroutine.create(function() pgq.sleep(0.01); error({ 42 }) end))
        assert(not ok and problem[1] == 42)]]))
    end)

    it("cannot be resumed by other code while it waits, nor can the handler itself", function()
      enqueue("a")
      enqueue("b")
      local result = drain [[
        local first, inner, tried
        pgq.register_queue("a", function()
          first = coroutine.running()
          inner = coroutine.create(function() wait_for(function() return tried end); return "slept" end)
          print(coroutine.resume(first))
          print(coroutine.resume(inner))
        end)
        pgq.register_queue("b", function()
          wait_for(function() return inner end)
          print(coroutine.resume(first))
          print(coroutine.resume(inner))
          tried = true
        end)]]
      assert.matches("false\tcannot resume .-coroutine\n", result.stdout)
      assert.equal(2, select(2, result.stdout:gsub("false\tcannot resume a coroutine that waits\n", "")))
      assert.matches("true\tslept\n", result.stdout)
    end)

    it("fails when the handler itself yields", function()
      fail {
        { "pgq.sleep(0.01); coroutine.yield(1)", "the handler yielded, and nothing resumes it" },
      }
    end)
  end)

  describe("inside of a call by C code", function()
    local WHERE = "sleep: nothing can wait in a function that C code has called"

    it("gets an error", function()
      fail {
        { "table.sort({ 2, 1 }, function(a, b) pgq.sleep(0.01); return a < b end)", WHERE },
        { "string.gsub('x', '.', function() pgq.sleep(0.01) end)", WHERE },
        { "print(setmetatable({}, { __tostring = function() pgq.sleep(0.01); return '' end }))", WHERE },
      }
    end)

    it("gets an error in a coroutine inside of that call too, and goes on", function()
      assert.equal("completed", (run([[
        local inner = coroutine.wrap(function() pgq.sleep(0.01) end)
        local ok, problem = pcall(table.sort, { 2, 1 }, function(a, b) inner(); return a < b end)
        assert(not ok and problem:find("C code", 1, true), problem)
        pgq.sleep(0.05)]])))
    end)
  end)

  -- Limits are not shorter than what a busy machine may take from an executor: one that does not wait by then is
  -- killed.
  describe("past its time limit", function()
    it("gets pgq.timeout, fails with it, and its neighbours go on", function()
      enqueue("slow")
      enqueue("fine", "", 3)
      local result = drain [[
        pgq.register_queue("slow", function() pgq.sleep(60) end, { timeout = "2s" })
        pgq.register_queue("fine", function() pgq.sleep(3); print "fine" end)]]
      assert.equal("fine\nfine\nfine\n", result.stdout)
      assert.equal("slow|1|pgq.timeout: the time limit of the handler was reached",
        pg:psql "SELECT queue_name, attempt, error FROM pgq_jobs")
      assert.is_nil(result.stderr:find "an executor died")
    end)

    it("can clean up, and wait meanwhile; if it ignores pgq.timeout, each further wait fails", function()
      local result = fail({
        { [[
          local ok, why = pcall(pgq.sleep, 60)
          assert(not ok and why == pgq.timeout, tostring(why))
          pgq.sleep(0.3)
          print "cleaned up"
          error(why)]], "pgq.timeout" },
        { [[
          pcall(pgq.sleep, 60)
          pgq.sleep(60)]], "pgq.timeout" },
      }, "--timeout", "2s")
      assert.matches("cleaned up", result.stdout)
    end)

    it("that never ends is killed", function()
      local left = run("while true do pcall(pgq.sleep, 60) end", "--timeout", "200ms")
      assert.matches("^1|retried|the executor was killed at the time limit of 200ms while it ran this job", left)
    end)

    it("that does not wait is killed", function()
      local left = run("pgq.sleep(0.05); while true do end", "--timeout", "500ms")
      assert.matches("^1|retried|the executor was killed at the time limit of 500ms while it ran this job", left)
    end)
  end)

  -- AddressSanitizer does not work with a memory limit.
  local describe_memory = os.getenv "PGQ_ASAN_LIBRARY" and function() end or describe

  describe_memory("in little memory", function()
    it("keeps other jobs from beginning when the jobs that wait use most of it", function()
      enqueue("q", "", 1000)
      local result = drain([[
        pgq.register_queue("q", function()
          local much = {}
          for i = 1, 100 do much[i] = ("x"):rep(1000) .. i .. math.random() end
          pgq.sleep(0.3)
          return #much == 100
        end)]], "--concurrency", "3000", "--max-memory", "48M")
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
      assert.is_nil(result.stderr:find "level=warn" or result.stderr:find "level=error", result.stderr)
    end)

    it("ends with its executor when callbacks get no memory any more", function()
      enqueue("q")
      local result = drain([[
        pgq.register_queue("q", function()
          local timer, much = uv.new_timer(), {}
          timer:start(1, 0, function()
            while true do much[#much + 1] = ("x"):rep(1000000) .. #much end
          end)
          pgq.sleep(0.2)
          return #much == 0
        end)]], "--max-memory", "64M")
      assert.matches("an error in a callback of luv: not enough memory", result.stderr)
      assert.matches("no memory is left for callbacks", result.stderr)
      assert.equal("1|the executor exited with status 1; only this job was running in it", pg:psql "SELECT attempt, error FROM pgq_jobs")
    end)
  end)

  describe("says how its attempt ended:", function()
    it("snooze is no attempt, and uses up no wait", function()
      local bodies = { "return pgq.snooze(3600)", "error(pgq.snooze '1h')", "return nil, pgq.snooze(3600)",
        "return { snooze = 3600 }", "pgq.sleep(0.05); return pgq.snooze(3600)" }
      for i in ipairs(bodies) do enqueue("q" .. i) end
      drain(fixture.queues_of(bodies))
      assert.equal(("0|t|{1h}||t|t\n"):rep(#bodies), pg:psql [[SELECT attempt, run_after > now() + interval '50 min',
        retry_waits, error, ran_at IS NULL, lease IS NULL FROM pgq_jobs]] .. "\n")
    end)

    it("discard means that the job has failed for good", function()
      local left = fixture.run_all(pg, drain, { "return pgq.discard 'no use'", "error(pgq.discard 'no use')",
        "pgq.sleep(0.05); return pgq.discard 'no use'", "return { error = 'no use', discard = true }", "return pgq.discard()" })
      for i = 1, 4 do assert.equal("1|failed|no use", left[i]) end
      assert.equal("1|failed|discarded", left[5])
      assert.equal("completed", (run("return pgq.discard()", "--discard-failed")))
    end)

    it("retry means this wait instead of the next retry wait", function()
      local bodies = { "return pgq.retry(60, 'later')", "error(pgq.retry('1m', 'later'))",
        "pgq.sleep(0.05); return pgq.retry(60, 'later')", "return { error = 'later', retry = 60 }" }
      local script = fixture.queues_of(bodies)
      for i in ipairs(bodies) do enqueue("q" .. i) end
      drain(script)
      assert.equal(("1|t|{}|later\n"):rep(#bodies), pg:psql [[SELECT attempt, run_after BETWEEN now() + interval '5 s' AND
        now() + interval '60 s', retry_waits, error FROM pgq_jobs]] .. "\n")
      drain(fixture.queues_of { "", "", "", "" }) -- which finds none of them due
      pg:psql "UPDATE pgq_jobs SET run_after = now()"
      drain(script)
      assert.equal(("2|t|later\n"):rep(#bodies), pg:psql "SELECT attempt, ran_at IS NOT NULL, error FROM pgq_jobs" .. "\n")
    end)

    it("with a wait that can be read", function()
      fail {
        { "error(pgq.snooze(-1))", ".*worker.lua:%d+: snooze: the wait %(%-1%) is negative" },
        { "return pgq.retry('x')", 'retry: the wait %("x"%) ' },
        { "return pgq.snooze()", "snooze: the wait must be a number of seconds or a duration" },
        { "return { snooze = {} }", "the wait must be a number of seconds or a duration such as 1m30s, not a table" },
      }
    end)
  end)

  describe("throws", function()
    it("tables, nothing and userdata after a wait, and is told of it", function()
      local result = fail {
        { "pgq.sleep(0.01); error({})", "table: " },
        { "pgq.sleep(0.01); error()", "the handler called error%(nil%)" },
        { "pgq.sleep(0.01); error(io.stdout)", "file %(" },
        { "pgq.sleep(0.01); local x = nil; x.y = 1", ".*attempt to index local 'x'" },
      }
      assert.matches("worker.lua:%d+: in function", result.stderr)
    end)
  end)

  describe("beside one that", function()
    it("crashes the executor goes back and loses no attempt", function()
      enqueue("crash")
      enqueue("q", "", 5)
      local result = drain [[
        local beside = 0
        pgq.register_queue("crash", function()
          wait_for(function() return beside == 5 end)
          uv.kill(uv.os_getpid(), "sigkill")
          pgq.sleep(60)
        end)
        pgq.register_queue("q", function(_, job) beside = beside + 1; pgq.sleep(2); print(job.id, job.attempt) end)]]
      assert.equal(5, select(2, result.stdout:gsub("%d+\t1\n", "")))
      assert.equal("crash|1|t", pg:psql "SELECT queue_name, attempt, error LIKE 'the executor was killed by SIGKILL%' FROM pgq_jobs")
    end)

    it("crashes the executor while no handler runs goes back too, and the job that did it is found", function()
      enqueue("q", "", 60)
      enqueue("crash")
      enqueue("q", "", 60)
      local worker = start([[
        pgq.register_queue("crash", function()
          local timer = uv.new_timer()
          timer:start(100, 0, function() uv.kill(uv.os_getpid(), "sigkill") end)
          pgq.sleep(0.3)
        end)
        pgq.register_queue("q", function(_, job) pgq.sleep(0.3); print(job.id, job.attempt) end)]],
        "--concurrency", "200")
      wait.till("all others to be done", 120, function()
        return pg:psql "SELECT string_agg(queue_name || attempt, ' ') FROM pgq_jobs" == "crash1"
      end)
      worker:stop()
      local result = worker
      -- A job that ends at the moment of a death may run again: its outcome was not sent.
      local done, count = {}, 0
      for id, attempt in result.stdout:gmatch "(%d+)\t(%d+)\n" do
        assert.equal("1", attempt)
        count = count + (done[id] and 0 or 1)
        done[id] = true
      end
      assert.equal(120, count)
      assert.equal("crash|1|the executor was killed by SIGKILL; only this job was running in it",
        pg:psql "SELECT queue_name, attempt, error FROM pgq_jobs")
      local _, deaths = result.stderr:gsub("an executor died", "")
      assert.is_true(deaths <= 7, deaths .. " deaths")
    end)

    it("is killed from outside twice is tried again in a small group", function()
      enqueue("q", "", 120)
      local worker = start([[
        local running = 0
        pgq.register_queue("q", function(_, job)
          running = running + 1
          print("began", running, job.attempt)
          pgq.sleep(60)
        end)]], "--concurrency", "120")
      worker:read_until "began\t120\t"
      wait.till("all to be leased", 30, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "120" end)
      assert.equal(0, uv.kill(worker:executors()[1], "sigkill"))
      worker:read_until("began\t120\t1\n", 30) -- after one death all run together
      wait.till("all to be leased again", 30, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "120" end)
      local seen = #worker.stdout
      assert.equal(0, uv.kill(worker:executors()[1], "sigkill"))
      worker:read_until("began\t64\t1\n", 30)
      wait.sleep(0.5)
      assert.is_nil(worker.stdout:find("began\t65\t", seen, true))
    end)

    it("spins still counts its own time", function()
      enqueue("spin")
      enqueue("q", "", 2)
      drain [[
        pgq.register_queue("spin", function() local t = now(); while now() - t < 1.5 do end end)
        pgq.register_queue("q", function() pgq.sleep(0.1) end)]]
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end)

  it("is given back if its worker is stopped, and loses no attempt if its worker is killed", function()
    local script = [[pgq.register_queue("q", function() print "began"; pgq.sleep(60) end)]]
    enqueue("q", "", 3)
    local worker = start(script, "--grace", "100ms")
    worker:read_until "began\nbegan\nbegan\n"
    worker:stop()
    assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 0 AND lease IS NULL AND run_after <= now()")
    worker = start(script, "--lease", "2s")
    worker:read_until "began\nbegan\nbegan\n"
    wait.till("all to be leased", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL" == "3"
    end)
    worker:kill "sigkill"
    worker:wait()
    wait.till("the leases to run out", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE run_after < now()" == "3"
    end)
    drain [[pgq.register_queue("q", function() end)]]
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("does not keep other jobs from running after a worker has died, though jobs are leased before they run", function()
    local killed = start [[pgq.register_queue("q", function() pgq.sleep(60) end)]]
    enqueue "q"
    wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
    killed:kill "sigkill"
    killed:wait()
    wait.till("its sessions to end", 30, function()
      return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgq-lua'" == "0"
    end)
    enqueue("q", "", 3)
    local worker = start [[pgq.register_queue("q", function() print "began"; pgq.sleep(60) end)]]
    worker:read_until("a worker died", 30, "stderr")
    worker:read_until("began\nbegan\nbegan\n", 30)
  end)

  it("ends within the grace time", function()
    enqueue("q", "", 3)
    local worker = start [[pgq.register_queue("q", function() print "began"; pgq.sleep(0.7); print "ended" end)]]
    worker:read_until "began\nbegan\nbegan\n"
    worker:stop()
    assert.equal(3, select(2, worker.stdout:gsub("ended\n", "")))
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)
end)

describe("a plain script", function()
  local function run(source)
    return process.start({ "luajit", "-e", source, env = { LUA_PATH = "lua/?.lua;;", LUA_CPATH =
      (os.getenv "PGQ_LUA"):gsub("pgq%-lua$", "lua/?.so;;") } }):wait(20)
  end

  it("blocks in pgq.sleep and pgq.await", function()
    local result = run [[
      local pgq, uv = require "pgq", require "luv"
      local began = uv.hrtime()
      pgq.sleep(0.2)
      local value = pgq.await(function(resume)
        local timer = uv.new_timer()
        timer:start(200, 0, function() timer:close(); resume "rung" end)
      end)
      print(value, (uv.hrtime() - began) / 1e9 > 0.39)
      print(pcall(pgq.await, function() end))]]
    assert.equal("", result.stderr)
    assert.matches("^rung\ttrue\nfalse\t.*resume can never be called any more", result.stdout)
  end)
end)

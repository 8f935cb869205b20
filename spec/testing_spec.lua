-- pgq.testing: what a user's spec can do with a worker script, without a server and with one.

local Postgres = require "spec.support.postgres"
local pgq = require "pgq"
local testing = require "pgq.testing"
local uv = require "luv"
local wait = require "spec.support.wait"

-- A plain script must see the same module before and after.
local globals_before = {}
for name in pairs(_G) do globals_before[name] = true end

describe("pgq.testing", function()
  local dir, files

  setup(function()
    dir = assert(uv.fs_mkdtemp "/tmp/pgq-spec-testing-XXXXXX")
    files = {}
    package.path = dir .. "/?.lua;" .. package.path
  end)

  teardown(function()
    package.path = package.path:sub(#dir + 8)
    for path in pairs(files) do os.remove(path) end
    uv.fs_rmdir(dir)
  end)

  local function write(name, text)
    local path = dir .. "/" .. name
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
    files[path] = true
    return path
  end

  local function load(text, options)
    return testing.load(write("worker.lua", 'local pgq = require "pgq"\n' .. text), options)
  end

  -- A worker with one queue "q", whose handler has this body (arguments data, job).
  local function with_handler(body, options, queue_options)
    return load(("pgq.register_queue('q', function(data, job)\n%s\nend, %s)"):format(body, queue_options or "nil"), options)
  end

  local function perform(body, options, load_options, queue_options)
    return with_handler(body, load_options, queue_options):perform("q", "data", options)
  end

  -- The error of a call, as text.
  local function error_of(fn, ...)
    local ok, message = pcall(fn, ...)
    assert.is_false(ok)
    return tostring(message)
  end

  describe("reports of a handler", function()
    it("that it is complete", function()
      for _, body in ipairs { "", "return nil", "return true" } do
        assert.equal("complete", perform(body).status)
      end
      local outcome = perform ""
      assert.is_nil(outcome.error)
      assert.is_nil(outcome.wait)
      assert.same({}, outcome.enqueued)
    end)

    it("that it failed and is tried again after the next wait, or has failed for good", function()
      local outcome = perform("return nil, 'no luck'")
      assert.same({ "retry", 60, "no luck" }, { outcome.status, outcome.wait, outcome.error })
      outcome = perform("return nil, 'no luck'", { attempt = 2, retry_waits = { "10s" } })
      assert.same({ "retry", 10 }, { outcome.status, outcome.wait })
      assert.equal(600, perform("return false", { attempt = 2 }).wait)
      assert.equal(0.25, perform("return false", { retry_waits = { 0.25, 7 } }).wait)
      outcome = perform("return nil, 'no luck'", { retry_waits = {} })
      assert.same({ "failed", "no luck" }, { outcome.status, outcome.error })
      assert.is_nil(outcome.wait)
      assert.equal("failed", perform("return false", { attempt = 4 }).status)
    end)

    it("the error that it threw, with a traceback, and the test goes on", function()
      local outcome = perform "local function deep() error('thrown', 0) end deep()"
      assert.same({ "retry", "thrown" }, { outcome.status, outcome.error })
      assert.matches("stack traceback:.*worker.lua:3: in function 'deep'", outcome.traceback)
      assert.matches("worker.lua:3: attempt to index", perform("local t = nil return t.x").error)
      assert.equal("an object", perform("error(setmetatable({}, { __tostring = function() return 'an object' end }))").error)
      assert.equal("the handler called error(nil)", perform("error()").error)
      assert.matches("stack overflow", perform("local function f() return 1 + f() end return f()").error)
    end)

    it("that it backs off, with a wait while there are any", function()
      local outcome = perform "return pgq.backoff 'busy'"
      assert.same({ "backoff", 60, "busy" }, { outcome.status, outcome.wait, outcome.error })
      outcome = perform("error(pgq.backoff 'busy')", { retry_waits = {} })
      assert.equal("backoff", outcome.status)
      assert.is_nil(outcome.wait)
    end)

    it("that it discards, snoozes or asks for a retry at another time", function()
      local outcome = perform "return pgq.discard 'useless'"
      assert.same({ "discard", "useless" }, { outcome.status, outcome.error })
      assert.is_nil(outcome.wait)
      outcome = perform "error(pgq.snooze '1h')"
      assert.same({ "snooze", 3600 }, { outcome.status, outcome.wait })
      assert.is_nil(outcome.error)
      outcome = perform "return pgq.retry(5, 'soon')"
      assert.same({ "retry", 5, "soon" }, { outcome.status, outcome.wait, outcome.error })
      assert.equal("failed", perform("return pgq.retry(5, 'soon')", { retry_waits = {} }).status)
    end)

    it("that it yielded, called os.exit or returned nonsense, as a worker would", function()
      assert.matches("the handler yielded, and nothing resumes it", perform("coroutine.yield()").error)
      assert.equal("complete", perform("return coroutine.wrap(function() coroutine.yield(true) end)()").status)
      assert.equal("the executor exited with status 3 while it ran this job", perform("os.exit(3)").error)
      assert.matches("status 1 ", perform("os.exit(false)").error)
      assert.matches("status 0 ", perform("pcall(os.exit)").error)
      assert.matches("the handler returned a number %(42%)", perform("return 42").error)
    end)

    it("the message as it would stand in the table", function()
      assert.equal("a\239\191\189b\239\191\189", perform([[return nil, "a\0b\255"]]).error)
      assert.equal(10240, #perform("return nil, ('x'):rep(20000)").error)
    end)
  end)

  describe("gives a handler", function()
    it("the data as it is, and a job", function()
      local worker = with_handler [[_G.seen = { data = data, job = job }
        assert(job.created_at == (data == "" and 1e9 or os.time()))
        return nil, job.id .. " " .. job.queue .. " " .. job.attempt .. " " .. job.retries_left
          .. " " .. tostring(job.run_after == job.created_at) .. " " .. #data]]
      assert.equal("1 q 1 3 true 3", worker:perform("q", "\0\255x").error)
      assert.equal("7 q 2 1 true 0",
        worker:perform("q", "", { id = 7, attempt = 2, retry_waits = { 1 }, created_at = 1e9, run_after = 1e9 }).error)
      assert.equal("2 q 3 1 true 1", worker:perform("q", "x", { attempt = 3 }).error:gsub("^%d+", "2"))
    end)

    it("waits that take no time, and a clock that they move", function()
      local outcome = perform [[local before = os.time() pgq.sleep "2h" return nil, os.time() - before .. os.date("!%H", 3600)]]
      assert.equal("720001", outcome.error)
      assert.equal('sleep: the time ("soon") has a unit without a number; write seconds, or 1h30m, 10m0s, 45s, 250ms',
        perform("pgq.sleep 'soon'").error:gsub("^.-: ", "", 1))
    end)

    it("its time limit when it sleeps beyond it, five seconds to clean up, and then its time limit again", function()
      local body = [[local ok, problem = pcall(pgq.sleep, 20)
        local words = { tostring(ok), tostring(problem == pgq.timeout) }
        for _, seconds in ipairs { 3, 50, 0 } do words[#words + 1] = tostring((pcall(pgq.sleep, seconds))) end
        return nil, table.concat(words, " ") .. " " .. os.time() - job.created_at]]
      assert.equal("false true true false false 20", perform(body, nil, nil, "{ timeout = 15 }").error)
      assert.equal("true false true true true 73", perform(body, nil, nil, "{ timeout = '2m' }").error)
      assert.equal("true false true true true 73", perform(body).error)
      assert.matches("time limit", perform("pgq.sleep(20)", nil, nil, "{ timeout = 20 }").error)
      assert.matches("time limit", perform("pgq.sleep '1m'", nil, nil, "{ transactional = true }").error)
      local worker = load "pgq.configure { timeout = '5s' } pgq.register_queue('q', function() pgq.sleep(6) end)"
      assert.matches("time limit", worker:perform("q", "").error)
    end)

    it("its time limit in pgq.await too, which takes the time it takes", function()
      local body = [[local uv = require "luv"
        local words = {}
        local function try(ms)
          local timer, closed = uv.new_timer(), false
          local ok, problem = pcall(pgq.await, function(resume)
            timer:start(ms, 0, function() timer:close() resume() end)
            return function() closed = true timer:close() end
          end)
          words[#words + 1] = ok and "came" or problem == pgq.timeout and closed and "timeout" or tostring(problem)
        end
        for _, ms in ipairs { 10, 3600000, 10, 3600000 } do try(ms) end
        return nil, table.concat(words, " ") .. " " .. os.time() - job.created_at]]
      local before = uv.hrtime()
      assert.equal("came timeout came timeout 0", perform(body, nil, nil, "{ timeout = '2s' }").error)
      assert.is_true(uv.hrtime() - before < 60e9)
      assert.equal("came came came came 0", perform(body:gsub("3600000", "1"), nil, nil, "{ timeout = '1h' }").error)
      assert.matches("worker.lua:%d+: pgq.await: resume can never be called any more",
        perform("pgq.await(function() end)", nil, nil, "{ timeout = '1h' }").error)
      assert.equal("cancelled", perform(body, { cancel_after = "2s" }).status)
    end)

    it("its time limit when what begins the wait takes longer, and something else keeps the loop", function()
      local body = [[local uv = require "luv"
        local server = uv.new_tcp()
        server:bind("127.0.0.1", 0)
        server:listen(1, function() end)
        pgq.await(function() uv.sleep(300) return function() server:close() end end)]]
      assert.equal("pgq.timeout: the time limit of the handler was reached",
        perform(body, nil, nil, "{ timeout = '200ms' }").error)
    end)

    it("the same refusal to wait in a function that C code has called", function()
      local body = "table.sort({ 2, 1 }, function() pgq.await(function(resume) resume() end) end)"
      for _, options in ipairs { "{}", "{ timeout = '1h' }" } do
        assert.matches("await: nothing can wait in a function that C code has called", perform(body, nil, nil, options).error)
      end
    end)

    it("its cancellation, a second to clean up, and its cancellation again, and drops its outcome", function()
      local body = [[local ok, problem = pcall(pgq.sleep, 20) pcall(pgq.sleep, 0.5) local again = select(2, pcall(pgq.sleep, 1))
        pgq.enqueue("log", tostring(problem == pgq.cancelled and again == problem) .. os.time() - job.created_at)]]
      local outcome = perform(body, { cancel_after = "7s" })
      assert.equal("cancelled", outcome.status)
      assert.equal("true8", outcome.enqueued[1].data)
      assert.equal("complete", perform(body, { cancel_after = 25 }).status)
    end)

    it("the end of its executor when it goes on for ever after its time limit, or its cancellation", function()
      local body = "while true do pcall(pgq.sleep, 1) end"
      local outcome = perform(body, nil, nil, "{ timeout = '5s' }")
      assert.equal("retry", outcome.status)
      assert.equal("the executor was killed at the time limit of 5s while it ran this job", outcome.error)
      assert.equal("cancelled", perform(body, { cancel_after = 7 }).status)
    end)

    it("a transaction that nothing but its function ends, and that fails with enqueue_many", function()
      local options = { load = { query = function() return {} end } }
      local outcome = perform([[return pgq.transaction(function(tx) tx:query "COMMIT" tx:enqueue("log", "x") end)]], nil,
        options.load)
      assert.matches("^the transaction was rolled back: COMMIT is refused in the function of a transaction", outcome.error)
      assert.same({}, outcome.enqueued)
      outcome = perform([[return pgq.transaction(function(tx)
        pcall(tx.enqueue_many, tx, "log", function() error "no more" end)
        tx:enqueue("log", "x")
      end)]], nil, options.load)
      assert.matches("^the transaction was rolled back, since a statement in it had failed: .*no more", outcome.error)
      assert.same({}, outcome.enqueued)
    end)

    it("no wait in a function that C code calls", function()
      assert.matches("^sleep: nothing can wait in a function that C code has called",
        perform("table.sort({ 1, 2, 3 }, function(a, b) pgq.sleep(1) return a < b end)").error)
    end)

    it("the arguments of its script", function()
      local worker = load("local first = ... local name = arg[0] pgq.register_queue(first, function() return nil, name .. arg[2] end)",
        { args = { "a", "b" } })
      assert.equal(dir .. "/worker.luab", worker:perform("a", "").error)
    end)
  end)

  -- Runs a job that fails until its waits are used up, while the test moves the clock.
  local function fails_until_the_end(options)
    local worker = with_handler("return nil, 'attempt ' .. job.attempt .. ', left ' .. job.retries_left", options)
    worker:enqueue("q", "x", { delay = "1h", retry_waits = { 10, "1m" } })
    assert.same({}, worker:drain())
    worker:advance "1h"
    assert.equal("retry", worker:drain()[1].status)
    assert.same({}, worker:drain())
    assert.same({}, worker:enqueued())
    assert.same({ "waiting", 1, { "1m0s" } }, { worker:jobs()[1].state, worker:jobs()[1].attempt, worker:jobs()[1].retry_waits })
    worker:advance(10)
    assert.equal(60, worker:drain()[1].wait)
    worker:advance "1m"
    local last = worker:drain()[1]
    assert.same({ "failed", "attempt 3, left 0", 3 }, { last.status, last.error, last.job.attempt })
    worker:advance "1000h"
    assert.same({}, worker:drain())
    local job = worker:jobs("q")[1]
    assert.same({ "failed", 3, "attempt 3, left 0", {} }, { job.state, job.attempt, job.error, job.retry_waits })
    worker:close()
    return job
  end

  describe("without a server", function()
    it("tries until the waits are used up, as time is moved", function()
      local job = fails_until_the_end()
      assert.equal(3600 + 10 + 60, job.ran_at - job.created_at)
    end)

    it("settles as a worker does", function()
      for _, case in ipairs {
        { "", nil, "complete" },
        { "", "{ preserve_completed = true }", "complete", { "preserved", 1, 0, 2 } },
        { "return pgq.backoff 'no'", nil, "backoff", { "waiting", 1, 10, 1, "no" } },
        { "return pgq.retry(7, 'no')", nil, "retry", { "waiting", 1, 7, 1, "no" } },
        { "return pgq.discard 'no'", nil, "discard", { "failed", 1, 0, 2, "no" } },
        { "return pgq.discard 'no'", "{ discard_failed = true }", "discard" },
        { "return pgq.snooze '5m'", nil, "snooze", { "waiting", 0, 300, 2 } },
      } do
        local worker = with_handler(case[1], nil, case[2])
        worker:enqueue("q", "", { retry_waits = { 10, 60 } })
        assert.equal(case[3], worker:drain()[1].status)
        local job = worker:jobs()[1]
        assert.same(case[4], job and { job.state, job.attempt, job.delay or 0, #job.retry_waits, job.error }, case[1])
      end
    end)

    it("lists the jobs that a handler enqueued", function()
      local worker = with_handler [[
        assert(pgq.enqueue("mail", "to: ann") == 2)
        assert(pgq.enqueue("mail", "to: ben", { delay = "10m", retry_waits = { 5, "1m" } }) == 3)
        pgq.enqueue("log", "x", { after = os.time() + 60 })
        pgq.enqueue("log", "y", { after = "2030-01-31 08:00+01", retry_waits = {} })]]
      local outcome = worker:perform("q", "")
      assert.equal("complete", outcome.status)
      local mail = worker:enqueued "mail"
      assert.equal(2, #mail)
      assert.same({ "to: ann", { "1m0s", "10m0s", "30m0s" } }, { mail[1].data, mail[1].retry_waits })
      assert.is_nil(mail[1].delay)
      assert.same({ "to: ben", 600, { "5s", "1m0s" } }, { mail[2].data, mail[2].delay, mail[2].retry_waits })
      local log = worker:enqueued "log"
      assert.same({ 60, log[1].run_after, log[1].created_at + 60 }, { log[1].delay, log[1].after, log[1].run_after })
      assert.same({ "y", "2030-01-31 08:00+01", {} }, { log[2].data, log[2].after, log[2].retry_waits })
      assert.is_nil(log[2].run_after)
      assert.same({}, worker:enqueued "q")
      assert.equal(4, #worker:enqueued())
      assert.same(worker:enqueued(), outcome.enqueued)
      assert.same({ "2", "y" }, { tostring(outcome.enqueued[1].id), outcome.enqueued[4].data })
      outcome.enqueued[1].retry_waits[1] = "changed"
      assert.equal("1m0s", worker:enqueued("mail")[1].retry_waits[1])
    end)

    it("enqueues many, by a list or a function, all or none", function()
      local outcome = perform [[
        local ids = assert(pgq.enqueue_many("mail", { "a", "b" }, { delay = 1 }))
        assert(#ids == 2 and ids[2] == ids[1] + 1)
        assert(#pgq.enqueue_many("mail", ("c d"):gmatch "%a") == 2)
        assert(#pgq.enqueue_many("mail", {}) == 0)
        local ok, problem = pcall(pgq.enqueue_many, "mail", coroutine.wrap(function() coroutine.yield "e" coroutine.yield(5) end))
        assert(not ok and problem:find "job 2 must be a string, not a number", problem)]]
      assert.is_nil(outcome.error)
      local data = {}
      for i, job in ipairs(outcome.enqueued) do data[i] = job.data end
      assert.equal("a b c d", table.concat(data, " "))
    end)

    it("refuses the arguments that pgq.enqueue refuses, with the same messages", function()
      for _, case in ipairs {
        { "'', 'x'", "the queue name is empty (22023)" },
        { "'a\\0b', 'x'", "the queue name holds a NUL byte (22023)" },
        { "'\\255', 'x'", "the queue name is not valid UTF-8 (22023)" },
        { "'q', ('x'):rep(2^28 + 1)", "data has 268435457 bytes, the limit is 268435456 (54000)" },
        { "'q', 'x', { delay = 'soon' }", 'the delay ("soon") has a unit without a number; write seconds, or 1h30m, 10m0s, 45s, 250ms (22023)' },
        { "'q', 'x', { delay = 1, after = 5 }", "both a delay and an earliest time to run are given; give one of them (22023)" },
      } do
        local outcome = perform(("local id, message, code = pgq.enqueue(%s) return id, message .. ' (' .. code .. ')'"):format(case[1]))
        assert.equal(case[2], outcome.error)
        assert.same({}, outcome.enqueued)
      end
      assert.matches("worker.lua:3: enqueue: data must be a string, not a number", perform("pgq.enqueue('q', 5)").error)
      assert.matches('worker.lua:3: enqueue: "when" is not an option', perform("pgq.enqueue('q', 'x', { when = 5 })").error)
      assert.matches("worker.lua:3: enqueue_many: job 2 must be a string", perform("pgq.enqueue_many('q', { 'x', 5 })").error)
      assert.matches("job 2: data has", perform("return pgq.enqueue_many('q', { 'x', ('x'):rep(2^28 + 1) })").error)
    end)

    it("says that there is no database, unless the test answers", function()
      for _, body in ipairs { "pgq.query 'SELECT 1'", "pgq.connect():query 'SELECT 1'",
        "pgq.transaction(function(tx) tx:query 'SELECT 1' end)" } do
        assert.matches("worker.lua:3: query: there is no database in this test: load the script with", perform(body).error)
      end
    end)

    it("answers queries by the test's function", function()
      local asked = {}
      local function query(...)
        asked[#asked + 1] = { ... }
        if (...) == "bad" then return nil, "no such table", "42P01" end
        return { { name = "ann" }, affected = 1 }
      end
      local outcome = perform([[
        assert(pgq.query("SELECT $1", data)[1].name == "ann")
        local conn = assert(pgq.connect())
        assert(conn:query("SELECT 2").affected == 1)
        conn:close()
        assert(select(3, conn:query "SELECT 3") == "08003")
        return pgq.query "bad"]], nil, { query = query })
      assert.equal("no such table", outcome.error)
      assert.same({ { "SELECT $1", "data" }, { "SELECT 2" }, { "bad" } }, asked)
    end)

    it("keeps the jobs of a transaction that commits, and of no other", function()
      local function query(sql)
        if sql == "bad" then return nil, "no such table", "42P01" end
        return {}
      end
      local function transaction(body)
        local outcome = perform(([[
          local function fn(tx)
            assert(tx:enqueue("mail", "x"))
            %s
          end
          local ok, message, code = pgq.connect():transaction(fn)
          local again, other = pgq.transaction(fn)
          assert(ok == again and message == other)
          return nil, tostring(ok) .. " " .. tostring(message) .. " " .. tostring(code)]]):format(body), nil, { query = query })
        return outcome.error, #outcome.enqueued
      end
      assert.same({ "true 5 nil", 2 }, { transaction "return 5" })
      assert.same({ "nil no nil", 0 }, { transaction "return nil, 'no'" })
      assert.same({ "nil the transaction was rolled back, since a statement in it had failed: no such table 42P01", 0 },
        { transaction "tx:query 'bad'" })
      assert.same({ "true nil nil", 2 }, { transaction "tx:query 'bad' tx:query 'ROLLBACK TO here'" })
      assert.same({ "true 2 nil", 6 }, { transaction "return #tx:enqueue_many('mail', { 'y', 'z' })" })
      local outcome = perform "pgq.transaction(function(tx) tx:enqueue('mail', 'x') error('thrown', 0) end)"
      assert.same({ "thrown", 0 }, { outcome.error, #outcome.enqueued })
      assert.matches("the transaction has ended",
        perform("local kept pgq.transaction(function(tx) kept = tx end) kept:enqueue('mail', 'x')").error)
      assert.matches("transactions do not nest", perform("pgq.transaction(function(tx) tx:transaction(print) end)").error)
      assert.matches("use tx:enqueue in its function",
        perform("local conn = pgq.connect() conn:transaction(function() conn:enqueue('mail', 'x') end)").error)
      assert.matches("call it with a colon: conn:query", perform("pgq.connect().query 'SELECT 1'").error)
    end)

    it("gives the job of a transactional queue a transaction", function()
      local function query(sql)
        if sql == "bad" then return nil, "no such table", "42P01" end
        return {}
      end
      local function run(body)
        local outcome = perform("job.tx:enqueue('mail', 'x')\n" .. body, nil, { query = query }, "{ transactional = true }")
        return { outcome.status, #outcome.enqueued, outcome.error }
      end
      assert.same({ "complete", 1 }, run "")
      assert.same({ "retry", 0, "no luck" }, run "return nil, 'no luck'")
      assert.same({ "snooze", 0 }, run "return pgq.snooze(5)")
      assert.same({ "retry", 0, "the transaction was rolled back, since a statement in it had failed: no such table" },
        run "job.tx:query 'bad'")
    end)

    it("drains the due jobs, in the order of their times and ids", function()
      local worker = load [[
        for _, name in ipairs { "a", "b" } do
          pgq.register_queue(name, function(data) if data == "more" then pgq.enqueue("b", "last") end end)
        end]]
      assert.same({}, worker:drain())
      assert.equal(1, worker:enqueue("a", "later", { delay = "1h" }))
      worker:enqueue("b", "first")
      worker:enqueue("a", "more")
      worker:enqueue("other", "not ours")
      worker:enqueue("a", "never", { after = "tomorrow" })
      local function drain()
        local data = {}
        for i, outcome in ipairs(worker:drain()) do
          assert.equal("complete", outcome.status)
          data[i] = outcome.job.data
        end
        return table.concat(data, " ")
      end
      assert.equal("first more last", drain())
      worker:advance "59m59s"
      assert.equal("", drain())
      worker:advance(1)
      assert.equal("later", drain())
      assert.equal(2, #worker:jobs())
    end)

    it("stops draining at a limit, after pgq.stop(), and when jobs enqueue further jobs without end", function()
      local worker = with_handler "if data == 'stop' then pgq.stop() elseif data == 'again' then pgq.enqueue('q', data) end"
      for _ = 1, 3 do worker:enqueue("q", "x") end
      assert.equal(2, #worker:drain(2))
      assert.is_false(worker.stopped)
      worker:enqueue("q", "stop")
      worker:enqueue("q", "x")
      assert.equal(2, #worker:drain())
      assert.is_true(worker.stopped)
      assert.same({}, worker:drain())
      worker.stopped = false
      worker:enqueue("q", "again")
      assert.matches("drain: 10000 jobs were run, and more are due; do they enqueue each other%?", error_of(worker.drain, worker))
    end)

    it("restores the clock that the script has moved", function()
      local worker = with_handler("pgq.sleep(100) return nil, os.time() - job.created_at .. ''")
      assert.equal("100", worker:perform("q", "").error)
      assert.is_true(math.abs(os.time() - uv.gettimeofday()) <= 50)
    end)
  end)

  describe("with a server", function()
    local pg, conn

    setup(function()
      pg = Postgres.start { migrated = true }
      conn = assert(pgq.connect(pg.conninfo))
    end)

    teardown(function()
      conn:close()
      pg:stop()
    end)

    before_each(function() pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY; DROP TABLE IF EXISTS notes" end)

    it("runs a handler against it, and leaves nothing of the job", function()
      local worker = with_handler([[
        local conn = assert(pgq.connect())
        local rows = assert(conn:query("SELECT queue_name, attempt, data FROM pgq_jobs WHERE id = $1", job.id))
        assert(rows[1].queue_name == "q" and rows[1].attempt == 2 and rows[1].data == data)
        assert(conn:enqueue("mail", data, { delay = "10m", retry_waits = { 5 } }))
        assert(pgq.enqueue("mail", "second"))
        conn:close()
        return nil, job.attempt .. " " .. job.retries_left .. " " .. tostring(math.abs(job.created_at - os.time()) < 60)]],
        { db = pg.conninfo })
      local outcome = worker:perform("q", "\0\255x", { attempt = 2, retry_waits = { "7s" } })
      assert.same({ "retry", 7, "2 1 true" }, { outcome.status, outcome.wait, outcome.error })
      assert.same({ "\0\255x", { "5s" } }, { outcome.enqueued[1].data, outcome.enqueued[1].retry_waits })
      assert.near(600, outcome.enqueued[1].delay, 30) -- both times are the server's, in one call
      assert.equal("second", outcome.enqueued[2].data)
      assert.is_nil(outcome.enqueued[2].delay)
      assert.equal("mail\nmail", pg:psql "SELECT queue_name FROM pgq_jobs")
      assert.same(outcome.enqueued, worker:enqueued "mail")
      assert.same({}, worker:enqueued "q")
      worker:close()
    end)

    it("closes all that the script has opened", function()
      local worker = with_handler([[
        kept = assert(pgq.connect())
        assert(kept:query "SET application_name = 'left'" and pgq.query "SELECT 1")]], { db = pg.conninfo })
      local function count() return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('left', 'pgq-lua')" end
      local function till(what, expected)
        wait.till(what, 30, function()
          local found = count()
          return found == expected, found
        end)
      end
      till("those of others to be gone", "2") -- this spec's, and the worker's own
      assert.equal("complete", worker:perform("q", "").status)
      assert.equal("4", count())
      worker:close()
      till("the connections to be gone", "1")
    end)

    it("answers pgq.query and pgq.transaction", function()
      pg:psql "CREATE TABLE notes (text text)"
      local worker = with_handler([[
        assert(pgq.transaction(function(tx)
          assert(tx:query("INSERT INTO notes VALUES ($1)", data))
          assert(tx:enqueue("mail", "x"))
        end))
        assert(pgq.query("SELECT count(*) AS count, NULL AS none FROM notes")[1].none == pgq.null)
        pgq.transaction(function(tx) tx:enqueue("mail", "y") coroutine.yield() end)]], { db = pg.conninfo })
      local outcome = worker:perform("q", "a note")
      assert.matches("handler yielded", outcome.error)
      assert.same({ 1, "x" }, { #outcome.enqueued, outcome.enqueued[1].data })
      assert.equal("a note", pg:psql "SELECT text FROM notes")
      worker:close()
    end)

    local function clock() return pg:psql "SELECT clock_timestamp()" end

    -- What the table has of the only job of q; at last, whether it is due so many seconds behind a moment between
    -- `since` and now.
    local function row(since, seconds)
      return pg:psql(([[SELECT attempt, retry_waits, coalesce(error, '-'), ran_at IS NOT NULL, lease IS NULL,
        run_after - %d * interval '1 second' BETWEEN '%s' AND clock_timestamp() FROM pgq_jobs WHERE queue_name = 'q']])
        :format(seconds or 0, since or "-infinity"))
    end

    it("drains as a worker does", function()
      for _, case in ipairs {
        { "", nil, "complete", "" },
        { "", "{ preserve_completed = true }", "complete", "1|{10s,1m}|-|t|t|" },
        { "return nil, 'no'", nil, "retry", "1|{1m}|no|f|t|t", 10 },
        { "return pgq.backoff 'no'", nil, "backoff", "1|{1m}|no|f|t|t", 10 },
        { "return pgq.retry(7, 'no')", nil, "retry", "1|{1m}|no|f|t|t", 7 },
        { "return pgq.discard 'no'", nil, "discard", "1|{10s,1m}|no|t|t|t", 0 },
        { "return pgq.discard 'no'", "{ discard_failed = true }", "discard", "" },
        { "return pgq.snooze '5m'", nil, "snooze", "0|{10s,1m}|-|f|t|t", 300 },
        { [[return nil, "\0"]], nil, "retry", "1|{1m}|\239\191\189|f|t|t", 10 },
      } do
        local since = clock()
        pg:psql "TRUNCATE pgq_jobs; SELECT pgq_enqueue('q', '', now(), '{10s,1m}')"
        local worker = with_handler(case[1], { db = pg.conninfo }, case[2])
        local outcomes = worker:drain()
        assert.equal(1, #outcomes)
        assert.equal(case[3], outcomes[1].status)
        assert.is_nil(outcomes[1].dropped)
        local expected = case[4]
        assert.equal(expected, (row(since, case[5]):sub(1, expected:sub(-1) == "|" and #expected or -1)), case[1])
        worker:close()
      end
    end)

    it("moves time by making jobs older, and tries until the waits are used up", function()
      local job = fails_until_the_end { db = pg.conninfo }
      assert.is_true(math.abs(os.time() - 3600000 - job.ran_at) < 60)
    end)

    it("has waits move time too", function()
      local worker = with_handler("if data == 'sleep' then pgq.sleep '1h' end", { db = pg.conninfo })
      worker:enqueue("q", "later", { delay = "30m" })
      worker:enqueue("q", "sleep")
      assert.equal(2, #worker:drain())
      assert.equal("", row())
      worker:close()
    end)

    it("fails a job whose worker died, or whose waits cannot be read, and runs no handler", function()
      local worker = with_handler("error 'not to be called'", { db = pg.conninfo })
      local since = clock()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, lease, attempt, run_after) VALUES ('q', '', 5, 2, now() - interval '1 s')"
      local outcome = worker:drain()[1]
      assert.same({ "retry", "worker lost: lease ran out", 60 }, { outcome.status, outcome.error, outcome.wait })
      assert.equal("2|{10m0s,30m0s}|worker lost: lease ran out|f|t|t", row(since, 60))
      for _, waits in ipairs { "{soon}", "{1m,5}" } do
        pg:psql(("TRUNCATE pgq_jobs; INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', '', '%s')"):format(waits))
        outcome = worker:drain()[1]
        assert.equal("failed", outcome.status)
        assert.matches("^retry_waits cannot be read: element %d, '%w+', .*; write durations such as 10m0s", outcome.error)
      end
      worker:close()
    end)

    it("drops the outcome of a job that its handler has cancelled", function()
      local worker = with_handler([[assert(pgq.connect():query("SELECT pgq_cancel($1)", job.id)) return nil, "no"]], { db = pg.conninfo })
      worker:enqueue("q", "x")
      local outcome = worker:drain()[1]
      assert.is_true(outcome.dropped)
      assert.equal("cancelled", worker:jobs("q")[1].error)
      worker:close()
    end)

    it("leaves jobs alone that another session holds", function()
      local worker = with_handler("", { db = pg.conninfo })
      worker:enqueue("q", "held")
      worker:enqueue("q", "free")
      conn:transaction(function(tx)
        tx:query "SELECT FROM pgq_jobs WHERE data = 'held' FOR UPDATE"
        worker:advance(1)
        local outcomes = worker:drain()
        assert.equal(1, #outcomes)
        assert.equal("free", outcomes[1].job.data)
      end)
      assert.equal("held", worker:drain()[1].job.data)
      worker:close()
    end)

    it("completes the job of a transactional queue in its transaction, or nothing happens", function()
      pg:psql "CREATE TABLE notes (text text UNIQUE DEFERRABLE INITIALLY DEFERRED)"
      local body = [[
        assert(job.tx:query("INSERT INTO notes VALUES ($1)", data))
        assert(job.tx:enqueue("mail", data))
        if data == "fail" then return nil, "no" elseif data == "yield" then coroutine.yield()
        elseif data == "cancel" then pgq.connect():query("SELECT pgq_cancel($1)", job.id) end]]
      for _, queue_options in ipairs { "{ transactional = true }", "{ transactional = true, preserve_completed = true }" } do
        pg:psql "TRUNCATE pgq_jobs, notes"
        local worker = with_handler(body, { db = pg.conninfo }, queue_options)
        local function run(data)
          worker:enqueue("q", data, { retry_waits = { 10 } })
          local outcome = worker:drain()[1]
          return { outcome.status, outcome.error, #worker:enqueued "mail", outcome.dropped }
        end
        assert.same({ "complete", nil, 1 }, run "good")
        assert.equal(queue_options:find "preserve" and "1|{10s}|-|t|t|" or "", (row():gsub("[tf]$", "")))
        assert.same({ "retry", "no", 1 }, run "fail")
        assert.matches("handler yielded", run("yield")[2])
        pg:psql "SET statement_timeout = '20s'; INSERT INTO notes VALUES ('yield'); DELETE FROM notes WHERE text = 'yield'" -- no lock is left
        assert.matches("unique constraint", run("good")[2])
        assert.same({ "retry", "the lease of the job was lost: it ran out, or the job was cancelled; the transaction was rolled back", 1, true },
          run "cancel")
        assert.equal("good", pg:psql "SELECT text FROM notes")
        pg:psql "TRUNCATE notes"
        local outcome = worker:perform("q", "performed")
        assert.same({ "complete", "mail" }, { outcome.status, outcome.enqueued[1].queue })
        assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE data = 'performed' AND queue_name = 'q'")
        worker:close()
      end
    end)

    it("says so when there is no server or no table", function()
      assert.matches("testing: cannot connect: .*/nowhere", error_of(with_handler, "", { db = "host=/nowhere user=nobody" }))
      pg:psql "CREATE DATABASE empty"
      assert.matches("testing: .*pgq_jobs.*does not exist; run `pgq%-lua migrate`",
        error_of(with_handler, "", { db = pg.conninfo:gsub("dbname=postgres", "dbname=empty") }))
    end)
  end)

  describe("loads a script", function()
    it("with its own modules and globals", function()
      write("counter.lua", "local counter = { pgq = require 'pgq', count = 0 } name_of_counter = 'global' return counter")
      local body = [[
        local counter = require "counter"
        total = (total or 0) + 1
        pgq.register_queue("q", function(data)
          counter.count = counter.count + 1
          assert(counter == require "counter" and counter.pgq == pgq and pgq == require "pgq")
          assert(name_of_counter == "global" and total == 1)
          counter.pgq.enqueue("seen", data)
          lazily = require "lazy"
          return nil, counter.count .. lazily
        end)]]
      write("lazy.lua", "return 'lazy'")
      local first, second = load(body), load(body)
      assert.equal("1lazy", first:perform("q", "a").error)
      assert.equal("2lazy", first:perform("q", "b").error)
      assert.equal("1lazy", second:perform("q", "c").error)
      assert.equal(2, #first:enqueued "seen")
      assert.equal(1, #second:enqueued "seen")
      assert.equal(pgq, require "pgq")
      for _, name in ipairs { "counter", "lazy", "pgq.host", "pgq.handlers.none" } do assert.is_nil(package.loaded[name]) end
      for name in pairs(_G) do assert.is_true(globals_before[name], name) end
      assert.is_nil(rawget(_G, "total"))
    end)

    it("shares modules that the test has loaded before, such as stubs", function()
      package.loaded["my.http"] = { post = function() return "stubbed" end }
      local worker = load [[local http = require "my.http" pgq.register_queue("q", function() return nil, http.post() end)]]
      assert.equal("stubbed", worker:perform("q", "").error)
      package.loaded["my.http"] = nil
    end)

    it("and loads modules in C once", function()
      package.preload["in.c"] = string.upper -- a function in C; what it returns becomes the module
      load [[assert(require "in.c" == "IN.C") pgq.register_queue("q", print)]]
      assert.equal("IN.C", package.loaded["in.c"])
      package.preload["in.c"], package.loaded["in.c"] = nil, nil
    end)

    it("and does not change the coroutine library", function()
      local before = { coroutine.resume, coroutine.wrap }
      with_handler ""
      assert.same(before, { coroutine.resume, coroutine.wrap })
    end)

    it("whose error is the test's, with the script's message", function()
      for _, case in ipairs {
        { "if then", "^[^\n]*worker.lua:2: unexpected symbol near 'then'$" },
        { "\nlocal function f() error 'no config' end f()", "^[^\n]*worker.lua:3: no config$" },
        { "error(setmetatable({}, { __tostring = function() return 'an object' end }))", "^an object$" },
        { "require 'no.such.module'", "worker.lua:2: module 'no.such.module' not found" },
        { "os.exit(7)", "worker.lua: the script ended its process with status 7 while it was loaded$" },
        { "pgq.stop()", "worker.lua: the script ends without a queue: call pgq.register_queue" },
        { "pgq.register_queue('q', print) pgq.register_queue('q', print)", 'worker.lua:2: register_queue: queue "q" is registered already' },
        { "pgq.register_queue('', print)", "worker.lua:2: register_queue: the queue name must be UTF%-8 text" },
        { "pgq.register_queue('\\255', print)", "worker.lua:2: register_queue: the queue name must be UTF%-8 text" },
        { "pgq.register_queue('q', print, { timeout = 'soon' })", "worker.lua:2: register_queue: the timeout %(\"soon\"%) has a unit" },
        { "pgq.register_queue('q', print, { discard = 1 })", "worker.lua:2: register_queue: there is no option discard" },
        { "pgq.configure { pol_interval = 1 }", "worker.lua:2: configure: there is no setting 'pol_interval'; the settings are: db" },
        { "pgq.configure { grace = 'soon' }", "worker.lua:2: configure: grace: 'soon'" },
      } do
        assert.matches(case[2], error_of(load, case[1]))
      end
      assert.matches("cannot open /no/such.lua", error_of(testing.load, "/no/such.lua"))
      assert.equal(pgq, require "pgq")
    end)

    it("and tells what it configured, which holds for its queues", function()
      local worker = load [[
        pgq.configure { preserve_completed = "yes", executors = 4 }
        pgq.register_queue("kept", function() end)
        pgq.register_queue("gone", function() end, { preserve_completed = false })]]
      assert.same({ preserve_completed = "yes", executors = "4" }, worker.settings)
      worker:enqueue("kept", "")
      worker:enqueue("gone", "")
      worker:drain()
      assert.equal(1, #worker:jobs())
      assert.equal("preserved", worker:jobs("kept")[1].state)
    end)
  end)

  describe("called wrongly", function()
    it("reports an error at the line of the caller", function()
      local worker = with_handler ""
      for _, case in ipairs {
        { "load: the path of the script must be a string, not a nil", testing.load },
        { "load: options must be a table, not a string", testing.load, "x", "y" },
        { "load: there is no option dbs; there are args, db, query", testing.load, "x", { dbs = 1 } },
        { "load: the option query must be a function, not a string", testing.load, "x", { query = "y" } },
        { "load: with a server %(db%), queries run on the server", testing.load, "x", { db = "", query = print } },
        { "perform: the script registers no queue nope; it registers q", worker.perform, worker, "nope", "" },
        { "perform: data must be a string, not a nil", worker.perform, worker, "q" },
        { "perform: there is no option wait; there are attempt, cancel_after, created_at", worker.perform, worker, "q", "", { wait = 1 } },
        { "perform: the option attempt must be a number, not a string", worker.perform, worker, "q", "", { attempt = "1" } },
        { "perform: retry wait 2 %(\"soon\"%) has a unit", worker.perform, worker, "q", "", { retry_waits = { 1, "soon" } } },
        { "perform: the time %(\"soon\"%) has a unit", worker.perform, worker, "q", "", { cancel_after = "soon" } },
        { "call it with a colon: worker:perform", worker.perform, "q", "" },
        { "advance: the time must be a number of seconds or a duration such as 1m30s, not a nil", worker.advance, worker },
        { "advance: the time %(%-1%) is negative", worker.advance, worker, -1 },
        { "drain: the limit must be a number, not a string", worker.drain, worker, "all" },
        { "enqueued: the queue name must be a string, not a number", worker.enqueued, worker, 5 },
        { "jobs: the queue name must be a string, not a number", worker.jobs, worker, 5 },
        { "enqueue: data must be a string, not a nil", worker.enqueue, worker, "q" },
      } do
        local fn = case[2]
        local message = error_of(function() return fn(unpack(case, 3, 6)), 1 end)
        assert.matches("testing_spec.lua:%d+: " .. case[1], message)
      end
    end)
  end)
end)

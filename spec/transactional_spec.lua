-- Transactional handlers: their statements through job.tx and the completion of their jobs are committed together, or
-- not at all. Kills of workers, executors and sessions are in transactional_kill_spec.lua.
local Pgbouncer = require "spec.support.pgbouncer"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("a transactional handler", function()
  local pg = fixture.server {
    sql = [[
      CREATE TABLE marks (job bigint, what text);
      CREATE TABLE signals (given int);
      CREATE TABLE taken (what text UNIQUE DEFERRABLE INITIALLY DEFERRED);]],
    clean = "TRUNCATE marks, signals, taken",
  }

  local HEAD = fixture.HEAD .. [[
    local function mark(job, what)
      assert(job.tx:query("INSERT INTO marks VALUES ($1, $2)", job.id, what or "done"))
    end
    local function wait_for_signal()
      wait_for(function() return assert(pgq.query "SELECT count(*) AS n FROM signals")[1].n > 0 end)
    end
  ]]

  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg, { head = HEAD })

  local function give_signal() pg:psql "INSERT INTO signals VALUES (1)" end

  -- A script whose queue ("q") has a transactional handler with this body.
  local function handler(body, options, queue)
    return ('pgq.register_queue("%s", function(data, job)\n%s\nend, { transactional = true%s })\n')
      :format(queue or "q", body, options and ", " .. options or "")
  end

  -- What is left of the jobs, or of those of one queue.
  local function jobs(queue)
    local left = pg:psql(([[SELECT attempt, CASE WHEN ran_at IS NULL THEN 'retried' ELSE 'ended' END, lease IS NULL, error
      FROM pgq_jobs WHERE queue_name = coalesce(%s, queue_name) ORDER BY id]]):format(queue and "'" .. queue .. "'" or "NULL"))
    return left == "" and "completed" or left
  end

  local function marks() return pg:psql "SELECT string_agg(what, ',' ORDER BY job, what) FROM marks" end

  -- Runs a job through a handler with this body. Returns what is left of it, the marks, and the worker's result.
  local function run(body, options, ...)
    enqueue "q"
    local result = drain(handler(body, options), ...)
    return jobs(), marks(), result
  end

  -- Expects the attempt to fail with this message (a pattern), and nothing else to have come about.
  local function fails(body, message, options, ...)
    local left, made, result = run(body, options, ...)
    assert.matches("^1|retried|t|" .. message, left)
    assert.equal("", made)
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
    pg:psql "TRUNCATE pgq_jobs, taken"
    return result
  end

  -- As `fails`, for many bodies at once: { { body =, message =, options = }, … }. Each has a queue of its own in the
  -- same worker. Returns the worker's result.
  local function all_fail(cases)
    local script = {}
    for i, case in ipairs(cases) do
      script[i] = handler(case.body, case.options, "q" .. i)
      enqueue("q" .. i)
    end
    local result = drain(table.concat(script))
    for i, case in ipairs(cases) do
      assert.matches("^1|retried|t|" .. case.message, jobs("q" .. i), 1, false, case.body)
    end
    assert.equal("", marks())
    assert.equal(tostring(#cases), pg:psql "SELECT count(*) FROM pgq_jobs")
    return result
  end

  local function succeeds(body, made, options, ...)
    local left, seen, result = run(body, options, ...)
    assert.equal("completed", left, result.stderr)
    assert.equal(made, seen)
    pg:psql "TRUNCATE marks, taken"
    return result
  end

  describe("that succeeds", function()
    it("commits its queries, its jobs and its own completion at once", function()
      local worker = start [[
        pgq.register_queue("q", function(data, job)
          mark(job)
          assert(job.tx:enqueue("next", "a"))
          assert(job.tx:enqueue_many("next", { "b", "c" }))
          print "waits"
          wait_for_signal()
        end, { transactional = true })
        pgq.register_queue("next", function(data) print("next " .. data) end)]]
      enqueue "q"
      worker:read_until "waits"
      wait.sleep(0.4)
      assert.equal("", marks())
      assert.equal("q", pg:psql "SELECT string_agg(queue_name, ',') FROM pgq_jobs")
      assert.equal("waits\n", worker.stdout)
      give_signal()
      for _ = 1, 3 do worker:read_until "next %a\n" end
      assert.equal("done", marks())
      worker:stop()
      local _, lines = worker.stdout:gsub("\n", "")
      assert.equal(4, lines)
      for _, data in ipairs { "a", "b", "c" } do assert.matches("\nnext " .. data .. "\n", worker.stdout) end
      assert.equal("completed", jobs())
    end)

    it("does not have to use job.tx", function()
      succeeds("pgq.sleep(0.05); print 'ran'", "")
      succeeds("assert(pgq.query \"INSERT INTO marks VALUES (1, 'outside')\")", "outside")
    end)

    it("is preserved, with its attempt, where completed jobs are", function()
      for _, how in ipairs { { "preserve_completed = true" }, { nil, "--preserve-completed" } } do
        local left, made = run("mark(job)", unpack(how, 1, 2))
        assert.equal("1|ended|t|", left)
        assert.equal("done", made)
        assert.equal("t", pg:psql "SELECT ran_at BETWEEN now() - interval '60 s' AND now() FROM pgq_jobs")
        pg:psql "TRUNCATE pgq_jobs, marks"
      end
    end)

    it("forgets the error of the attempt before when it is preserved", function()
      run("if job.attempt == 1 then return nil, 'not yet' end mark(job)", "preserve_completed = true")
      assert.equal("1|retried|t|not yet", jobs())
      pg:psql "UPDATE pgq_jobs SET run_after = now()"
      drain(handler("if job.attempt == 1 then return nil, 'not yet' end mark(job)", "preserve_completed = true"))
      assert.equal("2|ended|t|", jobs())
      assert.equal("done", marks())
    end)

    it("has each job in a transaction of its own, as many at a time as the pool has connections but one", function()
      enqueue("q", "", 40)
      local result = drain([[
        local running, most, seen = 0, 0, {}
        pgq.register_queue("q", function(data, job)
          running = running + 1
          most = math.max(most, running)
          wait_for(function() return most >= 3 end)
          local xid = assert(job.tx:query("SELECT txid_current()::text AS x"))[1].x
          assert(not seen[xid])
          seen[xid] = true
          assert(job.tx:query "SELECT pg_sleep(0.05)")
          mark(job)
          running = running - 1
          print(most)
        end, { transactional = true })]], "--pool", "4")
      assert.equal("3", result.stdout:match "(%d+)\n$")
      assert.equal("40", pg:psql "SELECT count(DISTINCT job) FROM marks")
      assert.equal("completed", jobs())
    end)

    it("may also use another connection, even if all handlers do", function()
      enqueue("a", "", 30)
      enqueue("b", "", 30)
      local began = uv.hrtime()
      drain [[
        local function handle(_, job)
          mark(job)
          pgq.sleep(0.02)
          assert(pgq.query "SELECT 1")
          assert(pgq.enqueue("later", "", { delay = "1h" }))
        end
        pgq.register_queue("a", handle, { transactional = true })
        pgq.register_queue("b", handle, { transactional = true })]]
      assert.equal("60", pg:psql "SELECT count(DISTINCT job) FROM marks")
      assert.equal("later|60", pg:psql "SELECT queue_name, count(*) FROM pgq_jobs GROUP BY 1")
      assert.is_true(uv.hrtime() - began < 25e9) -- a call waits for a connection for 30 s at most
    end)

    it("runs at the isolation level that it sets", function()
      for _, level in ipairs { "REPEATABLE READ", "SERIALIZABLE" } do
        succeeds(([[
          assert(job.tx:query "SET TRANSACTION ISOLATION LEVEL %s")
          assert(job.tx:query "SELECT count(*) FROM marks")
          mark(job, assert(job.tx:query "SHOW transaction_isolation")[1].transaction_isolation)]]):format(level),
          level:lower())
      end
    end)

    it("has its data, of any size, and all else of a job", function()
      enqueue "q"
      pg:psql "UPDATE pgq_jobs SET data = convert_to(repeat('x', 20000000), 'UTF8'), id = 9007199254740993"
      local result = drain(handler "mark(job, #data .. ' ' .. tostring(job.id) .. ' ' .. job.attempt)")
      assert.equal("completed", jobs(), result.stderr)
      assert.equal("9007199254740993|20000000 9007199254740993 1", pg:psql "SELECT job, what FROM marks")
    end)
  end)

  describe("that fails", function()
    it("writes nothing but its retry", function()
      local messages = {
        ["return nil, 'no luck'"] = "no luck",
        ["return false"] = "the handler returned false",
        ["return 42"] = "the handler returned a number %(42%)",
        ["error 'thrown'"] = ".*worker.lua:%d+: thrown",
        ["error({})"] = "table: ",
        ["error()"] = "the handler called error%(nil%)",
        ["error(io.stdout)"] = "file %(",
        ["error(setmetatable({}, { __tostring = function() error 'no' end }))"] = "%(a table whose __tostring fails%)",
        ["error { error = 'in a table' }"] = "in a table",
        ["error { backoff = true, error = 'slower' }"] = "slower",
        ["return pgq.retry('2h', 'later')"] = "later",
        ["local x = nil; x.y = 1"] = ".*attempt to index local 'x'",
        ["coroutine.yield(1)"] = "the handler yielded, and nothing resumes it",
        ["local function f() return 1 + f() end f()"] = ".*stack overflow",
      }
      local cases = {}
      for body, message in pairs(messages) do
        cases[#cases + 1] = { body = "mark(job); assert(job.tx:enqueue('q', '')); " .. body, message = message }
      end
      all_fail(cases)
    end)

    it("may snooze or be discarded, and writes nothing but that", function()
      local left, made = run "mark(job); return pgq.snooze '1h'"
      assert.equal("0|retried|t|", left)
      assert.equal("", made)
      pg:psql "TRUNCATE pgq_jobs"
      left, made = run "mark(job); return pgq.discard 'no use'"
      assert.equal("1|ended|t|no use", left)
      assert.equal("", made)
    end)

    it("ignored a failed statement", function()
      all_fail {
        { body = "mark(job); job.tx:query 'SELECT 1 / 0'",
          message = "the transaction was rolled back, since a statement in it had failed: division by zero" },
        { body = "mark(job); job.tx:query 'SELECT 1 / 0'; job.tx:query 'SELECT 1'", message = ".*division by zero" },
      }
    end)

    it("does not when a savepoint brought the transaction back", function()
      succeeds([[
        mark(job)
        assert(job.tx:query "SAVEPOINT here")
        assert(not job.tx:query "SELECT 1 / 0")
        assert(job.tx:query "ROLLBACK TO here")]], "done")
    end)

    it("breaks a constraint that is checked at the COMMIT", function()
      fails("mark(job); for _ = 1, 2 do assert(job.tx:query \"INSERT INTO taken VALUES ('x')\") end",
        "duplicate key value violates unique constraint")
    end)

    it("crashes its executor", function()
      -- Not os.exit: a sanitizer would report the memory that the process still has as leaks.
      fails("mark(job); local ffi = require 'ffi'; ffi.cdef 'void _exit(int)'; ffi.C._exit(3)",
        "the executor exited with status 3 while it ran this job")
      fails("mark(job); local uv = require 'luv'; uv.kill(uv.os_getpid(), 'sigkill'); while true do end",
        "the executor was killed by SIGKILL")
    end)

    it("outlives its time limit while it waits, or swallows pgq.timeout", function()
      all_fail {
        { body = "mark(job); pgq.sleep(60)", message = "pgq.timeout", options = "timeout = '2s'" },
        { body = "mark(job); assert(job.tx:query 'SELECT pg_sleep(60)')", message = "pgq.timeout", options = "timeout = '2s'" },
        { body = "mark(job); pcall(pgq.sleep, 60); pgq.sleep(60)", message = "pgq.timeout", options = "timeout = '2s'" },
      }
      wait.till("the statement to be cancelled", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND query LIKE 'SELECT pg_sleep%'" == "0"
      end)
    end)

    it("outlives its time limit while it computes", function()
      fails("mark(job); while true do end", "the executor was killed at the time limit of 2s", "timeout = '2s'")
    end)

    it("may clean up when its time is over, and its statements before count", function()
      succeeds("mark(job); pcall(pgq.sleep, 60)", "done", "timeout = '2s'")
    end)
  end)

  describe("that ends the transaction itself", function()
    it("is refused, and fails", function()
      local cases = {}
      for i, sql in ipairs { "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "PREPARE TRANSACTION 'x'" } do
        cases[i] = {
          body = ([[
            mark(job)
            print(job.tx:query(%q))
            job.tx:query "BEGIN"
            job.tx:query "INSERT INTO marks VALUES (0, 'after')"
          ]]):format(sql),
          message = sql:match "^%u+" .. ".- is refused in the function of a transaction",
        }
      end
      local result = all_fail(cases)
      local lines = 0
      for line in result.stdout:gmatch "[^\n]+" do
        assert.matches("^nil\t%u+.- is refused in the function of a transaction.-\t2D000$", line)
        lines = lines + 1
      end
      assert.equal(#cases, lines)
    end)
  end)

  -- Another session changes the job's row with `sql` while its handler runs. Expects that nothing of the handler is
  -- committed, and returns the row and the worker's log.
  local function overtaken(sql, body, options, ...)
    enqueue "q"
    local worker = start(handler("mark(job); assert(job.tx:enqueue('never', '')); print 'waits'; " .. (body or "wait_for_signal()"), options), ...)
    worker:read_until "waits"
    pg:psql(sql)
    give_signal()
    worker:read_until("outcome dropped", 30, "stderr")
    worker:stop()
    assert.equal("", marks())
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'never'")
    return jobs(), worker.stderr
  end

  describe("that no longer owns its job", function()
    -- Without the notification a lease is looked at 20 s later, and again a second after that.
    local AT_ONCE = 10

    it("commits nothing: its lease ran out, and another has it", function()
      local left = overtaken "UPDATE pgq_jobs SET lease = 42, attempt = 2"
      assert.equal("2|retried|f|", left)
    end)

    it("commits nothing: the row is gone", function()
      assert.equal("completed", (overtaken "DELETE FROM pgq_jobs"))
    end)

    it("commits nothing, at REPEATABLE READ too", function()
      local left = overtaken("UPDATE pgq_jobs SET lease = 42, attempt = 2", [[wait_for_signal()
        assert(job.tx:query "SELECT 1")]])
      assert.equal("2|retried|f|", left)
      pg:psql "TRUNCATE signals"
      enqueue "q"
      local worker = start(handler [[
        assert(job.tx:query "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        mark(job)
        print "waits"
        wait_for_signal()]])
      worker:read_until "waits"
      pg:psql "UPDATE pgq_jobs SET lease = 43, attempt = 3"
      give_signal()
      worker:read_until("outcome dropped", 30, "stderr")
      worker:stop()
      assert.equal("", marks())
    end)

    it("is told so while it waits", function()
      enqueue "q"
      local worker = start(handler([[
        mark(job)
        print "waits"
        local ok, why = pcall(pgq.sleep, 60)
        print("told", why == pgq.cancelled)
        return true]], "timeout = '1m'"), "--lease", "3s")
      worker:read_until "waits"
      pg:psql "UPDATE pgq_jobs SET lease = 42, attempt = 2"
      worker:read_until("told\ttrue", 30)
      worker:read_until("outcome dropped: the lease was lost", 30, "stderr")
      worker:stop()
      assert.equal("", marks())
      assert.equal("2|retried|f|", jobs())
    end)

    it("is told so behind a pooler too, where no notification arrives", function()
      local pool = Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = 8 })
      finally(function() pool:stop() end)
      enqueue "q"
      local worker = Worker.start { pg = pool, args = { "--executors", "1", "--lease", "3s" }, script = HEAD .. handler([[
        mark(job)
        print "waits"
        pgq.sleep(60)]], "timeout = '1m'") }
        worker:read_until "waits"
      pg:psql "SELECT pgq_cancel(1)"
      worker:read_until("job cancelled", 30, "stderr")
      worker:stop()
      assert.equal("", marks())
      assert.equal("1|ended|t|cancelled", jobs())
    end)

    it("commits nothing when it is cancelled, and is told so at once", function()
      enqueue "q"
      local worker = start(handler [[
        mark(job)
        print "waits"
        local ok, why = pcall(pgq.sleep, 60)
        print("told", why == pgq.cancelled)
        return true]])
      worker:read_until "waits"
      assert.equal("running", pg:psql "SELECT pgq_cancel(1)")
      assert.equal("true", worker:read_until("told\t(.-)\n", AT_ONCE))
      worker:read_until("job cancelled", AT_ONCE, "stderr")
      worker:stop()
      assert.equal("", marks())
      assert.equal("1|ended|t|cancelled", jobs())
    end)

    it("commits nothing when it is cancelled in the middle of a statement", function()
      enqueue "q"
      local worker = start(handler [[
        mark(job)
        print "waits"
        assert(job.tx:query "SELECT pg_sleep(60)")]])
      worker:read_until "waits"
      assert.equal("running", pg:psql "SELECT pgq_cancel(1)")
      worker:read_until("job cancelled", AT_ONCE, "stderr")
      worker:stop()
      assert.equal("", marks())
      assert.equal("1|ended|t|cancelled", jobs())
    end)
  end)

  describe("whose job.tx", function()
    it("is used after it has ended gets an error", function()
      enqueue("q", "", 2)
      drain [[
        local kept
        pgq.register_queue("q", function(data, job)
          if not kept then kept = job.tx return end
          wait_for(function() return assert(pgq.query "SELECT count(*) AS n FROM pgq_jobs")[1].n == 1 end)
          pgq.sleep(0.2) -- until the result of that COMMIT has arrived
          kept:query "SELECT 1"
        end, { transactional = true })]]
      assert.matches("^1|retried|t|.*worker.lua:%d+: the transaction has ended", jobs())
    end)

    it("is used by another handler at the same time gets an error there, or fails the statement of this one", function()
      enqueue("q", "", 2)
      drain [[
        local kept, tried
        pgq.register_queue("q", function(data, job)
          if kept then
            local _, problem = pcall(function() assert(kept:query "SELECT 1") end)
            tried = true
            error(problem, 0)
          end
          kept = job.tx
          mark(job)
          local began = now()
          repeat
            job.tx:query "SELECT pg_sleep(0.1)"
          until tried or now() - began > 20
        end, { transactional = true })]]
      assert.matches("^1|retried|t|.*worker.lua:%d+: query: the connection is busy with query", jobs())
      assert.equal("done", marks())
    end)

    it("is made read-only cannot complete its job, and says why", function()
      fails("assert(job.tx:query 'SET TRANSACTION READ ONLY')", "cannot execute DELETE in a read%-only transaction")
    end)

    it("has another search path still completes its job", function()
      succeeds("mark(job); assert(job.tx:query 'SET LOCAL search_path = pg_catalog')", "done")
    end)
  end)

  describe("whose connection breaks", function()
    local TERMINATE = "SELECT pg_terminate_backend(pg_backend_pid())"

    it("before the COMMIT fails with the database's error, and its next attempt has another connection", function()
      fails("mark(job); assert(job.tx:query " .. ("%q"):format(TERMINATE) .. ")", ".*terminating connection")
      fails("mark(job); job.tx:query " .. ("%q"):format(TERMINATE), "the connection to the database is broken")
      succeeds("if job.attempt == 1 then job.tx:query " .. ("%q"):format(TERMINATE) .. " return pgq.retry(0) end mark(job)", "done")
    end)

    it("at the COMMIT, which was not carried out, gets the error that the result is not known", function()
      pg:psql(("CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM FROM (%s) AS x; RETURN NULL; END'"):format(TERMINATE))
      pg:psql "CREATE CONSTRAINT TRIGGER break AFTER INSERT ON marks DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION break()"
      finally(function() pg:psql "DROP TRIGGER break ON marks; DROP FUNCTION break" end)
      fails("mark(job)", "whether the transaction was committed is not known: .*terminating connection")
    end)

    -- From now on a COMMIT waits for a standby that does not exist, except where synchronous_commit is local.
    local function wait_for_standby(commit)
      pg:psql "ALTER SYSTEM SET synchronous_standby_names = 'nobody'"
      pg:psql("ALTER SYSTEM SET synchronous_commit = " .. commit)
      pg:psql "SELECT pg_reload_conf()"
      wait.till("the settings to be known to all", 30, function()
        local probe = process.start { "psql", "-Xq", "-d", pg.conninfo, "-c", "SET synchronous_commit = on",
          "-c", "CREATE TABLE probe ()", "-c", "DROP TABLE probe" }
        local waits = false
        while probe:is_running() do
          waits = pg:psql [[SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
            WHERE wait_event = 'SyncRep']] ~= "0" or waits
        end
        return waits
      end)
    end

    local function wait_no_more()
      pg:psql "ALTER SYSTEM RESET ALL"
      pg:psql "SELECT pg_reload_conf()"
    end

    it("at the COMMIT, which was carried out all the same, does not run again", function()
      wait_for_standby "local"
      finally(wait_no_more)
      enqueue "q"
      local worker = start(handler "mark(job); assert(job.tx:query 'SET LOCAL synchronous_commit = on')")
      wait.till("the COMMIT to wait for a standby", 30, function()
        return pg:psql "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'" ~= "0"
      end)
      worker:read_until("outcome dropped.-outcome=fail error=\"whether the transaction was committed is not known", 30, "stderr")
      worker:stop()
      assert.equal("completed", jobs())
      assert.equal("done", marks())
    end)

    it("is not its own but that which leases its job: then this attempt begins anew", function()
      local worker = start(handler("mark(job, job.attempt)", "preserve_completed = true"))
      worker:read_until "worker is serving"
      wait_for_standby "on"
      finally(wait_no_more)
      pg:psql "SET synchronous_commit = local; INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '')"
      wait.till("the lease to wait for a standby", 30, function()
        return pg:psql "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'" ~= "0"
      end)
      wait_no_more()
      wait.till("the job to be done", 30, function() return jobs() == "1|ended|t|" end)
      assert.equal("1", marks())
      worker:stop()
    end)
  end)

  it("does not have the jobs of other queues leased that are claimed beside its own", function()
    enqueue("q", "", 1000)
    enqueue("plain", "", 30000)
    local function updates() return tonumber(pg:psql "SELECT pg_stat_get_tuples_updated('pgq_jobs'::regclass)") end
    local before = updates()
    drain([[pgq.register_queue("plain", function() end)]] .. handler "mark(job)")
    assert.equal("1000", pg:psql "SELECT count(DISTINCT job) FROM marks")
    assert.equal("completed", jobs())
    wait.till("the statistics, which come late", 30, function()
      local made = updates() - before
      return made >= 1000, made
    end)
    wait.sleep(1) -- to their end
    assert.is_true(updates() - before < 10000, "updated " .. updates() - before)
  end)

  it("goes back when it is leased and does not begin within a second, for others to run", function()
    -- The callback computes for as long as this file is there.
    local file = os.tmpname()
    finally(function() os.remove(file) end)
    local worker = start([[
      pgq.register_queue("block", function(path)
        local timer = uv.new_timer()
        timer:start(50, 0, function()
          timer:close()
          print "blocks"
          local began = now()
          while uv.fs_stat(path) and now() - began < 25 do end
          print "is done"
        end)
      end)]] .. handler "mark(job)", "--executors", "2")
    enqueue("block", file)
    worker:read_until "blocks"
    for _ = 1, 20 do
      enqueue "q"
      wait.sleep(0.02)
    end
    wait.till("all to be done", 20, function() return jobs() == "completed" end)
    assert.is_nil(worker.stdout:find "is done")
    os.remove(file)
    worker:read_until "is done"
    worker:stop()
    assert.equal("20|20", pg:psql "SELECT count(*), count(DISTINCT job) FROM marks")
    assert.is_nil(worker.stderr:find "level=warn", worker.stderr)
  end)

  describe("after the death of a worker or an executor", function()
    it("is leased before it runs, after a worker died", function()
      local other = start(handler "mark(job)")
      other:read_until "worker is serving"
      other:kill "sigkill"
      other:wait()
      wait.till("its sessions to end", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgq-lua'" == "0"
      end)
      local worker = start([[pgq.register_queue("plain", function() print "plain" end)]] .. handler("mark(job)"))
      worker:read_until "a worker died"
      enqueue("q", "", 30)
      enqueue("plain", "", 30)
      wait.till("all to be done", 60, function() return jobs() == "completed" end)
      worker:stop()
      assert.equal("30|30", pg:psql "SELECT count(*), count(DISTINCT job) FROM marks")
    end)

    it("costs no attempt if its executor is killed while it waits, and one only if it then kills it alone", function()
      enqueue("q", "bad")
      enqueue("q", "", 3)
      local worker = start(handler [[
        mark(job, job.attempt)
        print("began " .. data .. " " .. job.attempt .. ".")
        if data == "bad" then pgq.sleep(60) end
        wait_for_signal()]])
      local function kill()
        assert.equal(0, uv.kill(worker:executors()[1], "sigkill"))
      end
      -- Each job begins when it has a connection; the order may differ.
      worker:read_until(("began [^\n]*\n"):rep(4))
      wait.sleep(0.1)
      kill()
      give_signal()
      worker:read_until "began bad 1%."
      wait.till("the others to be done", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "1" end)
      kill()
      wait.till("the job to have lost an attempt", 30, function()
        return jobs() == "1|retried|t|the executor was killed by SIGKILL; only this job was running in it"
      end)
      worker:stop()
      assert.equal("1,1,1", marks())
    end)
  end)

  it("does not begin without a connection, however many queues are transactional", function()
    local worker = start([[
      local function slow(data, job)
        pgq.sleep(6.5)
        mark(job)
      end
      for _, queue in ipairs { "a", "b", "c" } do
        pgq.register_queue(queue, slow, { transactional = true })
      end]], "--pool", "3")
    for _, queue in ipairs { "a", "b", "c", "a" } do
      enqueue(queue)
    end
    wait.till("all to be done", 30, function() return jobs() == "completed" end)
    worker:stop()
    assert.equal("4|4", pg:psql "SELECT count(*), count(DISTINCT job) FROM marks")
    assert.is_nil(worker.stderr:find "level=warn", worker.stderr)
  end)

  it("runs behind a pooler that shares sessions", function()
    local pool = Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = 8 })
    finally(function() pool:stop() end)
    enqueue("q", "", 50)
    enqueue("q", "fail", 2)
    local worker = Worker.start { pg = pool, args = { "--drain", "--executors", "2", "--poll-interval", "100ms" }, script = HEAD .. handler [[
      mark(job)
      if data == "fail" then return nil, "no luck" end
      pgq.sleep(0.02)
      assert(job.tx:enqueue("next", tostring(job.id)))
    ]] .. "pgq.register_queue('next', function(data, job) mark(job, data) end, { transactional = true })" }
    assert.equal(0, worker:wait(90).status, worker.stderr)
    assert.equal("1|retried|t|no luck\n1|retried|t|no luck", jobs())
    assert.equal("50|50|50", pg:psql [[SELECT count(*) FILTER (WHERE what = 'done'), count(*) FILTER (WHERE what <> 'done'),
      count(DISTINCT what) FILTER (WHERE what <> 'done') FROM marks]])
  end)
end)

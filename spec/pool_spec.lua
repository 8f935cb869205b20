-- Postgres inside of handlers: calls wait on a pool of connections that an executor's tasks share.

local fixture = require "spec.support.fixture"
local loop = require "spec.support.loop"
local wait = require "spec.support.wait"
local uv = require "luv"

describe("Postgres inside of a handler", function()
  local pg = fixture.server { tcp = true, sql = "CREATE TABLE things (id int, name text)", clean = "TRUNCATE things" }
  local enqueue = fixture.enqueuer(pg, "{}")
  local start, run_until_empty = fixture.workers(pg)

  -- Runs the worker's queues until they are empty. Returns what it printed, and its log.
  local function drain(...)
    local result = run_until_empty(...)
    return result.stdout, result.stderr
  end

  local function errors() return pg:psql "SELECT error FROM pgq_jobs WHERE error IS NOT NULL ORDER BY id" end

  -- Runs one job through a handler with this body, which must succeed. Returns what it printed, and the log.
  local function run(body, ...)
    enqueue "q"
    local out, log = drain(('pgq.register_queue("q", function(data, job)\n%s\nend)'):format(body), ...)
    assert.equal("", errors())
    return out, log
  end

  -- Returns the statements that run in the server, except the worker's own and this one.
  local function running(sql)
    return tonumber(pg:psql(("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%s%%'"):format(sql)))
  end

  describe("pgq.query", function()
    it("lets other handlers go on, on as many connections as --pool says", function()
      enqueue("q", "", 12)
      local out = drain([[
        local begun = 0
        pgq.register_queue("q", function()
          begun = begun + 1
          wait_for(function() return begun >= 8 end)
          local row = assert(pgq.query "SELECT pg_sleep(0.3), pg_backend_pid() AS pid")[1]
          print(row.pid)
        end)]], "--pool", "4")
      local pids, count = {}, 0
      for pid in out:gmatch "%d+" do
        if not pids[pid] then
          pids[pid], count = true, count + 1
        end
      end
      assert.equal(4, count)
      assert.equal(12, select(2, out:gsub("\n", "")))
      assert.equal("", errors())
    end)

    it("gets a connection in the order of the calls", function()
      enqueue("q", "", 10)
      local out = drain([[
        local begun, came = 0, 0
        pgq.register_queue("q", function()
          begun = begun + 1
          wait_for(function() return begun == 10 end)
          came = came + 1
          local turn = came
          assert(pgq.query "SELECT pg_sleep(0.02)")
          print(turn)
        end)]], "--pool", "1")
      assert.equal("1 2 3 4 5 6 7 8 9 10 ", (out:gsub("\n", " ")))
    end)

    it("waits while large parameters are sent and large results are received", function()
      enqueue "tick"
      enqueue "big"
      local out = drain [[
        local ticks, done = 0
        pgq.register_queue("tick", function() while not done do pgq.sleep(0.001) ticks = ticks + 1 end end)
        pgq.register_queue("big", function()
          local bytes = ("\0\1\2\255"):rep(5 * 2 ^ 20)
          wait_for(function() return ticks > 0 end)
          local before = ticks
          local row = assert(pgq.query("SELECT $1::bytea AS b, length($1::bytea) AS n", pgq.bytea(bytes)))[1]
          done = true
          assert(row.b == bytes and row.n == #bytes)
          print(ticks > before)
        end)]]
      assert.equal("true\n", out)
      assert.equal("", errors())
    end)

    it("works in coroutines of the handler's own, and after an error", function()
      assert.equal("1 2 3 22012 42601\n", (run [[
        local each = coroutine.wrap(function()
          for i = 1, 3 do coroutine.yield(assert(pgq.query("SELECT $1::int AS n", i))[1].n) end
        end)
        local a, b, c = each(), each(), each()
        local _, _, division = pgq.query "SELECT 1/0"
        local _, _, syntax = pgq.query "SELEKT"
        assert(pgq.query "SELECT 1")
        print(a .. " " .. b .. " " .. c .. " " .. division .. " " .. syntax)]]))
    end)

    it("raises an error where nothing can wait: in a callback of luv, in a function that C code calls", function()
      local out = run [[
        local conn = assert(pgq.connect())
        local problem = pgq.await(function(resume)
          local timer = uv.new_timer()
          timer:start(1, 0, function()
            timer:close()
            local _, first = pcall(pgq.query, "SELECT 1")
            local _, second = pcall(pgq.enqueue, "q", "x")
            local _, third = pcall(pgq.connect)
            local _, fourth = pcall(pgq.transaction, print)
            local _, fifth = pcall(conn.query, conn, "SELECT 1")
            conn:close() -- which does not wait
            resume(table.concat({ first, second, third, fourth, fifth }, "\n"))
          end)
        end)
        print(problem)
        print(select(2, pcall(string.gsub, "x", "x", function() return pgq.query("SELECT 1")[1].n end)))
        print(assert(pgq.query "SELECT 2 AS n")[1].n)]]
      local lines = {}
      for line in out:gmatch "[^\n]+" do lines[#lines + 1] = line end
      for i, name in ipairs { "query", "enqueue", "connect", "transaction", "query" } do
        assert.matches(name .. ": nothing may wait in a callback of luv", lines[i])
      end
      assert.matches("nothing can wait in a function that C code has called", lines[6])
      assert.equal("2", lines[7])
    end)

    it("gives a clear error for the bad input of a handler, and the next job finds a clean session", function()
      enqueue("bad", "", 1)
      enqueue("good", "", 1)
      local out = drain([[
        local itself, done = {}, false
        itself[1] = itself
        pgq.register_queue("bad", function()
          for _, sql in ipairs { "BEGIN", "COMMIT", "LISTEN x", "COPY things FROM STDIN", "COPY things TO STDOUT",
            "SELECT 1; SELECT 2" } do
            local none, message, code = pgq.query(sql)
            print(none, code, message)
          end
          print((select(2, pcall(pgq.query, "SELECT $1", itself)):gsub("^[^:]*:%d+: ", "")))
          assert(pgq.query "SET work_mem = '1234kB'")
          done = true
        end)
        pgq.register_queue("good", function()
          wait_for(function() return done end)
          print(assert(pgq.query [=[SELECT current_setting('work_mem') AS m]=])[1].m)
        end)]], "--pool", "1")
      assert.equal(table.concat({
        "nil\t25001\tquery: the statement left a transaction open, which was rolled back; use pgq.transaction",
        "nil\t25P01\tquery: there is no transaction to end; use pgq.transaction",
        "nil\t0A000\tLISTEN is refused on a connection of the pool: another job gets the connection next, and the "
          .. "notifications would be lost; let a trigger enqueue a job instead",
        "nil\t0A000\tCOPY is not supported here",
        "nil\t0A000\tCOPY is not supported here",
        "nil\t42601\tthere is more than one statement in the text; send them one by one",
        "query: parameter 1, element [1] contains itself",
        "4MB", "",
      }, "\n"), out)
      assert.equal("", errors())
    end)
  end)

  describe("pgq.transaction", function()
    it("commits; rolls back when its function returns an error or throws; and leaks nothing into the next job", function()
      for _, data in ipairs { "commit", "return", "throw", "pass over", "commit" } do enqueue("q", data) end
      local out = drain([[
        local turn = 1
        pgq.register_queue("q", function(data, job)
          wait_for(function() return turn == job.id end)
          local ok, problem = pcall(pgq.transaction, function(tx)
            assert(tx:query("INSERT INTO things VALUES ($1, $2)", job.id, data))
            assert(tx:enqueue("other", "x"))
            pgq.sleep(0.01)
            if data == "return" then return nil, "no" end
            if data == "throw" then error "no" end
            if data == "pass over" then tx:query "SELECT 1/0" end
          end)
          print(job.id, ok, pgq.query("SELECT count(*) AS n FROM things")[1].n)
          turn = turn + 1
        end)]], "--pool", "1")
      assert.equal("1\ttrue\t1\n2\ttrue\t1\n3\tfalse\t1\n4\ttrue\t1\n5\ttrue\t2\n", out)
      assert.equal("1,5", pg:psql "SELECT string_agg(id::text, ',' ORDER BY id) FROM things")
      assert.equal("2", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'other'")
    end)

    it("is rolled back when its handler reaches its time limit, wherever that waits", function()
      enqueue("sleep", "")
      enqueue("query", "")
      local out = drain([[
        local function handler(interrupted)
          return function()
            local ok, problem = pcall(pgq.transaction, function(tx)
              assert(tx:query "INSERT INTO things VALUES (1)")
              interrupted(tx)
            end)
            print(ok, problem == pgq.timeout)
            error(problem, 0)
          end
        end
        pgq.register_queue("sleep", handler(function() pgq.sleep(60) end), { timeout = "2s" })
        pgq.register_queue("query", handler(function(tx) tx:query "SELECT pg_sleep(60)" end), { timeout = "2s" })
        ]])
      assert.equal("false\ttrue\nfalse\ttrue\n", out)
      assert.equal("0", pg:psql "SELECT count(*) FROM things")
      assert.matches("pgq.timeout.*\n.*pgq.timeout", errors())
    end)

    it("is rolled back at the end of a handler that leaves it in a coroutine, also on a connection of its own", function()
      enqueue("q", "")
      enqueue("next", "")
      local out = drain([[
        local conn, left
        pgq.register_queue("q", function()
          conn = assert(pgq.connect())
          local function fn(tx)
            assert(tx:query "INSERT INTO things VALUES (1)")
            coroutine.yield()
          end
          assert(coroutine.resume(coroutine.create(function() pgq.transaction(fn) end)))
          assert(coroutine.resume(coroutine.create(function() conn:transaction(fn) end)))
          left = true
        end)
        pgq.register_queue("next", function()
          wait_for(function() return left end)
          wait_for(function() -- the server has heard of it, too
            return assert(pgq.query [=[SELECT count(*) AS n FROM pg_stat_activity
              WHERE state LIKE 'idle in%' AND query LIKE 'INSERT INTO things%']=])[1].n == 0
          end)
          print(select(2, conn:query "SELECT 1"))
        end)]], "--pool", "1")
      assert.equal("the connection is closed: a call on it was interrupted\t08003\n", out)
      assert.equal("", errors())
      assert.equal("0", pg:psql "SELECT count(*) FROM things")
    end)

    it("uses another connection for pgq.query and pgq.enqueue inside of it", function()
      assert.equal("0\ttrue\n", (run [[
        assert(pgq.transaction(function(tx)
          assert(tx:query "INSERT INTO things VALUES (1)")
          local row = pgq.query("SELECT count(*) AS n, pg_backend_pid() AS pid FROM things")[1]
          print(row.n, row.pid ~= tx:query("SELECT pg_backend_pid() AS pid")[1].pid)
          assert(pgq.enqueue("other", "x"))
          return nil, "no"
        end) == nil)]]))
      assert.equal("other", pg:psql "SELECT queue_name FROM pgq_jobs")
    end)
  end)

  describe("an interrupted call", function()
    it("ends the statement in the server, and the next job has a connection", function()
      enqueue("slow", "")
      local worker = start([[
        pgq.register_queue("slow", function() print "begins" return pgq.query "SELECT pg_sleep(60)" and true end, { timeout = "5s" })
        pgq.register_queue("next", function() print(assert(pgq.query "SELECT 'fine' AS t")[1].t) end)]], "--pool", "1")
      finally(function() worker:stop() end)
      worker:read_until "begins"
      wait.till("the statement to run", 30, function() return running "SELECT pg_sleep(60)" == 1 end)
      wait.till("the statement to end", 30, function() return running "SELECT pg_sleep(60)" == 0 end)
      enqueue "next"
      worker:read_until("fine", 30)
      wait.till("the job to fail", 30, function() return errors():find "pgq.timeout" end)
    end)

    it("may be the wait for a connection, and the next call then gets the connection", function()
      enqueue("hold", "")
      enqueue("hasty", "")
      enqueue("patient", "")
      local out = drain([[
        local held, hasty_waits, hasty_is_over, patient_waits
        pgq.register_queue("hold", function()
          pgq.transaction(function()
            held = true
            wait_for(function() return hasty_is_over and patient_waits end)
          end)
        end)
        pgq.register_queue("hasty", function()
          wait_for(function() return held end)
          hasty_waits = true
          local ok, problem = pcall(pgq.query, "SELECT 1")
          hasty_is_over = true
          if ok then print "no" end
          error(problem, 0)
        end, { timeout = "3s" })
        pgq.register_queue("patient", function()
          wait_for(function() return hasty_waits end)
          patient_waits = true
          print(pgq.query("SELECT 'fine' AS t")[1].t)
        end)]], "--pool", "1")
      assert.equal("fine\n", out)
      assert.matches("^pgq.timeout[^\n]*$", errors())
    end)

    it("may be caught, and the handler goes on with another connection", function()
      enqueue "q"
      local out = drain([[
        pgq.register_queue("q", function()
          local first = pgq.query("SELECT pg_backend_pid() AS pid")[1].pid
          local ok, problem = pcall(pgq.query, "SELECT pg_sleep(60)")
          local second = pgq.query("SELECT pg_backend_pid() AS pid")[1].pid
          print(ok, problem == pgq.timeout, first ~= second)
        end, { timeout = "2s" })]], "--pool", "1")
      assert.equal("false\ttrue\ttrue\n", out)
    end)
  end)

  describe("connections of pgq.connect", function()
    it("wait too, and serve one call or transaction after another", function()
      enqueue("q", "", 8)
      local out = drain [[
        local conn = assert(pgq.connect())
        local inside = 0
        pgq.register_queue("q", function(_, job)
          assert(conn:query("SELECT pg_sleep(0.02)"))
          assert(conn:transaction(function(tx)
            inside = inside + 1
            assert(inside == 1, "two at once")
            assert(tx:query("SELECT pg_sleep(0.02)"))
            pgq.sleep(0.02)
            assert(not pcall(conn.query, conn, "SELECT 1"), "conn is to be used through tx")
            inside = inside - 1
          end))
          assert(conn:enqueue("later", "x"))
          print(job.id, conn:query("SELECT 1 AS n")[1].n)
        end, { concurrency = 8 })
        pgq.register_queue("later", function() end)]]
      assert.equal(8, select(2, out:gsub("\t1\n", "")))
      assert.equal("", errors())
    end)

    it("serve the next call when a call that has the connection, or waits for it, is interrupted", function()
      enqueue("slow")
      enqueue("brief", "", 2)
      enqueue("q", "", 2)
      local out = drain [[
        local conn = assert(pgq.connect())
        local inside, waits, over = false, 0, 0
        pgq.register_queue("slow", function()
          conn:transaction(function()
            inside = true
            wait_for(function() return waits == 4 and over == 2 end)
          end)
          print "slow"
        end)
        pgq.register_queue("brief", function()
          wait_for(function() return inside end)
          waits = waits + 1
          local _, problem = pcall(function() conn:query "SELECT 1"; print "never" end)
          over = over + 1
          error(problem, 0)
        end, { timeout = "3s" })
        pgq.register_queue("q", function()
          wait_for(function() return waits >= 2 end)
          waits = waits + 1
          print(conn:query("SELECT 'fine' AS t")[1].t)
        end)]]
      assert.equal("slow\nfine\nfine\n", out)
      assert.equal(2, select(2, errors():gsub("pgq.timeout", "")), errors())
    end)

    it("may be dropped, or ended by the server, and the next connection with the same socket number works", function()
      assert.equal("none is left\n", (run [[
        local function collect()
          collectgarbage()
          collectgarbage()
        end
        for _ = 1, 5 do
          for _ = 1, 10 do
            assert(assert(pgq.connect()):query "SET application_name = 'dropped'")
          end
          collect()
          for _ = 1, 5 do
            assert(assert(pgq.connect()):query "SELECT set_config('application_name', 'dropped', false), pg_sleep(0.01)")
          end
        end
        for _ = 1, 5 do
          local ended = assert(pgq.connect())
          assert(pgq.query("SELECT pg_terminate_backend($1)", ended:query("SELECT pg_backend_pid() AS pid")[1].pid))
          pgq.sleep(0.01)
          local rows, _, code = ended:query "SELECT 1"
          assert(not rows and (code == "57P01" or code == "08006"), code)
          local next = assert(pgq.connect())
          assert(next:query "SELECT pg_sleep(0.01)")
          ended = nil
          collect()
          assert(next:query "SELECT pg_sleep(0.01)")
        end
        collect()
        wait_for(function()
          return pgq.query("SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'dropped'")[1].n == 0
        end)
        print "none is left"]]))
    end)

    it("connect without blocking, and give up after the time that the string sets", function()
      -- A server that accepts and never answers.
      local listener = uv.new_tcp()
      assert(listener:bind("127.0.0.1", 0))
      assert(listener:listen(8, function() end))
      finally(function() loop.close(listener) end)
      local port = listener:getsockname().port
      enqueue "silent"
      enqueue "tick"
      enqueue "refused"
      local out = drain(([[
        local ticks, done = 0
        pgq.register_queue("tick", function() while not done do pgq.sleep(0.01) ticks = ticks + 1 end end)
        pgq.register_queue("silent", function()
          wait_for(function() return ticks > 0 end)
          local began, before = now(), ticks
          local none, message, code = pgq.connect "host=127.0.0.1 port=%d sslmode=disable gssencmode=disable connect_timeout=2"
          done = true
          assert(none == nil and now() - began > 1.9 and now() - began < 20, now() - began)
          assert(ticks - before > 20, ticks - before) -- one at most if it blocks
          print(code, message)
        end)
        pgq.register_queue("refused", function() print("refused", select(3, pgq.connect "host=127.0.0.1 port=1")) end)]])
        :format(port))
      assert.matches("08001\tcannot connect: [^\n]*no answer within 2 s\n", out)
      assert.matches("refused\t08001\n", out)
      assert.equal("", errors())
    end)

    it("try one host after the other", function()
      local port = pg.tcp_conninfo:match "port=(%d+)"
      assert.equal("fine\n", (run(([[
        local conn = assert(pgq.connect "host=127.0.0.1,/nowhere,127.0.0.1 port=1,1,%s dbname=postgres user=postgres")
        print(conn:query("SELECT 'fine' AS t")[1].t)
        conn:close()]]):format(port))))
    end)
  end)

  describe("enqueueing", function()
    it("waits, in transactions and for many at once, and the function that gives the jobs may wait too", function()
      run [[
        assert(pgq.enqueue("one", "x", { delay = "1h" }))
        local i = 0
        local ids = assert(pgq.enqueue_many("many", function()
          i = i + 1
          if i % 5000 == 0 then
            pgq.sleep(0.01)
            assert(pgq.query "SELECT 1")
          end
          return i <= 20000 and tostring(i) or nil
        end, { delay = "1h" }))
        assert(#ids == 20000)
        local list = {}
        for n = 1, 20000 do list[n] = ("x"):rep(100) end
        local conn = assert(pgq.connect())
        assert(conn:transaction(function(tx)
          assert(#assert(tx:enqueue_many("list", list)) == 20000)
          assert(tx:enqueue("tx", "x"))
        end))]]
      assert.equal("list|20000,many|20000,one|1,tx|1", (pg:psql [[SELECT queue_name, count(*) FROM pgq_jobs GROUP BY 1 ORDER BY 1]]
        :gsub("\n", ",")))
      assert.equal("t", pg:psql [[SELECT bool_and(n = convert_from(data, 'UTF8')::int) FROM
        (SELECT data, row_number() OVER (ORDER BY id) AS n FROM pgq_jobs WHERE queue_name = 'many') j]])
    end)

    it("enqueues none of many when the function throws, or its handler is interrupted in it", function()
      enqueue "throw"
      enqueue "limit"
      local out = drain [[
        local function source(fn)
          local i = 0
          return function() i = i + 1 if i == 15000 then fn() end return "x" end
        end
        pgq.register_queue("throw", function()
          print(pcall(pgq.enqueue_many, "many", source(function() error("oops", 0) end)))
        end)
        pgq.register_queue("limit", function()
          local ok, problem = pcall(pgq.enqueue_many, "many", source(function() pgq.sleep(60) end))
          print(ok, problem == pgq.timeout)
        end, { timeout = "3s" })]]
      assert.equal("false\toops\nfalse\ttrue\n", out)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'many'")
    end)
  end)

  describe("statements that are run again", function()
    local NAMES = "SELECT string_agg(substr(statement, 1, 13), ',' ORDER BY statement) AS t FROM pg_prepared_statements"

    -- With one connection, and with names(): what is prepared on it.
    local function run_on_one(body, ...)
      local head = ('local function names() return pgq.query("%s")[1].t end '):format(NAMES)
      return (run(head .. body, "--pool", "1", ...))
    end

    it("are prepared, by text and types, if they are a SELECT, INSERT, UPDATE or DELETE", function()
      assert.equal("nil\nINSERT INTO p,SELECT $1 AS \n8\tx\ttrue\n", run_on_one [[
        local function both(value) return assert(pgq.query("SELECT $1 AS v", value))[1].v end
        both "x"
        print(names() ~= pgq.null or nil)
        both "x" both "y"
        for _ = 1, 3 do pgq.query "SELECT 'now'::timestamptz" pgq.query "SHOW work_mem" pgq.query "SELEC" end
        pgq.enqueue("none", "")
        print((names():gsub(",SELECT string", "")))
        print(pgq.query("SELECT $1 + 1 AS v", 7)[1].v, both "x", both(true))]])
    end)

    it("survive a column that gets another type, or is missing for a while", function()
      assert.equal("1\n1\n42703\n1\n", run_on_one [[
        local function find()
          local rows, _, code = pgq.query("SELECT a FROM typed WHERE a = $1", 1)
          return rows and #rows or code
        end
        local function go() local n; for _ = 1, 3 do n = find() end return n end
        assert(pgq.query "CREATE TABLE typed AS SELECT 1 AS a")
        print(go())
        local other = assert(pgq.connect())
        assert(other:query "ALTER TABLE typed ALTER a TYPE text")
        print(go())
        assert(other:query "ALTER TABLE typed RENAME a TO b")
        print(go())
        assert(other:query "ALTER TABLE typed RENAME b TO a")
        print(go())]])
    end)

    it("survive a change of their table, DISCARD and DEALLOCATE", function()
      assert.equal("2\n3\n0A000\nfalse\n4\n4\n4\n", run_on_one [[
        local function columns(tx)
          local rows, _, code
          if tx then
            rows, _, code = tx:query "SELECT * FROM wide"
          else
            rows, _, code = pgq.query "SELECT * FROM wide"
          end
          if not rows then
            return code
          end
          local n = 0
          for _ in pairs(rows[1]) do
            n = n + 1
          end
          return n
        end
        local function go() local n; for _ = 1, 3 do n = columns() end return n end
        assert(pgq.query "CREATE TABLE wide AS SELECT 1 AS a, 2 AS b")
        print(go())
        local other = assert(pgq.connect())
        assert(other:query "ALTER TABLE wide ADD c int DEFAULT 1")
        print(go())
        go()
        print(pgq.transaction(function(tx)
          assert(other:query "ALTER TABLE wide ADD d int DEFAULT 1")
          print(columns(tx))
        end) ~= nil)
        print(go())
        pgq.transaction(function(tx) tx:query "DEALLOCATE ALL" print(columns(tx)) end)
        print(go())]])
    end)

    it("are not prepared with --no-prepare, nor on connections of pgq.connect", function()
      assert.equal("true\n", run_on_one([[
        for _ = 1, 3 do pgq.query "SELECT 1" end
        pgq.enqueue("none", "")
        print(names() == pgq.null)]], "--no-prepare"))
      assert.equal("0\n", run_on_one [[
        local conn = assert(pgq.connect())
        for _ = 1, 3 do conn:query "SELECT 1" conn:enqueue("none", "") end
        print(conn:query "SELECT count(*) AS n FROM pg_prepared_statements"[1].n)]])
    end)

    it("may be more than the pool prepares", function()
      assert.equal("true\n", run_on_one [[
        for round = 1, 30 do
          for i = 1, 120 do
            local text = "SELECT " .. i + (round > 15 and 1000 or 0) .. " AS v"
            for _ = 1, 2 do assert(pgq.query(text)[1].v % 1000 == i) end
          end
        end
        print(pgq.query "SELECT count(*) AS n FROM pg_prepared_statements"[1].n <= 50)]])
    end)
  end)

  describe("the pool", function()
    it("replaces connections that broke, in use or idle", function()
      enqueue("q", "", 1)
      local worker = start([[
        pgq.register_queue("q", function()
          local pids = {}
          for i = 1, 3 do
            pids[i] = assert(pgq.query "SELECT pg_backend_pid() AS pid")[1].pid
          end
          print("pid", pids[1])
          local _, _, code = pgq.query "SELECT pg_terminate_backend(pg_backend_pid())"
          print("code", code)
        end)]], "--pool", "2")
      finally(function() worker:stop() end)
      worker:read_until "08006"
      enqueue("q", "", 1)
      worker:read_until("code\t08006", 30)
      assert.equal("", errors())
    end)

    it("replaces at once an idle connection that the server ended, and keeps one that received a notice", function()
      assert.equal("true\tfalse\n", (run [[
        local function pid() return assert(pgq.query "SELECT pg_backend_pid() AS pid")[1].pid end
        local other = assert(pgq.connect())
        local first = pid()
        assert(other:query "ALTER SYSTEM SET application_name = 'news'")
        assert(other:query "SELECT pg_reload_conf()")
        pgq.sleep(0.05)
        local kept = pid() == first
        assert(other:query "ALTER SYSTEM RESET application_name")
        assert(other:query("SELECT pg_terminate_backend($1)", first))
        wait_for(function() return #other:query("SELECT FROM pg_stat_activity WHERE pid = $1", first) == 0 end)
        pgq.sleep(0.5) -- until the server's process has closed its socket, too
        print(kept, pid() == first)]]))
    end)

    it("goes on after the server was restarted", function()
      local worker = start([[
        pgq.register_queue("q", function(data) print(data, assert(pgq.query "SELECT 'fine' AS t")[1].t) end)]])
      finally(function() worker:stop() end)
      enqueue("q", "before", 4)
      worker:read_until "before\tfine\nbefore\tfine\nbefore\tfine\nbefore\tfine\n"
      pg:restart "immediate"
      enqueue("q", "after", 4)
      worker:read_until("after\tfine\nafter\tfine\nafter\tfine\nafter\tfine\n", 60)
      assert.equal("", errors())
    end)

    it("logs once that handlers that sleep have all of its connections, and goes on", function()
      local worker = start([[
        local rung = 0
        pgq.register_queue("sleeper", function()
          local before = rung
          return pgq.transaction(function(tx)
            print "sleeps"
            while rung == before do pgq.sleep(0.05) end
            print "wakes"
            return true
          end)
        end)
        pgq.register_queue("ring", function() rung = rung + 1 end)
        pgq.register_queue("q", function(data)
          local rows, message, code = pgq.query "SELECT 1"
          print(data, rows and "fine" or code, message)
        end)]], "--pool", "2")
      for _, round in ipairs { "first", "second" } do
        enqueue("sleeper", "", 2)
        worker:read_until "sleeps\n.-sleeps\n" -- one of the round before may wake late
        enqueue("q", round, 3)
        worker:read_until("all 2 connections of the pool are taken, and 3 calls wait for one", 30, "stderr")
        enqueue "ring"
        for _ = 1, 3 do worker:read_until(round .. "\tfine\tnil\n") end
      end
      local log = worker:stop().stderr
      assert.equal(2, select(2, log:gsub("all 2 connections of the pool are taken", "")), log)
      assert.equal("", errors())
    end)

    it("returns 100 MB #slow", function()
      assert.equal("100000000\n", (run [[print(#assert(pgq.query "SELECT repeat('x', 100000000) AS t")[1].t)]]))
    end)

    it("fails clearly where memory is limited, and the next job runs", function()
      if os.getenv "PGQ_ASAN_LIBRARY" then -- AddressSanitizer does not work with a limit
        return
      end
      enqueue("big", "SELECT repeat(''x'', 100000000) AS t")
      enqueue("big", "SELECT repeat(''x'', 100000) AS t FROM generate_series(1, 1000)")
      enqueue("big", "SELECT ''x'' AS t FROM generate_series(1, 3000000)")
      enqueue("small", "")
      local out, log = drain([[
        pgq.register_queue("big", function(sql) print(#assert(pgq.query(sql))) end)
        pgq.register_queue("small", function() print(pgq.query("SELECT 'fine' AS t")[1].t) end)]], "--max-memory", "64M",
        "--concurrency", "1")
      assert.equal("fine\n", out)
      assert.equal(3, select(2, errors():gsub("not enough memory", "")), errors())
      assert.is_nil(log:find("an executor died", 1, true), log)
    end)
  end)
end)

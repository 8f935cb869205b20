local uv = require "luv"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local bell = require "spec.support.bell"
local pgq = require "pgq"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

-- Only a lost wake-up makes a wait longer than this; the machine may be busy with other specs.
local SOON = 8

describe("the doorbell", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true, settings = { max_prepared_transactions = 10 } }
    conn = assert(pgq.connect(pg.conninfo))
  end)

  teardown(function()
    conn:close()
    pg:stop()
  end)

  local workers = {}

  before_each(function() pg:psql "TRUNCATE pgq_jobs, pgq_workers RESTART IDENTITY" end)

  -- Ends the sessions of a spec that has failed.
  after_each(function()
    for _, worker in ipairs(workers) do
      if worker:kill "sigkill" then
        worker:wait()
      end
    end
    workers = {}
  end)

  local ECHO = [[
    local pgq = require "pgq"
    pgq.register_queue("echo", function(data) print(("ran %s at %.0f"):format(data, require "luv".hrtime())) end)]]

  local function start_script(script, ...)
    local conninfo = pg.conninfo .. " application_name=worker"
    local worker = Worker.start { script = script,
      args = { "--db", conninfo, "--executors", "1", "--poll-interval", "1h", ... } }
    workers[#workers + 1] = worker
    worker:read_until "worker is serving"
    return worker
  end

  -- Starts a worker that polls only once an hour.
  local function start(...)
    return start_script(ECHO, ...)
  end

  -- Expects the worker to be woken in time for the job with that data, which `enqueue` enqueues.
  local function expect_ring(worker, data, enqueue)
    bell.wait_asleep(pg)
    if enqueue then
      enqueue()
    else
      assert(conn:enqueue("echo", data))
    end
    worker:read_until("ran " .. data .. " at", SOON)
  end

  it("does not let another role keep the worker busy with notifications", function()
    local worker = start()
    bell.wait_asleep(pg)
    pg:psql "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN"
    finally(function() pg:psql "DROP ROLE stranger" end)
    local SCANS = "SELECT pg_stat_get_numscans('pgq_jobs_fetch'::regclass)"
    local notify = pg:psql [[SELECT format('NOTIFY pgq_bell, %L;', 'pgq_jobs'::regclass::oid || ':' || (hashtext('echo') & 255))]]
    local before, began = pg:psql(SCANS), uv.hrtime()
    pg:psql("SET ROLE stranger;" .. notify:rep(2000))
    local seconds = (uv.hrtime() - began) / 1e9
    wait.sleep(1.1) -- until the server has counted
    local scans = pg:psql(SCANS) - before
    assert.is_true(scans < 50 + 400 * seconds, scans .. " scans in " .. seconds .. " s")
    expect_ring(worker, "after the flood")
  end)

  it("wakes a sleeping worker within milliseconds, every time", function()
    local worker = start()
    local function time_one(data)
      local began = uv.hrtime()
      assert(conn:enqueue("echo", data))
      return (tonumber(worker:read_until("ran " .. data .. " at (%d+)", SOON)) - began) / 1e6
    end
    local took, awake = {}, {}
    for i = 1, 40 do
      bell.wait_asleep(pg)
      took[i] = time_one("job" .. i)
      awake[i] = time_one("next" .. i) -- the worker looks every few ms now: this is the delay of the machine
    end
    worker:stop()
    table.sort(took)
    table.sort(awake)
    local slow = awake[20]
    assert.is_true(took[20] < 50 + 5 * slow, ("half of the jobs waited for more than %.1f ms"):format(took[20]))
    assert.is_true(took[36] < 200 + 5 * slow, ("some jobs waited for %.1f ms"):format(took[36]))
  end)

  it("wakes as many executors as there are jobs", function()
    local worker = start_script([[
      require "pgq".register_queue("slow", function(data) print("began " .. data) require "luv".sleep(60000) end)]], "--executors", "3")
    bell.wait_asleep(pg)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'slow', n::text::bytea FROM generate_series(1, 3) n"
    for i = 1, 3 do
      wait.till("job " .. i .. " to begin", SOON, function() worker:is_running() return worker.stdout:find("began " .. i) end)
    end
  end)

  it("wakes the executor that is free while another is at work", function()
    local worker = start_script([[
      require "pgq".register_queue("slow", function(data) print("began " .. data) require "luv".sleep(60000) end)]], "--executors", "2")
    bell.wait_asleep(pg)
    conn:enqueue("slow", "first")
    worker:read_until "began first"
    bell.wait_asleep(pg)
    conn:enqueue("slow", "second")
    worker:read_until("began second", SOON)
  end)

  it("has room for 20,000 queues in one INSERT", function()
    local worker = start()
    expect_ring(worker, "found", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data)
        SELECT CASE n WHEN 12345 THEN 'echo' ELSE 'queue ' || n END, 'found' FROM generate_series(1, 20000) n]]
    end)
    worker:stop()
  end)

  it("is rung by a role that may only enqueue", function()
    pg:psql "CREATE ROLE enqueuer LOGIN; GRANT INSERT, SELECT (id) ON pgq_jobs TO enqueuer"
    local theirs = assert(pgq.connect((pg.conninfo:gsub("user=postgres", "user=enqueuer"))))
    local worker = start()
    for _, data in ipairs { "first", "second" } do
      expect_ring(worker, data, function() assert(theirs:enqueue("echo", data)) end)
    end
    theirs:close()
    worker:stop()
    pg:psql "DROP OWNED BY enqueuer; DROP ROLE enqueuer"
  end)

  it("is rung by a session with an empty search path, and by one with other schemas in it", function()
    local worker = start()
    expect_ring(worker, "empty", function()
      pg:psql "SET search_path = ''; INSERT INTO public.pgq_jobs (queue_name, data) VALUES ('echo', 'empty')"
    end)
    pg:psql [[CREATE SCHEMA stranger; CREATE FUNCTION stranger.hashtext(text) RETURNS integer LANGUAGE sql AS 'SELECT 1/0';
      CREATE FUNCTION stranger.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT 1/0']]
    expect_ring(worker, "stranger", function()
      pg:psql [[SET search_path = stranger, public, pg_catalog;
        INSERT INTO pgq_jobs (queue_name, data) VALUES ('echo', 'stranger')]]
    end)
    pg:psql "DROP SCHEMA stranger CASCADE"
    worker:stop()
  end)

  describe("in a transaction that is prepared", function()
    local INSERT = "INSERT INTO pgq_jobs (queue_name, data) VALUES ('echo', 'prepared'); PREPARE TRANSACTION 'mine'"

    it("has to be silenced, else Postgres refuses", function()
      local worker = start()
      bell.wait_asleep(pg)
      local ok, message = pcall(pg.psql, pg, "BEGIN; " .. INSERT)
      assert.is_false(ok)
      assert.matches("cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY", message)
      worker:stop()
    end)

    it("is silent with pgq.bell = off, and the job is found by polling", function()
      local worker = start("--poll-interval", "300ms")
      bell.wait_asleep(pg)
      pg:psql("BEGIN; SET LOCAL pgq.bell = off; " .. INSERT)
      wait.sleep(0.5)
      assert.is_nil(worker.stdout:find "ran")
      pg:psql "COMMIT PREPARED 'mine'"
      worker:read_until("ran prepared", SOON)
      worker:stop()
    end)
  end)

  describe("is not rung", function()
    local listener

    before_each(function() listener = bell.listen(pg) end)
    after_each(function() listener:close() end)

    local function enqueue_many()
      for i = 1, 30 do
        assert(conn:enqueue("echo", "job" .. i))
        uv.sleep(5)
      end
    end

    it("while there is no worker", function()
      enqueue_many()
      assert.equal(0, listener:heard())
    end)

    it("while no worker is asleep", function()
      local worker = start_script(ECHO .. [[
        pgq.register_queue("work", function() print "work" require "luv".sleep(10) end)]], "--executors", "2")
      bell.wait_asleep(pg, 2)
      -- More jobs than are run before the end of the spec.
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'work', '' FROM generate_series(1, 5000)"
      worker:read_until "work\nwork"
      bell.wait_asleep(pg, 0)
      assert.equal(1, listener:heard())
      enqueue_many()
      assert.not_equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'work'")
      assert.equal(0, listener:heard())
    end)

    it("by a steady stream of jobs that a worker keeps up with", function()
      local worker = start()
      bell.wait_asleep(pg)
      local pauses, last = 1, uv.hrtime()
      for i = 1, 100 do
        assert(conn:enqueue("echo", "job" .. i))
        uv.sleep(5)
        if uv.hrtime() - last > 40e6 then -- the machine is busy: the worker may have gone to sleep
          pauses = pauses + 1
        end
        last = uv.hrtime()
      end
      -- A worker that did not keep looking would be rung nearly every time; one that stands still may fall asleep as
      -- well.
      local heard = listener:heard()
      assert.is_true(heard <= 30 + pauses, heard .. " rings")
      worker:stop()
    end)

    it("after the worker has stopped or was killed, but is rung while it sleeps", function()
      local worker = start()
      bell.wait_asleep(pg)
      assert(conn:enqueue("echo", "one"))
      assert.equal(1, listener:heard())
      local function wait_for_locks()
        wait.till("all locks to be gone", 30, function()
          return pg:psql "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'" == "0"
        end)
      end
      worker:stop()
      wait_for_locks()
      enqueue_many()
      assert.equal(0, listener:heard())
      worker = start()
      bell.wait_asleep(pg)
      worker:kill "sigkill"
      worker:wait()
      wait_for_locks()
      enqueue_many()
      assert.equal(0, listener:heard())
    end)

    it("for other queues, unless their names fall into the same bucket", function()
      local others = pg:psql [[SELECT string_agg(name, ',') FROM (
        SELECT name FROM (SELECT 'other' || n AS name FROM generate_series(1, 5000) n) AS names
        WHERE hashtext(name) & 255 <> hashtext('echo') & 255 LIMIT 20) AS other]]
      local same = pg:psql [[SELECT name FROM (SELECT 'other' || n AS name FROM generate_series(1, 5000) n) AS names
        WHERE hashtext(name) & 255 = hashtext('echo') & 255 LIMIT 1]]
      local worker = start()
      bell.wait_asleep(pg)
      local before = bell.wait_still(pg, "worker", 3)
      for name in others:gmatch "[^,]+" do
        assert(conn:enqueue(name, ""))
      end
      assert.equal(0, listener:heard())
      assert.equal(before, bell.wait_still(pg, "worker"))
      assert(conn:enqueue(same, ""))
      assert.equal(1, listener:heard())
      assert.not_equal(before, bell.wait_still(pg, "worker"))
      worker:stop()
    end)
  end)

  it("of one table is not heard by the worker of another", function()
    local theirs, conns = {}, {}
    for _, schema in ipairs { "a", "b" } do
      pg:psql("CREATE SCHEMA " .. schema)
      local conninfo = ("%s application_name=in_%s options=-csearch_path=%s"):format(pg.conninfo, schema, schema)
      process.check { PGQ_LUA, "--db", conninfo, "migrate" }
      conns[schema] = assert(pgq.connect(conninfo))
      theirs[schema] = Worker.start { script = ECHO,
        args = { "--db", conninfo, "--executors", "1", "--poll-interval", "1h" } }
      workers[#workers + 1] = theirs[schema]
      theirs[schema]:read_until "worker is serving"
    end
    for _, schema in ipairs { "a", "b", "a" } do
      local other = schema == "a" and "b" or "a"
      bell.wait_asleep(pg, 1, other)
      -- Its last sweep may have to wait for forty times as long as the sweep before took.
      local before = bell.wait_still(pg, "in_" .. other, 3)
      bell.wait_still(pg, "in_" .. schema)
      assert(conns[schema]:enqueue("echo", "for " .. schema))
      theirs[schema]:read_until("ran for " .. schema, SOON)
      assert.equal(before, bell.wait_still(pg, "in_" .. other))
    end
    for schema, worker in pairs(theirs) do
      conns[schema]:close()
      worker:stop()
    end
    pg:psql "SET client_min_messages = warning; DROP SCHEMA a, b CASCADE"
  end)

  describe("on a table", function()
    -- The worker says so before or after it says that it serves.
    local function wait_until_polling(worker)
      wait.till("the worker to poll", 30, function()
        return worker.stderr:find("this worker cannot be woken: new jobs are found at the next poll", 1, true) ~= nil
      end)
    end

    after_each(function() pg:migrate() end)

    for what, sql in pairs {
      ["without the trigger"] = "DROP TRIGGER pgq_ring ON pgq_jobs",
      ["whose trigger is disabled"] = "ALTER TABLE pgq_jobs DISABLE TRIGGER pgq_ring",
    } do
      it(what .. " is reported once if it is missing, and the worker polls", function()
        pg:psql(sql)
        local worker = start("--poll-interval", "300ms")
        wait_until_polling(worker)
        for i = 1, 2 do
          assert(conn:enqueue("echo", "job" .. i))
          worker:read_until("ran job" .. i, SOON)
          bell.lose_control(pg)
        end
        assert.equal(0, bell.flags(pg))
        worker:stop()
        assert.equal(1, select(2, worker.stderr:gsub("this worker cannot be woken", "")), worker.stderr)
        pg:psql "ALTER TABLE pgq_jobs ENABLE TRIGGER ALL"
      end)
    end

    it("of an older version it is created by migrate, and used from the next session on", function()
      pg:psql "DROP TRIGGER pgq_ring ON pgq_jobs; DROP FUNCTION pgq_ring"
      local worker = start()
      wait_until_polling(worker)
      process.check { PGQ_LUA, "--db", pg.conninfo, "migrate" }
      pg:psql(("SELECT pg_terminate_backend(%s)"):format(bell.control_pid(pg)))
      expect_ring(worker, "after")
      worker:stop()
    end)
  end)

  describe("is not needed", function()
    it("for jobs that fall due later", function()
      local worker = start_script([[
        local pgq = require "pgq"
        pgq.register_queue("echo", function(data, job)
          local s, us = require "luv".gettimeofday()
          print(("%s at %.6f"):format(data, s + us / 1e6))
        end)]])
      bell.wait_asleep(pg)
      pg:psql [[SET pgq.bell = off; INSERT INTO pgq_jobs (queue_name, data, run_after)
        SELECT 'echo', ('later ' || n)::bytea, now() + interval '1.3 s' + n * interval '700 ms' FROM generate_series(1, 5) n]]
      local epoch = tonumber(pg:psql "SELECT extract(epoch FROM min(run_after)) FROM pgq_jobs")
      assert(conn:enqueue("echo", "now")) -- looking for this one, it sees when the next falls due
      local late = {}
      for i = 1, 5 do
        late[i] = tonumber((worker:read_until("later " .. i .. " at ([%d.]+)"))) - epoch - (i - 1) * 0.7
      end
      worker:stop()
      -- If the machine stands still for a moment, some of the jobs are late, but not all.
      table.sort(late)
      local told = ("%.3f to %.3f s late, the second %.3f"):format(late[1], late[5], late[2])
      assert.is_true(late[1] >= -0.001 and late[2] < 0.25 and late[5] < 5, told)
    end)

    it("for retries", function()
      local worker = start_script([[
        require "pgq".register_queue("fail", function(data, job)
          print(("attempt %d at %.0f"):format(job.attempt, require "luv".hrtime() / 1e6))
          error("no", 0)
        end)]])
      conn:enqueue("fail", "", { retry_waits = { "300ms", "0s", "1s" } })
      local at = {}
      for i = 1, 4 do
        at[i] = tonumber(worker:read_until("attempt " .. i .. " at (%d+)"))
      end
      worker:stop()
      for i, want in ipairs { 300, 0, 1000 } do
        local took = at[i + 1] - at[i]
        assert.is_true(took >= want - 1 and took < want + 4000, ("attempt %d after %d ms"):format(i + 1, took))
      end
    end)

    it("for a job that falls due while the other executor is at work", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after)
        VALUES ('echo', 'long', now()), ('echo', 'due', now() + interval '2 s')]]
      local worker = start_script([[
        require "pgq".register_queue("echo", function(data)
          print("ran " .. data)
          if data == "long" then require "luv".sleep(60000) end
        end)]], "--executors", "2", "--hold-limit", "100ms")
      for _, data in ipairs { "long", "due" } do -- the order may differ if the start took long
        wait.till(data .. " to begin", 20, function() worker:is_running() return worker.stdout:find("ran " .. data) end)
      end
    end)
  end)
end)

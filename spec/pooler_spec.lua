local Pgbouncer = require "spec.support.pgbouncer"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local bell = require "spec.support.bell"
local pgq = require "pgq"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local BEHIND_POOLER = "the database is behind a connection pooler: this worker prepares no statements"

local SCRIPT = [[
  local pgq = require "pgq"
  local uv = require "luv"
  pgq.register_queue("echo", function(data) print("ran " .. data) end)
  pgq.register_queue("size", function(data) print("size " .. #data) end)
  pgq.register_queue("sleep", function(data, job)
    print("began " .. data .. " attempt " .. job.attempt)
    uv.sleep(tonumber(data))
    print("ended " .. data)
  end)
  pgq.register_queue("fail", function(data, job)
    print("failing " .. data .. " attempt " .. job.attempt)
    error("no luck", 0)
  end)
  pgq.register_queue("down", function(data, job)
    if job.attempt < 4 then return pgq.backoff "down" end
    print "up again"
  end)
  pgq.register_queue("chain", function() assert(pgq.enqueue("echo", "chained")) end)]]

describe("behind a pgbouncer", function()
  local pg, pool
  local workers = {}

  setup(function()
    pg = Postgres.start { migrated = true }
  end)

  teardown(function() pg:stop() end)

  before_each(function() pg:psql "TRUNCATE pgq_jobs, pgq_workers RESTART IDENTITY" end)

  -- Ends the workers of a spec that has failed.
  after_each(function()
    for _, worker in ipairs(workers) do
      if worker:kill "sigkill" then
        worker:wait()
      end
    end
    workers = {}
  end)

  local function start_at(server, ...)
    local worker = Worker.start { pg = server, script = SCRIPT,
      args = { "--executors", "2", "--poll-interval", "100ms", ... } }
    workers[#workers + 1] = worker
    worker:read_until "worker is serving"
    return worker
  end

  local function start(...)
    return start_at(pool, ...)
  end

  local function drain(...)
    local result = Worker.run { pg = pool, script = SCRIPT, args = { "--executors", "2", "--drain", ... }, timeout = 90 }
    assert.equal(0, result.status, result.stderr)
    return result
  end

  local function enqueue(queue, data, waits)
    return pg:psql(("SELECT pgq_enqueue('%s', '%s', now(), '%s')"):format(queue, data or "", waits or "{1h}"))
  end

  local function wait_for_none()
    wait.till("no job to be left", 60, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
  end

  local function wait_until_leased(count)
    wait.till("the job to be leased", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL" == tostring(count or 1)
    end)
  end

  -- Returns the settings and locks that another client finds in a session of the pool.
  local LEFT_BEHIND = [[
    BEGIN;
    SELECT 'server ' || pg_backend_pid() || '; ' || concat_ws('; ',
      (SELECT 'listens to ' || string_agg(channel, ',') FROM pg_listening_channels() AS channel),
      (SELECT 'prepared ' || string_agg(name, ',') FROM pg_prepared_statements),
      (SELECT 'locked ' || string_agg(objid::text, ',') FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
      (SELECT 'set ' || string_agg(name || '=' || setting, ',') FROM pg_settings WHERE source = 'session'
        AND setting <> reset_val AND name NOT IN ('application_name', 'client_encoding', 'transaction_isolation', 'transaction_read_only')));
    ]]

  -- Asks all servers of the pool, each in a transaction that lasts until all have answered; fails when one has
  -- something left.
  local function expect_clean_pool(size)
    local strangers, seen, count = {}, {}, 0
    for i = 1, size do
      strangers[i] = process.start { "psql", "-XqAt", "-d", pool.conninfo, stdin = "pipe" }
      strangers[i]:write(LEFT_BEHIND)
    end
    for _, stranger in ipairs(strangers) do
      local server, left = stranger:read_until("server (%d+); ([^\n]*)\n", 60, "stdout")
      assert.equal("", left)
      count = count + (seen[server] and 0 or 1)
      seen[server] = true
    end
    for _, stranger in ipairs(strangers) do
      stranger:write "COMMIT;\n"
      stranger:close_stdin()
      assert.equal(0, stranger:wait().status)
    end
    assert.equal(size, count)
    assert.equal("0", pg:psql "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
  end

  describe("that lends sessions for transactions, a worker", function()
    local SIZE = 6

    setup(function() pool = Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = SIZE }) end)
    teardown(function() pool:stop() end)

    it("says once that it polls, and leaves nothing behind in the pool", function()
      local worker = start("--hold-limit", "200ms")
      for i = 1, 30 do enqueue("echo", "job" .. i) end
      for _ = 1, 30 do enqueue "chain" end
      enqueue("fail", "twice", "{0s}")
      enqueue("sleep", "700")
      enqueue("chain", "")
      worker:read_until "ended 700"
      wait.till("all jobs to have ended", 60, function()
        return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL" == "0"
      end)
      assert.equal("t", pg:psql "SELECT pooled FROM pgq_workers")
      expect_clean_pool(SIZE)
      worker:stop()
      assert.equal(1, select(2, worker.stderr:gsub(BEHIND_POOLER, "")))
      assert.is_nil(worker.stderr:find "this worker cannot be woken")
      assert.equal("fail|2", pg:psql "SELECT queue_name, attempt FROM pgq_jobs")
      assert.equal(31, select(2, worker.stdout:gsub("ran chained", "")))
      expect_clean_pool(SIZE)
    end)

    it("leaves nothing behind when it is killed", function()
      local worker = start("--hold-limit", "200ms")
      enqueue("sleep", "60000")
      worker:read_until "began"
      wait_until_leased()
      worker:kill "sigkill"
      worker:wait()
      expect_clean_pool(SIZE)
    end)

    it("retries, backs off, preserves and discards", function()
      enqueue("fail", "three times", "{0s,300ms}")
      enqueue("down", "", "{0s,0s,0s}")
      local worker = start()
      for _, text in ipairs { "failing three times attempt 3", "up again" } do -- the order may differ
        wait.till(text, 30, function() worker:is_running() return worker.stdout:find(text, 1, true) end)
      end
      worker:stop()
      assert.equal("3|no luck|t", pg:psql "SELECT attempt, error, ran_at IS NOT NULL FROM pgq_jobs")
      pg:psql "TRUNCATE pgq_jobs"
      enqueue("echo", "kept")
      enqueue("fail", "gone", "{}")
      drain("--preserve-completed", "--discard-failed")
      assert.equal("kept|1|t", pg:psql "SELECT convert_from(data, 'UTF8'), attempt, ran_at IS NOT NULL FROM pgq_jobs")
    end)

    it("leases jobs that outlive the hold, and extends the leases", function()
      local worker = start("--hold-limit", "200ms", "--lease", "2s")
      local other = start("--hold-limit", "200ms", "--lease", "2s")
      for _ = 1, 3 do enqueue("sleep", "5000") end
      wait_until_leased(3)
      -- Only for a moment, while the worker looks for jobs.
      wait.till("no transaction to be open", 4, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'" == "0"
      end)
      assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL")
      wait_for_none()
      worker:stop()
      other:stop()
      assert.equal(3, select(2, (worker.stdout .. other.stdout):gsub("began", "")))
    end)

    it("brings large data, beside small", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data)
        SELECT 'size', repeat('x', CASE WHEN n % 5 = 0 THEN 9000000 + n ELSE n END)::bytea FROM generate_series(1, 20) n]]
      local result = drain()
      for n = 1, 20 do
        assert.matches(("size %d\n"):format(n % 5 == 0 and 9000000 + n or n), result.stdout)
      end
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it("that is killed loses its jobs to the next at once, when it held them", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'sleep', '2000' FROM generate_series(1, 4)"
      local worker = start("--hold-limit", "60s")
      worker:read_until "began"
      worker:kill "sigkill"
      worker:wait()
      local other = start()
      other:read_until("began", 15) -- before the server would end its idle transaction
      wait_for_none()
      other:stop()
      assert.equal(4, select(2, other.stdout:gsub("ended", "")))
    end)

    it("ends by SIGTERM in good order, and gives back the jobs that still run", function()
      enqueue("sleep", "700")
      local worker = start("--executors", "1")
      worker:read_until "began 700"
      worker:stop()
      assert.matches("ended 700", worker.stdout)
      assert.equal("0|0", pg:psql "SELECT (SELECT count(*) FROM pgq_jobs), (SELECT count(*) FROM pgq_workers)")
      enqueue("sleep", "60000")
      worker = start("--executors", "1", "--grace", "100ms", "--hold-limit", "100ms")
      worker:read_until "began 60000"
      wait_until_leased()
      worker:stop()
      assert.equal("0|t|t", pg:psql "SELECT attempt, lease IS NULL, run_after <= now() FROM pgq_jobs")
    end)

    it("is not taken for dead while it lives, and is when it was killed and a minute has passed", function()
      local pooled = start()
      pg:psql "UPDATE pgq_workers SET last_seen_at = now() - interval '50 s'"
      local direct = start_at(pg)
      direct:stop()
      assert.is_nil(direct.stderr:find "a worker died")
      assert.equal("1", pg:psql "SELECT count(*) FROM pgq_workers")
      pooled:kill "sigkill"
      pooled:wait()
      pg:psql "UPDATE pgq_workers SET last_seen_at = now() - interval '61 s'"
      for _, server in ipairs { pg, pool } do
        direct = start_at(server)
        direct:stop()
        assert.equal(server == pg, direct.stderr:find "a worker died" ~= nil)
      end
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_workers")
    end)

    it("notices within seconds that a worker on a direct connection was killed, and takes it for alive before", function()
      local direct = start_at(pg)
      local pooled = start()
      pooled:stop()
      assert.is_nil(pooled.stderr:find "a worker died")
      direct:kill "sigkill"
      direct:wait()
      wait.till("the server to notice", 30, function() return bell.control_pid(pg) == "" end)
      pooled = start()
      wait.till("the dead worker to be found", 30, function() return pooled.stderr:find "a worker died" ~= nil end)
      pooled:stop()
      expect_clean_pool(SIZE)
    end)

    it("loses nothing when servers are killed and the pool is restarted beneath it", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'sleep', '5' FROM generate_series(1, 1000)"
      local worker = start()
      for round = 1, 6 do
        wait.sleep(0.4)
        if round % 3 == 0 then
          pool:down()
          pool:up()
        else
          pg:psql [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()]]
        end
      end
      wait_for_none()
      worker:stop()
      assert.is_nil(worker.stderr:find "worker lost")
      assert.is_true(select(2, worker.stdout:gsub("ended", "")) >= 1000)
      assert.equal(1, select(2, worker.stderr:gsub(BEHIND_POOLER, "")))
    end)
  end)

  it("that has only one session for transactions, a worker with two executors runs its jobs", function()
    pool = Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = 1 })
    finally(function() pool:stop() end)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'sleep', '10' FROM generate_series(1, 50)"
    enqueue("sleep", "1500")
    local worker = start()
    wait_for_none()
    worker:stop()
    assert.matches(BEHIND_POOLER, worker.stderr)
    expect_clean_pool(1)
  end)

  describe("that lends sessions for as long as a connection lasts, a worker", function()
    setup(function() pool = Pgbouncer.start(pg, { pool_mode = "session", default_pool_size = 20 }) end)
    teardown(function() pool:stop() end)

    it("works as in transaction mode, and logs that --pooler session gives more", function()
      local worker = start("--executors", "1")
      enqueue("echo", "polled")
      worker:read_until "ran polled"
      assert.equal("t", pg:psql "SELECT pooled FROM pgq_workers")
      assert.equal(0, bell.flags(pg))
      worker:stop()
      assert.equal(1, select(2, worker.stderr:gsub(BEHIND_POOLER, "")))
      assert.matches("%-%-pooler session gives more", worker.stderr)
    end)

    it("is woken with --pooler session, and logs no warning", function()
      local worker = start("--poll-interval", "1h", "--executors", "1", "--pooler", "session")
      local conn = assert(pgq.connect(pg.conninfo))
      for i = 1, 5 do
        bell.wait_asleep(pg, tonumber(pg:psql [[SELECT count(DISTINCT hashtext(name) & 255)
          FROM pgq_workers, unnest(queues) AS name]]))
        assert(conn:enqueue("echo", "job" .. i))
        worker:read_until("ran job" .. i, 8)
      end
      conn:close()
      assert.equal("f", pg:psql "SELECT pooled FROM pgq_workers")
      worker:stop()
      assert.is_nil(worker.stderr:find "level=warn")
      wait.till("the pool to be clean", 30, function()
        return pg:psql "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'" == "0"
      end)
    end)

    it("does so again after the pool was restarted", function()
      local worker = start("--poll-interval", "1h", "--executors", "1", "--pooler", "session")
      pool:down()
      pool:up()
      worker:read_until('connected again" connection=control')
      wait.till("the flags to be up", 30, function() return bell.flags(pg) > 0 end)
      enqueue("echo", "after")
      worker:read_until("ran after", 8)
      worker:stop()
    end)
  end)

  describe("or on a direct connection, a worker", function()
    it("polls with --pooler transaction, and does not say so", function()
      local worker = start_at(pg, "--pooler", "transaction")
      enqueue("echo", "polled")
      worker:read_until "ran polled"
      assert.equal("t", pg:psql "SELECT pooled FROM pgq_workers")
      assert.equal(0, bell.flags(pg))
      worker:stop()
      assert.is_nil(worker.stderr:find "level=warn")
    end)

    it("hears the doorbell with --pooler none, and by itself", function()
      for _, kind in ipairs { "none", "auto" } do
        local worker = start_at(pg, "--poll-interval", "1h", "--executors", "1", "--pooler", kind)
        wait.till("the flags to be up", 30, function() return bell.flags(pg) > 0 end)
        enqueue("echo", kind)
        worker:read_until("ran " .. kind, 8)
        worker:stop()
        assert.is_nil(worker.stderr:find "level=warn")
      end
    end)
  end)
end)

describe("with --no-prepare a worker", function()
  local pg

  setup(function()
    pg = Postgres.start { migrated = true, settings = { log_min_duration_statement = "0" } }
  end)

  teardown(function() pg:stop() end)

  -- Runs 500 jobs. Returns the lines of the server's log about claims, and the whole log.
  local function run(...)
    local before = #pg:log()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data) SELECT 'echo', '' FROM generate_series(1, 500);
      SELECT pgq_enqueue('fail', '', now(), '{0s}')]]
    local result = Worker.run { pg = pg, script = SCRIPT, args = { "--executors", "1", "--drain", ... } }
    assert.equal(0, result.status, result.stderr)
    assert.equal(500, select(2, result.stdout:gsub("ran \n", "")))
    assert.equal(2, select(2, result.stdout:gsub("failing", "")))
    assert.is_nil(result.stderr:find(BEHIND_POOLER, 1, true))
    return pg:log():sub(before + 1)
  end

  it("prepares no statement, and runs its jobs", function()
    local log = run()
    assert.matches("parse claim: ", log)
    assert.matches("execute claim: ", log)
    log = run "--no-prepare"
    assert.matches("execute <unnamed>: SELECT nullif%(queue%.position", log)
    for name in log:gmatch "execute ([^:]+): " do
      assert.equal("<unnamed>", name)
    end
  end)
end)

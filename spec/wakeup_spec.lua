local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local bell = require "spec.support.bell"
local pgq = require "pgq"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- PGQ_BELL_SEED repeats a run that has failed; a client that fails prints its seed.
local seed = tonumber(os.getenv "PGQ_BELL_SEED" or os.time() % 100000)

-- How long a job may wait: a worker that is awake looks every 250 ms while an enqueue is in flight. A machine that
-- stands still for a moment is slower. A worker that misses a wake-up sleeps for an hour.
local DEADLINE = 8

-- How long until a worker that has lost its sessions is back: it tries after 100 ms, then after 200 ms, and so on.
local BACK = 30

describe("no wake-up is lost", function()
  local pg
  local started = {}

  setup(function()
    pg = Postgres.start { migrated = true }
    pg:psql "CREATE ROLE worker LOGIN; GRANT ALL ON pgq_jobs, pgq_workers, pgq_attempts, pgq_stats, pgq_queues TO worker"
  end)

  teardown(function() pg:stop() end)

  before_each(function() pg:psql "TRUNCATE pgq_jobs, pgq_workers RESTART IDENTITY" end)

  -- Ends the processes that a failed test has left.
  after_each(function()
    for _, child in ipairs(started) do
      if child:kill "sigkill" then
        child:wait()
      end
    end
    started = {}
    pg:psql "ALTER ROLE worker CONNECTION LIMIT -1"
  end)

  -- A worker of queues, which sleeps for an hour unless it is woken. The owner of its sessions is no superuser, so
  -- that it can be kept out.
  local function start(queues, executors)
    local script = { "local pgq = require 'pgq'\n" }
    for _, name in ipairs(queues) do
      script[#script + 1] = ("pgq.register_queue('%s', function(data) print('ran ' .. data) end)\n"):format(name)
    end
    local worker = Worker.start { script = table.concat(script), args = {
      "--db", pg.conninfo:gsub("user=postgres", "user=worker") .. " application_name=worker",
      "--executors", executors or "1", "--poll-interval", "1h" } }
    started[#started + 1] = worker
    worker:read_until "worker is serving"
    return worker
  end

  local function start_client(number, queues, seconds)
    local client = process.start { "luajit", "spec/support/ringer.lua", pg.conninfo, table.concat(queues, ","),
      seed + number, seconds, DEADLINE }
    started[#started + 1] = client
    return client
  end

  -- Waits for the clients, each of which has made at least 25 rounds.
  local function expect_success(clients, seconds)
    for _, client in ipairs(clients) do
      local result = client:wait(seconds + DEADLINE + 40)
      assert.equal(0, result.status, result.stdout .. result.stderr)
      assert.is_true(tonumber(result.stdout:match "rounds (%d+)") >= 25, result.stdout)
    end
  end

  it("while clients enqueue in every way, each with a worker of its own that falls asleep in between", function()
    local clients = {}
    for i = 1, 5 do
      local queues = { "a" .. i, "b" .. i, "c" .. i }
      start(queues)
      clients[i] = start_client(i, queues, 12)
    end
    expect_success(clients, 12)
  end)

  it("while they share their queues between them, and with several workers", function()
    local queues = { "one", "two", "three" }
    for i = 1, 3 do
      start(queues, i)
    end
    local clients = {}
    for i = 1, 4 do
      clients[i] = start_client(10 + i, queues, 8)
    end
    expect_success(clients, 8)
  end)

  it("by thousands of enqueues at once, of pgbench", function()
    local worker = start { "q" }
    local dir = process.check({ "mktemp", "-d", "/tmp/pgq-bench-XXXXXX" }):gsub("%s", "")
    local file = assert(io.open(dir .. "/enqueue.sql", "w"))
    -- After its second a client is silent for up to 120 ms, and all of them at times.
    file:write [[
      \set nap random(0, 120)
      BEGIN;
      INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', ''), ('q', '');
      SAVEPOINT a;
      INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '');
      ROLLBACK TO a;
      COMMIT;
      \sleep :nap ms
      ]]
    file:close()
    for round = 1, 3 do
      process.check { "pgbench", "-n", "-f", dir .. "/enqueue.sql", "-c", 6, "-t", 70, "--random-seed", seed + round,
        "-d", pg.conninfo, timeout = 60 }
      wait.till(("the jobs of round %d to be done, seed %d"):format(round, seed), DEADLINE, function()
        return pg:psql "SELECT count(*) FROM pgq_jobs" == "0"
      end)
    end
    process.check { "rm", "-r", dir }
    wait.till("all to be told", 30, function()
      worker:is_running()
      return select(2, worker.stdout:gsub("ran \n", "")) == 3 * 6 * 70 * 2
    end)
    worker:stop()
  end)

  describe("when the control session", function()
    local conn

    setup(function() conn = assert(pgq.connect(pg.conninfo)) end)
    teardown(function() conn:close() end)

    it("is lost: the flags go up again in the next, and rings are heard", function()
      local worker = start { "q" }
      for i = 1, 5 do
        bell.wait_asleep(pg)
        bell.lose_control(pg)
        bell.wait_asleep(pg)
        assert(conn:enqueue("q", "job" .. i))
        worker:read_until("ran job" .. i, DEADLINE)
      end
      worker:stop()
    end)

    it("is away while jobs are enqueued: they are found when it is back", function()
      local worker = start { "q" }
      bell.wait_asleep(pg)
      pg:psql "ALTER ROLE worker CONNECTION LIMIT 0"
      pg:psql(("SELECT pg_terminate_backend(%s)"):format(bell.control_pid(pg)))
      worker:read_until "too many connections for role"
      bell.wait_still(pg, "worker")
      -- The worker looks for jobs when it has lost that session; on a slow machine it may still do so. One of the jobs
      -- comes after that, and nothing wakes the worker for it.
      local missed
      for i = 1, 10 do
        assert(conn:enqueue("q", "meanwhile" .. i))
        wait.sleep(0.3)
        if not worker.stdout:find("ran meanwhile" .. i, 1, true) then
          missed = i
          break
        end
      end
      assert.is_truthy(missed, worker.stdout)
      pg:psql "ALTER ROLE worker CONNECTION LIMIT -1"
      worker:read_until("ran meanwhile" .. missed, BACK)
      bell.wait_asleep(pg)
      assert(conn:enqueue("q", "after"))
      worker:read_until("ran after", DEADLINE)
      worker:stop()
    end)

    it("and all others are lost, again and again", function()
      local worker = start { "q" }
      for i = 1, 5 do
        pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'worker'"
        assert(conn:enqueue("q", "job" .. i))
        worker:read_until("ran job" .. i, BACK)
      end
      worker:stop()
    end)

    it("has a statement cancelled", function()
      local worker = start { "q" }
      local hammer = process.start { "psql", "-XqAt", "-d", pg.conninfo, "-c", [[DO $$ BEGIN FOR i IN 1..3000 LOOP
        PERFORM pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'pgq_workers'::regclass;
        PERFORM pg_sleep(0.0005); END LOOP; END $$]] }
      for i = 1, 20 do
        conn:enqueue("q", "job" .. i)
        wait.sleep(0.08)
      end
      hammer:wait(60)
      assert(conn:enqueue("q", "last"))
      worker:read_until("ran last", BACK)
      bell.wait_asleep(pg)
      worker:stop()
    end)

    -- Cancels may also arrive at that moment, but seldom do.
    it("has a statement refused at its commit", function()
      pg:psql [[CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON pgq_workers DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION refuse()]]
      finally(function() pg:psql "DROP FUNCTION refuse CASCADE" end)
      local worker = start { "q" }
      assert.matches("cannot write this worker's row in pgq_workers: trying again\" error=\"not now\"", worker.stderr)
      for i = 1, 3 do
        bell.wait_asleep(pg)
        assert(conn:enqueue("q", "job" .. i))
        worker:read_until("ran job" .. i, DEADLINE)
      end
      worker:stop()
    end)
  end)
end)

describe("a cancelled enqueue", function()
  local pg

  setup(function()
    pg = Postgres.start { migrated = true }
  end)

  teardown(function() pg:stop() end)

  it("leaves no lock in its session, which others may use after it", function()
    local worker = Worker.start { pg = pg, args = { "--executors", "1", "--poll-interval", "1h" },
      script = "require 'pgq'.register_queue('q', function() end)" }
    worker:read_until "worker is serving"
    local insert = "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q' || n, '' FROM generate_series(1, 20) n;\n"
    local many = (insert .. "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '');\n"):rep(100)
    local sessions = {}
    for i = 1, 3 do
      sessions[i] = process.start { "psql", "-XqAt", "-d", pg.conninfo .. " application_name=client", stdin = "pipe" }
    end
    local hammer = process.start { "psql", "-XqAt", "-d", pg.conninfo .. " application_name=hammer", "-c",
      [[DO $$ BEGIN LOOP
        PERFORM pg_stat_clear_snapshot();
        PERFORM pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'client' AND state = 'active';
        PERFORM pg_sleep(0.0002 + random() / 1000); END LOOP; END $$]] }
    -- How many statements of a round are cancelled depends on the load.
    local function round(number)
      local cancelled = 0
      for _, session in ipairs(sessions) do
        session:write(many .. "\\echo done " .. number .. "\n") -- \echo is run by psql itself, so it cannot be cancelled
      end
      for _, session in ipairs(sessions) do
        session:read_until("done " .. number .. "\n", 60, "stdout")
        cancelled = cancelled + select(2, session.stderr:gsub("canceling statement", ""))
      end
      return cancelled
    end
    local number, cancelled = 0, 0
    while number < 3 or cancelled <= 20 do
      number = number + 1
      assert.is_true(number <= 100, cancelled .. " cancelled")
      cancelled = round(number)
    end
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hammer'"
    hammer:wait()
    assert.equal("0", pg:psql [[SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
      WHERE locktype = 'advisory' AND application_name = 'client']])
    for _, session in ipairs(sessions) do
      session:close_stdin()
      session:wait()
    end
    worker:stop()
  end)
end)

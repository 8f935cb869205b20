-- The history of attempts: each failed attempt has exactly one row in pgq_attempts, and with --keep-attempts all each
-- attempt has one.
local fixture = require "spec.support.fixture"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("the history of attempts", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_attempts RESTART IDENTITY" }
  local enqueue = fixture.enqueuer(pg, "{0s}")
  local start, drain = fixture.workers(pg, { args = { "--executors", "1", "--poll-interval", "100ms" } })

  local SCRIPT = [[
    local ffi = require "ffi"
    ffi.cdef "int kill(int, int); int getpid(void);"
    pgq.register_queue("ok", function() end)
    pgq.register_queue("fails", function(data) error("no luck: " .. data) end)
    pgq.register_queue("waits", function() pgq.sleep(0.3) error("waited", 0) end)
    pgq.register_queue("discards", function() error(pgq.discard "not wanted") end)
    pgq.register_queue("snoozes", function(_, job)
      if not pgq.snoozed then pgq.snoozed = true error(pgq.snooze(0)) end
    end)
    pgq.register_queue("spins", function() spin(60) end, { timeout = "200ms" })
    pgq.register_queue("dies", function() ffi.C.kill(ffi.C.getpid(), 9) spin(10) end)
    pgq.register_queue("transactional", function(data, job)
      assert(job.tx:query "SELECT 1")
      if data == "fails" then error("no luck", 0) end
    end, { transactional = true })
  ]]

  -- The rows of a query, as pg:psql prints them.
  local function attempts(columns)
    return pg:psql(("SELECT %s FROM pgq_attempts ORDER BY id"):format(columns))
  end

  -- Undone after the test.
  local undos = {}
  after_each(function()
    while undos[1] do pg:psql(table.remove(undos)) end
  end)

  it("has each failed attempt: when, where, why, and what came of it", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('fails', 'one', '{0s,0s}')"
    local worker = start(SCRIPT)
    wait.till("the job to fail for good", 20, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL" == "1"
    end)
    assert.equal("1|fails|1|retried\n1|fails|2|retried\n1|fails|3|failed",
      attempts "job_id, queue_name, attempt, outcome")
    assert.equal("t", pg:psql(([[SELECT bool_and(worker = '%s:%d' AND worker_id = (SELECT id FROM pgq_workers)
      AND error LIKE '%%no luck: one' AND traceback LIKE 'stack traceback:%%worker.lua:%%'
      AND started_at <= ended_at AND ended_at - started_at < interval '10 seconds'
      AND started_at > now() - interval '1 minute') FROM pgq_attempts]]):format(uv.os_gethostname(), worker.pid)))
    worker:stop()
  end)

  it("has the time that the handler took, whether the job was held or leased", function()
    enqueue("waits")
    drain(SCRIPT)
    assert.equal("1|t\n2|t", attempts "attempt, extract(epoch FROM ended_at - started_at) BETWEEN 0.3 AND 10")
  end)

  it("has attempts whose executor died or was killed at the time limit", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('dies', '', '{}'), ('spins', '', '{}')"
    drain(SCRIPT)
    assert.equal("dies|failed|was killed by SIGKILL|t\nspins|failed|was killed at the time limit of 200ms|t", pg:psql [[
      SELECT queue_name, outcome, substring(error FROM 'was killed (?:by SIGKILL|at the time limit of 200ms)'),
        started_at IS NOT NULL
      FROM pgq_attempts ORDER BY queue_name]])
  end)

  it("has attempts that were cancelled, however their handlers end", function()
    pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    local worker = start([[
      pgq.register_queue("ends", function() print "ends begins" io.stdout:flush() pgq.sleep(60) end)
      pgq.register_queue("stays", function() print "stays begins" io.stdout:flush() pcall(pgq.sleep, 60) return true end)
      pgq.register_queue("spins", function() print "spins begins" io.stdout:flush() spin(60) end)]], "--executors", "3")
    for _, queue in ipairs { "ends", "stays", "spins" } do
      enqueue(queue)
      worker:read_until(queue .. " begins", 30, "stdout")
      wait.till("the job to be leased", 30, function()
        return pg:psql(("SELECT count(lease) FROM pgq_jobs WHERE queue_name = '%s'"):format(queue)) == "1"
      end)
      assert.equal("running", pg:psql(("SELECT pgq_cancel(id) FROM pgq_jobs WHERE queue_name = '%s'"):format(queue)))
      worker:read_until("job cancelled", 30, "stderr")
    end
    wait.till("the rows", 20, function() return pg:psql "SELECT count(*) FROM pgq_attempts" == "3" end)
    assert.equal("ends|1|cancelled|t|pgq.cancelled\nspins|1|cancelled|t|was killed: it ran a job that was cancelled\nstays|1|cancelled|t|",
      pg:psql(([[SELECT queue_name, attempt, outcome, worker = '%s:%d' AND worker_id IS NOT NULL AND version <> ''
          AND started_at < ended_at AND ended_at - started_at < interval '60 s',
        substring(error FROM 'pgq.cancelled|was killed: it ran a job that was cancelled')
      FROM pgq_attempts ORDER BY queue_name]]):format(uv.os_gethostname(), worker.pid)))
    worker:stop()
    assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs WHERE cancelled")
  end)

  it("has a cancelled attempt also if the worker finds out only when it extends the lease", function()
    pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    local worker = start([[pgq.register_queue("waits", function() print "begins" io.stdout:flush() pgq.sleep(60) end)]], "--lease", "1s")
    enqueue("waits")
    worker:read_until("begins", 30, "stdout")
    wait.till("the job to be leased", 30, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "1" end)
    pg:psql "UPDATE pgq_jobs SET ran_at = now(), cancelled = true, error = 'cancelled', lease = NULL, started_at = NULL"
    wait.till("the row", 30, function() return pg:psql "SELECT outcome FROM pgq_attempts" == "cancelled" end)
    worker:read_until("job cancelled", 30, "stderr")
    -- A lease that is lost for another reason is no cancelled attempt.
    pg:psql "TRUNCATE pgq_attempts; TRUNCATE pgq_jobs RESTART IDENTITY"
    enqueue("waits")
    worker:read_until("begins", 30, "stdout")
    wait.till("the job to be leased", 30, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "1" end)
    pg:psql "UPDATE pgq_jobs SET run_after = now() + interval '1 h', lease = NULL, started_at = NULL"
    worker:read_until("outcome dropped: the lease was lost", 30, "stderr")
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_attempts")
  end)

  it("names the other worker when an attempt failed because that worker was lost", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, attempt, lease, started_at, deaths, run_after, retry_waits)
      VALUES ('ok', '', 1, (77::bigint << 32) + 5, now() - interval '1 hour', 9, now() - interval '1 minute', '{}')]]
    drain(SCRIPT)
    assert.equal("1|failed|77||", attempts "attempt, outcome, worker_id, worker, started_at")
    assert.matches("^worker lost", attempts "error")
  end)

  it("has jobs that are discarded with their last failure", function()
    enqueue("discards")
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('waits', '', '{}')"
    drain(SCRIPT, "--discard-failed")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    assert.equal("discards|1|discarded|not wanted\nwaits|1|discarded|waited",
      pg:psql "SELECT queue_name, attempt, outcome, error FROM pgq_attempts ORDER BY queue_name")
  end)

  it("has no other attempts, unless all are asked for", function()
    for _, queue in ipairs { "ok", "snoozes", "transactional" } do enqueue(queue) end
    drain(SCRIPT)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_attempts")
    for _, preserve in ipairs { "--drain", "--preserve-completed" } do
      pg:psql "TRUNCATE pgq_attempts"
      pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
      for _, queue in ipairs { "ok", "snoozes", "transactional", "waits" } do enqueue(queue) end
      enqueue("transactional", "fails")
      drain(SCRIPT, "--keep-attempts", "all", preserve)
      assert.equal(table.concat({ "1|ok|1|completed", "2|snoozes|1|completed", "2|snoozes|1|snoozed",
        "3|transactional|1|completed", "4|waits|1|retried", "4|waits|2|failed", "5|transactional|1|retried",
        "5|transactional|2|failed" }, "\n"),
        pg:psql "SELECT job_id, queue_name, attempt, outcome FROM pgq_attempts ORDER BY job_id, attempt, outcome = 'failed', outcome")
      assert.equal("t", pg:psql "SELECT bool_and(started_at < ended_at AND worker_id IS NOT NULL) FROM pgq_attempts")
    end
  end)

  it("has one row for an attempt that is written twice, because the database ignored or refused it at first", function()
    pg:psql [[
      CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER keep BEFORE UPDATE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION keep()]]
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'fails', '', '{}' FROM generate_series(1, 20)"
    local worker = start(SCRIPT)
    worker:read_until("the database ignores writes", 20)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_attempts")
    pg:psql [[
      DROP FUNCTION keep CASCADE;
      CREATE SEQUENCE commits;
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('commits') <= 2 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
        RETURN NULL;
      END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON pgq_attempts DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse()]]
    undos[1] = "DROP FUNCTION refuse CASCADE; DROP SEQUENCE commits"
    wait.till("all outcomes to be written", 60, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL" == "20"
    end)
    worker:stop()
    assert.equal("20|20", pg:psql "SELECT count(*), count(DISTINCT job_id) FROM pgq_attempts")
  end)

  it("is a wish, not a condition: a row that a trigger suppresses does not keep the job", function()
    pg:psql [[
      CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER keep BEFORE INSERT ON pgq_attempts FOR EACH ROW EXECUTE FUNCTION keep()]]
    undos[1] = "DROP FUNCTION keep CASCADE"
    enqueue("fails", "", 5)
    drain(SCRIPT)
    assert.equal("5", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL AND attempt = 2")
  end)

  it("takes any error and any bytes, in databases of other encodings, too", function()
    pg:psql "CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
    undos[1] = "DROP DATABASE latin1 WITH (FORCE)"
    local other = pg.conninfo:gsub("dbname=%S+", "") .. " dbname=latin1"
    local Worker = require "spec.support.worker"
    local process = require "spec.support.process"
    process.check { os.getenv "PGQ_LUA", "migrate", "--db", other }
    process.check { os.getenv "PGQ_LUA", "enqueue", "--db", other, "--retry-waits", "", "q", "x" }
    local result = Worker.run { args = { "--db", other, "--executors", "1", "--drain" }, timeout = 60, script = [[
      local pgq = require "pgq"
      local f = load and loadstring("error('grün \226\152\131 \255\0', 0)", "=☃")
      pgq.register_queue("q", function() f() end)]] }
    assert.equal(0, result.status, result.stderr)
    local row = process.check { "psql", "-XAtd", other, "-c", "SELECT outcome, error, traceback <> '' FROM pgq_attempts" }
    assert.matches("^failed|gr%?n %? .*|t", row)
  end)

  it("needs the right to insert: a worker without it does not start", function()
    pg:psql [[CREATE ROLE old_worker LOGIN;
      GRANT SELECT, INSERT, UPDATE, DELETE ON pgq_jobs, pgq_workers, pgq_frontiers TO old_worker]]
    undos[1] = "DROP OWNED BY old_worker; DROP ROLE old_worker"
    local dsn = pg.conninfo .. " user=old_worker"
    pg:psql "REVOKE UPDATE ON pgq_workers FROM old_worker"
    local result = start(SCRIPT, "--db", dsn):wait(20)
    assert.equal(1, result.status)
    local grants = result.stderr:match "To grant that: (.*)\n$"
    assert.equal("pgq-lua: the role old_worker does not have: UPDATE on pgq_workers, SELECT, INSERT, UPDATE, DELETE on pgq_attempts, "
      .. "SELECT on pgq_queues, SELECT, INSERT, UPDATE, DELETE on pgq_stats, SELECT, DELETE on pgq_audit. "
      .. "To grant that: GRANT UPDATE ON pgq_workers TO old_worker; "
      .. "GRANT SELECT, INSERT, UPDATE, DELETE ON pgq_attempts TO old_worker; GRANT SELECT ON pgq_queues TO old_worker; "
      .. "GRANT SELECT, INSERT, UPDATE, DELETE ON pgq_stats TO old_worker; GRANT SELECT, DELETE ON pgq_audit TO old_worker\n", result.stderr)
    pg:psql(grants)
    enqueue("fails")
    drain(SCRIPT, "--db", pg.conninfo .. " user=old_worker")
    assert.equal("2", pg:psql "SELECT count(*) FROM pgq_attempts")
  end)

  it("cannot be written beside a rule for updates of jobs: the worker does not start", function()
    pg:psql "CREATE RULE note AS ON UPDATE TO pgq_jobs DO ALSO SELECT 1"
    undos[1] = "DROP RULE note ON pgq_jobs"
    local result = start(SCRIPT):wait(20)
    assert.equal(1, result.status)
    assert.matches("the rule note of pgq_jobs is for UPDATE", result.stderr)
  end)

  it("is asked for with an option that says how long, and whether all", function()
    for _, case in ipairs { { "x", "has a unit without a number" }, { "all,", "is empty" }, { "7d,all", "has an unknown unit" },
      { "-1d", "is negative" } } do
      local result = start(SCRIPT, "--keep-attempts", case[1]):wait(20)
      assert.equal(2, result.status)
      assert.matches("%-%-keep%-attempts: '" .. case[1]:gsub("%-", "%%-") .. "' " .. case[2], result.stderr)
      assert.matches("7d, all, or both: all,7d", result.stderr)
    end
  end)
end)

-- Cancelling, without a worker: pgq_cancel in SQL, and the command. Leases and holds are made by hand.

local pgq = require "pgq"
local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("cancelling", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    conn = assert(pgq.connect(pg.conninfo))
  end)

  teardown(function()
    conn:close()
    pg:stop()
  end)

  before_each(function() pg:psql "DELETE FROM pgq_jobs" end)

  local function enqueue(options) return assert(conn:enqueue("q", "data", options)) end

  -- Leases a job, as a worker does when the job has run for a second.
  local function lease(id)
    assert(conn:query("UPDATE pgq_jobs SET lease = 77, attempt = attempt + 1, run_after = now() + interval '1 minute' WHERE id = $1", id))
  end

  local function finish(id, problem)
    assert(conn:query("UPDATE pgq_jobs SET ran_at = now() - interval '1 hour', error = $2 WHERE id = $1", id, problem))
  end

  local function row(id)
    local found = conn:query([[SELECT ran_at BETWEEN now() - interval '60 s' AND now() AS just_now, error, nullif(cancelled, false) AS cancelled, lease, deaths,
      attempt, retry_waits::text AS waits FROM pgq_jobs WHERE id = $1]], id)[1]
    for name, value in pairs(found) do
      if value == pgq.null then found[name] = nil end
    end
    return found
  end

  local CANCELLED = { just_now = true, cancelled = true, error = "cancelled", deaths = 0, attempt = 0, waits = "{1m0s,10m0s,30m0s}" }

  -- Returns the output of psql: the result of the call, and the notifications that it caused.
  local function cancel_and_listen(id)
    local out = pg:psql(("LISTEN pgq_cancel; SELECT pgq_cancel(%d);"):format(id))
    return out:match "^%a+", out:match 'notification "pgq_cancel" with payload "([^"]*)"'
  end

  local function is_kept_waiting()
    return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pgq_cancel%' AND wait_event_type = 'Lock'" == "1"
  end

  -- Cancels a job that a transaction holds, which ends with `sql` when the call waits for it. Returns what was printed.
  local function cancel_held(id, sql)
    local command
    assert(conn:transaction(function(tx)
      assert(tx:query("SELECT FROM pgq_jobs WHERE id = $1 FOR UPDATE", id))
      command = process.start { PGQ_LUA, "--db", pg.conninfo, "cancel", id }
      wait.till("the call to wait for the lock", 30, is_kept_waiting)
      if sql then assert(tx:query(sql, id)) end
      return true
    end))
    return command:wait().stdout
  end

  describe("with pgq_cancel", function()
    it("ends a job that waits, and notifies no worker", function()
      local id = enqueue { delay = "1h" }
      local answer, payload = cancel_and_listen(id)
      assert.equal("cancelled", answer)
      assert.is_nil(payload)
      assert.same(CANCELLED, row(id))
    end)

    it("ends a job that waits for a retry or has seen deaths, and keeps its attempts", function()
      local id = enqueue()
      pg:psql "UPDATE pgq_jobs SET attempt = 2, retry_waits = '{5s}', error = 'too bad', deaths = 3"
      assert.equal("cancelled", (cancel_and_listen(id)))
      assert.same({ just_now = true, cancelled = true, error = "too bad", deaths = 0, attempt = 2, waits = "{5s}" }, row(id))
    end)

    it("ends a leased job, and tells its worker with the table's oid and the id", function()
      local id = enqueue()
      lease(id)
      local answer, payload = cancel_and_listen(id)
      assert.equal("running", answer)
      assert.equal(pg:psql "SELECT 'pgq_jobs'::regclass::oid" .. ":" .. id, payload)
      assert.same({ just_now = true, cancelled = true, error = "cancelled", deaths = 0, attempt = 1, waits = "{1m0s,10m0s,30m0s}" }, row(id))
    end)

    it("leaves jobs alone that have failed, were preserved or were cancelled", function()
      for _, problem in ipairs { "no luck", false, "cancelled" } do
        local id = enqueue()
        finish(id, problem or nil)
        assert.equal("ended", (cancel_and_listen(id)))
        assert.equal(problem or nil, row(id).error)
        assert.is_false(row(id).just_now)
      end
    end)

    it("does not know a job that was completed and deleted, or that never existed", function()
      local id = enqueue()
      assert(conn:query("DELETE FROM pgq_jobs WHERE id = $1", id))
      assert.equal("unknown", (cancel_and_listen(id)))
      assert.equal("unknown", pg:psql "SELECT pgq_cancel(9223372036854775807)")
      assert.equal("unknown", pg:psql "SELECT pgq_cancel(-1)")
    end)

    it("ends just the one job", function()
      local first, second, third = enqueue(), enqueue(), enqueue()
      pg:psql(("SELECT pgq_cancel(%d)"):format(second))
      assert.equal(first .. "\n" .. third, pg:psql "SELECT id FROM pgq_jobs WHERE ran_at IS NULL ORDER BY id")
    end)

    it("is undone by a rollback, and then no worker is notified", function()
      local id = enqueue()
      lease(id)
      local out = pg:psql(("LISTEN pgq_cancel; BEGIN; SELECT pgq_cancel(%d); ROLLBACK; SELECT 1;"):format(id))
      assert.equal("running\n1", out)
      assert.equal(77, row(id).lease)
    end)

    it("finds its table whatever the caller's search path is, and tells that table's oid", function()
      local id = enqueue()
      lease(id)
      local out = pg:psql(([[CREATE SCHEMA other; CREATE TABLE other.pgq_jobs (id bigint); LISTEN pgq_cancel;
        SET search_path = other; SELECT public.pgq_cancel(%d); DROP TABLE other.pgq_jobs; DROP SCHEMA other]]):format(id))
      assert.matches("^running\n", out)
      assert.matches(('payload "%s:%d"'):format(pg:psql "SELECT 'pgq_jobs'::regclass::oid", id), out, 1, true)
    end)

    it("refuses an id that is null", function()
      local none, message, code = conn:query "SELECT pgq_cancel(NULL)"
      assert.is_nil(none)
      assert.equal("pgq_cancel: the id is null", message)
      assert.equal("22023", code)
    end)

    it("does not report success when a trigger keeps the row unchanged", function()
      local id = enqueue()
      pg:psql [[CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE UPDATE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION keep()]]
      local none, message = conn:query("SELECT pgq_cancel($1)", id)
      pg:psql "DROP TRIGGER keep ON pgq_jobs; DROP FUNCTION keep"
      assert.is_nil(none)
      assert.matches("job " .. id .. " could not be changed: a trigger", message)
    end)

    for _, level in ipairs { "repeatable read", "serializable" } do
      it("works at " .. level .. ", and says what to do when another session has changed the job", function()
        local quiet, busy = enqueue { delay = "1h" }, enqueue()
        local none, message, code
        assert(conn:query("BEGIN ISOLATION LEVEL " .. level))
        assert.equal("cancelled", conn:query("SELECT pgq_cancel($1) AS answer", quiet)[1].answer)
        pg:psql("UPDATE pgq_jobs SET lease = 7 WHERE id = " .. busy)
        none, message, code = conn:query("SELECT pgq_cancel($1)", busy)
        assert(conn:query "ROLLBACK")
        assert.is_nil(none)
        assert.equal("40001", code)
        assert.matches(("another session has changed job %d since this transaction began, which is %s"):format(busy, level),
          message, 1, true)
        local ok, problem = pcall(pg.psql, pg, ([[BEGIN ISOLATION LEVEL %s; SELECT 1; SELECT pg_sleep(0.5);
          SELECT pgq_cancel(%d)]]):format(level, busy))
        assert.is_true(ok, problem) -- nobody has changed it meanwhile
      end)
    end

    it("needs only SELECT and UPDATE on the table, and on some columns only", function()
      local id = enqueue()
      lease(id)
      local call = ("SET ROLE canceller; SELECT pgq_cancel(%d)"):format(id)
      pg:psql "CREATE ROLE canceller; GRANT SELECT ON pgq_jobs TO canceller"
      local ok, problem = pcall(pg.psql, pg, call)
      assert.is_false(ok)
      assert.matches("permission denied for table pgq_jobs", problem)
      pg:psql [[REVOKE ALL ON pgq_jobs FROM canceller; GRANT SELECT (id, lease, ran_at, error),
        UPDATE (ran_at, cancelled, error, lease, started_at, deaths) ON pgq_jobs TO canceller]]
      assert.equal("running", pg:psql(call))
      pg:psql "DROP OWNED BY canceller; DROP ROLE canceller"
    end)

    it("is done by only one of two sessions that cancel at the same time", function()
      local id = enqueue()
      assert.equal(id .. " has ended already\n", cancel_held(id, "SELECT pgq_cancel($1)"))
    end)
  end)

  describe("a job that a worker holds", function()
    it("is cancelled when the worker gives it back", function()
      local id = enqueue()
      assert.equal(id .. " cancelled\n", cancel_held(id))
      assert.same(CANCELLED, row(id))
    end)

    it("is cancelled when it has failed and would be tried again", function()
      local id = enqueue()
      assert.equal(id .. " cancelled\n", cancel_held(id, "UPDATE pgq_jobs SET error = 'no', attempt = 1 WHERE id = $1"))
      assert.equal("no", row(id).error)
      assert.is_true(row(id).cancelled)
    end)

    it("is cancelled as running when it has been leased", function()
      local id = enqueue()
      assert.equal(id .. " running: its handler is being cancelled\n",
        cancel_held(id, "UPDATE pgq_jobs SET lease = 5, attempt = 1 WHERE id = $1"))
      assert.is_nil(row(id).lease)
    end)

    it("has ended when it was completed first", function()
      local id = enqueue()
      assert.equal(id .. " unknown: there is no such job\n", cancel_held(id, "DELETE FROM pgq_jobs WHERE id = $1"))
      id = enqueue()
      assert.equal(id .. " has ended already\n", cancel_held(id, "UPDATE pgq_jobs SET ran_at = now() WHERE id = $1"))
      assert.is_nil(row(id).error)
    end)
  end)

  describe("with pgq-lua cancel", function()
    local function cancel(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "cancel", ... } end

    it("prints a line for each job, and exits 1 when one of them had ended or is unknown", function()
      local waiting, leased, failed = enqueue(), enqueue(), enqueue()
      lease(leased)
      finish(failed, "no luck")
      local result = cancel(waiting, leased, failed, failed + 1)
      assert.equal(("%d cancelled\n%d running: its handler is being cancelled\n%d has ended already\n"):format(waiting, leased, failed)
        .. ("%d unknown: there is no such job\n"):format(failed + 1), result.stdout)
      assert.equal("", result.stderr)
      assert.equal(1, result.status)
      assert.equal("cancelled", row(waiting).error)
      assert.equal("cancelled", row(leased).error)
    end)

    it("exits 0 when all are cancelled", function()
      local waiting, leased = enqueue(), enqueue()
      lease(leased)
      assert.equal(0, cancel(waiting, leased).status)
      assert.equal(1, cancel(waiting).status)
      assert.equal(1, cancel(waiting, enqueue()).status)
    end)

    it("takes options before, behind and between the ids", function()
      local first, second = enqueue(), enqueue()
      local result = process.run { PGQ_LUA, "cancel", first, "--db", pg.conninfo, second, "--connect-timeout", "5s" }
      assert.equal(first .. " cancelled\n" .. second .. " cancelled\n", result.stdout)
    end)

    it("refuses words that are no ids with status 2, and changes nothing", function()
      local id = enqueue()
      for _, case in ipairs {
        { "say which jobs: give their ids" },
        { "'' is not a whole number; write the ids", id, "" },
        { "'mail' is not a whole number", id, "mail" },
        { "'7x' is not a whole number", id, "7x" },
        { "' 7' is not a whole number", id, " 7" },
        { "'1.5' is not a whole number", "1.5", id },
        { "'1,2' is not a whole number", "1,2" },
        { "'-' is not a whole number", id, "-" },
        { "'9223372036854775808' is too large", id, "9223372036854775808" },
        { "unknown option '-5'", id, "-5" },
        { "option '--delay' is for pgq-lua enqueue only", id, "--delay", "1s" },
        { "option '--drain' is for a worker only", id, "--drain" },
      } do
        local result = cancel(unpack(case, 2))
        assert.equal(2, result.status, case[1])
        assert.is_truthy(result.stderr:find("pgq-lua cancel: " .. case[1], 1, true), result.stderr)
        assert.matches("usage: pgq%-lua cancel", result.stderr)
        assert.equal("", result.stdout)
      end
      assert.is_nil(row(id).error)
    end)

    it("takes any number that an id can be", function()
      local result = cancel("--", "9223372036854775807", "-9223372036854775808", "007")
      assert.equal("9223372036854775807 unknown: there is no such job\n-9223372036854775808 unknown: there is no such job\n"
        .. "7 unknown: there is no such job\n", result.stdout)
    end)

    it("explains itself with --help", function()
      local result = process.run { PGQ_LUA, "cancel", "--help" }
      assert.equal(0, result.status)
      assert.matches("usage: pgq%-lua cancel %[options%] ID", result.stdout)
      for _, option in ipairs { "--db CONNINFO", "--connect-timeout DURATION", "--dev", "--version", "--help" } do
        assert.is_truthy(result.stdout:find("  " .. option, 1, true), option)
      end
      assert.is_nil(result.stdout:find("--delay", 1, true))
      assert.matches("\n  cancel\n +Cancels jobs", process.run({ PGQ_LUA, "--help" }).stdout)
    end)

    it("works where the default is repeatable read, serializable or read only, also when the row changes meanwhile", function()
      for _, setting in ipairs { "default_transaction_isolation=repeatable\\ read", "default_transaction_isolation=serializable",
        "default_transaction_read_only=on" } do
        local id = enqueue()
        local locker = process.start({ "psql", "-XqAt", "-d", pg.conninfo, "-c", "BEGIN", "-c",
          "UPDATE pgq_jobs SET attempt = 7 WHERE id = " .. id, "-c", "SELECT 'locked'", "-c", "SELECT pg_sleep(1)", "-c", "COMMIT" })
        locker:read_until "locked"
        local result = process.run({ PGQ_LUA, "--db", pg.conninfo, "cancel", id, env = { PGOPTIONS = "-c " .. setting } })
        assert.equal(id .. " cancelled\n", result.stdout)
        assert.equal(0, result.status, result.stderr)
        locker:wait(10)
      end
    end)

    it("says why it could not cancel a job, and goes on with the next", function()
      local first, second = enqueue(), enqueue()
      pg:psql(([[CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not this one''; END';
        CREATE TRIGGER keep BEFORE UPDATE ON pgq_jobs FOR EACH ROW WHEN (OLD.id = %d) EXECUTE FUNCTION keep()]]):format(first))
      local result = cancel(first, second)
      pg:psql "DROP TRIGGER keep ON pgq_jobs; DROP FUNCTION keep"
      assert.equal(("pgq-lua cancel: job %d: not this one\n"):format(first), result.stderr)
      assert.equal(second .. " cancelled\n", result.stdout)
      assert.equal(1, result.status)
    end)

    it("names pgq-lua migrate when the function or the table is missing", function()
      for _, sql in ipairs { "DROP FUNCTION pgq_cancel(bigint)", "DROP TABLE pgq_jobs" } do
        pg:psql(sql)
        local result = cancel(1)
        assert.equal(1, result.status)
        assert.matches("^pgq%-lua cancel: job 1: .*does not exist; run `pgq%-lua migrate` to create what is missing\n$", result.stderr)
        pg:migrate()
      end
    end)

    it("says that it has not reached the database", function()
      local result = process.run { PGQ_LUA, "--db", "host=/nowhere port=1 user=nobody", "cancel", "1" }
      assert.equal(1, result.status)
      assert.matches("/nowhere/.s.PGSQL.1", result.stderr)
      assert.equal("", result.stdout)
    end)
  end)

  it("is added to older tables by pgq-lua migrate", function()
    pg:psql "DROP FUNCTION pgq_cancel(bigint)"
    local id = enqueue()
    process.check { PGQ_LUA, "--db", pg.conninfo, "migrate" }
    assert.equal("cancelled", pg:psql(("SELECT pgq_cancel(%d)"):format(id)))
    assert.equal("t", pg:psql "SELECT obj_description('pgq_cancel'::regproc) <> ''")
  end)
end)

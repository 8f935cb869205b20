local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

-- The table of btubbs/pgq, as its Go clients know it.
local GO_TABLE = [[
  CREATE TABLE pgq_jobs (
    id serial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), queue_name text NOT NULL, data bytea NOT NULL,
    run_after timestamptz NOT NULL, retry_waits text[] NOT NULL, ran_at timestamptz, error text);
  CREATE INDEX idx_pgq_jobs_fetch ON pgq_jobs (queue_name, run_after) WHERE ran_at IS NULL;]]

local GO_INSERT = [[INSERT INTO pgq_jobs (queue_name, data, run_after, retry_waits)
  VALUES ('go', 'from go', now(), '{1m0s,10m0s}') RETURNING id]]

describe("pgq-lua migrate", function()
  local pg

  before_each(function() pg = Postgres.start() end)
  after_each(function() pg:stop() end)

  local function start_migration(...)
    return process.start { PGQ_LUA, "--db", pg.conninfo, "migrate", ... }
  end

  local function migrate()
    local result = start_migration():wait(60)
    assert.equal(0, result.status, result.stderr)
    return result
  end

  local function dump(...)
    if not Postgres.can_dump() then
      pending "this pg_dump is older than the server"
    end
    return process.check { "pg_dump", "-d", pg.conninfo, ... }
  end

  -- The output of pg_dump for the tables, without the order in which the columns were created.
  -- The doorbell's trigger names the table's oid, and no two tables have the same.
  local function schema()
    return (dump("--schema-only", "--no-owner")
      :gsub("%-%-[^\n]*\n", ""):gsub("\\%a*restrict [^\n]*\n", ""):gsub("'%d+:'::text", "'OID:'::text"))
  end

  it("creates the tables, and changes nothing when run again", function()
    local result = migrate()
    assert.matches("up to date", result.stdout)
    local made = schema()
    assert.matches("CREATE TABLE public.pgq_jobs", made)
    assert.matches("CREATE TABLE public.pgq_workers", made)
    assert.matches("CREATE FUNCTION public.pgq_enqueue", made)
    assert.matches("CREATE FUNCTION public.pgq_cancel", made)
    migrate()
    assert.equal(made, schema())
  end)

  it("creates the same objects as pasting the file does", function()
    migrate()
    local made = schema()
    pg:psql [[DROP TABLE pgq_jobs, pgq_workers, pgq_frontiers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit;
      DROP FUNCTION pgq_enqueue, pgq_cancel, pgq_retry, pgq_pause, pgq_resume]]
    process.check { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", pg.conninfo, "-f", "sql/create_table.sql" }
    assert.equal(made, schema())
  end)

  it("updates the doorbell's trigger of a table that was restored from a dump", function()
    local function named()
      return pg:psql [[SELECT strpos(pg_get_triggerdef(oid), quote_literal('pgq_jobs'::regclass::oid || ':')) > 0
        FROM pg_trigger WHERE tgrelid = 'pgq_jobs'::regclass AND tgname = 'pgq_ring']]
    end
    migrate()
    local dumped = dump("-t", "pgq_jobs")
    pg:psql("DROP TABLE pgq_jobs; CREATE TABLE in_between (); " .. dumped)
    assert.equal("f", named())
    pg:psql "BEGIN; SELECT pgq_enqueue('a', ''); SELECT pgq_enqueue('a', ''); SELECT pgq_enqueue('b', ''); COMMIT"
    migrate()
    assert.equal("t", named())
    pg:psql "DROP TABLE in_between"
  end)

  it("is safe to run from many places at once", function()
    local running = {}
    for i = 1, 8 do running[i] = start_migration() end
    for i = 1, 8 do
      local result = running[i]:wait(60)
      assert.equal(0, result.status, result.stderr)
    end
    assert.equal("1", pg:psql "SELECT pgq_enqueue('q', '')")
  end)

  it("brings the table of btubbs/pgq up to date and keeps its rows", function()
    pg:psql(GO_TABLE)
    for _ = 1, 5 do pg:psql(GO_INSERT) end
    pg:psql "DELETE FROM pgq_jobs WHERE id = 5; UPDATE pgq_jobs SET ran_at = now(), error = 'old' WHERE id = 1"
    local eight_columns = "SELECT id, created_at, queue_name, data, run_after, retry_waits, ran_at, error FROM pgq_jobs ORDER BY id"
    local rows = pg:psql(eight_columns)
    migrate()
    assert.equal(rows, pg:psql(eight_columns))
    assert.equal("6", pg:psql(GO_INSERT)) -- the number of the deleted job is not given again
    assert.equal("7", pg:psql "SELECT pgq_enqueue('go', 'new')")
    local upgraded = schema()
    migrate()
    assert.equal(upgraded, schema())
    pg:psql [[DROP TABLE pgq_jobs, pgq_workers, pgq_frontiers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit;
      DROP FUNCTION pgq_enqueue, pgq_cancel, pgq_retry, pgq_pause, pgq_resume]]
    migrate()
    assert.equal(schema(), upgraded)
  end)

  it("lets a worker run the jobs that Go programs enqueued", function()
    pg:psql(GO_TABLE)
    pg:psql(GO_INSERT)
    migrate()
    pg:psql(GO_INSERT)
    local result = Worker.run { pg = pg, args = { "--drain" },
      script = "require 'pgq'.register_queue('go', function(data, job) print(data, job.retries_left) end)" }
    assert.equal("from go\t2\nfrom go\t2\n", result.stdout)
  end)

  it("serves a Go program that reads its own eight columns through a view", function()
    migrate()
    pg:psql [[CREATE SCHEMA go; CREATE VIEW go.pgq_jobs AS
      SELECT id, created_at, queue_name, data, run_after, retry_waits, ran_at, error FROM public.pgq_jobs]]
    assert.equal("1", pg:psql("SET search_path = go; " .. GO_INSERT))
    assert.equal("1", pg:psql [[SET search_path = go; SELECT count(*) FROM
      (SELECT * FROM pgq_jobs ORDER BY run_after LIMIT 1 FOR UPDATE SKIP LOCKED) AS claimed]])
  end)

  it("finds a table in another schema of the search path, and makes no second one", function()
    pg:psql("CREATE SCHEMA jobs; SET search_path = jobs; " .. GO_TABLE)
    local result = process.run { PGQ_LUA, "--db", pg.conninfo .. " options='-c search_path=public,jobs'", "migrate" }
    assert.equal(0, result.status, result.stderr)
    assert.equal("jobs.pgq_attempts\njobs.pgq_audit\njobs.pgq_frontiers\njobs.pgq_jobs\njobs.pgq_queues\njobs.pgq_stats\njobs.pgq_workers", pg:psql
      "SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename LIKE 'pgq%' ORDER BY 1")
  end)

  it("changes nothing when a part of it fails, and says what", function()
    pg:psql(GO_TABLE)
    pg:psql "CREATE VIEW watched AS SELECT id FROM pgq_jobs"
    local before = schema()
    local result = start_migration():wait(60)
    assert.equal(1, result.status)
    assert.matches("which rewrites the table failed: ERROR:.*watched", result.stderr)
    assert.equal(before, schema())
  end)

  describe("on the tables of 0.1.0", function()
    before_each(function()
      process.check { "psql", "-X", "-q", "-d", pg.conninfo, "-f", "spec/support/create_table_0.1.0.sql" }
    end)

    it("makes what it creates anew, keeps all rows, and does nothing the next time", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', 'x' FROM generate_series(1, 1000)"
      local result = migrate()
      assert.matches("building the index pgq_jobs_lease\n", result.stdout)
      assert.equal("1000", pg:psql "SELECT count(*) FROM pgq_jobs WHERE deaths = 0 AND started_at IS NULL")
      local upgraded = schema()
      assert.equal("the tables and functions of pgq-lua are up to date\n", migrate().stdout)
      assert.equal(upgraded, schema())
      pg:psql [[DROP TABLE pgq_jobs, pgq_workers, pgq_frontiers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit;
      DROP FUNCTION pgq_enqueue, pgq_cancel, pgq_retry, pgq_pause, pgq_resume, pgq_ring]]
      migrate()
      assert.equal(schema(), upgraded)
    end)

    it("counts a death for jobs that were suspect and have not ended", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, suspect, ran_at) VALUES
        ('q', 'suspect', true, NULL), ('q', 'innocent', false, NULL), ('q', 'ended', true, now())]]
      migrate()
      assert.equal("suspect|1\ninnocent|0\nended|0",
        pg:psql "SELECT convert_from(data, 'UTF8'), deaths FROM pgq_jobs ORDER BY id")
      assert.equal("0", pg:psql "SELECT count(*) FROM pg_attribute WHERE attrelid = 'pgq_jobs'::regclass AND attname = 'suspect'")
    end)

    it("keeps rows that a check does not allow any more; a worker fails them alone", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, attempt, lease, retry_waits, run_after, created_at, id) VALUES
        ('q', 'negative', -2147483648, NULL, '{1h}', now(), now(), 1),
        ('q', 'leased', -5, 7, '{1h}', now(), now(), 2),
        ('q', 'waits', 0, NULL, array_fill('1h'::text, ARRAY[100000]), now(), now(), 3),
        ('q', 'long wait', 0, NULL, ARRAY[repeat('1', 100000) || 'h'], now(), now(), 4),
        ('q', 'huge', 2147483647, -9223372036854775808, '{1h}', now(), now(), 5),
        ('q', 'zero', 0, 0, '{1h}', now(), now(), 0),
        ('q', 'early', 0, NULL, '{1h}', '-infinity', '-infinity', -9223372036854775808),
        ('q', 'created', 0, NULL, '[5:6]={1h,2h}', now(), 'infinity', 9223372036854775807),
        ('q', 'nulls', 0, NULL, '{NULL}', now(), now(), 7), ('q', 'nested', 0, NULL, '{{1h},{2h}}', now(), now(), 8),
        ('q', 'good', 0, NULL, '{1h}', now(), now(), 9), ('', 'empty', 0, NULL, '{1h}', now(), now(), 10)]]
      assert.matches("there are older rows that the check does not allow", migrate().stderr)
      migrate()
      local result = Worker.run { pg = pg, args = { "--drain", "--executors", "1" }, script = [[
        require "pgq".register_queue("q", function(data) return data ~= "good" and error "no" or nil end)]] }
      assert.equal(0, result.status, result.stderr)
      assert.equal(table.concat({
        "early|f|no", "zero|f|no",
        "negative|t|attempt is negative", "leased|t|attempt is negative", "waits|t|retry_waits cannot be read",
        "long wait|t|retry_waits cannot be read", "huge|f|no", "nulls|t|retry_waits cannot be read",
        "nested|t|retry_waits cannot be read", "empty|f|", "created|f|no" }, "\n"),
        (pg:psql "SELECT convert_from(data, 'UTF8'), ran_at IS NOT NULL, error FROM pgq_jobs ORDER BY id"
          :gsub("|[^|\n]*: no", "|no"):gsub("(attempt is negative)[^\n]*", "%1"):gsub("(cannot be read)[^\n]*", "%1")))
    end)

    it("waits for a transaction that has enqueued, and makes no other session wait meanwhile", function()
      local open = process.start { "psql", "-XqAt", "-d", pg.conninfo, "-c", "BEGIN", "-c",
        "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', 'a') RETURNING 'inserted'", "-c", "SELECT pg_sleep(4)", "-c", "COMMIT" }
      open:read_until "inserted"
      local migration = start_migration()
      migration:read_until("uses pgq_jobs; trying again", 10, "stderr")
      for _ = 1, 5 do
        local began = uv.hrtime()
        pg:psql "SET statement_timeout = '900ms'; SELECT pgq_enqueue('q', '')"
        assert.is_true(uv.hrtime() - began < 2e9)
      end
      local result = migration:wait(60)
      assert.equal(0, result.status, result.stderr)
      assert.matches("pid %d+ %(postgres, ", result.stderr)
      open:wait(10)
    end)

    it("continues where another migration was killed, and replaces an index that it left unfinished", function()
      local open = process.start { "psql", "-XqAt", "-d", pg.conninfo, "-c", "BEGIN ISOLATION LEVEL REPEATABLE READ", "-c",
        "SELECT 'started'", "-c", "SELECT pg_sleep(60)" } -- an index that is built waits for this snapshot
      open:read_until "started"
      local migration = start_migration()
      migration:read_until "building the index pgq_jobs_ended"
      wait.till("the unfinished index", 30, function()
        return pg:psql "SELECT count(*) FROM pg_index WHERE NOT indisvalid" == "1"
      end)
      migration:kill "sigkill"
      migration:wait(10)
      pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'"
      wait.till("the end of the session that builds the index", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'" == "0"
      end)
      open:kill "sigkill"
      pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
      open:wait(10)
      assert.matches("dropping the unfinished index pgq_jobs_ended\nbuilding the index pgq_jobs_ended\n", migrate().stdout)
      assert.equal("0", pg:psql "SELECT count(*) FROM pg_index WHERE NOT indisvalid")
      assert.equal("the tables and functions of pgq-lua are up to date\n", migrate().stdout)
    end)

    it("changes nothing while a worker of 0.1.0 is alive, and names it", function()
      local before = schema()
      pg:psql "INSERT INTO pgq_workers (id, host, pid, version, last_seen_at) VALUES (77, 'web1', 123, '0.1.0', now() - interval '1 h')"
      -- A session that only has a lock: for a statement that runs, building an index would wait.
      local lock = process.start { "psql", "-XqAt", "-d", pg.conninfo, stdin = "pipe" }
      lock:write "SELECT pg_advisory_lock('pgq_workers'::regclass::oid::int4, 77), 'locked';\n"
      lock:read_until "locked"
      local result = start_migration():wait(60)
      assert.equal(1, result.status)
      assert.matches("nothing was changed: workers are running that cannot work with the new tables: "
        .. "worker 77 %(pid 123 on web1, version 0.1.0%); stop them, or use %-%-force", result.stderr)
      assert.equal(before, schema())
      assert.equal(0, start_migration("--force"):wait(60).status)
      lock:kill "sigkill"
      lock:wait(10)
    end)

    it("does it although the role is read-only by default and has limits", function()
      pg:psql [[ALTER ROLE postgres SET default_transaction_read_only = on; ALTER ROLE postgres SET lock_timeout = 1;
        ALTER ROLE postgres SET default_transaction_isolation = 'serializable'; ALTER ROLE postgres SET statement_timeout = '5 s']]
      migrate()
      pg:psql "SET statement_timeout = 0; SET default_transaction_read_only = off; ALTER ROLE postgres RESET ALL"
    end)

    it("says what a role may not do", function()
      pg:psql "CREATE ROLE stranger LOGIN"
      local before = schema()
      local result = process.run { PGQ_LUA, "--db", pg.conninfo .. " user=stranger", "migrate" }
      assert.equal(1, result.status)
      assert.matches("run `pgq%-lua migrate` as the owner of the tables", result.stderr)
      assert.equal(before, schema())
    end)
  end)

  it("takes no lock on tables that are up to date, and needs no right to write", function()
    migrate()
    local open = process.start { "psql", "-XqAt", "-d", pg.conninfo, "-c", "BEGIN", "-c", "LOCK TABLE pgq_jobs, pgq_workers IN EXCLUSIVE MODE",
      "-c", "SELECT 'locked'", "-c", "SELECT pg_sleep(60)" }
    open:read_until "locked"
    pg:psql "CREATE ROLE stranger LOGIN"
    local result = process.run { PGQ_LUA, "--db", pg.conninfo .. " user=stranger options='-c default_transaction_read_only=on'", "migrate" }
    assert.equal(0, result.status, result.stderr)
    open:kill "sigkill"
    open:wait(10)
  end)

  it("refuses a function that another role could change afterwards", function()
    pg:psql [[CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory; SET ROLE mallory;
      CREATE FUNCTION pgq_ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END']]
    local result = start_migration():wait(60)
    assert.equal(1, result.status)
    assert.matches("the function pgq_ring belongs to the role mallory", result.stderr)
  end)

  it("restores what was changed by hand", function()
    migrate()
    local made = schema()
    pg:psql [[DROP INDEX pgq_jobs_lease; ALTER TABLE pgq_jobs DROP CONSTRAINT pgq_jobs_attempt_check, RESET (autovacuum_analyze_scale_factor),
      ALTER COLUMN run_after DROP DEFAULT; COMMENT ON COLUMN pgq_jobs.id IS 'mine'; COMMENT ON FUNCTION pgq_ring() IS NULL;
      DROP FUNCTION pgq_cancel(bigint); DROP TRIGGER pgq_ring ON pgq_jobs; ALTER FUNCTION pgq_enqueue RESET ALL;
      DROP TABLE pgq_workers, pgq_frontiers]]
    migrate()
    local function sorted(text)
      local lines = {}
      for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
      table.sort(lines)
      return table.concat(lines, "\n")
    end
    assert.equal(sorted(made), sorted(schema()))
  end)
end)

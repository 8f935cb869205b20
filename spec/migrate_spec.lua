local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local process = require "spec.support.process"

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
    pg:psql "DROP TABLE pgq_jobs, pgq_workers; DROP FUNCTION pgq_enqueue, pgq_cancel"
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
    pg:psql "DROP TABLE pgq_jobs, pgq_workers; DROP FUNCTION pgq_enqueue, pgq_cancel"
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
    assert.equal("jobs.pgq_frontiers\njobs.pgq_jobs\njobs.pgq_workers", pg:psql
      "SELECT schemaname || '.' || tablename FROM pg_tables WHERE tablename LIKE 'pgq%' ORDER BY 1")
  end)

  it("changes nothing when a part of it fails, and says what", function()
    pg:psql(GO_TABLE)
    pg:psql "CREATE VIEW watched AS SELECT id FROM pgq_jobs"
    local before = schema()
    local result = start_migration():wait(60)
    assert.equal(1, result.status)
    assert.matches("sql/upgrade.sql failed, and nothing was changed: ERROR:.*watched", result.stderr)
    assert.equal(before, schema())
  end)
end)

local pgq = require "pgq"
local Postgres = require "spec.support.postgres"

describe("the tables and pgq_enqueue in SQL", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    conn = assert(pgq.connect(pg.conninfo))
  end)

  teardown(function()
    conn:close()
    pg:stop()
  end)

  before_each(function()
    pg:psql "DELETE FROM pgq_jobs"
  end)

  local function columns(table_name)
    return pg:psql(([[SELECT column_name, data_type || coalesce(' of ' || nullif(ltrim(udt_name, '_'), udt_name), ''),
      is_nullable, coalesce(column_default, identity_generation, '-')
      FROM information_schema.columns WHERE table_name = '%s' ORDER BY ordinal_position]]):format(table_name))
  end

  it("pgq_jobs has the columns of btubbs/pgq in their order, then those of leases", function()
    assert.equal(table.concat({
      "id|bigint|NO|BY DEFAULT",
      "created_at|timestamp with time zone|NO|now()",
      "queue_name|text|NO|-",
      "data|bytea|NO|-",
      "run_after|timestamp with time zone|NO|now()",
      "retry_waits|ARRAY of text|NO|'{1m0s,10m0s,30m0s}'::text[]",
      "ran_at|timestamp with time zone|YES|-",
      "error|text|YES|-",
      "attempt|integer|NO|0",
      "lease|bigint|YES|-",
      "started_at|timestamp with time zone|YES|-",
      "deaths|smallint|NO|0",
      "cancelled|boolean|NO|false",
      "meta|jsonb|YES|-",
    }, "\n"), columns "pgq_jobs")
  end)

  it("pgq_workers has a row for each worker", function()
    local names = {}
    for name in columns("pgq_workers"):gmatch "([%w_]+)|[^\n]*" do
      names[#names + 1] = name
    end
    assert.same({ "id", "host", "pid", "version", "queues", "started_at", "last_seen_at", "pooled", "missing_since", "status",
      "request", "backend_pid" }, names)
  end)

  it("every table, column, index, function and trigger has a comment", function()
    assert.equal("", pg:psql [[
      SELECT oid::regclass::text FROM pg_class WHERE relname LIKE 'pgq%' AND relkind IN ('r', 'i')
        AND NOT EXISTS (SELECT FROM pg_index WHERE indexrelid = pg_class.oid AND indisprimary)
        AND coalesce(obj_description(oid, 'pg_class'), '') = ''
      UNION ALL SELECT attrelid::regclass || '.' || attname FROM pg_attribute
        WHERE attrelid IN ('pgq_jobs'::regclass, 'pgq_workers'::regclass, 'pgq_frontiers'::regclass,
        'pgq_queues'::regclass, 'pgq_attempts'::regclass, 'pgq_stats'::regclass, 'pgq_audit'::regclass) AND attnum > 0
        AND coalesce(col_description(attrelid, attnum), '') = ''
      UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'pgq%'
        AND coalesce(obj_description(oid, 'pg_proc'), '') = ''
      UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'pgq_jobs'::regclass AND NOT tgisinternal
        AND coalesce(obj_description(oid, 'pg_trigger'), '') = '']])
  end)

  it("the index for claims is of the jobs still to run, by queue, time and id", function()
    assert.matches("USING btree (queue_name, run_after, id) WHERE (ran_at IS NULL)",
      pg:psql "SELECT indexdef FROM pg_indexes WHERE indexname = 'pgq_jobs_fetch'", 1, true)
  end)

  it("the tables have settings for a queue", function()
    local options = pg:psql "SELECT reloptions FROM pg_class WHERE oid = 'pgq_jobs'::regclass"
    assert.matches("fillfactor=90", options)
    assert.matches("autovacuum_vacuum_scale_factor=0.01", options)
  end)

  it("creating the tables again changes nothing", function()
    local before = columns "pgq_jobs"
    pg:psql "SELECT pgq_enqueue('kept', '')"
    pg:migrate()
    assert.equal(before, columns "pgq_jobs")
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("accepts the unchanged INSERT of the Go library", function()
    local rows = assert(conn:query([[INSERT INTO pgq_jobs (queue_name, data, run_after, retry_waits)
      VALUES ($1, $2, $3, $4) RETURNING id]], "go", pgq.bytea("a\0b"), "2030-01-31T12:00:00.123456789+01:00",
      '{"1m0s","10m0s","30m0s"}'))
    local job = assert(conn:query([[SELECT queue_name, data, run_after = '2030-01-31 11:00:00.123457+00' AS same,
      retry_waits::text AS waits, attempt, lease, deaths, ran_at, error FROM pgq_jobs WHERE id = $1]], rows[1].id))
    assert.same({ { queue_name = "go", data = "a\0b", same = true, waits = "{1m0s,10m0s,30m0s}", attempt = 0,
      deaths = 0, lease = pgq.null, ran_at = pgq.null, error = pgq.null }, affected = 1 }, job)
  end)

  it("pgq_enqueue returns the id of a job that is due at once and has three retries", function()
    local id = tonumber(pg:psql "SELECT pgq_enqueue('mail', 'to: ann')")
    assert.equal(("%d|mail|to: ann|t|{1m0s,10m0s,30m0s}"):format(id), pg:psql [[
      SELECT id, queue_name, convert_from(data, 'UTF8'), run_after = created_at, retry_waits FROM pgq_jobs]])
  end)

  it("pgq_enqueue takes a time and waits, by place and by name", function()
    pg:psql [[SELECT pgq_enqueue('a', '\x00ff', '2030-01-31 12:00+00', '{1h30m,250ms,0,.5s,+1m}')]]
    pg:psql [[SELECT pgq_enqueue(queue_name => 'b', data => '', retry_waits => '{}')]]
    pg:psql [[SELECT pgq_enqueue('c', '', now() + interval '1 hour')]]
    assert.equal("a|\\x00ff|{1h30m,250ms,0,.5s,+1m}\nb|\\x|{}\nc|\\x|{1m0s,10m0s,30m0s}",
      pg:psql "SELECT queue_name, data, retry_waits FROM pgq_jobs ORDER BY id")
    assert.equal("t\nf\nt", pg:psql "SELECT run_after > now() FROM pgq_jobs ORDER BY id")
  end)

  it("pgq_enqueue takes queue names with quotes, spaces, % and 1,024 bytes", function()
    for _, name in ipairs { [[it's "quoted"]], " ", "100% of %s", "grün ☃", ("long "):rep(204) } do
      local id = assert(conn:query("SELECT pgq_enqueue($1, '') AS id", name))[1].id
      assert.equal(name, conn:query("SELECT queue_name FROM pgq_jobs WHERE id = $1", id)[1].queue_name)
    end
  end)

  it("pgq_enqueue finds its table whatever the caller's search path is", function()
    pg:psql "SET search_path = pg_catalog; SELECT public.pgq_enqueue('path', '')"
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'path'")
  end)

  local REFUSED = {
    { "an empty queue name", "SELECT pgq_enqueue('', '')", "22023", "queue name is empty" },
    { "a queue name that is null", "SELECT pgq_enqueue(NULL, '')", "22023", "queue name is empty" },
    { "a queue name that is not UTF-8", "SELECT pgq_enqueue(E'\\xff', '')", "22021", "UTF8" },
    { "data that is null", "SELECT pgq_enqueue('q', NULL)", "22023", "data is null" },
    { "a time that is null", "SELECT pgq_enqueue('q', '', NULL)", "22023", "after is null" },
    { "a time that is none", "SELECT pgq_enqueue('q', '', 'someday')", "22007", "someday" },
    { "waits that are null", "SELECT pgq_enqueue('q', '', now(), NULL)", "22023", "retry_waits" },
    { "waits in two dimensions", "SELECT pgq_enqueue('q', '', now(), '{{1s},{2s}}')", "22023", "retry_waits" },
    { "an unparsable wait", "SELECT pgq_enqueue('q', '', now(), '{1m,10 minutes}')", "22023", "'10 minutes'" },
    { "an empty wait", [[SELECT pgq_enqueue('q', '', now(), '{""}')]], "22023", "retry wait '' is not a duration" },
    { "a wait beyond the longest", "SELECT pgq_enqueue('q', '', now(), '{2562048h}')", "22023", "too long" },
    { "waits that add up beyond it", "SELECT pgq_enqueue('q', '', now(), '{999999h999999h999999h}')", "22023", "too long" },
    { "a wait that is null", "SELECT pgq_enqueue('q', '', now(), '{NULL}')", "22023", "null is not a duration" },
    { "a negative wait", "SELECT pgq_enqueue('q', '', now(), '{-1s}')", "22023", "'%-1s'" },
    { "a wait without a unit", "SELECT pgq_enqueue('q', '', now(), '{10}')", "22023", "'10'" },
  }

  for _, case in ipairs(REFUSED) do
    it("pgq_enqueue refuses " .. case[1], function()
      local none, message, code = conn:query(case[2])
      assert.is_nil(none)
      assert.matches(case[4], message)
      assert.equal(case[3], code)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end

  it("pgq_enqueue takes 64 MiB of data, and refuses more than 256 MiB", function()
    pg:psql "ALTER TABLE pgq_jobs ALTER COLUMN data SET STORAGE EXTERNAL"
    pg:psql "SELECT pgq_enqueue('big', decode(repeat('00', 67108864), 'hex'))"
    assert.equal("67108864", pg:psql "SELECT octet_length(data) FROM pgq_jobs")
    pg:psql "DELETE FROM pgq_jobs"
    local none, message, code = conn:query [[
      SELECT pgq_enqueue('q', convert_to(repeat('x', 268435457), 'UTF8'))]]
    assert.is_nil(none)
    assert.matches("268435457 bytes, the limit is 268435456", message)
    assert.equal("54000", code)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)
end)

-- A role that may only enqueue: which columns it needs, and that no row of it stops a queue, a worker or another job.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("a role that may only enqueue", function()
  local pg = fixture.server { sql = [[
    CREATE ROLE enqueuer LOGIN;
    GRANT INSERT (queue_name, data, run_after, retry_waits), SELECT (id) ON pgq_jobs TO enqueuer;
    CREATE ROLE inserter LOGIN;
    GRANT INSERT, SELECT (id) ON pgq_jobs TO inserter]] }
  local _, drain = fixture.workers(pg)

  local function as(role) return pg.conninfo .. " user=" .. role end

  it("enqueues by SQL, Lua and the shell with rights on four columns", function()
    pg:psql "SET ROLE enqueuer; SELECT pgq_enqueue('q', 'function', now(), '{1s}'); INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', 'insert')"
    local conn = assert(require "pgq".connect(as "enqueuer"))
    assert(conn:enqueue("q", "lua", { delay = 0.001, retry_waits = { "1s" } }))
    assert(conn:enqueue_many("q", { "many", "more" }, { delay = 0.001 }))
    conn:close()
    process.check { PGQ_LUA, "--db", as "enqueuer", "enqueue", "q", "shell" }
    process.check { PGQ_LUA, "--db", as "enqueuer", "enqueue", "--lines", "q", input = "line\n" }
    assert.equal("function insert lua many more shell line", pg:psql
      "SELECT string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY id) FROM pgq_jobs")
    local refused = process.run { "psql", "-X", "-d", as "enqueuer", "-c",
      "INSERT INTO pgq_jobs (queue_name, data, lease) VALUES ('q', '', 1)" }
    assert.matches("permission denied", refused.stderr)
  end)

  it("hears which privileges it does not have, and how they are granted", function()
    pg:psql "CREATE ROLE stranger LOGIN"
    finally(function() pg:psql "DROP OWNED BY stranger; DROP ROLE stranger" end)
    local function enqueue(...) return process.run { PGQ_LUA, "--db", as "stranger", "enqueue", "q", ... } end
    local missing = "the role 'stranger' does not have: INSERT (queue_name) on pgq_jobs, INSERT (data) on pgq_jobs, "
      .. "INSERT (run_after) on pgq_jobs, INSERT (retry_waits) on pgq_jobs, SELECT (id) on pgq_jobs. To grant that: "
    local grant = "GRANT INSERT (queue_name, data, run_after, retry_waits), SELECT (id) ON pgq_jobs TO stranger"
    local result = enqueue "x"
    assert.same({ 1, "", "pgq-lua enqueue: permission denied for table pgq_jobs; " .. missing .. grant .. "\n" },
      { result.status, result.stdout, result.stderr })
    result = process.run { PGQ_LUA, "--db", as "stranger", "enqueue", "--lines", "q", input = "a\nb\n" }
    assert.same({ 1, "pgq-lua enqueue: permission denied for table pgq_jobs; nothing is enqueued; " .. missing .. grant .. "\n" },
      { result.status, result.stderr })
    pg:psql(grant)
    assert.equal(0, enqueue("x").status)
  end)

  for what, values in pairs {
    ["no name"] = "'', '', 0, '{}'", ["a name of 2 MB"] = "repeat('x', 2000000), '', 0, '{}'",
    ["a negative attempt"] = "'q', '', -1, '{}'",
    ["2,000 waits"] = "'q', '', 0, array_fill('1h'::text, ARRAY[2000])",
    ["a wait of 1 MB"] = "'q', '', 0, ARRAY[repeat('1', 1000000)]",
  } do
    it("cannot enqueue a job with " .. what, function()
      local out = process.run { "psql", "-X", "-d", as "inserter", "-c",
        "INSERT INTO pgq_jobs (queue_name, data, attempt, retry_waits) VALUES (" .. values .. ")" }
      assert.matches("violates check constraint", out.stderr)
    end)
  end

  -- Every column has its extreme values; all jobs run or fail alone, and the worker ends.
  it("cannot stop a queue or another job with any value", function()
    local count = pg:psql [[
      SET ROLE inserter;
      WITH rows AS (
        INSERT INTO pgq_jobs (id, queue_name, data, attempt, lease, deaths, started_at, run_after, created_at, retry_waits, error)
        SELECT CASE number WHEN 1 THEN -9223372036854775808 WHEN 2 THEN 9223372036854775807 WHEN 3 THEN 0 ELSE number END,
          'q', '', attempt, lease, deaths, started_at, run_after, created_at, waits::text[], error
        FROM (
          SELECT row_number() OVER () AS number, *
          FROM unnest('{0,2147483647}'::int[]) AS attempt,
            unnest('{NULL,0,1,-1,-9223372036854775808,9223372036854775807}'::int8[]) AS lease,
            unnest('{0,1,32767}'::int2[]) AS deaths,
            unnest('{NULL,infinity,-infinity}'::timestamptz[]) AS started_at,
            unnest('{-infinity,"4713-01-01 BC",epoch}'::timestamptz[]) AS run_after,
            unnest('{infinity,-infinity,"294276-12-31"}'::timestamptz[]) AS created_at,
            unnest(ARRAY['{}', '{1h}', '[7:8]={1h,2h}', '{NULL}', '{{1h},{1h}}', '{x}']) AS waits,
            unnest(ARRAY[NULL, 'old']) AS error) AS combined
        WHERE number % 37 < 2 RETURNING id)
      SELECT count(*) FROM rows]]
    assert.is_true(tonumber(count) > 200)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', 'innocent')"
    local result = drain [[pgq.register_queue("q", function(data, job) if data == "innocent" then print(data, job.attempt) end end)]]
    assert.equal("innocent\t1\n", result.stdout)
    assert.not_matches("cannot be settled", result.stderr)
    -- Jobs that have seen deaths are due again after a second or more: the drain does not wait for them.
    local drained = assert(result.stderr:match "time=(%S+) level=info msg=stopping reason=drained", result.stderr)
    assert.equal("0", pg:psql(([[SELECT count(*) FROM pgq_jobs
      WHERE ran_at IS NULL AND run_after <= timestamptz '%s' - interval '0.5 s']]):format(drained)), result.stderr)
  end)
end)

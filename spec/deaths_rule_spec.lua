-- The rule of deaths (runtime/supervisor/jobs/deaths.h) stands in C and in two statements. They must agree.

local pgq = require "pgq"
local Postgres = require "spec.support.postgres"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

describe("the rule of deaths", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    conn = assert(pgq.connect(pg.conninfo))
  end)

  teardown(function()
    conn:close()
    pg:stop()
  end)

  local ALONE = assert(tonumber(read("runtime/supervisor/jobs/deaths.h"):match "DEATHS_ALONE = (%d+)"))
  local MOST = ALONE + 5
  local WORKER = 5
  local TOKEN = tostring(WORKER) .. "::int8 * 4294967296 + 1"

  -- Makes one leased job for each number of deaths, 0 to MOST; the job's id is that number and 1.
  before_each(function()
    pg:psql(([[TRUNCATE pgq_jobs, pgq_workers;
      INSERT INTO pgq_workers (id, host, pid, version, missing_since) VALUES (%d, 'gone', 1, '', now() - interval '1 min');
      INSERT INTO pgq_jobs (id, queue_name, data, attempt, deaths, run_after, lease, started_at)
      SELECT n + 1, 'q', '', 3, n, now() + interval '1 min', %s, now() FROM generate_series(0, %d) AS n]])
      :format(WORKER, TOKEN, MOST))
  end)

  -- What the statement has made of each job: its deaths, its attempt, whether it has its lease, and in how many seconds
  -- it is due.
  local function rows_after(statement, ...)
    local path = "sql/worker/" .. statement .. ".sql"
    assert(conn:query("BEGIN"))
    assert(conn:query(read(path), ...))
    local rows = assert(conn:query [[SELECT deaths, attempt, lease IS NOT NULL AS leased,
      greatest(round(extract(epoch FROM run_after - statement_timestamp())), 0)::int4 AS wait FROM pgq_jobs ORDER BY id]])
    assert(conn:query("ROLLBACK"))
    return rows
  end

  local function after_death_of_executor()
    return rows_after("count_death", pg:psql "SELECT array_agg(id ORDER BY id) FROM pgq_jobs",
      pg:psql "SELECT array_agg(lease ORDER BY id) FROM pgq_jobs",
      pg:psql "SELECT array_agg(statement_timestamp() ORDER BY id) FROM pgq_jobs")
  end

  local function after_death_of_worker()
    return rows_after("end_dead_worker", WORKER, 5000)
  end

  it("is the same for a worker and for an executor, until the job runs alone", function()
    local executor, worker = after_death_of_executor(), after_death_of_worker()
    assert.equal(MOST + 1, #executor)
    assert.equal(MOST + 1, #worker)
    for deaths = 0, ALONE - 1 do
      local wanted = { deaths = deaths + 1, attempt = 2, leased = false, wait = deaths == 0 and 0 or 2 ^ (deaths - 1) }
      assert.same(wanted, executor[deaths + 1])
      assert.same(wanted, worker[deaths + 1])
    end
  end)

  it("blames a job that ran alone in a dead worker: its lease is left for the worker that claims it", function()
    local rows = after_death_of_worker()
    for deaths = ALONE, MOST do
      assert.same({ deaths = deaths, attempt = 3, leased = true, wait = 0 }, rows[deaths + 1])
    end
  end)

  it("lets the waits grow to half a minute, for an executor's jobs that were not to blame", function()
    local rows = after_death_of_executor()
    for deaths = ALONE, MOST do
      assert.same({ deaths = deaths + 1, attempt = 2, leased = false, wait = math.min(2 ^ (deaths - 1), 32) }, rows[deaths + 1])
    end
  end)
end)

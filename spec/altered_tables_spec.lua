-- Tables that are altered, dropped or swapped while workers run, and columns whose types do not fit.
local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

describe("a table that is altered", function()
  local pg = fixture.server {}
  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg, { args = { "--executors", "1", "--poll-interval", "200ms", "--grace", "100ms" } })

  local SCRIPT = [[
    pgq.register_queue("q", function(data) print("ran " .. data) end)
    pgq.register_queue("slow", function(data) print("ran " .. data) pgq.sleep(2) print("ended " .. data) end)]]

  local undos = {}
  after_each(function()
    while undos[1] do
      pg:psql(table.remove(undos))
    end
  end)

  local function alter(sql, undo)
    pg:psql(sql)
    undos[#undos + 1] = undo
  end

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  local function wait_until_none_is_left()
    wait.till("all jobs to end", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
  end

  local function refused(worker, ...)
    local result = worker:wait(20)
    assert.equal(1, result.status, result.stderr)
    for _, text in ipairs { ... } do
      assert.truthy(result.stderr:find(text, 1, true), result.stderr)
    end
  end

  for name, case in pairs {
    id = { "integer", "integer", "bigint" },
    attempt = { "bigint", "bigint", "integer" },
    run_after = { "timestamp", "timestamp without time zone", "timestamp with time zone" },
    data = { "text USING encode(data, 'hex')", "text", "bytea" },
    error = { "varchar(50)", "character varying(50)", "text" },
  } do
    it("is refused at start if " .. name .. " has a type that does not fit", function()
      alter(("CREATE TABLE copy (LIKE pgq_jobs INCLUDING ALL); ALTER TABLE pgq_jobs RENAME TO original; "
        .. "ALTER TABLE copy RENAME TO pgq_jobs; ALTER TABLE pgq_jobs ALTER %s TYPE %s"):format(name, case[1]),
        "DROP TABLE pgq_jobs; ALTER TABLE original RENAME TO pgq_jobs")
      refused(start(SCRIPT), ("the column pgq_jobs.%s has the type %s, and the worker needs %s")
        :format(name, case[2], case[3]))
    end)
  end

  it("is refused if it is a view", function()
    alter("ALTER TABLE pgq_jobs RENAME TO original; CREATE VIEW pgq_jobs AS TABLE original",
      "DROP VIEW pgq_jobs; ALTER TABLE original RENAME TO pgq_jobs")
    refused(start(SCRIPT), "pgq_jobs is no table")
  end)

  it("may have types that hold the same values", function()
    alter([[CREATE DOMAIN number AS bigint; ALTER TABLE pgq_jobs ALTER run_after TYPE timestamptz(3), ALTER error TYPE varchar, ALTER lease TYPE number]],
      [[ALTER TABLE pgq_jobs ALTER run_after TYPE timestamptz, ALTER error TYPE text,
        ALTER lease TYPE bigint; DROP DOMAIN number]])
    enqueue("q", "job", 20)
    enqueue("slow", "job")
    local result = drain(SCRIPT, "--hold-limit", "100ms")
    assert.equal(21, count(result.stdout, "ran job"))
    wait_until_none_is_left()
  end)

  it("does not stop a running worker if the types still fit", function()
    local worker = start(SCRIPT)
    enqueue("q", "first")
    worker:read_until "ran first"
    alter("ALTER TABLE pgq_jobs ALTER run_after TYPE timestamptz(3), ADD COLUMN more text DEFAULT 'x'",
      "ALTER TABLE pgq_jobs ALTER run_after TYPE timestamptz, DROP COLUMN more")
    enqueue("q", "second")
    worker:read_until("ran second", 10)
    pg:psql "ALTER TABLE pgq_jobs DROP COLUMN more; DROP INDEX pgq_jobs_fetch"
    pg:psql "CREATE INDEX pgq_jobs_fetch ON pgq_jobs (queue_name, run_after, id) WHERE ran_at IS NULL"
    undos[#undos] = "ALTER TABLE pgq_jobs ALTER run_after TYPE timestamptz"
    enqueue("q", "third")
    worker:read_until("ran third", 10)
    wait_until_none_is_left()
    worker:stop()
  end)

  for _, pooled in ipairs { false, true } do
    it("makes a running worker wait while a type does not fit" .. (pooled and ", without prepared statements" or ""), function()
      local worker = start(SCRIPT, "--hold-limit", "100ms", pooled and "--no-prepare" or nil)
      enqueue("slow", "kept")
      wait.till("the lease", 20, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
      alter("ALTER TABLE pgq_jobs ALTER attempt TYPE bigint", "ALTER TABLE pgq_jobs ALTER attempt TYPE integer")
      enqueue("q", "job")
      worker:read_until("the column pgq_jobs.attempt has the type bigint, and the worker needs integer", 20)
      worker:read_until "ended kept"
      wait.sleep(0.5)
      assert.equal(0, count(worker.stdout, "ran job"))
      assert.is_true(count(worker.stderr, "\n") < 15, worker.stderr)
      pg:psql(table.remove(undos))
      wait_until_none_is_left()
      worker:stop()
      assert.equal(1, count(worker.stdout, "ran job"))
      assert.equal(1, count(worker.stdout, "ran kept"))
    end)
  end

  it("may lose a column and get it back", function()
    local worker = start(SCRIPT)
    enqueue("q", "first")
    worker:read_until "ran first"
    wait_until_none_is_left()
    pg:psql "ALTER TABLE pgq_jobs RENAME error TO failure"
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', 'second')"
    wait.sleep(1)
    pg:psql "ALTER TABLE pgq_jobs RENAME failure TO error"
    wait_until_none_is_left()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran second"))
  end)

  it("may be swapped for another one, which has jobs with the same ids", function()
    local worker = start(SCRIPT)
    enqueue("q", "first")
    worker:read_until "ran first"
    alter([[CREATE TABLE copy (LIKE pgq_jobs INCLUDING ALL); INSERT INTO copy (id, queue_name, data) VALUES (1, 'q', 'other');
      BEGIN; ALTER TABLE pgq_jobs RENAME TO original; ALTER TABLE copy RENAME TO pgq_jobs; COMMIT]],
      "DROP TABLE pgq_jobs; ALTER TABLE original RENAME TO pgq_jobs")
    worker:read_until("ran other", 20)
    wait_until_none_is_left()
    worker:stop()
  end)

  it("may be swapped: a running job of the new table can be cancelled, and the worker is woken", function()
    local worker = start(SCRIPT, "--hold-limit", "100ms", "--poll-interval", "30s")
    enqueue("q", "first")
    worker:read_until "ran first"
    alter("ALTER TABLE pgq_jobs RENAME TO original", "DROP TABLE IF EXISTS pgq_jobs; ALTER TABLE original RENAME TO pgq_jobs")
    pg:psql "CREATE TABLE pgq_jobs (LIKE original INCLUDING ALL)"
    pg:migrate()
    worker:read_until("connected again[^\n]*control", 20)
    wait.sleep(0.5)
    enqueue("slow", "job")
    worker:read_until("ran job", 20) -- it may have looked for the trigger just before that was made
    wait.till("the lease", 5, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
    assert.equal("running", pg:psql "SELECT pgq_cancel(id) FROM pgq_jobs")
    worker:read_until "job cancelled"
    worker:stop()
    assert.equal(0, count(worker.stdout, "ended job"))
  end)
end)

-- What an administrator does to the server under a running worker, or beside `migrate`.
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

local function count(text, what)
  return select(2, text:gsub(what, ""))
end

describe("a server that is changed under a running worker", function()
  local pg = fixture.server { tcp = true }
  local enqueue = fixture.enqueuer(pg)

  local SCRIPT = [[
    local pgq = require "pgq"
    pgq.register_queue("q", function(data) print("ran " .. data) end)
    pgq.register_queue("slow", function(data) print("began " .. data) pgq.sleep(3) print("ended " .. data) end)]]

  local function start(conninfo, ...)
    return Worker.start { script = SCRIPT, args = { "--db", conninfo or pg.conninfo, "--executors", "1",
      "--poll-interval", "200ms", "--hold-limit", "200ms", "--lease", "4s", ... } }
  end

  local function wait_until_none_is_left(worker)
    wait.till("all jobs to end", 60, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs" == "0", worker.stderr
    end)
  end

  local function set(setting)
    pg:psql("ALTER SYSTEM " .. setting)
    pg:psql "SELECT pg_reload_conf()"
  end

  it("has read-only transactions by default now: the worker makes its own read-write", function()
    local worker = start()
    enqueue("slow", "1")
    worker:read_until "began 1"
    set "SET default_transaction_read_only = on"
    finally(function()
      pg:psql "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only"
      pg:psql "SELECT pg_reload_conf()"
    end)
    wait.till("the setting", 10, function() return pg:psql "SHOW default_transaction_read_only" == "on" end)
    pg:psql "SET default_transaction_read_only = off; INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', n::text::bytea FROM generate_series(1, 200) n"
    worker:read_until "ended 1"
    wait_until_none_is_left(worker)
    local second = start() -- sessions that begin after the change
    pg:psql "SET default_transaction_read_only = off; INSERT INTO pgq_jobs (queue_name, data) VALUES ('slow', '2'), ('q', '')"
    wait_until_none_is_left(worker)
    assert.equal("2", pg:psql "SELECT count(*) FROM pgq_workers WHERE last_seen_at > now() - interval '1 min'")
    second:stop()
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_workers")
    assert.equal(0, count(worker.stderr .. second.stderr, "level=[we]"), worker.stderr .. second.stderr)
  end)

  it("loses pgq_workers alone: the worker goes on, says so, and adds its row when the table is there again", function()
    local worker = start()
    enqueue("slow", "1")
    worker:read_until "began 1"
    wait.till("the lease", 20, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "1" end)
    pg:psql "DROP TABLE pgq_workers"
    finally(function() pg:migrate() end)
    enqueue("q", "job", 100)
    worker:read_until "ended 1"
    wait_until_none_is_left(worker)
    wait.sleep(3)
    worker:read_until("pgq_workers", 40)
    enqueue("q", "more", 20)
    wait_until_none_is_left(worker)
    assert.is_true(count(worker.stderr, "\n") < 15, worker.stderr)
    pg:migrate()
    wait.till("the worker's row", 40, function()
      return pg:psql "SELECT count(*) FROM pgq_workers" == "1", worker.stderr
    end)
    enqueue("slow", "2")
    wait_until_none_is_left(worker)
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_workers")
    assert.equal(1, count(worker.stdout, "began 1"))
  end)

  it("has a schema that is renamed, until it has its name again: no job runs twice", function()
    pg:psql "CREATE SCHEMA jobs"
    finally(function() pg:psql "DROP SCHEMA IF EXISTS jobs CASCADE; DROP SCHEMA IF EXISTS moved CASCADE" end)
    local conninfo = pg.conninfo .. " options='-c search_path=jobs'"
    process.check { PGQ_LUA, "--db", conninfo, "migrate", timeout = 60 }
    local function add(queue, data)
      pg:psql(("INSERT INTO jobs.pgq_jobs (queue_name, data) VALUES ('%s', '%s')"):format(queue, data))
    end
    local worker = start(conninfo, "--lease", "60s")
    add("slow", "1")
    worker:read_until "began 1"
    wait.till("the lease", 20, function() return pg:psql "SELECT count(lease) FROM jobs.pgq_jobs" == "1" end)
    pg:psql "ALTER SCHEMA jobs RENAME TO moved"
    worker:read_until "ended 1"
    wait.sleep(3)
    assert.is_true(worker:is_running())
    assert.is_true(count(worker.stderr, "\n") < 15, worker.stderr)
    pg:psql "ALTER SCHEMA moved RENAME TO jobs"
    add("q", "after")
    wait.till("all jobs to end", 60, function()
      return pg:psql "SELECT count(*) FROM jobs.pgq_jobs" == "0", worker.stderr
    end)
    worker:stop()
    assert.equal(1, count(worker.stdout, "began 1"))
    assert.equal(1, count(worker.stdout, "ran after"))
  end)
end)

describe("pgq-lua migrate", function()
  local OLD = "spec/support/create_table_0.1.0.sql"
  local pg

  before_each(function()
    pg = Postgres.start { tcp = true }
    process.check { "psql", "-X", "-q", "-d", pg.conninfo, "-f", OLD }
  end)
  after_each(function() pg:stop() end)

  it("waits for a VACUUM of the table, names it, and makes no other session wait", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', repeat('x', 1000)::bytea FROM generate_series(1, 20000)"
    local vacuum = process.start { "psql", "-X", "-q", "-d", pg.conninfo, "-c", "SET vacuum_cost_delay = '100ms'", "-c",
      "SET vacuum_cost_limit = 1", "-c", "VACUUM (FREEZE) pgq_jobs" }
    wait.till("the VACUUM", 20, function()
      return pg:psql "SELECT count(*) FROM pg_stat_progress_vacuum" == "1", vacuum.stderr
    end)
    local migration = process.start { PGQ_LUA, "--db", pg.conninfo, "migrate" }
    migration:read_until("uses pgq_jobs; trying again", 30, "stderr")
    assert.matches("pid %d+", migration.stderr)
    for _ = 1, 3 do
      pg:psql "SET statement_timeout = '1500ms'; SELECT pgq_enqueue('q', '')"
      wait.sleep(0.5)
    end
    pg:psql "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum"
    local result = migration:wait(60)
    assert.equal(0, result.status, result.stderr)
    vacuum:wait(20)
    assert.equal("20003", pg:psql "SELECT count(*) FROM pgq_jobs WHERE deaths = 0")
  end)

  it("changes nothing on a standby, and says where to run it", function()
    local standby = Postgres.start_standby(pg)
    finally(function() standby:stop() end)
    local function migrate(server)
      return process.run { PGQ_LUA, "--db", server.conninfo, "migrate", timeout = 60 }
    end
    local result = migrate(standby)
    assert.equal(1, result.status)
    assert.matches("the tables are not up to date, and this server is a standby: run it on the primary", result.stderr)
    assert.equal(0, migrate(pg).status)
    wait.till("the standby to have the tables", 30, function()
      return pcall(standby.psql, standby, "SELECT deaths FROM pgq_jobs")
        and standby:psql "SELECT count(*) FROM pg_index WHERE NOT indisvalid" == "0"
        and migrate(standby).status == 0
    end)
    result = migrate(standby)
    assert.equal("", result.stderr)
    assert.matches("up to date", result.stdout)
  end)
end)

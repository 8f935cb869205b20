local Postgres = require "spec.support.postgres"
local Proxy = require "spec.support.proxy"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- Settings that a role, a database or PGOPTIONS may have, and that would stop a worker, or falsify what scripts read.
local HOSTILE = {
  array_nulls = "off", bytea_output = "escape", DateStyle = "SQL, DMY", default_transaction_deferrable = "on",
  default_transaction_isolation = "serializable", default_transaction_read_only = "on", enable_indexonlyscan = "off",
  enable_indexscan = "off", enable_nestloop = "off", enable_tidscan = "off", extra_float_digits = "-3",
  idle_in_transaction_session_timeout = "50ms", idle_session_timeout = "300ms", IntervalStyle = "sql_standard",
  lock_timeout = "1ms", plan_cache_mode = "force_custom_plan", row_security = "on", statement_timeout = "20ms",
  standard_conforming_strings = "off", transaction_timeout = "50ms",
}

describe("a role with settings of its own", function()
  local pg = fixture.server { tcp = true, sql = [[
    CREATE ROLE hostile LOGIN;
    GRANT ALL ON ALL TABLES IN SCHEMA public TO hostile;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO hostile;
    CREATE TABLE written (n int);
    GRANT ALL ON written TO hostile]] }
  local conninfo

  local function set(settings)
    pg:psql "ALTER ROLE hostile RESET ALL"
    for name, value in pairs(settings) do
      if pg:psql(("SELECT count(*) FROM pg_settings WHERE lower(name) = lower('%s')"):format(name)) == "1" then
        pg:psql(("ALTER ROLE hostile SET %s = '%s'"):format(name, value))
      end
    end
  end

  before_each(function()
    conninfo = pg.conninfo:gsub("user=%S+", "user=hostile")
    pg:psql "TRUNCATE written"
  end)

  local function start(script, ...)
    return Worker.start {
      script = "local pgq = require 'pgq'\n" .. script,
      args = { "--db", conninfo, "--poll-interval", "100ms", "--executors", "1", ... },
    }
  end

  local function wait_until_done(worker)
    wait.till("all jobs to be done", 20, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL" == "0", worker.stderr
    end)
  end

  it("has workers that hold, lease, fail, snooze and complete jobs", function()
    set(HOSTILE)
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'q', n::text::bytea, '{0s}' FROM generate_series(1, 50) n]]
    local worker = start [[
      local slept = {}
      pgq.register_queue("q", function(data, job)
        local n = tonumber(data)
        if n % 10 == 0 then pgq.sleep(0.4) end
        if n % 7 == 0 and job.attempt == 1 then error("once", 0) end
        if n % 11 == 0 and not slept[n] then slept[n] = true return pgq.snooze(0.1) end
      end)]]
    wait_until_done(worker)
    wait.sleep(1) -- longer than the role lets a session be idle
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '1')"
    wait_until_done(worker)
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    assert.is_nil(worker.stderr:find "connection lost", worker.stderr)
    assert.is_nil(worker.stderr:find "refused a statement", worker.stderr)
  end)

  it("has scripts that read lists with NULL and numbers as they are", function()
    set { array_nulls = "off", extra_float_digits = "-3" }
    local script = [[
      local function read(query)
        local row = query("SELECT array_position($1::text[], NULL) AS null_at, 0.1::float8 + 0.2 AS sum", { "a", pgq.null })[1]
        return row.null_at == 2 and row.sum == 0.1 + 0.2
      end]]
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', '', '{}'), ('t', '', '{}')"
    local worker = start(script .. [[
      pgq.register_queue("q", function()
        assert(read(pgq.query), "the pool")
        assert(pgq.query "SET work_mem = '1MB'") -- the session is reset after this
        assert(read(pgq.query), "the pool after a reset")
        local conn = pgq.connect(os.getenv "CONNINFO")
        assert(read(function(...) return conn:query(...) end), "a connection of its own")
        print "read"
      end)
      pgq.register_queue("t", function(_, job) assert(read(function(...) return job.tx:query(...) end)) end,
        { transactional = true })]])
    wait_until_done(worker)
    worker:stop()
    assert.equal("", pg:psql "SELECT coalesce(string_agg(error, ', '), '') FROM pgq_jobs")
    local plain = process.run { "luajit", "-e", "local pgq = require 'pgq'\n" .. script ..
      ([[ local conn = assert(pgq.connect "%s")
      assert(read(function(...) return conn:query(...) end), "connect")
      io.write "read"]]):format(conninfo) }
    assert.equal("read", plain.stdout, plain.stderr)
  end)

  it("has transactional handlers, whose transactions write and may be idle until the time limit", function()
    set { default_transaction_read_only = "on", idle_in_transaction_session_timeout = "50ms", transaction_timeout = "100ms" }
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('t', '', '{}')"
    local worker = start [[pgq.register_queue("t", function(_, job)
      assert(job.tx:query "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
      assert(job.tx:query "INSERT INTO written VALUES (1)")
      pgq.sleep(0.4)
      print(job.tx:query("SHOW idle_in_transaction_session_timeout")[1].idle_in_transaction_session_timeout)
    end, { transactional = true, timeout = "7s" })]]
    worker:read_until "15s" -- the server ends it if it is idle for longer
    wait_until_done(worker)
    worker:stop()
    assert.equal("1", pg:psql "SELECT count(*) FROM written")
  end)
end)

describe("a transactional job", function()
  local pg = fixture.server { tcp = true }

  it("that gets no connection runs again later, and no attempt is counted", function()
    local proxy = Proxy.listen(pg.port)
    finally(function()
      Worker.kill_all()
      proxy:close()
    end)
    local worker = Worker.start {
      script = [[local pgq = require "pgq"
        pgq.register_queue("t", function(_, job) print("ran " .. job.attempt) end, { transactional = true })]],
      args = { "--db", proxy:conninfo(pg), "--executors", "1", "--poll-interval", "100ms" },
    }
    worker:read_until "worker is serving"
    wait.sleep(0.3)
    proxy.refuses = true
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('t', '', '{}')"
    worker:read_until "no transaction for a job"
    wait.till("the job to be given back", 5, function()
      return pg:psql "SELECT attempt, lease IS NULL FROM pgq_jobs" == "0|t"
    end)
    proxy.refuses = false
    worker:read_until("ran 1", 20)
    wait.till("the job to be done", 10, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    worker:stop()
  end)
end)

describe("row security that hides jobs", function()
  it("is an error of the worker, not an empty queue", function()
    local pg = Postgres.start { migrated = true }
    finally(function()
      Worker.kill_all()
      pg:stop()
    end)
    pg:psql [[
      CREATE ROLE half LOGIN;
      GRANT ALL ON ALL TABLES IN SCHEMA public TO half;
      GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO half;
      ALTER TABLE pgq_jobs ENABLE ROW LEVEL SECURITY;
      CREATE POLICY half ON pgq_jobs TO half USING (id % 2 = 0);
      INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', ''), ('q', '')]]
    local worker = Worker.start {
      script = "require 'pgq'.register_queue('q', function() end)",
      args = { "--db", (pg.conninfo:gsub("user=%S+", "user=half")), "--executors", "1" },
    }
    worker:read_until "row security of pgq_jobs may hide rows"
  end)
end)

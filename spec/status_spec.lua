-- What a worker says about itself in pgq_workers.status.
local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("the status of a worker", function()
  local pg = fixture.server {}
  local enqueue = fixture.enqueuer(pg, "{0s,0s,0s}")
  local start = fixture.workers(pg, { args = { "--executors", "1", "--poll-interval", "100ms" } })

  local SCRIPT = [[
    pgq.register_queue("waits", function() pgq.sleep(30) end)
    pgq.register_queue("spins", function() spin(30) end)
    pgq.register_queue("backs off", function() error(pgq.backoff "the mail server ☃ is away") end)
    pgq.register_queue("exits", function() os.exit(3) end)
  ]]

  local undos = {}
  after_each(function()
    while undos[1] do pg:psql(table.remove(undos)) end
  end)

  local function status()
    local text = pg:psql "SELECT status FROM pgq_workers"
    return text ~= "" and cjson.decode(text) or {}
  end

  -- Waits until the condition holds for the status, and returns it.
  local function wait_for(what, condition, seconds)
    return wait.till(what, seconds or 20, function()
      local now = status()
      local ok, holds = pcall(condition, now)
      return ok and holds and now, cjson.encode(now)
    end)
  end

  -- Seconds since a time of the status.
  local function age(text)
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$", text)
    return tonumber(pg:psql(("SELECT extract(epoch FROM clock_timestamp() - '%s'::timestamptz)"):format(text)))
  end

  it("has the stage at once: a worker serves, and then stops", function()
    local worker = start(SCRIPT, "--timeout", "1h", "--concurrency", "7", "--keep-attempts", "all")
    local now = wait_for("it to serve", function(s) return s.stage == "serving" end)
    local link = process.check({ "readlink", "-f", worker.script_path }):gsub("\n", "")
    assert.equal(link, now.script)
    assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x$", now.script_version)
    assert.equal(now.script_version, now.executors[1].version)
    assert.same({ concurrency = 7, timeout = "1h0m0s", ["keep-attempts"] = "all,168h0m0s", executors = 1,
      ["poll-interval"] = "100ms" }, now.options)
    assert.equal(cjson.null, now.script_error)
    assert.equal(cjson.null, now.error)
    assert.is_true(now.memory_bytes > 1e6)
    enqueue("waits")
    wait.till("the job to be leased", 20, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "1" end)
    worker:kill "sigterm"
    now = wait_for("it to stop", function(s) return s.stage == "stopping" end, 5)
    assert.equal(1, now.leases)
  end)

  it("has the job of each executor, whether it waits or computes, and since when", function()
    start(SCRIPT)
    enqueue("waits", "", 3)
    wait.till("the jobs to be leased", 20, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "3" end)
    local now = wait_for("jobs in flight", function(s) return s.executors[1].in_flight == 3 end, 30)
    local executor = now.executors[1]
    assert.equal(1, #now.executors)
    assert.is_false(executor.busy)
    assert.equal(cjson.null, executor.busy_since)
    assert.equal("waits", executor.queue)
    assert.equal(pg:psql "SELECT min(id) FROM pgq_jobs", tostring(executor.job))
    assert.is_true(age(executor.job_since) < 60)
    assert.same({ waits = { in_flight = 3 } }, now.queues)
    assert.equal(now.script_version, executor.version)
    pg:psql "TRUNCATE pgq_jobs"
    enqueue("spins")
    now = wait_for("it to be busy", function(s) return s.executors[1].busy and s.executors[1].queue == "spins" end, 40)
    assert.equal(pg:psql "SELECT max(id) FROM pgq_jobs", tostring(now.executors[1].job))
    assert.is_true(age(now.executors[1].busy_since) < 60)
  end)

  it("has a backoff at once", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('backs off', '', array_fill('0s'::text, '{20}'))"
    start(SCRIPT)
    local now = wait_for("a backoff", function(s) return s.queues["backs off"].backs_off_until end, 8)
    assert.equal("the mail server ☃ is away", now.queues["backs off"].backoff_error)
    assert.is_true(age(now.queues["backs off"].backs_off_until) < 10)
  end)

  it("has the error of a script that cannot be reloaded, until it loads again", function()
    local worker = start(SCRIPT)
    local before = wait_for("it to serve", function(s) return s.stage == "serving" end)
    local file = assert(io.open(worker.script_path, "w"))
    file:write "error('out of order ☃\\0')"
    file:close()
    worker:kill "sighup"
    local now = wait_for("the error", function(s) return s.script_error ~= cjson.null end)
    assert.matches("out of order ☃", now.script_error)
    file = assert(io.open(worker.script_path, "w"))
    file:write "require('pgq').register_queue('waits', function() end)"
    file:close()
    worker:kill "sighup"
    wait_for("it to load again", function(s)
      return s.script_error == cjson.null and s.script_version ~= cjson.null and s.script_version ~= before.script_version
    end, 30)
  end)

  it("has the last connection problem, until the connection is up", function()
    pg:psql [[CREATE ROLE limited LOGIN CONNECTION LIMIT 1; GRANT ALL ON pgq_jobs, pgq_workers, pgq_attempts, pgq_stats, pgq_queues TO limited]]
    undos[1] = "DROP OWNED BY limited; DROP ROLE limited"
    start(SCRIPT, "--db", pg.conninfo .. " user=limited")
    wait_for("the problem", function(s) return s.error:find "too many connections for role" end, 30)
    pg:psql "ALTER ROLE limited CONNECTION LIMIT -1"
    wait_for("its end", function(s) return s.error == cjson.null end, 60)
  end)

  it("is written in databases of other encodings, too", function()
    pg:psql "CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
    local other = pg.conninfo:gsub("dbname=%S+", "") .. " dbname=latin1"
    process.check { os.getenv "PGQ_LUA", "migrate", "--db", other }
    local function sql(text) return (process.check({ "psql", "-XAtqd", other, "-c", text }):gsub("\n$", "")) end
    sql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('backs off', '', array_fill('0s'::text, '{20}'))"
    local worker = start(SCRIPT, "--db", other)
    wait.till("the backoff", 20, function()
      return sql "SELECT status -> 'queues' -> 'backs off' ->> 'backoff_error' FROM pgq_workers" == "the mail server ? is away"
    end)
    worker:kill "sigkill"
    worker:wait()
    pg:psql "DROP DATABASE latin1 WITH (FORCE)"
  end)

  it("does not slow down a worker whose row cannot be written", function()
    pg:psql [[CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
      CREATE TRIGGER refuse BEFORE UPDATE ON pgq_workers FOR EACH ROW EXECUTE FUNCTION refuse()]]
    undos[1] = "DROP FUNCTION refuse CASCADE"
    local worker = start(SCRIPT)
    worker:read_until("cannot write this worker's row", 20)
    enqueue("waits")
    wait.till("the job to be leased", 20, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "1" end)
  end)
end)

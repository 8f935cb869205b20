local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- Errors of the database that pass. An outcome that cannot be written meanwhile is kept, and written later. The error
-- is logged once, and the handler does not run a second time.
describe("an outcome that the database refuses for a while is written later:", function()
  local pg = fixture.server { disk = Postgres.can_have_disk() and "4m" or nil }

  local SCRIPT = [[
    local pgq = require "pgq"
    pgq.register_queue("slow", function(data)
      print("began " .. data)
      require "luv".sleep(tonumber(data))
      print("ended " .. data)
    end)
    pgq.register_queue("fail", function(data)
      print("began " .. data)
      require "luv".sleep(100)
      local text = {}
      for i = 1, 1500 do text[i] = string.char(math.random(97, 122)) end -- it does not compress
      error("no luck: " .. table.concat(text), 0)
    end)
    pgq.register_queue("echo", function(data) print("ran " .. data) end)]]

  local function start(...)
    return Worker.start { pg = pg, script = SCRIPT, args = { "--executors", "1", "--poll-interval", "100ms", ... } }
  end

  local function enqueue(queue, data, waits)
    pg:psql(("SELECT pgq_enqueue('%s', '%s', now(), '%s')"):format(queue, data, waits or "{1h}"))
  end

  local function count(text, pattern)
    return select(2, text:gsub(pattern, ""))
  end

  -- Starts a psql session that has run `sql` and waits for further statements.
  local function session(sql)
    local psql = process.start { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", pg.conninfo, stdin = "pipe" }
    psql:write(sql .. ";\n\\echo ready\n")
    psql:read_until "ready"
    return psql
  end

  local function finish_session(psql, sql)
    psql:write(sql .. ";\n")
    psql:close_stdin()
  end

  -- The waits between the worker's tries grow to ten seconds.
  local function wait_until_done()
    wait.till("the job to complete", 40, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
  end

  local function wait_until_leased()
    wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
  end

  -- Stops the worker. Expects that it logged the error once, and ran each handler once.
  local function finish(worker, message, data, jobs)
    worker:stop()
    assert.equal(1, count(worker.stderr, "msg=\"the database refused[^\n]*" .. message), worker.stderr)
    assert.is_true(count(worker.stderr, "level=[we]") - count(worker.stderr, "msg=.job failed") <= 4, worker.stderr)
    assert.equal(jobs or 1, count(worker.stdout, "began " .. data))
  end

  it("a deadlock", function()
    pg:psql [[
      CREATE TABLE tally (jobs int);
      INSERT INTO tally VALUES (0);
      CREATE FUNCTION tally() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE tally SET jobs = jobs + 1; RETURN old; END $$;
      CREATE TRIGGER tally BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION tally()]]
    finally(function() pg:psql "DROP TABLE tally; DROP FUNCTION tally CASCADE" end)
    -- This session holds a lock that the worker's settling needs, and waits for the worker's lock. The worker detects
    -- the deadlock, and gives way.
    local other = session "SET deadlock_timeout = '1h'; BEGIN; UPDATE tally SET jobs = jobs + 100"
    local worker = start("--hold-limit", "20s")
    enqueue("slow", "3000")
    worker:read_until "began 3000"
    finish_session(other, "SELECT FROM pgq_jobs FOR UPDATE \\; COMMIT") -- both at once: the worker must not find the row locked
    worker:read_until "deadlock detected"
    wait_until_done()
    assert.equal(0, other:wait().status)
    finish(worker, "40P01", "3000")
    assert.equal("101", pg:psql "SELECT jobs FROM tally")
  end)

  -- The worker's statements alone cannot cause these errors; triggers of users can.
  for name, sqlstate in pairs { ["a serialization failure"] = "40001", ["a statement timeout"] = "57014",
    ["a server that is out of memory"] = "53200" } do
    it(name, function()
      pg:psql(([[
        CREATE SEQUENCE tries;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF nextval('tries') <= 4 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '%s'; END IF; RETURN old; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION refuse()]]):format(sqlstate))
      finally(function() pg:psql "DROP SEQUENCE tries; DROP FUNCTION refuse CASCADE" end)
      local worker = start()
      enqueue("slow", "10")
      wait_until_done()
      assert.equal("5", pg:psql "SELECT last_value FROM tries")
      finish(worker, sqlstate, "10")
    end)
  end

  -- The worker takes this error for a lost connection, and connects again each time. Still it logs only a few lines.
  it("a trigger that cannot reach another server", function()
    pg:psql [[
      CREATE SEQUENCE tries;
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM nextval('tries');
        RAISE EXCEPTION 'could not establish connection' USING ERRCODE = '08001'; END $$;
      CREATE TRIGGER refuse BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION refuse()]]
    finally(function() pg:psql "DROP SEQUENCE tries; DROP FUNCTION IF EXISTS refuse CASCADE" end)
    local worker = start()
    enqueue("slow", "10")
    worker:read_until "could not establish connection"
    wait.sleep(4)
    local tries = tonumber(pg:psql "SELECT last_value FROM tries")
    assert.is_true(tries < 10, tries .. " tries\n" .. worker.stderr)
    assert.is_true(count(worker.stderr, "\n") < 10, worker.stderr)
    pg:psql "DROP FUNCTION refuse CASCADE"
    wait_until_done()
    worker:stop()
    assert.equal(1, count(worker.stdout, "began 10"))
  end)

  it("a lock on the table", function()
    local worker = start("--hold-limit", "100ms")
    enqueue("slow", "4000")
    wait_until_leased()
    local other = session "BEGIN; LOCK TABLE pgq_jobs IN ACCESS EXCLUSIVE MODE"
    worker:read_until "ended 4000"
    worker:read_until("lock timeout", 40)
    finish_session(other, "COMMIT")
    wait_until_done()
    assert.equal(0, other:wait().status)
    finish(worker, "55P03", "4000")
  end)

  -- FOR UPDATE passes under a SHARE lock, and the outcome does not.
  it("a SHARE lock, as that of CREATE INDEX: no job begins meanwhile", function()
    local worker = start()
    enqueue("echo", "first")
    worker:read_until "ran first"
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('echo', 'second', now() + interval '2 s')"
    local other = session "BEGIN; LOCK TABLE pgq_jobs IN SHARE MODE"
    wait.sleep(3)
    assert.equal(0, count(worker.stdout, "ran second"))
    finish_session(other, "COMMIT")
    worker:read_until "ran second"
    worker:stop()
  end)

  it("a table that is renamed, until it has its name again", function()
    local worker = start("--hold-limit", "100ms", "--lease", "15s")
    enqueue("slow", "4000")
    wait_until_leased()
    pg:psql "ALTER TABLE pgq_jobs RENAME TO elsewhere"
    worker:read_until 'hold 1[^\n]*pgq_jobs[^\n]* does not exist'
    wait.sleep(3)
    pg:psql "ALTER TABLE elsewhere RENAME TO pgq_jobs"
    wait_until_done()
    finish(worker, "42P01", "4000")
  end)

  it("a table that is dropped and created again, in which the outcome is not written to a job of the same id", function()
    local worker = start("--hold-limit", "100ms")
    enqueue("slow", "4000")
    wait_until_leased()
    pg:psql "DROP TABLE pgq_jobs"
    worker:read_until 'hold 1[^\n]*pgq_jobs[^\n]* does not exist'
    pg:migrate()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('slow', '', now() + interval '1 hour')"
    pg:psql "SELECT pgq_enqueue('echo', 'back')"
    worker:read_until("ran back", 40)
    assert.equal("1|slow|0", pg:psql "SELECT id, queue_name, attempt FROM pgq_jobs")
    finish(worker, "42P01", "4000")
  end)

  if Postgres.can_have_disk() then
    it("a full disk", function()
      local folder = pg.dir .. "/disk"
      pg:psql(("CREATE TABLESPACE small LOCATION '%s'"):format(folder))
      pg:psql [[
        ALTER TABLE pgq_jobs SET TABLESPACE small;
        CREATE TABLE filler (bytes text) TABLESPACE small;
        ALTER TABLE filler ALTER bytes SET STORAGE PLAIN]]
      finally(function() pg:psql "DROP TABLE IF EXISTS filler; ALTER TABLE pgq_jobs SET TABLESPACE pg_default; DROP TABLESPACE small" end)
      local worker = start("--hold-limit", "10s")
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'fail', n::text::bytea, '{1h}' FROM generate_series(1, 50) n"
      worker:read_until "began 1\n"
      pg:psql [[DO $$ BEGIN
          LOOP
            BEGIN INSERT INTO filler SELECT repeat('x', 7000); EXCEPTION WHEN disk_full THEN EXIT; END;
          END LOOP;
        END $$]]
      worker:read_until "No space left on device"
      wait.sleep(2)
      assert.is_true(worker:is_running())
      pg:psql "DROP TABLE filler"
      wait.till("all outcomes to be written", 90, function()
        local left = pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 0"
        return left == "0", left
      end)
      assert.equal("50", pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 1 AND error LIKE 'no luck: %'")
      finish(worker, "53100", "%d+\n", 50)
    end)
  end
end)

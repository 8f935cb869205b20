-- Writes that change no row, without an error: a trigger that returns NULL, a rule, row security. The handler does not
-- run a second time; its outcome is kept until it can be written.
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("a write that the database ignores", function()
  local pg = fixture.server {}
  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg, { args = { "--executors", "2", "--poll-interval", "100ms", "--grace", "100ms" } })

  local SCRIPT = [[
    pgq.register_queue("q", function(data) print("ran " .. data) end)
    pgq.register_queue("other", function(data) print("other " .. data) end)
    pgq.register_queue("fail", function(data) print("ran " .. data) error("no luck", 0) end)
    pgq.register_queue("slow", function(data) print("ran " .. data) pgq.sleep(2) print("ended " .. data) end)
    pgq.register_queue("snooze", function(data, job)
      print("ran " .. data)
      if data ~= "again" then error(pgq.snooze(3600)) end
    end)
    pgq.register_queue("tx", function(data, job)
      print("ran " .. data)
      assert(job.tx:query("SELECT 1"))
    end, { transactional = true })]]

  local IGNORED = "the database ignores writes of this worker"

  local undos = {}
  after_each(function()
    while undos[1] do
      table.remove(undos)()
    end
  end)

  -- Runs `sql` now, and `undo` after the test, or when the function that it returns is called.
  local function with(sql, undo)
    pg:psql(sql)
    local undone = false
    local function once()
      if not undone then
        undone = true
        pg:psql(undo)
      end
    end
    undos[#undos + 1] = once
    return once
  end

  -- A trigger before each row of DELETE or UPDATE that keeps the row as it is; `condition` is about OLD.
  local function keeper(event, condition, relation)
    return with(([[
      CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER keep BEFORE %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION keep()]])
      :format(event, relation or "pgq_jobs", condition or "true"), "DROP FUNCTION keep CASCADE")
  end

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  local function left()
    return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL"
  end

  local function wait_until_none_is_left()
    wait.till("all outcomes to be written", 20, function() return left() == "0", left() end)
  end

  -- Expects one error that names the cause.
  local function assert_told(worker, cause)
    worker:read_until(IGNORED, 10)
    worker:read_until(cause, 10)
    wait.sleep(1)
    assert.equal(1, count(worker.stderr, IGNORED), worker.stderr)
    assert.equal(1, count(worker.stderr, "level=error"), worker.stderr)
  end

  it("is noticed at once: no job runs twice, and few begin in that queue", function()
    local mend = keeper("DELETE", "OLD.queue_name = 'q'")
    enqueue("q", "first")
    local worker = start(SCRIPT)
    assert_told(worker, "trigger keep %(function keep, before DELETE%)")
    enqueue("q", "later", 20)
    enqueue("other", "job")
    worker:read_until "other job"
    wait.sleep(0.5)
    assert.equal(1, count(worker.stdout, "ran first"))
    assert.is_true(count(worker.stdout, "ran later") <= 4, worker.stdout)
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran first"), worker.stdout)
    assert.equal(20, count(worker.stdout, "ran later"))
  end)

  it("keeps the outcomes of a whole batch, of which some are written", function()
    local mend = keeper("DELETE", "OLD.id % 3 = 0")
    enqueue("q", "job", 100)
    local worker = start(SCRIPT)
    assert_told(worker, "trigger keep")
    assert.is_true(tonumber(left()) >= 33)
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal(100, count(worker.stdout, "ran job"))
  end)

  it("does not end a worker that drains, until it is stopped", function()
    keeper("DELETE")
    enqueue("q", "job")
    local worker = start(SCRIPT, "--drain")
    assert_told(worker, "trigger keep")
    assert.is_true(worker:is_running())
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
    assert.truthy(worker.stderr:find "outcomes could not be written before the worker stopped")
    assert.equal("1", left())
  end)

  it("may be a rule", function()
    local worker = start(SCRIPT)
    enqueue("other", "first")
    worker:read_until "other first"
    local mend = with("CREATE RULE keep AS ON DELETE TO pgq_jobs DO INSTEAD NOTHING", "DROP RULE keep ON pgq_jobs")
    enqueue("q", "job")
    assert_told(worker, "rule keep of pgq_jobs")
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  describe("because of row security", function()
    local user = "ignored_writes"
    local SECURE = [[
      ALTER TABLE pgq_jobs ENABLE ROW LEVEL SECURITY;
      CREATE POLICY look ON pgq_jobs FOR SELECT USING (true);
      CREATE POLICY change ON pgq_jobs FOR UPDATE USING (true)]]
    local OPEN = [[
      DROP POLICY IF EXISTS look ON pgq_jobs; DROP POLICY IF EXISTS change ON pgq_jobs;
      ALTER TABLE pgq_jobs DISABLE ROW LEVEL SECURITY;]]

    before_each(function()
      with(([[CREATE ROLE %s LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON pgq_jobs, pgq_workers, pgq_attempts, pgq_stats, pgq_queues TO %s]])
        :format(user, user), ("%s DROP OWNED BY %s; DROP ROLE %s"):format(OPEN, user, user))
    end)

    it("is refused at start", function()
      pg:psql(SECURE)
      local result = start(SCRIPT, "--db", pg.conninfo .. " user=" .. user):wait()
      assert.equal(1, result.status)
      assert.truthy(result.stderr:find("row security of pgq_jobs may hide rows from the role ignored_writes", 1, true))
    end)

    it("is waited for when it comes later", function()
      local worker = start(SCRIPT, "--db", pg.conninfo .. " user=" .. user)
      enqueue("q", "first")
      worker:read_until "ran first"
      pg:psql(SECURE)
      enqueue("q", "job", 5)
      worker:read_until("row%-level security", 10)
      wait.sleep(1)
      assert.equal(0, count(worker.stdout, "ran job"), worker.stdout)
      assert.is_true(count(worker.stderr, "\n") < 12, worker.stderr)
      pg:psql(OPEN)
      wait_until_none_is_left()
      worker:stop()
      assert.equal(5, count(worker.stdout, "ran job"))
    end)
  end)

  it("may concern a partition", function()
    with([[
      ALTER TABLE pgq_jobs RENAME TO whole;
      CREATE TABLE pgq_jobs (LIKE whole INCLUDING DEFAULTS INCLUDING IDENTITY) PARTITION BY LIST (queue_name);
      CREATE INDEX parts_fetch ON pgq_jobs (queue_name, run_after, id) WHERE ran_at IS NULL;
      CREATE TABLE part PARTITION OF pgq_jobs FOR VALUES IN ('q');
      CREATE TABLE rest PARTITION OF pgq_jobs DEFAULT]], "DROP TABLE pgq_jobs; ALTER TABLE whole RENAME TO pgq_jobs")
    local mend = keeper("DELETE", nil, "part")
    enqueue("q", "job")
    enqueue("other", "job")
    local worker = start(SCRIPT)
    assert_told(worker, "trigger keep")
    worker:read_until "other job"
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  for _, case in ipairs {
    { "of a failed attempt", "fail", "1|no luck" },
    { "of a snooze", "snooze", "0|" },
  } do
    it("may be that " .. case[1], function()
      local mend = keeper("UPDATE")
      enqueue(case[2], "job")
      local worker = start(SCRIPT)
      assert_told(worker, "trigger keep %(function keep, before UPDATE%)")
      mend()
      wait.till("the outcome to be written", 20, function()
        return pg:psql "SELECT run_after > now() + interval '1 min' FROM pgq_jobs" == "t", worker.stderr
      end)
      assert.equal(case[3], pg:psql "SELECT attempt, error FROM pgq_jobs")
      worker:stop()
      assert.equal(1, count(worker.stdout, "ran job"))
    end)
  end

  it("may be that of a job which is kept when it has completed", function()
    local mend = keeper("UPDATE")
    enqueue("q", "job")
    local worker = start(SCRIPT, "--preserve-completed")
    assert_told(worker, "trigger keep")
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal("1", pg:psql "SELECT attempt FROM pgq_jobs WHERE error IS NULL AND ran_at IS NOT NULL")
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  it("may be a lease: the job runs on, once, and is completed", function()
    local mend = keeper("UPDATE")
    enqueue("slow", "job")
    local worker = start(SCRIPT, "--hold-limit", "100ms")
    assert_told(worker, "trigger keep")
    worker:read_until "ended job"
    wait_until_none_is_left()
    mend()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  it("may be a lease: then a failure is written as if the job had not been leased", function()
    local mend = keeper("UPDATE")
    enqueue("slow", "job")
    local worker = start(SCRIPT:gsub('print%("ended " .. data%)', 'print "ended" error("no luck", 0)'), "--hold-limit", "100ms")
    worker:read_until "ended"
    wait.sleep(0.5)
    mend()
    wait.till("the failure to be written", 20, function() return pg:psql "SELECT error FROM pgq_jobs" == "no luck" end)
    assert.equal("1|t", pg:psql "SELECT attempt, lease IS NULL FROM pgq_jobs")
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  it("may be the lease of a transactional job, which does not run then", function()
    local mend = keeper("UPDATE")
    enqueue("tx", "job")
    local worker = start(SCRIPT)
    assert_told(worker, "trigger keep")
    assert.equal(0, count(worker.stdout, "ran"))
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  it("may be the completion of a transactional job, whose attempt fails then", function()
    keeper("DELETE")
    enqueue("tx", "job")
    local worker = start(SCRIPT)
    worker:read_until "the database ignores the completion of the job"
    wait.till("the failure to be written", 20, function() return pg:psql "SELECT attempt FROM pgq_jobs" == "1" end)
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  it("may be that of a leased job: the next worker runs it only when the lease has ended", function()
    local mend = keeper("DELETE")
    enqueue("slow", "job")
    local worker = start(SCRIPT, "--hold-limit", "100ms")
    assert_told(worker, "trigger keep")
    mend()
    wait_until_none_is_left()
    worker:stop()
    assert.equal(1, count(worker.stdout, "ran job"))
  end)

  it("may be a heartbeat or the worker's row", function()
    local mend = keeper("UPDATE", nil, "pgq_workers")
    local worker = start(SCRIPT)
    worker:read_until("cannot write this worker's row[^\n]*changes no row", 20)
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_workers")
    worker:stop()
    mend()
    with("CREATE RULE keep AS ON INSERT TO pgq_workers DO INSTEAD NOTHING", "DROP RULE keep ON pgq_workers")
    enqueue("q", "job")
    worker = start(SCRIPT)
    worker:read_until "cannot write this worker's row"
    worker:read_until "ran job"
    worker:stop()
  end)

  it("is no alarm when an operator has deleted a leased job", function()
    enqueue("slow", "job")
    local worker = start(SCRIPT, "--hold-limit", "100ms")
    wait.till("the lease", 10, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
    pg:psql "DELETE FROM pgq_jobs"
    worker:read_until "ended job"
    worker:read_until "outcome dropped: the job no longer belongs to this worker"
    enqueue("slow", "next")
    worker:read_until "ran next"
    worker:stop()
    assert.equal(0, count(worker.stderr, IGNORED), worker.stderr)
  end)

  it("is no alarm when the completion of one job deletes another job of its batch", function()
    with([[
      CREATE FUNCTION twin() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN DELETE FROM pgq_jobs WHERE id = OLD.id + 1 AND OLD.id % 2 = 1; RETURN OLD; END';
      CREATE TRIGGER twin AFTER DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION twin()]], "DROP FUNCTION twin CASCADE")
    enqueue("q", "job", 10)
    local result = drain(SCRIPT)
    assert.equal("0", left())
    assert.equal(0, count(result.stderr, IGNORED), result.stderr)
  end)

  it("never becomes a write to the row of another table that inherits from pgq_jobs", function()
    with([[
      CREATE TABLE heir () INHERITS (pgq_jobs);
      INSERT INTO heir (id, queue_name, data, run_after) SELECT n, 'heir', '', 'infinity' FROM generate_series(901, 920) n]], "DROP TABLE heir")
    enqueue("q", "job", 10)
    drain(SCRIPT)
    assert.equal("20", left())
    enqueue("q", "job", 10)
    drain(SCRIPT, "--preserve-completed")
    assert.equal("20", left())
  end)

  it("is an error of an enqueue, too", function()
    with([[
      CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER keep BEFORE INSERT ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION keep()]], "DROP FUNCTION keep CASCADE")
    local ok, message = pcall(pg.psql, pg, "SELECT pgq_enqueue('q', '')")
    assert.is_false(ok)
    assert.truthy(tostring(message):find("added no row", 1, true), tostring(message))
    local result = process.run { os.getenv "PGQ_LUA", "--db", pg.conninfo, "enqueue", "q", "x" }
    assert.equal(1, result.status)
    assert.truthy(result.stderr:find("inserted no row", 1, true), result.stderr)
  end)
end)

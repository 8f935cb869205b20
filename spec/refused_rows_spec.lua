-- A trigger that refuses or ignores the write of single rows: only these jobs wait. Their handlers do not run again, and
-- other jobs, also of the same queue, go on.
local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

describe("a write that the database refuses for a single row", function()
  local pg = fixture.server {}
  local start = fixture.workers(pg, { args = { "--executors", "2", "--poll-interval", "100ms", "--hold-limit", "300ms" } })

  local SCRIPT = [[
    local function handle(data)
      print("ran " .. data)
      if data:find "slow" then pgq.sleep(1) end
      if data:find "fails" then error("no luck", 0) end
      print("ended " .. data)
    end
    pgq.register_queue("q", handle)
    pgq.register_queue("other", handle)
    pgq.register_queue("tx", function(data, job)
      handle(data)
      assert(job.tx:query("SELECT 1"))
    end, { transactional = true })]]

  -- A trigger on rows whose data begin with "bad" that runs `body`. Returns a function that drops it.
  local function trigger(event, body)
    pg:psql(([[
      CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s END $$;
      CREATE TRIGGER guard BEFORE %s ON pgq_jobs FOR EACH ROW WHEN (OLD.data LIKE 'bad%%') EXECUTE FUNCTION guard()]])
      :format(body, event))
    local dropped = false
    local function drop()
      if not dropped then
        dropped = true
        pg:psql "DROP FUNCTION guard CASCADE"
      end
    end
    finally(drop)
    return drop
  end

  local function enqueue(queue, data, count)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT '%s', '%s', '{1h}' FROM generate_series(1, %d)]])
      :format(queue, data, count or 1))
  end

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  local function wait_until_left(left, condition)
    wait.till("only these jobs to be left", 60, function()
      local now = pg:psql("SELECT count(*) FROM pgq_jobs WHERE run_after < now() + interval '30 min' AND ran_at IS NULL AND "
        .. (condition or "true"))
      return now == tostring(left), now
    end)
  end

  local function raise(sqlstate)
    return ("RAISE EXCEPTION 'not this one' USING ERRCODE = '%s';"):format(sqlstate)
  end

  local DELETE, UPDATE, BOTH = "DELETE", "UPDATE", "DELETE OR UPDATE"

  for _, case in ipairs {
    { "with an error of permissions", DELETE, raise "42501", "q", "bad" },
    { "with an error of resources", DELETE, raise "53100", "q", "bad" },
    { "because its function uses a table that is gone", DELETE, "DELETE FROM nowhere;", "q", "bad", "nowhere" },
    { "because another server cannot be reached", DELETE, raise "08001", "q", "bad" },
    { "with an error that mostly passes", DELETE, raise "40001", "q", "bad" },
    { "with an exception, whatever is written", BOTH, raise "P0001", "q", "bad", nil, "failed" },
    { "of a job that has failed", UPDATE, raise "42501", "q", "bad fails" },
    { "of a leased job", DELETE, raise "42501", "q", "bad slow" },
    { "which is the lease of a running job", UPDATE, raise "42501", "q", "bad slow", nil, "written" },
    { "which is the lease of a transactional job", UPDATE, raise "42501", "tx", "bad", nil, "later" },
    { "by ignoring it", DELETE, "RETURN NULL;", "q", "bad", "trigger guard" },
    { "by ignoring that it has failed", UPDATE, "RETURN NULL;", "q", "bad fails", "trigger guard" },
    { "by ignoring that of a leased job", DELETE, "RETURN NULL;", "q", "bad slow", "trigger guard" },
    { "by ignoring the lease of a transactional job", UPDATE, "RETURN NULL;", "tx", "bad", "trigger guard", "later" },
  } do
    local name, event, body, queue, data, cause, when = unpack(case, 1, 7)
    it(name .. ": concerns that job alone", function()
      local drop = trigger(event, body)
      enqueue(queue, "good", 20)
      enqueue(queue, data)
      enqueue(queue, "good", 100)
      enqueue("other", "good", 100)
      local worker = start(SCRIPT)
      wait_until_left(0, "data NOT LIKE 'bad%'")
      if when ~= "written" then
        worker:read_until("level=error[^\n]*job=21[^\n]*" .. (cause or "not this one"), 20)
      end
      enqueue(queue, "more", 20)
      enqueue("other", "more", 20)
      wait_until_left(0, "data NOT LIKE 'bad%'")
      assert.equal(when == "later" and 0 or 1, count(worker.stdout, "ran " .. data))
      if when ~= "written" then
        assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE data LIKE 'bad%'")
      end
      drop()
      wait_until_left(0)
      local result = worker:stop()
      assert.equal(1, count(result.stdout, "ran " .. data))
      assert.equal(when == "failed" and 3 or 1, count(result.stderr, "level=error[^\n]*job=21"), result.stderr)
      assert.equal(data:find "fails" and "1|1|no luck" or when == "failed" and "1|1|could not be settled: not this one" or "0||",
        pg:psql "SELECT count(*), max(attempt), max(error) FROM pgq_jobs")
    end)
  end

  it("is tried again after growing waits, and its queue pauses when one job after the other is refused", function()
    local drop = trigger(DELETE, "PERFORM nextval('tries'); " .. raise "42501")
    pg:psql "CREATE SEQUENCE tries"
    finally(function() pg:psql "DROP SEQUENCE tries" end)
    enqueue("q", "bad", 100)
    enqueue("other", "good", 50)
    local worker = start(SCRIPT)
    wait_until_left(0, "queue_name = 'other'")
    wait.sleep(5)
    local ran, tries = count(worker.stdout, "ran bad"), tonumber(pg:psql "SELECT last_value FROM tries")
    assert.is_true(ran >= 1 and ran < 20, ran .. " ran")
    assert.is_true(tries < 60, tries .. " tries")
    enqueue("other", "good", 50)
    wait_until_left(0, "queue_name = 'other'")
    drop()
    wait_until_left(0)
    worker:stop()
    assert.equal(100, count(worker.stdout, "ran bad"))
  end)

  it("does not end a worker that drains, and is written when the worker can", function()
    local drop = trigger(DELETE, raise "42501")
    enqueue("q", "bad")
    enqueue("q", "good", 50)
    local worker = start(SCRIPT, "--drain")
    wait_until_left(0, "data NOT LIKE 'bad%'")
    wait.sleep(1)
    assert.is_true(worker:is_running())
    drop()
    assert.equal(0, worker:wait(90).status)
    assert.equal(1, count(worker.stdout, "ran bad"))
  end)
end)

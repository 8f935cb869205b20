local uv = require "luv"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("a job that runs for long", function()
  local pg = fixture.server()

  local SLOW = [[
    local pgq = require "pgq"
    local uv = require "luv"
    pgq.register_queue("sleep", function(data, job)
      print("began " .. data .. " attempt " .. job.attempt)
      if tonumber(data) then
        uv.sleep(tonumber(data))
      else -- for as long as this file is there
        while uv.fs_stat(data) do uv.sleep(10) end
      end
      print("ended " .. data)
    end)
    pgq.register_queue("spin", function(data)
      print("began " .. data)
      local till = uv.hrtime() + tonumber(data) * 1e6
      while uv.hrtime() < till do end
      print("ended " .. data)
    end)
    pgq.register_queue("fail", function(data) uv.sleep(tonumber(data)) error("after all", 0) end)]]

  local function start(...)
    return Worker.start { pg = pg, script = SLOW, args = { "--executors", "1", "--poll-interval", "100ms", ... } }
  end

  local function enqueue(queue, data, waits)
    return pg:psql(("SELECT pgq_enqueue('%s', '%s', now(), '%s')"):format(queue, data, waits or "{1h}"))
  end

  local function oldest_transaction()
    return tonumber(pg:psql [[SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)
      FROM pg_stat_activity WHERE application_name = 'pgq-lua']])
  end

  for _, kind in ipairs { "sleep", "spin" } do
    it("by " .. kind .. "ing holds no transaction for longer than the hold limit, and is leased", function()
      local worker = start("--hold-limit", "3s")
      enqueue(kind, "11000")
      worker:read_until "began"
      local oldest, leased = 0, false
      wait.till("the job to end", 60, function()
        oldest = math.max(oldest, oldest_transaction())
        leased = leased or pg:psql [[SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL AND attempt = 1
          AND run_after BETWEEN now() + interval '30 s' AND now() + interval '60 s']] == "1"
        return worker.stdout:find "ended" and pg:psql "SELECT count(*) FROM pgq_jobs" == "0"
      end)
      worker:stop()
      assert.is_true(leased)
      assert.is_true(oldest > 0.1 and oldest < 8, "oldest transaction: " .. oldest)
    end)
  end

  it("gives the jobs behind it in its batch back, for others to run", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'sleep', '0', now() - interval '1 hour' FROM generate_series(1, 300)"
    local file = os.tmpname()
    finally(function() os.remove(file) end)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data)
      SELECT 'sleep', CASE n WHEN 1 THEN '%s' ELSE '1' END::bytea FROM generate_series(1, 200) n]]):format(file))
    local worker = start("--executors", "2")
    worker:read_until "began /"
    wait.till("the others to be done while it runs", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs" == "1"
    end)
    assert.is_nil(worker.stdout:find "ended /")
    os.remove(file)
    worker:read_until "ended /"
    worker:stop()
    assert.equal(199, select(2, worker.stdout:gsub("ended 1\n", "")))
  end)

  it("has its lease extended at a third of it, for as long as it runs", function()
    local worker = start("--lease", "4500ms", "--hold-limit", "100ms")
    local other = start("--lease", "4500ms", "--hold-limit", "100ms")
    enqueue("sleep", "10000")
    wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
    wait.till("the job to complete", 60, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    worker:stop()
    other:stop()
    assert.equal(1, select(2, (worker.stdout .. other.stdout):gsub("began", "")))
  end)

  it("is retried and fails under its lease, and each attempt counts once", function()
    local worker = start("--hold-limit", "100ms")
    enqueue("fail", "500", "{300ms}")
    wait.till("the job to fail for good", 60, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL" == "1"
    end)
    worker:stop()
    assert.equal("2|after all|t|{}", pg:psql "SELECT attempt, error, lease IS NULL, retry_waits FROM pgq_jobs")
  end)

  it("is preserved and discarded under its lease as it would be without", function()
    enqueue("sleep", "400")
    enqueue("fail", "400", "{}")
    local worker = start("--hold-limit", "100ms", "--drain", "--preserve-completed", "--discard-failed")
    assert.equal(0, worker:wait(60).status)
    assert.equal("400|1||t|t", pg:psql "SELECT convert_from(data, 'UTF8'), attempt, error, lease IS NULL, ran_at IS NOT NULL FROM pgq_jobs")
  end)

  describe("whose worker", function()
    it("is stopped by SIGTERM is given back at once and loses no attempt", function()
      local worker = start("--grace", "300ms")
      enqueue("sleep", "60000")
      wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
      worker:stop()
      assert.equal("0|t|t|{1h}", pg:psql "SELECT attempt, lease IS NULL, run_after <= now(), retry_waits FROM pgq_jobs")
    end)

    it("dies is run again within seconds, and loses no attempt", function()
      local worker = start("--hold-limit", "100ms")
      enqueue("sleep", "60000", "{0s,1h}")
      wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
      worker:kill "sigkill"
      worker:wait()
      local began = uv.hrtime()
      local other = start("--hold-limit", "100ms")
      other:read_until "began 60000 attempt 1"
      local took = (uv.hrtime() - began) / 1e9
      assert.matches("a worker died: [^\n]* jobs=1", other.stderr)
      other:kill "sigkill"
      other:wait()
      assert.is_true(took < 15, "took " .. took)
      assert.equal("1||{0s,1h}", pg:psql "SELECT deaths, error, retry_waits FROM pgq_jobs")
    end)

    it("is never found dead is run again when its lease is over, and loses no attempt", function()
      local worker = start("--lease", "3s", "--hold-limit", "100ms")
      enqueue("sleep", "60000", "{0s,1h}")
      wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
      worker:kill "sigkill"
      worker:wait()
      pg:psql "DELETE FROM pgq_workers"
      local other = start("--hold-limit", "100ms")
      other:read_until "began 60000 attempt 1"
      other:kill "sigkill"
      other:wait()
      assert.equal("1||{0s,1h}", pg:psql "SELECT deaths, error, retry_waits FROM pgq_jobs")
    end)

    it("is stopped for longer than its lease cannot settle jobs that it no longer owns", function()
      local worker = start("--lease", "3s", "--hold-limit", "100ms", "--log-level", "debug")
      enqueue("sleep", "7000", "{0s,0s,0s}")
      wait.till("the job to be leased", 30, function() return pg:psql "SELECT lease IS NOT NULL FROM pgq_jobs" == "t" end)
      worker:kill "sigstop"
      local other = start("--lease", "3s", "--hold-limit", "100ms", "--log-level", "debug")
      other:read_until("began 7000 attempt 1", 30)
      worker:kill "sigcont"
      worker:read_until("lease lost: the job no longer belongs to this worker", 30)
      other:read_until("ended 7000", 30)
      wait.till("the job to be completed by the other", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
      wait.till("the first to have dropped it", 30, function()
        return worker.stderr:find "outcome dropped"
      end)
      other:read_until("job completed", 30, "stderr")
      worker:stop()
      other:stop()
      assert.is_nil(worker.stderr:find "job completed", worker.stderr)
    end)
  end)

  describe("over its time limit", function()
    it("is killed with its executor, and that attempt fails with the cause", function()
      local worker = Worker.start { pg = pg, args = { "--executors", "1", "--poll-interval", "100ms", "--timeout", "30s" }, script = [[
        local pgq = require "pgq"
        pgq.register_queue("spin", function() while true do end end, { timeout = 0.5 })
        pgq.register_queue("sleep", function() require "luv".sleep(60000) end, { timeout = "700ms" })
        pgq.register_queue("quick", function() print "quick" end)]] }
      enqueue("spin", "")
      enqueue("sleep", "")
      enqueue("quick", "")
      worker:read_until("quick", 30)
      wait.till("both to have failed once", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 1" == "2" end)
      worker:stop()
      for limit, seconds in pairs { ["500ms"] = 0.5, ["700ms"] = 0.7 } do
        assert.equal("1", pg:psql(([[SELECT count(*) FROM pgq_jobs WHERE error ~
          '^the executor was killed at the time limit of %s while it ran this job \(for \d+\.\d+ s, peak memory \d+ MB\)$'
          AND substring(error FROM 'for ([0-9.]+) s')::float8 BETWEEN %g AND 10]]):format(limit, seconds)))
      end
    end)
  end)

  describe("that kills its whole worker", function()
    it("ends as failed after at most six deaths more than it has attempts, and the jobs behind it are done", function()
      local script = [[
        local pgq = require "pgq"
        local uv = require "luv"
        local function parent(pid)
          return tonumber(io.open("/proc/" .. pid .. "/stat"):read "*a":match "%) %a (%d+)")
        end
        pgq.register_queue("kill", function()
          uv.kill(parent(uv.os_getpid()), "sigkill")
          uv.kill(uv.os_getpid(), "sigkill")
          uv.sleep(10000)
        end)
        pgq.register_queue("fine", function(data) print("ran " .. data) end)]]
      enqueue("kill", "", "{0s,0s}")
      for i = 1, 20 do enqueue("fine", "job" .. i) end
      local deaths = 0
      local worker
      wait.till("the job to have failed for good", 180, function()
        if not worker or not worker:is_running() then
          -- A worker whose session has ended is known to be dead.
          wait.till("its sessions to end", 30, function()
            return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgq-lua'" == "0"
          end)
          deaths = deaths + (worker and 1 or 0)
          assert.is_true(deaths <= 15, deaths .. " workers died")
          worker = Worker.start { pg = pg, script = script,
            args = { "--executors", "1", "--lease", "1s", "--hold-limit", "100ms", "--poll-interval", "100ms" } }
        end
        return pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'kill' AND ran_at IS NOT NULL" == "1"
      end)
      wait.till("the other jobs to be done", 60, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "1" end)
      worker:stop()
      assert.equal("kill|3|worker lost: the lease ran out while only this job ran", pg:psql "SELECT queue_name, attempt, error FROM pgq_jobs")
      assert.is_true(deaths <= 3 + 6, deaths .. " workers died")
    end)
  end)

  describe("whose outcome the database refuses", function()
    after_each(function() pg:psql "DROP TABLE IF EXISTS refers; DROP TRIGGER IF EXISTS refuse ON pgq_jobs; DROP FUNCTION IF EXISTS refuse" end)

    local NOOP = "require 'pgq'.register_queue('q', function(data) if data == 'fail' then error('by itself', 0) end end)"

    local function fifty()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', n::text::bytea FROM generate_series(1, 50) n"
    end

    local function drain()
      local result = Worker.run { pg = pg, script = NOOP, args = { "--drain", "--executors", "1" }, timeout = 60 }
      assert.equal(0, result.status, result.stderr)
      return result
    end

    it("for a foreign key is marked as failed with that error, and the jobs beside it are settled", function()
      fifty()
      pg:psql "CREATE TABLE refers (job bigint REFERENCES pgq_jobs (id)); INSERT INTO refers VALUES (20), (40)"
      drain()
      assert.equal("20|1|t\n40|1|t", pg:psql [[SELECT id, attempt,
        error ~ '^could not be settled: update or delete on table "pgq_jobs" violates foreign key' AND ran_at IS NOT NULL FROM pgq_jobs ORDER BY id]])
    end)

    it("by a trigger that raises for one job is marked as failed, and the jobs beside it are settled", function()
      fifty()
      pg:psql [[CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
          BEGIN IF old.id = 30 THEN RAISE EXCEPTION 'not this one'; END IF; RETURN old; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION refuse()]]
      drain()
      assert.equal("30|could not be settled: not this one", pg:psql "SELECT id, error FROM pgq_jobs")
    end)

    it("at the commit, by a deferred constraint, is marked as failed too", function()
      fifty()
      pg:psql [[CREATE TABLE refers (job bigint REFERENCES pgq_jobs (id) DEFERRABLE INITIALLY DEFERRED);
        INSERT INTO refers VALUES (7)]]
      drain()
      assert.equal("7|t", pg:psql "SELECT id, error LIKE 'could not be settled: %' FROM pgq_jobs")
    end)

    it("because it lacks a privilege for a while is kept, and written when it can be", function()
      pg:psql "CREATE ROLE worker LOGIN; GRANT ALL ON pgq_jobs, pgq_workers, pgq_attempts, pgq_stats, pgq_queues TO worker"
      local conninfo = pg.conninfo:gsub("user=postgres", "user=worker")
      local worker = Worker.start { script = SLOW, args = { "--db", conninfo, "--executors", "1", "--poll-interval", "100ms" } }
      worker:read_until "is serving" -- it would not start without the privilege
      pg:psql "REVOKE DELETE ON pgq_jobs FROM worker"
      enqueue("sleep", "10")
      worker:read_until "permission denied for table pgq_jobs"
      wait.sleep(1.5)
      local _, lines = worker.stderr:gsub("permission denied", "")
      assert.equal(1, lines)
      pg:psql "GRANT DELETE ON pgq_jobs TO worker"
      wait.till("the job to be completed", 60, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
      worker:stop()
      pg:psql "DROP OWNED BY worker; DROP ROLE worker"
      assert.equal(1, select(2, worker.stdout:gsub("began 10", "")))
    end)
  end)

  -- A sanitizer's shadow memory counts against the limit, too.
  local describe_memory = os.getenv "PGQ_ASAN_LIBRARY" and function() end or describe
  describe_memory("that wants much memory", function()
    local HUNGRY = [[
      local pgq = require "pgq"
      local kept = {}
      pgq.register_queue("hungry", function(data)
        local ok, message = pcall(function()
          local mine = {}
          for i = 1, 400 do mine[i] = ("x"):rep(1000000 + i) end
        end)
        print(ok, message)
        collectgarbage()
      end)
      pgq.register_queue("leak", function() kept[#kept + 1] = ("x"):rep(4000000 + #kept) print("pid " .. require "luv".os_getpid()) end)]]

    it("gets an error beyond --max-memory, and its executor lives", function()
      enqueue("hungry", "")
      local result = Worker.run { pg = pg, script = HUNGRY, timeout = 60, args = { "--drain", "--executors", "2", "--max-memory", "200M" } }
      assert.matches("false\tnot enough memory", result.stdout)
      assert.is_nil(result.stderr:find "an executor died")
      enqueue("hungry", "")
      result = Worker.run { pg = pg, script = HUNGRY, timeout = 60, args = { "--drain", "--executors", "1" } }
      assert.matches("true", result.stdout)
    end)

    it("for JSON that does not fit fails, and its executor lives", function()
      enqueue("json", "")
      local result = Worker.run { pg = pg, timeout = 60, args = { "--drain", "--executors", "1", "--max-memory", "96M" }, script = [[
        local pgq = require "pgq"
        pgq.register_queue("json", function()
          local list = {}
          for i = 1, 400000 do list[i] = { a = i, b = "xxxxxxxxxx" } end
          pgq.json(list)
        end)]] }
      assert.is_nil(result.stderr:find "an executor died")
      assert.matches("not enough memory", pg:psql "SELECT error FROM pgq_jobs")
    end)

    it("has its executor replaced between jobs when that has grown", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'leak', '' FROM generate_series(1, 100)"
      local result = Worker.run { pg = pg, script = HUNGRY, timeout = 90, args = { "--drain", "--executors", "1", "--max-memory", "200M" } }
      assert.is_nil(result.stderr:find "an executor died")
      local pids, count = {}, 0
      for pid in result.stdout:gmatch "pid (%d+)" do
        count = count + (pids[pid] and 0 or 1)
        pids[pid] = true
      end
      assert.is_true(count >= 2, count .. " executors")
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end)

  it("does not share its executor with one that has run its number of jobs", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 50)"
    local result = Worker.run { pg = pg, args = { "--drain", "--executors", "1", "--max-jobs", "10" }, timeout = 60, script = [[
      require "pgq".register_queue("q", function() print("pid " .. require "luv".os_getpid()) end)]] }
    local pids, count = {}, 0
    for pid in result.stdout:gmatch "pid (%d+)" do
      pids[pid] = (pids[pid] or 0) + 1
    end
    for _, ran in pairs(pids) do
      count = count + 1
      assert.is_true(ran < 40, ran .. " jobs in one executor")
    end
    assert.is_true(count >= 2, count .. " executors")
    assert.is_nil(result.stderr:find "an executor died")
  end)

  it("is gone at once when its supervisor is killed, if it was held", function()
    local worker = start("--hold-limit", "1m")
    enqueue("sleep", "60000")
    worker:read_until "began"
    local executor = tonumber((process.check { "pgrep", "-P", worker.pid }))
    worker:kill "sigkill"
    worker:wait()
    local other = start()
    other:read_until("began 60000 attempt 1", 20) -- the server would give the transaction up after 62 s
    wait.till("the executor to be gone", 20, function() return not uv.kill(executor, 0) end)
    other:kill "sigkill"
    other:wait()
  end)
end)

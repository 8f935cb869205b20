local Proxy = require "spec.support.proxy"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

-- What the worker and the server know of each other differs for a while: an answer was lost, or only one of them has
-- heard that the connection is gone.
describe("a session that is lost", function()
  local pg = fixture.server { tcp = true }
  local proxy

  before_each(function() proxy = Proxy.listen(pg.port) end)
  after_each(function()
    Worker.kill_all()
    proxy:close()
  end)

  local function start(script, ...)
    return Worker.start {
      script = "local pgq = require 'pgq'\n" .. script,
      args = { "--db", proxy:conninfo(pg), "--poll-interval", "100ms", "--executors", "1", ... },
    }
  end

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  local function wait_until_done(worker)
    wait.till("all jobs to be done", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs" == "0", worker.stderr
    end)
  end

  describe("after a COMMIT, before its answer comes,", function()
    -- Cuts, once, the connection that has sent this prepared statement, when the answer to its COMMIT comes.
    local function cut_commit_of(statement)
      local cut = false
      function proxy.from_client(chunk, pair)
        pair.armed = pair.armed or (not cut and chunk:find("\0" .. statement .. "\0", 1, true) ~= nil)
      end
      function proxy.from_server(chunk, pair)
        if pair.armed and not cut and chunk:find("COMMIT\0", 1, true) then
          cut = true
          return "cut"
        end
      end
      return function() return cut end
    end

    -- Each job prints its attempts. What must be printed, by the statement whose COMMIT is not answered.
    local CASES = {
      { "lease", "leases a running job, lets it run on", "pgq.sleep(1)", "1" },
      { "complete_by_tid", "completes a job, does not run it again", "", "1" },
      { "complete_leased", "completes a leased job, does not run it again", "pgq.sleep(0.3)", "1" },
      { "fail", "fails a job, counts one attempt", "if job.attempt < 2 then error('no', 0) end", "1 2" },
      { "fail", "fails a leased job, counts one attempt", "if job.attempt < 2 then pgq.sleep(0.3) error('no', 0) end",
        "1 2" },
      { "snooze", "snoozes a job, counts no attempt", "if not seen then seen = true return pgq.snooze(0.2) end", "1 1" },
      { "snooze", "snoozes a leased job, counts no attempt",
        "if not seen then seen = true pgq.sleep(0.3) return pgq.snooze(0.2) end", "1 1" },
    }
    for _, case in ipairs(CASES) do
      local statement, what, body, attempts = unpack(case)
      it(what, function()
        local was_cut = cut_commit_of(statement)
        pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', '', '{0s,1h,1h}')"
        local worker = start(("pgq.register_queue('q', function(_, job) print('ran ' .. job.attempt)\n%s\nend)"):format(body),
          "--lease", "6s")
        worker:read_until "ran 1"
        wait_until_done(worker)
        worker:stop()
        assert.is_true(was_cut())
        local ran = {}
        for attempt in worker.stdout:gmatch "ran (%d+)" do
          ran[#ran + 1] = attempt
        end
        assert.equal(attempts, table.concat(ran, " "))
        assert.is_nil(worker.stderr:find "lease lost")
      end)
    end

    it("completes the job of a transactional handler, keeps what the handler wrote", function()
      pg:psql "CREATE TABLE IF NOT EXISTS written (n int)"
      local cut = false
      function proxy.from_client(chunk, pair) pair.armed = pair.armed or chunk:find("written", 1, true) ~= nil end
      function proxy.from_server(chunk, pair)
        if pair.armed and not cut and chunk:find("COMMIT\0", 1, true) then
          cut = true
          return "cut"
        end
      end
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('t', '', '{0s,1h}')"
      local worker = start [[pgq.register_queue("t", function(_, job)
        print("ran " .. job.attempt)
        assert(job.tx:query "INSERT INTO written VALUES (1)")
      end, { transactional = true, timeout = "5s" })]]
      worker:read_until "ran 1"
      wait_until_done(worker)
      worker:stop()
      assert.is_true(cut)
      assert.equal("1", pg:psql "SELECT count(*) FROM written")
      assert.equal(1, count(worker.stdout, "ran "))
    end)
  end)

  describe("without the server's hearing of it", function()
    it("keeps its jobs from nobody, and none of them runs again", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', n::text::bytea FROM generate_series(1, 200) n"
      local worker = start([[local uv = require "luv"
        pgq.register_queue("q", function(data) print("ran " .. data) uv.sleep(15) end)]], "--executors", "2")
      for _ = 1, 3 do
        worker:read_until "ran %d+"
        wait.sleep(0.4)
        assert.is_true(proxy:half_open() > 0)
      end
      wait_until_done(worker)
      worker:stop()
      assert.equal(200, count(worker.stdout, "ran "))
      assert.truthy(worker.stderr:find "the server had not noticed that a session was lost")
    end)

    it("keeps the jobs that wait, and those that have not begun", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', n::text::bytea FROM generate_series(1, 100) n"
      local worker = start [[pgq.register_queue("q", function(data, job)
        print("ran " .. data .. " attempt " .. job.attempt)
        pgq.sleep(0.5)
      end, { concurrency = 20 })]]
      for _ = 1, 3 do
        worker:read_until "ran %d+"
        wait.sleep(0.3)
        proxy:half_open()
      end
      wait_until_done(worker)
      worker:stop()
      assert.equal(100, count(worker.stdout, "ran "))
    end)

    it("gives the worker's row its lock back, so that the worker does not count as dead", function()
      local worker = start "pgq.register_queue('q', function() end)"
      worker:read_until "worker is serving"
      local function locks()
        return pg:psql [[SELECT count(*) FROM pg_locks JOIN pgq_workers ON objid = id
          WHERE locktype = 'advisory' AND classid = 'pgq_workers'::regclass AND granted]]
      end
      local function holder()
        return pg:psql [[SELECT max(pg_locks.pid) FROM pg_locks JOIN pgq_workers ON objid = id
          WHERE locktype = 'advisory' AND classid = 'pgq_workers'::regclass AND granted]]
      end
      assert.equal("1", locks())
      local old = holder()
      proxy:half_open()
      wait.till("another session to have the lock", 5, function()
        return locks() == "1" and holder() ~= old, worker.stderr
      end)
      worker:stop()
    end)
  end)
end)

describe("an outcome whose row is locked by another session", function()
  local pg = fixture.server { tcp = true }
  local Postgres_lock = [[SELECT pg_sleep(2) FROM (SELECT FROM pgq_jobs FOR UPDATE) AS locked]]

  it("is written when the row is unlocked, and the job does not run again", function()
    local proxy = Proxy.listen(pg.port)
    finally(function()
      Worker.kill_all()
      proxy:close()
    end)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '')"
    local process = require "spec.support.process"
    local worker = Worker.start {
      args = { "--db", proxy:conninfo(pg), "--executors", "1" },
      script = [[local pgq = require "pgq"
        pgq.register_queue("q", function() print "ran" require "luv".sleep(600) end)]],
    }
    worker:read_until "ran"
    proxy.refuses = true
    for pair in pairs(proxy.pairs) do -- both ends hear of it: the server unlocks the row
      pair.client:close_reset()
      pair.server:close_reset()
    end
    local locker = process.start { "psql", "-X", "-q", "-d", pg.conninfo, "-c", Postgres_lock }
    wait.till("the row to be locked", 5, function()
      return pg:psql "SELECT count(*) FROM (SELECT FROM pgq_jobs FOR UPDATE SKIP LOCKED) AS free" == "0"
    end)
    proxy.refuses = false
    wait.till("the job to be done", 20, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs" == "0", worker.stderr
    end)
    locker:wait()
    worker:stop()
    assert.equal(1, select(2, worker.stdout:gsub("ran", "")))
  end)
end)

describe("a lease that has ended while its job runs", function()
  local pg = fixture.server()
  local start = fixture.workers(pg, { args = { "--executors", "2", "--poll-interval", "100ms" } })

  -- As after a laptop was suspended, or a jump of the database's clock.
  local function end_leases()
    return pg:psql [[WITH ended AS (
        UPDATE pgq_jobs SET run_after = now() - interval '1 s' WHERE lease IS NOT NULL RETURNING id)
      SELECT count(*) FROM ended]]
  end

  for _, kind in ipairs { "plain", "transactional" } do
    it("is extended by a claim of its own worker: a " .. kind .. " job", function()
      local worker = start(([[pgq.register_queue("q", function(_, job)
        print("ran " .. job.attempt)
        pgq.sleep(3)
        print "ended"
      end, { transactional = %s, timeout = "30s" })]]):format(kind == "transactional"))
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'q', '', '{1h}' FROM generate_series(1, 3)"
      wait.till("the jobs to run", 10, function() return select(2, worker.stdout:gsub("ran 1", "")) == 3 end)
      wait.till("the leases to end", 10, function() return end_leases() == "3" end)
      wait.till("the leases to be extended", 10, function()
        return select(2, worker.stderr:gsub("extending it", "")) >= 3, worker.stderr
      end)
      wait.till("all jobs to be done", 20, function()
        return pg:psql "SELECT count(*) FROM pgq_jobs" == "0", worker.stderr
      end)
      worker:stop()
      assert.equal(3, select(2, worker.stdout:gsub("ran", "")))
      assert.equal(3, select(2, worker.stdout:gsub("ended", "")))
    end)
  end
end)

local uv = require "luv"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local pgq = require "pgq"
local wait = require "spec.support.wait"

describe("under a backlog", function()
  local pg = fixture.server()
  local conn

  setup(function() conn = assert(pgq.connect(pg.conninfo)) end)

  teardown(function() conn:close() end)

  -- Queues s1 … s10 of jobs that take 50 ms; `long`: 350 ms; `quick`: 0.1 ms; `instant`: so short that a claim brings
  -- 1000 of them. They print what data they are given, if any.
  local SCRIPT = [[
    local pgq = require "pgq"
    local uv = require "luv"
    local function say(data)
      if data ~= "" then print("ran " .. data) end
    end
    for i = 1, 10 do
      pgq.register_queue("s" .. i, function(data)
        uv.sleep(50)
        say(data)
      end)
    end
    pgq.register_queue("long", function() uv.sleep(350) end)
    local function spin(us)
      local till = uv.hrtime() + us * 1000
      while uv.hrtime() < till do end
    end
    pgq.register_queue("quick", function(data)
      spin(100)
      say(data)
    end)
    local ran = 0
    local function count(data)
      ran = ran + 1
      if ran % 10000 == 0 then print(("%d at %.0f"):format(ran, uv.hrtime())) end
      say(data)
    end
    pgq.register_queue("instant", function(data)
      spin(15)
      count(data)
    end)
    pgq.register_queue("other", count)]]

  local function start(...)
    local worker = Worker.start { pg = pg, script = SCRIPT, args = { "--executors", "1", "--poll-interval", "1h", ... } }
    worker:read_until "worker is serving"
    return worker
  end

  local function fill(queue, count, run_after)
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT '%s', '', %s FROM generate_series(1, %d) n"):format(
      queue, run_after or "now()", count))
  end

  local function count(queue)
    return tonumber(pg:psql(("SELECT count(*) FROM pgq_jobs WHERE queue_name = '%s'"):format(queue)))
  end

  -- Returns how many jobs of each queue are left, and the least and most of the queues whose names begin with s.
  local function look()
    local left, least, most = {}, math.huge, 0
    for name, jobs in pg:psql("SELECT queue_name, count(*) FROM pgq_jobs GROUP BY 1"):gmatch "(%w+)|(%d+)" do
      left[name] = tonumber(jobs)
      if name:sub(1, 1) == "s" then
        least, most = math.min(least, left[name]), math.max(most, left[name])
      end
    end
    return left, least, most
  end

  -- Waits until the worker has begun with the backlog, which is larger than what it can run during the spec.
  local function wait_for_progress(queue, before, least)
    wait.till(queue .. " to be under way", 30, function() return count(queue) <= before - (least or 1) end)
  end

  -- Enqueues more quick jobs than a worker can run during a spec.
  local MANY = 150000

  describe("of quick jobs", function()

    it("another queue waits for less than a second", function() -- or somewhat longer on a busy machine
      fill("instant", 400000)
      local worker = start()
      worker:read_until "20000 at"
      for i = 1, 5 do
        assert(conn:enqueue("other", "rare" .. i))
        worker:read_until("ran rare" .. i, 4)
        assert(conn:enqueue("s3", "slow" .. i))
        worker:read_until("ran slow" .. i, 4)
      end
      assert.is_true(count "instant" > 0)
    end)

    for what, sql in pairs {
      ["that was committed long after it began"] = "in a transaction",
      ["with a time long past"] = "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('quick', 'late', now() - interval '1 day')",
      ["that was released by hand"] = "UPDATE pgq_jobs SET run_after = now() - interval '1 day' WHERE data = 'late'",
      ["at the beginning of time"] = "UPDATE pgq_jobs SET run_after = '-infinity' WHERE data = 'late'",
    } do
      it("a job " .. what .. " is found within seconds", function()
        fill("quick", MANY)
        pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('quick', 'late', now() + interval '1 hour')"
        if sql == "in a transaction" then
          pg:psql "DELETE FROM pgq_jobs WHERE data = 'late'"
        end
        local worker
        assert(conn:transaction(function(tx)
          assert(tx:query "SELECT now()") -- a minute before this is below the floor in the end
          worker = start()
          wait_for_progress("quick", MANY, 5000)
          if sql == "in a transaction" then
            assert(tx:query "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('quick', 'late', now() - interval '1 min')")
          else
            assert(tx:query(sql))
          end
          return true
        end))
        worker:read_until("ran late", 20)
        assert.is_true(count "quick" > 0)
      end)
    end

    it("jobs of a worker that was killed are found within seconds, and none is lost", function()
      fill("quick", 30000)
      local first, second = start(), start()
      wait_for_progress("quick", 30000, 5000)
      first:kill "sigkill"
      first:wait()
      wait.till("all to be done", 90, function() return count "quick" == 0 end)
      second:stop()
    end)
  end)

  describe("of ten slow queues", function()
    local function fill_all(jobs)
      for i = 1, 10 do
        fill("s" .. i, jobs)
      end
    end

    it("no worker hoards, and each queue gets its turn", function()
      fill_all(100)
      start()
      start()
      wait.till("each to have had its turn", 60, function() return select(3, look()) < 98 end)
      local claimed = 0
      for _ = 1, 30 do
        -- The claims lock few jobs: one job runs in each worker, and few wait.
        claimed = math.max(claimed, tonumber(pg:psql [[SELECT (SELECT count(*) FROM pgq_jobs)
          - (SELECT count(*) FROM (SELECT FROM pgq_jobs FOR UPDATE SKIP LOCKED) AS free)]]))
        wait.sleep(0.05)
      end
      assert.is_true(claimed <= 6, claimed .. " jobs were claimed by two workers")
      local _, least, most = look()
      assert.is_true(most - least <= 5, ("%d to %d left"):format(least, most))
    end)

    it("two workers share the work", function()
      -- Both workers begin at the same time.
      local first, second = start("--log-level", "debug"), start("--log-level", "debug")
      fill_all(30)
      wait.till("all to be done", 90, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
      first:stop()
      second:stop()
      for _, worker in ipairs { first, second } do
        local _, jobs = worker.stderr:gsub("job completed", "")
        assert.is_true(jobs >= 75, jobs .. " of 300 jobs")
      end
    end)

    for _, i in ipairs { 3, 8 } do
      it("a job below the floor of queue " .. i .. " is found within seconds", function()
        fill_all(200)
        local worker = start()
        wait_for_progress("s" .. i, 200, 2)
        pg:psql(("INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('s%d', 'late', now() - interval '1 day')"):format(i))
        worker:read_until("ran late", 30)
      end)
    end

    it("beside a quick queue, all of them make progress", function()
      fill_all(200)
      fill("quick", MANY)
      start()
      wait.till("all to be under way", 60, function()
        local left, _, most = look()
        assert(left.quick, "no quick job is left")
        return most < 199 and left.quick < MANY - 5000, most .. " of one, " .. left.quick .. " quick ones were left"
      end)
      assert.is_true(count "quick" > 0)
    end)
  end)

  it("no worker hoards jobs that outlive the hold", function()
    fill("long", 500)
    start("--hold-limit", "100ms")
    local most = 0
    for _ = 1, 60 do
      wait.sleep(0.05)
      most = math.max(most, tonumber(pg:psql [[SELECT (SELECT count(*) FROM pgq_jobs WHERE lease IS NULL)
        - (SELECT count(*) FROM (SELECT FROM pgq_jobs WHERE lease IS NULL FOR UPDATE SKIP LOCKED) AS free)]]))
    end
    assert.is_true(most <= 4, most .. " jobs were claimed at a time")
  end)

  describe("claims stay quick", function()
    it("while a snapshot of another session keeps all dead rows", function()
      fill("other", 200000)
      local done, problem = conn:transaction(function(tx)
        assert(tx:query "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert(tx:query "SELECT count(*) FROM pgq_jobs")
        local worker, took, last = start(), {}, nil
        for i = 1, 20 do
          local at = tonumber((worker:read_until(i * 10000 .. " at (%d+)", 60))) / 1e6
          took[i] = at - (last or at)
          last = at
        end
        -- The machine may stand still at any time, so this compares a median of the first claims with the best of the
        -- last.
        local first, best = { unpack(took, 2, 8) }, math.min(unpack(took, 14, 20))
        table.sort(first)
        assert.is_true(best < 2 * first[4], ("10,000 jobs took %.0f ms, then %.0f"):format(first[4], best))
        return true
      end)
      assert(done, problem)
    end)

    it("for a claim of one job behind 200,000 dead rows", function()
      local worker = start()
      local theirs = assert(pgq.connect(pg.conninfo))
      -- The median time of sixty jobs, in ms.
      local function median(name)
        local took = {}
        for i = 1, 60 do
          local began = uv.hrtime()
          assert(theirs:enqueue("other", name .. i .. "."))
          worker:read_until("ran " .. name .. i .. "%.")
          took[i] = (uv.hrtime() - began) / 1e6
        end
        table.sort(took)
        return took[30]
      end
      local before, behind = median "before", nil
      local done, problem = conn:transaction(function(tx)
        assert(tx:query "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert(tx:query "SELECT count(*) FROM pgq_jobs")
        fill("other", 200000, "now() - interval '1 hour' + n * interval '1 us'")
        pg:psql "DELETE FROM pgq_jobs"
        behind = median "behind"
        return true
      end)
      theirs:close()
      assert(done, problem)
      assert.is_true(behind < 10 + 3 * before, ("half of the jobs took more than %.1f ms, and %.1f before"):format(behind, before))
    end)

    it("in a table that was vacuumed while it was empty, because claims never scan the whole table", function()
      pg:psql "ALTER TABLE pgq_jobs SET (autovacuum_enabled = off); VACUUM ANALYZE pgq_jobs"
      finally(function() pg:psql "ALTER TABLE pgq_jobs RESET (autovacuum_enabled)" end)
      local function counted(what)
        return tonumber(pg:psql(("SELECT %s FROM pg_stat_user_tables WHERE relname = 'pgq_jobs'"):format(what)))
      end
      conn:close() -- a session reports its statistics at its end, at the latest
      wait.till("all sessions to have ended", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'" == "1"
      end)
      local scans, deleted = counted "seq_scan", counted "n_tup_del"
      conn = assert(pgq.connect(pg.conninfo))
      local worker = start()
      for i = 1, 15 do -- after a few executions, Postgres would keep a generic plan
        assert(conn:enqueue("other", "job" .. i))
        worker:read_until("ran job" .. i)
      end
      fill("other", 100000)
      worker:read_until("100000 at", 90)
      worker:stop() -- its sessions report their statistics at their end
      wait.till("that to be reported", 30, function() return counted "n_tup_del" >= deleted + 100000 end)
      assert.equal(scans, counted "seq_scan")
    end)
  end)
end)

local uv = require "luv"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local bell = require "spec.support.bell"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("a worker", function()
  local pg = fixture.server()

  -- Enqueues by SQL; `rest` are further arguments of pgq_enqueue.
  local function enqueue(queue, data, rest)
    return pg:psql(("SELECT pgq_enqueue('%s', '%s'%s)"):format(queue, data or "", rest and ", " .. rest or ""))
  end

  local function drain(script, options)
    options = options or {}
    local args = { "--drain", "--log-level", "debug", unpack(options.args or {}) }
    local result = Worker.run { pg = pg, script = script, args = args, env = options.env, timeout = 60,
      script_args = options.script_args }
    assert.equal(0, result.status, result.stderr)
    return result
  end

  local ECHO = [[
    local pgq = require "pgq"
    pgq.register_queue("echo", function(data, job) print("ran " .. data) end)]]

  local FAIL = [[
    local pgq = require "pgq"
    pgq.register_queue("fail", function(data) error("no luck with " .. data) end)]]

  describe("that drains", function()
    it("runs all that is due, deletes it, and exits 0", function()
      for i = 1, 250 do
        enqueue("echo", "job" .. i)
      end
      local result = drain(ECHO)
      local seen = {}
      for name in result.stdout:gmatch "ran (job%d+)\n" do
        assert.is_nil(seen[name], name .. " ran twice")
        seen[name] = true
      end
      for i = 1, 250 do
        assert.is_true(seen["job" .. i], "job" .. i .. " did not run")
      end
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it("leaves other queues, future jobs and ended jobs alone", function()
      enqueue("other", "x")
      enqueue("echo", "later", "now() + interval '1 hour'")
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, ran_at) VALUES ('echo', 'ended', now())"
      local result = drain(ECHO)
      assert.is_nil(result.stdout:find "ran ")
      assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it("runs the jobs that its handlers enqueue, and those that are retried at once", function()
      enqueue("first", "x")
      local result = drain [[
        local pgq = require "pgq"
        pgq.register_queue("first", function() assert(pgq.enqueue("second", "y", { retry_waits = { 0, 0 } })) end)
        pgq.register_queue("second", function(data, job)
          print("attempt " .. job.attempt)
          if job.attempt < 3 then error("again") end
        end)]]
      assert.matches("attempt 1\nattempt 2\nattempt 3\n", result.stdout)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it("runs jobs of one queue in the order they fall due, with one executor", function()
      enqueue("echo", "third", "now() - interval '1 second'")
      enqueue("echo", "first", "now() - interval '1 hour'")
      enqueue("echo", "second", "now() - interval '1 minute'")
      local result = drain(ECHO, { args = { "--executors", "1" } })
      assert.equal("ran first\nran second\nran third\n", result.stdout)
    end)

    it("takes turns between queues, so that a busy queue does not delay another", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'busy', '', now() - interval '1 hour' FROM generate_series(1, 20)"
      enqueue("rare", "x")
      local result = drain([[
        local pgq = require "pgq"
        local uv = require "luv"
        pgq.register_queue("busy", function() uv.sleep(60) print("busy") end)
        pgq.register_queue("rare", function() print("rare") end)]], { args = { "--executors", "1" } })
      local _, before = result.stdout:match("^(.-)rare"):gsub("busy", "")
      assert.is_true(before <= 2, before .. " jobs of the busy queue ran before the rare one")
    end)
  end)

  describe("after a success", function()
    it("keeps the job with --preserve-completed, with ran_at and without an error", function()
      enqueue("echo", "x")
      drain(ECHO, { args = { "--preserve-completed" } })
      assert.equal("t|t|1|t",
        pg:psql "SELECT ran_at BETWEEN now() - interval '1 minute' AND now(), error IS NULL, attempt, data = 'x' FROM pgq_jobs")
    end)

    it("forgets the error of an earlier attempt", function()
      enqueue("echo", "x")
      drain([[
        local pgq = require "pgq"
        pgq.register_queue("echo", function(data, job) if job.attempt == 1 then error("first") end end)]],
        { args = { "--preserve-completed" } })
      assert.equal("1|t|{10m0s,30m0s}", pg:psql "SELECT attempt, error LIKE '%first', retry_waits FROM pgq_jobs")
      pg:psql "UPDATE pgq_jobs SET run_after = now()"
      drain(ECHO, { args = { "--preserve-completed" } })
      assert.equal("2||t", pg:psql "SELECT attempt, error, ran_at IS NOT NULL FROM pgq_jobs")
    end)
  end)

  describe("after a failure", function()
    it("puts the same row back with the next wait taken from retry_waits", function()
      local id = enqueue("fail", "x", "now(), '{1h,2h}'")
      drain(FAIL)
      assert.equal(id .. "|1|{2h}|t|t|t", pg:psql [[
        SELECT id, attempt, retry_waits, error LIKE '%worker.lua:2: no luck with x', ran_at IS NULL,
          run_after BETWEEN now() + interval '59 minutes' AND now() + interval '1 hour' FROM pgq_jobs]])
    end)

    it("counts the wait from the end of the attempt, not from its start", function()
      enqueue("slow", "x", "now(), '{10s}'")
      drain [[
        local pgq = require "pgq"
        pgq.register_queue("slow", function() require "luv".sleep(1500) error("slow and bad") end)]]
      assert.equal("t", pg:psql "SELECT run_after > created_at + interval '11.4 seconds' FROM pgq_jobs")
    end)

    it("keeps the job as failed when no wait is left", function()
      enqueue("fail", "x", "now(), '{}'")
      local result = drain(FAIL)
      assert.equal("1|{}|t|t", pg:psql
        "SELECT attempt, retry_waits, error LIKE '%no luck with x', ran_at IS NOT NULL FROM pgq_jobs")
      assert.matches('level=error msg="job failed for good" queue=fail job=1 attempt=1 duration=[%d.]+ error=', result.stderr)
    end)

    it("deletes it with --discard-failed when no wait is left, and not before", function()
      enqueue("fail", "x", "now(), '{1h}'")
      enqueue("fail", "y", "now(), '{}'")
      drain(FAIL, { args = { "--discard-failed" } })
      assert.equal("x", pg:psql "SELECT convert_from(data, 'UTF8') FROM pgq_jobs")
    end)

    it("retries after 1, 10 and 30 minutes by default", function()
      enqueue("fail", "x")
      for _, wait_minutes in ipairs { 1, 10, 30 } do
        drain(FAIL)
        assert.equal("t|t", pg:psql(([[SELECT run_after - now() BETWEEN interval '%d minutes' - interval '50 s'
          AND interval '%d minutes', ran_at IS NULL FROM pgq_jobs]]):format(wait_minutes, wait_minutes)))
        pg:psql "UPDATE pgq_jobs SET run_after = now()"
      end
      drain(FAIL)
      assert.equal("4|{}|t", pg:psql "SELECT attempt, retry_waits, ran_at IS NOT NULL FROM pgq_jobs")
    end)

    it("fails the one job whose retry_waits cannot be read, by name, and runs the others", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES
        ('echo', 'a', '{soon}'), ('echo', 'b', '{1m,NULL}'), ('echo', 'c', '{{1m},{2m}}'), ('echo', 'd', '{-5m}'),
        ('echo', 'good', '{1m}'), ('echo', 'none', '{}'), ('echo', 'go', '{1h2m3.5s,1µs}')]]
      local result = drain(ECHO)
      assert.equal("ran go\nran good\nran none\n", (function()
        local lines = {}
        for line in result.stdout:gmatch "[^\n]+\n" do lines[#lines + 1] = line end
        table.sort(lines)
        return table.concat(lines)
      end)())
      assert.equal(table.concat({
        "a|t|1|retry_waits cannot be read: element 1, 'soon', has a unit without a number; write durations such as 10m0s",
        "b|t|1|retry_waits cannot be read: element 2, '', is null; write durations such as 10m0s",
        "c|t|1|retry_waits cannot be read: it is not a one-dimensional array",
        "d|t|1|retry_waits cannot be read: element 1, '-5m', is negative; write durations such as 10m0s",
      }, "\n"), pg:psql "SELECT convert_from(data, 'UTF8'), ran_at IS NOT NULL, attempt, error FROM pgq_jobs ORDER BY id")
    end)

    it("takes the next wait of an array whose numbering does not start at 1", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('fail', 'x', '[0:1]={1h,2h}')"
      drain(FAIL)
      assert.equal("{2h}|t", pg:psql "SELECT retry_waits, run_after > now() + interval '59 minutes' FROM pgq_jobs")
    end)
  end)

  describe("with nothing due", function()
    local worker

    after_each(function()
      if worker then
        worker:stop()
        worker = nil
      end
    end)

    local function start(script, ...)
      worker = Worker.start { pg = pg, script = script, args = { "--log-level", "debug", ... } }
      worker:read_until "worker is serving"
      wait.till("the worker's flag to be up", 30, function()
        return pg:psql [[SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'
          AND classid = 'pgq_jobs'::regclass AND objid >= 256 AND granted)]] == "t"
      end)
    end

    it("sleeps for the polling interval when no session rings", function()
      start([[
        require "pgq".register_queue("echo", function(data)
          local s, us = require "luv".gettimeofday()
          print(("ran %s at %.6f"):format(data, s + us / 1e6))
        end)]], "--poll-interval", "1500ms", "--executors", "1")
      for _, data in ipairs { "x", "y" } do
        local stirred = bell.wait_still(pg, "pgq-lua")
        pg:psql(("SET pgq.bell = off; INSERT INTO pgq_jobs (queue_name, data) VALUES ('echo', '%s')"):format(data))
        local ran = tonumber((worker:read_until("ran " .. data .. " at ([%d.]+)")))
        -- The worker may have looked once more before the job was there.
        local slept = ran - tonumber(pg:psql(("SELECT extract(epoch FROM '%s'::timestamptz)"):format(stirred)))
        assert.is_true(slept > 1.4 and slept < 8, ("slept %.3f s"):format(slept))
      end
    end)

    it("wakes for a job that falls due earlier", function()
      enqueue("echo", "x", "clock_timestamp() + interval '3 seconds'")
      start(ECHO, "--poll-interval", "1h", "--executors", "2")
      worker:read_until("ran x", 20)
      assert.equal("f", pg:psql "SELECT EXISTS (SELECT FROM pgq_jobs WHERE run_after > now())")
    end)

    it("wakes for a retry of its own", function()
      enqueue("again", "x", "now(), '{700ms}'")
      worker = Worker.start { pg = pg, args = { "--poll-interval", "1h" }, script = [[
        local pgq = require "pgq"
        pgq.register_queue("again", function(data, job)
          print(("attempt %d at %.0f"):format(job.attempt, require "luv".hrtime() / 1e6))
          if job.attempt == 1 then error("first") end
        end)]] }
      local first = tonumber((worker:read_until "attempt 1 at (%d+)"))
      local took = tonumber((worker:read_until "attempt 2 at (%d+)")) - first
      assert.is_true(took >= 699 and took < 8000, ("took %d ms"):format(took))
    end)

    it("finds a job again after the session that held it died", function()
      enqueue("echo", "held")
      local holder = process.start { "psql", "-X", "-d", pg.conninfo, stdin = "pipe" }
      holder:write "BEGIN; SELECT 'locked', id FROM pgq_jobs FOR UPDATE;\n"
      holder:read_until "locked"
      start(ECHO, "--poll-interval", "1h", "--executors", "2")
      holder:kill "sigkill"
      holder:wait()
      worker:read_until("ran held", 10)
    end)
  end)

  describe("whose handler asks for backoff", function()
    it("pauses that queue 100 ms, doubling, while other queues go on, until a success", function()
      pg:psql "SELECT pgq_enqueue('down', '', now(), '{0s,0s,0s,0s,0s,0s}')"
      local began = uv.hrtime()
      local worker = Worker.start { pg = pg, args = { "--poll-interval", "1h", "--executors", "1" }, script = [[
        local pgq = require "pgq"
        pgq.register_queue("down", function(data, job)
          if job.attempt <= 6 then
            error(pgq.backoff("server is down"))
          end
          print("up again")
        end)
        pgq.register_queue("echo", function(data) print("ran " .. data) end)]] }
      worker:read_until "pause=0.800000"
      enqueue("echo", "meanwhile")
      worker:read_until "up again"
      local took = (uv.hrtime() - began) / 1e9
      assert.is_true(took >= 6.3, "six pauses took " .. took)
      for _, pause in ipairs { "0.100000", "0.200000", "0.400000", "0.800000", "1.600000", "3.200000" } do
        assert.matches("queue backs off. queue=down job=%d+ error=.server is down. pause=" .. pause, worker.stderr)
      end
      assert.matches("ran meanwhile.*up again", worker.stdout)
      worker:stop()
    end)

    it("does not run the rest of the batch during the pause", function()
      local script = [[
        local pgq = require "pgq"
        pgq.register_queue("mail", function(data)
          if data == "down" then return pgq.backoff("down") end
        end)]]
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'mail', 'fine' FROM generate_series(1, 2000)"
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'mail', 'down' FROM generate_series(1, 500)"
      local worker = Worker.start { pg = pg, args = { "--executors", "2", "--poll-interval", "1h" }, script = script }
      worker:read_until "pause=0.400000"
      worker:stop()
      local tried = tonumber(pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt > 0")
      assert.is_true(tried >= 3 and tried <= 30, tried .. " jobs were tried")
    end)

    it("drains to the end of the pause when jobs of the paused queue are due", function()
      pg:psql "SELECT pgq_enqueue('down', '', now(), '{0s}')"
      local result = drain [[
        local pgq = require "pgq"
        pgq.register_queue("down", function(data, job)
          if job.attempt == 1 then return pgq.backoff() end
          print("done")
        end)]]
      assert.matches("done", result.stdout)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end)

  describe("in pgq_workers", function()
    it("has a row while it runs, and none after a clean stop", function()
      local worker = Worker.start { pg = pg, script = ECHO, args = { "--executors", "1" } }
      wait.till("the worker's row", 30, function()
        return pg:psql(("SELECT host = '%s', pid = %d, version <> '', queues, started_at <= now(), last_seen_at <= now() FROM pgq_workers")
          :format(uv.os_gethostname(), worker.pid)) == "t|t|t|{echo}|t|t"
      end)
      worker:stop()
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_workers")
    end)

    it("updates its row every ten seconds, and inserts it again if it was removed", function()
      local worker = Worker.start { pg = pg, script = ECHO, args = { "--executors", "1" } }
      wait.till("the worker's row", 30, function() return pg:psql "SELECT count(*) FROM pgq_workers" == "1" end)
      wait.till("a heartbeat", 30, function()
        return pg:psql "SELECT last_seen_at > started_at FROM pgq_workers" == "t"
      end)
      pg:psql "DELETE FROM pgq_workers"
      wait.till("the row to come back", 60, function() return pg:psql "SELECT count(*) FROM pgq_workers" == "1" end)
      worker:stop()
    end)

    it("deletes the rows of dead workers, and keeps those of living workers", function()
      local other = Worker.start { pg = pg, script = ECHO, args = { "--executors", "1" } }
      wait.till("the other's row", 30, function() return pg:psql "SELECT count(*) FROM pgq_workers" == "1" end)
      pg:psql "INSERT INTO pgq_workers (host, pid, version) VALUES ('vanished', 1, 'x')"
      other:read_until("a worker died: [^\n]* host=vanished pid=1", 30, "stderr")
      assert.equal(tostring(other.pid), pg:psql "SELECT pid FROM pgq_workers")
      other:stop()
    end)
  end)

  describe("and its script", function()
    it("sees arg and ... as under luajit", function()
      local script = [[
        print("arg", arg[0], arg[1], arg[2], #arg, select("#", ...), (...), arg[-1] ~= nil)
        require "pgq".register_queue("q", function() end)]]
      local mine = drain(script, { script_args = { "--one", "two words" } })
      local path = mine.stdout:match "arg\t(%S+)"
      assert.equal(("arg\t%s\t--one\ttwo words\t2\t2\t--one\ttrue\n"):format(path), mine.stdout:match "[^\n]*\n")
    end)

    it("configures what options do, and an option on the command line wins", function()
      enqueue("q", "x")
      local script = [[
        local pgq = require "pgq"
        pgq.configure { preserve_completed = true, poll_interval = 0.25, executors = 1, log_level = "warn" }
        pgq.register_queue("q", function() end)]]
      local result = Worker.run { pg = pg, script = script, args = { "--drain" } }
      assert.equal(0, result.status)
      assert.equal("", result.stderr)
      assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL")
      result = Worker.run { pg = pg, script = script, args = { "--drain", "--log-level", "info" },
        env = { PGQ_PRESERVE_COMPLETED = "no" } }
      assert.matches("executors=1", result.stderr)
      enqueue("q", "y")
      Worker.run { pg = pg, script = script, args = { "--drain" }, env = { PGQ_PRESERVE_COMPLETED = "no" } }
      assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it("may preserve or discard per queue", function()
      for _, queue in ipairs { "kept", "gone" } do
        enqueue(queue, "fine")
        enqueue(queue, "bad", "now(), '{}'")
      end
      drain [[
        local pgq = require "pgq"
        local function handler(data) return data == "fine", "bad data" end
        pgq.register_queue("kept", handler, { preserve_completed = true })
        pgq.register_queue("gone", handler, { discard_failed = true })]]
      assert.equal("bad|bad data\nfine|", pg:psql "SELECT convert_from(data, 'UTF8'), error FROM pgq_jobs ORDER BY 1")
    end)

    it("finds its database in DATABASE_URL, or in libpq's own variables", function()
      enqueue("echo", "url")
      local result = Worker.run { script = ECHO, args = { "--drain" }, env = { DATABASE_URL = pg.conninfo } }
      assert.equal("ran url\n", result.stdout)
      enqueue("echo", "variables")
      result = Worker.run { script = ECHO, args = { "--drain" },
        env = { DATABASE_URL = false, PGHOST = pg.dir, PGPORT = pg.port, PGUSER = "postgres", PGDATABASE = "postgres" } }
      assert.equal("ran variables\n", result.stdout)
    end)
  end)

  it("runs as many executors as it is told, side by side", function()
    for _ = 1, 4 do
      enqueue("meet", "x")
    end
    local dir = assert(uv.fs_mkdtemp "/tmp/pgq-spec-meet-XXXXXX")
    finally(function() process.check { "rm", "-rf", dir } end)
    -- None ends before all have begun.
    local result = drain([[
      local uv = require "luv"
      local dir, number = arg[1], 4
      require "pgq".register_queue("meet", function(data, job)
        io.open(dir .. "/" .. job.id, "w"):close()
        local deadline = uv.hrtime() + 40e9
        for id = 1, number do
          while not uv.fs_stat(dir .. "/" .. id) and uv.hrtime() < deadline do uv.sleep(10) end
        end
        print("pid " .. uv.os_getpid() .. (uv.hrtime() < deadline and "" or " waited in vain"))
      end)]], { args = { "--executors", "4" }, script_args = { dir } })
    local pids, count = {}, 0
    for pid in result.stdout:gmatch "pid (%d+)" do
      count = count + (pids[pid] and 0 or 1)
      pids[pid] = true
    end
    assert.equal(4, count)
    assert.is_nil(result.stdout:find "in vain", result.stdout)
  end)

  it("drains at once, however many executors look for the last job", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'short', n::text::bytea FROM generate_series(1, 40) n"
    -- An executor that did not notice the end would sleep for the polling interval.
    drain([[require "pgq".register_queue("short", function() require "luv".sleep(50) end)]],
      { args = { "--executors", "16", "--poll-interval", "1h" } })
  end)

  it("takes no processor time with many executors and nothing to do", function()
    local worker = Worker.start { pg = pg, script = ECHO, args = { "--executors", "8", "--poll-interval", "1h" } }
    local function ticks()
      local file = assert(io.open(("/proc/%d/stat"):format(worker.pid)))
      local user, system = file:read("*a"):match "%) %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ (%d+) (%d+)"
      file:close()
      return user + system
    end
    worker:read_until "worker is serving"
    for i = 1, 20 do
      enqueue("echo", tostring(i))
    end
    worker:read_until "ran 20"
    wait.till("the worker to be idle for a second", 60, function()
      local before = ticks()
      wait.sleep(1)
      return ticks() - before <= 3
    end)
    worker:stop()
  end)

  it("shares the work with other workers without running a job twice", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'echo', n::text::bytea FROM generate_series(1, 3000) n"
    local workers = {}
    for i = 1, 3 do
      workers[i] = Worker.start { pg = pg, script = ECHO, args = { "--drain", "--executors", "1" } }
    end
    local seen, count = {}, 0
    for i = 1, 3 do
      local result = workers[i]:wait(60)
      assert.equal(0, result.status)
      for n in result.stdout:gmatch "ran (%d+)" do
        assert.is_nil(seen[n], "job " .. n .. " ran twice")
        seen[n] = true
        count = count + 1
      end
    end
    assert.equal(3000, count)
  end)
end)

-- Pausing and resuming queues: the commands, the SQL functions, and what workers do.

local Pgbouncer = require "spec.support.pgbouncer"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("a queue", function()
  local pg = fixture.server {
    clean = "TRUNCATE pgq_queues, pgq_audit RESTART IDENTITY; TRUNCATE begun",
    sql = "CREATE TABLE begun (id bigint, queue text, at timestamptz DEFAULT clock_timestamp())",
  }
  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg)

  local function command(...)
    return process.run { PGQ_LUA, "--db", pg.conninfo, ... }
  end

  local function run(...)
    local result = command(...)
    assert.equal(0, result.status, result.stderr)
    return result.stdout, result.stderr
  end

  local function number(sql) return tonumber(pg:psql(sql)) end

  local function due(queue)
    return number("SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL AND attempt = 0 AND queue_name = '" .. queue .. "'")
  end

  local function wait_till_due(queue, count)
    wait.till(("%d due jobs of %s"):format(count, queue), 30, function()
      local left = due(queue)
      return left == count, left
    end)
  end

  local IDLE = 'pgq.register_queue("a", function() end) pgq.register_queue("b", function() end)'

  -- Jobs note when they begin.
  local NOTING = [[
    local function handler(data, job)
      pgq.query("INSERT INTO begun (id, queue) VALUES ($1, $2)", job.id, job.queue)
      pgq.sleep(tonumber(data) or 0)
    end
    pgq.register_queue("a", handler)
    pgq.register_queue("b", handler)]]

  it("is not claimed by a worker that starts while it is paused, and others are", function()
    enqueue("a", "", 5)
    enqueue("b", "", 5)
    run("pause", "a")
    local worker = start(NOTING)
    wait_till_due("b", 0)
    worker:read_until("level=info msg=\"queue is paused\" queue=a until=infinity by=postgres", 30, "stderr")
    wait.sleep(0.5)
    worker:stop()
    assert.equal(5, due "a")
    assert.equal(0, number "SELECT count(*) FROM begun WHERE queue = 'a'")
  end)

  it("that is paused does not keep --drain, whether it is the only one or not", function()
    enqueue("a", "", 5)
    enqueue("b", "", 5)
    run("pause", "a")
    drain(IDLE)
    assert.equal(5, due "a")
    assert.equal(0, due "b")
    run("pause", "b")
    enqueue("b", "", 5)
    drain(IDLE)
    assert.equal(5, due "a")
    assert.equal(5, due "b")
  end)

  it("that is paused while --drain waits for running jobs does not keep it when these have ended", function()
    enqueue("a", "0.5", 1)
    enqueue("b", "", 1)
    local worker = start(NOTING, "--drain", "--concurrency", "1", "--executors", "2")
    wait.till("both jobs to begin", 30, function() return number "SELECT count(*) FROM begun" == 2 end)
    run("pause", "a")
    enqueue("a", "", 3)
    assert.equal(0, worker:wait(30).status)
  end)

  -- The time is taken several times, since this machine may stand still for a moment.
  it("is paused and resumed in three workers within 200 ms", function()
    local workers, best = {}, { pause = math.huge, resume = math.huge }
    for i = 1, 3 do workers[i] = start(IDLE) end
    for _, worker in ipairs(workers) do worker:read_until "worker is serving" end
    local function change(verb, text)
      wait.sleep(0.1)
      pg:psql(("SELECT pgq_%s('a')"):format(verb))
      local began = uv.hrtime()
      for _, worker in ipairs(workers) do worker:read_until(text, 30, "stderr") end
      best[verb] = math.min(best[verb], (uv.hrtime() - began) / 1e9)
    end
    for _ = 1, 10 do
      change("pause", "queue is paused")
      change("resume", "queue is not paused any more")
      if best.pause <= 0.2 and best.resume <= 0.2 then break end
    end
    assert.is_true(best.pause <= 0.2 and best.resume <= 0.2, best.pause .. " " .. best.resume)
    for _, worker in ipairs(workers) do worker:stop() end
  end)

  it("that is paused under load begins no job in any of three workers until it is resumed", function()
    local workers = {}
    enqueue("a", "0.02", 3000)
    enqueue("b", "0.02", 3000)
    for i = 1, 3 do workers[i] = start(NOTING) end
    wait.till("some jobs to begin", 30, function() return number "SELECT count(*) FROM begun WHERE queue = 'a'" > 100 end)
    run("pause", "a", "--reason", "maintenance of mail")
    for _, worker in ipairs(workers) do
      worker:read_until('queue is paused" queue=a until=infinity by=postgres reason="maintenance of mail"', 30, "stderr")
    end
    -- Jobs that had begun have ended, and those that had not are back, when no row of the queue is locked or leased.
    wait.till("the workers to have no job of the queue", 30, function()
      return pg:psql [[SELECT (SELECT count(*) FROM pgq_jobs WHERE queue_name = 'a') = (SELECT count(*) FROM (SELECT FROM pgq_jobs
        WHERE queue_name = 'a' AND lease IS NULL FOR UPDATE SKIP LOCKED) AS free)]] == "t"
    end)
    local begun, left = number "SELECT count(*) FROM begun WHERE queue = 'a'", due "a"
    assert.is_true(left > 0)
    assert.equal(3000, begun + left)
    wait.till("the other queue to be done", 60, function() return due "b" == 0 end)
    wait.sleep(0.5)
    assert.equal(begun, number "SELECT count(*) FROM begun WHERE queue = 'a'")
    run("resume", "a")
    wait_till_due("a", 0)
    for _, worker in ipairs(workers) do worker:stop() end
    assert.equal("3000", pg:psql "SELECT count(*) FROM begun WHERE queue = 'a'") -- each once
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  -- Without this, the jobs that the executor has received begin until the hold limit is over, one after the other. The
  -- machine may stand still between the pause and the notification; so the least number counts.
  it("gets back jobs that were claimed and have not begun", function()
    local worker, least, seen = start [[
      pgq.register_queue("a", function(data)
        if data ~= "slow" then return end
        local seconds, us = uv.gettimeofday()
        print(("begun %.6f"):format(seconds + us / 1e6))
        spin(0.1)
      end)]], math.huge, 1
    worker:read_until "worker is serving"
    for _ = 1, 6 do
      enqueue("a", "quick", 1000) -- many of them fit into a claim, and so the next claim brings many slow ones
      enqueue("a", "slow", 40)
      worker:read_until "begun"
      run("pause", "a")
      worker:read_until("queue is paused", 30, "stderr")
      wait.sleep(1.5)
      local paused_at, begun = number "SELECT extract(epoch FROM paused_at) FROM pgq_queues", 0
      for at in worker.stdout:sub(seen):gmatch "begun (%S+)" do
        if tonumber(at) > paused_at then begun = begun + 1 end
      end
      seen, least = #worker.stdout + 1, math.min(least, begun)
      pg:psql "DELETE FROM pgq_jobs"
      run("resume", "a")
      worker:read_until("not paused any more", 30, "stderr")
      if least <= 2 then break end
    end
    assert.is_true(least <= 2, least)
    worker:stop()
  end)

  it("gives back transactional jobs that were leased and have not begun", function()
    local worker = start [[
      pgq.register_queue("a", function(data, job)
        job.tx:query("INSERT INTO begun (id, queue) VALUES ($1, 'a')", job.id)
        pgq.sleep(0.3)
      end, { transactional = true })]]
    enqueue("a", "", 200)
    worker:read_until "worker is serving"
    wait.till("jobs to be leased", 30, function() return number "SELECT count(lease) FROM pgq_jobs" > 0 end)
    run("pause", "a")
    worker:read_until("queue is paused", 30, "stderr")
    wait.till("no job to be leased", 30, function() return number "SELECT count(lease) FROM pgq_jobs" == 0 end)
    assert.equal(200, due "a" + number "SELECT count(*) FROM begun")
    assert.is_true(due "a" > 0)
    worker:stop()
  end)

  it("lets running jobs end, and retries them after the pause", function()
    local worker = start [[
      pgq.register_queue("a", function(_, job)
        print("begins", job.attempt)
        if job.attempt > 1 then return end
        pgq.sleep(1)
        print "ends"
        error "once"
      end)]]
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('a', '', '{10ms}')"
    worker:read_until "begins\t1"
    run("pause", "a")
    worker:read_until "ends"
    wait.till("the failure to be written", 30, function() return pg:psql("SELECT error FROM pgq_jobs"):find "once" end)
    wait.sleep(0.5)
    assert.not_matches("begins\t2", worker.stdout)
    run("resume", "a")
    worker:read_until "begins\t2"
    worker:stop()
  end)

  it("is not paused any more at the end of the pause, by the database's clock", function()
    local worker = start(NOTING)
    worker:read_until "worker is serving"
    local said = run("pause", "a", "--for", "1.5s")
    assert.matches("^a is paused until 20%d%d%-", said)
    worker:read_until("queue is paused", 30, "stderr")
    enqueue("a", "", 3)
    wait_till_due("a", 0)
    worker:stop()
    assert.equal("t", pg:psql "SELECT min(at) >= paused_until FROM begun, pgq_queues GROUP BY paused_until")
    assert.equal("t", pg:psql "SELECT min(at) < paused_until + interval '8 s' FROM begun, pgq_queues GROUP BY paused_until")
  end)

  it("prints a name whose characters cannot be seen with escapes", function()
    assert.equal("a\\x1b[31m\\n is paused until it is resumed\n", run("pause", "a\27[31m\n"))
    assert.equal("a\\x1b[31m\\n is resumed\n", run("resume", "a\27[31m\n"))
  end)

  it("whose pause is changed is paused until the new end", function()
    local worker = start(NOTING)
    worker:read_until "worker is serving"
    run("pause", "a")
    run("pause", "b")
    worker:read_until("queue is paused", 30, "stderr")
    enqueue("a", "", 1)
    run("pause", "a", "--for", "500ms")
    wait_till_due("a", 0)
    worker:stop()
  end)

  -- The backoff of 6.4 s begins when those before it have taken 6.3 s.
  it("that backs off is claimed again when it is resumed", function()
    local worker = start 'pgq.register_queue("a", function() return pgq.backoff "unreachable" end)'
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('a', '', array_fill('0s'::text, '{100}'))"
    worker:read_until("queue backs off[^\n]* pause=6%.4", 60, "stderr")
    local attempts = number "SELECT attempt FROM pgq_jobs"
    assert.equal("a was not paused; if it backs off, this ends now\n", (run("resume", "a")))
    worker:read_until("queue backs off[^\n]* pause=0%.1", 60, "stderr")
    assert.is_true(number "SELECT attempt FROM pgq_jobs" > attempts)
    worker:kill "sigkill"
  end)

  it("that is paused costs an idle worker nothing, however many of its jobs are due", function()
    enqueue("a", "", 1000)
    run("pause", "a")
    local worker = start(IDLE)
    worker:read_until "worker is serving"
    wait.sleep(1)
    local function scans()
      wait.sleep(1.1) -- until the server has counted
      return number "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pgq_jobs_fetch'"
    end
    local before = scans()
    wait.sleep(3)
    assert.is_true(scans() - before < 40)
    worker:stop()
  end)

  it("is paused at the next heartbeat behind a pooler", function()
    local pool = Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = 8 })
    finally(function() pool:stop() end)
    local worker = Worker.start { pg = pool, script = fixture.HEAD .. NOTING, args = { "--executors", "1" } }
    worker:read_until "worker is serving"
    run("pause", "a")
    worker:read_until("queue is paused", 30, "stderr")
    enqueue("a", "", 1)
    enqueue("b", "", 1)
    wait_till_due("b", 0)
    assert.equal(1, due "a")
    run("resume", "a")
    wait_till_due("a", 0)
    worker:stop()
  end)

  it("is paused after a lost session, in which no notification came", function()
    local worker = start(IDLE)
    worker:read_until "worker is serving"
    pg:psql [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%' AND pid <> pg_backend_pid()
      AND application_name = 'pgq-lua control']]
    pg:psql "SELECT pgq_pause('a')"
    worker:read_until("queue is paused", 30, "stderr")
    worker:stop()
  end)

  it("is not read again for each notification that a stranger sends", function()
    pg:psql "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN"
    finally(function() pg:psql "DROP ROLE stranger" end)
    local worker = start(IDLE)
    worker:read_until "worker is serving"
    local function scans()
      wait.sleep(1.1)
      return number "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pgq_queues_pkey'"
    end
    local before = scans()
    local flood = "SET ROLE stranger; NOTIFY pgq_control; NOTIFY pgq_control, ':'; NOTIFY pgq_control, '1:worker:1';"
    for _ = 1, 500 do flood = flood .. "NOTIFY pgq_control, '1:queues';" end
    pg:psql(flood)
    assert.is_true(scans() - before < 200) -- two for each read
    worker:stop()
  end)
end)

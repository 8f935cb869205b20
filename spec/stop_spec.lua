local uv = require "luv"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("a worker that is told to stop", function()
  local pg = fixture.server()

  -- A handler that blocks inside a C call, as blocking libraries do; its data are milliseconds, or the path of a file.
  local SLOW = [[
    local pgq = require "pgq"
    pgq.register_queue("slow", function(data)
      local uv = require "luv"
      print("began " .. data)
      if tonumber(data) then
        uv.sleep(tonumber(data))
      else -- for as long as this file is there
        while uv.fs_stat(data) do uv.sleep(10) end
      end
      print("ended " .. data)
    end)
    pgq.register_queue("stop", function() print "stopping" pgq.stop() end)]]

  local function enqueue(queue, data)
    return pg:psql(("SELECT pgq_enqueue('%s', '%s')"):format(queue, data))
  end

  local function start(...)
    return Worker.start { pg = pg, script = SLOW, args = { "--executors", "2", "--poll-interval", "100ms", ... } }
  end

  for _, signal in ipairs { "sigterm", "sigint" } do
    it("by " .. signal:upper() .. " claims no more, lets the running job end, settles it, and exits 0", function()
      local file = os.tmpname()
      finally(function() os.remove(file) end)
      enqueue("slow", file)
      local worker = start()
      worker:read_until "began /"
      worker:kill(signal)
      worker:read_until "stopping"
      enqueue("slow", "10")
      wait.sleep(1)
      os.remove(file)
      local result = worker:wait()
      assert.equal(0, result.status)
      assert.equal(0, result.signal)
      assert.matches("ended /", result.stdout)
      assert.is_nil(result.stdout:find "began 10\n")
      assert.equal("10|0", pg:psql "SELECT convert_from(data, 'UTF8'), attempt FROM pgq_jobs")
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_workers")
    end)
  end

  it("gives jobs that it has claimed and not started back at once", function()
    -- Quick jobs make the worker claim in batches; then one job of a batch takes long.
    local worker = start("--executors", "1")
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'slow', '0', now() - interval '1 hour' FROM generate_series(1, 200)"
    local file = os.tmpname()
    finally(function() os.remove(file) end)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data)
      SELECT 'slow', CASE n WHEN 1 THEN '%s' ELSE '1' END::bytea FROM generate_series(1, 1000) n]]):format(file))
    worker:read_until "began /"
    worker:kill()
    worker:read_until "stopping"
    os.remove(file)
    assert.equal(0, worker:wait().status)
    local left = tonumber(pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 0")
    local ended = select(2, worker.stdout:gsub("ended 1\n", ""))
    assert.equal(999, left + ended)
    assert.is_true(left > 0)
  end)

  it("after the grace time kills the jobs that still run and gives them back without counting an attempt", function()
    enqueue("slow", "60000")
    local worker = start("--grace", "300ms")
    worker:read_until "began 60000"
    local began = uv.hrtime()
    local result = worker:stop()
    local took = (uv.hrtime() - began) / 1e9
    assert.is_true(took > 0.25 and took < 15, "took " .. took)
    assert.matches("running jobs are given back. reason=.the grace time is over", result.stderr)
    assert.equal("0||t", pg:psql "SELECT attempt, error, run_after <= now() FROM pgq_jobs")
  end)

  it("by a second signal stops at once and gives every job back", function()
    enqueue("slow", "60000")
    enqueue("slow", "50000")
    local worker = start()
    worker:read_until "began %d+"
    worker:read_until "began %d+"
    worker:kill "sigterm"
    worker:read_until "msg=stopping"
    wait.sleep(1.1)
    local began = uv.hrtime()
    worker:kill "sigterm"
    local result = worker:wait()
    local took = (uv.hrtime() - began) / 1e9
    assert.equal(0, result.status)
    assert.is_true(took < 15, "took " .. took)
    assert.equal("2", pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 0 AND error IS NULL AND ran_at IS NULL")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_workers")
  end)

  it("while a handler spins stops all the same", function()
    local worker = Worker.start { pg = pg, args = { "--grace", "300ms", "--poll-interval", "100ms" }, script = [[
      require "pgq".register_queue("spin", function() print "spinning" while true do end end)]] }
    enqueue("spin", "")
    worker:read_until "spinning"
    worker:stop()
    assert.equal("0|", pg:psql "SELECT attempt, error FROM pgq_jobs")
  end)

  it("by pgq.stop() in a handler ends as by SIGTERM, with that job completed", function()
    enqueue("stop", "")
    local worker = start()
    local result = worker:wait()
    assert.equal(0, result.status)
    assert.matches("stopping reason=.a handler asked for it", result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("leaves no process behind, not even one that a handler started", function()
    enqueue("child", "")
    local worker = Worker.start { pg = pg, args = { "--poll-interval", "100ms" }, script = [[
      require "pgq".register_queue("child", function()
        os.execute "sleep 600 >/dev/null 2>&1 & echo child $!"
      end)]] }
    local child = tonumber((worker:read_until "child (%d+)"))
    worker:stop()
    wait.till("the handler's child to be gone", 30, function() return not uv.kill(child, 0) end)
  end)

  it("by SIGKILL leaves its jobs free at once, and no executor", function()
    enqueue("slow", "60000")
    local worker = start("--executors", "1", "--hold-limit", "1m")
    worker:read_until "began 60000"
    local executor = tonumber((process.check { "pgrep", "-P", worker.pid }))
    worker:kill "sigkill"
    worker:wait()
    wait.till("the executor to be gone", 20, function() return not uv.kill(executor, 0) end)
    wait.till("the job to be free", 20, function() -- the server would give the transaction up after 62 s
      return pg:psql "SELECT count(*) FROM (SELECT FROM pgq_jobs FOR UPDATE SKIP LOCKED) AS free" == "1"
    end)
  end)
end)

describe("a worker whose Postgres goes away", function()
  local pg

  before_each(function()
    pg = Postgres.start { migrated = true }
  end)

  after_each(function() pg:stop() end)

  local ECHO = [[
    local pgq = require "pgq"
    pgq.register_queue("echo", function(data) print("ran " .. data) end)
    pgq.register_queue("slow", function(data) print("began") require "luv".sleep(4000) print("ended") end)]]

  for _, mode in ipairs { "fast", "immediate" } do
    it("(" .. mode .. ") reconnects with growing waits and goes on", function()
      local worker = Worker.start { pg = pg, script = ECHO, args = { "--poll-interval", "100ms" } }
      pg:psql "SELECT pgq_enqueue('echo', 'before')"
      worker:read_until "ran before"
      pg:down(mode)
      worker:read_until "connection lost"
      worker:read_until("cannot connect.*retry_in=%d", 30)
      pg:up()
      pg:psql "SELECT pgq_enqueue('echo', 'after')"
      worker:read_until("ran after", 60)
      worker:stop()
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end

  it("in the middle of a job locks its row again, and settles it without a second run", function()
    local worker = Worker.start { pg = pg, script = ECHO, args = { "--poll-interval", "100ms", "--executors", "1",
      "--hold-limit", "1m" } }
    pg:psql "SELECT pgq_enqueue('slow', '')"
    worker:read_until "began"
    pg:restart "immediate"
    worker:read_until "the session of a hold was lost"
    wait.till("the job to complete", 60, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    worker:stop()
    assert.equal("began\nended\n", worker.stdout)
  end)

  it("can be stopped while the server is away", function()
    local worker = Worker.start { pg = pg, script = ECHO }
    worker:read_until "worker is serving"
    pg:down()
    worker:read_until "cannot connect"
    worker:stop()
  end)

  it("survives that its sessions are ended, again and again", function()
    local worker = Worker.start { pg = pg, script = ECHO, args = { "--poll-interval", "50ms" } }
    worker:read_until "worker is serving"
    for i = 1, 10 do
      pg:psql(("SELECT pgq_enqueue('echo', 'job%d')"):format(i))
      pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
    end
    for i = 1, 10 do
      wait.till("job " .. i, 60, function() return worker.stdout:find("ran job" .. i .. "\n") end)
    end
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("goes on when its table is dropped and made again, and does not fill the log", function()
    local worker = Worker.start { pg = pg, script = ECHO, args = { "--poll-interval", "20ms", "--executors", "1" } }
    worker:read_until "worker is serving"
    pg:psql "DROP TABLE pgq_jobs"
    worker:read_until 'pgq_jobs.* does not exist'
    wait.sleep(2)
    assert.is_true(worker:is_running())
    local _, lines = worker.stderr:gsub("\n", "")
    assert.is_true(lines < 10, lines .. " lines:\n" .. worker.stderr)
    pg:migrate()
    pg:psql "SELECT pgq_enqueue('echo', 'back')"
    worker:read_until("ran back", 60)
    worker:stop()
  end)
end)

-- Executors that are replaced (--max-jobs, --max-memory) while jobs wait in them: these go on where they are, and
-- another executor takes the place, so that no job that takes long holds up the others.
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local uv = require "luv"
local wait = require "spec.support.wait"

local SCRIPT = [[
  local pgq = require "pgq"
  local uv = require "luv"
  local pid = uv.os_getpid()
  pgq.register_queue("quick", function() print("quick in " .. pid) end)
  pgq.register_queue("wait", function(data, job)
    print(("waits %s in %d, attempt %d"):format(data, pid, job.attempt))
    pgq.sleep(tonumber(data))
    print("waited " .. data)
  end)
  pgq.register_queue("exit", function()
    print "exits soon"
    pgq.sleep(4)
    os.exit(0)
  end)
  pgq.register_queue("hang", function()
    uv.new_timer():start(0, 0, function() while true do uv.sleep(1000) end end)
    print "hangs"
  end)
  pgq.register_queue("grow", function(data)
    kept = {}
    for i = 1, tonumber(data) do kept[i] = ("x"):rep(1000000 + i) end
    print("grown in " .. pid)
    pgq.sleep(0.1) -- the worker looks at the size at most every 10 ms
  end)]]

describe("an executor that is replaced", function()
  local pg = fixture.server()
  local worker

  local function start(...)
    worker = Worker.start { pg = pg, script = SCRIPT, args = { "--executors", "1", ... } }
    return worker
  end

  local enqueue = fixture.enqueuer(pg, "{1s}")

  local function count(what) return select(2, worker.stdout:gsub(what, "")) end

  local function wait_for_quick(all)
    wait.till("the quick jobs", 10, function() return count "quick" >= all, count "quick" end)
  end

  local function wait_for_executors(number)
    wait.till(number .. " executors", 10, function() return #worker:executors() == number, #worker:executors() end)
  end

  it("keeps the job that waits in it, and another runs the others meanwhile", function()
    start("--max-jobs", "10")
    enqueue("wait", "8")
    local old = tonumber((worker:read_until "waits 8 in (%d+), attempt 1"))
    enqueue("quick", "", 50)
    wait_for_quick(50)
    assert.is_nil(worker.stdout:find "waited 8")
    assert.is_true(uv.kill(old, 0) == 0)
    wait_for_executors(2)
    worker:read_until "waited 8"
    wait.till("the old executor to leave", 10, function() return not uv.kill(old, 0) end)
    wait_for_executors(1)
    enqueue("quick", "", 5)
    wait_for_quick(55)
    worker:stop()
    assert.equal(1, count "waits 8")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    assert.is_nil(worker.stderr:find "level=[we]", worker.stderr)
  end)

  it("goes on beside only one other: the replacement of a second executor waits for the first", function()
    start("--max-jobs", "5")
    local most = 0
    local function look() most = math.max(most, #worker:executors()) end
    for round = 1, 3 do
      enqueue("wait", tostring(6 + round / 10))
      worker:read_until("waits 6." .. round)
      enqueue("quick", "", 6)
      for _ = 1, 40 do
        look()
        wait.sleep(0.05)
      end
    end
    wait.till("all to be done", 20, function()
      look()
      return pg:psql "SELECT count(*) FROM pgq_jobs" == "0"
    end)
    worker:stop()
    assert.equal(2, most)
    assert.equal(3, count "waited")
    assert.equal(18, count "quick")
  end)

  it("is waited for by --drain", function()
    enqueue("wait", "4")
    enqueue("quick", "", 30)
    local result = start("--drain", "--max-jobs", "10"):wait(30)
    assert.equal(0, result.status, result.stderr)
    assert.equal(1, count "waited 4")
    assert.equal(30, count "quick")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("loses only its own job when it is killed, and that runs again", function()
    start("--max-jobs", "10")
    enqueue("wait", "60")
    local old = tonumber((worker:read_until "waits 60 in (%d+), attempt 1"))
    enqueue("quick", "", 20)
    wait_for_quick(20)
    wait_for_executors(2)
    uv.kill(old, "sigkill")
    worker:read_until "waits 60 in %d+, attempt 1" -- it was not the cause for certain, so it lost no attempt
    assert.matches("an executor died", worker.stderr)
    enqueue("quick", "", 5)
    wait_for_executors(1)
    worker:kill "sigterm"
    worker:kill "sigint"
    assert.equal(0, worker:wait(10).status)
    assert.equal("wait|0", pg:psql "SELECT queue_name, attempt FROM pgq_jobs WHERE queue_name = 'wait'")
  end)

  it("is waited for when the worker stops, within the grace time", function()
    start("--max-jobs", "10", "--grace", "20s")
    enqueue("wait", "5")
    worker:read_until "waits 5"
    enqueue("quick", "", 20)
    wait_for_quick(20)
    wait_for_executors(2)
    worker:stop(20)
    assert.equal(1, count "waited 5")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("is killed when the grace time is over, and its job goes back", function()
    start("--max-jobs", "10", "--grace", "1s")
    enqueue("wait", "60")
    worker:read_until "waits 60"
    enqueue("quick", "", 20)
    wait_for_quick(20)
    wait_for_executors(2)
    worker:stop(15)
    assert.equal("wait|0|t", pg:psql "SELECT queue_name, attempt, lease IS NULL FROM pgq_jobs")
  end)

  -- A sanitizer's shadow memory counts against the limit, too.
  local it_grows = os.getenv "PGQ_ASAN_LIBRARY" and function() end or it
  it_grows("may have grown too large, and takes no new jobs beside those that wait", function()
    start("--max-memory", "256M")
    enqueue("wait", "6")
    worker:read_until "waits 6"
    enqueue("grow", "210")
    local old = worker:read_until "grown in (%d+)"
    -- The executor tells its size with the outcome of a job.
    wait.till("the job to be completed", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'grow'" == "0"
    end)
    enqueue("quick", "", 20)
    wait_for_quick(20)
    assert.is_nil(worker.stdout:find("quick in " .. old))
    assert.is_nil(worker.stdout:find "waited 6")
    worker:read_until "waited 6"
    wait_for_executors(1)
    worker:stop()
    assert.is_nil(worker.stderr:find "level=[we]", worker.stderr)
  end)

  it("is killed when it does not exit, and later executors work normally", function()
    start("--max-jobs", "1")
    enqueue("hang", "")
    wait.till("the executor to hang", 30, function() return count "hangs" == 1 end)
    enqueue("quick", "", 3)
    wait.till("the quick jobs", 30, function() return count "quick" >= 3, count "quick" end)
    enqueue("hang", "")
    wait.till("the other executor to hang", 30, function() return count "hangs" == 2 end)
    enqueue("quick", "", 3)
    wait.till("the quick jobs", 30, function() return count "quick" >= 6, count "quick" end)
    wait.till("the others to be gone", 30, function() return #worker:executors() == 1, #worker:executors() end)
    wait.till("the last job to be settled", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    worker:stop()
    assert.matches("an executor died.-was killed: it did not exit when it was to be replaced", worker.stderr)
  end)

  it("is reported with its cause when it ends before it was asked to leave", function()
    start("--max-jobs", "10")
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('exit', '', '{1h}')"
    worker:read_until "exits soon"
    enqueue("quick", "", 20)
    wait_for_quick(20)
    worker:read_until("an executor died.-exited with status 0", 30, "stderr")
    wait.till("the failed job to be back", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 1 AND error LIKE '%exited with status 0%'" == "1"
    end)
    worker:stop()
  end)
end)

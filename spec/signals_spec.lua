local uv = require "luv"
local Proxy = require "spec.support.proxy"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("signals to a worker", function()
  local pg = fixture.server { tcp = true }
  local enqueue = fixture.enqueuer(pg)

  local NAP = [[
    local pgq = require "pgq"
    pgq.register_queue("nap", function(data)
      print("began " .. data)
      pgq.sleep(tonumber(data))
      print("ended " .. data)
    end)]]

  local function start(...)
    return Worker.start { pg = pg, script = NAP, args = { "--executors", "1", "--poll-interval", "100ms", ... } }
  end

  local function start_with_job(seconds, ...)
    enqueue("nap", tostring(seconds))
    local worker = start(...)
    worker:read_until "began"
    return worker
  end

  local function seconds_since(began)
    return (uv.hrtime() - began) / 1e9
  end

  for _, signal in ipairs { "SIGINT", "SIGQUIT" } do
    it(signal .. " stops it in good order", function()
      local worker = start_with_job(0.5)
      worker:kill(signal:lower())
      local result = worker:wait()
      assert.equal(0, result.status, result.stderr)
      assert.matches("stopping reason=" .. signal, result.stderr)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end

  it("of other kinds end neither it nor its executors", function()
    local worker = start_with_job(1.5)
    local executor = worker:executors()[1]
    for _, name in ipairs { "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR", "STKFLT", "PIPE", "XFSZ", "TTOU",
      "WINCH", "URG", "CONT", "CHLD", 34, 37, 64 } do
      process.check { "kill", "-" .. name, worker.pid }
      if type(name) == "string" then
        process.check { "kill", "-" .. name, executor }
      end
    end
    for _, name in ipairs { "HUP", "QUIT", "INT", "TERM" } do
      process.check { "kill", "-" .. name, executor }
    end
    worker:read_until "signal ignored.*signal=SIGUSR1"
    worker:read_until "ended"
    assert.same({ executor }, worker:executors())
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("sent twice within a second count once", function()
    local worker = start_with_job(6)
    local began = uv.hrtime()
    worker:kill()
    worker:kill()
    wait.sleep(0.2)
    worker:kill()
    if seconds_since(began) > 0.9 then
      pending "the machine stood still"
    end
    local result = worker:wait()
    assert.equal(0, result.status)
    assert.matches("ended 6", result.stdout)
    assert.is_nil(result.stderr:find "stopping at once")
  end)

  it("of two kinds within a second let short jobs end, and end long ones two seconds after the first", function()
    enqueue("nap", "60")
    local worker = start_with_job(1)
    worker:read_until "began"
    local began = uv.hrtime()
    worker:kill()
    wait.sleep(0.3)
    worker:kill "sigint"
    local result = worker:wait()
    assert.equal(0, result.status)
    assert.is_true(seconds_since(began) > 1.8 and seconds_since(began) < 15)
    assert.matches("ended 1\n", result.stdout)
    assert.matches("stopping at once.*a second signal", result.stderr)
    assert.equal("60|0", pg:psql "SELECT convert_from(data, 'UTF8'), attempt FROM pgq_jobs")
  end)

  it("sent twice within a second count twice in a worker that has lost its sessions", function()
    local proxy = Proxy.listen(pg.port)
    finally(function() proxy:close() end)
    enqueue("nap", "60")
    local worker = Worker.start { script = NAP, args = { "--db", proxy:conninfo(pg), "--executors", "1" } }
    worker:read_until "began"
    wait.till("the lease", 20, function() return pg:psql "SELECT count(lease) FROM pgq_jobs" == "1" end)
    proxy.refuses = true
    proxy:half_open()
    worker:read_until("cannot connect", 20)
    worker:kill()
    wait.sleep(0.3)
    worker:kill()
    local result = worker:wait()
    assert.equal(0, result.status)
    assert.matches("stopping at once.*a second signal", result.stderr)
  end)

  it("sent again after a second end the grace time", function()
    local worker = start_with_job(60)
    worker:kill()
    wait.sleep(1.2)
    local began = uv.hrtime()
    worker:kill "sigint"
    assert.equal(0, worker:wait().status)
    assert.is_true(seconds_since(began) < 10)
    assert.equal("0", pg:psql "SELECT attempt FROM pgq_jobs")
  end)

  it("SIGHUP after SIGTERM does not end the grace time, since service managers send both", function()
    local worker = start_with_job(3)
    worker:kill()
    wait.sleep(1.2)
    worker:kill "sighup"
    local result = worker:wait()
    assert.matches("ended 3", result.stdout)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("during a stop that pgq.stop() began keep the grace time", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('stop', '')"
    local worker = Worker.start { pg = pg, args = { "--executors", "1" }, script = [[
      local pgq = require "pgq"
      pgq.register_queue("stop", function() pgq.stop() pgq.sleep(2) print "ended" end)]] }
    worker:read_until "a handler asked for it"
    worker:kill()
    assert.matches("ended", worker:wait().stdout)
  end)

  -- Starts a worker whose parent has done something to its signals.
  local function start_below(python)
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write(NAP .. [[
      pgq.register_queue("child", function()
        local uv = require "luv"
        print("status " .. os.execute "exit 3")
        local status = assert(io.open "/proc/self/status"):read "*a"
        print("blocked " .. status:match "SigBlk:%s*(%x+)" .. " ignored " .. status:match "SigIgn:%s*(%x+)")
      end)]])
    file:close()
    finally(function() os.remove(path) end)
    return process.start { "python3", "-c", ([[
import os, signal, sys
%s
os.execv(sys.argv[1], sys.argv[1:])]]):format(python), os.getenv "PGQ_LUA", "--db", pg.conninfo, "--executors", "1",
      "--poll-interval", "100ms", path }
  end

  for name, python in pairs {
    blocked = "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    ignored = "[signal.signal(n, signal.SIG_IGN) for n in range(1, 65) if n not in (1, 9, 19, 32, 33)]",
  } do
    it("that its parent has " .. name .. " stop it, and are not " .. name .. " in handlers", function()
      local worker = start_below(python)
      finally(function() worker:kill "sigkill" end)
      enqueue "child"
      assert.equal("768", worker:read_until "status (%d+)")
      local blocked, ignored = worker:read_until "blocked (%x+) ignored (%x+)"
      assert.equal(("0"):rep(16), blocked)
      assert.equal(("0"):rep(16), ignored)
      worker:kill()
      assert.equal(0, worker:wait().status)
    end)
  end

  it("SIGHUP has no effect below nohup, which ignores it", function()
    local worker = start_below "signal.signal(1, signal.SIG_IGN)"
    finally(function() worker:kill "sigkill" end)
    enqueue("nap", "0.5")
    worker:read_until "began"
    worker:kill "sighup"
    worker:read_until "ended"
    worker:kill()
    assert.matches("stopping reason=SIGTERM", worker:wait().stderr)
  end)
end)

local uv = require "luv"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- Runs a worker in a shell command, as "$@". $GO is the path of a file that a reader may wait for.
describe("the output of a worker", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local script, go

  local SCRIPT = [[
    local pgq = require "pgq"
    pgq.register_queue("fail", function() error(("no "):rep(3000), 0) end)
    pgq.register_queue("print", function(data)
      for i = 1, 1000 do print(data .. " " .. i .. (" x"):rep(50)) end
    end)
    pgq.register_queue("shell", function() os.execute "yes 'a line of a process' | head -n 100000" end)
    pgq.register_queue("nap", function(data) pgq.sleep(tonumber(data)) end)
    pgq.register_queue("quick", function() end)]]

  -- The reader does not read until the file $GO is there.
  local WAITS = "{ while [ ! -e \"$GO\" ]; do sleep 0.05; done; cat; }"

  before_each(function()
    script, go = os.tmpname(), os.tmpname()
    os.remove(go)
    local file = assert(io.open(script, "w"))
    file:write(SCRIPT)
    file:close()
  end)
  after_each(function()
    os.remove(script)
    os.remove(go)
  end)

  local function start(command, ...)
    local words = { "sh", "-c", command, "sh", os.getenv "PGQ_LUA", "--db", pg.conninfo, "--executors", "1",
      "--poll-interval", "100ms", "--lease", "3s", "--grace", "1s", env = { GO = go } }
    for _, word in ipairs { ... } do
      words[#words + 1] = word
    end
    return process.start(words)
  end

  local function start_worker(command, ...)
    local words = { ... }
    words[#words + 1] = script
    local shell = start(command, unpack(words))
    wait.till("the worker", 20, function() return pg:psql "SELECT count(*) FROM pgq_workers" == "1" end)
    return shell, tonumber(pg:psql "SELECT pid FROM pgq_workers")
  end

  local function let_read()
    assert(io.open(go, "w")):close()
  end

  local function jobs(queue)
    return tonumber(pg:psql(("SELECT count(*) FROM pgq_jobs WHERE queue_name = '%s' AND attempt = 0"):format(queue)))
  end

  local function wait_for_queue(queue)
    wait.till("the jobs of " .. queue, 30, function() return jobs(queue) == 0 end)
  end

  -- A worker whose reader waits still works, extends leases, and tells later how many lines were dropped.
  local function works_without_reader(command, queue, count, stream)
    local shell, pid = start_worker(command)
    finally(function() process.run { "kill", "-9", pid } end)
    enqueue("nap", "120")
    wait.till("the lease", 20, function() return pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL" == "1" end)
    enqueue(queue, "line", count)
    wait_for_queue(queue)
    enqueue("quick")
    wait_for_queue "quick"
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'nap' AND run_after > now()")
    let_read()
    local lines = shell:read_until("lines of output were dropped.*stream=" .. stream .. " lines=(%d+)")
    assert.is_true(tonumber(lines) > 0)
    process.check { "kill", pid }
    assert.equal(0, shell:wait().status)
    return shell
  end

  it("blocks nothing when nobody reads the log", function()
    works_without_reader('"$@" 2>&1 >/dev/null | ' .. WAITS, "fail", 1000, "stderr")
  end)

  it("blocks no executor when nobody reads what handlers print", function()
    local shell = works_without_reader('"$@" | ' .. WAITS, "print", 50, "stdout")
    for line in shell.stdout:gmatch "[^\n]+" do -- lines are whole
      assert.matches("^line %d+" .. (" x"):rep(50) .. "$", line)
    end
  end)

  it("blocks no process of a handler either", function()
    works_without_reader('"$@" | ' .. WAITS, "shell", 3, "stdout")
  end)

  it("does not keep a worker from stopping", function()
    local shell, pid = start_worker('"$@" 2>&1 >/dev/null | ' .. WAITS)
    enqueue("fail", "", 1000)
    wait_for_queue "fail"
    local began = uv.hrtime()
    process.check { "kill", pid }
    wait.till("the end of the worker", 10, function() return not uv.kill(pid, 0) end)
    assert.is_true((uv.hrtime() - began) / 1e9 < 8)
    let_read()
    shell:wait()
  end)

  it("lets a second signal end the grace time when nobody reads the log, even if it comes soon", function()
    local shell, pid = start_worker('"$@" 2>&1 >/dev/null | ' .. WAITS, "--grace", "10m")
    finally(function() process.run { "kill", "-9", pid } end)
    enqueue("nap", "120")
    wait.till("the lease", 20, function() return pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL" == "1" end)
    enqueue("fail", "", 1000)
    wait_for_queue "fail"
    wait.sleep(1.2)
    process.check { "kill", pid }
    wait.sleep(0.3)
    process.check { "kill", pid }
    wait.till("the end of the worker", 20, function() return not uv.kill(pid, 0) end)
    let_read()
    shell:wait()
  end)

  it("loses nothing when the reader is late", function()
    enqueue("print", "line", 30)
    local shell = start('"$@" | { sleep 0.2; cat; }', "--drain",
      script)
    local result = shell:wait()
    assert.is_nil(result.stderr:find "dropped", result.stderr)
    assert.equal(30 * 1000, select(2, result.stdout:gsub("\n", "")))
  end)

  for name, words in pairs {
    ["are closed"] = '"$@" >&- 2>&-',
    ["are a full disk"] = '"$@" >/dev/full 2>&1',
    ["are a pipe without a reader"] = '{ "$@" 2>&1; echo $? >"$GO"; } | true; exit $(cat "$GO")',
  } do
    it("does not end a worker when stdout and stderr " .. name, function()
      enqueue("print", "line", 3)
      enqueue("fail", "", 3)
      local result = start(words, "--drain", script):wait()
      assert.equal(0, result.status)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 0")
    end)
  end

  it("does not end a worker at a limit on the size of files", function()
    enqueue("print", "line", 3)
    enqueue("fail", "", 30)
    local result = start('ulimit -f 8; "$@" >"$GO" 2>&1', "--drain", script):wait()
    assert.equal(0, result.status)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 0")
  end)

  it("does not change the descriptors of other processes", function()
    local result = start('"$@"; grep -h flags: /proc/self/fdinfo/1 /proc/self/fdinfo/2', "--drain", script):wait()
    local flags = {}
    for octal in result.stdout:gmatch "flags:%s*(%d+)" do
      flags[#flags + 1] = octal
      assert.equal(0, math.floor(tonumber(octal, 8) / 2048) % 2) -- O_NONBLOCK
    end
    assert.equal(2, #flags)
  end)

  it("has what a handler printed before it killed its executor", function()
    local file = assert(io.open(script, "w"))
    file:write [[
      local pgq = require "pgq"
      pgq.register_queue("crash", function() print "last words" require "ffi".cast("int *", 8)[0] = 1 end)]]
    file:close()
    enqueue "crash"
    local result = start('"$@"', "--drain", script):wait()
    assert.equal("last words\n", result.stdout)
  end)
end)

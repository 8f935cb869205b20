-- Reloading the script of a running worker: SIGHUP and --watch.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

describe("a reload", function()
  local pg = fixture.server()
  local start = fixture.workers(pg)

  before_each(function() pg:psql "CREATE TABLE runs (job bigint, version text, pid int, n int, at timestamptz DEFAULT clock_timestamp())" end)
  after_each(function() pg:psql "DROP TABLE runs; TRUNCATE pgq_jobs RESTART IDENTITY" end)

  local function write(path, text)
    local file = assert(io.open(path .. ".new", "w"))
    file:write(text)
    file:close()
    assert(os.rename(path .. ".new", path))
  end

  -- A script that notes each run with the number `n`. `more` comes before the queues.
  local function script(n, more)
    return ([[
      local pgq, uv = require "pgq", require "luv"
      local db = assert(pgq.connect())
      local N = %s
      %s
      pgq.register_queue("q", function(data, job)
        db:query("INSERT INTO runs (job, version, pid, n) VALUES ($1, $2, $3, $4)", job.id, job.version, uv.os_getpid(), N)
        if tonumber(data) then pgq.sleep(tonumber(data)) end
        if data == "die" then uv.kill(uv.os_getpid(), "sigkill") uv.sleep(5000) end
      end)]]):format(n, more or "")
  end

  local function enqueue(data, queue)
    return pg:psql(("SELECT pgq_enqueue('%s', '%s', now(), '{0s}')"):format(queue or "q", data or "x"))
  end

  local function wait_for_sql(what, sql)
    wait.till(what, 30, function() return pg:psql(sql) == "t", pg:psql "SELECT n, count(*) FROM runs GROUP BY 1" end)
  end

  -- Enqueues a job, and returns the number that the script noted with it.
  local function run_one()
    local id = enqueue()
    wait_for_sql("a job to run", ("SELECT EXISTS (SELECT FROM runs WHERE job = %s)"):format(id))
    return tonumber(pg:psql(("SELECT max(n) FROM runs WHERE job = %s"):format(id)))
  end

  local function reload(worker, times)
    worker:kill "sighup"
    worker:read_until(("the script was reloaded.*"):rep(times or 1), 30, "stderr")
  end

  it("replaces the executors, and lets a running job end in the old one", function()
    local worker = start(script(1), "--executors", "2")
    worker:read_until("worker is serving", 30, "stderr")
    local long = enqueue "3"
    wait_for_sql("the long job to begin", "SELECT count(*) = 1 FROM runs")
    write(worker.script_path, script(2))
    reload(worker)
    assert.equal(2, run_one())
    wait_for_sql("the long job to end", ("SELECT NOT EXISTS (SELECT FROM pgq_jobs WHERE id = %s)"):format(long))
    assert.equal("1", pg:psql(("SELECT count(*) FROM runs WHERE job = %s"):format(long)))
    assert.equal("2", pg:psql "SELECT count(DISTINCT version) FROM runs WHERE version ~ '^[0-9a-f]{12}$'")
    wait.till("the old executors to end", 30, function() return #worker:executors() == 2 end)
    worker:stop()
  end)

  it("says which old executors still run jobs, and shows them in the list of workers", function()
    local worker = start(script(1), "--executors", "1")
    worker:read_until("worker is serving", 30, "stderr")
    local long = enqueue "120"
    wait_for_sql("the long job to begin", "SELECT count(*) = 1 FROM runs")
    write(worker.script_path, script(2))
    reload(worker)
    assert.equal(2, run_one())
    local said = worker:read_until('still run jobs: each ends with its last job" executors=1 in_flight=1 jobs="[^"]*"', 30, "stderr")
    assert.matches(('jobs="%d %%(q, for %%d+s%%)"$'):format(long), said)
    local function workers() return process.run { os.getenv "PGQ_LUA", "--db", pg.conninfo, "workers" }.stdout end
    wait.till("the list to show it", 30, function() return workers():find("\treloading\t", 1, true) end, workers())
    assert.matches(("job %d of q for [%%dms]+ in %%d+ with an older version of the script"):format(long), workers())
    pg:psql(("SELECT pgq_cancel(%s)"):format(long))
    wait.till("the old executor to end", 30, function() return workers():find("\tserving\t", 1, true) end, workers())
    worker:stop()
  end)

  it("of files that do not load changes nothing, and says why", function()
    local worker = start(script(1), "--executors", "2")
    worker:read_until("worker is serving", 30, "stderr")
    wait.till("two executors", 30, function() return #worker:executors() == 2 end)
    local executors = worker:executors()
    for _, bad in ipairs { "this is no Lua", script(2, "error 'not today'"), script(2, "require 'luv'.kill(0, 'sigkill')"), "" } do
      write(worker.script_path, bad)
      worker:kill "sighup"
      worker:read_until("could not be reloaded", 30, "stderr")
      wait.till("its executor to end", 30, function()
        return table.concat(worker:executors(), " ") == table.concat(executors, " ")
      end)
      assert.equal(1, run_one())
    end
    -- An executor that is replaced runs the version that the others run, whatever stands in the file.
    enqueue "die"
    worker:read_until("an executor died", 30, "stderr")
    for _ = 1, 10 do assert.equal(1, run_one()) end
    write(worker.script_path, script(3))
    reload(worker)
    assert.equal(3, run_one())
    worker:stop()
  end)

  it("of files that do not load is tried again until they load, and logs an error once", function()
    local tries = os.tmpname()
    finally(function() os.remove(tries) end)
    local worker = start(script(1), "--executors", "1")
    worker:read_until("worker is serving", 30, "stderr")
    write(worker.script_path, script(2, ("local f = io.open(%q, 'a') f:write 'x' f:close() error 'not today'"):format(tries)))
    worker:kill "sighup"
    wait.till("three tries", 60, function() return #io.open(tries):read "*a" >= 3 end)
    assert.equal(1, run_one())
    write(worker.script_path, script(3, "error 'another error'"))
    worker:read_until("could not be reloaded.*could not be reloaded.*another error", 60, "stderr")
    write(worker.script_path, script(4))
    worker:read_until("the script was reloaded", 60, "stderr")
    assert.equal(4, run_one())
    worker:stop()
    assert.equal(1, select(2, worker.stderr:gsub("error=[^\n]*not today", "")))
    assert.equal(1, select(2, worker.stderr:gsub("reloading the script", "")))
  end)

  it("is no reload as long as nobody asks for it: executors run what the first one has read", function()
    local dir = os.tmpname()
    os.remove(dir)
    process.check { "mkdir", dir }
    finally(function() process.check { "rm", "-r", dir } end)
    local function write_all(n)
      write(dir .. "/part.lua", "return " .. n)
      write(dir .. "/extra.lua", "return " .. n)
      write(dir .. "/own.lua", "return " .. n)
    end
    local function main(n)
      return script(n, ([[
        package.path = "%s/?.lua;" .. package.path
        N = N + 10 * require "part" + 100 * dofile "%s/extra.lua" + 1000 * assert(loadfile("%s/own.lua"))()]]):format(dir, dir, dir))
    end
    write_all(1)
    local worker = start(main(1), "--executors", "1")
    assert.equal(1111, run_one())
    write_all(2)
    write(worker.script_path, main(2))
    process.check { "kill", "-KILL", worker:executors()[1] }
    worker:read_until("an executor died", 30, "stderr")
    assert.equal(1111, run_one())
    reload(worker)
    assert.equal(2222, run_one())
    process.check { "rm", dir .. "/part.lua", dir .. "/own.lua" }
    process.check { "kill", "-KILL", worker:executors()[1] }
    assert.equal(2222, run_one())
    worker:stop()
  end)

  it("may register other queues", function()
    local function with(queue) return script(1, ("pgq.register_queue('%s', function() print 'ran %s' end)"):format(queue, queue)) end
    local worker = start(with "before", "--executors", "1", "--poll-interval", "10m")
    worker:read_until("worker is serving", 30, "stderr")
    write(worker.script_path, with "after")
    reload(worker)
    wait_for_sql("the row to have the queues", "SELECT queues @> '{q,after}' AND queues <@ '{q,after}' FROM pgq_workers")
    enqueue("x", "before")
    wait.till("the worker to sleep", 30, function()
      return pg:psql "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'pgq_jobs'::regclass::oid AND objid >= 256" == "2"
    end)
    enqueue("x", "after")
    worker:read_until "ran after"
    assert.equal(1, run_one())
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'before'")
    worker:stop()
  end)

  it("applies options, except those that are for the start", function()
    local worker = start(script(1, "pgq.configure { executors = 1, log_level = 'info' }"))
    worker:read_until("worker is serving", 30, "stderr")
    write(worker.script_path, script(2, "pgq.configure { executors = 2, log_level = 'debug' }"))
    worker:kill "sighup"
    worker:read_until("changed an option that applies when the worker is started.*option=executors", 30, "stderr")
    worker:read_until("the script was reloaded", 30, "stderr")
    assert.equal(2, run_one())
    worker:read_until("level=debug msg=\"job completed\"", 30, "stderr")
    assert.equal(1, #worker:executors())
    worker:stop()
  end)

  it("that comes during another one is done after it, and a stop ends both", function()
    local worker = start(script(1, "require 'luv'.sleep(300)"), "--executors", "2")
    worker:read_until("worker is serving", 30, "stderr")
    worker:kill "sighup"
    worker:read_until("reloading", 30, "stderr")
    write(worker.script_path, script(2, "require 'luv'.sleep(300)"))
    reload(worker, 2)
    assert.equal(2, run_one())
    worker:kill "sighup"
    worker:read_until("reloading", 30, "stderr")
    local result = worker:stop()
    assert.equal(0, result.status, result.stderr)
  end)

  it("that is asked for before the worker serves comes then", function()
    local worker = start(script(1, "require 'luv'.sleep(500)"), "--executors", "1")
    wait.till("its executor", 30, function() return #worker:executors() == 1 end)
    wait.sleep(0.2)
    worker:kill "sighup"
    worker:read_until("worker is serving.*the script was reloaded", 30, "stderr")
    worker:stop()
  end)

  it("comes by itself with --watch when a file changes, also after one that does not load", function()
    local dir = os.tmpname()
    os.remove(dir)
    process.check { "mkdir", dir }
    finally(function() process.check { "rm", "-r", dir } end)
    local function main(n, module)
      return script(n, ("package.path = '%s/?.lua;' .. package.path N = N + require '%s'"):format(dir, module))
    end
    write(dir .. "/part.lua", "return 10")
    local worker = start(main(1, "part"), "--watch", "--executors", "1")
    assert.equal(11, run_one())
    local function expect(n) wait.till("the script to be reloaded", 30, function() return run_one() == n end) end
    write(dir .. "/part.lua", "return 20")
    expect(21)
    write(dir .. "/broken.lua", "return nothing +")
    write(worker.script_path, main(2, "broken"))
    worker:read_until("could not be reloaded.*broken.lua:1", 30, "stderr")
    assert.equal(21, run_one())
    write(dir .. "/broken.lua", "return 30")
    expect(32)
    worker:stop()
  end)

  it("with --watch does not miss a change that comes while the script is loaded", function()
    local worker = start(script(1), "--watch", "--executors", "1")
    assert.equal(1, run_one())
    write(worker.script_path, script(2, ("assert(require 'luv'.fs_rename(%q, %q))"):format(worker.script_path .. ".next", worker.script_path)))
    write(worker.script_path .. ".next", script(3))
    wait.till("the last change to be loaded", 30, function() return run_one() == 3 end)
    worker:stop()
  end)

  it("lets jobs end as their version has registered the queue, transactional or not", function()
    local function with(n, transactional)
      return ([[
        local pgq = require "pgq"
        local db = assert(pgq.connect())
        pgq.register_queue("q", function(data, job)
          (job.tx or db):query("INSERT INTO runs (job, n) VALUES ($1, $2)", job.id, job.tx and %d or -%d)
          if data == "long" then print "began" pgq.sleep(5) end
        end, { transactional = %s, timeout = 60 })]]):format(n, n, transactional)
    end
    for _, before in ipairs { true, false } do
      local worker = start(with(1, before), "--executors", "1", "--lease", "2s", "--log-level", "debug")
      worker:read_until("worker is serving", 30, "stderr")
      local long = enqueue "long"
      worker:read_until "began"
      write(worker.script_path, with(2, not before))
      reload(worker)
      local sign = before and -1 or 1
      assert.equal(2 * sign, run_one())
      worker:read_until(("job completed[^\n]*job=%s "):format(long), 30, "stderr")
      assert.equal(tostring(-sign), pg:psql(("SELECT n FROM runs WHERE job = %s"):format(long)))
      assert.is_nil(worker:stop().stderr:find "level=warn")
    end
  end)

  it("is not confused by executors that are replaced after few jobs", function()
    local worker = start(script(1), "--executors", "2", "--max-jobs", "1")
    worker:read_until("worker is serving", 30, "stderr")
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', CASE WHEN n % 7 = 0 THEN '3' ELSE 'x' END::bytea FROM generate_series(1, 100) n"
    for n = 2, 4 do
      write(worker.script_path, script(n))
      reload(worker)
    end
    wait.till("the jobs to end", 90, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    assert.equal("100|100", pg:psql "SELECT count(*), count(DISTINCT job) FROM runs")
    wait.till("the old executors to end", 30, function() return #worker:executors() == 2 end)
    assert.equal(4, run_one())
    worker:stop()
  end)

  it("says why a later executor does not load what the first one has loaded", function()
    local path = os.tmpname()
    os.remove(path)
    finally(function() os.remove(path) end)
    local worker = start(script(1), "--executors", "2")
    worker:read_until("worker is serving", 30, "stderr")
    write(worker.script_path, script(2, ("if io.open(%q) then error 'the port is taken' end io.open(%q, 'w'):close()"):format(path, path)))
    worker:kill "sighup"
    worker:read_until("the script no longer loads[^\n]*the port is taken", 30, "stderr")
    os.remove(path)
    worker:read_until("the script was reloaded", 30, "stderr")
    assert.equal(2, run_one())
    worker:stop()
  end)

  it("reads files with the arguments that the standard library takes", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    write(path, "\239\187\191#!/usr/bin/env luajit\nX = 7 return ...")
    local worker = start(([[
      for _, environment in ipairs { 5, "text", false, true, print } do assert(loadfile(%q, "t", environment))() end
      local own = {}
      assert(loadfile(%q, nil, own))()
      print(X, own.X, loadfile(%q, "b"), select(2, pcall(dofile, "/no/file")), pcall(require, ""))
      require("pgq").register_queue("q", print)]]):format(path, path, path), "--executors", "1")
    worker:read_until("7\t7\tnil\tcannot open /no/file[^\n]*\tfalse\tmodule '' not found", 30)
    worker:read_until("worker is serving", 30, "stderr")
    worker:stop()
  end)

  it("does not happen when the terminal goes: then the worker stops", function()
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    write(path, script(1))
    local terminal = process.start { "script", "-qec", ("exec %s --db '%s' %s"):format(os.getenv "PGQ_LUA", pg.conninfo, path), "/dev/null" }
    terminal:read_until("worker is serving", 30)
    local pid = pg:psql "SELECT pid FROM pgq_workers"
    terminal:kill "sigkill"
    terminal:wait()
    wait.till("the worker to stop", 30, function() return pg:psql "SELECT count(*) FROM pgq_workers" == "0" end)
    wait.till("the process to end", 30, function() return process.run { "kill", "-0", pid }.status ~= 0 end)
  end)

  it("happens fifty times under load: nothing is lost, and no job runs twice", function()
    local worker = start(script(0), "--executors", "2")
    worker:read_until("worker is serving", 30, "stderr")
    local JOBS = 40000
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '0.001' FROM generate_series(1, %d)"):format(JOBS))
    local enqueued = JOBS
    for n = 1, 50 do
      write(worker.script_path, script(n))
      reload(worker)
      if pg:psql "SELECT count(*) < 5000 FROM (SELECT FROM pgq_jobs LIMIT 5000) AS found" == "t" then
        pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '0.001' FROM generate_series(1, %d)"):format(JOBS))
        enqueued = enqueued + JOBS
      end
    end
    wait.till("all jobs to be done", 120, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    assert.equal(("%d|%d"):format(enqueued, enqueued), pg:psql "SELECT count(*), count(DISTINCT job) FROM runs")
    assert.is_true(tonumber((pg:psql "SELECT count(DISTINCT n) FROM runs")) > 45)
    -- The rate in each second while reloads went on, compared with the median of all; the machine may stand still at times.
    local least, median = pg:psql([[SELECT percentile_cont(0.1) WITHIN GROUP (ORDER BY jobs), percentile_cont(0.5) WITHIN GROUP (ORDER BY jobs)
      FROM (SELECT count(runs.at) AS jobs FROM (SELECT min(at) AS first, max(at) FILTER (WHERE n < 50) AS last FROM runs) AS span,
        generate_series(first, last - interval '1 s', interval '1 s') AS begin
        LEFT JOIN runs ON at >= begin AND at < begin + interval '1 s' GROUP BY begin) AS seconds]]):match "([%d.]+)|([%d.]+)"
    assert.is_true(tonumber(least) >= tonumber(median) / 2, ("%s jobs in a second, and mostly %s"):format(least, median))
    worker:stop()
  end)
end)

describe("an operator", function()
  local pg = fixture.server()
  local start = fixture.workers(pg)
  local PGQ_LUA = os.getenv "PGQ_LUA"
  local SCRIPT = [[
    local pgq = require "pgq"
    pgq.register_queue("q", function(data) print("began " .. data) pgq.sleep(0.5) print("ended " .. data) end)]]

  local function run(...)
    local words = { PGQ_LUA, ... }
    words[#words + 1] = "--db"
    words[#words + 1] = pg.conninfo
    return process.run(words)
  end

  local function name(worker) return pg:psql(("SELECT host || ':' || pid FROM pgq_workers WHERE pid = %d"):format(worker.pid)) end

  it("makes one of two workers quiet, which finishes its jobs, and lets it claim again", function()
    local quiet, other = start(SCRIPT, "--executors", "1"), start(SCRIPT, "--executors", "1")
    quiet:read_until("worker is serving", 30, "stderr")
    other:read_until("worker is serving", 30, "stderr")
    pg:psql "SELECT pgq_enqueue('q', 'first') FROM generate_series(1, 2)"
    wait.till("both jobs to run", 30, function() return (quiet.stdout .. other.stdout):find "began" end)
    local result = run("quiet", name(quiet))
    assert.equal(0, result.status, result.stderr)
    assert.matches("^worker %d+ %(.*:" .. quiet.pid .. "%) claims nothing more, and finishes its jobs\n$", result.stdout)
    quiet:read_until("the worker is quiet", 30, "stderr")
    wait.till("the jobs to end", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    pg:psql "SELECT pgq_enqueue('q', 'second') FROM generate_series(1, 30)"
    wait.till("the jobs to end", 60, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    assert.is_nil(quiet.stdout:find "second")
    result = run("quiet", "--off", pg:psql(("SELECT id FROM pgq_workers WHERE pid = %d"):format(quiet.pid)))
    assert.equal(0, result.status, result.stderr)
    quiet:read_until("the worker claims jobs again", 30, "stderr")
    other:stop()
    pg:psql "SELECT pgq_enqueue('q', 'third')"
    quiet:read_until "ended third"
    quiet:stop()
    assert.equal("quiet|1\nquiet off|1", pg:psql "SELECT verb, count FROM pgq_audit ORDER BY id")
  end)

  it("stops a worker, and reloads all", function()
    local first, second = start(SCRIPT, "--executors", "1"), start(SCRIPT, "--executors", "1")
    first:read_until("worker is serving", 30, "stderr")
    second:read_until("worker is serving", 30, "stderr")
    local result = run("reload", "--all")
    assert.equal(0, result.status, result.stderr)
    assert.equal(2, select(2, result.stdout:gsub("reloads its script", "")))
    first:read_until("reloading the script\" reason=\"pgq%-lua reload\".*the script was reloaded", 30, "stderr")
    second:read_until("the script was reloaded", 30, "stderr")
    assert.equal(0, run("stop", name(first)).status)
    local ended = first:wait(30)
    assert.equal(0, ended.status, ended.stderr)
    assert.matches("stopping reason=\"pgq%-lua stop\"", ended.stderr)
    assert.is_true(second:is_running())
    second:stop()
  end)

  it("may ask for several things before the worker sees the first: it does all, in this order", function()
    local worker = start(SCRIPT, "--executors", "1")
    worker:read_until("worker is serving", 30, "stderr")
    worker:kill "sigstop"
    for _, words in ipairs { { "quiet" }, { "reload" }, { "reload" }, { "quiet", "--off" } } do
      words[#words + 1] = "--all"
      assert.equal(0, run(unpack(words)).status)
    end
    assert.equal("quiet reload resume", pg:psql "SELECT request FROM pgq_workers")
    worker:kill "sigcont"
    worker:read_until("the worker is quiet.*reloading the script.*claims jobs again.*the script was reloaded", 30, "stderr")
    worker:stop()
  end)

  it("is told what is wrong", function()
    local result = run "reload"
    assert.equal(2, result.status)
    assert.matches("the worker is missing; write host:pid, an id, or %-%-all", result.stderr)
    assert.equal(2, run("stop", "--all", "web:1").status)
    result = run("quiet", "web:1")
    assert.equal(1, result.status)
    assert.matches("there is no worker 'web:1'; `pgq%-lua workers` lists them", result.stderr)
    assert.equal(1, run("stop", "--all").status)
    pg:psql "CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA public TO nobody"
    finally(function() pg:psql "DROP OWNED BY nobody; DROP ROLE nobody" end)
    result = process.run { PGQ_LUA, "stop", "--all", "--db", pg.conninfo .. " user=nobody" }
    assert.equal(1, result.status)
    assert.matches("pgq_workers", result.stderr)
  end)

  it("costs a quiet worker no processor time", function()
    local worker = start(SCRIPT, "--executors", "1")
    worker:read_until("worker is serving", 30, "stderr")
    run("quiet", "--all")
    worker:read_until("the worker is quiet", 30, "stderr")
    pg:psql "SELECT pgq_enqueue('q', 'waits') FROM generate_series(1, 100)"
    local function transactions() return tonumber((pg:psql "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")) end
    wait.sleep(1)
    local before = transactions()
    wait.sleep(3)
    assert.is_true(transactions() - before < 60, (transactions() - before) .. " transactions in three seconds")
    worker:stop()
  end)
end)

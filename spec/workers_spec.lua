-- pgq-lua workers: what it lists of real workers, and of rows that are written by hand.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua workers", function()
  local pg = fixture.server()
  local start = fixture.workers(pg)

  local function run(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "workers", ... } end

  local function read(...)
    local result = run("--json", ...)
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
    local found = {}
    for line in result.stdout:gmatch "[^\n]+" do
      found[#found + 1] = cjson.decode(line)
      for name, value in pairs(found[#found]) do
        if value == cjson.null then found[#found][name] = nil end
      end
    end
    return found
  end

  local function add(host, pid, status, more)
    pg:psql(("INSERT INTO pgq_workers (host, pid, version, queues, status%s) VALUES ('%s', %d, '0.2.0', '{mail}', '%s'%s)"):format(
      more and ", " .. more[1] or "", host, pid, status, more and ", " .. more[2] or ""))
  end

  it("lists a real worker, what it runs and since when", function()
    local worker = start('pgq.register_queue("sleepy", function() pgq.sleep(60) end) pgq.register_queue("other", print)', "--executors", "2")
    worker:read_until "worker is serving"
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('sleepy', '')"
    local seen = wait.till("the job in the list", 60, function()
      local found = read()[1]
      if not found or not found.executors then return false end
      for _, executor in ipairs(found.executors) do
        if executor.job ~= cjson.null then return found end
      end
    end)
    assert.equal(worker.pid, seen.pid)
    assert.equal("serving", seen.stage)
    assert.equal(worker.script_path, seen.script)
    assert.same({ "sleepy", "other" }, seen.queues)
    assert.equal(2, #seen.executors)
    assert.equal(1, seen.in_flight)
    assert.equal(2, seen.options.executors)
    assert.matches("^%x+$", seen.script_version)
    local line = run().stdout
    assert.matches("^1\t[^\t]+:" .. worker.pid .. "\t%d%d%d%d%-%S+Z\tserving\t" .. worker.script_path:gsub("%p", "%%%0")
      .. "\t" .. seen.script_version .. "\t%d/2\t1\t%-\tqueues: sleepy, other\tjob 1 of sleepy for %d+m?s? ?%S* ?in %d+\n$", line)
    local shown = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "workers" })
    assert.matches("\n 1  [^\n]+ serving  worker.lua +" .. seen.script_version .. "  %d/2 +1\n", shown)
    assert.matches("\n  queues: sleepy, other\n  job 1 of sleepy for %S+ in %d+\n", shown)
    assert.is_true(terminal.width(shown) <= 80, shown)
  end)

  it("says what is wrong with a worker", function()
    add("a", 1, '{"stage": "serving", "script_error": "worker.lua:1: no", "error": "connection refused"}', { "request", "'quiet'" })
    add("b", 2, '{"stage": "serving"}', { "last_seen_at, missing_since", "now() - interval '45 s', now() - interval '3 s'" })
    add("c", 3, '{"stage": "serving"}')
    add("d", 4, [[{"stage": "serving", "executors": [{"pid": 40, "job": 7, "queue": "mail", "job_since": "2026-01-01T00:00:00Z", "stuck": true},
      {"pid": 41, "job": 8, "queue": "mail", "job_since": "2026-01-02T00:00:00Z"}]}]])
    local lines = run().stdout
    for _, line in ipairs {
      "\tthe script cannot be run: worker.lua:1: no; connection: connection refused; asked to quiet\tqueues: mail\t%-\n",
      "\tno heartbeat for 4%ds; its session has been gone for %ds\tqueues: mail\t%-\n",
      "\n3\tc:3\t%S+\tserving\t%-\t%-\t0/0\t%-\t%-\tqueues: mail\t%-\n",
      "\tjob 7 of mail for %S+ in 40 without waiting, job 8 of mail for %S+ in 41\n",
    } do assert.matches(line, lines) end
    local found = read()
    assert.same({ "worker.lua:1: no", "connection refused", "quiet" }, { found[1].script_error, found[1].error, found[1].request })
    assert.is_truthy(found[2].missing_since)
  end)

  it("lists at most --limit workers, by host and process number", function()
    add("b", 1, "{}")
    add("a", 2, "{}")
    add("a", 1, "{}")
    local names = {}
    for i, worker in ipairs(read("--limit", 2)) do names[i] = worker.host .. worker.pid end
    assert.same({ "a1", "a2" }, names)
  end)

  it("takes any status, also one that is no object", function()
    for _, status in ipairs { "[]", "5", "null", '{"executors": 5, "queues": []}', '{"executors": {}, "options": null}' } do
      add("a", 1, status)
    end
    pg:psql "UPDATE pgq_workers SET status = NULL WHERE id = 1"
    assert.equal(5, #read())
    local _, lines = run().stdout:gsub("\n", "")
    assert.equal(5, lines)
  end)

  it("fits a terminal, with many queues and long names", function()
    add(("host"):rep(50), 4194304, '{"stage": "connecting", "script": "/a/' .. ("x"):rep(100) .. '.lua", "script_version": "3f9a0c12d4e5"}')
    pg:psql "UPDATE pgq_workers SET id = 123456, queues = (SELECT array_agg('queue' || n) FROM generate_series(1, 200) AS n)"
    local shown = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "workers" })
    assert.is_true(terminal.width(shown) <= 80, shown)
    assert.matches("queues: queue1, queue2,", (shown:gsub("\n +", " ")))
    assert.matches("queue100, …\n", shown)
    assert.is_truthy((shown:gsub("\n +", "")):find(("host"):rep(50) .. ":4194304", 1, true), shown)
    assert.equal(200, #read()[1].queues)
  end)

  it("fits a terminal with fifty workers, whose names are long and have wide and narrow characters", function()
    local status = [[{"stage": "reloading", "script": "/srv/%s.lua", "script_version": "3f9a0c12d4e5", "executors": [
      {"pid": %d, "busy": true, "job": %d, "queue": "größe-%s", "job_since": "2026-01-01T00:00:00Z", "in_flight": 3, "version": "older"},
      {"pid": 7, "busy": false, "in_flight": 0, "version": "3f9a0c12d4e5"}]}]]
    for i = 1, 50 do
      add(("büro-日本-%02d.example.org"):format(i), 4194304, status:format(("é"):rep(30), 100 + i, i, ("ü"):rep(100)))
    end
    local shown, code = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "workers" })
    assert.equal(0, code)
    assert.is_true(terminal.width(shown) <= 80, shown)
    for i = 1, 50 do
      assert.is_truthy(shown:find(("worker büro-日本-%02d.example.org:4194304; queues: mail\n"):format(i), 1, true), shown)
    end
    assert.equal(50, select(2, shown:gsub("  reloading  [^\n]*  1/2 +3\n", "")), shown)
    local lines = run().stdout
    local line = "\treloading\t[^\n]*\t1/2\t3\t%-\tqueues: mail\tjob %d+ of größe[^\n]* for %S+ in 1%d%d with an older version of the script\n"
    assert.equal(50, select(2, lines:gsub(line, "")), lines)
  end)

  it("escapes what a worker's row has", function()
    pg:psql [[INSERT INTO pgq_workers (host, pid, version, queues, status) VALUES (E'a\x1b[2J', 1, '1', ARRAY[E'q\n' || chr(8238)],
      jsonb_build_object('stage', E'x\t', 'error', E'y\x1b' || chr(8238)))]]
    for _, text in ipairs { run().stdout, run("--json").stdout, (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "workers" })) } do
      assert.is_nil(text:find "[^\n\t\32-\126]", text)
    end
    assert.equal("q\n\226\128\174", read()[1].queues[1])
  end)

  it("says when there is none, and refuses words that it does not take", function()
    assert.equal("", run().stdout)
    assert.equal("No worker runs.\n", (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "workers" })))
    local result = run "mail"
    assert.equal(2, result.status)
    assert.equal("pgq-lua workers: unexpected argument 'mail'\nusage: pgq-lua workers [options]\n", result.stderr)
  end)
end)

-- pgq-lua show: what it prints about a job and its attempts, and the data of jobs.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua show", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_attempts RESTART IDENTITY" }
  local _, drain = fixture.workers(pg)

  local function run(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "show", ... } end

  local function read(...)
    local result = run("--json", ...)
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
    local object = cjson.decode(result.stdout)
    for name, value in pairs(object) do
      if value == cjson.null then object[name] = nil end
    end
    return object
  end

  local function insert(columns, values)
    return tonumber(pg:psql(("INSERT INTO pgq_jobs (queue_name, %s) VALUES ('mail', %s) RETURNING id"):format(columns, values)))
  end

  -- What is printed, with times as TIME, and the reason as WHY.
  local function shown(...)
    local result = run(...)
    assert.equal("", result.stderr)
    local text = result.stdout:gsub("\n  why  .-\n  enqueued", "\n  why         WHY\n  enqueued")
    return (text:gsub("%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%dZ, [%w ]+", "TIME"))
  end

  it("prints a job that is due, one for later, and one that has ended", function()
    local due = insert("data, meta, retry_waits", "'abc', '{\"user\": \"ann\"}', '{1m0s,10m0s}'")
    local later = insert("data, run_after, error, attempt, retry_waits, deaths",
      "'', now() + interval '2 days 30 minutes', E'first\\nsecond line', 1, '{}', 2")
    local ended = insert("data, ran_at, error, attempt, cancelled", "'', now(), 'cancelled', 3, true")
    assert.equal(("job %d of the queue mail: due\n  why         WHY\n  enqueued    TIME\n  due         TIME\n"):format(due)
      .. "  attempts    0; retries left: 2, after 1m0s, 10m0s\n  meta        {\"user\": \"ann\"}\n  data        3 bytes\n", shown(due))
    assert.equal(("job %d of the queue mail: later\n  why         WHY\n  enqueued    TIME\n  due         TIME\n"):format(later)
      .. "  attempts    1; no retry is left\n  deaths      2\n  error       first\n              second line\n  data        0 bytes\n", shown(later))
    assert.matches("\n  due         %S+Z, in 2d\n", run(later).stdout)
    assert.same({ "no_worker", "later" }, { read(due).why_code, read(later).why_code })
    assert.matches("No worker", read(due).why)
    assert.is_nil(read(ended).why)
    assert.equal(("job %d of the queue mail: cancelled\n  enqueued    TIME\n  ended       TIME\n  attempts    3\n"):format(ended)
      .. "  error       cancelled\n  data        0 bytes\n", shown(ended))
  end)

  it("names the worker of a running job, and when the job began", function()
    pg:psql "INSERT INTO pgq_workers (id, host, pid, version) VALUES (77, 'db1', 123, '1')"
    local id = insert("data, run_after, lease, started_at, attempt",
      "'', now() + interval '40 s', (77::int8 << 32) | 5, now() - interval '3 minutes', 1")
    assert.equal(("job %d of the queue mail: running\n  why         WHY\n  enqueued    TIME\n  lease ends  TIME\n  began       TIME\n"):format(id)
      .. "  attempts    1; retries left: 3, after 1m0s, 10m0s, 30m0s\n  worker      db1:123, with id 77\n  data        0 bytes\n", shown(id))
    pg:psql "DELETE FROM pgq_workers"
    assert.matches("\n  worker      one that is gone, with id 77\n", run(id).stdout)
    assert.same({ "running", 77 }, { read(id).state, read(id).worker_id })
  end)

  it("prints all attempts that a worker has recorded, with their tracebacks", function()
    local id = insert("data, retry_waits", "'', '{0s}'")
    drain [[
      local function inner(n) error("no luck " .. n) end
      pgq.register_queue("mail", function(_, job) inner(job.attempt) end)
    ]]
    local out = shown(id)
    assert.matches("\nattempt 1: retried\n  began       TIME\n  ended       TIME\n  took        %d+%.?%d*m?s\n  worker      [^\n]+:%d+, with id %d+\n", out)
    assert.matches("\nattempt 2: failed\n", out)
    assert.matches("\n  error       [^\n]*no luck 2\n", out)
    assert.matches("\n  traceback   stack traceback:\n                %[C%]: in function 'error'\n                [^\n]*inner", out)
    local job = read(id)
    assert.equal(2, #job.attempts)
    local first = job.attempts[1]
    assert.same({ 1, "retried" }, { first.attempt, first.outcome })
    assert.matches("no luck 1", first.error)
    assert.matches("traceback", first.traceback)
    assert.is_true(first.run_ms >= 0)
    assert.matches(":%d+$", first.worker)
    assert.matches("^%d%d%d%d%-.*Z$", first.started_at)
    assert.equal(1, #read("--limit", 1, id).attempts)
    assert.equal(2, read("--limit", 1, id).attempts[1].attempt)
  end)

  it("prints the attempts of a job that is gone", function()
    pg:psql [[INSERT INTO pgq_attempts (job_id, queue_name, attempt, outcome, error) VALUES (4711, 'mail', 1, 'discarded', 'bad')]]
    assert.equal("job 4711 is not in the table any more: it was completed, or deleted\n\nattempt 1: discarded\n  ended       TIME\n  error       bad\n",
      shown(4711))
    local job = read "0004711"
    assert.same({ 4711, "mail", "deleted", "bad" }, { job.id, job.queue, job.state, job.attempts[1].error })
  end)

  it("says that there is no such job", function()
    local result = run(99)
    assert.equal(1, result.status)
    assert.equal("", result.stdout)
    assert.equal("pgq-lua show: there is no job 99: it was completed and deleted, or never enqueued\n", result.stderr)
    assert.equal(1, run("--json", 99).status)
    assert.matches("job 99 is not in the table: there is no data", run("--data", 99).stderr)
  end)

  it("prints exactly the data, or writes them into a file", function()
    local id = insert("data", [['\x00ff0a61'::bytea]])
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    assert.equal("\0\255\na", run("--data", id).stdout)
    assert.equal("4 bytes of data are in " .. path .. "\n", run("--data-file", path, id).stdout)
    local file = assert(io.open(path, "rb"))
    assert.equal("\0\255\na", file:read "*a")
    file:close()
    assert.equal("00ff0a61", read("--data", id).data_hex)
    assert.is_nil(read(id).data_hex)
    local text = insert("data", "convert_to('größe', 'UTF8')")
    assert.equal("größe", read("--data", text).data)
    assert.equal("", run("--data", insert("data", "''")).stdout)
    local result = run("--data-file", "/nonexistent/file", id)
    assert.equal(1, result.status)
    assert.equal("pgq-lua show: cannot write the data into '/nonexistent/file': No such file or directory\n", result.stderr)
    result = run("--data-file", "/dev/full", id)
    assert.equal(1, result.status)
    assert.matches("cannot write the data into '/dev/full': No space left", result.stderr)
  end)

  it("prints large data whole", function()
    local id = insert("data", "decode(repeat('00ff', 10000000), 'hex')")
    assert.equal(("\0\255"):rep(10000000), run("--data", id).stdout)
  end)

  it("escapes what is not seen, and on a terminal in the data too", function()
    local id = insert("data, ran_at, error, meta",
      [[convert_to(E'a\tb\x1b[2J' || chr(8238), 'UTF8'), now(), E'b\r\x1b[2J' || chr(8238), jsonb_build_object('k', chr(8238))]])
    for _, text in ipairs { run(id).stdout, run("--json", "--data", id).stdout,
      (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "show", id })), (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "show", id, "--data" })) } do
      assert.is_nil(text:find "[^\n\t\32-\126]", text)
    end
    assert.equal("a\tb\27[2J\226\128\174", run("--data", id).stdout)
    assert.equal("a\tb\27[2J\226\128\174", read("--data", id).data)
    local binary = insert("data", [['\x00ff0a61'::bytea]])
    local out, status = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "show", binary, "--data" })
    assert.equal("pgq-lua show: the 4 bytes of data are not text: use --data-file, or send them into a pipe\n", out)
    assert.equal(1, status)
  end)

  it("begins each line of an error or a traceback in the same column, also those that are wrapped", function()
    local id = pg:psql("INSERT INTO pgq_jobs (queue_name, data, ran_at, attempt, error) VALUES ('q', '', now(), 1, E'first line\\n\\n  second line\\n"
      .. ("word "):rep(20) .. "end') RETURNING id"):match "^%d+"
    pg:psql(([[INSERT INTO pgq_attempts (job_id, queue_name, attempt, outcome, error, traceback) VALUES (%s, 'q', 1, 'failed',
      E'größe\nzwei', E'stack traceback:\n\tworker.lua:1: in function <%s>\n\tworker.lua:2: in main chunk')]]):format(id, ("ü"):rep(70)))
    local expected = table.concat({
      "  error       first line",
      "",
      "                second line",
      "              " .. ("word "):rep(12) .. "word",
      "                " .. ("word "):rep(7) .. "end" }, "\n")
    local text = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "show", id })
    assert.is_truthy(text:find(expected, 1, true), text)
    assert.is_truthy(text:find("\n  error       größe\n              zwei\n  traceback   stack traceback:\n"
      .. "                worker.lua:1: in function\n                  <" .. ("ü"):rep(61)
      .. "\n                  üüüüüüüüü>\n                worker.lua:2: in main chunk\n", 1, true), text)
    assert.equal(80, terminal.width(text))
    -- In a pipe nothing is wrapped.
    local plain = process.run { PGQ_LUA, "--db", pg.conninfo, "show", id }.stdout
    assert.is_truthy(plain:find("\n              " .. ("word "):rep(20) .. "end\n", 1, true), plain)
  end)

  it("wraps what does not fit a terminal", function()
    local id = insert("data, ran_at, error, meta", "'', now(), repeat('word ', 50) || repeat('x', 200), jsonb_build_object('k', repeat('y', 200))")
    assert.equal(80, terminal.width((terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "show", id }))))
  end)

  it("refuses wrong usage", function()
    for _, case in ipairs {
      { "the id of a job is missing" },
      { "there is more than one id", 1, 2 },
      { "the id is not the number of a job", "mail" },
      { "the id is not the number of a job", "9223372036854775808" },
      { "--data and --data-file exclude each other", "--data", "--data-file", "x", 1 },
      { "option '--state' is for", "--state", "due", 1 },
    } do
      local result = run(unpack(case, 2))
      assert.equal(2, result.status)
      assert.is_truthy(result.stderr:find("pgq-lua show: " .. case[1], 1, true), result.stderr)
    end
    assert.matches("option '%-%-data' is for pgq%-lua show only", process.run({ PGQ_LUA, "jobs", "--data" }).stderr)
  end)
end)

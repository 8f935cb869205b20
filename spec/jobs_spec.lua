-- pgq-lua jobs: which jobs it lists, in which order, how it searches them, and how it groups errors.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua jobs", function()
  local pg = fixture.server()

  local function run(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "jobs", ... } end

  -- The objects that are printed as JSON.
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

  -- The data of the listed jobs, which names them in these tests.
  local function list(...)
    local ids = {}
    for i, job in ipairs(read(...)) do ids[i] = job.id end
    return pg:psql(([[SELECT string_agg(convert_from(data, 'UTF8'), ' ' ORDER BY position)
      FROM unnest('{%s}'::bigint[]) WITH ORDINALITY AS listed (id, position) JOIN pgq_jobs USING (id)]]):format(table.concat(ids, ",")))
  end

  local JOBS = [[INSERT INTO pgq_jobs (queue_name, data, run_after, lease, started_at, ran_at, error, cancelled, meta) VALUES
    ('a', 'due2', now() - interval '2 min', NULL, NULL, NULL, NULL, false, '{"user": "ann", "n": 5}'),
    ('b', 'due1', now() - interval '3 min', NULL, NULL, NULL, 'tried: 5%', false, '[1]'),
    ('a', 'expired', now() - interval '1 min', 7, now() - interval '9 min', NULL, NULL, false, NULL),
    ('a', 'later2', now() + interval '2 h', NULL, NULL, NULL, 'tried', false, NULL),
    ('b', 'later1', now() + interval '1 h', NULL, NULL, NULL, NULL, false, NULL),
    ('b', 'never', 'infinity', NULL, NULL, NULL, NULL, false, NULL),
    ('a', 'runs2', now() + interval '30 s', 8, now() - interval '1 min', NULL, NULL, false, NULL),
    ('b', 'runs1', now() + interval '1 min', (77::int8 << 32) | 3, now() - interval '2 min', NULL, 'first try', false, NULL),
    ('a', 'failed2', now(), NULL, NULL, now() - interval '2 h', 'no such host', false, '{"user": "ann"}'),
    ('b', 'failed1', now(), NULL, NULL, now() - interval '1 h', 'no luck', false, '{"user": "ben"}'),
    ('a', 'cancelled', now(), NULL, NULL, now(), 'cancelled', true, NULL),
    ('b', 'completed', now(), NULL, NULL, now(), NULL, false, NULL)]]

  it("lists those that run, are due, will be, and have ended, in this order", function()
    pg:psql(JOBS)
    assert.equal("runs1 runs2 due1 due2 expired later1 later2 never failed1 failed2 cancelled completed", list())
    assert.equal("runs2 due2 expired later2 failed2 cancelled", list "a")
    assert.equal("runs1 due1 later1 never failed1 completed", list("--queue", "b"))
    assert.equal("", list "c")
    assert.equal("runs1 runs2 due1 due2", list("--limit", 4))
  end)

  it("selects them by state", function()
    pg:psql(JOBS)
    for states, expected in pairs {
      running = "runs1 runs2", due = "due1 due2 expired", later = "later1 later2 never", failed = "failed1 failed2", cancelled = "cancelled",
      completed = "completed", ["failed,due"] = "due1 due2 expired failed1 failed2",
    } do
      assert.equal(expected, list("--state", states))
      for _, job in ipairs(read("--state", states)) do assert.is_truthy(("," .. states .. ","):find("," .. job.state .. ",", 1, true)) end
    end
  end)

  it("selects them by error, time and meta", function()
    pg:psql(JOBS)
    assert.equal("due1 later2", list("--error", "tr%"))
    assert.equal("runs1 due1 later2", list("--error", "tr"))
    assert.equal("due1", list("--error", "%5\\%"))
    assert.equal("failed1 failed2", list("--state", "failed", "--error", "no"))
    assert.equal("failed2", list("--error", "host"))
    assert.equal("", list("--error", "HOST"))
    assert.equal("due2 failed2", list("--meta", "user=ann"))
    assert.equal("due2", list("--meta", "n=5"))
    assert.equal("failed2", list("a", "--meta", "user=ann", "--error", "host"))
    assert.equal("failed1", list("--state", "failed", "--since", "90m"))
    assert.equal("failed2", list("--state", "failed", "--before", "90m"))
    assert.equal("later2", list("--state", "later", "--since", pg:psql "SELECT now() + interval '90 min'", "--before", "2999-01-01"))
    assert.equal("runs2", list("--state", "running", "--since", "90"))
    assert.equal("due1", list("--state", "due", "--before", "150"))
  end)

  it("finds the first jobs of all queues, whichever they are in", function()
    pg:psql [[
      INSERT INTO pgq_jobs (queue_name, data, run_after)
        SELECT 'q' || q, convert_to(q || '-' || n, 'UTF8'), now() - (n * 100 + q) * interval '1 s'
        FROM generate_series(1, 9) AS q, generate_series(1, 9) AS n;
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
        SELECT 'q' || q, convert_to(q || '-' || n, 'UTF8'), now() - (n * 100 + q) * interval '1 s', 'e' || q
        FROM generate_series(1, 9) AS q, generate_series(1, 9) AS n]]
    assert.equal("9-9 8-9 7-9 6-9 5-9 4-9 3-9 2-9 1-9 9-8 8-8 7-8", list("--state", "due", "--limit", 12))
    assert.equal("9-9 8-9", list("--state", "due", "--limit", 2))
    assert.equal("1-1 2-1", list("--state", "failed", "--limit", 2))
    assert.equal("1-1 2-1 3-1 4-1 5-1 6-1 7-1 8-1 9-1 1-2 2-2", list("--state", "failed", "--limit", 11))
    assert.equal("5-1 5-2", list("--state", "failed", "--error", "e5", "--limit", 2))
  end)

  it("prints all that a list may tell about a job", function()
    pg:psql(JOBS)
    pg:psql "INSERT INTO pgq_workers (id, host, pid, version) VALUES (77, 'db1', 123, '1')"
    local running, due = unpack(read("b", "--limit", 2))
    assert.same({ "b", "running", 0, 3, 0, 77, "db1:123", "first try", 5 }, { running.queue, running.state, running.attempt,
      running.retries_left, running.deaths, running.worker_id, running.worker, running.error, running.data_bytes })
    assert.matches("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%d%d%d%dZ$", running.started_at)
    assert.same({ "due", { 1 } }, { due.state, due.meta })
    assert.matches("^8\tb\trunning\t%S+Z\t0\tdb1:123\n2\tb\tdue\t%S+Z\t0\ttried: 5%%\n", run("b").stdout)
  end)

  -- How far it searches depends on the machine.
  local function search_on(option, ...)
    local times = 0
    local result = run(...)
    while result.stdout == "" do
      local searched, time = result.stderr:match("^pgq%-lua jobs: only (%d+) %l+ jobs were searched, all that .* among them: "
        .. "search the others with %-%-" .. option .. " (%S+), or name a queue\n$")
      assert.is_truthy(searched, result.stderr)
      assert.is_true(tonumber(searched) >= 10000 and tonumber(searched) <= 100000, searched)
      assert.equal(0, result.status)
      times = times + 1
      result = run("--" .. option, time, ...)
    end
    assert.is_true(times > 0)
    assert.equal("", result.stderr)
    return result.stdout:match "^(%d+)\t"
  end

  it("says when it has not searched all jobs, and how to search the others", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after, error)
      SELECT 'a', '', now() - (200000 - n) * interval '1 s', CASE n WHEN 110000 THEN 'rare' ELSE 'x' END FROM generate_series(1, 110000) AS n]]
    assert.equal("110000", search_on("since", "--state", "due", "--error", "rare"))
    assert.equal("", run("--state", "due", "--error", "x").stderr)
    assert.equal("", run().stderr)
    pg:psql "UPDATE pgq_jobs SET ran_at = now() - id * interval '1 s'"
    assert.equal("110000", search_on("before", "--state", "failed", "--error", "rare"))
    assert.equal("", run("--state", "completed", "--error", "rare").stderr)
  end)

  it("goes on to search while others would belong into the list", function()
    pg:psql [[
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
        SELECT 'a', 'a' || n::text::bytea, '2026-01-01'::timestamptz - n * interval '1 s', CASE WHEN n > 9000 THEN 'e' ELSE 'x' END
        FROM generate_series(1, 9010) AS n;
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
        SELECT 'b', 'b' || n::text::bytea, '2025-01-01'::timestamptz - n * interval '1 s', 'e' FROM generate_series(1, 10) AS n]]
    local result = run("--state", "failed", "--error", "e", "--limit", 3)
    local names = {}
    for id in result.stdout:gmatch "(%d+)\t[ab]\t[^\n]*\n" do names[#names + 1] = id end
    if result.stderr == "" then
      assert.same({ "9001", "9002", "9003" }, names)
    else -- the machine was too busy for a second round, and the list is complete up to this time
      assert.matches("only %d+ failed jobs were searched, all that ended since 2025%-12%-31", result.stderr)
      assert.same({ "9011", "9012", "9013" }, names)
    end
  end)

  it("says what would make a statement read less that took too long", function()
    local locker = process.start { "psql", "-XqAt", "-d", pg.conninfo, "-c", "BEGIN", "-c", "LOCK TABLE pgq_jobs", "-c", "SELECT 'locked'",
      "-c", "SELECT pg_sleep(30)" }
    locker:read_until "locked"
    local command
    wait.till("a command to be cancelled", 60, function()
      if not command or not command:is_running() then command = process.start { PGQ_LUA, "--db", pg.conninfo, "jobs" } end
      return pg:psql [[SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'pgq-lua jobs' AND wait_event_type = 'Lock']] ~= "0"
    end)
    assert.matches("user request; name a queue, a state, or a time %(%-%-since, %-%-before%); the server is busy, another session has locked",
      command:wait().stderr)
    locker:kill "sigkill"
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
  end)

  it("reads no more rows than it shows, and from all queues one more of each", function()
    pg:psql [[
      INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'q' || n % 20, '', now() - n * interval '1 s' FROM generate_series(1, 20000) AS n;
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
        SELECT 'q' || n % 20, '', now() - n * interval '1 s', CASE WHEN n % 3 = 0 THEN 'e' END FROM generate_series(1, 20000) AS n;
      VACUUM ANALYZE pgq_jobs]]
    local function rows_read()
      return tonumber(pg:psql [[SELECT pg_stat_clear_snapshot(); SELECT seq_tup_read + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes
        WHERE relname = 'pgq_jobs') FROM pg_stat_user_tables WHERE relname = 'pgq_jobs']]:match "%d+$")
    end
    -- A row is read once to find it, and once to show it.
    for _, case in ipairs { { 105, "q5" }, { 105, "q5", "--state", "failed" }, { 205, "q5", "--state", "completed", "--limit", 100 },
      { 2 * 20 + 50 * 20 + 50, "--state", "due" }, { 2 * 20 + 5 * 5 + 5, "--state", "failed", "--limit", 5 } } do
      local before = rows_read()
      assert.equal(0, run(unpack(case, 2)).status)
      require("spec.support.wait").till("the counters of the session", 30, function() return rows_read() > before end)
      local read_by_it = rows_read() - before
      assert.is_true(read_by_it <= case[1], table.concat(case, " ", 2) .. " has read " .. read_by_it)
    end
  end)

  it("fits a terminal, and says when there is nothing", function()
    pg:psql [[INSERT INTO pgq_jobs (id, queue_name, data, ran_at, error, attempt) VALUES
      (9223372036854775807, repeat('q', 100), '', now() - interval '700 days', repeat('語', 100), 1000000), (2, 'a', '', now(), E'two\nlines', 1)]]
    local shown = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "jobs" })
    assert.matches("^ +ID  QUEUE +STATE +WHEN +ATTEMPT  WORKER OR ERROR\n", shown)
    assert.matches("\n9223372036854775807  q+…  failed  700d ago +1000000  [語]+…\n", shown)
    assert.is_true(terminal.width(shown:gsub("語", "xx")) <= 80, shown)
    assert.is_truthy(shown:find([[two\nlines]], 1, true))
    assert.equal("There are no such jobs.\n", (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "jobs", "none" })))
  end)

  it("escapes what a job has brought in", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error, meta) VALUES
      (E'a\x1b]0;x\x07', '', now(), E'b\r\x1b[2J' || chr(8238), jsonb_build_object('k', E'\x1b[1m' || chr(8238)))]]
    for _, text in ipairs { run().stdout, run("--json").stdout, run("--group-by", "error").stdout,
      terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "jobs" }), run("--group-by", "error", "--json").stdout } do
      assert.is_nil(text:gsub("…", ""):find "[^\n\t\32-\126]", text)
    end
    assert.equal("\27[1m\226\128\174", read()[1].meta.k)
  end)

  it("refuses wrong usage", function()
    for _, case in ipairs {
      { "there is more than one queue", "a", "b" },
      { "the queue is given twice", "a", "--queue", "a" },
      { "--state: 'done' is not one of: due running later failed completed cancelled", "--state", "done" },
      { "--meta: 'x' is not KEY=VALUE", "--meta", "x" },
      { "--group-by: 'queue' is not one of: none error", "--group-by", "queue" },
      { "--error: '%a\\' ends with a backslash, which has nothing to quote", "--error", "%a\\" },
      { "--limit: 'some' is not a whole number; write one from 1 on", "--limit", "some" },
      { "--limit: '0' is not between 1 and ", "--limit", "0" },
      { "--group-by error takes a queue", "--group-by", "error", "--error", "x" },
      { "option '--all' is for pgq-lua", "--all" },
      { "option '--delay' is for pgq-lua enqueue only", "--delay", "1s" },
    } do
      local result = run(unpack(case, 2))
      assert.equal(2, result.status)
      assert.is_truthy(result.stderr:find("pgq-lua jobs: " .. case[1], 1, true), result.stderr)
    end
    for _, option in ipairs { "--since", "--before" } do
      local result = run(option, "yesterdayish")
      assert.equal(2, result.status)
      assert.equal(("pgq-lua jobs: %s: 'yesterdayish' is not a time: invalid input syntax for type timestamp with time zone: "
        .. "\"yesterdayish\"; write how long ago, such as 1h30m or 7d, or a time that Postgres reads, such as '2030-01-31 08:00+01'\n")
        :format(option), result.stderr)
    end
    assert.equal(0, run("--error", "a\\").status) -- a part of the error, in which a backslash means itself
    assert.equal(0, run("--error", "%a\\\\").status)
  end)

  describe("--group-by error", function()
    it("counts errors that differ only in numbers, with the first, the last, and the id of the last", function()
      pg:psql [[
        INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
          SELECT CASE n % 2 WHEN 0 THEN 'a' ELSE 'b' END, '', '2026-01-01 00:00+00'::timestamptz + n * interval '1 min',
            'worker.lua:' || n || ': request ' || md5(n::text) || ' of ' || gen_random_uuid() || ' timed out after ' || n || '.5 s'
          FROM generate_series(1, 20) AS n;
        INSERT INTO pgq_jobs (queue_name, data, ran_at, error) SELECT 'a', '', '2026-02-01 00:00+00', 'no luck' FROM generate_series(1, 3);
        INSERT INTO pgq_jobs (queue_name, data, ran_at, error, cancelled) VALUES ('a', '', now(), 'cancelled', true);
        INSERT INTO pgq_jobs (queue_name, data, ran_at) VALUES ('a', '', now());
        INSERT INTO pgq_jobs (queue_name, data, error) VALUES ('a', '', 'will be tried again')]]
      local groups = read("--group-by", "error")
      assert.equal(2, #groups)
      assert.same({ 20, "worker.lua:#: request # of # timed out after #.# s", "2026-01-01T00:01:00.000000Z", "2026-01-01T00:20:00.000000Z", 20 },
        { groups[1].count, groups[1].error, groups[1].first_at, groups[1].last_at, groups[1].last_job })
      assert.matches("^worker.lua:20: request %x+ of .* timed out after 20.5 s$", groups[1].last_error)
      assert.is_nil(groups[1].count_capped)
      assert.same({ 3, "no luck", 23 }, { groups[2].count, groups[2].error, groups[2].last_job })
      assert.equal(10, read("--group-by", "error", "b")[1].count)
      assert.equal(5, read("--group-by", "error", "b", "--since", "2026-01-01 00:05+00", "--before", "2026-01-01 00:14+00")[1].count)
      assert.equal(1, #read("--group-by", "error", "--limit", 1))
      assert.matches("^20\t2026%-01%-01T00:01:00.000000Z\t2026%-01%-01T00:20:00.000000Z\t20\tworker.lua:#: request", run("--group-by", "error").stdout)
      assert.is_true(terminal.width((terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "jobs", "--group-by", "error" }))) <= 80)
    end)

    it("reads the last failed jobs, 100,000 at most, and says so", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
        SELECT 'a', '', '2026-01-01'::timestamptz + n * interval '1 s', CASE WHEN n > 5 THEN 'new ' ELSE 'old ' END || n FROM generate_series(1, 100005) AS n]]
      local result = run("--group-by", "error")
      local count = result.stdout:match "^(%d+)%+\t%S+\t%S+\t100005\tnew #\n$"
      assert.is_true(tonumber(count) >= 10000 and tonumber(count) <= 100000, result.stdout)
      assert.equal(("pgq-lua jobs: only the last %s failed jobs were read, in equal shares of the queues; others are selected by a "
        .. "queue, --since and --before\n"):format(count), result.stderr)
      local group = cjson.decode(run("--group-by", "error", "--json").stdout)
      assert.is_true(group.count >= 10000 and group.count_capped)
    end)

    it("prints nothing when no job has failed", function()
      assert.equal("", run("--group-by", "error").stdout)
      assert.equal("No job has failed.\n", (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "jobs", "--group-by", "error" })))
    end)
  end)
end)

-- pgq-lua queues: which queues it knows, their counts and states, on a terminal, in a pipe, and as JSON. Workers are
-- rows that are written by hand.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua queues", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_queues, pgq_stats" }
  local enqueue = fixture.enqueuer(pg)

  local function run(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "queues", ... } end

  -- The objects by the name of the queue, and the names in their order.
  local function read(...)
    local result = run("--json", ...)
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
    local found, names = {}, {}
    for line in result.stdout:gmatch "[^\n]+" do
      local object = cjson.decode(line)
      for name, value in pairs(object) do
        if value == cjson.null then object[name] = nil end
      end
      found[object.queue], names[#names + 1] = object, object.queue
    end
    return found, names
  end

  -- A worker's row; `executors` is JSON, `queues_status` too. A worker behind a pooler has no lock that shows that it lives.
  local function add_worker(queues, executors, queues_status)
    pg:psql(("INSERT INTO pgq_workers (host, pid, version, pooled, queues, status) VALUES ('db1', 77, '1', true, '%s', '{\"executors\": %s, \"queues\": %s}')")
      :format(queues, executors or "[]", queues_status or "{}"))
  end

  it("prints nothing in a pipe if there are no queues, and says so on a terminal", function()
    assert.equal("", run().stdout)
    assert.equal("", run("--json").stdout)
    assert.equal("There are no queues: no jobs, and no workers.\n", (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "queues" })))
  end)

  it("counts the jobs of each state", function()
    enqueue("mail", "", 3)
    pg:psql [[
      INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'mail', '', now() + interval '1 hour' FROM generate_series(1, 4);
      INSERT INTO pgq_jobs (queue_name, data, run_after, lease, started_at)
        SELECT 'mail', '', now() + interval '1 minute', n, now() FROM generate_series(1, 5) AS n;
      INSERT INTO pgq_jobs (queue_name, data, run_after, lease, started_at)
        VALUES ('mail', '', now() - interval '2 hours', 99, now()); -- an expired lease
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error) SELECT 'mail', '', now(), 'no' FROM generate_series(1, 6);
      INSERT INTO pgq_jobs (queue_name, data, ran_at) SELECT 'mail', '', now() FROM generate_series(1, 7);
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error, cancelled) SELECT 'mail', '', now(), 'cancelled', true FROM generate_series(1, 8)]]
    local mail = read().mail
    assert.same({ 4, 5, 4, 6 }, { mail.due, mail.running, mail.later, mail.failed })
    assert.is_nil(mail.due_capped)
    assert.equal(pg:psql [[SELECT to_char(min(run_after) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM pgq_jobs WHERE lease = 99]],
      mail.oldest_due_at)
    assert.matches("^mail\t4\t%d+%-%d+%-%d+T%d+:%d+:%d+%.%d+Z\t5\t4\t6\t%-\t%-\tNO WORKER\tno worker registers this queue\n$", run().stdout)
  end)

  it("ends its counts at 10,000", function()
    pg:psql [[
      INSERT INTO pgq_jobs (queue_name, data) SELECT 'mail', '' FROM generate_series(1, 10000);
      INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'mail', '', now() + interval '1 h' FROM generate_series(1, 10001);
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error) SELECT 'mail', '', now(), 'no' FROM generate_series(1, 12000);
      INSERT INTO pgq_jobs (queue_name, data, run_after, lease, started_at)
        SELECT 'mail', '', now() + interval '1 minute', n, now() FROM generate_series(1, 10001) AS n]]
    local mail = read().mail
    assert.same({ 10000, 10000, 10000, 10000 }, { mail.due, mail.running, mail.later, mail.failed })
    assert.is_nil(mail.due_capped)
    assert.same({ true, true, true }, { mail.running_capped, mail.later_capped, mail.failed_capped })
    assert.matches("^mail\t10000\t%S+\t10000%+\t10000%+\t10000%+\t", run().stdout)
  end)

  -- 80,000 jobs are more than the counts of so many queues may read.
  it("divides what counts may read among many queues, and says where a count ends", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
      SELECT CASE WHEN n <= 20000 THEN 'large' ELSE 'q' || n % 150 END, '', now(), 'no' FROM generate_series(1, 80000) AS n]]
    local whole, capped = 0, 0
    for name, queue in pairs(read("--limit", "1000")) do
      if name == "large" then
        assert.same({ true, true }, { queue.failed >= 2000, queue.failed_capped })
      elseif queue.failed_capped then
        capped = capped + 1
        assert.is_true(queue.failed >= 34 and queue.failed < 400, queue.failed)
      else
        whole = whole + 1
        assert.equal(400, queue.failed)
      end
    end
    assert.equal(150, whole + capped)
    assert.is_true(whole >= 3 and capped >= 10, whole .. " " .. capped)
    assert.matches("\nq%d+\t0\t%-\t0\t0\t%d+%+\t", run("--limit", "1000").stdout)
    local few = read("--limit", "2")
    assert.same({ 10000, true, 400, nil }, { few.large.failed, few.large.failed_capped, few.q0.failed, few.q0.failed_capped })
  end)

  it("says which queues are served, and which are not, with the nearest name", function()
    add_worker "{mail,reports}"
    enqueue "mial"
    enqueue "other"
    enqueue "mail"
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, ran_at, error) VALUES ('old', '', now(), 'no')"
    local found, names = read()
    assert.same({ "mial", "other", "mail", "old", "reports" }, names)
    assert.same({ "no_worker", "mail" }, { found.mial.state, found.mial.nearest_queue })
    assert.same({ "no_worker", nil }, { found.other.state, found.other.nearest_queue })
    assert.same({ "served", 1 }, { found.mail.state, found.mail.workers })
    assert.is_nil(found.old.state)
    assert.equal("served", found.reports.state)
    assert.is_truthy(run().stdout:find "NO WORKER\tno worker registers this queue; the nearest name that one registers is 'mail'\n")
  end)

  it("does not count workers that have sent no heartbeat for a minute", function()
    add_worker "{mail}"
    enqueue "mail"
    pg:psql "UPDATE pgq_workers SET last_seen_at = now() - interval '61 seconds'"
    assert.equal("no_worker", read().mail.state)
  end)

  it("says which queues are paused, until when, by whom and why", function()
    add_worker "{mail,reports,ok}"
    pg:psql [[INSERT INTO pgq_queues (queue_name, paused_at, paused_until, paused_by, pause_reason) VALUES
      ('mail', now(), now() + interval '1 hour', 'ann', 'the relay is down'), ('reports', now(), 'infinity', 'ben', NULL),
      ('ok', now() - interval '2 h', now() - interval '1 h', 'ann', 'over')]]
    local found = read()
    assert.same({ "paused", "ann", "the relay is down" }, { found.mail.state, found.mail.paused_by, found.mail.pause_reason })
    assert.equal("infinity", found.reports.paused_until)
    assert.equal("served", found.ok.state)
    assert.is_truthy(run().stdout:find "\tpaused\tpaused until %S+Z, 5%dm%d+s from now, by ann: the relay is down\n")
    assert.is_truthy(run().stdout:find "\tpaused\tpaused until it is resumed, by ben\n")
  end)

  it("says which queues back off, until when, and after which error", function()
    add_worker("{mail,reports}", "[]", [[{"mail": {"backs_off_until": "2999-01-01T00:00:00Z", "backoff_error": "connection refused"},
      "reports": {"backs_off_until": "2020-01-01T00:00:00Z", "backoff_error": "over"}, "x": {"in_flight": 1}}]])
    local found = read()
    assert.same({ "backs_off", "connection refused", "2999-01-01T00:00:00.000000Z" },
      { found.mail.state, found.mail.backoff_error, found.mail.backs_off_until })
    assert.equal("served", found.reports.state)
    assert.is_truthy(run().stdout:find "\tbacks off\tbacks off until 2999%-01%-01T00:00:00Z, %d+d%S* from now: connection refused\n")
  end)

  describe("a queue whose workers have no executor to spare", function()
    local BUSY = [[{"pid": 5, "version": "a", "busy": true, "busy_since": "2026-01-01T00:00:00Z", "job": 12, "queue": "reports",
      "job_since": "2026-01-01T00:00:00Z", "in_flight": 1}]]
    local FULL = [[{"pid": 5, "version": "a", "busy": false, "busy_since": null, "job": 12, "queue": "reports",
      "job_since": "2026-01-01T00:00:00Z", "in_flight": 10}]]
    local IDLE = [[{"pid": 6, "version": "a", "busy": false, "job": null, "in_flight": 9}]]

    local function make_due()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after)
        SELECT q, '', now() - interval '1 min' FROM unnest('{mail,also,reports}'::text[]) AS q]]
    end

    it("is starved, and the list says by which job", function()
      add_worker("{mail,reports}", "[" .. BUSY .. "]")
      add_worker("{reports,also}", "[" .. BUSY .. "," .. IDLE .. "]")
      make_due()
      local found = read()
      assert.same({ "starved", 1, 12, "reports", "2026-01-01T00:00:00.000000Z" }, { found.mail.state, found.mail.executors,
        found.mail.longest_job, found.mail.longest_job_queue, found.mail.longest_job_since })
      assert.same({ "served", "served" }, { found.also.state, found.reports.state })
      assert.is_truthy(run().stdout:find "\tSTARVED\tthe only executor is busy, for the longest time with job 12 of reports: for %d+d")
    end)

    it("is starved also by handlers that wait", function()
      add_worker("{mail,reports,also}", "[" .. FULL .. "," .. BUSY .. "]")
      make_due()
      assert.same({ "starved", "starved", "starved" }, { read().mail.state, read().also.state, read().reports.state })
      assert.is_truthy(run().stdout:find("\tSTARVED\tall 2 executors are busy, ", 1, true))
    end)

    it("is not starved as long as its own jobs run and end", function()
      add_worker("{mail,reports}", "[" .. FULL .. "]")
      make_due()
      pg:psql "INSERT INTO pgq_stats (queue_name, minute, completed) SELECT q, date_trunc('minute', now()), 1 FROM unnest('{mail,reports}'::text[]) AS q"
      assert.same({ "starved", "served" }, { read().mail.state, read().reports.state })
    end)

    it("is not starved if no job is due", function()
      add_worker("{mail,reports}", "[" .. BUSY .. "]")
      enqueue "mail"
      pg:psql "UPDATE pgq_jobs SET run_after = now() + interval '1 hour'"
      assert.equal("served", read().mail.state)
    end)
  end)

  it("says when no worker can run its script", function()
    pg:psql [[INSERT INTO pgq_workers (host, pid, version, pooled, queues, status) VALUES
      ('a', 1, '1', true, '{mail,also}', '{"script_error": "syntax error", "executors": [{"pid": 5, "version": null}]}'),
      ('a', 2, '1', true, '{also}', '{"script_error": "syntax error", "executors": [{"pid": 5, "version": "a"}]}')]]
    local found = read()
    assert.same({ "workers_cannot_run", "syntax error", 0 }, { found.mail.state, found.mail.script_error, found.mail.workers })
    assert.equal("served", found.also.state)
    assert.is_truthy(run().stdout:find("\tNO WORKER\tno worker can run its script: syntax error\n", 1, true))
  end)

  it("says when all workers of a queue are quiet or stopping", function()
    pg:psql [[INSERT INTO pgq_workers (host, pid, version, pooled, queues, status) VALUES
      ('a', 1, '1', true, '{mail,also}', '{"stage": "quiet"}'), ('a', 2, '1', true, '{mail}', '{"stage": "stopping"}'),
      ('a', 3, '1', true, '{also}', '{"stage": "serving"}')]]
    enqueue "mail"
    local found = read()
    assert.same({ "no_worker", 0 }, { found.mail.state, found.mail.workers })
    assert.same({ "served", 1 }, { found.also.state, found.also.workers })
    assert.is_truthy(run().stdout:find("\tNO WORKER\tNo worker serves the queue 'mail': worker a:%d is [^\n]*; worker a:%d is [^\n]*\n"))
  end)

  it("gives the same answer as why, in each state", function()
    add_worker("{served,paused,backs,starved,own}",
      [=[[{"pid": 5, "version": "a", "busy": true, "busy_since": "2026-01-01T00:00:00Z", "job": 12, "queue": "own",
        "job_since": "2026-01-01T00:00:00Z", "in_flight": 1}]]=],
      [[{"backs": {"backs_off_until": "2999-01-01T00:00:00Z", "backoff_error": "connection refused"}}]])
    pg:psql [[
      INSERT INTO pgq_workers (host, pid, version, pooled, queues, status) VALUES
        ('db2', 1, '1', true, '{served,idle,crashed}', '{"executors": [{"pid": 6, "version": "a", "busy": false, "in_flight": 0}]}'),
        ('db2', 2, '1', true, '{left}', '{"stage": "quiet"}'),
        ('db2', 3, '1', true, '{broken}', '{"script_error": "syntax error", "executors": []}');
      INSERT INTO pgq_workers (host, pid, version, queues, status) VALUES ('db2', 4, '1', '{gone}', '{"stage": "serving"}');
      INSERT INTO pgq_queues (queue_name, paused_at, paused_until, paused_by) VALUES ('paused', now(), 'infinity', 'ann');
      INSERT INTO pgq_stats (queue_name, minute, completed) VALUES ('own', date_trunc('minute', now()), 1);
      INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT q, '', now() - interval '1 min'
        FROM unnest('{served,paused,backs,starved,own,left,broken,gone,nobodys}'::text[]) AS q]]
    local found = read()
    for queue, state in pairs { served = "behind", own = "behind", paused = "paused", backs = "backs_off", starved = "starved",
      left = "no_worker", gone = "no_worker", nobodys = "no_worker", broken = "workers_cannot_run" } do
      local code = pg:psql(("SELECT code FROM pgq_why_queue('%s')"):format(queue))
      local of_job = pg:psql(("SELECT (pgq_why(id)).code FROM pgq_jobs WHERE queue_name = '%s'"):format(queue))
      assert.same({ queue, state, state, state == "behind" and "served" or state }, { queue, code, of_job, found[queue].state })
    end
  end)

  it("shows the jobs done per minute and the 95th percentile of the last five minutes", function()
    add_worker "{mail}"
    pg:psql [[INSERT INTO pgq_stats (queue_name, minute, completed, run_buckets) VALUES
      ('mail', date_trunc('minute', now()) - interval '1 min', 500, '{0,0,0,0,90}'),
      ('mail', date_trunc('minute', now()) - interval '2 min', 100, '{0,0,0,0,0,0,0,0,10}'),
      ('mail', date_trunc('minute', now()) - interval '10 min', 9999, '{9999}')]]
    local mail = read().mail
    assert.is_true(mail.done_per_minute >= 100 and mail.done_per_minute <= 120, mail.done_per_minute)
    assert.equal(192, mail.run_p95_ms)
    assert.is_truthy(run().stdout:find "\t192ms\tserved\t%-\n")
  end)

  it("finds a few queues among many jobs without reading these, and stops at the limit", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data) SELECT 'q' || lpad(n::text, 3, '0'), '' FROM generate_series(1, 200) AS n, generate_series(1, 20);
      VACUUM ANALYZE pgq_jobs]]
    local _, names = read()
    assert.equal(50, #names)
    assert.same({ "q001", "q050" }, { names[1], names[50] })
    _, names = read("--limit", 3)
    assert.same({ "q001", "q002", "q003" }, names)
    _, names = read("--limit", 1000)
    assert.equal(200, #names)
  end)

  it("fits a terminal of 80 columns, with notes below the rows", function()
    add_worker("{" .. ("x"):rep(100) .. ",mail}")
    enqueue(("ü"):rep(90))
    pg:psql [[
      INSERT INTO pgq_jobs (queue_name, data, run_after)
        SELECT q, '', now() - interval '700 days' FROM unnest('{mail,m}'::text[]) AS q, generate_series(1, 10001);
      INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'mail', '', now() + interval '700 days' FROM generate_series(1, 10001);
      INSERT INTO pgq_queues (queue_name, paused_at, paused_until, paused_by, pause_reason)
        VALUES ('mail', now(), 'infinity', 'ann', repeat('because ', 20) || repeat('!', 200))]]
    local shown, status = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "queues" })
    assert.equal(0, status)
    assert.equal(80, terminal.width(shown), shown)
    assert.matches("^QUEUE%s+DUE  OLDEST  RUN   LATER  FAILED  DONE/MIN  P95  STATE\n", shown)
    assert.matches("\nmail%s+10000%+%s+700d%s+0%s+10000%+%s+0%s+%-%s+%-%s+paused\n  paused until it is resumed, by ann: because because", shown)
    assert.matches("\n" .. ("ü"):rep(12) .. "[^\n]*ü…%s", shown)
    assert.is_true(terminal.width((terminal.run(120, { PGQ_LUA, "--db", pg.conninfo, "queues" }))) <= 120)
    assert.is_true(terminal.width((terminal.run(60, { PGQ_LUA, "--db", pg.conninfo, "queues" }))) <= 80)
  end)

  it("escapes characters that are not seen, or that write over others", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data) VALUES (E'a\nb\tc\x1b[31m' || chr(8238) || 'd"\e', '');
      INSERT INTO pgq_queues (queue_name, paused_at, paused_until, pause_reason) VALUES ('p', now(), 'infinity', E'x\ny' || chr(8238))]]
    local out = run().stdout
    assert.is_truthy(out:find([[a\nb\tc\x1b[31m\u202ed"\e]] .. "\t", 1, true), out)
    assert.is_truthy(out:find([[x\ny\u202e]] .. "\n", 1, true), out)
    local json = run("--json").stdout
    assert.is_truthy(json:find([["a\nb\tc\u001b[31m\u202ed\"\\e"]], 1, true), json)
    assert.is_truthy(read()['a\nb\tc\27[31m\226\128\174d"\\e'])
    assert.is_nil(json:find("[^\n\32-\126]"))
  end)

  it("refuses words that it does not take", function()
    local result = run "mail"
    assert.equal(2, result.status)
    assert.equal("pgq-lua queues: unexpected argument 'mail'\nusage: pgq-lua queues [options]\n", result.stderr)
    assert.equal(2, run("--limit", "0").status)
    assert.equal(2, run("--delay", "1s").status)
  end)

  it("names the privilege that is missing, and the table", function()
    pg:psql [[CREATE ROLE viewer LOGIN; GRANT SELECT ON pgq_jobs, pgq_workers, pgq_queues TO viewer]]
    local function as_viewer() return process.run { PGQ_LUA, "--db", pg.conninfo .. " user=viewer", "queues" } end
    local result = as_viewer()
    assert.equal(1, result.status)
    assert.equal("pgq-lua queues: permission denied for table pgq_stats; the role 'viewer' does not have: SELECT on pgq_stats. "
      .. "To grant that: GRANT SELECT ON pgq_stats TO viewer\n", result.stderr)
    pg:psql "GRANT SELECT ON pgq_stats TO viewer"
    assert.equal(0, as_viewer().status)
    pg:psql "DROP OWNED BY viewer; DROP ROLE viewer"
  end)

  it("names pgq-lua migrate when a table is missing", function()
    pg:psql "ALTER TABLE pgq_stats RENAME TO elsewhere"
    local result = run()
    pg:psql "ALTER TABLE elsewhere RENAME TO pgq_stats"
    assert.equal(1, result.status)
    assert.matches("pgq_stats.* does not exist; run `pgq%-lua migrate` to create what is missing\n$", result.stderr)
  end)

  it("has a session with a name, which waits for two seconds for a locked table", function()
    local locker = process.start { "psql", "-XqAt", "-d", pg.conninfo, "-c", "BEGIN", "-c", "LOCK TABLE pgq_jobs", "-c", "SELECT 'locked'",
      "-c", "SELECT pg_sleep(30)" }
    locker:read_until "locked"
    local command
    require("spec.support.wait").till("the session", 60, function()
      if not command or not command:is_running() then command = process.start { PGQ_LUA, "--db", pg.conninfo, "queues" } end
      return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgq-lua queues' AND wait_event_type = 'Lock'" == "1"
    end)
    local result = run()
    assert.equal(1, result.status)
    assert.matches("^pgq%-lua queues: gave up after 2s: the table pgq_jobs is locked by session %d+ %(psql, ", result.stderr)
    locker:kill "sigkill"
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()"
    command:wait()
  end)
end)

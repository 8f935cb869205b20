-- pgq-lua doctor: each situation that it warns of is made, found, and repaired as doctor says.

local cjson = require "cjson"
local Pgbouncer = require "spec.support.pgbouncer"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua doctor", function()
  local pg = fixture.server {
    settings = { max_prepared_transactions = 5, autovacuum_naptime = "1d" },
    clean = "TRUNCATE pgq_queues, pgq_attempts, pgq_stats",
    sql = [[CREATE ROLE pgq_viewer LOGIN;
      GRANT SELECT ON pgq_jobs, pgq_workers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit TO pgq_viewer;
      CREATE ROLE weak LOGIN; CREATE ROLE stranger LOGIN]],
  }
  local start = fixture.workers(pg)
  local enqueue = fixture.enqueuer(pg)

  -- Runs it; returns the findings as a list, and the exit status.
  local function run(conninfo, ...)
    local result = process.run { PGQ_LUA, "--db", conninfo or pg.conninfo, "doctor", "--json", ... }
    assert.equal("", result.stderr)
    local findings, bad = {}, false
    for line in result.stdout:gmatch "[^\n]+" do
      local finding = cjson.decode(line)
      if finding.repair == cjson.null then finding.repair = nil end
      bad = bad or finding.level == "bad"
      findings[#findings + 1] = finding
    end
    assert.equal(bad and 1 or 0, result.status)
    return findings
  end

  -- The finding of a check whose text has the Lua pattern, or nil.
  local function find(findings, check, pattern)
    for _, finding in ipairs(findings) do
      if finding.check == check and finding.finding:find(pattern) then return finding end
    end
  end

  local function text_of(findings)
    local lines = {}
    for i, finding in ipairs(findings) do
      lines[i] = ("%s %s: %s [%s]"):format(finding.level, finding.check, finding.finding, finding.repair or "")
    end
    return table.concat(lines, "\n")
  end

  -- Expects a finding of that level, and returns it.
  local function expect(level, check, pattern, conninfo)
    local findings = run(conninfo)
    local found = find(findings, check, pattern)
    assert.is_truthy(found, text_of(findings))
    assert.equal(level, found.level, text_of(findings))
    return found
  end

  local function levels_of(findings, check)
    local levels = {}
    for _, finding in ipairs(findings) do
      if finding.check == check then levels[#levels + 1] = finding.level end
    end
    return table.concat(levels, " ")
  end

  -- Makes the situation by SQL, expects the finding, runs what repairs it, and expects that the check is ok.
  local function heal(sql, level, check, pattern, repair)
    pg:psql(sql)
    local found = expect(level, check, pattern)
    local command = found.repair
    assert.matches(repair, command)
    if command == "pgq-lua migrate" then
      process.check { PGQ_LUA, "--db", pg.conninfo, "migrate", timeout = 60 }
    else
      pg:psql(command)
    end
    local findings = run()
    assert.is_nil(find(findings, check, pattern), text_of(findings))
    for _, finding in ipairs(findings) do
      if finding.check == check then assert.equal("ok", finding.level, text_of(findings)) end
    end
  end

  it("finds nothing bad where nothing is, with status 0", function()
    local worker = start [[pgq.register_queue("q", print)]]
    worker:read_until "worker is serving"
    local findings = run()
    for _, finding in ipairs(findings) do
      if finding.check ~= "settings" then assert.equal("ok", finding.level, text_of(findings)) end
    end
    for _, check in ipairs { "server", "settings", "clocks", "tables", "indexes", "trigger", "plans", "listen", "privileges", "workers",
      "queues", "due jobs", "far future", "sequences", "bloat", "vacuum", "wraparound", "transactions", "slots" } do
      assert.is_truthy(find(findings, check, ""), check)
    end
    assert.equal("ok", levels_of(findings, "plans"))
    assert.matches("fsync is off", find(findings, "settings", "fsync").finding) -- of the specs' servers
  end)

  it("prints a line for each finding in a pipe, and fits a terminal", function()
    pg:psql "ALTER TABLE pgq_jobs DISABLE TRIGGER pgq_ring"
    finally(function() pg:psql "ALTER TABLE pgq_jobs ENABLE TRIGGER pgq_ring" end)
    local words = { PGQ_LUA, "--db", pg.conninfo, "doctor" }
    assert.matches("\nbad\ttrigger\tpgq_ring is disabled: [^\t]*\tALTER TABLE pgq_jobs ENABLE TRIGGER pgq_ring\n", process.run(words).stdout)
    local out, status = terminal.run(60, words)
    assert.equal(1, status)
    assert.is_true(terminal.width(out) <= 60)
    assert.matches("\nbad   trigger       pgq_ring is disabled: sleeping workers\n +find new jobs at their next poll only\n"
      .. " +ALTER TABLE pgq_jobs ENABLE TRIGGER\n +pgq_ring\n", out)
    assert.matches("\n%d+ ok, %d+ warn, 1 bad\n$", out)
  end)

  it("exits with 2 for wrong usage, and with 1 without a database", function()
    assert.equal(2, process.run({ PGQ_LUA, "doctor", "mail" }).status)
    assert.equal(1, process.run({ PGQ_LUA, "--db", "host=/nowhere", "doctor" }).status)
  end)

  describe("finds in the tables", function()
    it("a column that is missing", function()
      heal("ALTER TABLE pgq_jobs DROP COLUMN meta", "bad", "tables", "adding columns to pgq_jobs", "^pgq%-lua migrate$")
    end)

    it("a column of a wrong type", function()
      pg:psql "ALTER TABLE pgq_workers ALTER pid TYPE bigint"
      finally(function() pg:psql "ALTER TABLE pgq_workers ALTER pid TYPE integer" end)
      expect("bad", "tables", "the column pgq_workers.pid has the type bigint, and the worker needs integer")
    end)

    it("a function of another version", function()
      heal("CREATE OR REPLACE FUNCTION pgq_why_pace(queue_name text) RETURNS float8 LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        "bad", "tables", "creating the functions", "^pgq%-lua migrate$")
    end)

    it("a disabled trigger, and one that is missing", function()
      heal("ALTER TABLE pgq_jobs DISABLE TRIGGER pgq_ring", "bad", "trigger", "is disabled", "ENABLE TRIGGER")
      heal("DROP TRIGGER pgq_ring ON pgq_jobs", "bad", "trigger", "is missing", "^pgq%-lua migrate$")
    end)

    it("indexes that are missing, and that statements read the whole table then", function()
      heal("DROP INDEX pgq_jobs_lease", "bad", "indexes", "pgq_jobs_lease of pgq_jobs is missing", "^pgq%-lua migrate$")
      heal("DROP INDEX pgq_attempts_job", "bad", "indexes", "pgq_attempts_job of pgq_attempts is missing", "^CREATE INDEX CONCURRENTLY")
      heal("DROP INDEX pgq_attempts_ended", "bad", "indexes", "pgq_attempts_ended", "USING brin")
      heal("ALTER TABLE pgq_queues DROP CONSTRAINT pgq_queues_pkey", "bad", "indexes", "pgq_queues_pkey", "ADD PRIMARY KEY")
      heal("DROP INDEX pgq_jobs_fetch", "bad", "plans", "'claim' of workers reads the whole table %(Seq Scan%)", "^pgq%-lua migrate$")
    end)

    it("no fault in an index of another name", function()
      pg:psql "ALTER INDEX pgq_jobs_lease RENAME TO by_lease"
      finally(function() pg:psql "ALTER INDEX by_lease RENAME TO pgq_jobs_lease" end)
      expect("ok", "indexes", "exist and are valid")
    end)

    it("an index that was not finished", function()
      local invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '%s'::regclass"
      heal(invalid:format "pgq_jobs_lease", "bad", "indexes", "pgq_jobs_lease of pgq_jobs is not valid", "^pgq%-lua migrate$")
      heal(invalid:format "pgq_stats_minute", "bad", "indexes", "pgq_stats_minute", "^REINDEX INDEX CONCURRENTLY pgq_stats_minute$")
    end)

    it("dead rows", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 110000)"
      pg:psql "DELETE FROM pgq_jobs"
      local found = wait.till("the finding", 30, function() return find(run(), "bloat", "pgq_jobs: .*, 1%d%d%d%d%d dead ones") end)
      assert.same({ "warn", "VACUUM pgq_jobs" }, { found.level, found.repair:match "^[^.]*" })
      expect("warn", "vacuum", "pgq_jobs was .* 110000 dead rows")
      pg:psql "VACUUM pgq_jobs"
    end)

    it("numbers that come to their end", function()
      heal("SELECT setval('pgq_jobs_id_seq', 9000000000000000000)", "bad", "sequences", "pgq_jobs has used 9000000000000000000",
        "ALTER SEQUENCE pgq_jobs_id_seq")
    end)

    -- The last one here: when autovacuum is switched on, it looks at all tables at once.
    it("autovacuum that is disabled, for the server or a table", function()
      heal("ALTER TABLE pgq_jobs SET (autovacuum_enabled = false)", "bad", "vacuum", "autovacuum is disabled for it", "RESET")
      pg:psql "ALTER SYSTEM SET autovacuum = off"
      pg:psql "SELECT pg_reload_conf()"
      finally(function()
        pg:psql "ALTER SYSTEM RESET autovacuum"
        pg:psql "SELECT pg_reload_conf()"
      end)
      wait.till("the finding", 30, function() return find(run(), "settings", "autovacuum is off") end)
      expect("bad", "settings", "autovacuum is off")
    end)
  end)

  describe("finds on the server", function()
    local sessions = {}
    after_each(function()
      for _, session in ipairs(sessions) do
        session:kill "sigkill"
        session:wait()
      end
      sessions = {}
    end)

    local function psql(sql, role)
      local session = process.start { "psql", "-XAtq", "-d", role and pg.conninfo:gsub("user=postgres", "user=" .. role) or pg.conninfo, stdin = "pipe" }
      sessions[#sessions + 1] = session
      session:write(sql .. ";\n\\echo done\n")
      session:read_until "done"
      return session
    end

    it("an old transaction, and its session", function()
      psql "BEGIN; SELECT pg_current_xact_id()"
      expect("ok", "transactions", "1 transactions are open")
      pg:psql "SET synchronous_commit = off; DO 'BEGIN FOR i IN 1..200001 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END';"
      local found = expect("warn", "transactions", "session %d+ %(psql, user postgres, idle in transaction%) keeps dead rows .* for 20%d+ transactions")
      pg:psql(found.repair)
      wait.till("the end of the session", 30, function() return find(run(), "transactions", "^0 transactions are open") end)
    end)

    it("a prepared transaction that has locked a table", function()
      enqueue "q"
      pg:psql "BEGIN; SELECT FROM pgq_jobs FOR UPDATE; PREPARE TRANSACTION 'two-phase'"
      local found = find(run(), "transactions", "the prepared transaction 'two%-phase' of user postgres has locked pgq_jobs")
      pg:psql "ROLLBACK PREPARED 'two-phase'"
      assert.same({ "warn", "COMMIT PREPARED or ROLLBACK PREPARED 'two-phase'" }, { found.level, found.repair })
    end)

    it("a replication slot that nobody uses", function()
      heal("SELECT pg_create_physical_replication_slot('forgotten', true)", "warn", "slots",
        "physical replication slot 'forgotten' is not used, and keeps %d+ %a+ of write%-ahead log", "pg_drop_replication_slot")
    end)

    it("that privileges are missing, or too many", function()
      psql("SELECT pg_advisory_lock('pgq_workers'::regclass::oid::int4, 77)", "weak") -- as a worker does
      local found = expect("bad", "privileges", "the role 'weak' of a running worker does not have SELECT, UPDATE, DELETE on pgq_jobs")
      assert.equal("GRANT SELECT, UPDATE, DELETE ON pgq_jobs TO weak", found.repair)
      heal("GRANT INSERT ON pgq_jobs TO PUBLIC; SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77",
        "warn", "privileges", "every role has INSERT on pgq_jobs", "^REVOKE INSERT ON pgq_jobs FROM PUBLIC$")
    end)

    it("that a table is locked, and ends soon", function()
      psql "BEGIN; LOCK pgq_jobs"
      local findings = run()
      assert.matches("session %d+ %(psql, user postgres, idle in transaction%) has the lock ACCESS EXCLUSIVE of pgq_jobs",
        find(findings, "locks", "").finding)
      assert.matches("not checked: another session has locked a table that this check reads", find(findings, "queues", "").finding)
      assert.equal("warn", levels_of(findings, "queues"))
    end)

    it("that notifications do not come through a pooler", function()
      local pool = Pgbouncer.start(pg, { pool_mode = "transaction" })
      finally(function() pool:stop() end)
      local found = expect("warn", "listen", "a pooler shares the sessions", pool.conninfo)
      assert.matches("%-%-pooler session", found.repair)
    end)
  end)

  describe("finds among workers", function()
    local function add(host, version, status)
      pg:psql(("INSERT INTO pgq_workers (host, pid, version, queues, pooled, status) VALUES ('%s', 5, '%s', '{q}', true, '%s')")
        :format(host, version, cjson.encode(status)))
    end

    it("that there is none, and one that has died", function()
      expect("warn", "workers", "no worker is running")
      pg:psql "INSERT INTO pgq_workers (host, pid, version) VALUES ('h', 5, '1')"
      assert.matches("DELETE FROM pgq_workers WHERE id = 1", expect("warn", "workers", "worker h:5 is gone").repair)
    end)

    it("different versions and scripts", function()
      add("a", "1", { script = "/w.lua", script_version = "aaa" })
      add("b", "1", { script = "/w.lua", script_version = "aaa" })
      add("c", "2", { script = "/w.lua", script_version = "bbb" })
      add("d", "2", { script = "/other.lua", script_version = "ccc" })
      expect("warn", "workers", "different versions of pgq%-lua: 1 %(2%), 2 %(2%)")
      expect("warn", "workers", "different contents of /w.lua: aaa %(2%), bbb %(1%)")
      assert.is_nil(find(run(), "workers", "other.lua"))
    end)

    it("scripts that cannot be loaded, and connections that have problems", function()
      add("a", "1", { script = "/w.lua", script_error = "w.lua:3: oops", error = "no route to host" })
      assert.equal("correct /w.lua", expect("bad", "workers", "worker a:5 cannot load its script: w.lua:3: oops").repair)
      expect("warn", "workers", "worker a:5 has a problem with its connections: no route to host")
    end)

    it("clocks that differ", function()
      local function at(seconds) return os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() + seconds) end
      add("a", "1", { at = at(20) })
      add("b", "1", { at = at(-300) })
      expect("warn", "clocks", "the clock of worker a:5 differs from that of the database by %d+%.%d s")
      expect("bad", "clocks", "the clock of worker b:5 differs from that of the database by %-%d+%.%d s")
    end)
  end)

  describe("finds in the queues", function()
    it("due jobs without a worker, unless their queue is paused", function()
      for i = 1, 7 do enqueue("q" .. i) end
      local findings = run()
      local found = find(findings, "queues", "no worker serves 'q1', which has due jobs")
      assert.same({ "bad", "pgq-lua why 'q1'" }, { found.level, found.repair })
      assert.is_truthy(find(findings, "queues", "no worker serves 'q5', which has due jobs, and 2 more queues like this"))
      assert.equal("bad bad bad bad bad", levels_of(findings, "queues"))
      pg:psql "SELECT pgq_pause('q' || n) FROM generate_series(1, 7) AS n"
      expect("ok", "queues", "7 queues have jobs")
    end)

    it("queues with names that are no plain words, and names them so that a shell takes it", function()
      local names = { ["-q"] = "pgq-lua why --queue '-q'", ["42"] = "pgq-lua why --queue '42'", ["it''s"] = "pgq-lua queues",
        [("n"):rep(101)] = "pgq-lua queues" }
      for name, repair in pairs(names) do
        pg:psql "TRUNCATE pgq_jobs"
        pg:psql(("INSERT INTO pgq_jobs (queue_name, data) VALUES ('%s', '')"):format(name))
        assert.equal(repair, expect("bad", "queues", "no worker serves '").repair)
      end
    end)

    it("jobs that have been due for more than an hour", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('old', '', now() - interval '3 hours')"
      assert.equal("pgq-lua why 'old'", expect("bad", "due jobs", "the oldest due job of 'old' has been due for 03:00:").repair)
    end)

    it("jobs for the far future", function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('far', '', now() + interval '20 years'), ('never', '', 'infinity')"
      assert.equal("pgq-lua jobs 'far'", expect("warn", "far future", "a job of 'far' is to run at 20").repair)
      expect("warn", "far future", "a job of 'never' is to run at infinity")
    end)
  end)

  it("works with the privileges of a viewer, and says what it could not check", function()
    enqueue "q"
    local findings = run((pg.conninfo:gsub("user=postgres", "user=pgq_viewer")))
    assert.equal("warn", levels_of(findings, "plans"))
    assert.equal("not checked: permission denied for table pgq_jobs", find(findings, "plans", "").finding)
    for _, check in ipairs { "server", "tables", "indexes", "trigger", "listen", "privileges", "sequences", "bloat", "vacuum", "transactions",
      "slots" } do
      assert.not_matches("warn", levels_of(findings, check), check .. text_of(findings))
    end
    assert.equal("bad", levels_of(findings, "queues"))
    findings = run((pg.conninfo:gsub("user=postgres", "user=stranger")))
    assert.matches("cannot read pgq_jobs, pgq_workers", find(findings, "privileges", "cannot read").finding)
    assert.matches("^not checked: permission denied", find(findings, "queues", "").finding)
  end)
end)

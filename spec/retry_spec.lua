-- The commands that change many jobs: retry, cancel and delete, by ids and by selections; and pgq_retry in SQL.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("a command that changes jobs", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_audit RESTART IDENTITY" }
  local start = fixture.workers(pg)

  local function command(...)
    return process.run { PGQ_LUA, "--db", pg.conninfo, ... }
  end

  local function run(...)
    local result = command(...)
    assert.equal(0, result.status, result.stderr)
    assert.equal("", result.stderr)
    return result.stdout
  end

  -- Inserts a job in this state, and returns its id. `changes` are further columns.
  local COLUMNS = {
    due = {}, later = { run_after = "now() + interval '1 h'" },
    failed = { run_after = "now() - interval '3 days'", ran_at = "now()", error = "'no route to host 7'", attempt = "4", retry_waits = "'{}'" },
    completed = { ran_at = "now()" }, cancelled = { ran_at = "now()", cancelled = "true", error = "'cancelled'" },
    running = { lease = "77", started_at = "now()", run_after = "now() + interval '1 min'", attempt = "1" },
  }

  local function add(state, changes, count)
    local names, values = { "queue_name", "data" }, { "'q'", "''" }
    local function put(columns)
      for name, value in pairs(columns) do
        for i, known in ipairs(names) do
          if known == name then values[i], name = value, nil end
        end
        if name then names[#names + 1], values[#values + 1] = name, value end
      end
    end
    put(COLUMNS[state])
    put(changes or {})
    return pg:psql(("INSERT INTO pgq_jobs (%s) SELECT %s FROM generate_series(1, %d) AS n RETURNING id")
      :format(table.concat(names, ", "), table.concat(values, ", "), count or 1)):match "^%d+"
  end

  local function row(id)
    return pg:psql([[SELECT run_after <= now() AND run_after > now() - interval '1 h', ran_at IS NULL,
      coalesce(error, '-'), attempt, retry_waits, cancelled, lease IS NULL, deaths
      FROM pgq_jobs WHERE id = ]] .. id)
  end

  local function audit()
    return pg:psql "SELECT role, verb, selection, ids, count, detail FROM pgq_audit ORDER BY id"
  end

  local function states()
    return pg:psql [[SELECT string_agg(state || ' ' || count, ', ' ORDER BY state) FROM (SELECT CASE WHEN ran_at IS NOT NULL THEN
      CASE WHEN cancelled THEN 'cancelled' WHEN error IS NULL THEN 'completed' ELSE 'failed' END
      WHEN lease IS NOT NULL THEN 'running' WHEN run_after <= now() THEN 'due' ELSE 'later' END AS state, count(*)
      FROM pgq_jobs GROUP BY 1) AS counted]]
  end

  local FRESH = "t|t|-|0|{1m0s,10m0s,30m0s}|f|t|0"

  describe("retry", function()
    it("makes jobs due again by their ids, with fresh retries", function()
      local failed, cancelled = add("failed", { deaths = "3" }), add "cancelled"
      local completed, later = add("completed", { attempt = "1", retry_waits = "'{5s}'" }), add("later", { retry_waits = "'{5s}'" })
      assert.equal(("%d retried\n%d retried\n%d retried\n%d retried\n"):format(failed, cancelled, completed, later),
        run("retry", failed, cancelled, completed, later))
      assert.equal(FRESH, row(failed))
      assert.equal(FRESH, row(cancelled))
      assert.equal(FRESH, row(completed))
      assert.equal("t|t|-|0|{5s}|f|t|0", row(later)) -- it has made no attempt, so its waits are its first ones
      assert.equal(("postgres|retry||{%d,%d,%d,%d}|4|"):format(failed, cancelled, completed, later), audit())
    end)

    it("keeps the rest of the waits and the number of attempts with --keep-waits", function()
      local failed, later = add "failed", add("later", { attempt = "1", error = "'once'", retry_waits = "'{9s}'" })
      run("retry", "--keep-waits", failed, later)
      assert.equal("t|t|no route to host 7|4|{}|f|t|0", row(failed))
      assert.equal("t|t|once|1|{9s}|f|t|0", row(later))
      assert.equal(("postgres|retry||{%d,%d}|2|--keep-waits"):format(failed, later), audit())
    end)

    it("leaves running jobs alone, and says which ids are unknown", function()
      local running, failed = add "running", add "failed"
      local result = command("retry", running, failed, "999")
      assert.equal(("%d is running: a running job cannot be retried before it ends\n%d retried\n999 unknown: there is no such job\n")
        :format(running, failed), result.stdout)
      assert.equal(1, result.status)
      assert.equal(("postgres|retry||{%d,%d,999}|1|"):format(running, failed), audit())
    end)

    it("waits for a job that a worker has just claimed", function()
      local id = add "due"
      local hold = process.start { "psql", "-XAt", "-d", pg.conninfo, "-c",
        "BEGIN; SELECT 'locked' FROM pgq_jobs FOR UPDATE; SELECT pg_sleep(1); UPDATE pgq_jobs SET ran_at = now(), error = 'x'; COMMIT" }
      wait.till("the row to be locked", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" == "1"
      end)
      assert.equal(id .. " retried\n", run("retry", id))
      assert.equal(FRESH:gsub("%{.-%}", "{1m0s,10m0s,30m0s}"), row(id))
      hold:wait()
    end)

    it("retries 10,000 failures with one error in one queue, and workers run them at once", function()
      add("failed", {}, 10000)
      add("failed", { error = "'disk full'" }, 1000)
      add("failed", { queue_name = "'other'" }, 1000)
      add("later", { error = "'no route to host 7'", attempt = "1" }, 10)
      add("cancelled", { error = "'no route to host 7'" }, 10)
      local worker = start('pgq.register_queue("q", function() end)', "--poll-interval", "1h")
      worker:read_until "worker is serving"
      wait.sleep(1) -- until it sleeps
      local said = run("retry", "--queue", "q", "--error", "no route to host")
      assert.equal("retried 10000 jobs\n", said)
      wait.till("the jobs to be done", 60, function()
        return pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'q' AND ran_at IS NULL AND run_after <= now()" == "0"
      end)
      worker:stop()
      assert.equal("cancelled 10, failed 2000, later 10", states())
      assert.equal("postgres|retry|--queue q --error 'no route to host'||10000|", audit())
    end)

    it("wakes a worker that sleeps, also by pgq_retry and for one id", function()
      local worker = start('pgq.register_queue("q", function(_, job) print("ran", job.id) end)', "--poll-interval", "1h")
      worker:read_until "worker is serving"
      local first, second = add "failed", add "later"
      wait.sleep(1)
      assert.equal("retried", pg:psql("SELECT pgq_retry(" .. first .. ")"))
      worker:read_until("ran\t" .. first)
      wait.sleep(1)
      run("retry", second)
      worker:read_until("ran\t" .. second)
      worker:stop()
    end)
  end)

  describe("with a selection", function()
    local function add_all()
      add("due", {}, 3) add("later", {}, 4) add("running", {}, 2) add("failed", {}, 5) add("completed", {}, 6) add("cancelled", {}, 7)
    end

    it("needs --all if nothing selects jobs", function()
      add_all()
      for _, verb in ipairs { "retry", "cancel", "delete" } do
        local result = command(verb)
        assert.equal(2, result.status)
        assert.matches("or %-%-all", result.stderr)
        result = command(verb, "--yes", "--limit", "3")
        assert.equal(2, result.status)
      end
      assert.equal("retried 5 jobs\n", run("retry", "--all"))
      assert.equal("cancelled 7, completed 6, due 8, later 4, running 2", states())
      assert.equal("deleted 13 jobs\n", run("delete", "--all"))
      assert.equal("due 8, later 4, running 2", states())
      local result = command("cancel", "--all")
      assert.equal("cancelled 12 jobs\n", result.stdout)
      assert.matches("2 that run were left alone", result.stderr)
      assert.equal(1, result.status)
      assert.equal("cancelled 12, running 2", states())
      assert.equal("postgres|retry|--all||5|\npostgres|delete|--all||13|\npostgres|cancel|--all||12|", audit())
    end)

    it("takes only the states that it can change", function()
      add_all()
      for verb, state in pairs { cancel = "failed", delete = "due", retry = "running" } do
        local result = command(verb, "--state", state)
        assert.equal(2, result.status, verb)
      end
      assert.equal("deleted 12 jobs\n", run("delete", "--state", "failed,cancelled"))
      assert.equal("cancelled 3 jobs\n", run("cancel", "--state", "due"))
      local result = command("retry", "--state", "later,due,cancelled")
      assert.equal("retried 7 jobs\n", result.stdout)
      assert.equal("completed 6, due 7, running 2", states())
    end)

    it("combines the queue, the error, times and meta", function()
      add("failed", { queue_name = "'a'", error = "'50% of it'", meta = [['{"user": 7}']] })
      add("failed", { queue_name = "'a'", error = "'x_y'", ran_at = "now() - interval '2 h'", meta = [['{"user": "7"}']] })
      add("failed", { queue_name = "'b'", error = "'xzy'", ran_at = "now() - interval '3 h'", meta = "'[]'" })
      local function count(...)
        return tonumber(run("delete", "--dry-run", ...):match "^(%d+) jobs? would be deleted")
      end
      assert.equal(2, count("--queue", "a"))
      assert.equal(3, count("--error", "%"))
      assert.equal(1, count("--error", "50\\%%"))
      assert.equal(2, count("--error", "x_y"))
      assert.equal(2, count("--error", "y"))
      assert.equal(0, count("--error", "Y"))
      local note = "note: a pattern with %% or _ must match the whole error"
      assert.matches(note, command("retry", "--error", "0% of", "--dry-run").stderr)
      assert.matches(note, command("retry", "--error", "_ of").stderr)
      assert.equal("", command("retry", "--error", "%0% of_%", "--dry-run").stderr)
      assert.equal("", command("retry", "--error", "Y").stderr)
      assert.equal(2, count("--meta", "user=7"))
      assert.equal(0, count("--meta", "user=8"))
      assert.equal(1, count("--since", "1h"))
      assert.equal(2, count("--before", "1h"))
      assert.equal(1, count("--since", "2h30m", "--before", "1h"))
      assert.equal(3, count("--before", pg:psql "SELECT now() + interval '1 s'"))
      assert.equal(0, count("--since", "infinity"))
      assert.equal(1, count("--queue", "a", "--meta", "user=7", "--error", "of", "--state", "failed", "--since", "1h"))
      assert.equal(0, count("--queue", "nowhere"))
      local result = command("delete", "--since", "yesterdayish")
      assert.equal(2, result.status)
      assert.matches("pgq%-lua delete: %-%-since: 'yesterdayish' is not a time", result.stderr)
      assert.equal("", audit())
    end)

    it("shows with --dry-run how many jobs it would change, and ten of them, and changes nothing", function()
      add("failed", {}, 10500)
      local lines = {}
      for line in run("retry", "--queue", "q", "--dry-run"):gmatch "[^\n]+" do lines[#lines + 1] = line end
      assert.equal("10000+ jobs would be retried, such as", lines[1])
      assert.equal(11, #lines)
      assert.matches("^%d+\tq\tfailed\t20%d%d.*\tno route to host 7$", lines[2])
      assert.equal("failed 10500", states())
      assert.equal("", audit())
    end)

    -- These errors take long to search: some 20 microseconds each.
    it("ends a count that takes long, and says how many jobs it has looked at", function()
      add("failed", { error = "repeat('x', 8000)", ran_at = "now() - n * interval '1 s'" }, 100000)
      local id = add("failed", { error = "'needle'" })
      local result = command("retry", "--error", "needle", "--dry-run")
      local count, row_shown = result.stdout:match "^1 job of the first (%d+) would be retried, such as\n([^\n]*needle)\n$"
      assert.is_truthy(count, result.stdout)
      assert.is_true(tonumber(count) >= 10000 and tonumber(count) <= 100000, count)
      assert.equal(id, row_shown:match "^%d+")
      assert.equal("pgq-lua retry: the other jobs were not looked at, since that would take long: narrow the selection by --queue, "
        .. "--state, --since or --before to count them\n", result.stderr)
      assert.equal(0, result.status)
      assert.equal("1 job would be retried:\n" .. row_shown .. "\n", run("retry", "--error", "needle", "--since", "1h", "--limit", "1", "--dry-run"))
      assert.equal("retried 1 job\n", run("retry", "--error", "needle"))
    end)

    it("stops at --limit", function()
      add("failed", {}, 2500)
      assert.equal("deleted 1700 jobs\n", run("delete", "--queue", "q", "--limit", "1700"))
      assert.equal("failed 800", states())
    end)

    it("goes through many queues, also with jobs that have equal times", function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error) SELECT 'q' || n % 50, '', now(), 'x' || n % 2
        FROM generate_series(1, 5000) AS n]]
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data) SELECT 'q' || n % 50, '' FROM generate_series(1, 5000) AS n]]
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error) SELECT 'same', '', now(), 'x' || n % 2 FROM generate_series(1, 5000) AS n]]
      assert.equal("retried 5000 jobs\n", run("retry", "--error", "x1"))
      assert.equal("due 10000, failed 5000", states())
      assert.equal("cancelled 10000 jobs\n", run("cancel", "--all"))
      assert.equal("deleted 15000 jobs\n", run("delete", "--all"))
    end)

    it("skips and counts jobs that another session has locked", function()
      add("failed", {}, 10)
      local hold = process.start { "psql", "-XAt", "-d", pg.conninfo, "-c",
        "BEGIN; SELECT 'locked' FROM pgq_jobs ORDER BY id LIMIT 4 FOR UPDATE; SELECT pg_sleep(60)" }
      finally(function()
        pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        hold:wait()
      end)
      wait.till("the rows to be locked", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'" == "1"
      end)
      local result = command("retry", "--all")
      assert.equal("retried 6 jobs\n", result.stdout)
      assert.matches("4 that other sessions have locked were left alone; `pgq%-lua why %d+` says who has locked the first", result.stderr)
      assert.equal(1, result.status)
    end)

    it("leaves jobs alone that do not fit the checks of the table, names one, and does the others", function()
      local fitting = add("failed", {}, 3)
      local long = add("failed", { retry_waits = "array_fill('1s'::text, ARRAY[1001])" }, 2)
      local wide = add("failed", { retry_waits = "ARRAY[repeat('1', 40000)]" })
      local negative = add("failed", { attempt = "-7" })
      local result = command("retry", "--all", "--keep-waits")
      assert.equal("retried 3 jobs\n", result.stdout)
      assert.equal(1, result.status)
      assert.equal(("pgq-lua retry: 4 were left alone, the first being job %d: its retry waits are more or longer than the table takes, "
        .. "or its queue has no name; without --keep-waits a retry sets the default waits, and `pgq-lua edit` sets others\n")
        :format(long), result.stderr)
      assert.equal("due 3, failed 4", states())
      assert.equal("t|t|no route to host 7|4|{}|f|t|0", row(fitting))
      result = command("retry", "--keep-waits", long, negative)
      assert.equal(1, result.status)
      assert.matches(("pgq%%-lua retry: job %d: it could not be changed: its retry waits are more"):format(long), result.stderr)
      assert.matches(("pgq%%-lua retry: job %d: it could not be changed"):format(negative), result.stderr)
      assert.equal("retried 4 jobs\n", run("retry", "--all"))
      for _, id in ipairs { long, wide, negative } do assert.equal(FRESH, row(id)) end
    end)

    it("ends with its step at SIGINT, says and writes down what was done, and can be repeated", function()
      add("failed", {}, 5000)
      pg:psql [[CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END';
        CREATE TRIGGER slow BEFORE UPDATE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION slow()]]
      finally(function() pg:psql "DROP FUNCTION slow CASCADE" end)
      local running = process.start { PGQ_LUA, "--db", pg.conninfo, "retry", "--all" }
      wait.till("the first step", 30, function() return tonumber(pg:psql "SELECT count FROM pgq_audit") end)
      running:kill "sigint"
      local result = running:wait()
      local done = tonumber(result.stdout:match "^retried (%d+) jobs\n$")
      assert.equal(1, result.status)
      assert.matches("interrupted; what was done is committed, and the same command does the rest", result.stderr)
      assert.is_true(done > 0 and done < 5000 and done % 1000 == 0, done)
      assert.equal(("due %d, failed %d"):format(done, 5000 - done), states())
      assert.equal(("postgres|retry|--all||%d|"):format(done), audit())
      assert.equal(("retried %d jobs\n"):format(5000 - done), run("retry", "--all"))
    end)

    it("has written down what was done also when it is killed", function()
      add("failed", {}, 5000)
      pg:psql [[CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END';
        CREATE TRIGGER slow BEFORE UPDATE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION slow()]]
      finally(function() pg:psql "DROP FUNCTION slow CASCADE" end)
      local running = process.start { PGQ_LUA, "--db", pg.conninfo, "retry", "--all" }
      wait.till("the first step", 30, function() return tonumber(pg:psql "SELECT count FROM pgq_audit") end)
      running:kill "sigkill"
      running:wait()
      wait.till("the session to end", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgq-lua retry'" == "0"
      end)
      assert.equal(pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL", pg:psql "SELECT count FROM pgq_audit")
    end)

    it("says that a trigger keeps jobs", function()
      add("failed", {}, 3)
      pg:psql [[CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION keep()]]
      finally(function() pg:psql "DROP FUNCTION keep CASCADE" end)
      local result = command("delete", "--all")
      assert.equal("deleted 0 jobs\n", result.stdout)
      assert.matches("3 could not be changed: a trigger, rule or row security keeps them", result.stderr)
      assert.equal(1, result.status)
      assert.equal("", audit())
    end)
  end)

  it("refuses ids together with a selection, and words that are no ids, before it changes anything", function()
    local id = add "failed"
    for _, words in ipairs { { id, "x" }, { id, "--queue", "q" }, { id, "--all" }, { id, "--dry-run" }, { id, "--limit", "1" },
      { "99999999999999999999" }, { "--state", "done", "--all" }, { "--meta", "x", "--all" } } do
      for _, verb in ipairs { "retry", "cancel", "delete" } do
        local result = command(verb, unpack(words))
        assert.equal(2, result.status, table.concat(words, " "))
        assert.matches("^pgq%-lua " .. verb .. ": ", result.stderr)
      end
    end
    assert.equal("failed 1", states())
  end)

  it("deletes by ids only what has ended", function()
    local failed, due = add "failed", add "due"
    local result = command("delete", failed, due)
    assert.equal(("%d deleted\n%d is due: only jobs that have ended can be deleted; cancel others first\n"):format(failed, due),
      result.stdout)
    assert.equal(1, result.status)
    assert.equal("due 1", states())
  end)

  it("writes down which jobs were cancelled by their ids", function()
    local due, failed = add "due", add "failed"
    command("cancel", due, failed)
    assert.equal(("postgres|cancel||{%d,%d}|1|"):format(due, failed), audit())
  end)

  it("asks on a terminal before more than 100 jobs are changed, shows its progress, and takes --yes", function()
    add("failed", {}, 150)
    local function on_terminal(answer, ...)
      return process.run({ "luajit", "spec/support/answering.lua", "[y/N]", answer, PGQ_LUA, "--db", pg.conninfo, ... }).stdout
    end
    assert.matches("150 jobs would be retried %(%-%-queue q%)%. Go on%? %[y/N%].*nothing was changed", on_terminal("n", "retry", "--queue", "q"))
    assert.equal("failed 150", states())
    assert.matches("Go on.*retried 150 jobs", on_terminal("y", "retry", "--queue", "q"))
    assert.equal("due 150", states())
    local text = on_terminal("", "cancel", "--all", "--yes")
    assert.not_matches("Go on", text)
    assert.matches("cancelled 150 jobs", text)
    local few = on_terminal("", "delete", "--limit", "100", "--all")
    assert.not_matches("Go on", few)
    add("failed", {}, 2500)
    pg:psql [[CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.0005); RETURN NEW; END';
      CREATE TRIGGER slow BEFORE UPDATE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION slow()]]
    finally(function() pg:psql "DROP FUNCTION slow CASCADE" end)
    assert.matches("\rretried %d000 jobs  %d+/s.*\nretried 2500 jobs\n$", on_terminal("", "retry", "--all", "--yes"))
  end)
end)

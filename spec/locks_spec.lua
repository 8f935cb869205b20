-- The commands while another session has locked a row, or a table.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("while another session has locked", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_audit, pgq_queues, pgq_attempts, pgq_stats" }
  local start = fixture.workers(pg)
  local lockers = {}

  -- Runs SQL in a transaction of psql that stays open. Returns the psql, whose field `backend` is its server process.
  local function lock(sql)
    local psql = process.start { "psql", "-X", "-q", "-A", "-t", pg.conninfo, stdin = "pipe" }
    lockers[#lockers + 1] = psql
    psql:write("BEGIN;\n" .. sql .. ";\nSELECT 'backend ' || pg_backend_pid() || ' has it';\n")
    psql.backend = psql:read_until "backend (%d+) has it"
    return psql
  end

  local function free(psql) psql:write "ROLLBACK;\n" end

  after_each(function()
    for _, psql in ipairs(lockers) do psql:kill "sigkill" end
    lockers = {}
    wait.till("the locks to be gone", 30, function()
      return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql' AND state <> 'active'" == "0"
    end)
  end)

  local function add(changes)
    return pg:psql(("INSERT INTO pgq_jobs (queue_name, data, %s) VALUES ('q', '', %s) RETURNING id"):format(unpack(changes or { "deaths", "0" })))
      :match "^%d+"
  end

  local FAILED = { "ran_at, error, attempt", "now(), 'no luck', 1" }

  local function begin(...)
    return process.start { PGQ_LUA, "--db", pg.conninfo, ... }
  end

  local function run(...)
    return begin(...):wait(60)
  end

  -- The commands that change one thing, each with the beginning of its messages; and the psql that keeps them from it.
  local function cases()
    local cancelled, edited, retried, deleted = add(), add(), add(FAILED), add(FAILED)
    pg:psql "INSERT INTO pgq_queues (queue_name, resumed_at) VALUES ('q', now()), ('r', now())"
    local all = {
      { "pgq-lua cancel: job " .. cancelled .. ": ", "cancel", cancelled },
      { "pgq-lua edit: job " .. edited .. ": ", "edit", edited, "--data", "x" },
      { "pgq-lua retry: job " .. retried .. ": ", "retry", retried },
      { "pgq-lua delete: job " .. deleted .. ": ", "delete", deleted },
      { "pgq-lua pause: ", "pause", "q" },
      { "pgq-lua resume: ", "resume", "r" },
    }
    return all, lock "SELECT FROM pgq_jobs FOR UPDATE; SELECT FROM pgq_queues FOR UPDATE"
  end

  -- Starts the commands of all cases with these options.
  local function begin_all(all, ...)
    local commands = {}
    for i, case in ipairs(all) do
      local words = { ... }
      for k = 2, #case do words[#words + 1] = case[k] end
      commands[i] = begin(unpack(words))
    end
    return commands
  end

  it("a row, a command says who, and gives up in the end", function()
    local all, holder = cases()
    for i, command in ipairs(begin_all(all, "--lock-wait", "3s")) do
      local result = command:wait(60)
      assert.equal(1, result.status)
      assert.equal("", result.stdout)
      local first, last = result.stderr:match "^([^\n]*\n)([^\n]*\n)$"
      for what, line in pairs { ["waiting for at most 3s: "] = first, ["gave up after 3s: "] = last } do
        assert.matches(all[i][1] .. what .. "the row is locked by session " .. holder.backend ..
          " (psql, user postgres, idle in transaction, its transaction is open for ", line, 1, true)
        assert.matches(("; to end that: SELECT pg_terminate_backend(%s)\n"):format(holder.backend), line, 1, true)
      end
    end
    local short = begin_all(all, "--lock-wait", "300ms")
    for i, command in ipairs(short) do
      local result = command:wait(60)
      assert.equal(1, result.status)
      assert.equal(1, select(2, result.stderr:gsub("\n", "")), result.stderr)
      assert.matches(all[i][1], result.stderr, 1, true)
    end
  end)

  it("a row, a command goes on when it is free", function()
    local all, holder = cases()
    local commands = begin_all(all)
    for _, command in ipairs(commands) do command:read_until("waiting for at most 1m10s: ", 30, "stderr") end
    free(holder)
    for _, command in ipairs(commands) do
      local result = command:wait(60)
      assert.equal(0, result.status, result.stderr)
    end
  end)

  it("a row, ^C ends a command at once, and the server's statement with it", function()
    for _, command in ipairs(begin_all((cases()))) do
      command:read_until("waiting for at most 1m10s: ", 30, "stderr")
      command:kill "sigint"
      assert.equal(2, command:wait(5).signal)
    end
    wait.till("the statements to end", 10, function()
      return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgq-lua%'" == "0"
    end)
  end)

  it("a row, bulk commands leave it alone, count it, and name it", function()
    local ids = {}
    for i = 1, 5 do ids[i] = add(FAILED) end
    lock(("SELECT FROM pgq_jobs WHERE id IN (%d, %d) FOR UPDATE"):format(ids[2], ids[4]))
    for _, words in ipairs { { "retry" }, { "delete" }, { "cancel" } } do
      local result = run(words[1], "--queue", "q", "--yes")
      local left = words[1] == "cancel" and 0 or 2
      if words[1] == "retry" then
        assert.equal("retried 3 jobs\n", result.stdout)
        pg:psql(("UPDATE pgq_jobs SET ran_at = now(), error = 'no luck' WHERE id IN (%d, %d, %d)"):format(ids[1], ids[3], ids[5]))
      end
      if left > 0 then
        assert.equal(1, result.status)
        assert.equal(("pgq-lua %s: 2 that other sessions have locked were left alone; `pgq-lua why %s` says who has locked the first\n")
          :format(words[1], ids[2]), result.stderr)
      else
        assert.equal(0, result.status, result.stderr)
      end
    end
    local job = add()
    lock(("SELECT FROM pgq_jobs WHERE id = %s FOR UPDATE"):format(job))
    local result = run("cancel", "--all", "--yes")
    assert.equal(("cancelled 0 jobs\npgq-lua cancel: 1 that other sessions have locked was left alone; `pgq-lua why %s` says who has locked the first\n")
      :format(job), result.stdout .. result.stderr)
  end)

  it("the table, and changes it meanwhile, bulk commands count what has become of the jobs that they have chosen", function()
    local ids = {}
    for i = 1, 7 do ids[i] = add(FAILED) end
    local holder = lock "LOCK TABLE pgq_jobs IN EXCLUSIVE MODE"
    local command = begin("delete", "--queue", "q", "--yes")
    command:read_until("waiting for at most 1m10s: ", 30, "stderr")
    holder:write(([[UPDATE pgq_jobs SET ran_at = NULL, error = NULL WHERE id IN (%d, %d);
      UPDATE pgq_jobs SET ran_at = NULL, lease = 1, started_at = now(), run_after = now() + interval '1 h' WHERE id = %d;
      DELETE FROM pgq_jobs WHERE id = %d;
      COMMIT;
    ]]):format(ids[1], ids[2], ids[3], ids[4]))
    local result = command:wait(60)
    assert.equal(1, result.status)
    assert.equal("deleted 3 jobs\n", result.stdout)
    assert.matches("\npgq-lua delete: 1 that runs was left alone\npgq-lua delete: 3 that ended, were changed or deleted meanwhile "
      .. "were left alone\n", result.stderr, 1, true)
    assert.is_nil(result.stderr:find "other sessions have locked")
  end)

  it("a row as a worker does with jobs that it has claimed, a command says that, too", function()
    local worker = start([[
      pgq.register_queue("q", function() print "begun" io.stdout:flush() spin(4) end)]], "--hold-limit", "1m")
    local id = add()
    worker:read_until "begun"
    local command = begin("--lock-wait", "30s", "cancel", id)
    local said = command:read_until("[^\n]*its hold limit is over", 30, "stderr")
    assert.matches("the row is locked by session %d+ %(pgq%-lua, user postgres, ", said)
    assert.matches("; a worker that has just claimed the job: it ends the job, or leases it when its hold limit is over", said, 1, true)
    local result = command:wait(60)
    assert.equal(id .. " unknown: there is no such job\n", result.stdout)
  end)

  it("a row with a prepared transaction's lock, a command names the transaction", function()
    if pg:psql "SHOW max_prepared_transactions" == "0" then
      pg:psql "ALTER SYSTEM SET max_prepared_transactions = 2"
      pg:restart()
    end
    local id = add()
    pg:psql(("BEGIN; SELECT FROM pgq_jobs WHERE id = %s FOR UPDATE; PREPARE TRANSACTION 'mine'"):format(id))
    local command = begin("--lock-wait", "3s", "cancel", id)
    local result = command:wait(60)
    pg:psql "ROLLBACK PREPARED 'mine'"
    assert.matches("gave up after 3s: the row is locked by the prepared transaction 'mine' of user postgres", result.stderr, 1, true)
    assert.matches("to end that: ROLLBACK PREPARED 'mine'\n", result.stderr, 1, true)
  end)

  it("the table, commands that change jobs say who waits and who has it", function()
    local id = add(FAILED)
    local holder = lock "LOCK TABLE pgq_jobs"
    local all = { { "", "retry", id }, { "", "retry", "--queue", "q", "--yes" }, { "", "cancel", id }, { "", "delete", "--all", "--yes" } }
    for _, command in ipairs(begin_all(all, "--lock-wait", "2500ms")) do
      local result = command:wait(60)
      assert.equal(1, result.status)
      assert.matches(("the table pgq_jobs is locked by session %s (psql, user postgres, idle in transaction,"):format(holder.backend),
        result.stderr, 1, true)
      assert.matches(("with the lock ACCESS EXCLUSIVE; to end that: SELECT pg_terminate_backend(%s)\n"):format(holder.backend),
        result.stderr, 1, true)
    end
  end)

  it("the table, ^C ends a bulk command at once", function()
    add(FAILED)
    lock "LOCK TABLE pgq_jobs IN EXCLUSIVE MODE"
    local command = begin("retry", "--queue", "q", "--yes")
    command:read_until("waiting for at most 1m10s: the table pgq_jobs is locked by session", 30, "stderr")
    command:kill "sigint"
    local result = command:wait(5)
    assert.equal(1, result.status)
    assert.equal("retried 0 jobs\n", result.stdout)
    assert.matches("interrupted while waiting for a lock", result.stderr, 1, true)
  end)

  it("a table, commands that only read name it and the session, in time", function()
    local id = add()
    local readers = {
      pgq_jobs = { { "jobs" }, { "jobs", "q" }, { "jobs", "--group-by", "error" }, { "queues" }, { "show", id },
        { "show", id, "--data" }, { "retry", "--all", "--dry-run" } },
      pgq_workers = { { "workers" }, { "queues" }, { "why", id }, { "why", "q" } },
      pgq_queues = { { "queues" }, { "why", "q" }, { "why", id } },
      pgq_stats = { { "stats" }, { "queues" } },
      pgq_attempts = { { "show", id } },
    }
    for name, all in pairs(readers) do
      local holder = lock("LOCK TABLE " .. name)
      local commands = {}
      for i, words in ipairs(all) do commands[i] = begin(unpack(words)) end
      for i, words in ipairs(all) do
        local result = commands[i]:wait(30)
        local what = name .. ": " .. table.concat(words, " ") .. ": " .. result.stderr
        assert.equal(1, result.status, what)
        assert.matches(("the table %s is locked by session %s (psql, user postgres, idle in transaction, its transaction is open for")
          :format(name, holder.backend), result.stderr, 1, true, what)
        assert.matches("with the lock ACCESS EXCLUSIVE", result.stderr, 1, true, what)
      end
      free(holder)
    end
  end)

  it("the table, why and doctor say so in their answers", function()
    local id = add()
    local holder = lock "LOCK TABLE pgq_jobs"
    for _, words in ipairs { { "why", id }, { "why", "q" }, { "doctor" } } do
      local result = run(unpack(words))
      assert.matches("ession " .. holder.backend .. " (psql, user postgres, idle in transaction", result.stdout:gsub("%s+", " "), 1, true)
      assert.matches("ACCESS EXCLUSIVE", result.stdout:gsub("%s+", " "), 1, true)
      assert.is_nil((result.stdout .. result.stderr):find("canceling statement", 1, true), result.stdout)
    end
  end)
end)

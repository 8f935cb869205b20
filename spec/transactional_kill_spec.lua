-- Effects exactly once: transfers between accounts by transactional handlers, while workers, their executors and their
-- sessions are killed at every step. Whatever is killed, the books balance, and each transfer is applied once.
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local pgq = require "pgq"
local uv = require "luv"
local wait = require "spec.support.wait"

local ACCOUNTS, TRANSFERS, BACKLOG = 20, 1000, 150
local KILLED, SECONDS, EVERY = 150, 30, 0.04
local SECONDS_MOST = 120 -- where the machine is slow
local WORKERS, EXECUTORS = 3, 2

-- Some steps are slow at times, so that kills happen at each step: before the DELETE of the job and after it, and
-- at the COMMIT.
local TABLES = [[
  CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL);
  INSERT INTO accounts SELECT i, 1000 FROM generate_series(1, %d) AS i;
  CREATE TABLE ordered (id bigint PRIMARY KEY, payer int, payee int, amount int);
  CREATE TABLE applied (id bigint);
  CREATE TABLE receipts (id bigint);
  CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF random() < 0.05 THEN
      PERFORM pg_sleep(0.05);
    END IF;
    RETURN coalesce(NEW, OLD);
  END $$;
  CREATE TRIGGER before_delete BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION linger();
  CREATE TRIGGER behind_delete AFTER DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION linger();
  CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON applied DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION linger();]]

local ORDER = [[
  WITH made AS (INSERT INTO pgq_jobs (queue_name, data, retry_waits)
    SELECT 'transfer', 'x', array_fill('20ms'::text, '{200}') FROM generate_series(1, $1) RETURNING id)
  INSERT INTO ordered SELECT id, 1 + (random() * $2)::int %% %d, 1 + (random() * $2)::int %% %d, 1 + (random() * 100)::int
    FROM made]]

local SCRIPT = [[
  local pgq = require "pgq"
  math.randomseed(require "luv".os_getpid())
  local function pause()
    if math.random() < 0.2 then pgq.sleep(0.02 * math.random()) end
  end
  pgq.register_queue("transfer", function(_, job)
    local tx = job.tx
    local order = assert(tx:query("SELECT * FROM ordered WHERE id = $1", job.id))[1]
    pause()
    assert(tx:query("UPDATE accounts SET balance = balance - $2 WHERE id = $1", order.payer, order.amount))
    pause()
    assert(tx:query("UPDATE accounts SET balance = balance + $2 WHERE id = $1", order.payee, order.amount))
    assert(tx:query("INSERT INTO applied VALUES ($1)", job.id))
    pause()
    local waits = {}
    for i = 1, 200 do waits[i] = "20ms" end
    assert(tx:enqueue("receipt", tostring(job.id), { retry_waits = waits }))
    pause()
  end, { transactional = true, timeout = "1s" })
  pgq.register_queue("receipt", function(data, job)
    assert(job.tx:query("INSERT INTO receipts VALUES ($1)", data))
  end, { transactional = true, timeout = "1s" })]]

-- What must hold in every snapshot: a transfer is applied or its job is there, never both, never neither. The same
-- holds for its receipt, and the sum of all balances does not change.
local LEDGER = [[
  WITH
    transfers AS (SELECT id, count(*) FROM (SELECT id FROM applied UNION ALL
      SELECT id FROM pgq_jobs WHERE queue_name = 'transfer') AS either GROUP BY id),
    confirmed AS (SELECT id, count(*) FROM (SELECT id FROM receipts UNION ALL
      SELECT convert_from(data, 'UTF8')::bigint FROM pgq_jobs WHERE queue_name = 'receipt') AS either GROUP BY id)
  SELECT
    (SELECT sum(balance) FROM accounts)::bigint AS money,
    (SELECT count(*) FROM ordered FULL JOIN transfers USING (id) WHERE payer IS NULL OR count IS DISTINCT FROM 1)
      AS transfers_wrong,
    (SELECT count(*) FROM (SELECT DISTINCT id FROM applied) AS applied FULL JOIN confirmed USING (id)
      WHERE applied.id IS NULL OR count IS DISTINCT FROM 1) AS receipts_wrong,
    (SELECT count(*) FROM pgq_jobs) AS jobs]]

describe("transfers between accounts, while everything is killed at every step,", function()
  local pg, conn
  local workers, kills = {}, {}

  setup(function()
    pg = Postgres.start { migrated = true }
    pg:psql(TABLES:format(ACCOUNTS))
    conn = assert(pgq.connect(pg.conninfo .. " application_name=spec"))
    math.randomseed(20)
  end)

  teardown(function()
    for _, worker in pairs(workers) do
      worker:kill "sigkill"
      worker:wait()
    end
    conn:close()
    pg:stop()
  end)

  local function query(...) return assert(conn:query(...)) end

  local function check_ledger()
    local ledger = query(LEDGER)[1]
    assert.same({ money = 1000 * ACCOUNTS, transfers_wrong = 0, receipts_wrong = 0, jobs = ledger.jobs }, ledger)
    return ledger.jobs
  end

  local function start(i)
    workers[i] = Worker.start { pg = pg, script = SCRIPT, args = { "--executors", EXECUTORS, "--grace", "100ms",
      "--poll-interval", "500ms" } }
  end

  local function pick(list) return list[math.random(#list)] end

  local function replace(i)
    workers[i]:wait(30)
    start(i)
  end

  -- Functions that kill a worker, an executor or a session. Each returns whether it killed one.
  local KILLS = {
    { 3, "executors", function()
      local pid = pick(pick(workers):executors())
      return pid and uv.kill(pid, "sigkill") == 0
    end },
    { 1, "workers", function()
      local i = math.random(WORKERS)
      workers[i]:kill "sigkill"
      replace(i)
      return true
    end },
    { 1, "workers that were asked to stop", function()
      local i = math.random(WORKERS)
      workers[i]:kill "sigterm"
      replace(i)
      return true
    end },
    { 7, "sessions in a transaction", function()
      return query([[SELECT count(pg_terminate_backend(pid)) AS n FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'pgq-lua'
        AND xact_start IS NOT NULL AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one]])[1].n > 0
    end },
    { 3, "sessions at the end of a transaction", function()
      return query([[SELECT count(pg_terminate_backend(pid)) AS n FROM pg_stat_activity WHERE application_name = 'pgq-lua'
        AND (query LIKE 'DELETE%' OR query LIKE 'COMMIT%') AND state <> 'idle' AND pid <> pg_backend_pid()]])[1].n > 0
    end },
    { 1, "sessions", function()
      return query([[SELECT count(pg_terminate_backend(pid)) AS n FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'pgq-lua'
        ORDER BY random() LIMIT 1) AS one]])[1].n > 0
    end },
    { 5, "leases", function() -- the next worker has the job, while its handler runs on
      return query([[UPDATE pgq_jobs SET run_after = now() WHERE id IN (SELECT id FROM pgq_jobs WHERE lease IS NOT NULL AND run_after > now()
        ORDER BY random() LIMIT 2 FOR UPDATE SKIP LOCKED)]]).affected > 0
    end },
    { 1, "executors that stood still", function()
      local pid = pick(pick(workers):executors())
      if not pid or uv.kill(pid, "sigstop") ~= 0 then
        return false
      end
      wait.sleep(0.3)
      return uv.kill(pid, math.random() < 0.5 and "sigcont" or "sigkill") == 0
    end },
  }

  local function kill_something()
    local all = 0
    for _, way in ipairs(KILLS) do all = all + way[1] end
    local at = math.random() * all
    for _, way in ipairs(KILLS) do
      at = at - way[1]
      if at < 0 then
        kills[way[2]] = (kills[way[2]] or 0) + (way[3]() and 1 or 0)
        return
      end
    end
  end

  local function total()
    local all = 0
    for _, count in pairs(kills) do all = all + count end
    return all
  end

  it("are applied exactly once", function()
    local began, ordered, left, turns = uv.hrtime(), 0, 0, 0
    local function is_enough()
      local took = (uv.hrtime() - began) / 1e9
      return took >= SECONDS and (total() > KILLED and ordered >= TRANSFERS or took >= SECONDS_MOST)
    end
    local function order(count)
      query(ORDER:format(ACCOUNTS, ACCOUNTS), count, 1000)
      ordered = ordered + count
    end
    for i = 1, WORKERS do start(i) end
    while not is_enough() do
      if left < BACKLOG / 2 then
        order(BACKLOG)
      end
      kill_something()
      wait.sleep(EVERY * 2 * math.random())
      turns = turns + 1
      left = turns % 4 == 0 and check_ledger() or left
    end
    assert.is_true(total() > KILLED, "killed no more than " .. total())
    assert.is_true(ordered >= TRANSFERS, "ordered no more than " .. ordered)
    wait.till("all jobs to be done", 120, function()
      local jobs = check_ledger()
      return jobs == 0, jobs
    end)
    assert.equal(ordered, query("SELECT count(*) AS n FROM receipts")[1].n)
  end)

  it("are applied exactly once, or are cancelled, whatever their handlers do, while executors are replaced", function()
    local jobs, cancelled = 400, {}
    local script = [[
      local pgq = require "pgq"
      math.randomseed(require "luv".os_getpid())
      pgq.register_queue("transfer", function(_, job)
        assert(job.tx:query("INSERT INTO applied VALUES ($1)", job.id))
        local waits = {}
        for i = 1, 200 do waits[i] = "20ms" end
        assert(job.tx:enqueue("receipt", tostring(job.id), { retry_waits = waits }))
        local luck = math.random()
        if luck < 0.1 then return pgq.snooze(0.2) end
        if luck < 0.2 then error "no luck" end
        if luck < 0.23 then pgq.sleep(3) end
        if luck < 0.24 then os.exit(1) end
        if luck < 0.4 then pgq.sleep(0.2) end
      end, { transactional = true, timeout = "1s" })
      pgq.register_queue("receipt", function(data, job)
        assert(job.tx:query("INSERT INTO receipts VALUES ($1)", data))
      end, { transactional = true })]]
    for i, worker in pairs(workers) do
      worker:kill "sigkill"
      worker:wait()
      workers[i] = nil
    end
    pg:psql "TRUNCATE pgq_jobs, pgq_workers, ordered, applied, receipts"
    for i = 1, 2 do
      workers[i] = Worker.start { pg = pg, script = script, args = { "--executors", 2, "--max-jobs", 20, "--poll-interval", "200ms" } }
    end
    query(ORDER:format(ACCOUNTS, ACCOUNTS), jobs, 1000)
    local ids = query "SELECT id FROM ordered"
    for _ = 1, 60 do
      wait.sleep(0.03)
      local id = pick(ids).id
      local answer = query("SELECT pgq_cancel($1) AS answer", id)[1].answer
      if answer == "cancelled" or answer == "running" then
        cancelled[#cancelled + 1] = id
      end
    end
    wait.till("all jobs to be done", 120, function()
      local left = query("SELECT count(*) AS n FROM pgq_jobs WHERE ran_at IS NULL")[1].n
      return left == 0, left
    end)
    assert.is_true(#cancelled > 0)
    table.sort(cancelled)
    assert.same({ { ids = table.concat(cancelled, ","), all_cancelled = true }, affected = 1 },
      query "SELECT string_agg(id::text, ',' ORDER BY id) AS ids, bool_and(cancelled) AS all_cancelled FROM pgq_jobs")
    assert.same({ { n = jobs - #cancelled, one_each = jobs - #cancelled, receipts = jobs - #cancelled, both = 0 }, affected = 1 }, query [[
      SELECT count(*) AS n, count(DISTINCT id) AS one_each, (SELECT count(*) FROM receipts) AS receipts,
        (SELECT count(*) FROM applied JOIN pgq_jobs USING (id)) AS both FROM applied]])
    for i = 1, 2 do workers[i]:stop() end
  end)
end)

-- Why a job does not run: pgq_why and pgq_why_queue in situations that real workers and real sessions of psql make. What
-- workers report in pgq_workers.status is written by hand where a worker could not be brought to report it in time.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("pgq_why", function()
  local pg = fixture.server {
    settings = { max_prepared_transactions = 5 },
    sql = "CREATE ROLE viewer LOGIN; GRANT SELECT ON pgq_jobs, pgq_workers, pgq_queues, pgq_attempts, pgq_stats TO viewer",
    clean = "TRUNCATE pgq_queues, pgq_attempts, pgq_stats",
  }
  local start = fixture.workers(pg)
  local sessions = {}

  after_each(function()
    for _, session in ipairs(sessions) do
      session:kill "sigkill"
      session:wait()
    end
    sessions = {}
  end)

  -- Returns the only row of a call as a table, with `who` as a list.
  local function ask(call, role)
    local sql = ("SELECT pg_catalog.to_jsonb(answer) FROM %s AS answer"):format(call)
    local answer
    if role then
      local conninfo = pg.conninfo:gsub("user=postgres", "user=" .. role)
      answer = process.check { "psql", "-XAtq", "-d", conninfo, "-c", sql }
    else
      answer = pg:psql(sql)
    end
    assert.is_nil(answer:find "\n.", answer)
    answer = cjson.decode(answer)
    assert.is_table(answer.who)
    return answer
  end

  local function why(id, role) return ask(("pgq_why(%d)"):format(id), role) end
  local function why_queue(name, role) return ask(("pgq_why_queue('%s')"):format(name), role) end

  local function wait_for_code(code, call, ...)
    local words = { ... }
    local answer
    wait.till("the code " .. code, 30, function()
      answer = call(unpack(words))
      return answer.code == code, answer.code .. ": " .. tostring(answer.sentence)
    end)
    return answer
  end

  local function enqueue(queue, options)
    options = options or {}
    return tonumber(pg:psql(("INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('%s', '%s', now() + '%s') RETURNING id")
      :format(queue, options.data or "", options.after or "0")))
  end

  -- A session of psql that has run `sql` and goes on.
  local function psql(sql, name)
    local session = process.start { "psql", "-XAtq", "-d", pg.conninfo .. (name and " application_name=" .. name or ""), stdin = "pipe" }
    sessions[#sessions + 1] = session
    session:write(sql .. ";\n\\echo done\n")
    session:read_until "done"
    return session
  end

  local function pid_of(name)
    return tonumber(pg:psql(("SELECT pid FROM pg_stat_activity WHERE application_name = '%s'"):format(name)))
  end

  -- The row of a worker that is not there: a pooler hides whether it lives.
  local function report(queues, status, host)
    return tonumber(pg:psql(("INSERT INTO pgq_workers (host, pid, version, queues, pooled, status) VALUES ('%s', 77, '1', '%s', true, '%s') RETURNING id")
      :format(host or "far", queues, status and cjson.encode(status) or "{}")))
  end

  local function ago(seconds) return os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - seconds) end

  local function started(worker, pattern) worker:read_until(pattern or "worker is serving") end

  describe("for a job that has not ended says", function()
    it("runs: which worker runs it, in which executor, and since when", function()
      local id = enqueue "q"
      local worker = start [[pgq.register_queue("q", function() print "began" pgq.sleep(600) end)]]
      local answer = wait_for_code("runs", why, id)
      assert.matches("^The worker %S+:" .. worker.pid .. ".*runs job 1 of queue 'q' for %d", answer.sentence)
      local who = answer.who[1]
      assert.equal("worker", who.kind)
      assert.equal(id, who.job)
      assert.equal(tonumber(pg:psql "SELECT id FROM pgq_workers"), who.worker_id)
      assert.is_truthy(who.since:find "T")
    end)

    it("runs: and that its worker is silent", function()
      local id, worker = enqueue "q", report("{q}")
      pg:psql(("UPDATE pgq_jobs SET lease = %d::int8 << 32, started_at = now() - interval '1 min', run_after = now() + interval '1 min'"):format(worker))
      assert.matches("^The worker far:77, runs job %d+ of queue 'q' for 1m%S*%.$", why(id).sentence)
      pg:psql "UPDATE pgq_workers SET missing_since = now() - interval '3 s'"
      assert.matches(" for 1m%S*, and has been silent for %d%S*s%.$", why(id).sentence)
      pg:psql "UPDATE pgq_workers SET missing_since = NULL, last_seen_at = now() - interval '50 s'"
      local answer = why(id)
      assert.matches(" for 1m%S*, and has been silent for 5%d%S*s%.$", answer.sentence)
      assert.is_truthy(answer.who[1].silent_since:find "T")
    end)

    it("runs, and who keeps its outcome from being written", function()
      local id = enqueue "q"
      start [[pgq.register_queue("q", function() pgq.sleep(600) end)]]
      wait_for_code("runs", why, id)
      psql("BEGIN; SELECT id FROM pgq_jobs FOR UPDATE", "blocker")
      local answer = why(id)
      assert.equal("runs", answer.code)
      assert.matches("Its outcome cannot be written while its row is locked by session %d+ %(blocker,", answer.sentence)
      assert.equal(pid_of "blocker", answer.who[2].pid)
    end)

    it("held: a worker has claimed it a moment ago", function()
      local id = enqueue "q"
      start([[pgq.register_queue("q", function() spin(60) end)]], "--hold-limit", "60")
      local answer = wait_for_code("held", why, id)
      assert.is_true(answer.who[1].hold)
      assert.equal("pgq-lua", answer.who[1].application)
    end)

    it("held, also by workers whose sessions have another application name", function()
      local id = enqueue "q"
      local Worker = require "spec.support.worker"
      Worker.start { pg = { conninfo = pg.conninfo .. " application_name=my_app" },
        script = fixture.HEAD .. [[pgq.register_queue("q", function() spin(60) end)]],
        args = { "--executors", "1", "--hold-limit", "60" } }
      assert.equal("my_app", wait_for_code("held", why, id).who[1].application)
    end)

    it("locked: which session has locked the row, whose, and since when", function()
      local id = enqueue "q"
      psql("BEGIN; SELECT id FROM pgq_jobs FOR UPDATE", "blocker")
      local answer = why(id)
      assert.equal("locked", answer.code)
      assert.matches("row is locked: session %d+ %(blocker, user postgres, idle in transaction, its transaction is open for %d", answer.sentence)
      local who = answer.who[1]
      assert.same({ "session", pid_of "blocker", "blocker", "postgres", "idle in transaction" },
        { who.kind, who.pid, who.application, who.user, who.state })
      assert.is_truthy(who.since)
    end)

    it("locked, when the row is being changed, when several sessions share the lock, and after a savepoint", function()
      local id = enqueue "q"
      psql("BEGIN; UPDATE pgq_jobs SET error = 'x'", "changer")
      assert.equal("changer", why(id).who[1].application)
      sessions[1]:close_stdin()
      sessions[1]:wait()
      psql("BEGIN; SELECT id FROM pgq_jobs FOR SHARE", "sharer1")
      psql("BEGIN; SELECT id FROM pgq_jobs FOR SHARE", "sharer2")
      local answer = why(id)
      assert.equal("locked", answer.code)
      assert.same({ sharer1 = true, sharer2 = true }, { [answer.who[1].application] = true, [answer.who[2].application] = true })
      for i = 2, 3 do
        sessions[i]:close_stdin()
        sessions[i]:wait()
      end
      psql("BEGIN; SAVEPOINT a; SELECT id FROM pgq_jobs FOR UPDATE; RELEASE a", "saver")
      answer = why(id)
      assert.equal("saver", answer.who[1].application)
      assert.is_true(answer.who[1].maybe)
    end)

    it("locked, by a prepared transaction", function()
      local id = enqueue "q"
      pg:psql "BEGIN; SELECT id FROM pgq_jobs FOR UPDATE; PREPARE TRANSACTION 'two-phase'"
      local answer = why(id)
      pg:psql "ROLLBACK PREPARED 'two-phase'"
      assert.equal("locked", answer.code)
      assert.matches("the prepared transaction 'two%-phase' of user postgres for %d", answer.sentence)
      assert.same({ "prepared", "two-phase" }, { answer.who[1].kind, answer.who[1].prepared })
    end)

    it("locked, when the table is", function()
      local id = enqueue "q"
      for _, mode in ipairs { "SHARE", "EXCLUSIVE", "ACCESS EXCLUSIVE" } do
        local session = psql("BEGIN; LOCK pgq_jobs IN " .. mode .. " MODE", "locker")
        for _, answer in ipairs { why(id), why_queue "q" } do
          assert.equal("locked", answer.code)
          assert.matches("The table is locked: session %d+ %(locker, .*with the lock " .. mode .. "%.", answer.sentence)
          assert.same({ pid_of "locker", mode }, { answer.who[1].pid, answer.who[1].lock })
        end
        session:close_stdin()
        session:wait()
      end
      psql("BEGIN; LOCK pgq_jobs IN ROW EXCLUSIVE MODE", "locker")
      assert.equal("no_worker", why(id).code)
    end)

    it("locked, when a session waits for a lock of the table, and for whom that session waits", function()
      local id = enqueue "q"
      psql("BEGIN; SELECT FROM pgq_jobs", "reader")
      local waiter = process.start { "psql", "-XAtq", "-d", pg.conninfo .. " application_name=waiter", stdin = "pipe" }
      sessions[#sessions + 1] = waiter
      waiter:write "ALTER TABLE pgq_jobs ADD extra int;\n"
      local answer = wait_for_code("locked", why, id)
      assert.matches("session %d+ %(waiter.*that waits for the lock ACCESS EXCLUSIVE; session %d+ %(reader", answer.sentence)
      assert.same({ pid_of "waiter", pid_of "reader" }, { answer.who[1].pid, answer.who[2].pid })
    end)

    it("later: when it falls due, and its last error", function()
      local id = enqueue("q", { after = "2 hours" })
      local answer = why(id)
      assert.equal("later", answer.code)
      assert.matches("due in [12]h", answer.sentence)
      assert.equal(pg:psql "SELECT to_jsonb(run_after) FROM pgq_jobs", '"' .. answer["until"] .. '"')
      pg:psql "UPDATE pgq_jobs SET attempt = 2, error = 'no luck'"
      assert.matches("Attempts so far: 2%. The last error: no luck", why(id).sentence)
      pg:psql "UPDATE pgq_jobs SET run_after = 'infinity'"
      assert.matches("never due: its run_after is infinity", why(id).sentence)
    end)

    it("paused: by whom, why, and until when", function()
      local id = enqueue "q"
      pg:psql "INSERT INTO pgq_queues (queue_name, paused_at, paused_until, paused_by, pause_reason) VALUES ('q', now(), now() + '1 h', 'ann', 'no disk')"
      for _, answer in ipairs { why(id), why_queue "q" } do
        assert.equal("paused", answer.code)
        assert.matches("'q' is paused by ann %(%d.* ago%), for another %S+: no disk", answer.sentence)
        assert.equal(pg:psql "SELECT to_jsonb(paused_until) FROM pgq_queues", '"' .. answer["until"] .. '"')
        assert.same({ "role", "ann", "no disk" }, { answer.who[1].kind, answer.who[1].user, answer.who[1].reason })
      end
      pg:psql "UPDATE pgq_queues SET paused_until = 'infinity', pause_reason = NULL, paused_by = NULL"
      assert.matches("is paused %(%S+ ago%), until it is resumed%.", why(id).sentence)
      pg:psql "UPDATE pgq_queues SET paused_until = now() - interval '1 s'"
      assert.equal("no_worker", why(id).code)
    end)

    it("no_worker: the nearest name that a worker registers", function()
      local id, other = enqueue "mial", enqueue "something else"
      assert.matches("No worker serves the queue 'mial'; no worker is running", why(id).sentence)
      started(start [[for _, name in ipairs { "mail", "email", "mailer" } do pgq.register_queue(name, print) end]])
      local answer = wait_for_code("no_worker", why, id)
      assert.matches("'mial'%. The nearest name that a worker registers is 'mail'%.", answer.sentence)
      assert.same({ { kind = "queue", queue = "mail" } }, answer.who)
      answer = why(other)
      assert.equal("no_worker", answer.code)
      assert.matches("the workers register other queues", answer.sentence)
      assert.same({}, answer.who)
      assert.is_nil(why_queue(("m"):rep(300)).sentence:find("nearest", 1, true)) -- far longer than all of them
      assert.equal("no_worker", why_queue("mial").code)
    end)

    it("no_worker: the worker has died, or is quiet", function()
      local worker = start [[pgq.register_queue("q", print)]]
      started(worker)
      worker:kill "sigkill"
      worker:wait()
      local id = enqueue "q"
      local answer = wait_for_code("no_worker", why, id)
      assert.matches("worker %S+:" .. worker.pid .. " is gone: it reported last %S+ ago", answer.sentence)
      pg:psql "DELETE FROM pgq_workers"
      report("{q}", { stage = "quiet" })
      answer = why(id)
      assert.equal("no_worker", answer.code)
      assert.matches("worker far:77 is quiet, and claims nothing", answer.sentence)
    end)

    it("backs_off: until when, and with which error", function()
      local id = enqueue "q"
      report("{q}", { stage = "serving", queues = { q = { backs_off_until = ago(-3600), backoff_error = "503" } } })
      for _, answer in ipairs { why(id), why_queue "q" } do
        assert.equal("backs_off", answer.code)
        assert.matches("'q' backs off for another %S+: 503", answer.sentence)
        assert.is_truthy(answer["until"])
        assert.equal("far:77", answer.who[1].worker)
      end
      report("{q}", { stage = "serving" }, "near")
      assert.equal("behind", why(id).code)
    end)

    it("starved: with which jobs all executors are busy, and since when", function()
      local id = enqueue "q"
      local function busy(pid, job) return { pid = pid, busy = true, busy_since = ago(300), job = job, queue = "slow", job_since = ago(300), in_flight = 1 } end
      report("{q,slow}", { stage = "serving", executors = { busy(11, 501), busy(12, 502) } })
      for _, answer in ipairs { why(id), why_queue "q" } do
        assert.equal("starved", answer.code)
        assert.matches("All 2 executors that serve the queue 'q' are busy: worker far:77, executor 11, runs job 501 of queue 'slow' for 5m", answer.sentence)
        assert.same({ 12, 502, "slow" }, { answer.who[2].executor, answer.who[2].job, answer.who[2].queue })
      end
      report("{q}", { stage = "serving", executors = { { pid = 13, busy = false, in_flight = 10 } } }, "full")
      assert.equal("starved", why(id).code)
      local at = ago(0)
      report("{q}", { stage = "serving", at = at, executors = { { pid = 14, busy = true, busy_since = at, in_flight = 1 } } }, "near")
      assert.equal("behind", why(id).code)
    end)

    it("workers_cannot_run: the script's error", function()
      local id = enqueue "q"
      report("{q}", { stage = "serving", script_error = "worker.lua:3: unexpected symbol", executors = { { pid = 1, busy = false } } })
      local answer = why(id)
      assert.equal("workers_cannot_run", answer.code)
      assert.matches("worker far:77 cannot run its script: worker.lua:3: unexpected symbol", answer.sentence)
      assert.equal("far:77", answer.who[1].worker)
      report("{q}", { stage = "serving", script_error = "newer one is broken", executors = { { pid = 1, busy = false, version = "5" } } })
      assert.equal("behind", why(id).code)
    end)

    describe("of real workers", function()
      it("paused", function()
        local id = enqueue "q"
        pg:psql "SELECT pgq_pause('q', now() + interval '1 h', 'no disk')"
        started(start [[pgq.register_queue("q", print)]])
        local answer = why(id)
        assert.equal("paused", answer.code)
        assert.matches("'q' is paused by postgres %(%S+ ago%), for another %S+: no disk", answer.sentence)
      end)

      it("backs_off", function()
        local id = enqueue "q"
        pg:psql "UPDATE pgq_jobs SET retry_waits = array_fill('0s'::text, ARRAY[100])" -- each attempt doubles the pause
        start [[pgq.register_queue("q", function() return pgq.backoff("503") end)]]
        local answer = wait_for_code("backs_off", why, id)
        assert.matches("'q' backs off for another %S+: .*503", answer.sentence)
        assert.is_truthy(answer["until"])
      end)

      it("workers_cannot_run", function()
        local path = os.tmpname()
        local worker = start(('assert(io.open("%s"), "the configuration is missing"):close()\npgq.register_queue("q", print)'):format(path))
        started(worker)
        assert(os.remove(path))
        for _, pid in ipairs(worker:executors()) do uv.kill(pid, "sigkill") end
        local id = enqueue "q"
        local answer = wait_for_code("workers_cannot_run", why, id)
        assert.matches("worker %S+:" .. worker.pid .. " cannot run its script: .*the configuration is missing", answer.sentence)
      end)

      it("starved #slow", function()
        enqueue "slow"
        local worker = start [[pgq.register_queue("slow", function() spin(600) end) pgq.register_queue("q", print)]]
        wait_for_code("runs", why_queue, "slow")
        local id = enqueue "q"
        local answer = wait_for_code("starved", why, id)
        assert.matches("The only executor that serves the queue 'q' is busy: worker %S+:" .. worker.pid
          .. ", executor " .. worker:executors()[1] .. ", runs job 1 of queue 'slow' for %d", answer.sentence)
      end)
    end)

    it("behind: how many jobs are due before it, and how long they take", function()
      local id = enqueue "q"
      report("{q}", { stage = "serving" })
      local answer = why(id)
      assert.equal("behind", answer.code)
      assert.matches("is the next of its queue%. No attempt has ended in the last minutes%. Served by worker far:77%.", answer.sentence)
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'q', '', now() - interval '1 m' FROM generate_series(1, 600)"
      pg:psql [[INSERT INTO pgq_stats (queue_name, minute, completed, failed)
        SELECT 'q', date_trunc('minute', now()) - n * interval '1 minute', 100, 20 FROM generate_series(1, 5) AS n]]
      answer = why(id)
      assert.matches("600 jobs are due before it%. 1%d%d a minute have ended lately, so that takes %dm", answer.sentence)
      assert.is_truthy(answer["until"])
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'q', '', now() - interval '1 m' FROM generate_series(1, 10000)"
      answer = why(id)
      assert.matches("more than 10000 jobs are due before it", answer.sentence)
      assert.equal(cjson.null, answer["until"] or cjson.null)
      assert.matches("more than 10000 due jobs, the oldest for 1m", why_queue("q").sentence)
    end)

    it("behind, and that the doorbell does not ring", function()
      local id = enqueue "q"
      report("{q}", { stage = "serving" })
      pg:psql "ALTER TABLE pgq_jobs DISABLE TRIGGER pgq_ring"
      local answer = why(id)
      pg:psql "ALTER TABLE pgq_jobs ENABLE TRIGGER pgq_ring"
      assert.matches("The trigger pgq_ring is missing or disabled", answer.sentence)
    end)
  end)

  describe("for a job that has ended says", function()
    it("failed, completed and cancelled: when, where, and the last error", function()
      local failed, completed, cancelled = enqueue "q", enqueue "q", enqueue "q"
      pg:psql(("UPDATE pgq_jobs SET ran_at = now() - interval '3 minutes', error = CASE WHEN id = %d THEN 'no disk' END"):format(failed))
      pg:psql(("UPDATE pgq_jobs SET cancelled = true, error = 'cancelled' WHERE id = %d"):format(cancelled))
      pg:psql(([[INSERT INTO pgq_attempts (job_id, queue_name, attempt, worker_id, worker, outcome, error)
        VALUES (%d, 'q', 4, 9, 'h:1', 'failed', 'no disk')]]):format(failed))
      local answer = why(failed)
      assert.equal("failed", answer.code)
      assert.equal("The job failed for good 3m ago, at attempt 4, by worker h:1: no disk", (answer.sentence:gsub("3m%ds", "3m")))
      assert.equal("h:1", answer.who[1].worker)
      answer = why(completed)
      assert.equal("completed", answer.code)
      assert.matches("^The job was completed 3m%S* ago%.$", answer.sentence)
      answer = why(cancelled)
      assert.equal("cancelled", answer.code)
      assert.matches("^The job was cancelled 3m", answer.sentence)
    end)

    it("unknown, or what the history knows", function()
      local answer = why(99)
      assert.equal("unknown", answer.code)
      assert.matches("There is no job 99", answer.sentence)
      pg:psql [[INSERT INTO pgq_attempts (job_id, queue_name, attempt, worker, outcome, error)
        VALUES (98, 'q', 1, 'h:1', 'completed', NULL), (97, 'q', 1, 'h:1', 'retried', 'x')]]
      assert.equal("completed", why(98).code)
      assert.matches("by worker h:1, and was deleted", why(98).sentence)
      assert.equal("unknown", why(97).code)
      assert.matches("Its last known attempt, number 1, was retried", why(97).sentence)
    end)
  end)

  describe("for a queue says", function()
    it("unknown, idle, later and runs, when no job is due", function()
      assert.equal("unknown", why_queue("q").code)
      local worker = start [[pgq.register_queue("q", function() pgq.sleep(600) end)]]
      started(worker)
      wait_for_code("idle", why_queue, "q")
      enqueue("q", { after = "1 h" })
      local answer = why_queue "q"
      assert.equal("later", answer.code)
      assert.matches("^No job of the queue 'q' is due%. The next one is due in %S+%. $", answer.sentence .. " ")
      assert.is_truthy(answer["until"])
      local id = enqueue "q"
      answer = wait_for_code("runs", why_queue, "q")
      assert.equal(id, answer.who[1].job)
    end)

    it("locked, when its first job is", function()
      report("{q}", { stage = "serving" })
      local id = enqueue "q"
      enqueue "q"
      psql(("BEGIN; SELECT id FROM pgq_jobs WHERE id = %d FOR UPDATE"):format(id), "blocker")
      local answer = why_queue "q"
      assert.equal("locked", answer.code)
      assert.matches("The first due job of the queue, 1, is locked: session %d+ %(blocker", answer.sentence)
    end)
  end)

  describe("for a role that may only read the tables", function()
    it("says who is in the way, and which privilege would tell since when", function()
      local id = enqueue "q"
      psql("BEGIN; SELECT id FROM pgq_jobs FOR UPDATE", "blocker")
      local answer = why(id, "viewer")
      assert.equal("locked", answer.code)
      assert.matches("%(blocker, user postgres, members of pg_read_all_stats see its age%)", answer.sentence)
      assert.is_true(answer.who[1].hidden)
      assert.equal(why(id).who[1].pid, answer.who[1].pid)
    end)

    it("answers as for others", function()
      local id = enqueue "q"
      assert.equal("no_worker", why(id, "viewer").code)
      start([[pgq.register_queue("q", function() spin(60) end)]], "--hold-limit", "60")
      assert.is_true(wait_for_code("held", why, id, "viewer").who[1].hold)
      assert.equal("behind", why_queue("q", "viewer").code)
      assert.equal("unknown", why(99, "viewer").code)
    end)
  end)
end)

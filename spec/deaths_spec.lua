local uv = require "luv"
local Proxy = require "spec.support.proxy"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

-- A process dies while jobs are in flight. The job that caused it is found; the others run again and lose nothing.
describe("after a worker was killed", function()
  local pg = fixture.server { tcp = true,
    sql = "CREATE TABLE runs (job bigint, data text, worker int, at timestamptz DEFAULT clock_timestamp())",
    clean = "TRUNCATE runs" }
  local enqueue = fixture.enqueuer(pg, "{0s}")
  local start = fixture.workers(pg, { args = { "--executors", "1", "--poll-interval", "100ms" } })

  -- In scripts: ran(job, data) writes a row of runs at once. kill_worker() ends the whole worker.
  local NOTES = [[
    local ffi = require "ffi"
    ffi.cdef "int getppid(void); int kill(int, int);"
    local supervisor = ffi.C.getppid()
    local notes
    local function ran(job, data)
      notes = notes or assert(pgq.connect(pgq.conninfo or os.getenv "NOTES"))
      assert(notes:query("INSERT INTO runs VALUES ($1, $2, $3)", job.id, data, supervisor))
    end
    local function kill_worker()
      ffi.C.kill(supervisor, 9)
      ffi.C.kill(0, 9)
      spin(10)
    end
  ]]

  local function notes()
    return NOTES:gsub('pgq.conninfo or os.getenv "NOTES"', function() return ("%q"):format(pg.conninfo) end)
  end

  local function wait_for_sql(what, seconds, sql, wanted)
    wait.till(what, seconds, function()
      local found = pg:psql(sql)
      return found == (wanted or "t"), found
    end)
  end

  local function kill(worker)
    worker:kill "sigkill"
    worker:wait()
  end

  it("its leased jobs run again within seconds, without a lost attempt, also in a transactional queue", function()
    local script = [[
      pgq.register_queue("waits", function() pgq.sleep(60) end)
      pgq.register_queue("transactional", function(_, job) job.tx:query "SELECT 1" pgq.sleep(60) end, { transactional = true })
    ]]
    local worker = start(script)
    enqueue("waits", "", 5)
    enqueue("transactional")
    wait_for_sql("the jobs to be leased", 30, "SELECT count(lease) = 6 AND count(started_at) = 6 FROM pgq_jobs")
    -- The upper half of each token is the worker's number.
    assert.equal("t", pg:psql "SELECT bool_and(lease >> 32 = (SELECT id FROM pgq_workers)) FROM pgq_jobs")
    kill(worker)
    local began = uv.hrtime()
    start(script)
    wait_for_sql("them to be leased by the next worker", 30, [[
      SELECT count(*) = 6 FROM pgq_jobs WHERE lease >> 32 = (SELECT max(id) FROM pgq_workers) AND attempt = 1 AND deaths = 1
        AND error IS NULL AND retry_waits = '{0s}']])
    local took = (uv.hrtime() - began) / 1e9
    assert.is_true(took < 20, took .. " s")
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_workers")
  end)

  it("jobs of a worker that has lost only its session are not touched", function()
    local script = [[pgq.register_queue("waits", function() print "began" pgq.sleep(9) print "ended" end)]]
    local worker = start(script)
    local other = start [[pgq.register_queue("other", function() end)]]
    enqueue("waits", "", 5)
    wait_for_sql("the jobs to be leased", 30, "SELECT count(lease) = 5 FROM pgq_jobs")
    for _ = 1, 4 do
      pg:psql(([[SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a, pg_locks AS l
        WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.objid = (SELECT id FROM pgq_workers WHERE pid = %d)
          AND l.classid = 'pgq_workers'::regclass]]):format(worker.pid))
      wait.sleep(1.5)
    end
    wait_for_sql("the jobs to be done", 30, "SELECT count(*) = 0 FROM pgq_jobs")
    assert.equal(5, select(2, worker.stdout:gsub("began", "")))
    assert.is_nil(other.stderr:find "a worker died")
    assert.equal("2", pg:psql "SELECT count(*) FROM pgq_workers")
  end)

  -- Another worker that could not look meanwhile must not take two short times without a lock for one long time.
  it("jobs of a worker that loses its session twice are not touched", function()
    local proxy = Proxy.listen(pg.port)
    finally(function() Worker.kill_all() proxy:close() end)
    local worker = Worker.start { script = fixture.HEAD .. [[
      pgq.register_queue("waits", function() print "began" pgq.sleep(12) print "ended" end)]],
      args = { "--db", proxy:conninfo(pg), "--executors", "1", "--poll-interval", "100ms" } }
    local other = start [[pgq.register_queue("other", function() end)]]
    enqueue("waits", "", 5)
    wait_for_sql("the jobs to be leased", 30, "SELECT count(lease) = 5 FROM pgq_jobs")
    local own = ("SELECT id FROM pgq_workers WHERE pid = %d"):format(worker.pid)
    local free = ([[SELECT NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
      AND classid = 'pgq_workers'::regclass AND objid = (%s))]]):format(own)
    local function lose_session()
      proxy.refuses = true
      pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port > 0"
    end
    lose_session()
    wait_for_sql("the other worker to see it", 10, ("SELECT missing_since IS NOT NULL FROM pgq_workers WHERE id = (%s)")
      :format(own))
    local began = uv.hrtime()
    wait.sleep(2)
    other:kill "sigstop"
    proxy.refuses = false
    wait_for_sql("the worker to come back", 10, "SELECT NOT x FROM (" .. free .. ") AS a(x)")
    wait.sleep(0.2)
    lose_session()
    wait_for_sql("its session to end", 10, free)
    wait.sleep(math.max(5.5 - (uv.hrtime() - began) / 1e9, 0))
    other:kill "sigcont"
    wait.sleep(1.5)
    proxy.refuses = false
    wait_for_sql("the jobs to be done", 30, "SELECT count(*) = 0 FROM pgq_jobs")
    assert.equal(5, select(2, worker.stdout:gsub("began", "")))
    assert.is_nil(other.stderr:find "a worker died")
  end)

  -- Workers that connect again much later than others would be taken for dead.
  it("jobs of workers that lose the server for long are not touched: all workers are back within seconds", function()
    local proxy = Proxy.listen(pg.port)
    finally(function() Worker.kill_all() proxy:close() end)
    local workers = {}
    for i = 1, 4 do
      workers[i] = Worker.start { script = fixture.HEAD .. [[pgq.register_queue("waits", function()
        print "began"
        pgq.sleep(22)
      end)]], args = { "--db", proxy:conninfo(pg), "--executors", "1", "--poll-interval", "100ms" } }
    end
    enqueue("waits", "", 20)
    wait_for_sql("the jobs to be leased", 30, "SELECT count(lease) = 20 FROM pgq_jobs")
    proxy.refuses = true
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE client_port > 0"
    wait.sleep(14)
    proxy.refuses = false
    wait_for_sql("the workers to be back", 4.5, [[SELECT count(*) = 4 FROM pg_locks JOIN pgq_workers ON objid = id
      WHERE locktype = 'advisory' AND granted AND classid = 'pgq_workers'::regclass]])
    wait_for_sql("the jobs to be done", 60, "SELECT count(*) = 0 FROM pgq_jobs")
    local began = 0
    for _, worker in ipairs(workers) do
      began = began + select(2, worker.stdout:gsub("began", ""))
    end
    assert.equal(20, began)
  end)

  it("jobs that it held are leased before they run again, and others are not", function()
    local script = notes() .. [[
      pgq.register_queue("q", function(data, job)
        if data == "stop" then print "stops" spin(60) end
        ran(job, data)
      end)]]
    -- The jobs of one claim are held together; none is leased within the hold limit.
    local worker = start(script, "--hold-limit", "30s")
    enqueue("q", "warm", 200)
    wait_for_sql("the first jobs to be done", 30, "SELECT count(*) = 0 FROM pgq_jobs")
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data)
      SELECT 'q', CASE n WHEN 1 THEN 'stop' ELSE 'held' END::bytea FROM generate_series(1, 20) n]]
    worker:read_until "stops"
    -- On a machine that is very busy a claim may bring "stop" alone. The locks are not tried, because the rows would then
    -- name the session that has tried them.
    local claimed = tonumber((pg:psql "SELECT count(*) FROM pgq_jobs WHERE xmax <> '0'::xid"))
    kill(worker)
    wait_for_sql("the sessions to end", 30,
      "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
    pg:psql "DELETE FROM pgq_jobs WHERE data = 'stop'; TRUNCATE runs"
    pg:psql [[CREATE TABLE leases (job bigint); CREATE FUNCTION note_lease() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN IF NEW.lease IS NOT NULL THEN INSERT INTO leases VALUES (NEW.id); END IF; RETURN NEW; END';
      CREATE TRIGGER note_lease BEFORE UPDATE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION note_lease()]]
    enqueue("q", "new", 3)
    start(script)
    wait_for_sql("all to be done", 30, "SELECT count(*) = 0 FROM pgq_jobs")
    pg:psql "DROP TRIGGER note_lease ON pgq_jobs; DROP FUNCTION note_lease"
    local leased = tonumber(pg:psql "SELECT count(DISTINCT job) FROM leases JOIN runs USING (job) WHERE data = 'held'")
    local held = tonumber(pg:psql "SELECT count(*) FROM runs WHERE data = 'held'")
    assert.equal(19, held)
    -- Those that the dead worker had claimed; the claim that finds them brings others.
    assert.is_true(leased >= claimed - 1, ("%d were leased, and %d had been claimed"):format(leased, claimed))
    pg:psql "TRUNCATE leases"
    enqueue("q", "later", 50)
    wait_for_sql("all to be done", 30, "SELECT count(*) = 0 FROM pgq_jobs")
    assert.equal("0", pg:psql "SELECT count(*) FROM leases")
    pg:psql "DROP TABLE leases"
  end)

  for kind, registration in pairs {
    compute = [[pgq.register_queue("innocent", function(data, job) spin(0.005) ran(job, data) end)]],
    wait = [[pgq.register_queue("innocent", function(data, job) pgq.sleep(0.2) ran(job, data) end)]],
    transactional = [[pgq.register_queue("innocent", function(data, job)
      job.tx:query("INSERT INTO runs VALUES ($1, $2, $3)", job.id, data, supervisor) end, { transactional = true })]],
  } do
    it("by a job that kills it each time, that job fails, and its neighbours lose nothing: they " .. kind, function()
      local script = notes() .. registration .. [[
        pgq.register_queue("poison", function() kill_worker() end)]]
      enqueue("innocent", "", 30)
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('poison', '', '{}')"
      enqueue("innocent", "", 30)
      local worker
      local deaths = -1
      wait.till("the job to have failed for good", 150, function()
        if not worker or not worker:is_running() then
          deaths = deaths + 1
          assert(deaths <= 1 + 6, deaths .. " workers died")
          -- A short lease ends before the dead worker is found: both ways are tried.
          worker = start(script, "--lease", deaths % 2 == 0 and "1s" or "1m")
        end
        return pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'poison' AND ran_at IS NOT NULL" == "1"
      end)
      wait_for_sql("the others to be done", 60, "SELECT count(*) = 1 FROM pgq_jobs")
      assert.matches("^1|worker lost: ", pg:psql "SELECT attempt, error FROM pgq_jobs")
      assert.equal("60", pg:psql "SELECT count(DISTINCT job) FROM runs")
    end)
  end

  it("twice, its jobs run in small groups with nothing beside them, and others go on", function()
    local worker = start(notes() .. [[
      local inside = {}
      pgq.register_queue("q", function(data, job)
        inside[data] = (inside[data] or 0) + 1
        local all = 0
        for _, count in pairs(inside) do all = all + count end
        print(("together %s %d %d."):format(data, inside[data], all))
        pgq.sleep(0.1)
        inside[data] = inside[data] - 1
      end)]], "--concurrency", "500")
    for deaths, count in pairs { [1] = 100, [2] = 100, [3] = 20, [4] = 3 } do
      pg:psql(("INSERT INTO pgq_jobs (queue_name, data, deaths) SELECT 'q', 'seen%d', %d FROM generate_series(1, %d)")
        :format(deaths, deaths, count))
    end
    enqueue("q", "none", 2000)
    wait_for_sql("all to be done", 60, "SELECT count(*) = 0 FROM pgq_jobs")
    local most, mixed = {}, {}
    for data, together, all in worker.stdout:gmatch "together (%w+) (%d+) (%d+)%." do
      most[data] = math.max(most[data] or 0, tonumber(together))
      mixed[data] = mixed[data] or together ~= all
    end
    assert.is_true(most.seen2 <= 64 and most.seen2 > 8, tostring(most.seen2))
    assert.is_true(most.seen3 <= 8 and most.seen3 > 1, tostring(most.seen3))
    assert.equal(1, most.seen4)
    assert.is_false(mixed.seen2 or mixed.seen3 or mixed.seen4)
    assert.equal(0, tonumber(pg:psql "SELECT count(*) FROM pgq_jobs"))
    worker:stop()
  end)

  it("jobs that must run alone do not wait for handlers that take long: another executor takes their place", function()
    local worker = start([[
      pgq.register_queue("long", function() print "long began" pgq.sleep(30) end)
      pgq.register_queue("q", function(data) print("ran " .. data) end)]], "--concurrency", "50")
    enqueue("long", "", 3)
    worker:read_until(("long began\n"):rep(3))
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, deaths) VALUES ('q', 'alone', 4)"
    worker:read_until("ran alone", 15)
    enqueue("q", "after")
    worker:read_until("ran after", 15)
    assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs WHERE lease IS NOT NULL")
  end)

  it("a success or an error of the handler sets the count of deaths to 0", function()
    start [[pgq.register_queue("q", function() return nil, "no" end)]]
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, deaths, retry_waits) SELECT 'q', '', n, '{1h}' FROM generate_series(0, 5) n"
    wait_for_sql("all to have failed", 60, "SELECT count(*) = 6 FROM pgq_jobs WHERE attempt = 1 AND deaths = 0 AND error = 'no'")
  end)

  it("with all other workers at once, everything runs again and nothing is lost", function()
    local script = notes() .. [[pgq.register_queue("q", function(data, job) pgq.sleep(0.3) ran(job, data) end)]]
    local workers = {}
    for i = 1, 4 do workers[i] = start(script, "--concurrency", "100") end
    enqueue("q", "", 2000)
    wait_for_sql("jobs to be in flight", 30, "SELECT count(lease) >= 100 FROM pgq_jobs")
    for _, worker in ipairs(workers) do worker:kill "sigkill" end
    for i = 1, 2 do workers[i] = start(script, "--concurrency", "400") end
    wait_for_sql("all to be done", 60, "SELECT count(*) = 0 FROM pgq_jobs")
    assert.equal("2000", pg:psql "SELECT count(DISTINCT job) FROM runs")
  end)
end)

-- --listen: /metrics, /healthz and /readyz of a worker.

local uv = require "luv"
local Proxy = require "spec.support.proxy"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local loop = require "spec.support.loop"
local process = require "spec.support.process"
local scrape = require "spec.support.scrape"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

local OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

local function at_least(limit)
  return function(value) return value and value >= limit end
end

local function is(wanted)
  return function(value) return value == wanted end
end

describe("a worker with --listen", function()
  local pg = fixture.server { tcp = true, clean = "TRUNCATE pgq_stats, pgq_queues" }
  local enqueue = fixture.enqueuer(pg)
  local start = fixture.workers(pg, { args = { "--listen", "0", "--executors", "1", "--poll-interval", "200ms" } })

  local function start_serving(script, ...)
    local worker = start(script, ...)
    local address = scrape.address(worker)
    scrape.wait_for_status(address, "/readyz", 200)
    return worker, address
  end

  -- What is to be undone after the test; busted's finally() keeps only one function.
  local undo = {}
  local function at_end(fn) undo[#undo + 1] = fn end
  after_each(function()
    for i = #undo, 1, -1 do undo[i]() end
    undo = {}
  end)

  local function replace_script(worker, text)
    local file = assert(io.open(worker.script_path, "w"))
    file:write(text)
    file:close()
  end

  describe("serves metrics that", function()
    it("are OpenMetrics text", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      local page = scrape.get(address, "/metrics")
      assert.equal(OPENMETRICS, page.type)
      assert.matches("\n# EOF\n$", page.body)
      local types, seen = {}, {}
      for line in page.body:gmatch "([^\n]+)\n" do
        local name, kind = line:match "^# TYPE (%S+) (%S+)$"
        if name then
          assert.is_nil(types[name])
          types[name] = kind
          seen[#seen + 1] = name
        elseif line:find "^# UNIT" then
          local of, unit = line:match "^# UNIT (%S+) (%S+)$"
          assert.equal(seen[#seen], of)
          assert.equal("_" .. unit, of:sub(-#unit - 1))
        elseif line:find "^# HELP" then
          assert.equal(seen[#seen], line:match "^# HELP (%S+) %S.*%.$")
        elseif line ~= "# EOF" then -- a sample belongs to the family above it, and has the suffix of its type
          local suffix = line:match("^" .. seen[#seen] .. "([%l_]*)[{ ]")
          local allowed = { counter = "_total", gauge = "", info = "_info" }
          if types[seen[#seen]] == "histogram" then
            assert.is_true(suffix == "_bucket" or suffix == "_count" or suffix == "_sum", line)
          else
            assert.equal(allowed[types[seen[#seen]]], suffix, line)
          end
        end
      end
      worker:stop()
    end)

    it("are in the older form for a client that asks for it", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      local page = scrape.get(address, "/metrics", "-H", "Accept: text/plain;version=0.0.4")
      assert.equal("text/plain; version=0.0.4; charset=utf-8", page.type)
      assert.matches("# TYPE pgq_jobs_total counter\n", page.body)
      assert.matches("# TYPE pgq_worker_info gauge\n", page.body)
      assert.is_nil(page.body:find("# EOF", 1, true))
      page = scrape.get(address, "/metrics", "-H", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
      assert.equal(OPENMETRICS, page.type)
      worker:stop()
    end)

    it("count jobs by queue and outcome, with their times, also after pgq_stats was written", function()
      local worker, address = start_serving [[
        pgq.register_queue("good", function(data) if data == "slow" then spin(0.02) end end)
        pgq.register_queue("bad", function() error "no" end)
        pgq.register_queue("last", function() pgq.discard("no") end)
        pgq.register_queue("again", function(_, job) if not seen then seen = true return pgq.snooze(0.1) end end)]]
      enqueue("good", "", 30)
      enqueue("good", "slow", 3)
      enqueue("bad", "", 4)
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'bad', '', '{}' FROM generate_series(1, 2)"
      enqueue("again")
      scrape.wait_for(address, 'pgq_jobs_total{queue="good",outcome="completed"}', is(33))
      scrape.wait_for(address, 'pgq_jobs_total{queue="bad",outcome="retried"}', is(4))
      scrape.wait_for(address, 'pgq_jobs_total{queue="again",outcome="snoozed"}', is(1))
      local values = scrape.wait_for(address, 'pgq_jobs_total{queue="bad",outcome="failed"}', is(2))
      local function check(now)
        for _, name in ipairs { "wait", "run" } do
          local metric = "pgq_job_" .. name .. "_seconds"
          assert.equal(33, now[metric .. '_count{queue="good"}'])
          assert.equal(33, now[metric .. '_bucket{queue="good",le="+Inf"}'])
          assert.equal(6, now[metric .. '_count{queue="bad"}'])
          assert.is_true(now[metric .. '_sum{queue="good"}'] > 0)
          local before = 0
          for i = 0, 22 do
            local bucket = now[("%s_bucket{queue=\"good\",le=\"%.3f\"}"):format(metric, 2 ^ i / 1000)]
            assert.is_true(bucket >= before)
            before = bucket
          end
        end
        local spun = now['pgq_job_run_seconds_bucket{queue="good",le="0.016"}']
        assert.is_true(spun <= 30, spun .. " jobs took less than 16 ms")
        assert.is_true(now['pgq_job_run_seconds_sum{queue="good"}'] >= 0.06)
      end
      check(values)
      wait.till("pgq_stats", 60, function()
        return pg:psql "SELECT sum(completed) FROM pgq_stats WHERE queue_name = 'good'" == "33"
      end)
      values = scrape.metrics(address)
      check(values)
      assert.equal(33, values['pgq_jobs_total{queue="good",outcome="completed"}'])
      assert.is_true(values.pgq_claimed_jobs_total >= 39)
      assert.is_true(values.pgq_claims_total > 0 and values.pgq_settles_total > 0)
      enqueue("good", "", 5)
      scrape.wait_for(address, 'pgq_jobs_total{queue="good",outcome="completed"}', is(38))
      worker:stop()
    end)

    it("tell the depth of a queue, up to 10000, and its oldest job", function()
      pg:psql [[SELECT pgq_pause('deep'), pgq_pause('few');
        INSERT INTO pgq_jobs (queue_name, data) SELECT 'deep', '' FROM generate_series(1, 10050);
        INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('few', '', '-infinity'), ('few', '', now() + '1 h')]]
      pg:psql "UPDATE pgq_jobs SET run_after = now() - interval '100 s' WHERE id = 7"
      local worker, address = start_serving [[for _, name in ipairs { "deep", "few", "none" } do
        pgq.register_queue(name, function() end) end]]
      local values = scrape.wait_for(address, 'pgq_queue_due_jobs{queue="none"}', is(0))
      assert.equal(10000, values['pgq_queue_due_jobs{queue="deep"}'])
      assert.equal(1, values['pgq_queue_due_jobs{queue="few"}'])
      local age = values['pgq_queue_oldest_due_seconds{queue="deep"}']
      assert.is_true(age >= 100 and age < 200, age)
      assert.is_true(values['pgq_queue_oldest_due_seconds{queue="few"}'] > 1e9)
      assert.equal(0, values['pgq_queue_oldest_due_seconds{queue="none"}'])
      assert.equal(1, values['pgq_queue_paused{queue="deep"}'])
      assert.equal(0, values['pgq_queue_paused{queue="none"}'])
      assert.is_true(values.pgq_xmin_age_transactions >= 0)
      pg:psql "DELETE FROM pgq_jobs WHERE queue_name = 'few'" -- the next sample sees it
      scrape.wait_for(address, 'pgq_queue_due_jobs{queue="few"}', is(0), 40)
      worker:stop()
    end)

    it("tell since when a transaction holds back vacuum", function()
      local held = process.start { "psql", "-X", pg.conninfo, stdin = "pipe" }
      held:write "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'begun';\n"
      held:read_until "begun"
      pg:psql "SELECT pg_sleep(1.1)"
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      scrape.wait_for(address, "pgq_oldest_transaction_seconds", at_least(1))
      held:close_stdin()
      held:wait()
      worker:stop()
    end)

    it("lack what could not be sampled in time, and delay no job, while the table is locked", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      scrape.wait_for(address, 'pgq_queue_due_jobs{queue="q"}', is(0))
      local held = process.start { "psql", "-X", pg.conninfo, stdin = "pipe" }
      held:write "BEGIN; LOCK TABLE pgq_jobs; SELECT 'locked';\n"
      held:read_until "locked"
      worker:read_until("cannot sample the queues for the metrics: trying again", 60, "stderr")
      assert.is_nil(scrape.metrics(address)['pgq_queue_due_jobs{queue="q"}'])
      held:close_stdin()
      held:wait()
      scrape.wait_for(address, 'pgq_queue_due_jobs{queue="q"}', is(0), 60)
      worker:stop()
    end)

    it("show what runs: executors, jobs in flight, memory", function()
      local worker, address = start_serving([[pgq.register_queue("spins", function() spin(60) end)
        pgq.register_queue("waits", function() pgq.sleep(60) end)]], "--executors", "2", "--grace", "1s")
      enqueue("spins")
      enqueue("waits")
      local values = scrape.wait_for(address, "pgq_executors_busy", is(1))
      assert.equal(2, values.pgq_executors)
      assert.equal(0, values.pgq_executors_all_busy_seconds)
      values = scrape.wait_for(address, "pgq_jobs_running", is(2))
      assert.equal(1, values['pgq_queue_in_flight_jobs{queue="spins"}'])
      assert.equal(1, values['pgq_queue_in_flight_jobs{queue="waits"}'])
      assert.is_true(values['pgq_memory_bytes{process="supervisor"}'] > 1e6)
      assert.is_true(values['pgq_memory_bytes{process="executors"}'] > 1e6)
      assert.equal(2, values.pgq_executor_starts_total)
      assert.equal(0, values.pgq_executor_restarts_total)
      enqueue("spins", "", 3)
      scrape.wait_for(address, "pgq_executors_busy", is(2))
      scrape.wait_for(address, "pgq_executors_all_busy_seconds", at_least(0.5))
      for _, pid in ipairs(worker:executors()) do uv.kill(pid, "sigkill") end
      scrape.wait_for(address, "pgq_executor_restarts_total", is(2))
      worker:kill "sigkill"
    end)

    it("count lost leases", function()
      local worker, address = start_serving([[pgq.register_queue("q", function()
        while true do pgq.sleep(0.05) end end)]], "--lease", "1s", "--hold-limit", "100ms")
      enqueue "q"
      local values = scrape.wait_for(address, "pgq_leases", is(1))
      assert.same({ 1, 0 }, { values.pgq_claimed_jobs_total, values.pgq_settles_total }) -- a lease is no outcome
      pg:psql "UPDATE pgq_jobs SET lease = lease + 1000, run_after = now() + interval '1 hour'"
      scrape.wait_for(address, "pgq_leases_lost_total", is(1))
      worker:kill "sigkill"
    end)

    it("count cancelled jobs as cancelled, whether their worker is notified or finds out when it extends the leases", function()
      local worker, address = start_serving([[pgq.register_queue("q", function()
        while true do pgq.sleep(0.05) end end)]], "--lease", "1s", "--hold-limit", "100ms")
      local CANCELLED = 'pgq_jobs_total{queue="q",outcome="cancelled"}'
      enqueue("q", "", 2)
      scrape.wait_for(address, "pgq_leases", is(2))
      assert.equal("running", pg:psql "SELECT pgq_cancel(min(id)) FROM pgq_jobs")
      scrape.wait_for(address, CANCELLED, is(1))
      -- No notification comes with this one.
      pg:psql [[UPDATE pgq_jobs SET ran_at = now(), cancelled = true, error = 'cancelled', lease = NULL, started_at = NULL
        WHERE ran_at IS NULL]]
      local values = scrape.wait_for(address, CANCELLED, is(2))
      assert.equal(0, values.pgq_leases_lost_total)
      assert.equal(0, values['pgq_job_run_seconds_count{queue="q"}'])
      worker:stop()
      assert.equal("2|0", pg:psql "SELECT sum(cancelled), sum(completed + retried + failed + snoozed) FROM pgq_stats")
      assert.is_nil(worker.stderr:find "lease lost" or worker.stderr:find "outcome dropped", worker.stderr)
    end)

    it("say which worker it is", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      local values, _, body = scrape.metrics(address)
      local info = body:match "pgq_worker_info(%b{}) 1\n"
      assert.matches(('pid="%d"'):format(worker.pid), info)
      assert.matches('database="postgres"', info)
      assert.matches('script_version="%x+"', info)
      assert.matches('script="[^"]*worker%.lua"', info)
      assert.matches('{version="' .. process.check({ PGQ_LUA, "--version" }):match "%d+%.%d+%.%d+", info)
      assert.is_true(math.abs(values.pgq_worker_start_time_seconds - os.time()) < 120)
      assert.equal(1, values['pgq_worker_stage{stage="serving"}'])
      assert.equal(0, values['pgq_worker_stage{stage="quiet"}'])
      worker:stop()
    end)

    it("escape the names of queues", function()
      local worker, address = start_serving([==[pgq.register_queue('a "quoted"\\ name\nof ☃ {le="1"}', function() end)]==])
      pg:psql([[INSERT INTO pgq_jobs (queue_name, data) VALUES (E'a "quoted"\\ name\nof ☃ {le="1"}', '')]])
      scrape.wait_for(address, [[pgq_jobs_total{queue="a \"quoted\"\\ name\nof ☃ {le=\"1\"}",outcome="completed"}]], is(1))
      worker:stop()
    end)

    it("fold the queues beyond a thousand, and one of that name", function()
      local worker, address = start_serving [[for i = 1, 2500 do
          pgq.register_queue(i == 5 and "other" or "q" .. i, function() end)
        end
        pgq.register_queue("last", function() end)]]
      enqueue("q1000", "", 2)
      enqueue("last", "", 3)
      enqueue("other", "", 4)
      enqueue("q1001")
      enqueue("q2345", "", 5)
      local values = scrape.wait_for(address, 'pgq_jobs_total{queue="other",outcome="completed"}', is(13))
      scrape.wait_for(address, 'pgq_jobs_total{queue="q1000",outcome="completed"}', is(2))
      assert.is_nil(values['pgq_jobs_total{queue="last",outcome="completed"}'])
      assert.equal(13, values['pgq_job_run_seconds_count{queue="other"}'])
      local queues = 0
      for series in pairs(values) do queues = queues + (series:find "^pgq_queue_paused{" and 1 or 0) end
      assert.equal(1000, queues) -- 999 with their own names
      scrape.wait_for(address, 'pgq_queue_due_jobs{queue="other"}', is(0))
      scrape.wait_for(address, 'pgq_queue_due_jobs{queue="q999"}', is(0))
      worker:stop()
    end)

    it("go on after a reload", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      enqueue "q"
      scrape.wait_for(address, 'pgq_jobs_total{queue="q",outcome="completed"}', is(1))
      replace_script(worker, fixture.HEAD .. [[pgq.configure { listen = "127.0.0.1:1" }
        pgq.register_queue("q", function() end) pgq.register_queue("new", function() end)]])
      worker:kill "sighup"
      worker:read_until("the script was reloaded", 30, "stderr")
      enqueue "q"
      enqueue "new"
      scrape.wait_for(address, 'pgq_jobs_total{queue="q",outcome="completed"}', is(2))
      scrape.wait_for(address, 'pgq_jobs_total{queue="new",outcome="completed"}', is(1))
      scrape.wait_for_status(address, "/readyz", 200)
      worker:stop()
    end)
  end)

  describe("says in /readyz", function()
    it("that it is ready, and in /healthz that it runs", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      assert.same({ 200, "ready\n" }, { scrape.get(address, "/readyz").status, scrape.get(address, "/readyz").body })
      assert.same({ 200, "ok\n" }, { scrape.get(address, "/healthz").status, scrape.get(address, "/healthz").body })
      worker:stop()
    end)

    it("that it loads the script, before it has", function()
      local path = os.tmpname()
      at_end(function() os.remove(path) end)
      local worker = start(([[os.execute "while [ -e %s ]; do sleep 0.05; done" pgq.register_queue("q", function() end)]])
        :format(path))
      local address = scrape.address(worker)
      assert.equal("loading: the first executor loads the script\n", scrape.wait_for_status(address, "/readyz", 503))
      assert.equal(200, scrape.get(address, "/healthz").status)
      assert.equal(1, scrape.metrics(address)['pgq_worker_stage{stage="loading"}'])
      os.remove(path)
      scrape.wait_for_status(address, "/readyz", 200)
      worker:stop()
    end)

    it("that it connects, and that a session was lost; the metrics count it, and go on", function()
      local proxy = Proxy.listen(pg.port)
      finally(function() Worker.kill_all() proxy:close() end)
      local function begin(port)
        return Worker.start { script = fixture.HEAD .. 'pgq.register_queue("q", function() end)',
          args = { "--listen", "0", "--executors", "1", "--poll-interval", "200ms", "--db",
            (proxy:conninfo(pg):gsub("port=%d+", port and "port=" .. port or "%0")) } }
      end
      local lost = begin(1)
      local address = scrape.address(lost)
      wait.till("the reason", 30, function()
        local page = scrape.get(address, "/readyz")
        return page.status == 503 and page.body:find "^connecting: .*refused", page.body
      end)
      assert.equal(0, scrape.metrics(address).pgq_worker_connected)

      local worker = begin()
      address = scrape.address(worker)
      scrape.wait_for_status(address, "/readyz", 200)
      enqueue "q"
      scrape.wait_for(address, 'pgq_jobs_total{queue="q",outcome="completed"}', is(1))
      local is_open = false
      function proxy.from_client() return not is_open and "cut" or nil end
      pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
      local body = scrape.wait_for_status(address, "/readyz", 503)
      assert.matches("^connecting: [^\n]+\n$", body)
      scrape.wait_for(address, "pgq_worker_connected", is(0))
      assert.equal(200, scrape.get(address, "/healthz").status)
      is_open = true
      scrape.wait_for_status(address, "/readyz", 200)
      enqueue "q"
      local values = scrape.wait_for(address, 'pgq_jobs_total{queue="q",outcome="completed"}', is(2))
      assert.is_true(values.pgq_sessions_lost_total >= 1)
    end)

    it("that it is quiet, and that it stops", function()
      local worker, address = start_serving('pgq.register_queue("q", function() pgq.sleep(60) end)', "--hold-limit", "100ms")
      enqueue "q"
      scrape.wait_for(address, "pgq_jobs_running", is(1))
      process.check { PGQ_LUA, "--db", pg.conninfo, "quiet", "--all" }
      assert.matches("^quiet: [^\n]+\n$", scrape.wait_for_status(address, "/readyz", 503))
      process.check { PGQ_LUA, "--db", pg.conninfo, "quiet", "--off", "--all" }
      scrape.wait_for_status(address, "/readyz", 200)
      worker:kill "sigterm"
      assert.matches("^stopping: [^\n]+\n$", scrape.wait_for_status(address, "/readyz", 503))
      assert.equal(200, scrape.get(address, "/healthz").status)
      worker:kill "sigkill"
    end)

    it("that executors cannot load the script any more, until they can", function()
      local path = os.tmpname()
      finally(function() os.remove(path) end)
      local worker, address = start_serving(([[if not io.open(%q) then error("the file is missing\nat all", 0) end
        pgq.register_queue("q", function() end)]]):format(path), "--executors", "2")
      os.remove(path)
      for _, pid in ipairs(worker:executors()) do uv.kill(pid, "sigkill") end
      assert.matches("^script: the script no longer loads: [^\n]*the file is missing at all\n$",
        scrape.wait_for_status(address, "/readyz", 503))
      assert.equal(1, scrape.metrics(address).pgq_worker_script_error)
      wait.till("the error in the status", 30, function()
        return pg:psql "SELECT status ->> 'script_error' LIKE '%the file is missing%' FROM pgq_workers" == "t"
      end)
      io.open(path, "w"):close()
      scrape.wait_for_status(address, "/readyz", 200, 60)
      enqueue "q"
      scrape.wait_for(address, 'pgq_jobs_total{queue="q",outcome="completed"}', is(1))
      worker:stop()
    end)

    it("that a reload has failed, until one succeeds", function()
      local good = fixture.HEAD .. 'pgq.register_queue("q", function() end)'
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      replace_script(worker, good .. " oops(")
      worker:kill "sighup"
      assert.matches("^script: [^\n]*unexpected symbol[^\n]*\n$", scrape.wait_for_status(address, "/readyz", 503))
      enqueue "q" -- it goes on with the version that it has
      scrape.wait_for(address, 'pgq_jobs_total{queue="q",outcome="completed"}', is(1))
      replace_script(worker, good)
      worker:kill "sighup"
      scrape.wait_for_status(address, "/readyz", 200)
      worker:stop()
    end)
  end)

  it("answers GET and HEAD of its pages only, and lists these", function()
    local worker, address = start_serving 'pgq.register_queue("q", function() end)'
    local page = scrape.get(address, "/")
    assert.equal(404, page.status)
    for _, path in ipairs { "/metrics", "/healthz", "/readyz" } do assert.is_truthy(page.body:find("\n" .. path .. " ", 1, true)) end
    assert.equal(404, scrape.get(address, "/metrics/x").status)
    for _, path in ipairs { "/metrics%00", "/metrics%00x", "/%00/metrics", "/metrics%2" } do
      assert.equal(404, scrape.get(address, path).status, path)
    end
    assert.equal(200, scrape.get(address, "/%6detrics").status)
    -- As a proxy asks: with the absolute form of the target.
    for target, status in pairs { ["http://host:80/metrics"] = 200, ["HTTP://host/metrics?x=http://y/"] = 200,
      ["http://host/healthz"] = 200, ["http://host/metrics%00"] = 404, ["http://host"] = 404, ["http://metrics"] = 404,
      ["ftp://host/metrics"] = 404, ["http:///metrics"] = 200 } do
      page = scrape.get(address, "/", "--request-target", target)
      assert.equal(status, page.status, target)
      assert.equal(target:find "/metrics" ~= nil and status == 200, page.type == OPENMETRICS, target)
    end
    assert.equal(200, scrape.get(address, "/healthz?x=1").status)
    local head = scrape.get(address, "/metrics", "-I")
    assert.same({ 200, OPENMETRICS, "" }, { head.status, head.type, head.body })
    for _, method in ipairs { "POST", "PUT", "DELETE", "OPTIONS" } do
      page = scrape.get(address, "/metrics", "-X", method)
      assert.equal(405, page.status)
      assert.matches("\r\nAllow: GET, HEAD\r\n", page.head)
    end
    assert.equal(405, scrape.get(address, "/metrics", "--data-binary", ("x"):rep(100000)).status)
    assert.equal(200, scrape.get(address, "/healthz", "-X", "GET", "--data-binary", ("x"):rep(100000)).status)
    worker:stop()
  end)

  -- Runs `count` jobs one after the other, and returns the longest time from an enqueue to the end of the job.
  local function longest(count)
    local most = 0
    for _ = 1, count do
      local began = uv.hrtime()
      pg:psql "SELECT pgq_enqueue('q', '')"
      wait.till("the job to end", 20, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
      most = math.max(most, (uv.hrtime() - began) / 1e9)
    end
    return most
  end

  local function connect(address, text)
    local socket = uv.new_tcp()
    local client = { socket = socket, got = "" }
    local host, port = address:match "^(.*):(%d+)$"
    socket:connect(host, tonumber(port), function(problem)
      client.connected = not problem
      if problem then return end
      socket:read_start(function(_, chunk)
        client.got = client.got .. (chunk or "")
        client.closed = client.closed or not chunk
      end)
      if text then socket:write(text, function() end) end
    end)
    at_end(function() if not socket:is_closing() then loop.close(socket) end end)
    return client
  end

  it("is not delayed by clients that send slowly, or hundreds that send nothing, and closes these", function()
    local worker, address = start_serving 'pgq.register_queue("q", function() end)'
    local clients = {}
    for i = 1, 200 do clients[i] = connect(address, i % 2 == 0 and "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: " or nil) end
    wait.till("200 connections", 30, function()
      for _, client in ipairs(clients) do if not client.connected then return false end end
      return true
    end)
    local dribble = uv.new_timer()
    at_end(function() loop.close(dribble) end)
    dribble:start(0, 300, function()
      for i = 2, 200, 2 do
        if not clients[i].closed and not clients[i].socket:is_closing() then clients[i].socket:write("x", function() end) end
      end
    end)
    assert.equal(200, scrape.get(address, "/healthz").status) -- they keep nobody out for long: curl waits for 20 s
    assert.is_true(longest(10) < 5)
    wait.till("slow clients to be closed", 60, function()
      local closed = 0
      for _, client in ipairs(clients) do closed = closed + (client.closed and 1 or 0) end
      return closed >= 64, closed
    end)
    for _, client in ipairs(clients) do if not client.socket:is_closing() then loop.close(client.socket) end end
    assert.equal(1, scrape.wait_for(address, "pgq_worker_ready", is(1), 60).pgq_worker_ready)
    worker:stop()
  end)

  it("is not delayed by clients that ask without a pause, nor by one that does not read the answer", function()
    local worker, address = start_serving [[for i = 1, 500 do pgq.register_queue("x" .. i, function() end) end
      pgq.register_queue("q", function() end)]]
    local deaf = connect(address, ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"):rep(20))
    wait.till("its connection", 30, function() return deaf.connected end)
    deaf.socket:read_stop()
    local script = [[while :; do curl -s -o /dev/null "$1"; done]]
    for _ = 1, 4 do
      local asks = process.start { "sh", "-c", script, "sh", "http://" .. address .. "/metrics" }
      at_end(function() asks:kill "sigkill" asks:wait() end)
    end
    assert.is_true(longest(10) < 5)
    assert.equal(200, scrape.get(address, "/healthz").status)
    worker:stop()
  end)

  it("survives clients that go away in the middle, and those that send nonsense", function()
    local worker, address = start_serving [[for i = 1, 500 do pgq.register_queue("x" .. i, function() end) end]]
    for i = 1, 30 do
      local texts = { "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "\0\1\2\255\r\n\r\n", ("a"):rep(100000),
        "GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab" }
      local client = connect(address, texts[i % 4 + 1])
      wait.till("its connection", 30, function() return client.connected end)
      uv.run "nowait"
      loop.close(client.socket)
    end
    assert.equal(200, scrape.get(address, "/healthz").status)
    assert.equal(1, scrape.metrics(address).pgq_worker_ready)
    worker:stop()
  end)

  it("stops while clients are connected", function()
    local worker, address = start_serving 'pgq.register_queue("q", function() end)'
    local client = connect(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    wait.till("the answer", 30, function() return client.got:find "# EOF" end)
    worker:stop()
    wait.till("the connection to end", 30, function() return client.closed end)
  end)

  describe("takes an address", function()
    it("from the environment or the script; the command line is stronger, and empty turns it off", function()
      local script = 'pgq.configure { listen = "127.0.0.1:0" } pgq.register_queue("q", function() end)'
      local function begin(env, ...)
        return Worker.start { pg = pg, script = fixture.HEAD .. script, env = env, args = { "--executors", "1", ... } }
      end
      local worker = begin()
      assert.matches("^127%.0%.0%.1:%d+$", scrape.address(worker))
      worker:read_until("options=\"?[^\n]*listen=127%.0%.0%.1:0", 30, "stderr")
      worker:stop()
      worker = begin { PGQ_LISTEN = "[::1]:0" }
      local address = scrape.address(worker)
      assert.matches("^%[::1%]:%d+$", address)
      assert.equal(200, scrape.get(address, "/healthz").status)
      worker:stop()
      worker = begin({ PGQ_LISTEN = "0" }, "--listen", "")
      worker:read_until("worker is serving", 30, "stderr")
      assert.is_nil(worker:stop().stderr:find "listening for requests")
    end)

    it("that is wrong, and says what is wrong", function()
      local cases = {
        { "nonsense", "'nonsense' does not end in a port" },
        { "127.0.0.1", "does not end in a port" },
        { "127.0.0.1:99999", "does not end in a port" },
        { "::1:9188", "neither an IP address nor localhost" },
        { "example.com:9188", "neither an IP address nor localhost" },
      }
      for _, case in ipairs(cases) do
        local result = start('pgq.register_queue("q", function() end)', "--listen", case[1]):wait()
        assert.equal(2, result.status)
        assert.is_truthy(result.stderr:find(case[2], 1, true), result.stderr)
      end
      local result = start('pgq.register_queue("q", function() end)', "--listen", "203.0.113.1:0"):wait()
      assert.equal(1, result.status)
      assert.matches("cannot listen on 203%.0%.113%.1:0: Cannot assign requested address: this machine does not have",
        result.stderr)
      result = Worker.run { pg = pg, script = 'require "pgq".configure { listen = "x" }' }
      assert.equal(1, result.status)
      assert.matches("worker%.lua:1: .*'x' does not end in a port", result.stderr)
    end)

    it("that is in use, and ends before it claims", function()
      local worker, address = start_serving 'pgq.register_queue("q", function() end)'
      enqueue "other"
      for _, args in ipairs { { "--listen", address }, {} } do
        local result = Worker.run { pg = pg, args = { "--drain", unpack(args) }, script =
          fixture.HEAD .. ('pgq.configure { listen = "%s" } pgq.register_queue("other", function() print "ran" end)'):format(address) }
        assert.equal(1, result.status)
        assert.is_truthy(result.stderr:find("cannot listen on " .. address ..
          ": Address already in use: another process listens there", 1, true), result.stderr)
        assert.equal("", result.stdout)
      end
      assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
      worker:stop()
    end)
  end)
end)

-- Cancelling jobs that a worker has: how and when their handlers are told. Cancelling itself is in
-- cancel_spec.lua.
local Pgbouncer = require "spec.support.pgbouncer"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("a job that is cancelled while a worker has it", function()
  local pg = fixture.server()

  -- Without the notification, or behind a pooler, a worker finds the cancellation when it extends the lease, after 20
  -- s.
  local AT_ONCE = 10

  local function start_at(server, script, ...)
    local worker = Worker.start { pg = server, script = fixture.HEAD .. script, args = { "--executors", "1", ... } }
    worker:read_until "worker is serving"
    return worker
  end

  local function start(...) return start_at(pg, ...) end

  local function handler(body) return ('pgq.register_queue("q", function(data, job)\n%s\nend)'):format(body) end

  local function enqueue(data, count)
    return pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '%s' FROM generate_series(1, %d) RETURNING id")
      :format(data or "", count or 1)):match "^%d+"
  end

  local function cancel(...)
    local result = process.run { PGQ_LUA, "--db", pg.conninfo, "cancel", ... }
    return result.stdout, result.status
  end

  local function wait_till_leased(id)
    wait.till("job " .. id .. " to be leased", 30, function()
      return pg:psql("SELECT count(lease) FROM pgq_jobs WHERE id = " .. id) == "1"
    end)
  end

  local function row(id)
    return pg:psql("SELECT attempt, ran_at IS NOT NULL, lease IS NULL, deaths, error FROM pgq_jobs WHERE id = " .. id)
  end

  local function seconds_since(began) return (uv.hrtime() - began) / 1e9 end

  local RUNNING = "%d running: its handler is being cancelled\n"

  -- Any role may send notifications. They only make the worker look at the row, a few times a second.
  it("is not cancelled by a notification alone, however many come", function()
    pg:psql "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN"
    finally(function() pg:psql "DROP ROLE stranger" end)
    local id = enqueue "sleep"
    local worker = start(handler [[
      print(pcall(pgq.sleep, 4))
    ]])
    wait_till_leased(id)
    local table = pg:psql "SELECT 'pgq_jobs'::regclass::oid"
    local before = pg:psql "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pgq_jobs_pkey'"
    pg:psql(([[SET ROLE stranger;
      SELECT pg_notify('pgq_cancel', '%s:' || %s);
      SELECT pg_notify('pgq_cancel', payload) FROM unnest('{"",:,%s,%s:,%s:x,0:%s,9999999999999999999999:1}'::text[]) AS payload;
      SELECT count(pg_notify('pgq_cancel', '%s:' || id)) FROM generate_series(0, 5000) AS id]]):format(table, id, table, table, table, id, table))
    local flood = "SET ROLE stranger;"
    for _ = 1, 500 do flood = flood .. ("NOTIFY pgq_cancel, '%s:%s';"):format(table, id) end
    pg:psql(flood)
    worker:read_until "true"
    worker:stop()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    wait.sleep(1.1) -- until the server has counted
    local after = pg:psql "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pgq_jobs_pkey'"
    assert.is_true(after - before < 100, after .. " - " .. before)
  end)

  it("and whose handler waits gets pgq.cancelled at once, and can clean up", function()
    local id = enqueue "sleep"
    local worker = start(handler [[
      print "waits"
      local ok, why = pcall(pgq.sleep, 60)
      assert(not ok and why == pgq.cancelled, tostring(why))
      pgq.sleep(0.05)
      print(("cleaned up after %q"):format(tostring(why)))
      error(why) ]])
    worker:read_until "waits"
    wait_till_leased(id)
    local began = uv.hrtime()
    assert.same({ RUNNING:format(id), 0 }, { cancel(id) })
    worker:read_until 'cleaned up after "pgq.cancelled: the job was cancelled, or its lease was lost"'
    worker:read_until("level=info msg=\"job cancelled\" queue=q job=" .. id, AT_ONCE, "stderr")
    assert.is_true(seconds_since(began) < AT_ONCE, "took " .. seconds_since(began))
    worker:stop()
    assert.equal("1|t|t|0|cancelled", row(id))
    assert.is_nil(worker.stderr:find "level=warn" or worker.stderr:find "level=error", worker.stderr)
  end)

  for what, body in pairs {
    ["for a statement"] = 'pgq.query "SELECT pg_sleep(60)"',
    ["in a transaction"] = 'pgq.transaction(function(tx) tx:query "SELECT pg_sleep(60)" end)',
    ["for a callback"] = [[local timer = uv.new_timer()
      pgq.await(function(resume)
        timer:start(60000, 0, resume)
        return function() timer:close() print "stopped the timer" end
      end)]],
    ["in a coroutine"] = "coroutine.wrap(function() pgq.sleep(60) end)()",
    ["for a connection of the pool"] = [[
      if data == "taken" then
        pgq.transaction(function()
          for _ = 1, 1000 do
            pgq.sleep(0.03)
            if is_over then break end
          end
        end)
      else
        local _, why = pcall(pgq.transaction, function() end)
        is_over = true
        if why == pgq.cancelled then error(why) end
      end]],
  } do
    it("and waits " .. what .. " is interrupted", function()
      if what:find "pool" then
        pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', 'taken' FROM generate_series(1, 5)"
      end
      local worker = start(handler("print('waits', data)\n" .. body .. "\nprint 'was not interrupted'"))
      if what:find "pool" then
        for _ = 1, 5 do worker:read_until "waits\ttaken" end
      end
      local id = enqueue ""
      worker:read_until "waits\t\n"
      wait_till_leased(id)
      assert.equal(RUNNING:format(id), (cancel(id)))
      worker:read_until("job cancelled", AT_ONCE, "stderr")
      if what == "for a callback" then
        worker:read_until "stopped the timer"
      end
      wait.till("the statement to end", 30, function()
        return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'" == "0"
      end)
      wait.till("the others to end", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL" == "0" end)
      worker:stop()
      assert.equal("1|t|t|0|cancelled", row(id))
      assert.is_nil(worker.stderr:find "executor died", worker.stderr)
    end)
  end

  it("and goes on waiting after that is interrupted again, and then killed", function()
    local id = enqueue()
    local worker = start(handler "print 'waits' while true do print(pcall(pgq.sleep, 60)) end")
    worker:read_until "waits"
    wait_till_leased(id)
    local began = uv.hrtime()
    cancel(id)
    worker:read_until("was killed: it ran a job that was cancelled", 30, "stderr")
    assert.is_true(seconds_since(began) > 1)
    worker:read_until("job cancelled", 30, "stderr")
    worker:stop()
    assert.equal("1|t|t|0|cancelled", row(id))
  end)

  it("and succeeds nevertheless stays cancelled", function()
    local id = enqueue()
    local worker = start(handler "print 'waits' pcall(pgq.sleep, 60) return true")
    worker:read_until "waits"
    wait_till_leased(id)
    cancel(id)
    worker:read_until("job cancelled", AT_ONCE, "stderr")
    worker:stop()
    assert.equal("1|t|t|0|cancelled", row(id))
  end)

  it("and computes has its executor killed within seconds, and other jobs lose no attempt", function()
    local worker = start(handler [[
      print("began", data, job.attempt)
      if data == "spin" then spin(60) else pgq.sleep(2) end
      print("ended", data, job.attempt)]])
    enqueue("neighbour", 3)
    for _ = 1, 3 do worker:read_until "began\tneighbour\t1" end
    local id = enqueue "spin"
    worker:read_until "began\tspin"
    wait_till_leased(id)
    local began = uv.hrtime()
    assert.equal(RUNNING:format(id), (cancel(id)))
    worker:read_until("was killed: it ran a job that was cancelled", 30, "stderr")
    assert.is_true(seconds_since(began) < AT_ONCE, "took " .. seconds_since(began))
    worker:read_until("job cancelled", 30, "stderr")
    for _ = 1, 3 do worker:read_until "ended\tneighbour\t1" end
    worker:stop()
    assert.equal("1|t|t|0|cancelled", row(id))
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("but is held, and about to end, has ended", function()
    local worker = start(handler "print 'blocks' uv.sleep(200)")
    -- If the machine stands still for a second, the job is leased after all.
    local ended = 0
    for _ = 1, 5 do
      local id = enqueue()
      worker:read_until "blocks"
      local said = cancel(id)
      if said ~= RUNNING:format(id) then
        assert.equal(id .. " unknown: there is no such job\n", said)
        ended = ended + 1
      end
    end
    assert.is_true(ended > 2, "only " .. ended .. " of 5 had ended")
    worker:stop()
  end)

  it("and is held, but runs on, is leased first, and then cancelled", function()
    local id = enqueue()
    local worker = start(handler "print 'computes' spin(60)")
    worker:read_until "computes"
    local began = uv.hrtime()
    assert.equal(RUNNING:format(id), (cancel(id)))
    worker:read_until("job cancelled", 30, "stderr")
    assert.is_true(seconds_since(began) < AT_ONCE, "took " .. seconds_since(began))
    worker:stop()
    assert.equal("1|t|t|0|cancelled", row(id))
  end)

  it("and has not begun in its executor never runs", function()
    -- The first job computes for as long as this file exists.
    local file = os.tmpname()
    finally(function() os.remove(file) end)
    local worker = start(([[local path = %q]]):format(file) .. handler [[
      if data ~= "spin" then return print("ran", data) end
      print "computes"
      local began = now()
      while uv.fs_stat(path) and now() - began < 60 do end]])
    enqueue("", 200)
    wait.till("the queue to be known as quick", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    local first = pg:psql [[INSERT INTO pgq_jobs (queue_name, data)
      SELECT 'q', CASE n WHEN 1 THEN 'spin' ELSE 'behind' END::bytea FROM generate_series(1, 3) AS n RETURNING id]]:match "^%d+"
    worker:read_until "computes"
    assert.same({ first + 1 .. " cancelled\n" .. first + 2 .. " cancelled\n", 0 }, { cancel(first + 1, first + 2) })
    os.remove(file)
    wait.till("the first to end", 30, function() return pg:psql("SELECT count(*) FROM pgq_jobs WHERE id = " .. first) == "0" end)
    worker:stop()
    assert.is_nil(worker.stdout:find "behind")
    assert.equal("0|t|t|0|cancelled", row(first + 2))
  end)

  it("is cancelled wherever in the fleet it runs, and nowhere else", function()
    local SCRIPT = handler [[
      print("waits", job.id)
      local ok, why = pcall(pgq.sleep, 60)
      print("told", job.id, why == pgq.cancelled)]]
    local fleet = {}
    for i = 1, 3 do
      fleet[i] = start(SCRIPT, "--concurrency", "2")
    end
    enqueue("", 6)
    for id = 1, 6 do wait_till_leased(id) end
    cancel(1, 3, 5)
    wait.till("three to be told", AT_ONCE, function()
      local told = ""
      for i = 1, 3 do told = told .. fleet[i].stdout end
      return select(2, told:gsub("told\t[135]\ttrue\n", "")) == 3 and not told:find "told\t[246]"
    end)
    assert.equal("2,4,6", pg:psql "SELECT string_agg(id::text, ',' ORDER BY id) FROM pgq_jobs WHERE ran_at IS NULL AND lease IS NOT NULL")
  end)

  it("is not confused with a job of that number in a table of another schema", function()
    pg:psql "CREATE SCHEMA other"
    finally(function() pg:psql "DROP SCHEMA other CASCADE" end)
    local other = { conninfo = pg.conninfo .. " options=-csearch_path=other" }
    assert.equal(0, process.run({ PGQ_LUA, "--db", other.conninfo, "migrate" }).status)
    local SCRIPT = handler "print 'waits' local ok, why = pcall(pgq.sleep, data) print('told', why == pgq.cancelled)"
    local here, there = start(SCRIPT), start_at(other, SCRIPT)
    enqueue "8s"
    pg:psql "INSERT INTO other.pgq_jobs (queue_name, data) VALUES ('q', '60s')"
    here:read_until "waits"
    there:read_until "waits"
    wait_till_leased(1)
    wait.till("the other to be leased", 30, function() return pg:psql "SELECT count(lease) FROM other.pgq_jobs" == "1" end)
    assert.equal(RUNNING:format(1), process.run({ PGQ_LUA, "--db", other.conninfo, "cancel", "1" }).stdout)
    there:read_until("told\ttrue", AT_ONCE)
    here:read_until("told\tfalse", 30)
    here:stop()
    there:stop()
    assert.equal("cancelled", pg:psql "SELECT error FROM other.pgq_jobs")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("is told so at the next extension of its lease behind a pooler, where no notification arrives", function()
    local pool = Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = 8 })
    finally(function() pool:stop() end)
    local id = enqueue()
    local worker = start_at(pool, handler [[
      print "waits"
      local ok, why = pcall(pgq.sleep, 60)
      print("told", why == pgq.cancelled)]], "--lease", "6s")
    worker:read_until "waits"
    wait_till_leased(id)
    cancel(id)
    worker:read_until("told\ttrue", 30)
    worker:stop()
    assert.equal("1|t|t|0|cancelled", row(id))
  end)

  it("and is then run again by hand runs again, whatever the first handler still does", function()
    local id = enqueue()
    local worker = start(handler [[
      print("began", job.attempt)
      if job.attempt == 1 then
        pcall(pgq.sleep, 60)
        pcall(pgq.sleep, 0.8)
        print "cleaned up"
      end]], "--poll-interval", "50ms")
    worker:read_until "began\t1"
    wait_till_leased(id)
    -- At once, before the first handler has cleaned up.
    pg:psql(([[BEGIN; SELECT pgq_cancel(%d);
      UPDATE pgq_jobs SET ran_at = NULL, error = NULL, run_after = now() WHERE ran_at IS NOT NULL; COMMIT]]):format(id))
    wait.till("both handlers to have come to that", 30, function()
      return worker.stdout:find "began\t2" and worker.stdout:find "cleaned up"
    end)
    wait.till("it to be done", 30, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    worker:stop()
  end)
end)

local ffi = require "ffi"
local uv = require "luv"
local Postgres = require "spec.support.postgres"
local Proxy = require "spec.chaos.proxy"
local Worker = require "spec.support.worker"
local loop = require "spec.support.loop"
local wait = require "spec.support.wait"

ffi.cdef [[
  struct pgq_filter { uint16_t code; uint8_t jt, jf; uint32_t k; };
  struct pgq_program { unsigned short length; struct pgq_filter *filter; };
  int setsockopt(int fd, int level, int name, const void *value, unsigned length);
]]

-- From now on the kernel drops every packet that comes in for the socket, and acknowledges none: to the other side it
-- looks as if the cable had been cut. That of a listening socket is a host that does not answer.
local function lose_packets(socket)
  local SOL_SOCKET, SO_ATTACH_FILTER, RETURN_CONSTANT = 1, 26, 6
  local filter = ffi.new("struct pgq_filter[1]", { { RETURN_CONSTANT, 0, 0, 0 } })
  local program = ffi.new("struct pgq_program", { 1, filter })
  assert(ffi.C.setsockopt(socket:fileno(), SOL_SOCKET, SO_ATTACH_FILTER, program, ffi.sizeof(program)) == 0)
end

local ECHO = [[
  local pgq = require "pgq"
  pgq.register_queue("echo", function(data) print("ran " .. data) end)
  pgq.register_queue("slow", function(data)
    print("began " .. data)
    require "luv".sleep(tonumber(data))
    print("ended " .. data)
  end)]]

local function start(conninfo, ...)
  return Worker.start { script = ECHO, args = { "--db", conninfo, "--poll-interval", "100ms", "--executors", "1", ... } }
end

-- How long until a worker has found another server, or the same one again; its waits between tries grow to ten seconds.
local BACK = 60

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

local function all_done(pg)
  return pg:psql "SELECT count(*) FROM pgq_jobs" == "0"
end

describe("a worker with a standby at hand", function()
  local primary, standby

  before_each(function()
    primary = Postgres.start { migrated = true, tcp = true }
    standby = Postgres.start_standby(primary)
  end)

  after_each(function()
    standby:stop()
    primary:stop()
  end)

  local function multi_host()
    return ("host=127.0.0.1,127.0.0.1 port=%d,%d dbname=postgres user=postgres target_session_attrs=read-write"):format(
      primary.port, standby.port)
  end

  -- From now on a commit is acknowledged when the standby has it.
  local function replicate_synchronously()
    primary:psql "ALTER SYSTEM SET synchronous_standby_names = '*'"
    primary:psql "SELECT pg_reload_conf()"
    wait.till("the standby to be synchronous", 30, function()
      return primary:psql "SELECT sync_state FROM pg_stat_replication" == "sync"
    end)
  end

  it("goes on there by itself when its primary dies, and no acknowledged job is lost or left behind", function()
    replicate_synchronously()
    local worker = start(multi_host())
    primary:psql "SELECT pgq_enqueue('echo', n::text::bytea) FROM generate_series(1, 1000) AS n"
    primary:psql "SELECT pgq_enqueue('slow', '2000')"
    worker:read_until "began 2000"
    primary:psql "SELECT pgq_enqueue('echo', n::text::bytea) FROM generate_series(1001, 2000) AS n"
    primary:down "immediate"
    worker:read_until "connection lost"
    standby:promote()
    wait.till("all jobs to be done on the new primary", BACK, function() return all_done(standby) end)
    standby:psql "SELECT pgq_enqueue('echo', 'after')"
    worker:read_until "ran after\n"
    worker:stop()
    for i = 1, 2000 do
      assert.is_true(worker.stdout:find("ran " .. i .. "\n", 1, true) ~= nil, "job " .. i .. " did not run")
    end
    -- The one that ran when the primary died was settled, not run again.
    assert.equal(1, count(worker.stdout, "began 2000"))
    assert.equal("0", standby:psql "SELECT count(*) FROM pgq_workers")
  end)

  it("waits without further log lines if it only knows the standby, and goes on when the standby is promoted", function()
    local worker = start(standby.tcp_conninfo)
    primary:psql "SELECT pgq_enqueue('echo', 'early')"
    worker:read_until "worker is serving"
    wait.sleep(4)
    assert.is_true(worker:is_running())
    assert.is_true(count(worker.stderr, "\n") < 10, worker.stderr)
    assert.matches("recovery", worker.stderr)
    primary:down "immediate"
    standby:promote()
    worker:read_until("ran early", BACK)
    wait.till("the job to complete", 30, function() return all_done(standby) end)
    worker:stop()
  end)
end)

describe("a worker behind a network", function()
  local pg, proxy, timers

  before_each(function()
    pg = Postgres.start { migrated = true, tcp = true }
    proxy = Proxy.listen(pg.port)
    timers = {}
  end)

  after_each(function()
    for timer in pairs(timers) do
      loop.close(timer)
    end
    proxy:close()
    pg:stop()
    loop.run_until(5, function() return Proxy.closing() == 0 end)
  end)

  local function through_proxy()
    return (pg.tcp_conninfo:gsub("port=%d+", "port=" .. proxy.port))
  end

  local function after(seconds, fn)
    local timer = uv.new_timer()
    timers[timer] = true
    timer:start(seconds * 1000, 0, fn)
  end

  -- For all current connections, packets are lost in both directions, and neither side is told.
  local function cut_the_cable()
    for connection in pairs(proxy.connections) do
      lose_packets(connection.client)
      lose_packets(connection.server)
    end
  end

  -- The order may differ: other connections may find out first.
  local function wait_for_timeout(worker, connection)
    wait.till(connection .. " to time out", BACK, function()
      worker:is_running()
      return worker.stderr:find("connection lost[^\n]*" .. connection .. "[^\n]*timed out"), worker.stderr
    end)
  end

  local function wait_until_free(seconds)
    wait.till("the server to give the job free", seconds, function()
      return pg:psql "SELECT count(*) FROM (SELECT FROM pgq_jobs FOR UPDATE SKIP LOCKED) AS free" == "1"
    end)
  end

  -- Sessions as the server sees them, as a list of pids.
  local function sessions()
    return pg:psql "SELECT coalesce(string_agg(pid::text, ',' ORDER BY pid), '') FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
  end

  it("that loses packets notices it, as the server does, and settles the jobs that it ran without a second run", function()
    local worker = start(through_proxy())
    pg:psql "SELECT pgq_enqueue('slow', '4000')"
    worker:read_until "began 4000"
    local began = sessions()
    cut_the_cable()
    wait_until_free(12) -- keepalives find out after 25 s
    wait_for_timeout(worker, "hold 1")
    wait.till("the job to complete", BACK, function() return all_done(pg), worker.stderr end)
    wait_for_timeout(worker, "control")
    wait.till("the server to have ended every session of old", BACK, function()
      return pg:psql(("SELECT count(*) FROM pg_stat_activity WHERE pid IN (%s)"):format(began)) == "0"
    end)
    pg:psql "SELECT pgq_enqueue('echo', 'after')"
    worker:read_until "ran after"
    worker:stop()
    assert.equal(1, count(worker.stdout, "began 4000"))
  end)

  it("that loses packets: another worker gets the jobs soon, and none is finished twice", function()
    pg:psql [[
      CREATE TABLE written (what text, by text);
      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO written VALUES (tg_op, current_setting('application_name')); RETURN old; END $$;
      CREATE TRIGGER note BEFORE DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION note()]]
    local worker = start(through_proxy() .. " application_name=first tcp_user_timeout=10000")
    pg:psql "SELECT pgq_enqueue('slow', '2000')"
    worker:read_until "began 2000"
    cut_the_cable()
    local other = start(pg.tcp_conninfo .. " application_name=second")
    other:read_until("began 2000", 10) -- the first is not back before
    other:read_until "ended 2000"
    wait.till("the job to complete", 30, function() return all_done(pg) end)
    worker:read_until("outcome [nd]", BACK) -- not needed, or dropped
    worker:stop()
    other:stop()
    assert.equal("DELETE|second", pg:psql "SELECT * FROM written")
  end)

  it("that cuts connections in the middle of messages loses nothing and leaves nothing behind", function()
    local worker = Worker.start { args = { "--db", through_proxy(), "--poll-interval", "50ms", "--executors", "2" }, script = [[
      local pgq = require "pgq"
      pgq.register_queue("q", function(data, job)
        require "luv".sleep(1)
        if job.attempt == 1 and #data > 3000 then error(("why "):rep(1000), 0) end
        print("ran " .. #data)
      end)]] }
    worker:read_until "worker is serving"
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, retry_waits)
      SELECT 'q', repeat('x', n)::bytea, '{0s,1h}' FROM generate_series(1, 4000) AS n]]
    -- 12 times, all connections or one; each at another place of its next message, by FIN or by RST.
    for i = 1, 12 do
      proxy:cut((i * 0.37) % 1, i % 2 == 0, after, 0.4)
      wait.sleep(0.5)
    end
    wait.till("all jobs to be done", 90, function()
      local left = pg:psql "SELECT count(*), min(attempt), min(error) FROM pgq_jobs"
      return left == "0||", left
    end)
    worker:stop()
    for n = 1, 4000 do
      assert.is_true(worker.stdout:find("ran " .. n .. "\n", 1, true) ~= nil, "job " .. n .. " did not run")
    end
    assert.is_true(count(worker.stderr, "the session of a hold was lost") >= 3, worker.stderr)
  end)

  it("whose first host does not answer: the worker connects to the second", function()
    lose_packets(proxy._listener)
    local conninfo = ("host=127.0.0.1,127.0.0.1 port=%d,%d dbname=postgres user=postgres target_session_attrs=read-write"):format(
      proxy.port, pg.port)
    local worker = start(conninfo)
    pg:psql "SELECT pgq_enqueue('echo', 'there')"
    worker:read_until("ran there", 90)
    worker:stop()
  end)

  it("that swallows and acknowledges all bytes: other workers get the jobs, and the worker goes on afterwards", function()
    local worker = start(through_proxy())
    pg:psql "SELECT pgq_enqueue('slow', '1000')"
    worker:read_until "began 1000"
    proxy:stall(1, 14, after, function() end)
    wait_until_free(12)
    assert.is_nil(worker.stderr:find "connection lost")
    worker:read_until "connection lost"
    wait.till("the job to complete", BACK, function() return all_done(pg) end)
    worker:stop()
    assert.equal(1, count(worker.stdout, "began 1000"))
  end)
end)

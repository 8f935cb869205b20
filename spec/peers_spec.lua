local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local bell = require "spec.support.bell"
local pgq = require "pgq"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local WORKERS = 9

-- Only a lost wake-up makes a wait longer than this; the workers poll once an hour.
local SOON = 8

-- Of many workers that sleep, two look for the job of a ring at once, and the others later, unless one has answered.
describe("workers that serve the same queues", function()
  local pg, conn
  local workers = {}

  local SCRIPT = [[
    local pgq, uv = require "pgq", require "luv"
    pgq.register_queue("echo", function(data) print("ran " .. data) end)
    pgq.register_queue("slow", function(data) print("slow " .. data) uv.sleep(20) end)
    pgq.register_queue("fatal", function(data) print("fatal " .. data) uv.sleep(60000) end)]]

  setup(function()
    pg = Postgres.start { migrated = true }
    conn = assert(pgq.connect(pg.conninfo))
    for i = 1, WORKERS do
      workers[i] = Worker.start { script = SCRIPT, args = { "--db", pg.conninfo .. " application_name=worker" .. i,
        "--executors", "1", "--poll-interval", "1h" } }
    end
    for _, worker in ipairs(workers) do
      worker:read_until "worker is serving"
    end
    -- A worker asks for its peers with each heartbeat.
    wait.till("all workers to know each other", 60, function()
      return pg:psql "SELECT min(last_seen_at) > max(started_at) FROM pgq_workers" == "t"
    end)
  end)

  teardown(function()
    Worker.kill_all()
    conn:close()
    pg:stop()
  end)

  before_each(function() bell.wait_asleep(pg, 3 * WORKERS) end) -- a flag for each queue

  local function each_stopped(count, signal)
    for i = 1, count do
      workers[i]:kill(signal)
    end
  end

  local function wait_for_ran(text)
    wait.till("a worker to print " .. text, SOON, function()
      for _, worker in ipairs(workers) do
        worker:is_running()
        if worker.stdout:find(text .. "\n", 1, true) then
          return worker
        end
      end
    end)
  end

  -- How many workers have looked for jobs since that time of the server. The control session, which has an advisory
  -- lock, does not look.
  local function looked_since(time)
    return tonumber(pg:psql(([[SELECT count(DISTINCT application_name) FROM pg_stat_activity AS a
      WHERE application_name LIKE 'worker%%' AND state_change > '%s' AND query <> '' AND NOT EXISTS (
        SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND locktype = 'advisory' AND classid = 'pgq_workers'::regclass)]])
      :format(time)))
  end

  it("do not all look for one job", function()
    local seen, few = {}, 0
    for i = 1, 20 do
      bell.wait_asleep(pg, 3 * WORKERS)
      local time = pg:psql "SELECT clock_timestamp()"
      assert(conn:enqueue("echo", "single" .. i))
      wait_for_ran("ran single" .. i)
      wait.sleep(0.2) -- those that wait for an answer look by then
      seen[i] = looked_since(time)
      few = few + (seen[i] < WORKERS and 1 or 0)
    end
    -- On a busy machine an answer may come too late.
    assert.is_true(few >= 5, table.concat(seen, " ") .. " workers have looked")
  end)

  it("run every job soon, although most of them stand still", function()
    each_stopped(WORKERS - 2, "sigstop")
    finally(function() each_stopped(WORKERS - 2, "sigcont") end)
    for i = 1, 12 do
      assert(conn:enqueue("echo", "stopped" .. i))
      wait_for_ran("ran stopped" .. i)
      wait.sleep(0.15)
    end
  end)

  it("do not believe an answer of another role", function()
    pg:psql "CREATE ROLE stranger LOGIN"
    local theirs = assert(pgq.connect(pg.conninfo))
    -- Answers to the last transactions and to the next one of that session.
    local answers = ([[SELECT pg_notify('pgq_bell', concat('answered:', 'pgq_jobs'::regclass::oid, ':', %s::int8 << 40 | xid))
      FROM generate_series(pg_snapshot_xmax(pg_current_snapshot())::text::int8 - 3,
        pg_snapshot_xmax(pg_current_snapshot())::text::int8) AS xid]]):format(theirs:query("SELECT pg_backend_pid() AS pid")[1].pid)
    local liar = process.start { "luajit", "-e", ([[
      local conn = assert(require "pgq".connect("%s"))
      while conn:query([=[%s]=]) do require "luv".sleep(5) end]]):format(
      (pg.conninfo:gsub("user=postgres", "user=stranger")), answers) }
    each_stopped(WORKERS - 2, "sigstop")
    finally(function()
      each_stopped(WORKERS - 2, "sigcont")
      liar:kill "sigkill"
      liar:wait()
    end)
    for i = 1, 12 do
      assert(theirs:enqueue("echo", "answered" .. i))
      wait_for_ran("ran answered" .. i)
      wait.sleep(0.15)
    end
    assert.is_true(liar:is_running(), liar.stderr)
    theirs:close()
  end)

  it("all come to a backlog", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'slow', n::text::bytea FROM generate_series(1, 1500) AS n"
    wait.till("all workers to take part", 30, function()
      local count = 0
      for _, worker in ipairs(workers) do
        worker:is_running()
        count = count + (worker.stdout:find "slow" and 1 or 0)
      end
      return count == WORKERS, count
    end)
    pg:psql "DELETE FROM pgq_jobs"
  end)

  it("find a job whose worker has died while all others sleep", function()
    local function running(other_than)
      return wait.till("a worker to run the job", 30, function()
        for _, worker in ipairs(workers) do
          if worker ~= other_than and worker:is_running() and worker.stdout:find "fatal job" then
            return worker
          end
        end
      end)
    end
    assert(conn:enqueue("fatal", "job"))
    local victim = running()
    wait.sleep(0.2)
    victim:kill "sigkill"
    victim:wait()
    running(victim)
  end)
end)

-- So few workers all look at once.
describe("three workers, of which one stands still", function()
  local pg

  setup(function() pg = Postgres.start { migrated = true } end)
  teardown(function()
    Worker.kill_all()
    pg:stop()
  end)

  it("run every job soon", function()
    local workers = {}
    for i = 1, 3 do
      workers[i] = Worker.start { pg = pg, args = { "--executors", "1", "--poll-interval", "1h" },
        script = [[require "pgq".register_queue("q", function() end)]] }
      workers[i]:read_until "worker is serving"
    end
    bell.wait_asleep(pg, 3)
    workers[1]:kill "sigstop"
    finally(function() workers[1]:kill "sigcont" end)
    for _ = 1, 10 do
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '')"
      wait.till("the job to be done", SOON, function() return pg:psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    end
  end)
end)

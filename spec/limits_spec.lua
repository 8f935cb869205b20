-- Time limits that no option changes, of six seconds to a minute. All are tested at once, each in its own worker, so
-- that this takes a minute and next to no CPU time.

local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local uv = require "luv"
local wait = require "spec.support.wait"

describe("a time limit that no option changes:", function()
  local pg = setmetatable({}, Postgres)
  local enqueue = fixture.enqueuer(pg)
  local start = fixture.workers(pg)
  local idle, full, stuck, finalizing, idle_since

  -- Connections of the handlers of "idle"; their last statement differs from those of the workers' own connections.
  local function idle_connections()
    return tonumber(pg:psql "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%pg_sleep(2)'")
  end

  setup(function()
    Postgres.start({ migrated = true }, pg)
    enqueue("idle", "", 3)
    enqueue("sleeper", "", 2)
    enqueue "stuck"
    enqueue "finalizing"
    idle_since = uv.hrtime() -- at the earliest
    idle = start [[
      local begun = 0
      pgq.register_queue("idle", function()
        begun = begun + 1
        wait_for(function() return begun % 3 == 0 end)
        assert(pgq.query "SELECT pg_sleep(2)")
        print "done"
      end)]]
    full = start([[
      local rung
      pgq.register_queue("sleeper", function()
        return pgq.transaction(function()
          print "sleeps"
          while not rung do pgq.sleep(0.05) end
          print "wakes"
          return true
        end)
      end)
      pgq.register_queue("ring", function() rung = true end)
      pgq.register_queue("full", function()
        local rows, message, code = pgq.query "SELECT 1"
        print(rows and "fine" or code, message)
      end)]], "--pool", "2")
    stuck = start [[
      pgq.register_queue("stuck", function()
        local timer = uv.new_timer()
        timer:start(10, 0, function() while true do uv.sleep(100) end end)
        pgq.sleep(0.1)
      end)]]
    finalizing = start [[
      pgq.register_queue("finalizing", function()
        getmetatable(newproxy(true)).__gc = function() error "thrown by a finalizer" end
        pgq.sleep(6)
        print "alive"
      end)]]
    full:read_until "sleeps\nsleeps\n"
    enqueue "full"
    idle:read_until "done\ndone\ndone\n"
    assert.equal(3, idle_connections())
  end)

  teardown(function()
    Worker.kill_all()
    pg:stop()
  end)

  it("an executor that waits collects its garbage after 5 s, and outlives a finalizer that throws", function()
    finalizing:read_until "alive"
    finalizing:read_until("level=error.-thrown by a finalizer", 30, "stderr")
    assert.is_nil(finalizing.stderr:find("an executor died", 1, true))
    wait.till("the job to be completed", 30, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'finalizing'" == "0"
    end)
  end)

  it("a call that waits for a connection of the pool gives up after half a minute", function()
    full:read_until("53300\tall 2 connections of the pool are taken, and none was given back within 30 s\n", 60)
    enqueue "ring"
    for _ = 1, 2 do full:read_until "wakes\n" end
    local log = full:stop().stderr
    assert.equal(1, select(2, log:gsub("all 2 connections of the pool are taken", "")), log)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name IN ('full', 'ring', 'sleeper')")
  end)

  it("a callback of luv that does not return is ended after half a minute, and at first no job is charged for it", function()
    stuck:read_until("an executor died.-cause=\"was killed: a callback of luv did not return for 30 s\"", 90, "stderr")
    wait.till("the death to be counted", 30, function()
      return pg:psql "SELECT deaths FROM pgq_jobs WHERE queue_name = 'stuck'" == "1"
    end)
  end)

  it("connections of the pool that no handler has used for a minute are closed", function()
    wait.till("idle connections to be closed", 90, function()
      local left = idle_connections()
      return left == 0, left
    end)
    assert.is_true(uv.hrtime() - idle_since >= 60e9)
    enqueue("idle", "", 3)
    idle:read_until("done", 30)
  end)
end)

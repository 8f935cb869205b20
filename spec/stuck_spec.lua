-- What a worker says about handlers that run for long, about its start, and about a database that it cannot reach.
local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

describe("a worker", function()
  local pg = fixture.server {}
  local enqueue = fixture.enqueuer(pg)
  local start = fixture.workers(pg, { args = { "--executors", "2", "--poll-interval", "100ms" } })

  local function count(text, what)
    return select(2, text:gsub(what, ""))
  end

  local function status()
    local text = pg:psql "SELECT status FROM pgq_workers"
    return text ~= "" and cjson.decode(text) or {}
  end

  it("says that a handler is stuck, and that all executors are busy; again after a minute, and not when they end", function()
    local flag = os.tmpname()
    local worker = start(([[
      -- Blocks, as a handler that computes does, but leaves the processors to others.
      local function computes(seconds)
        return function()
          local began = now()
          while now() - began < seconds and not io.open(%q .. ".end") do uv.sleep(100) end
        end
      end
      pgq.register_queue("long", computes(300))
      pgq.register_queue("ok", function() end)]]):format(flag), "--timeout", "10m")
    enqueue("long", "", 2)
    worker:read_until("all executors are busy: no other job runs until a handler ends or waits\".- executors=2 jobs=\"%d %(long%), %d %(long%)\" for=1%d%.", 40)
    worker:read_until("a handler has been running for long without waiting\" queue=long job=%d+ pid=%d+ for=3%d%.", 60)
    local now = wait.till("the status to say so", 30, function()
      local now = status()
      return now.executors and now.executors[1].stuck and now.executors[2].stuck and now
    end)
    assert.matches("^20%d%d%-", now.all_busy_since)
    worker:read_until("a handler has been running for long without waiting\" queue=long job=%d+ pid=%d+ for=6%d%.", 90)
    wait.till("the second line about all", 60, function()
      return count(worker.stderr, "all executors are busy") == 2, worker.stderr
    end)
    io.open(flag .. ".end", "w"):close()
    wait.till("the status to be well again", 30, function()
      now = status()
      return now.all_busy_since == cjson.null and not now.executors[1].stuck and not now.executors[2].stuck
    end)
    assert.is_true(count(worker.stderr, "a handler has been running") <= 4, worker.stderr)
    worker:stop()
    os.remove(flag)
    os.remove(flag .. ".end")
  end)

  it("does not say so of handlers that wait", function()
    local worker = start [[pgq.register_queue("waits", function() for _ = 1, 200 do pgq.sleep(0.2) end end)]]
    enqueue("waits", "", 4)
    wait.sleep(32)
    assert.equal(cjson.null, status().all_busy_since)
    assert.is_nil(worker.stderr:find "busy")
    assert.is_nil(worker.stderr:find "running for long")
  end)

  it("names its database, user and options when it starts, but no password", function()
    local worker = start([[pgq.configure { pool = 3 } pgq.register_queue("q", function() end)]],
      "--db", pg.conninfo .. " password=topsecret", "--lease", "2m", "--max-jobs", "7000", "--discard-failed")
    worker:read_until("worker is serving.-\n", 20)
    local line = worker.stderr:match "[^\n]*worker is serving[^\n]*"
    local host = pg.conninfo:match "host=(%S+)"
    assert.matches(" executors=2 concurrency=10 pool=3 host=" .. host:gsub("%p", "%%%0")
      .. " port=%d+ database=postgres user=postgres options=\"([^\"]*)\"$", line)
    assert.equal("executors=2 pool=3 poll-interval=100ms discard-failed=true lease=2m0s max-jobs=7000",
      line:match "options=\"([^\"]*)\"")
    assert.is_nil(worker.stderr:find "topsecret")
  end)

  it("repeats each minute that it cannot connect, and how often", function()
    local worker = start([[pgq.register_queue("q", function() end)]], "--db", "host=127.0.0.1 port=1 user=postgres")
    worker:read_until("cannot connect", 20)
    wait.sleep(30)
    assert.equal(1, count(worker.stderr, "cannot connect"))
    worker:read_until("cannot connect[^\n]* times=%d+\n", 90)
  end)
end)

-- Handlers that share connections, one of which raises an error in the middle of a call, or never continues the call.
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local uv = require "luv"
local wait = require "spec.support.wait"

local HEAD = [[
  local pgq = require "pgq"
  local function say(...) print(table.concat({ ... }, " ")) end
  local function fail() error("no more", 0) end
  local conn, connects
  local function own()
    while connects do pgq.sleep(0.01) end
    if not conn then
      connects = true
      conn = assert(pgq.connect())
      connects = false
    end
    return conn
  end
]]

describe("a connection that handlers share", function()
  local pg = fixture.server { sql = "CREATE TABLE done (what text)", clean = "TRUNCATE done" }

  -- Runs a job of each of these data, in this order, through a handler with this body. Returns what was printed, line
  -- by line, sorted.
  local function run(body, list, ...)
    for _, data in ipairs(list) do
      pg:psql(("INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', '%s', '{1h}')"):format(data))
    end
    local result = Worker.run { pg = pg, timeout = 60, args = { "--drain", "--executors", "1", ... },
      script = HEAD .. 'pgq.register_queue("q", function(data, job)\n' .. body .. '\nend) pgq.register_queue("none", print)' }
    assert.equal(0, result.status, result.stderr)
    local lines = {}
    for line in result.stdout:gmatch "[^\n]+" do
      lines[#lines + 1] = line
    end
    table.sort(lines)
    return table.concat(lines, "\n"), result
  end

  it("of the pool is left alone at the end of a handler whose generator threw on it", function()
    local said = run([[
      if data == "thrower" then
        say(data, tostring(select(2, pcall(pgq.enqueue_many, "none", fail))))
        pgq.sleep(1)
        say(data, "ends")
      else
        pgq.sleep(0.3)
        assert(pgq.transaction(function(tx)
          assert(tx:query "INSERT INTO done VALUES ('innocent')")
          assert(tx:query "SELECT pg_sleep(2)")
        end))
        say(data, "ends")
      end]], { "thrower", "innocent" })
    assert.equal("innocent ends\nthrower ends\nthrower no more", said)
    assert.equal("innocent|0", pg:psql "SELECT what, (SELECT count(*) FROM pgq_jobs) FROM done")
  end)

  it("of the pool is left alone at the end of a handler whose generator was interrupted", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('late', '', '{}')"
    local said = run([[
      pgq.sleep(1.3)
      assert(pgq.transaction(function(tx) assert(tx:query "SELECT pg_sleep(2)") end))
      say(data, "ends")
    end)
    pgq.register_queue("late", function()
      say("late", tostring(select(2, pcall(pgq.enqueue_many, "none", function() pgq.sleep(60) end))))
      pgq.sleep(1)
      say "late ends"
    end, { timeout = "1s" })
    pgq.register_queue("unused", function()]], { "innocent" })
    assert.equal("innocent ends\nlate ends\nlate pgq.timeout: the time limit of the handler was reached", said)
  end)

  it("of the pool is not waited for by a handler that has all of them itself", function()
    local said = run([[
      local began = require "luv".hrtime()
      local rows, message, code = pgq.query "SELECT 1"
      say(rows and "rows" or code .. " " .. message)
      assert(require "luv".hrtime() - began < 20e9)
    end, { transactional = true })
    pgq.register_queue("unused", function()]], { "" }, "--pool", "1")
    assert.equal("53300 all 1 connections of the pool are taken by this handler itself; --pool sets their number", said)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    said = run([[
      pgq.transaction(function()
        say(data, pgq.query "SELECT 1" and "rows")
        pgq.transaction(function() say(data, select(3, pgq.query "SELECT 1")) end)
      end)]], { "nested" }, "--pool", "2")
    assert.equal("nested 53300\nnested rows", said)
  end)

  it("of the pool ends its statement in the server when the executor is killed", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', 'SET work_mem = 64', '{1h}'), ('q', 'SELECT 1', '{1h}')"
    local worker = Worker.start { pg = pg, args = { "--executors", "1", "--pool", "2" }, script = HEAD .. [[
      pgq.register_queue("q", function(data)
        assert(pgq.query(data)) -- the first one has its session reset
        assert(pgq.query "SELECT pg_sleep(600)")
      end)]] }
    finally(function() worker:kill "sigkill" end)
    local function running()
      return tonumber(pg:psql "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'")
    end
    wait.till("both statements to run", 30, function() return running() == 2 end)
    pg:psql "UPDATE pgq_jobs SET ran_at = now()" -- so that no other executor runs them again
    uv.kill(worker:executors()[1], "sigkill")
    wait.till("both statements to end", 30, function() return running() == 0 end)
  end)

  it("of pgq.connect is not closed at the end of a handler whose generator threw on it", function()
    local said = run([[
      if data == "thrower" then
        say(data, tostring(select(2, pcall(own().enqueue_many, own(), "none", fail))))
      else
        pgq.sleep(1)
        say(data, assert(own():query "SELECT 'rows' AS x")[1].x)
      end]], { "thrower", "innocent" })
    assert.equal("innocent rows\nthrower no more", said)
  end)

  for what, body in pairs {
    ["yields in a transaction"] = "own():transaction(function(tx) tx:query 'SELECT 1' coroutine.yield() end)",
    ["drops a coroutine in a transaction"] =
      "coroutine.wrap(function() own():transaction(function(tx) tx:query 'SELECT 1' coroutine.yield() end) end)()",
  } do
    it("of pgq.connect is closed when a handler " .. what .. ", and others are told", function()
      local said = run(([[
        own()
        if data == "culprit" then
          pgq.sleep(0.5) -- otherwise the next job would get the same task number
          %s
        else
          pgq.sleep(data == "second" and 1.2 or 1)
          local rows, message, code = own():query "SELECT 1"
          say(data, rows and "rows" or code, message or "")
          conn = nil
          say(data, own():query("SELECT 2") and "again" or "never")
        end]]):format(body), { "culprit", "first", "second" })
      assert.matches("first 08003 the connection is closed", said)
      assert.matches("first again", said)
      assert.matches("second again", said)
    end)
  end
end)

local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

-- Attacks on the worker, and faults of earlier versions.
describe("a worker survives", function()
  local pg = fixture.server()

  local function enqueue(queue, data, waits)
    return pg:psql(("SELECT pgq_enqueue('%s', '%s', now(), '%s')"):format(queue, data or "", waits or "{1h}"))
  end

  local function drain(script, ...)
    local result = Worker.run { pg = pg, script = script, args = { "--drain", "--executors", "1", ... }, timeout = 150 }
    assert.equal(0, result.status, result.stderr)
    return result
  end

  local FFI = [[
    local pgq = require "pgq"
    local ffi = require "ffi"
    ffi.cdef "int ftruncate(int fd, long length); long write(int fd, const char *bytes, size_t length); int close(int fd);"
    pgq.register_queue("fine", function(data) print("fine " .. data) end)
    pgq.register_queue("evil", function() %s end)]]

  it("a handler that shrinks the shared page", function()
    enqueue("evil")
    enqueue("fine", "after")
    assert.matches("fine after", drain(FFI:format "ffi.C.ftruncate(4, 0)").stdout)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("a handler that writes garbage to the supervisor, and that job alone fails", function()
    for _, garbage in ipairs { [["\1\0\0\0\200"]], [["\255\255\255\255\1"]], [["\9\0\0\0\7\0\0\0\0\0\0\0\0"]], [["\1\0\0\0\5"]],
      -- A report that the script could not be loaded: right in itself, but the executor has reported already.
      [["\6\0\0\0\6\1\0\0\0x"]] } do
      enqueue("evil", "", "{}")
      enqueue("fine", "after")
      local body = ("local bytes = %s ffi.C.write(3, bytes, #bytes) require 'luv'.sleep(20000)"):format(garbage)
      local result = drain(FFI:format(body))
      assert.matches("an executor sent a malformed frame: killing it", result.stderr)
      assert.matches("fine after", result.stdout)
      assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL AND error LIKE '%malformed frame%'")
      pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    end
  end)

  it("a script that reports to be broken, and then loads", function()
    local script = FFI:format "" .. [[ local bytes = "\6\0\0\0\6\1\0\0\0x" ffi.C.write(3, bytes, #bytes)]]
    local result = Worker.run { pg = pg, script = script, args = { "--drain", "--executors", "1" } }
    assert.equal(1, result.status)
    assert.matches("^pgq%-lua: x\n", result.stderr)
    assert.is_nil(result.stderr:find "internal error")
  end)

  it("a handler that writes a part of a frame and no more", function()
    enqueue("evil", "", "{}")
    enqueue("fine", "after")
    local result = drain(FFI:format [[local bytes = "\100\0\0\0\7abc" ffi.C.write(3, bytes, #bytes)]])
    assert.matches("fine after", result.stdout)
    assert.equal("evil|1|the executor was killed: it sent a part of a frame and no more; only this job was running in it|t",
      pg:psql "SELECT queue_name, attempt, error, ran_at IS NOT NULL FROM pgq_jobs")
  end)

  it("a handler that closes its descriptors", function()
    enqueue("evil", "", "{}")
    enqueue("fine", "after")
    -- The job ends as completed if the descriptors could be set back, and as failed otherwise.
    local worker = Worker.start { pg = pg, script = FFI:format "for fd = 0, 50 do ffi.C.close(fd) end",
      args = { "--executors", "1" } }
    wait.till("both jobs to have ended", 60, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL" == "0"
    end)
    assert.matches("fine after", worker.stdout)
    worker:stop()
  end)

  for _, closed in ipairs { "<&-", ">&-", "2>&-", "<&- >&- 2>&-" } do
    it("a start with closed standard descriptors: " .. closed, function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'fine', '' FROM generate_series(1, 20)"
      local result = process.run { "sh", "-c", '"$0" --db "$1" --drain examples/hello.lua ' .. closed, PGQ_LUA, pg.conninfo }
      assert.equal(0, result.status)
      result = Worker.run { pg = pg, script = FFI:format "", args = { "--drain" } }
      assert.equal(0, result.status)
      assert.is_nil(result.stderr:find "a worker died")
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end

  it("data of 200 MiB beside small jobs, which come whole and to the right handler #slow", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'a', decode(repeat('61', 209715200), 'hex')"
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'b', decode(repeat('62', 30000000 + n), 'hex') FROM generate_series(1, 3) n"
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'b', 'small' FROM generate_series(1, 50) n"
    local result = drain [[
      local pgq = require "pgq"
      local function check(letter)
        return function(data)
          if data ~= "small" and data ~= letter:rep(#data) then error "wrong data" end
          print(letter .. " " .. #data)
        end
      end
      pgq.register_queue("a", check "a")
      pgq.register_queue("b", check "b")]]
    assert.matches("a 209715200", result.stdout)
    assert.equal(53, select(2, result.stdout:gsub("b %d+\n", "")))
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("a row with the greatest possible number of attempts", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, attempt) VALUES ('evil', '', 2147483647), ('fine', '', 2147483647)"
    drain(FFI:format "error 'no'")
    assert.equal("evil|2147483647|{10m0s,30m0s}", pg:psql "SELECT queue_name, attempt, retry_waits FROM pgq_jobs")
  end)

  it("a queue that is paused while its session is lost", function()
    enqueue("down", "", "{0s,0s,0s,0s,0s,0s}")
    local worker = Worker.start { pg = pg, args = { "--executors", "1", "--poll-interval", "1h" }, script = [[
      local pgq = require "pgq"
      pgq.register_queue("down", function(data, job)
        print("attempt " .. job.attempt)
        if job.attempt < 6 then return pgq.backoff "down" end
      end)]] }
    worker:read_until "pause=1.600000"
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
    worker:read_until "attempt 6"
    worker:stop()
  end)

  it("a job that ends while its lost lock is being taken again, and writes its outcome", function()
    local worker = Worker.start { pg = pg, args = { "--executors", "1", "--poll-interval", "50ms" }, script = [[
      require "pgq".register_queue("short", function(data, job) require "luv".sleep(30) end)]] }
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'short', '' FROM generate_series(1, 60)"
    local pause = 0.4
    wait.till("all jobs to be done under fire", 120, function()
      pause = pause + 0.1
      wait.sleep(pause) -- time to come back in, under a sanitizer too
      pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
      return pg:psql "SELECT count(*) FROM pgq_jobs" == "0"
    end)
    worker:stop()
    -- A session that the server is slow to end keeps its locks meanwhile.
    assert.is_true(select(2, worker.stderr:gsub("outcome dropped", "")) <= 1, worker.stderr)
    assert.is_nil(worker.stderr:find "worker lost")
  end)

  it("a script that no longer loads, and says so when it is asked to reload it", function()
    local worker = Worker.start { pg = pg, args = { "--executors", "1", "--poll-interval", "100ms" }, script = [[
      require "pgq".register_queue("exit", function() os.exit(1) end)]] }
    worker:read_until "worker is serving"
    local good = io.open(worker.script_path):read "*a"
    local function write(text)
      local file = io.open(worker.script_path, "w")
      file:write(text)
      file:close()
    end
    write "this is no Lua"
    enqueue("exit")
    worker:read_until "an executor died"
    worker:kill "sighup"
    worker:read_until "could not be reloaded"
    write((good:gsub("os.exit%(1%)", "print 'mended'")))
    worker:kill "sighup"
    worker:read_until "the script was reloaded"
    enqueue("exit")
    worker:read_until "mended"
    worker:stop()
    assert.equal(1, select(2, worker.stderr:gsub("an executor died", ""))) -- the one that exited: not those that never were
  end)

  describe("a database in LATIN1:", function()
    setup(function()
      pg:psql "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    end)

    it("error texts keep the characters that it has, and the job is retried", function()
      local conninfo = pg.conninfo:gsub("dbname=postgres", "dbname=latin")
      process.check { PGQ_LUA, "--db", conninfo, "migrate" }
      process.check { PGQ_LUA, "--db", conninfo, "enqueue", "caf\195\169", "x" }
      local result = Worker.run { args = { "--db", conninfo, "--drain" }, script = [[
        require "pgq".register_queue("caf\195\169", function() return nil, "caf€ " .. ("ä"):rep(20000) end)]] }
      assert.equal(0, result.status, result.stderr)
      assert.equal("caf? ????|2|t\n", process.check { "psql", "-XAtqc",
        "SELECT left(error, 9), cardinality(retry_waits), ran_at IS NULL FROM pgq_jobs", "-d", conninfo })
    end)
  end)
end)

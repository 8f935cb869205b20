local uv = require "luv"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- The worker runs in a mount namespace, where the name of the server is in /etc/hosts at first, and is asked later of a
-- name server that never answers.
local WORKER = [[mount --bind "$1/hosts" /etc/hosts && mount --bind "$1/resolv.conf" /etc/resolv.conf && shift && exec "$@"]]

describe("a name server that does not answer", function()
  local pg = fixture.server { tcp = true }

  local function can_unshare()
    return uv.getuid() == 0 and process.run({ "unshare", "-m", "true" }).status == 0
  end

  local function write(path, text)
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
  end

  it("does not keep a worker from extending leases, nor from stopping, nor its handlers from their work", function()
    if not can_unshare() then
      return pending "needs root, for a mount namespace"
    end
    local server = uv.new_udp()
    assert(server:bind("127.0.0.9", 53))
    local dir = assert(uv.fs_mkdtemp("/tmp/pgq-names-XXXXXX"))
    local worker
    finally(function()
      if worker:is_running() then
        worker:kill "sigkill"
        worker:wait()
      end
      server:close()
      process.check { "rm", "-rf", dir }
    end)
    write(dir .. "/hosts", "127.0.0.1 localhost db.internal\n")
    write(dir .. "/resolv.conf", "nameserver 127.0.0.9\n")
    write(dir .. "/worker.lua", [[
      local pgq = require "pgq"
      pgq.register_queue("q", function()
        for i = 1, 90 do
          pgq.sleep(0.5)
          print("at work " .. i)
          if i == 6 then -- the handler's own look-up hangs as well
            local conn, problem = pgq.connect "host=db.internal connect_timeout=2"
            print("no connection", conn, problem)
          end
        end
      end)]])
    worker = process.start { "unshare", "-m", "sh", "-c", WORKER, "sh", dir, os.getenv "PGQ_LUA", "--executors", "1",
      "--lease", "4s", "--db", ("host=db.internal port=%d user=postgres dbname=postgres"):format(pg.port),
      dir .. "/worker.lua" }
    worker:read_until "worker is serving"
    pg:psql "SELECT pgq_enqueue('q', '')"
    worker:read_until "at work 2"
    write(dir .. "/hosts", "127.0.0.1 localhost\n")
    pg:psql [[SELECT pg_terminate_backend(pid) FROM pg_stat_activity a WHERE application_name = 'pgq-lua'
      AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND locktype = 'advisory')]]
    worker:read_until("no connection[^\n]*no answer within 2 s", 15)
    wait.sleep(3)
    assert.equal("t", pg:psql "SELECT run_after > now() FROM pgq_jobs")
    worker:kill "sigterm"
    wait.sleep(0.2)
    worker:kill "sigterm"
    local began = uv.hrtime()
    worker:wait(10)
    assert.is_true(uv.hrtime() - began < 5e9)
  end)
end)

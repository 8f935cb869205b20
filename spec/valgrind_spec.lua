local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- A worker's supervisor under valgrind; its executors run outside of it. Not with the sanitizers, which look for the
-- same things, and which valgrind cannot run.
if not os.getenv "PGQ_ASAN_LIBRARY" then
  describe("the supervisor under valgrind", function()
    local JOBS = 10000

    -- Five hundred fail for good and five hundred once; ten ask for backoff, five outlive their hold, two kill their
    -- executor.
    local SCRIPT = [[
      local pgq = require "pgq"
      local uv = require "luv"
      pgq.register_queue("q", function(data, job)
        local n = tonumber(data)
        if n % 20 == 7 then error(("failed "):rep(100)) end
        if n % 20 == 8 and job.attempt == 1 then error "once" end
        if n % 1000 == 9 and job.attempt == 1 then error(pgq.backoff "slowly") end
        if n % 2000 == 10 then uv.sleep(1500) end
        if n % 5000 == 11 and job.attempt == 1 then uv.kill(uv.os_getpid(), "sigkill") uv.sleep(1000) end
      end)]]

    local function start(pg, path)
      return process.start {
        "valgrind", "--leak-check=full", "--error-exitcode=9", "--child-silent-after-fork=yes", "--trace-children=no",
        os.getenv "PGQ_LUA", "--db", pg.conninfo, "--executors", "2", "--hold-limit", "100ms", "--lease", "4s",
        "--poll-interval", "100ms", path,
      }
    end

    it("reads and frees nothing wrongly, and loses no memory, over ten thousand jobs", function()
      local pg = Postgres.start { migrated = true }
      local path = os.tmpname()
      finally(function() pg:stop() os.remove(path) end)
      pg:psql(("INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'q', n::text::bytea, '{0s}' FROM generate_series(1, %d) n"):format(JOBS))
      -- Data that is too large for the claim's answer is fetched by another statement.
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', (repeat(' ', 100000) || n)::bytea FROM generate_series(1, 3) n"
      local file = assert(io.open(path, "w"))
      file:write(SCRIPT)
      file:close()
      local worker = start(pg, path)
      wait.till("all jobs to have run", 200, function()
        local left = pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL"
        return left == "0" or not worker:is_running(), left
      end)
      worker:kill "sigterm"
      local result = worker:wait(60)
      local told = {} -- valgrind's own lines
      for line in result.stderr:gmatch "==%d+==([^\n]*)" do
        told[#told + 1] = line
      end
      told = table.concat(told, "\n")
      assert.equal(0, result.status, told .. "\n" .. result.stderr:sub(-2000))
      assert.matches("ERROR SUMMARY: 0 errors", told)
      assert.is_true(told:find "no leaks are possible" ~= nil or told:find "definitely lost: 0 bytes" ~= nil, told)
      -- Everything happened as planned.
      assert.equal("500", pg:psql "SELECT count(*) FROM pgq_jobs")
      assert.equal("500", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL AND attempt = 2 AND error LIKE '%failed failed%'")
      for _, what in ipairs { "an executor died", "queue backs off", "msg=.job failed" } do
        assert.matches(what, result.stderr)
      end
    end)
  end)
end

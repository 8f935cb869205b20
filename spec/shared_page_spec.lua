local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

-- A wild pointer of a C module may write to the memory that an executor shares with the worker. What is there then is
-- not believed: a job that kills executors pays for it, and no other job does.
describe("when a handler has written over the shared page", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local start, drain = fixture.workers(pg, { head = [[
    local pgq, ffi = require "pgq", require "ffi"
    ffi.cdef "int kill(int, int); int getpid(void);"
    local function page()
      for line in io.lines "/proc/self/maps" do
        local address = line:match "^(%x+)-.*memfd:pgq%-lua executor"
        if address then return ffi.cast("char *", ffi.cast("uintptr_t", tonumber(address, 16))) end
      end
      error "there is no page"
    end
    local function die() ffi.C.kill(ffi.C.getpid(), 11) end
  ]] })
  local SIZE = 128

  local function count(text, pattern)
    return select(2, text:gsub(pattern, ""))
  end

  -- Runs a job with that body, and 20 others whose handlers wait beside it. Expects that it alone fails.
  local function run(body, deaths)
    enqueue("wild", "", 1)
    enqueue("other", "", 20)
    local worker = start(([[
      pgq.register_queue("other", function() pgq.sleep(0.1) end)
      pgq.register_queue("wild", function(data, job)
        local p = page()
        local words, numbers = ffi.cast("int64_t *", p), ffi.cast("uint32_t *", p)
        %s
      end)]]):format(body), "--concurrency", "30", "--poll-interval", "200ms")
    wait.till("the job to be blamed alone", 120, function()
      local left = pg:psql "SELECT queue_name, attempt, ran_at IS NULL FROM pgq_jobs"
      return left == "wild|1|t", left .. worker.stderr
    end)
    worker:stop()
    assert.is_true(count(worker.stderr, "an executor died") <= (deaths or 6), worker.stderr)
  end

  for _, value in ipairs { "-1", "0", "0x7fffffffffffffffLL", "0x8000000000000000LL", "1", "0x0101010101010101LL" } do
    it("with this value everywhere, and its executor dies: " .. value, function()
      run(("for i = 0, %d / 8 - 1 do words[i] = %s end die()"):format(SIZE, value))
    end)
  end

  it("with another job's id, or any other number, in one place", function()
    for word = 0, 5 do
      run(("words[%d] = 0x1234567812345678LL die()"):format(word))
      pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
    end
  end)

  it("and goes on to compute, it is killed by the worker", function()
    run(("ffi.fill(p, %d, 255) while true do end"):format(SIZE))
  end)

  it("only where it says which jobs have begun, and goes on to compute, it is killed by the worker", function()
    run "words[7] = -1 words[9] = -1 while true do end" -- the places of the two holds
  end)

  it("and its job has ended, the executor is replaced", function()
    enqueue("wild")
    enqueue("other", "", 2000)
    local result = drain(([[
      pgq.register_queue("other", function() end)
      pgq.register_queue("wild", function() ffi.fill(page(), %d, 255) end)]]):format(SIZE))
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
  end)

  it("beyond its ends, the handler crashes at once", function()
    enqueue "wild"
    drain [[pgq.register_queue("wild", function() local p = page() p[4096] = 1 end)]]
    -- AddressSanitizer turns the signal into an exit.
    assert.matches(os.getenv "PGQ_ASAN_LIBRARY" and "exited with status 1 while it ran" or "was killed by SIGSEGV while it ran",
      pg:psql "SELECT error FROM pgq_jobs")
  end)

  it("the descriptor that it came on is closed", function()
    enqueue "wild"
    local result = drain [[pgq.register_queue("wild", function()
      for line in io.popen("ls -l /proc/" .. ffi.C.getpid() .. "/fd"):lines() do assert(not line:find "memfd") end
      print "no descriptor"
    end)]]
    assert.matches("no descriptor", result.stdout)
  end)
end)

describe("a job whose id is a number that could stand for none", function()
  local pg = fixture.server()
  local start, drain = fixture.workers(pg)

  for _, id in ipairs { "0", "-1", "9223372036854775807" } do
    it("is killed at its time limit, and blamed for a death: " .. id, function()
      pg:psql(([[INSERT INTO pgq_jobs (id, queue_name, data, retry_waits)
        OVERRIDING SYSTEM VALUE VALUES (%s, 'spins', '', '{1h}')]]):format(id))
      local worker = start([[pgq.register_queue("spins", function() while true do end end)]], "--timeout", "300ms")
      worker:read_until "was killed at the time limit"
      worker:stop()
      pg:psql(([[INSERT INTO pgq_jobs (id, queue_name, data, retry_waits)
        OVERRIDING SYSTEM VALUE VALUES (%s, 'dies', '', '{1h}')
        ON CONFLICT (id) DO UPDATE SET queue_name = 'dies', run_after = now()]]):format(id))
      local result = drain [[pgq.register_queue("dies", function(data, job) os.exit(tonumber(job.attempt)) end)]]
      assert.matches("job=" .. id:gsub("%-", "%%-"), result.stderr)
    end)
  end
end)

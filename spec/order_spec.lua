local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local stall = require "spec.support.stall"
local wait = require "spec.support.wait"

-- Two holds bring jobs to one executor in turn. The jobs must run in order all the same.
describe("with one executor", function()
  local pg = fixture.server()

  -- Drains the queue q with that body of a handler; returns what it printed.
  local function drain(body, ...)
    local result = Worker.run { pg = pg, args = { "--drain", "--executors", "1", ... }, timeout = 150, script = [[
      local uv = require "luv"
      require "pgq".register_queue("q", function(data, job) ]] .. body .. " end)" }
    assert.equal(0, result.status, result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL")
    return result.stdout
  end

  local function fill(count, data)
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', (%s)::bytea FROM generate_series(1, %d) n"):format(
      data or "''", count))
  end

  -- The first break in the lines "ran N" of jobs `first` to `last`, which are to be in this order, each once; nil:
  -- none.
  local function find_break(first, last, stdout)
    local want, step = first, first < last and 1 or -1
    for id in stdout:gmatch "ran (%d+)\n" do
      if tonumber(id) ~= want then
        return ("%s instead of %d"):format(id, want)
      end
      want = want + step
    end
    return want ~= last + step and ("%d is missing"):format(want) or nil
  end

  -- A machine that stands still lets a second, or a hold limit, pass between two steps, and others go first: a drain in
  -- which it did for a good part of that time may be done again.
  local STALL, STALL_OF_SHORT_HOLDS, TRIES = 0.25, 0.05, 3

  -- Calls make(), which fills the empty queue, drains it with that body of a handler, and expects the jobs in this
  -- order.
  local function expect_order(first, last, make, body, ...)
    local options = { ... }
    local most = options[1] == "--hold-limit" and STALL_OF_SHORT_HOLDS or STALL
    for try = 1, TRIES do
      pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
      make()
      local stdout
      local stood = stall.longest(function() stdout = drain(body, unpack(options)) end)
      local found = find_break(first, last, stdout)
      if not found then
        return
      end
      assert.is_true(stood >= most and try < TRIES, ("%s; the machine stood still for %.3f s at most"):format(found, stood))
    end
  end

  local function expect_in_order(count, ...)
    expect_order(1, count, function() fill(count) end, ...)
  end

  local RAN = " print('ran ' .. job.id) "

  it("quick jobs run in the order of their ids", function()
    -- One print for each job would be most of the work.
    expect_in_order(40000, [[
      lines = (lines or "") .. "ran " .. job.id .. "\n"
      if job.id % 100 == 0 then
        io.write(lines)
        io.flush()
        lines = ""
      end]])
  end)

  it("jobs of very different lengths run in order", function()
    expect_in_order(1500, "if job.id % 97 == 0 then uv.sleep(job.id % 50) end" .. RAN)
  end)

  it("jobs behind a job that outlives its hold run in order", function()
    expect_in_order(6000, "if job.id % 700 == 0 then uv.sleep(110 + job.id / 20) end" .. RAN, "--hold-limit", "100ms")
  end)

  it("jobs run in order while their executor is replaced", function()
    expect_in_order(3000, RAN, "--max-jobs", "700")
  end)

  it("jobs run in the order of their due times, also if that is not the order of their ids", function()
    expect_order(5000, 1, function()
      pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after)
        SELECT 'q', '', now() - n * interval '1 ms' FROM generate_series(1, 5000) n]]
    end, RAN)
  end)

  -- The beginning of a long frame swallows the outcomes of the jobs behind it, so the culprit is not known. It takes
  -- five seconds until the supervisor kills the executor.
  it("a job that kills it without a trace is found, alone, and costs no other job an attempt", function()
    fill(400, "CASE n WHEN 300 THEN 'evil' ELSE '' END")
    pg:psql "UPDATE pgq_jobs SET retry_waits = '{}'"
    local worker = Worker.start { pg = pg, args = { "--executors", "1" }, script = [[
      require "pgq".register_queue("q", function(data, job)
        if data == "evil" then
          local ffi = require "ffi"
          pcall(ffi.cdef, "long write(int fd, const char *bytes, size_t length);")
          ffi.C.write(3, "\255\255\0\0\7abc", 8)
        end]] .. RAN .. " end)" }
    wait.till("all jobs to have ended", 150, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL" == "0"
    end)
    worker:stop()
    local stdout = worker.stdout
    assert.equal("300|1|t", pg:psql "SELECT id, attempt, error LIKE '%only this job was running in it' FROM pgq_jobs")
    for id = 1, 400 do
      assert.is_true(id == 300 or stdout:find("ran " .. id .. "\n") ~= nil, "job " .. id .. " did not run")
    end
  end)

  it("jobs that must run alone run between other jobs, and none is forgotten", function()
    fill(2000)
    pg:psql "UPDATE pgq_jobs SET deaths = 2 + id % 100 WHERE id % 100 < 3"
    local ran, count = {}, 0
    for id in drain(RAN):gmatch "ran (%d+)\n" do
      assert.is_nil(ran[id], "job " .. id .. " ran twice")
      ran[id] = true
      count = count + 1
    end
    assert.equal(2000, count)
  end)
end)

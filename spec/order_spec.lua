local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"

-- Two holds take turns to bring jobs to one executor; nobody is to notice.
describe("with one executor", function()
  local pg

  setup(function()
    pg = Postgres.start()
    pg:migrate()
  end)

  teardown(function() pg:stop() end)

  before_each(function() pg:psql "TRUNCATE pgq_jobs, pgq_workers RESTART IDENTITY" end)

  -- Drains the queue q with that body of a handler; returns what it printed.
  local function drain(body, ...)
    local result = Worker.run { pg = pg, args = { "--drain", "--executors", "1", ... }, timeout = 150, script = [[
      local uv = require "luv"
      require "pgq".register_queue("q", function(data, job) ]] .. body .. " end)" }
    assert.equal(0, result.status, result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL")
    return result.stdout
  end

  -- Expects the lines "ran N" of jobs 1 to count, in this order, each once.
  local function expect_in_order(count, stdout)
    local want, breaks, first = 1, 0, nil
    for id in stdout:gmatch "ran (%d+)\n" do
      if tonumber(id) ~= want then
        breaks = breaks + 1
        first = first or ("%s instead of %d"):format(id, want)
      end
      want = tonumber(id) + 1
    end
    assert.equal(0, breaks, first)
    assert.equal(count + 1, want)
  end

  local function fill(count, data)
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', (%s)::bytea FROM generate_series(1, %d) n"):format(
      data or "''", count))
  end

  local RAN = " print('ran ' .. job.id) "

  it("quick jobs run in the order of their ids", function()
    fill(40000)
    -- To print each by itself would be most of the work.
    expect_in_order(40000, drain [[
      lines = (lines or "") .. "ran " .. job.id .. "\n"
      if job.id % 100 == 0 then
        io.write(lines)
        io.flush()
        lines = ""
      end]])
  end)

  it("jobs of very different lengths do, too", function()
    fill(1500)
    expect_in_order(1500, drain("if job.id % 97 == 0 then uv.sleep(job.id % 50) end" .. RAN))
  end)

  it("jobs do that follow one which outlives its hold", function()
    fill(6000)
    expect_in_order(6000, drain("if job.id % 700 == 0 then uv.sleep(110 + job.id / 20) end" .. RAN, "--hold-limit", "100ms"))
  end)

  it("jobs do whose executor is replaced", function()
    fill(3000)
    expect_in_order(3000, drain(RAN, "--max-jobs", "700"))
  end)

  it("jobs do of several due times, ids against them", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after)
      SELECT 'q', '', now() - n * interval '1 ms' FROM generate_series(1, 5000) n]]
    local want = 5000
    for id in drain(RAN):gmatch "ran (%d+)\n" do
      assert.equal(want, tonumber(id))
      want = want - 1
    end
    assert.equal(0, want)
  end)

  -- The beginning of a long frame swallows the outcomes of the jobs behind it: nobody knows whose it was. It takes
  -- five seconds until the supervisor has had enough of that.
  it("a job that kills it without a trace is found, alone, and costs no other job an attempt", function()
    fill(400, "CASE n WHEN 300 THEN 'evil' ELSE '' END")
    pg:psql "UPDATE pgq_jobs SET retry_waits = '{}'"
    local stdout = drain([[
      if data == "evil" then
        local ffi = require "ffi"
        pcall(ffi.cdef, "long write(int fd, const char *bytes, size_t length);")
        ffi.C.write(3, "\255\255\0\0\7abc", 8)
      end]] .. RAN)
    assert.equal("300|1|t", pg:psql "SELECT id, attempt, error LIKE '%with this job alone in it' FROM pgq_jobs")
    for id = 1, 400 do
      assert.is_true(id == 300 or stdout:find("ran " .. id .. "\n") ~= nil, "job " .. id .. " did not run")
    end
  end)

  it("suspects run between other jobs, and none is forgotten", function()
    fill(2000)
    pg:psql "UPDATE pgq_jobs SET suspect = true WHERE id % 100 < 3"
    local ran, count = {}, 0
    for id in drain(RAN):gmatch "ran (%d+)\n" do
      assert.is_nil(ran[id], "job " .. id .. " ran twice")
      ran[id] = true
      count = count + 1
    end
    assert.equal(2000, count)
  end)
end)

local uv = require "luv"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

-- Several workers share a busy queue: each claims in regions of its own.
describe("workers that share a busy queue", function()
  local pg = fixture.server()
  local workers = {}

  after_each(function()
    for _, worker in ipairs(workers) do
      if worker:kill "sigkill" then
        worker:wait()
      end
    end
    workers = {}
    pg:psql "DELETE FROM pgq_frontiers"
  end)

  local function start(count, script)
    for _ = 1, count do
      workers[#workers + 1] = Worker.start { pg = pg, args = { "--executors", "1" },
        script = script or [[require "pgq".register_queue("q", function() end)]] }
    end
    for _, worker in ipairs(workers) do
      worker:read_until "worker is serving"
    end
  end

  local function fill(count, due)
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data, run_after) SELECT 'q', '', %s FROM generate_series(1, %d) AS n"):format(
      due or "now()", count))
  end

  local function expect_done(seconds)
    wait.till("all jobs to be done", seconds or 60, function()
      local left = pg:psql "SELECT count(*) FROM pgq_jobs"
      return left == "0", left
    end)
  end

  it("take it in regions, and complete every job", function()
    start(3)
    fill(60000)
    expect_done()
    assert.equal("q", pg:psql "SELECT queue_name FROM pgq_frontiers")
    fill(60000) -- the frontier lies behind the jobs before, and before these
    expect_done()
  end)

  it("complete jobs that differ in their due times", function()
    start(3)
    fill(40000, "now() - n * interval '1 ms'")
    expect_done()
    fill(20000, "now() - interval '1 day' - n * interval '10 ms'") -- before the frontier
    expect_done()
  end)

  -- Workers that have come to the end of the queue have floors there, and the ids of these jobs are below some of them.
  it("find jobs that are enqueued later for the same time", function()
    start(3)
    for _ = 1, 4 do
      fill(20000, "timestamptz '2020-01-01'")
      expect_done()
      fill(1, "timestamptz '2020-01-01'")
      expect_done()
    end
  end)

  it("run each job once, and read no index but that of claims", function()
    local folder = assert(uv.fs_mkdtemp "/tmp/pgq-fleet-XXXXXX")
    finally(function() process.check { "rm", "-r", folder } end)
    fill(1)
    pg:psql "ANALYZE pgq_jobs"
    start(3, ([[
      local file = io.open("%s/" .. require "luv".os_getpid(), "w")
      require "pgq".register_queue("q", function(data)
        file:write(data, "\n")
        file:flush()
      end)]]):format(folder))
    for i = 0, 2 do
      pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', n::text::bytea FROM generate_series(%d, %d) AS n"):format(
        i * 20000 + 1, (i + 1) * 20000))
      expect_done()
    end
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_frontiers")
    local ran, twice = 0, 0
    local seen = {}
    for line in process.check({ "sh", "-c", ("cat %s/*"):format(folder) }):gmatch "%d+" do
      ran, twice, seen[line] = ran + 1, twice + (seen[line] and 1 or 0), true
    end
    assert.same({ 60000, 0 }, { ran, twice })
    for _, worker in ipairs(workers) do -- sessions report what they have read at their end
      worker:stop()
    end
    wait.till("the sessions to end", 30, function()
      return pg:psql "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'" == "1"
    end)
    -- A batch that outlives the hold limit, since the machine stood still, is leased, by ids.
    local by_id = tonumber(pg:psql "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'pgq_jobs_pkey'")
    assert.is_true(by_id < ran / 10, by_id .. " reads by id")
  end)

  it("find the jobs that a killed worker has left in its region", function()
    start(3)
    fill(100000)
    wait.till("regions", 30, function() return pg:psql "SELECT count(*) FROM pgq_frontiers" == "1" end)
    workers[1]:kill "sigkill"
    expect_done(120)
  end)

  it("complete every job, wherever the frontier is", function()
    start(2)
    pg:psql "INSERT INTO pgq_frontiers VALUES ('q', 'infinity', 9223372036854775807)"
    fill(20000)
    expect_done()
    pg:psql "DELETE FROM pgq_frontiers; INSERT INTO pgq_frontiers VALUES ('q', '-infinity', -9223372036854775808)"
    fill(20000)
    expect_done()
  end)

  it("go on without the table of frontiers, and say so once", function()
    pg:psql "ALTER TABLE pgq_frontiers RENAME TO elsewhere"
    start(2)
    fill(30000)
    expect_done()
    pg:psql "ALTER TABLE elsewhere RENAME TO pgq_frontiers"
    local count = 0
    for _, worker in ipairs(workers) do
      local _, lines = worker:stop().stderr:gsub("cannot write to pgq_frontiers", "")
      assert.is_true(lines <= 1)
      count = count + lines
    end
    assert.is_true(count >= 1)
  end)
end)

describe("a worker that is alone", function()
  local pg = fixture.server()

  it("has no regions", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 20000)"
    local result = Worker.run { pg = pg, args = { "--drain" }, script = [[require "pgq".register_queue("q", function() end)]] }
    assert.equal(0, result.status, result.stderr)
    assert.equal("0|0", pg:psql "SELECT (SELECT count(*) FROM pgq_jobs), (SELECT count(*) FROM pgq_frontiers)")
  end)
end)

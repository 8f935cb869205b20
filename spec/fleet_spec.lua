local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
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

  local function start(count, ...)
    for _ = 1, count do
      workers[#workers + 1] = Worker.start { pg = pg, args = { "--executors", "1", ... }, script = [[
        require "pgq".register_queue("q", function() end)]] }
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

local fixture = require "spec.support.fixture"

-- A job whose data does not fit into --max-memory fails alone, with a message that names the option.
describe("data that does not fit into --max-memory", function()
  local pg = fixture.server()
  local start, drain = fixture.workers(pg)
  local RUNS = [[pgq.register_queue("q", function(data) print("ran " .. #data) end)]]
  local MB = 1024 * 1024

  if os.getenv "PGQ_ASAN_LIBRARY" then -- AddressSanitizer does not work with a limit
    pending "a memory limit under AddressSanitizer"
    return
  end

  local function enqueue(megabytes, count)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data, retry_waits)
      SELECT 'q', decode(repeat('61', %d), 'hex'), '{1h}' FROM generate_series(1, %d)]]):format(megabytes * MB, count or 1))
  end

  it("fails its own job, and the jobs behind it run", function()
    enqueue(90)
    enqueue(0, 20)
    local result = drain(RUNS, "--max-memory", "64M")
    assert.equal(20, select(2, result.stdout:gsub("ran 0\n", "")), result.stderr)
    assert.matches("^1|the data of the job, 90.0 MB, does not fit into the memory of its executor, which has 64 MB %(%-%-max%-memory%)",
      pg:psql "SELECT attempt, error FROM pgq_jobs WHERE ran_at IS NULL")
    assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
  end)

  it("because of one copy more, fails its own job too", function()
    for _, megabytes in ipairs { 30, 55 } do
      enqueue(megabytes)
      enqueue(0, 3)
    end
    local result = drain(RUNS, "--max-memory", "64M")
    assert.equal(6, select(2, result.stdout:gsub("ran 0\n", "")), result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE error NOT LIKE '%--max-memory%' AND error <> 'not enough memory'")
    assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
  end)

  it("is not that of many small jobs together: all of them run, and no executor dies", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data) SELECT 'q', '' FROM generate_series(1, 4000);
      INSERT INTO pgq_jobs (queue_name, data, retry_waits)
      SELECT 'q', decode(repeat('61', 15000), 'hex'), '{1h}' FROM generate_series(1, 1000)]]
    local result = drain([[
      local ballast = require "ffi".new("char[?]", 34e6, 1)
      pgq.register_queue("q", function(data)
        assert(ballast[0] == 1)
        if data ~= "" then print "ran" end
      end)]], "--max-memory", "64M")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
    assert.equal(1000, select(2, result.stdout:gsub("ran\n", "")))
    assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
  end)

  it("while others wait, goes back and runs later", function()
    enqueue(25, 6)
    local result = drain([[pgq.register_queue("q", function(data)
      pgq.sleep(0.3)
      print("ran " .. #data)
    end)]], "--max-memory", "100M")
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
    assert.equal(6, select(2, result.stdout:gsub("ran %d+\n", "")), result.stderr)
  end)

  it("is not a script that needs too much while it loads, whose error names the option", function()
    local worker = start([[local t = {} for i = 1, 100 do t[i] = ("x"):rep(10 * 1024 * 1024) .. i end ]] .. RUNS,
      "--max-memory", "64M")
    local result = worker:wait(30)
    assert.equal(1, result.status)
    assert.matches("not enough memory.*%(the executor has 64 MB: %-%-max%-memory%)", result.stderr)
  end)

  it("is not a huge error or a huge result: these fail their own jobs", function()
    for _, body in ipairs { [[error(("x"):rep(1e9))]], [[return nil, ("x"):rep(1e9)]], [[error(("x"):rep(4e7))]],
      [[return ("x"):rep(4e7)]], [[local t = {} while true do t[#t + 1] = ("x"):rep(1e6) .. #t end]] } do
      enqueue(0)
      local result = drain(([[pgq.register_queue("q", function() %s end)]]):format(body), "--max-memory", "128M")
      assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE attempt = 1 AND length(error) BETWEEN 10 AND 20000", result.stderr)
      pg:psql "TRUNCATE pgq_jobs"
    end
  end)
end)

-- A small run of spec/bench/run: it runs, checks its results, and prints figures that are possible.

local process = require "spec.support.process"

describe("the benchmarks", function()
  local function run(...)
    return process.run { "luajit", "spec/bench/main.lua", "--no-peers", "--scale", "0.002", "--rounds", "1", timeout = 250, ... }
  end

  -- The median in the row that begins with these words.
  local function value(text, words)
    local found = text:match("\n| " .. words:gsub("%p", "%%%0") .. " +| [^|]*| (%-?[%d.,]+)")
    assert.truthy(found, words .. " is not in\n" .. text)
    return tonumber((found:gsub(",", "")))
  end

  -- Whether a printed ratio is that of two printed figures; all of them are rounded.
  local function is_ratio(ratio, rate, other)
    return math.abs(ratio - rate / other) < 0.02 + 0.05 * ratio
  end

  -- The machine may have stood still during a measurement, so this spec does not judge the figures.
  it("print tables with figures, ratios and goals, and write the same page", function()
    local path = os.tmpname()
    local result = run("--only", "drain,bulk,growth,horizon,memory", "--results", path)
    local file = assert(io.open(path))
    local page = file:read "*a"
    file:close()
    os.remove(path)
    assert.equal(0, result.status, result.stderr)

    for _, text in ipairs { result.stdout, page } do
      local rate, limit = value(text, "pgq-lua"), value(text, "limit")
      assert.is_true(rate > 20 and rate < 1e6, text)
      local ratio = value(text, "pgq-lua to the limit")
      assert.is_true(is_ratio(ratio, rate, limit), text)
      assert.matches("| pgq%-lua to the limit +| × +| [%d.]+ +| +| ≥ 0.60 | %a+", text)
      assert.matches("| drain: pgq%-lua to the limit +| ≥ 0.60 × ", text)
      assert.is_true(value(text, "COPY") > 20, text)
      assert.is_true(is_ratio(value(text, "10 million to 10 thousand"), value(text, "10 million"), value(text, "10 thousand")), text)
      assert.is_true(is_ratio(value(text, "pinned to plain"), value(text, "pinned"), value(text, "plain")), text)
      local megabytes = value(text, "executor during the drain, resident")
      assert.is_true(megabytes > 1 and megabytes < 500, text)
      assert.matches("fsync = on, full_page_writes = on, synchronous_commit = on", text)
    end
    assert.matches("Written by `spec/bench/run %-%-no%-peers", page)
  end)

  it("measure latency and handlers", function()
    local path = os.tmpname()
    local result = run("--only", "latency,handlers", "--results", path)
    os.remove(path)
    assert.equal(0, result.status, result.stderr)
    local commit, over = value(result.stdout, "bare commit: p50"), value(result.stdout, "pgq-lua over a bare commit: p50")
    assert.is_true(commit > 0.01 and commit < 1000, result.stdout)
    assert.is_true(over < 2000, result.stdout)
    local part = value(result.stdout, "waits 50 ms, 16 executors: to perfect")
    local rate = value(result.stdout, "waits 50 ms, 16 executors")
    assert.is_true(rate > 0 and part <= 1 and math.abs(part - rate / 320) < 0.02, result.stdout)
  end)

  it("measure handlers that wait, and handlers that use the database", function()
    local path = os.tmpname()
    local result = run("--only", "waiting,queries", "--results", path)
    os.remove(path)
    assert.equal(0, result.status, result.stderr)
    local text = result.stdout
    local seconds, megabytes = value(text, "till the last is settled"), value(text, "memory of all processes")
    assert.is_true(seconds >= 1 and seconds < 60, text)
    assert.is_true(megabytes > 1 and megabytes < 500, text)
    local before, most = value(text, "worker up and idle: connections before"), value(text, "worker up and idle: most connections")
    assert.is_true(before >= 1 and before <= 5, text)
    assert.equal(most - before, value(text, "connections more than idle"))
    assert.matches("| waiting: connections more than idle +| ≤ 12.0 ", text)

    local rate, limit = value(text, "100 jobs, all at a time"), value(text, "pgbench -M prepared, 100 times")
    local ratio, clients = value(text, "100 jobs, all at a time: to pgbench -M prepared"), value(text, "pgbench -M prepared, 100 times: connections")
    assert.is_true(is_ratio(ratio, rate, limit), text)
    assert.is_true(clients >= 1 and clients <= 10, text)
    assert.equal(clients, math.max(1, value(text, "100 jobs, all at a time: connections"))) -- some may end before they are counted
    assert.is_true(value(text, "200 jobs, 20 at a time: CPU time of the executors") > 10, text)
    assert.matches("| queries: 200 jobs, 20 at a time: to pgbench %-M prepared +| ≥ 0.50 × ", text)
  end)

  -- Compares with the current commit, which every checkout has, also a checkout without history.
  it("compare with an earlier commit", function()
    local path = os.tmpname()
    local commit = process.check({ "git", "rev-parse", "HEAD" }):gsub("%s", "")
    local result = run("--only", "before", "--before", commit, "--results", path)
    os.remove(path)
    assert.equal(0, result.status, result.stderr)
    local text = result.stdout
    local rate, earlier = value(text, "now"), value(text, "before")
    assert.is_true(rate > 20 and earlier > 20, text)
    assert.is_true(is_ratio(value(text, "now to before"), rate, earlier), text)
    assert.matches("| now to before +| × +| [%d.]+ +| +| ≥ 0.97 | %a+", text)
    local cpu = value(text, "now: CPU time of the executors")
    assert.is_true(cpu > 0.05 and cpu < 100, text)
  end)

  it("say when the earlier commit is not there", function()
    local path = os.tmpname()
    local result = run("--only", "before", "--before", "0123456", "--results", path)
    os.remove(path)
    assert.equal(0, result.status, result.stderr)
    assert.matches("\nSkipped: [^\n]*commit", result.stdout)
  end)

  it("refuse options and scenarios that they do not know", function()
    for _, words in ipairs { { "--only", "drian" }, { "--rounds", "none" }, { "--sclae", "1" }, { "--before" } } do
      local result = run(unpack(words))
      assert.equal(2, result.status)
      assert.matches("see %-%-help", result.stderr)
    end
  end)
end)

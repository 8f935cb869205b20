-- spec/bench/run from end to end, small: that it runs, checks its runs, and prints figures that can be.

local process = require "spec.support.process"

describe("the benchmarks", function()
  local function run(...)
    return process.run { "luajit", "spec/bench/main.lua", "--no-peers", "--scale", "0.002", "--rounds", "1", timeout = 120, ... }
  end

  -- The median in the row that begins with these words.
  local function value(text, words)
    local found = text:match("\n| " .. words:gsub("%p", "%%%0") .. " +| [^|]+| ([%d.,]+)")
    assert.truthy(found, words .. " is not in\n" .. text)
    return tonumber((found:gsub(",", "")))
  end

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
      assert.is_true(rate > 500 and rate < 1e6, text)
      local ratio = value(text, "pgq-lua to the limit")
      assert.is_true(math.abs(ratio - rate / limit) < 0.02, text)
      assert.is_true(ratio < 2, text)
      assert.matches("| pgq%-lua to the limit +| × +| [%d.]+ +| +| ≥ 0.60 | %a+", text)
      assert.matches("| drain: pgq%-lua to the limit +| ≥ 0.60 × ", text)
      assert.is_true(value(text, "COPY") > 1000, text)
      assert.is_true(value(text, "10 million to 10 thousand") > 0.05, text)
      assert.is_true(value(text, "pinned to plain") > 0.05, text)
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
    assert.is_true(part > 0.02 and part <= 1, result.stdout)
  end)

  it("say what they do not know", function()
    for _, words in ipairs { { "--only", "drian" }, { "--rounds", "none" }, { "--sclae", "1" } } do
      local result = run(unpack(words))
      assert.equal(2, result.status)
      assert.matches("see %-%-help", result.stderr)
    end
  end)
end)

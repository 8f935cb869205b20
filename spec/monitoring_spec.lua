-- examples/monitoring: the alerts and the board, with a real Prometheus that scrapes a real worker.

local cjson = require "cjson"
local documents = require "spec.support.documents"
local fixture = require "spec.support.fixture"
local ports = require "spec.support.port"
local process = require "spec.support.process"
local scrape = require "spec.support.scrape"
local uv = require "luv"
local wait = require "spec.support.wait"

local FOLDER = uv.cwd() .. "/examples/monitoring/"

-- Names of series in a text of PromQL.
local function names_in(text, into)
  for name in text:gmatch "pgq_[%w_]+" do into[name] = true end
end

-- All values of the keys `expr` and `query` in the board.
local function expressions_of(value, into)
  for key, part in pairs(value) do
    if type(part) == "table" then
      expressions_of(part, into)
    elseif key == "expr" or key == "query" then
      into[#into + 1] = part
    end
  end
  return into
end

local function board() return cjson.decode(documents.read "examples/monitoring/dashboard.json") end

describe("the examples for monitoring", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local start = fixture.workers(pg, { args = { "--listen", "127.0.0.1:0", "--executors", "1", "--poll-interval", "200ms" } })

  it("have alerts that promtool accepts, and that fire when they should", function()
    assert.matches("14 rules found", process.check { "promtool", "check", "rules", FOLDER .. "alerts.yml" })
    process.check { "promtool", "check", "config", FOLDER .. "prometheus.yml" }
    process.check { "promtool", "test", "rules", FOLDER .. "alerts_test.yml", timeout = 120 }
    local alerts, tests = documents.read "examples/monitoring/alerts.yml", documents.read "examples/monitoring/alerts_test.yml"
    for name in alerts:gmatch "alert: (%S+)" do
      assert.is_truthy(tests:find("alertname: " .. name .. "\n", 1, true), name .. " has no test")
    end
  end)

  it("name only series that a worker has", function()
    local worker = start 'pgq.register_queue("q", function() end)'
    local address = scrape.address(worker)
    scrape.wait_for(address, 'pgq_queue_due_jobs{queue="q"}', function(value) return value == 0 end)
    local _, has = scrape.metrics(address)
    local named = {}
    names_in(documents.read "examples/monitoring/alerts.yml", named)
    for _, expression in ipairs(expressions_of(board(), {})) do names_in(expression, named) end
    local unknown, count = {}, 0
    for name in pairs(named) do
      count = count + 1
      if not has[name] then unknown[#unknown + 1] = name end
    end
    assert.same({}, unknown)
    assert.is_true(count > 20, count)
    worker:stop()
  end)

  it("have a board of panels that do not overlap", function()
    local seen, panels = {}, board().panels
    for _, panel in ipairs(panels) do
      local at = panel.gridPos
      assert.is_nil(seen[panel.id])
      seen[panel.id] = true
      assert.is_true(#panel.title > 0 and at.x + at.w <= 24)
      for _, other in ipairs(panels) do
        local o = other.gridPos
        assert.is_true(other == panel or at.x + at.w <= o.x or o.x + o.w <= at.x or at.y + at.h <= o.y or o.y + o.h <= at.y,
          panel.title .. " and " .. other.title)
      end
    end
  end)

  it("let a Prometheus scrape a worker", function()
    local worker = start [[pgq.register_queue("q \"odd\"", function() end)]]
    local address = scrape.address(worker)
    local dir = assert(uv.fs_mkdtemp "/tmp/pgq-prometheus-XXXXXX")
    local port = ports.free()
    local config = documents.read("examples/monitoring/prometheus.yml"):gsub("127%.0%.0%.1:9188", address)
      :gsub("interval: 15s", "interval: 1s")
    for name, text in pairs { ["prometheus.yml"] = config, ["alerts.yml"] = documents.read "examples/monitoring/alerts.yml" } do
      local file = assert(io.open(dir .. "/" .. name, "w"))
      file:write(text)
      file:close()
    end
    local prometheus = process.start { "prometheus", "--config.file=" .. dir .. "/prometheus.yml",
      "--storage.tsdb.path=" .. dir .. "/data", "--web.listen-address=127.0.0.1:" .. port }
    finally(function() prometheus:kill "sigkill" prometheus:wait() process.check { "rm", "-r", dir } end)

    -- The value of the only series that the expression gives; nil if there is none.
    local function ask(expression)
      local out = process.check { "curl", "-sS", "-G", "--data-urlencode", "query=" .. expression,
        ("http://127.0.0.1:%d/api/v1/query"):format(port) }
      local answer = cjson.decode(out)
      assert(answer.status == "success", out)
      local found = answer.data.result[1]
      return found and tonumber(found.value[2]), out
    end
    local function wait_for(expression, wanted)
      return wait.till(expression, 60, function()
        local value, out = ask(expression)
        return value == wanted, out
      end)
    end
    wait_for('up{job="pgq-lua"}', 1)
    enqueue('q "odd"', "", 7)
    wait_for([[sum(pgq_jobs_total{queue="q \"odd\"",outcome="completed"})]], 7)
    wait_for([[pgq_job_run_seconds_count{queue="q \"odd\""}]], 7)
    wait_for("count(histogram_quantile(0.5, pgq_job_run_seconds_bucket))", 1)
    wait_for("count(pgq_worker_info)", 1)
    wait_for("pgq_worker_ready", 1)

    local broken = {}
    for _, expression in ipairs(expressions_of(board().panels, {})) do
      local ok, problem = pcall(ask, (expression:gsub("%$__rate_interval", "1m"):gsub("%$queue", ".*")))
      if not ok then broken[#broken + 1] = problem end
    end
    assert.same({}, broken)
    local unit = cjson.decode(process.check { "curl", "-sS",
      ("http://127.0.0.1:%d/api/v1/targets/metadata?metric=pgq_job_run_seconds"):format(port) }).data[1]
    assert.same({ "histogram", "seconds" }, { unit.type, unit.unit }) -- so it was read as OpenMetrics
    worker:stop()
    wait_for('up{job="pgq-lua"}', 0)
  end)

  it("fit promtool check metrics, in the older form", function()
    local worker = start 'pgq.register_queue("q", function() end)'
    local body = scrape.get(scrape.address(worker), "/metrics", "-H", "Accept: text/plain").body
    local result = process.run { "promtool", "check", "metrics", input = body }
    assert.same({ "", "", 0 }, { result.stdout, result.stderr, result.status })
    worker:stop()
  end)
end)

-- pgq-lua stats: the numbers of each minute.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua stats", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_stats" }
  local start = fixture.workers(pg)

  local function run(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "stats", ... } end

  local function read(...)
    local result = run("--json", ...)
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
    local found = {}
    for line in result.stdout:gmatch "[^\n]+" do found[#found + 1] = cjson.decode(line) end
    return found
  end

  local ROWS = [[INSERT INTO pgq_stats (queue_name, minute, completed, retried, failed, snoozed, cancelled, wait_ms, run_ms, wait_buckets, run_buckets)
    SELECT queue, date_trunc('minute', now()) - n * interval '1 min', 100 * n, n, 2 * n, 3 * n, 4 * n, 50, 1000.5 * n,
      CASE queue WHEN 'a' THEN '{50}'::bigint[] ELSE '{0,0,0,0,50}' END, '{0,0,0,0,90,0,0,0,10}'
    FROM unnest('{a,b}'::text[]) AS queue, unnest('{0,1,2,90}'::int[]) AS n]]

  -- The minute must not end between these rows and what reads them.
  local function insert_rows()
    pg:psql "SELECT pg_sleep(61 - extract(second FROM clock_timestamp())) WHERE extract(second FROM clock_timestamp()) > 40"
    pg:psql(ROWS)
  end

  local function minute(n)
    return pg:psql(([[SELECT to_char((date_trunc('minute', now()) - %d * interval '1 min') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI')]]):format(n))
  end

  it("lists the minutes of the last hour of one queue, the last one at the end", function()
    insert_rows()
    local minutes = read "a"
    assert.equal(3, #minutes)
    local first = minutes[1]
    assert.equal(minute(2) .. ":00.000000Z", first.minute)
    assert.same({ "a", 200, 4, 2, 6 }, { first.queue, first.completed, first.failed, first.retried, first.snoozed })
    assert.equal(8, first.cancelled)
    assert.same({ 1, 1, 13, 192 }, { first.wait_p50_ms, first.wait_p95_ms, first.run_p50_ms, first.run_p95_ms })
    assert.same({ 50, 2001 }, { first.wait_sum_ms, first.run_sum_ms })
    assert.equal(minute(0) .. "Z\t0\t0\t0\t1ms\t1ms\t13ms\t192ms\n", run("a").stdout:match "([^\n]*\n)$")
  end)

  it("adds up all queues", function()
    insert_rows()
    local minutes = read()
    assert.equal(3, #minutes)
    assert.same({ cjson.null, 400, 8, 4, 12 }, { minutes[1].queue, minutes[1].completed, minutes[1].failed, minutes[1].retried, minutes[1].snoozed })
    assert.same({ 1, 16, 192 }, { minutes[1].wait_p50_ms, minutes[1].wait_p95_ms, minutes[1].run_p95_ms })
  end)

  it("selects by time, and keeps the last minutes of a limit", function()
    insert_rows()
    assert.equal(4, #read("--since", "1d"))
    assert.equal(1, #read("--since", "2h", "--before", "1h"))
    assert.equal(1, #read("--since", "1s"))
    local last = read("--limit", 1)
    assert.same({ 1, 0 }, { #last, last[1].completed })
  end)

  it("reads at most 100,000 rows, and says so", function()
    pg:psql [[INSERT INTO pgq_stats (queue_name, minute, completed)
      SELECT 'q' || q, date_trunc('minute', now()) - n * interval '1 min', 1 FROM generate_series(1, 5000) AS q, generate_series(0, 30) AS n]]
    local result = run()
    assert.equal("pgq-lua stats: only the last 19 minutes were read: they have 100000 rows\n", result.stderr)
    local _, lines = result.stdout:gsub("Z\t5000\t", "")
    assert.equal(19, lines)
    assert.equal("", run("--limit", 15).stderr)
    assert.equal("", run("q7").stderr)
  end)

  it("shows what a real worker has done", function()
    local worker = start 'pgq.register_queue("q", function(data) if data ~= "" then error(data) end end)'
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT 'q', '', '{}' FROM generate_series(1, 20);
      INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', 'x', '{}'), ('q', 'y', '{1h}')]]
    wait.till("the end of the jobs", 60, function()
      return pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL AND attempt = 0" == "0"
    end)
    worker:stop()
    local done = { completed = 0, failed = 0, retried = 0 }
    for _, row in ipairs(read "q") do
      for name in pairs(done) do done[name] = done[name] + row[name] end
      assert.is_true(row.run_p95_ms >= 0 and row.wait_p95_ms >= 0)
    end
    assert.same({ completed = 20, failed = 1, retried = 1 }, done)
  end)

  it("fits a terminal, and says when there is nothing", function()
    pg:psql [[INSERT INTO pgq_stats (queue_name, minute, completed, retried, failed, snoozed, wait_ms, run_ms, wait_buckets, run_buckets)
      VALUES ('a', date_trunc('minute', now()), 12345678, 1234567, 1234567, 1234567, 1, 1,
      array_fill(0::bigint, ARRAY[36]) || 5::bigint, array_fill(0::bigint, ARRAY[36]) || 5::bigint)]]
    local shown = terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "stats" })
    assert.matches("^MINUTE +DONE +FAILED +RETRIED +WAIT P50 +P95 +RUN P50 +P95\n%d%d%-%d%d %d+:%d+Z +12345678 ", shown)
    assert.is_true(terminal.width(shown) <= 80, shown)
    assert.equal("No job has ended in this time, as far as the workers have reported.\n",
      (terminal.run(80, { PGQ_LUA, "--db", pg.conninfo, "stats", "none" })))
    assert.equal("", run("none").stdout)
  end)

  it("refuses wrong usage", function()
    assert.matches("^pgq%-lua stats: there is more than one queue\n", run("a", "b").stderr)
    assert.equal(2, run("a", "b").status)
    assert.equal(2, run("--queue", "a").status)
    assert.equal(2, run("--since", "sometime").status)
    assert.matches("^pgq%-lua stats: %-%-since: 'sometime' is not a time: ", run("--since", "sometime").stderr)
  end)
end)

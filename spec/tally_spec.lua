-- pgq_stats: how many jobs ended, and how long they waited and ran, by queue and minute.
local fixture = require "spec.support.fixture"
local wait = require "spec.support.wait"

describe("the table of statistics", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_stats" }
  local enqueue = fixture.enqueuer(pg, "{0s}")
  local start, drain = fixture.workers(pg, { args = { "--executors", "2", "--poll-interval", "100ms" } })

  local SCRIPT = [[
    pgq.register_queue("ok", function() end)
    pgq.register_queue("fails", function() error("no luck", 0) end)
    pgq.register_queue("slow", function() pgq.sleep(0.3) end)
    local snoozed
    pgq.register_queue("snoozes", function() if not snoozed then snoozed = true error(pgq.snooze(0)) end end)
    pgq.register_queue("transactional", function(_, job) assert(job.tx:query "SELECT 1") end, { transactional = true })
  ]]

  -- Sums over the minutes of a queue.
  local function sums()
    return pg:psql [[SELECT queue_name, sum(completed), sum(retried), sum(failed), sum(snoozed)
      FROM pgq_stats GROUP BY queue_name ORDER BY queue_name]]
  end

  it("has each attempt once, when the worker has stopped", function()
    enqueue("ok", "", 3000)
    enqueue("fails", "", 20)
    enqueue("snoozes")
    enqueue("transactional", "", 7)
    drain(SCRIPT)
    assert.equal("fails|0|20|20|0\nok|3000|0|0|0\nsnoozes|1|0|0|1\ntransactional|7|0|0|0", sums())
    assert.equal("t", pg:psql [[SELECT bool_and(
        completed + retried + failed + snoozed = (SELECT sum(n) FROM unnest(wait_buckets) AS n)
        AND completed + retried + failed + snoozed = (SELECT sum(n) FROM unnest(run_buckets) AS n)
        AND cardinality(wait_buckets) BETWEEN 1 AND 32 AND wait_ms >= 0 AND run_ms > 0
        AND minute = date_trunc('minute', minute) AND minute > now() - interval '3 minutes') FROM pgq_stats]])
  end)

  it("has the times that jobs waited and ran in buckets of doubling length", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after)
      SELECT 'slow', '', now() - interval '100 seconds' FROM generate_series(1, 4)]]
    drain(SCRIPT)
    -- 300 ms and more: less than 2^9 or 2^10; 100 s and more: less than 2^17 ms, which is bucket 18.
    assert.equal("4|t|t|t", pg:psql [[SELECT sum(wait_buckets[18]), sum(wait_ms) BETWEEN 400000 AND 500000,
      sum(run_ms) BETWEEN 1200 AND 30000, sum(run_buckets[10]) + coalesce(sum(run_buckets[11]), 0) >= 1 FROM pgq_stats]])
  end)

  it("adds the shares of all workers, while they run", function()
    local workers = { start(SCRIPT), start(SCRIPT) }
    enqueue("ok", "", 500)
    wait.till("the first share", 40, function() return sums() == "ok|500|0|0|0", sums() end)
    enqueue("ok", "", 500)
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('ok', '', now() - interval '1 hour')]]
    wait.till("the second share", 40, function() return sums() == "ok|1001|0|0|0", sums() end)
    assert.equal("1001|1001", pg:psql [[SELECT sum((SELECT sum(n) FROM unnest(wait_buckets) AS n)),
      sum((SELECT sum(n) FROM unnest(run_buckets) AS n)) FROM pgq_stats]])
    for _, worker in ipairs(workers) do worker:stop() end
    assert.equal("ok|1001|0|0|0", sums())
  end)

  it("gets the numbers later when it cannot be written, and the worker goes on", function()
    pg:psql [[CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END';
      CREATE TRIGGER refuse BEFORE INSERT ON pgq_stats FOR EACH ROW EXECUTE FUNCTION refuse()]]
    enqueue("ok", "", 10)
    local worker = start(SCRIPT)
    worker:read_until("cannot write to pgq_stats", 40)
    pg:psql "DROP FUNCTION refuse CASCADE"
    enqueue("ok", "", 10)
    wait.till("all numbers", 40, function() return sums() == "ok|20|0|0|0", sums() end)
    worker:stop()
  end)
end)

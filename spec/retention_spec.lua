-- Old rows are deleted: jobs that have ended, attempts, statistics, notes of what operators did.
local fixture = require "spec.support.fixture"
local pgq = require "pgq"
local wait = require "spec.support.wait"

describe("retention", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_attempts, pgq_stats, pgq_audit" }
  local start = fixture.workers(pg, { args = { "--executors", "1", "--poll-interval", "100ms" } })
  local SCRIPT = [[pgq.register_queue("q", function() end)]]

  local undos = {}
  after_each(function()
    while undos[1] do pg:psql(table.remove(undos)) end
  end)

  -- Jobs that ended the given days ago, in each of the queues: completed, failed and cancelled ones.
  local function ended(days, count)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data, ran_at, error, cancelled, attempt)
      SELECT queue, '', now() - interval '%s days', CASE WHEN kind <> 'completed' THEN 'no luck' END, kind = 'cancelled', 1
      FROM unnest('{"a b",c,q,"ü"}'::text[]) AS queue, unnest('{completed,failed,cancelled}'::text[]) AS kind,
        generate_series(1, %d)]]):format(days, count or 1))
  end

  local function jobs()
    return pg:psql [[SELECT CASE WHEN cancelled THEN 'cancelled' WHEN error IS NULL THEN 'completed' ELSE 'failed' END AS kind,
        count(*), round(min(extract(epoch FROM now() - ran_at)) / 86400)
      FROM pgq_jobs WHERE ran_at IS NOT NULL GROUP BY 1 ORDER BY 1]]
  end

  it("deletes jobs of all queues that ended long ago, and no others", function()
    for _, days in ipairs { 1, 8, 100 } do ended(days, 3) end
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('later', '', now() - interval '1 year')"
    start(SCRIPT)
    -- 4 queues with 3 jobs each: completed ones of 1 day are left, failed and cancelled ones of 1 and 8 days.
    wait.till("old jobs to be deleted", 30, function() return jobs() == "cancelled|24|1\ncompleted|12|1\nfailed|24|1", jobs() end)
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL")
  end)

  it("keeps for ever what it is told to keep for ever", function()
    ended(1000)
    pg:psql [[INSERT INTO pgq_attempts (job_id, queue_name, attempt, outcome, ended_at) VALUES (1, 'q', 1, 'failed', '2001-01-01')]]
    pg:psql "INSERT INTO pgq_stats (queue_name, minute) VALUES ('q', '2001-01-01')"
    start(SCRIPT, "--keep-failed", "0", "--keep-attempts", "0", "--keep-completed", "0")
    wait.till("the statistics to be deleted", 30, function() return pg:psql "SELECT count(*) FROM pgq_stats" == "0" end)
    assert.equal("cancelled|4|1000\ncompleted|4|1000\nfailed|4|1000", jobs())
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_attempts")
  end)

  it("may be set for completed and failed jobs alone, in the script as well", function()
    ended(1)
    start([[pgq.configure { keep_failed = "12h", keep_completed = 0 }]] .. SCRIPT)
    wait.till("failed jobs to be deleted", 30, function() return jobs() == "completed|4|1", jobs() end)
  end)

  it("deletes old attempts, statistics and notes, step by step", function()
    pg:psql [[
      INSERT INTO pgq_attempts (job_id, queue_name, attempt, outcome, ended_at)
        SELECT n, 'q', 1, 'failed', now() - interval '8 days' FROM generate_series(1, 5000) AS n;
      INSERT INTO pgq_attempts (job_id, queue_name, attempt, outcome, ended_at)
        SELECT n, 'q', 1, 'failed', now() - interval '6 days' FROM generate_series(1, 10) AS n;
      INSERT INTO pgq_stats (queue_name, minute)
        SELECT 'q', date_trunc('minute', now()) - n * interval '1 day' FROM generate_series(1, 30) AS n;
      INSERT INTO pgq_audit (at, verb) VALUES (now() - interval '2 years', 'retry'), (now() - interval '11 months', 'retry')]]
    start(SCRIPT)
    local function left()
      return pg:psql "SELECT (SELECT count(*) FROM pgq_attempts), (SELECT count(*) FROM pgq_stats), (SELECT count(*) FROM pgq_audit)"
    end
    wait.till("old rows to be deleted", 30, function() return left() == "10|13|1" or left() == "10|14|1", left() end)
  end)

  it("is the task of the oldest worker, and of the next one when that stops", function()
    local first = start(SCRIPT, "--keep-failed", "0", "--keep-completed", "0")
    wait.till("the first worker to serve", 20, function() return pg:psql "SELECT status ->> 'stage' FROM pgq_workers" == "serving" end)
    start(SCRIPT)
    ended(1000)
    wait.till("two workers", 20, function() return pg:psql "SELECT count(*) FROM pgq_workers" == "2" end)
    wait.sleep(4) -- longer than the second worker waits before it looks
    assert.equal("cancelled|4|1000\ncompleted|4|1000\nfailed|4|1000", jobs())
    first:stop()
    wait.till("the other worker to delete", 90, function() return jobs() == "", jobs() end)
  end)

  it("waits for no lock, and takes its session only while it has something to do", function()
    ended(1000)
    local other = assert(pgq.connect(pg.conninfo))
    assert(other:query "BEGIN")
    assert(other:query("SELECT FROM pgq_jobs WHERE queue_name = 'c' AND error IS NULL FOR UPDATE"))
    start(SCRIPT)
    wait.till("the others to be deleted", 30, function() return jobs() == "completed|1|1000", jobs() end)
    other:close()
    wait.till("the session to end", 20, function()
      local count = pg:psql "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%gone AS%' AND pid <> pg_backend_pid()"
      return count == "0", count
    end)
  end)

  it("says which table it may not prune, and goes on with the others", function()
    pg:psql [[CREATE ROLE few LOGIN;
      GRANT SELECT, INSERT, UPDATE, DELETE ON pgq_jobs, pgq_workers, pgq_stats TO few;
      GRANT INSERT ON pgq_attempts TO few; GRANT SELECT ON pgq_queues TO few]]
    undos[1] = "DROP OWNED BY few; DROP ROLE few"
    ended(1000)
    local worker = start(SCRIPT, "--db", pg.conninfo .. " user=few")
    worker:read_until('cannot delete old rows: trying again later" table=pgq_attempts error="permission denied', 30)
    worker:read_until("table=pgq_audit", 30)
    wait.till("the jobs to be deleted", 30, function() return jobs() == "", jobs() end)
  end)
end)

-- The audit at the end of a chaos run: figures, and the broken rules, each with the history of its job.

local books = {}

-- With leases, jobs that have ended are settled about once a second; without, a batch is held until all have ended.
local REACH = { leases = "interval '3 s'", none = "interval '30 s'" }
local SLACK = "interval '2 s'"

-- The largest number of jobs that are shown for each broken rule.
local SHOWN = 3

-- The rules. Each query returns the jobs that break a rule, with a short text about each.
books.rules = {
  { name = "lost", title = "acknowledged, but lost", sql = [[
    SELECT job, CASE WHEN r.job IS NULL THEN 'it never ran' ELSE 'it is gone, and nobody ended it' END
    FROM chaos_acknowledged
    LEFT JOIN (SELECT DISTINCT job FROM chaos_runs) AS r USING (job)
    LEFT JOIN (SELECT job FROM chaos_events WHERE act = 'complete' UNION SELECT id FROM pgq_jobs) AS e USING (job)
    WHERE r.job IS NULL OR e.job IS NULL
    UNION ALL
    SELECT e.job, 'its attempt ' || e.attempt || ' was to fail, and it was completed with it'
    FROM chaos_events AS e JOIN chaos_plans USING (job)
    WHERE act = 'complete' AND (kind = 'doom' OR kind IN ('fail', 'exit', 'kill', 'slay') AND e.attempt <= number)
    UNION ALL
    SELECT e.job, 'it was completed before its handler can have ended'
    FROM chaos_events AS e JOIN chaos_plans USING (job)
    WHERE act = 'complete' AND kind IN ('sleep', 'spin') AND NOT EXISTS (
      SELECT FROM chaos_runs AS r WHERE r.job = e.job AND r.worker = e.who AND r.attempt = e.attempt
        AND r.started_at + number * interval '0.99 s' <= e.at)]] },

  { name = "left behind", title = "still to run at the end", sql = [[
    SELECT id, 'due ' || run_after || ', attempt ' || attempt || coalesce(', lease ' || lease, '')
    FROM pgq_jobs WHERE ran_at IS NULL]] },

  { name = "failed for good", title = "failed for good without having to", sql = [[
    SELECT id, 'attempt ' || attempt || ': ' || left(coalesce(error, 'no error'), 200)
    FROM pgq_jobs WHERE ran_at IS NOT NULL AND convert_from(data, 'UTF8') NOT LIKE 'doom%'
    UNION ALL
    SELECT job, 'attempt ' || e.attempt || ' failed, and its plan does not say so: ' || error
    FROM chaos_events AS e JOIN chaos_plans USING (job)
    WHERE act IN ('retry', 'fail') AND error NOT LIKE 'the executor %' AND NOT (kind = 'doom' OR kind = 'fail'
      AND e.attempt <= number)]] },

  { name = "strangers", title = "ended by a worker that did not have it", sql = [[
    SELECT e.job, e.who || ' wrote ' || act || ' of attempt ' || e.attempt || ' and has no run of it'
    FROM chaos_events AS e
    WHERE act IN ('complete', 'retry', 'fail') AND coalesce(error, '') NOT LIKE 'the executor %' AND NOT EXISTS (
      SELECT FROM chaos_runs AS r WHERE r.job = e.job AND r.worker = e.who AND r.attempt = e.attempt
        AND r.started_at < e.at AND (e.since IS NULL OR r.started_at > e.since))
    AND NOT EXISTS (SELECT FROM chaos_taken AS t WHERE t.n = e.n AND (t.owner_dead OR t.due_before <= t.at))
    UNION ALL
    SELECT e.job, e.who || ' wrote ' || e.act || ' under the lease ' || e.lease_before || ' of '
      || coalesce(taken.who, 'nobody')
    FROM chaos_events AS e
    LEFT JOIN chaos_events AS taken ON taken.job = e.job AND taken.n < e.n AND taken.lease_after = e.lease_before
      AND taken.lease_before IS DISTINCT FROM e.lease_before
    WHERE e.lease_before IS NOT NULL AND taken.who IS DISTINCT FROM e.who AND NOT EXISTS (
      SELECT FROM chaos_taken AS t WHERE t.n = e.n AND (t.owner_dead OR t.due_before <= t.at))
    UNION ALL
    SELECT e.job, e.who || ' wrote ' || act || ', but the latest run is of ' || r.worker || ', which nothing befell'
    FROM chaos_events AS e JOIN chaos_runs AS r ON r.job = e.job AND r.worker <> e.who AND r.started_at < e.at
      AND (e.since IS NULL OR r.started_at > e.since)
    WHERE act IN ('complete', 'retry', 'fail') AND r.started_at > (
      SELECT max(mine.started_at) FROM chaos_runs AS mine
      WHERE mine.job = e.job AND mine.worker = e.who AND mine.started_at < e.at)
    AND NOT EXISTS (SELECT FROM chaos_faults AS f WHERE f.who IN ('*', r.worker) AND f.began_at <= e.at
      AND f.ended_at >= r.started_at - interval '15 s')]] },

  { name = "leases broken", title = "taken or run while somebody's lease lasted", sql = [[
    SELECT job, who || ' took the lease ' || lease_before || ' for lost ' || (due_before - at) || ' before its end'
    FROM chaos_taken WHERE due_before > at AND NOT owner_dead
    UNION ALL
    SELECT r.job, r.worker || ' ran it under the lease of ' || e.who || ', and nothing befell it'
    FROM chaos_runs AS r CROSS JOIN LATERAL (
      SELECT * FROM chaos_events AS e WHERE e.job = r.job AND e.at < r.started_at ORDER BY n DESC LIMIT 1) AS e
    WHERE e.lease_after IS NOT NULL AND e.due_after > r.started_at AND e.who <> r.worker
      AND NOT EXISTS (SELECT FROM chaos_faults AS f WHERE f.who IN ('*', r.worker) AND f.began_at <= r.started_at
        AND f.ended_at >= r.started_at - interval '15 s')]] },

  { name = "innocents charged", title = "paid an attempt for what nothing explains", sql = [[
    SELECT job, e.who || ' charged attempt ' || e.attempt || ': ' || error
    FROM chaos_events AS e JOIN chaos_plans USING (job)
    WHERE act IN ('retry', 'fail') AND error LIKE 'the executor %' AND NOT (kind IN ('exit', 'kill')
      AND e.attempt <= number) AND NOT EXISTS (SELECT FROM chaos_faults AS f WHERE f.who IN ('*', e.who)
        AND f.kind <> 'deadly job' AND f.began_at <= e.at AND f.ended_at >= e.at - interval '15 s')
    UNION ALL
    SELECT e.job, e.who || ' charged attempt ' || e.attempt || ' of ' || coalesce(taken.who, 'nobody')
    FROM chaos_events AS e
    LEFT JOIN chaos_events AS taken ON taken.job = e.job AND taken.n < e.n AND taken.lease_after = e.lease_before
      AND taken.lease_before IS DISTINCT FROM e.lease_before
    WHERE e.act = 'lost' AND NOT EXISTS (SELECT FROM chaos_faults AS f WHERE f.who IN ('*', taken.who)
      AND f.kind <> 'deadly job' AND f.began_at <= e.at AND f.ended_at >= taken.at - interval '5 s')]] },

  { name = "unexplained repeats", title = "run again without a fault between", sql = [[
    SELECT job, 'attempt ' || attempt || ': ' || before_worker || ' ran it, and ' || worker || ' after '
      || (started_at - before_at)
    FROM chaos_repeats WHERE NOT undone AND NOT belated]] },
}

-- The rows of the table of figures: a title, and a query for one value.
books.figures = {
  { "jobs acknowledged", "SELECT count(*) FROM chaos_acknowledged" },
  { "unknown that exist", [[SELECT count(*) FROM (SELECT job FROM chaos_plans UNION SELECT job FROM chaos_runs
      EXCEPT SELECT job FROM chaos_acknowledged) AS u]] },
  { "runs", "SELECT count(*) FROM chaos_runs" },
  { "completed", "SELECT count(*) FROM chaos_events WHERE act = 'complete'" },
  { "failed for good as planned", "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NOT NULL AND data LIKE 'doom%'" },
  { "attempts failed as planned", [[SELECT count(*) FROM chaos_events WHERE act IN ('retry', 'fail')
      AND error NOT LIKE 'the executor %']] },
  { "attempts charged: executor died", [[SELECT count(*) FROM chaos_events WHERE act IN ('retry', 'fail')
      AND error LIKE 'the executor %']] },
  { "attempts charged: worker lost", "SELECT count(*) FROM chaos_events WHERE act = 'lost'" },
  { "leases taken", "SELECT count(*) FROM chaos_events WHERE act = 'lease'" },
  { "leases extended", "SELECT count(*) FROM chaos_events WHERE act = 'extend'" },
  { "leases given back", "SELECT count(*) FROM chaos_events WHERE act = 'release'" },
  { "repeats", "SELECT count(*) FROM chaos_repeats" },
  { "repeats after a fault", "SELECT count(*) FROM chaos_repeats WHERE undone" },
  { "repeats after one fault, at most", [[SELECT coalesce(max(n), 0) FROM (
      SELECT count(*) AS n FROM chaos_repeats AS r CROSS JOIN LATERAL (
        SELECT who, began_at FROM chaos_faults AS f WHERE f.who IN ('*', before_worker) AND f.began_at <= r.started_at
        ORDER BY f.began_at DESC LIMIT 1) AS f GROUP BY f.who, f.began_at) AS c]] },
  { "repeats by who had lost it", "SELECT count(*) FROM chaos_repeats WHERE belated AND NOT undone" },
}

-- Everything known of a job, and the faults around it, in the order of time. Of extensions of its lease, one a lease.
local HISTORY = [[
  WITH ours AS (
    SELECT started_at AS at, worker AS who, 'run, attempt ' || attempt || ', executor ' || pid AS what FROM chaos_runs
    WHERE job = %s
    UNION ALL
    SELECT max(at), who, act || ', attempt ' || attempt_before || coalesce(' to ' || attempt_after, '')
      || coalesce(', lease ' || lease_before, '') || coalesce(' to ' || lease_after, '')
      || coalesce(', due ' || to_char(max(due_after), 'HH24:MI:SS.US'), '')
      || CASE WHEN count(*) > 1 THEN ', the last of ' || count(*) ELSE '' END || coalesce(': ' || left(error, 60), '')
    FROM chaos_events WHERE job = %s
    GROUP BY CASE WHEN act <> 'extend' THEN n END, who, act, attempt_before, attempt_after, lease_before, lease_after,
      error)
  SELECT '    ' || to_char(at, 'HH24:MI:SS.US') || '  ' || rpad(who, 7) || what FROM (
    SELECT * FROM ours
    UNION ALL
    SELECT began_at, who, 'FAULT ' || kind || ' until ' || to_char(ended_at, 'HH24:MI:SS.US') FROM chaos_faults
    WHERE CASE WHEN kind = 'deadly job'
      THEN EXISTS (SELECT FROM ours WHERE ours.who = chaos_faults.who AND abs(extract(epoch FROM at - began_at)) < 0.5)
      ELSE (who = '*' OR who IN (SELECT who FROM ours)) AND began_at < (SELECT max(at) FROM ours)
        AND ended_at > (SELECT min(at) FROM ours) - interval '10 s' END) AS a ORDER BY at]]

-- Writes the list of what was done (see faults.lua) and the acknowledged ids into the books, and prepares the checks.
function books.close(pg, faults, paths, leases)
  local rows = {}
  for i, fault in ipairs(faults) do
    rows[i] = ("('%s', '%s', to_timestamp(%.6f), to_timestamp(%.6f))"):format(
      fault.kind, fault.who, fault.began, fault.ended)
  end
  if #rows > 0 then
    pg:psql("INSERT INTO chaos_faults VALUES " .. table.concat(rows, ",\n"))
  end
  for _, path in ipairs(paths) do
    pg:psql(("\\copy chaos_acknowledged FROM '%s'"):format(path))
  end
  pg:psql(("\\set reach %s\n\\set slack %s\n\\i spec/chaos/books.sql"):format(
    ("'%s'"):format(REACH[leases and "leases" or "none"]:gsub("'", "''")), ("'%s'"):format(SLACK:gsub("'", "''"))))
end

-- Returns the broken ones of these rules (books.rules): a list of { rule =, title =, count =, text = the first jobs and
-- their histories }.
function books.check(pg, rules)
  local broken = {}
  for _, rule in ipairs(rules or books.rules) do
    local lines, count = {}, 0
    for line in pg:psql(rule.sql):gmatch "[^\n]+" do
      count = count + 1
      local job, words = line:match "^(%d+)|(.*)$"
      if count <= SHOWN then
        lines[#lines + 1] = ("  job %s: %s\n%s"):format(job, words, pg:psql(HISTORY:format(job, job)))
      end
    end
    if count > 0 then
      broken[#broken + 1] = { rule = rule.name, title = rule.title, count = count, text = table.concat(lines, "\n") }
    end
  end
  return broken
end

-- These figures (books.figures) of the table: a list of { title, value }.
function books.tell(pg, figures)
  local lines = {}
  for i, figure in ipairs(figures or books.figures) do
    lines[i] = { figure[1], pg:psql(figure[2]) }
  end
  return lines
end

return books

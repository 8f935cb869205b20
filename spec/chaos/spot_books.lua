-- The rules and figures of spec/chaos/run --spot: those of books.lua that hold here, and some of its own.

local books = require "spec.chaos.books"

local spot_books = {}

local SHARED = { ["lost"] = true, ["left behind"] = true, ["strangers"] = true, ["leases broken"] = true,
  ["unexplained repeats"] = true }

-- A poison has three attempts.
local DEATHS_MOST = 3 + 6

spot_books.rules = {}
for _, rule in ipairs(books.rules) do
  if SHARED[rule.name] then
    table.insert(spot_books.rules, rule)
  end
end

local OWN = {
  { name = "innocents failed", title = "failed for good, and their handlers never fail", sql = [[
    SELECT id, 'attempt ' || attempt || ': ' || left(coalesce(error, 'no error'), 200)
    FROM pgq_jobs JOIN chaos_plans ON job = id WHERE ran_at IS NOT NULL AND kind NOT IN ('kill', 'slay')]] },

  -- When an executor is killed from outside while it computes for one job, this job looks guilty.
  { name = "innocents charged", title = "paid an attempt for the death of a worker", sql = [[
    SELECT e.job, e.who || ' charged attempt ' || e.attempt || ': ' || coalesce(e.error, 'no error')
    FROM chaos_events AS e JOIN chaos_plans USING (job)
    WHERE kind NOT IN ('kill', 'slay') AND act IN ('retry', 'fail', 'lost') AND NOT EXISTS (
      SELECT FROM chaos_faults AS f WHERE f.kind = 'kill executor' AND f.who = e.who AND f.began_at <= e.at
        AND f.began_at >= e.at - interval '15 s')
    UNION ALL
    SELECT e.job, 'completed in attempt ' || e.attempt || ', and ' || charges || ' were charged'
    FROM chaos_events AS e JOIN chaos_plans USING (job) CROSS JOIN LATERAL (
      SELECT count(*) AS charges FROM chaos_events AS c WHERE c.job = e.job AND c.act IN ('retry', 'fail', 'lost')) AS c
    WHERE kind NOT IN ('kill', 'slay') AND act = 'complete' AND e.attempt > 1 + charges]] },

  { name = "poisons that live on", title = "kill whatever runs them, and have not failed in time", sql = [[
    SELECT job, runs || ' runs, ' || CASE WHEN j.ran_at IS NULL THEN 'not failed' ELSE 'failed' END
    FROM chaos_plans LEFT JOIN pgq_jobs AS j ON j.id = job
    CROSS JOIN LATERAL (SELECT count(*) AS runs FROM chaos_runs AS r WHERE r.job = chaos_plans.job) AS r
    WHERE kind IN ('kill', 'slay') AND (runs > ]] .. DEATHS_MOST .. [[ OR j.ran_at IS NULL)]] },

  { name = "effects not once", title = "transactional, and their effect is not there exactly once", sql = [[
    SELECT job, count(e.job) || ' effects' FROM chaos_plans
    JOIN (SELECT job FROM chaos_events WHERE act = 'complete') AS c USING (job) LEFT JOIN chaos_effects AS e USING (job)
    WHERE kind = 'tx' GROUP BY job HAVING count(e.job) <> 1
    UNION ALL
    SELECT job, 'an effect without completion' FROM chaos_effects
    WHERE job NOT IN (SELECT job FROM chaos_events WHERE act = 'complete')]] },
}
for _, rule in ipairs(OWN) do
  table.insert(spot_books.rules, rule)
end

local KILLED = "f.kind IN ('kill supervisor', 'kill worker', 'power cut', 'deadly job: worker')"

-- How long the leased jobs of dead workers waited for their next run. After a second death a job has to wait longer.
local LEASED = [[
  SELECT coalesce(round(extract(epoch FROM percentile_cont(%s) WITHIN GROUP (ORDER BY waited)), 1), 0)
  FROM (
    SELECT (SELECT min(r.started_at) FROM chaos_runs AS r WHERE r.job = e.job AND r.started_at > f.began_at)
      - f.began_at AS waited
    FROM (SELECT who, min(began_at) AS began_at FROM chaos_faults AS f WHERE ]] .. KILLED .. [[ GROUP BY who) AS f
    JOIN chaos_events AS e ON e.who = f.who AND act = 'lease' AND e.at < f.began_at
    JOIN chaos_plans USING (job)
    WHERE kind NOT IN ('kill', 'slay') AND NOT EXISTS (SELECT FROM chaos_events AS later
      WHERE later.job = e.job AND later.n > e.n AND later.at < f.began_at AND later.act <> 'extend')) AS w
  WHERE waited IS NOT NULL]]

spot_books.figures = {
  { "jobs", "SELECT count(*) FROM chaos_acknowledged" },
  { "runs", "SELECT count(*) FROM chaos_runs" },
  { "completed", "SELECT count(*) FROM chaos_events WHERE act = 'complete'" },
  { "completed, transactional", "SELECT count(*) FROM chaos_effects" },
  { "leases taken", "SELECT count(*) FROM chaos_events WHERE act = 'lease'" },
  { "leases of others ended", "SELECT count(*) FROM chaos_taken" },
  { "repeats", "SELECT count(*) FROM chaos_repeats" },
  { "charged after kill executor", [[SELECT count(*) FROM chaos_events JOIN chaos_plans USING (job)
      WHERE kind NOT IN ('kill', 'slay') AND act IN ('retry', 'fail', 'lost')]] },
  { "poisons", "SELECT count(*) FROM chaos_plans WHERE kind IN ('kill', 'slay')" },
  { "deaths by one poison, at most", [[SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM chaos_runs
      JOIN chaos_plans USING (job) WHERE kind IN ('kill', 'slay') GROUP BY job) AS p]] },
  { "deaths of workers by poisons", "SELECT count(*) FROM chaos_faults WHERE kind = 'deadly job: worker'" },
  { "deaths of executors by poisons", "SELECT count(*) FROM chaos_faults WHERE kind = 'deadly job'" },
  { "leased jobs run again: median", LEASED:format "0.5", unit = " s" },
  { "leased jobs run again: 90 %", LEASED:format "0.9", unit = " s", most = 8 },
  { "leased jobs run again: longest", LEASED:format "1", unit = " s" },
}

return spot_books

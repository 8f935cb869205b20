-- Prepares what the checks of books.lua ask, when all is over. :reach is how long before a fault a run may have begun
-- (beyond its own length) and still be undone by it; :slack how long after its end a fault still shows.

CREATE INDEX ON chaos_runs (job, started_at);
CREATE INDEX ON chaos_faults (who);

-- What each write was. 'lost': a lease that ran out was taken as a failed attempt.
CREATE TABLE chaos_events AS
  SELECT *,
    attempt_before + (lease_before IS NULL)::integer AS attempt,
    max(CASE WHEN act IN ('complete', 'retry', 'fail', 'lost') THEN at END) OVER (
      PARTITION BY job ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS since
  FROM (
    SELECT *, CASE
      WHEN gone THEN 'complete'
      WHEN error LIKE 'worker lost%' THEN 'lost'
      WHEN ended THEN 'fail'
      WHEN waits_used > 0 THEN 'retry'
      WHEN lease_after IS NOT NULL AND lease_after IS DISTINCT FROM lease_before THEN 'lease'
      WHEN lease_after IS NOT NULL THEN 'extend'
      WHEN lease_before IS NOT NULL THEN 'release'
      ELSE 'other' END AS act
    FROM chaos_writes) AS w;
CREATE INDEX ON chaos_events (job, n);
COMMENT ON COLUMN chaos_events.since IS 'End of the attempt before: runs of this attempt began later. A release leaves a job as it was, so that an outcome from before it still counts.';

CREATE TABLE chaos_plans AS
  SELECT DISTINCT job, split_part(plan, ' ', 1) AS kind, split_part(plan, ' ', 2)::float8 AS number
  FROM (SELECT job, plan FROM chaos_writes UNION ALL SELECT id, convert_from(data, 'UTF8') FROM pgq_jobs) AS p;
CREATE UNIQUE INDEX ON chaos_plans (job);

-- Jobs that kill their executor, or their worker, are faults, too.
INSERT INTO chaos_faults
  SELECT CASE WHEN kind = 'slay' THEN 'deadly job: worker' ELSE 'deadly job' END, worker, started_at, started_at
  FROM chaos_runs JOIN chaos_plans USING (job) WHERE kind IN ('exit', 'kill', 'slay') AND attempt <= number;

-- Leases that another worker than the owner ended, shortened, or replaced by its own. That is right when the lease has run
-- out, or the owner is dead.
CREATE TABLE chaos_taken AS
  SELECT e.n, e.job, e.who, e.at, e.act, e.attempt, e.error, e.lease_before, e.due_before, owner.who AS owner, owner.at AS leased_at,
    EXISTS (SELECT FROM chaos_faults AS f WHERE f.who = owner.who AND f.began_at <= e.at
      AND f.kind IN ('kill supervisor', 'kill worker', 'power cut', 'deadly job: worker')) AS owner_dead
  FROM chaos_events AS e
  JOIN chaos_events AS owner ON owner.job = e.job AND owner.n < e.n AND owner.lease_after = e.lease_before
    AND owner.lease_before IS DISTINCT FROM e.lease_before
  WHERE e.lease_before IS NOT NULL AND e.act <> 'complete' AND owner.who <> e.who;

-- Runs of an attempt that had been run before, and what explains them: a fault of the worker that ran it before (or of
-- the server), or one of the worker that ran it again and should not have had it any more.
CREATE TABLE chaos_repeats AS
  SELECT again.*,
    EXISTS (SELECT FROM chaos_faults AS f WHERE f.who IN ('*', before_worker)
      AND f.began_at <= started_at AND f.ended_at + :slack >= before_at
      AND f.began_at <= before_at + length + :reach) AS undone,
    EXISTS (SELECT FROM chaos_faults AS f WHERE f.who IN ('*', worker)
      AND f.began_at <= started_at AND f.ended_at + :slack + interval '10 s' >= before_at) AS belated
  FROM (
    SELECT *, lag(worker) OVER w AS before_worker, lag(started_at) OVER w AS before_at,
      CASE WHEN kind IN ('sleep', 'spin') THEN number ELSE 0 END * interval '1 s' AS length
    FROM chaos_runs JOIN chaos_plans USING (job)
    WINDOW w AS (PARTITION BY job, attempt ORDER BY started_at)) AS again
  WHERE before_at IS NOT NULL;

ANALYZE;

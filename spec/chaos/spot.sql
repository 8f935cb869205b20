-- What spec/chaos/run --spot has in its database besides the books of audit.sql.

-- What transactional handlers did: a row for each completed job, written through job.tx.
CREATE TABLE chaos_effects (job bigint NOT NULL);

-- chaos_enqueue(backlog, others): enqueues so many jobs that `backlog` jobs wait in the queue "sleep", and jobs of the
-- other kinds in proportion to those. `others` is their part. Returns how many jobs it has enqueued.
CREATE FUNCTION chaos_enqueue(backlog integer, others float8) RETURNS bigint LANGUAGE sql AS $$
  WITH need AS (
    SELECT greatest(0, backlog - count(*))::integer AS n FROM pgq_jobs WHERE queue_name = 'sleep' AND ran_at IS NULL
  ), jobs AS (
    SELECT 'sleep' AS queue, 'sleep ' || round((0.1 + 0.8 * random())::numeric, 3) AS plan FROM need, generate_series(1, n)
    UNION ALL
    SELECT CASE WHEN n % 3 = 0 THEN 'spin' WHEN n % 3 = 1 THEN 'tx' ELSE 'quick' END,
      CASE WHEN n % 3 = 0 THEN 'spin ' || round((0.001 + 0.01 * random())::numeric, 4) WHEN n % 3 = 1 THEN 'tx 0'
        ELSE 'quick 0' END
    FROM (SELECT generate_series(1, round(need.n * others)::integer) AS n FROM need) AS other
  ), made AS (
    INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT queue, convert_to(plan, 'UTF8'), '{1s,1s,1s}' FROM jobs
    RETURNING id
  ), known AS (
    INSERT INTO chaos_acknowledged SELECT id FROM made RETURNING job
  )
  SELECT count(*) FROM known
$$;

-- chaos_poison(queue, act): enqueues a job that kills its worker (act "slay") or its executor ("kill") each time. It has
-- three attempts.
CREATE FUNCTION chaos_poison(queue text, act text) RETURNS void LANGUAGE sql AS $$
  WITH made AS (
    INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES (queue, convert_to(act || ' 99', 'UTF8'), '{1s,1s}')
    RETURNING id
  )
  INSERT INTO chaos_acknowledged SELECT id FROM made
$$;

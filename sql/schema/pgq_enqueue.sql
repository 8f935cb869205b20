-- Enqueues one job, for programs in any language, and returns its id. It refuses jobs that a worker could not run: an
-- empty or long queue name, too much data, too many waits, waits that are not durations.
CREATE OR REPLACE FUNCTION pgq_enqueue(
  queue_name text,
  data bytea,
  after timestamptz DEFAULT now(),
  retry_waits text[] DEFAULT '{1m0s,10m0s,30m0s}'
) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $pgq$
DECLARE
  wait text;
  job_id bigint;
  -- A duration in the form of Go, as the worker reads it, such as 1h30m or 250ms. There are two characters for the
  -- prefix micro.
  pattern text := '^[+-]?(0|(([0-9]+([.][0-9]*)?|[.][0-9]+)(ns|us|'
    || CASE getdatabaseencoding() WHEN 'UTF8' THEN chr(181) || 's|' || chr(956) || 's|' ELSE '' END || 'ms|s|m|h))+)$';
  sum_ns numeric;
BEGIN
  IF queue_name IS NULL OR queue_name = '' THEN
    RAISE EXCEPTION 'pgq_enqueue: the queue name is empty' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF octet_length(queue_name) > 1048576 THEN
    RAISE EXCEPTION 'pgq_enqueue: the queue name has % bytes, the limit is 1048576', octet_length(queue_name)
      USING ERRCODE = 'program_limit_exceeded';
  END IF;
  IF data IS NULL THEN
    RAISE EXCEPTION 'pgq_enqueue: data is null' USING ERRCODE = 'invalid_parameter_value',
      HINT = 'For a job without data pass an empty bytea: ''''::bytea.';
  END IF;
  IF octet_length(data) > 268435456 THEN
    RAISE EXCEPTION 'pgq_enqueue: data has % bytes, the limit is 268435456', octet_length(data)
      USING ERRCODE = 'program_limit_exceeded';
  END IF;
  IF after IS NULL THEN
    RAISE EXCEPTION 'pgq_enqueue: after is null' USING ERRCODE = 'invalid_parameter_value',
      HINT = 'Leave it out to run the job at once.';
  END IF;
  IF retry_waits IS NULL OR pg_catalog.array_ndims(retry_waits) > 1 THEN
    RAISE EXCEPTION 'pgq_enqueue: retry_waits must be a one-dimensional array' USING ERRCODE = 'invalid_parameter_value',
      HINT = 'For no retries pass ''{}''.';
  END IF;
  IF pg_catalog.cardinality(retry_waits) > 1000
    OR octet_length(pg_catalog.array_to_string(retry_waits, '')) > 32768 THEN
    RAISE EXCEPTION 'pgq_enqueue: there are % retry waits, the limit is 1000, and 32768 bytes in all',
      pg_catalog.cardinality(retry_waits) USING ERRCODE = 'program_limit_exceeded';
  END IF;
  FOREACH wait IN ARRAY retry_waits LOOP
    IF wait IS NULL OR wait !~ pattern THEN
      RAISE EXCEPTION 'pgq_enqueue: the retry wait % is not a duration', coalesce(pg_catalog.quote_literal(wait), 'null')
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Write 1h30m, 10m0s, 45s or 250ms.';
    END IF;
    -- The worker counts in nanoseconds, up to 2^63 - 1. A short wait without a sign cannot be beyond these bounds.
    IF length(wait) > 7 OR wait LIKE '-%' THEN
      SELECT sum(trunc(part[1]::numeric * CASE part[2] WHEN 'h' THEN 3600000000000 WHEN 'm' THEN 60000000000
        WHEN 's' THEN 1000000000 WHEN 'ms' THEN 1000000 WHEN 'ns' THEN 1 ELSE 1000 END::numeric)) INTO sum_ns
        FROM pg_catalog.regexp_matches(wait, '([0-9]*[.]?[0-9]+|[0-9]+)[.]?([^0-9.]+)', 'g') AS part;
      IF sum_ns > 9223372036854775807::numeric THEN
        RAISE EXCEPTION 'pgq_enqueue: the retry wait % is too long', pg_catalog.quote_literal(wait)
          USING ERRCODE = 'invalid_parameter_value', HINT = 'The longest is 2562047h47m.';
      END IF;
      IF sum_ns > 0::numeric AND wait LIKE '-%' THEN
        RAISE EXCEPTION 'pgq_enqueue: the retry wait % is negative', pg_catalog.quote_literal(wait)
          USING ERRCODE = 'invalid_parameter_value', HINT = 'Write 1h30m, 10m0s, 45s or 250ms.';
      END IF;
    END IF;
  END LOOP;
  INSERT INTO pgq_jobs (queue_name, data, run_after, retry_waits)
    VALUES (pgq_enqueue.queue_name, pgq_enqueue.data, pgq_enqueue.after, pgq_enqueue.retry_waits)
    RETURNING id INTO job_id;
  IF job_id IS NULL THEN
    RAISE EXCEPTION 'pgq_enqueue: the INSERT added no row: a trigger or rule of pgq_jobs keeps it'
      USING ERRCODE = '02000';
  END IF;
  RETURN job_id;
END
$pgq$;
COMMENT ON FUNCTION pgq_enqueue(text, bytea, timestamptz, text[]) IS 'Enqueues a job: name of the queue, data, earliest time of the first attempt, waits before the next attempts. Returns the id of the job.';

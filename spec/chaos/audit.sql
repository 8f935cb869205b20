-- The books of a chaos run. They stand beside the tables of pgq-lua, which knows nothing of them.

-- One row per run of a handler, written by the handler before its work, over a connection of its own.
CREATE TABLE chaos_runs (
  worker text NOT NULL,       -- one process: worker 2 after its third start is w2.3
  pid integer NOT NULL,       -- the executor
  run integer NOT NULL,       -- counts in that executor: a row whose answer was lost is not written twice
  job bigint NOT NULL,
  attempt integer NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (worker, pid, run)
);

-- One row per change of a job, written by the trigger below in the transaction that makes the change.
CREATE TABLE chaos_writes (
  n bigint GENERATED ALWAYS AS IDENTITY,
  job bigint NOT NULL,
  who text NOT NULL,          -- application_name: the worker
  at timestamptz NOT NULL,
  gone boolean NOT NULL,      -- deleted
  ended boolean NOT NULL,     -- deleted, or ran_at set
  attempt_before integer NOT NULL,
  attempt_after integer,
  lease_before bigint,
  lease_after bigint,
  due_before timestamptz,
  due_after timestamptz,
  waits_used integer NOT NULL,
  error text,
  plan text NOT NULL
);

CREATE TABLE chaos_acknowledged (job bigint NOT NULL);

-- What was done to whom, and while what time. who: a worker, or * for the server.
CREATE TABLE chaos_faults (
  kind text NOT NULL,
  who text NOT NULL,
  began_at timestamptz NOT NULL,
  ended_at timestamptz NOT NULL
);

CREATE FUNCTION chaos_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    INSERT INTO chaos_writes (job, who, at, gone, ended, attempt_before, lease_before, due_before, waits_used, plan)
    VALUES (OLD.id, current_setting('application_name'), clock_timestamp(), true, true, OLD.attempt, OLD.lease,
      OLD.run_after, 0, convert_from(OLD.data, 'UTF8'));
  ELSE
    INSERT INTO chaos_writes (job, who, at, gone, ended, attempt_before, attempt_after, lease_before, lease_after,
      due_before, due_after, waits_used, error, plan)
    VALUES (OLD.id, current_setting('application_name'), clock_timestamp(), false, NEW.ran_at IS NOT NULL, OLD.attempt,
      NEW.attempt, OLD.lease, NEW.lease, OLD.run_after, NEW.run_after,
      cardinality(OLD.retry_waits) - cardinality(NEW.retry_waits),
      CASE WHEN NEW.ran_at IS NOT NULL OR NEW.retry_waits <> OLD.retry_waits THEN left(NEW.error, 100) END,
      convert_from(OLD.data, 'UTF8'));
  END IF;
  RETURN NULL;
END
$$;

CREATE TRIGGER chaos_write AFTER UPDATE OR DELETE ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION chaos_write();

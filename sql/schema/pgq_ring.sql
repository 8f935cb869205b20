-- The doorbell: tells sleeping workers that there is a job, and costs little while no worker sleeps. At commit NOTIFY
-- takes a lock that the whole cluster shares, so it is sent only when a worker sleeps. Two flags decide that, and both
-- are shared advisory locks:
--   "enqueueing"  raised by a session that enqueues, until its transaction has ended
--   "asleep"      raised by a worker, while it sleeps
-- The session raises its flag and then looks at the workers' flag. A worker raises its flag and then looks at the
-- sessions' flag. Whatever the order, at least one of the two sees the other. A worker that sees the flag of a session
-- keeps polling until the flag is down.
--
-- The class of each lock is the oid of the table. Its object is one of 256 buckets, into which the names of the queues
-- are hashed, for "enqueueing", and the bucket plus 256 for "asleep". A session looks at a flag by trying to lock it
-- exclusively. Locking and unlocking are one expression, so that no end of the statement can leave the lock behind. Two
-- sessions that look at the same moment hinder each other, so a flag that seems to be up is looked at a second time.
--
-- The notification names the table, the bucket and the transaction ("16384:77:1234"). With the number of the
-- transaction, the workers choose the few of them that look at once, and know which notification another has answered.
--
-- The setting pgq.bell has two uses. A transaction sets it to "off" (SET LOCAL pgq.bell = off) if it will be prepared with
-- PREPARE TRANSACTION, where NOTIFY is forbidden. Otherwise the function keeps in it the table and the queue for which it
-- was last called in this transaction; the first write of a transaction, which mostly is the only one, does not set it.
-- The names are qualified, because the caller's search path may contain other functions and operators.
CREATE OR REPLACE FUNCTION pgq_ring() RETURNS trigger LANGUAGE plpgsql AS $pgq$
BEGIN
  IF pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL THEN
    IF pg_catalog.current_setting('pgq.bell', true) OPERATOR(pg_catalog.=) 'off'
      OR pg_catalog.set_config('pgq.bell', TG_RELID OPERATOR(pg_catalog.||) (':' OPERATOR(pg_catalog.||) NEW.queue_name), true)
        IS NULL
    THEN
      RETURN NEW;
    END IF;
  END IF;
  IF pg_catalog.pg_advisory_xact_lock_shared(TG_RELID::pg_catalog.int4,
      pg_catalog.hashtext(NEW.queue_name) OPERATOR(pg_catalog.&) 255) IS NULL
    OR (CASE WHEN pg_catalog.pg_try_advisory_lock(TG_RELID::pg_catalog.int4,
        (pg_catalog.hashtext(NEW.queue_name) OPERATOR(pg_catalog.&) 255) OPERATOR(pg_catalog.+) 256)
      THEN pg_catalog.pg_advisory_unlock(TG_RELID::pg_catalog.int4,
        (pg_catalog.hashtext(NEW.queue_name) OPERATOR(pg_catalog.&) 255) OPERATOR(pg_catalog.+) 256) ELSE false END)
  THEN
    RETURN NEW;
  END IF;
  IF pg_catalog.current_setting('pgq.bell', true) OPERATOR(pg_catalog.=) 'off'
    OR (CASE WHEN pg_catalog.pg_try_advisory_lock(TG_RELID::pg_catalog.int4,
        (pg_catalog.hashtext(NEW.queue_name) OPERATOR(pg_catalog.&) 255) OPERATOR(pg_catalog.+) 256)
      THEN pg_catalog.pg_advisory_unlock(TG_RELID::pg_catalog.int4,
        (pg_catalog.hashtext(NEW.queue_name) OPERATOR(pg_catalog.&) 255) OPERATOR(pg_catalog.+) 256) ELSE false END)
  THEN
    RETURN NEW;
  END IF;
  PERFORM pg_catalog.pg_notify('pgq_bell', TG_RELID OPERATOR(pg_catalog.||)
    (':' OPERATOR(pg_catalog.||) ((pg_catalog.hashtext(NEW.queue_name) OPERATOR(pg_catalog.&) 255)::pg_catalog.text
      OPERATOR(pg_catalog.||) (':' OPERATOR(pg_catalog.||) pg_catalog.pg_current_xact_id()::pg_catalog.text))));
  RETURN NEW;
END
$pgq$;
COMMENT ON FUNCTION pgq_ring() IS 'Trigger function of pgq_jobs: notifies sleeping workers that a job was enqueued into one of their queues.';

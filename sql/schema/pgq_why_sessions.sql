-- Returns the transactions of pg_locks with these virtual ids as a list for pgq_why: a session for each, or a prepared
-- transaction. Postgres shows pid, user and application of all sessions to every role; what else it hides, unless the
-- role is a member of pg_read_all_stats, is left out.
CREATE OR REPLACE FUNCTION pgq_why_sessions(ids text[]) RETURNS jsonb LANGUAGE plpgsql STABLE AS $pgq$
BEGIN
  RETURN (
    SELECT coalesce(pg_catalog.jsonb_agg(found.session ORDER BY found.since, found.number), '[]'::jsonb)
    FROM (
      SELECT pg_catalog.row_number() OVER () AS number, coalesce(activity.xact_start, prepared.prepared) AS since,
        pg_catalog.jsonb_strip_nulls(CASE WHEN holder.pid IS NULL THEN pg_catalog.jsonb_build_object('kind', 'prepared',
            'prepared', prepared.gid, 'user', prepared.owner, 'since', prepared.prepared)
          ELSE pg_catalog.jsonb_build_object('kind', 'session', 'pid', holder.pid,
            'application', activity.application_name, 'user', activity.usename, 'client', pg_catalog.host(activity.client_addr),
            'state', activity.state, 'since', activity.xact_start,
            'hidden', nullif(activity.query = '<insufficient privilege>'::text, false)) END) AS session
      FROM (
        SELECT DISTINCT lock.virtualtransaction, lock.pid,
          CASE WHEN lock.pid IS NULL THEN lock.transactionid END AS transaction
        FROM pg_catalog.pg_locks AS lock
        WHERE lock.virtualtransaction = ANY (ids)
          AND (lock.pid IS NOT NULL OR lock.locktype = 'transactionid'::text)) AS holder
      LEFT JOIN pg_catalog.pg_stat_activity AS activity ON activity.pid = holder.pid
      LEFT JOIN pg_catalog.pg_prepared_xacts AS prepared ON prepared.transaction = holder.transaction) AS found);
END
$pgq$;
COMMENT ON FUNCTION pgq_why_sessions(text[]) IS 'The sessions with these virtual transactions, for pgq_why.';

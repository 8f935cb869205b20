-- Returns the times at which a selection begins and ends, so that they stay the same in all transactions of the command,
-- and the time now. The texts have the offset of their time zone.
--
-- $1 timestamptz: the begin, or null
-- $2 interval: how long before now the begin is, or null
-- $3 timestamptz: the end, or null
-- $4 interval: how long before now the end is, or null
SELECT coalesce($1::timestamptz, now() - $2::interval)::text, coalesce($3::timestamptz, now() - $4::interval)::text,
  now()::text

-- Returns the time at which a selection begins or ends, so that it stays the same in all transactions of the command, and
-- the time now. The texts have the offset of their time zone.
--
-- $1 timestamptz: the time, or null
-- $2 interval: how long before now the time is, or null
SELECT coalesce($1::timestamptz, now() - $2::interval)::text, now()::text

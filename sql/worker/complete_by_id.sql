-- Deletes completed jobs that this transaction has locked, but whose places are not known: they were locked again for
-- a rescue, or their rows are in a partition, where a place is not unique.
--
-- $1 int8[]: ids of the jobs
-- prepared: yes
DELETE FROM pgq_jobs WHERE id = ANY ($1::int8[])

-- Returns the data of one claimed job, which was too long to come with the claim. It is sent in the transaction of the
-- claim, which has locked the row.
--
-- $1 int8: id of the job
-- prepared: yes
SELECT data FROM pgq_jobs WHERE id = $1

-- Returns the data of one claimed job, which was too long to come with the claim. It is sent in the transaction of the
-- claim, which has locked the row. The transaction is idle while the data goes on to the executor, so it gets the time
-- for that.
--
-- $1 int8: id of the job
-- $2 text: idle_in_transaction_session_timeout in milliseconds, for the rest of the transaction
-- prepared: yes
SELECT data, set_config('idle_in_transaction_session_timeout', $2, true) FROM pgq_jobs WHERE id = $1

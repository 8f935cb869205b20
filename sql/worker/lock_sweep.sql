-- Locks the sweeps of a queue until the end of the transaction, if no other session has that lock. Returns whether this
-- one has it now. While one worker sweeps, the server marks the entries of the index whose rows are gone, and the others
-- would read the same ones at the same time; afterwards they pass over them. claim_in_fleet.sql uses the same key: the
-- class is the oid of pgq_jobs; the object is the bucket of the queue's name plus 512. The doorbell has the smaller ones.
--
-- $1 text: name of the queue
-- prepared: yes
SELECT pg_try_advisory_xact_lock('pgq_jobs'::regclass::oid::int4, 512 + (hashtext($1) & 255))

-- Begins the transaction of a hold. The modes are named because a database may have other defaults: at repeatable
-- read, claims fail.
--
-- prepared: yes
BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE

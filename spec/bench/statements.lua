-- The statements of handlers that use the database, for the worker and for what they are compared with.

local statements = {}

statements.accounts = 10000

statements.tables = ([[
CREATE TABLE IF NOT EXISTS bench_accounts (id int PRIMARY KEY, balance bigint NOT NULL);
TRUNCATE bench_accounts;
INSERT INTO bench_accounts SELECT id, 0 FROM generate_series(1, %d) AS id;
]]):format(statements.accounts)

statements.read = "SELECT balance FROM bench_accounts WHERE id = $1"
statements.write = "UPDATE bench_accounts SET balance = balance + 1 WHERE id = $1"

-- Where the jobs go that are enqueued; no worker has it.
statements.queue = "bench_out"

-- The account that a job is about.
function statements.account_of(data)
  return tonumber(data) % statements.accounts + 1
end

-- What pgq.enqueue sends (runtime/client/request.c), with the job in it.
local INSERT = [[INSERT INTO pgq_jobs (queue_name, run_after, retry_waits, data)
  VALUES (pg_catalog.convert_from('%s'::bytea, 'UTF8'), coalesce(NULL::timestamptz,
    pg_catalog.statement_timestamp() + NULL::bigint * interval '1 millisecond', pg_catalog.now()),
    '{1m0s,10m0s,30m0s}'::text[], '00000000000000000001'::bytea) RETURNING id]]

-- The same four statements as a script of pgbench.
statements.script = ("\\set id random(1, %d)\n%s;\n%s;\n%s;\n%s;\n"):format(statements.accounts, statements.read,
  statements.write, statements.read, INSERT:format(statements.queue):gsub("%s+", " ")):gsub("%$1", ":id")

-- Of the sessions in pg_stat_activity those that have just run one of the statements.
statements.condition = ([[query IN ('%s', '%s') OR query LIKE 'INSERT INTO pgq\_jobs%%']]):format(statements.read,
  statements.write)

return statements

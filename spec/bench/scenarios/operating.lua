-- The commands for operators, on a large table.

local uv = require "luv"
local process = require "spec.support.process"

local operating = { name = "operating", title = "Operating: the commands on a large table" }

local QUEUES, GOAL_MS = 1000, 1000

-- Half of the jobs are in one queue, the others in a thousand. Of ten jobs, three are due, two are for later, three
-- have failed, and two were completed and preserved. Some hundreds run. The indexes are made when the rows are there.
local FILL = [[
  SET session_replication_role = replica;
  TRUNCATE pgq_jobs RESTART IDENTITY;
  CREATE TEMP TABLE definitions AS
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'pgq_jobs' AND indexname <> 'pgq_jobs_pkey';
  SELECT format('DROP INDEX %%I', indexname) FROM definitions \gexec
  INSERT INTO pgq_jobs (queue_name, data, run_after, ran_at, error, attempt, meta)
    SELECT CASE WHEN n %% 2 = 0 THEN 'large' ELSE 'q' || n / 20 %% @queues END,
      convert_to(lpad(n::text, 20, '0'), 'UTF8'),
      CASE n / 2 %% 10 WHEN 3 THEN now() + n * interval '1 s' WHEN 4 THEN now() + n * interval '10 ms'
        ELSE now() - n * interval '10 ms' END,
      CASE WHEN n / 2 %% 10 >= 5 THEN now() - n * interval '10 ms' END,
      CASE WHEN n / 2 %% 10 >= 7 THEN
        'worker.lua:' || n %% 7 || ': connection to 10.0.0.' || n %% 255 || ' refused for ' || md5(n::text) END,
      1, CASE WHEN n %% 100 = 0 THEN jsonb_build_object('user', n %% 1000) END
    FROM generate_series(1, @jobs) AS n;
  SELECT indexdef FROM definitions \gexec
  INSERT INTO pgq_jobs (queue_name, data, run_after, lease, started_at, attempt)
    SELECT 'q' || n, '', now() + interval '1 day', (1::int8 << 32) | n, now(), 1 FROM generate_series(1, 500) AS n;
  INSERT INTO pgq_attempts (job_id, queue_name, attempt, outcome, error, traceback)
    SELECT n, 'large', 1, 'failed', 'no', repeat('trace ', 20) FROM generate_series(1, @jobs / 50) AS n;
  INSERT INTO pgq_stats (queue_name, minute, completed, wait_buckets, run_buckets)
    SELECT 'q' || q, date_trunc('minute', now()) - n * interval '1 min', 100, '{0,1,2,3,4,5,6,7,8,9,10}',
      '{0,1,2,3,4,5,6,7,8,9,10}'
    FROM generate_series(0, @queues - 1) AS q, generate_series(0, 120) AS n;
  INSERT INTO pgq_workers (host, pid, version, queues, last_seen_at, status)
    SELECT 'host', n, '1', (SELECT array_agg('q' || q) FROM generate_series(0, @queues - 1) AS q),
      now() + interval '1 day', '{"stage": "serving"}'
    FROM generate_series(1, 20) AS n]]

-- Lists, each also as JSON. Jobs 9000, 9006 and 16 are due, for later, and failed.
local LISTS = [[
  queues
  queues --limit 1000
  jobs
  jobs large
  jobs --state due
  jobs --state later
  jobs --state running
  jobs --state failed
  jobs --state completed
  jobs --state cancelled
  jobs large --state later
  jobs large --state failed --since 10h --before 5h
  jobs q7 --state completed --since 1d
  jobs large --state failed --error none
  jobs large --state failed --error worker.lua:%for_fffff%
  jobs --state failed --error none
  jobs --error none
  jobs --state due --meta user=1
  jobs --meta user=nobody
  jobs --group-by error
  jobs large --group-by error
  jobs --group-by error --since 1h
  show 16
  workers
  stats
  stats q7
  stats --since 30d
  why 9000
  why 9006
  why 16
  why q7
  why large
  doctor]]

local OTHERS = [[
  retry --state failed --dry-run
  retry --queue large --state failed --error none --dry-run
  retry --error none --dry-run
  cancel --all --dry-run
  cancel --meta user=nobody --dry-run
  delete --all --dry-run
  retry --queue large --state failed --limit 1000
  cancel --queue large --limit 1000
  delete --queue large --state completed --limit 1000
  retry 16
  edit 9006 --delay 3h
  pause large
  resume large]]

local function run(db, words)
  local began = uv.hrtime()
  local result = process.run { os.getenv "PGQ_LUA", "--db", db.conninfo, unpack(words) }
  -- doctor finds that nobody serves the queues.
  assert(result.status == 0 or words[#words] == "doctor" and result.status == 1, result.stderr)
  return { ms = (uv.hrtime() - began) / 1e6 }
end

local function add_commands(plan, db, lines, ...)
  for line in lines:gmatch "%S[^\n]*" do
    local name, words = "pgq-lua " .. line, { ... }
    for word in line:gmatch "%S+" do words[#words + 1] = word end
    table.insert(plan.contenders, { name = name, run = function() return run(db, words) end })
    table.insert(plan.comparisons, { name = name, of = { name, "ms" }, unit = "ms", goal = { at_most = GOAL_MS } })
  end
end

function operating.prepare(bench)
  local db, jobs = bench.server:database "bench", bench.size(1e7, 10000)
  db:psql "TRUNCATE pgq_workers, pgq_attempts, pgq_stats"
  db:psql((FILL:gsub("@jobs", ("%d"):format(jobs)):gsub("@queues", QUEUES):gsub("%%%%", "%%")))
  db:settle()
  local plan = {
    about = ("Each command once, lists as JSON, with a table of %d jobs, half of them in one queue and half in %d, "
      .. "from the start of the process to its end."):format(jobs, QUEUES),
    contenders = {}, figures = { { key = "ms", unit = "ms" } }, comparisons = {},
  }
  add_commands(plan, db, LISTS, "--json")
  add_commands(plan, db, OTHERS)
  return plan
end

return operating

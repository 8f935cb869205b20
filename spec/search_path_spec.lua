-- No SQL of pgq-lua runs a function, an operator or a type that another role has created in a schema of the search path.
-- Most schemas "public" of Postgres 13 and 14 let every role create objects.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"

local PGQ_LUA = os.getenv "PGQ_LUA"

-- For every operator of pg_catalog with a name that our SQL uses, and for every function, this creates another one for
-- each pair of types. Where pg_catalog has no version with exactly these types, the hostile one fits better, wherever its
-- schema is in the search path. Each of them raises an error when it is called.
local HOSTILE = [==[
SET client_min_messages = error;
SET search_path = @SCHEMA;
CREATE TABLE public.called_names (name text);
INSERT INTO public.called_names VALUES @NAMES;
DO $$
DECLARE
  types regtype[] := '{bool,int2,int4,int8,float8,numeric,text,name,"char",bytea,timestamptz,interval,oid,regclass,tid,'
    'bool[],int4[],int8[],text[],tid[],timestamptz[]}';
  l regtype;
  r regtype;
  o text;
  f text;
BEGIN
  FOREACH l IN ARRAY types LOOP
    FOREACH r IN ARRAY types LOOP
      EXECUTE format('CREATE FUNCTION hijacked_op(%s, %s) RETURNS bool LANGUAGE plpgsql'
        ' AS ''BEGIN RAISE EXCEPTION ''''hijacked''''; END''', l, r);
      FOREACH o IN ARRAY '{=,<>,<,<=,>,>=,+,-,*,/,||,&,~~,!~,~}'::text[] LOOP
        EXECUTE format('CREATE OPERATOR %s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hijacked_op)', o, l, r);
      END LOOP;
    END LOOP;
  END LOOP;
  FOR f IN SELECT name FROM public.called_names LOOP
    FOREACH l IN ARRAY types LOOP
      EXECUTE format('CREATE FUNCTION %I(%s) RETURNS SETOF bool LANGUAGE plpgsql'
        ' AS ''BEGIN RAISE EXCEPTION ''''hijacked''''; END''', f, l);
      FOREACH r IN ARRAY '{int4,int8,text,bool,float8}'::regtype[] LOOP
        EXECUTE format('CREATE FUNCTION %I(%s, %s) RETURNS SETOF bool LANGUAGE plpgsql'
        ' AS ''BEGIN RAISE EXCEPTION ''''hijacked''''; END''', f, l, r);
      END LOOP;
    END LOOP;
    EXECUTE format('CREATE FUNCTION %I(text, text, text) RETURNS SETOF bool LANGUAGE plpgsql'
      ' AS ''BEGIN RAISE EXCEPTION ''''hijacked''''; END''', f);
  END LOOP;
END
$$;]==]

-- Objects that hide those of pg_catalog only if their schema comes before it in the search path.
local HIDING = [==[
SET search_path = @SCHEMA;
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
CREATE FUNCTION statement_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz';
CREATE FUNCTION current_schemas(bool) RETURNS name[] LANGUAGE sql AS 'SELECT NULL::name[]';
CREATE DOMAIN text AS pg_catalog.text; CREATE DOMAIN bytea AS pg_catalog.bytea; CREATE DOMAIN int8 AS pg_catalog.int8;
CREATE DOMAIN timestamptz AS pg_catalog.timestamptz; CREATE DOMAIN name AS pg_catalog.name;
CREATE DOMAIN regnamespace AS pg_catalog.regnamespace;
CREATE TABLE pg_class (); CREATE TABLE pg_namespace ();]==]

local NOT_FUNCTIONS = {}
for word in ([[select values any and or not exists in as on from coalesce nullif least greatest extract queue held failed
  leased snoozed freed done wanted settings least lateral operator set using insert into pgq_jobs pgq_workers path with
  when then else case interval returning epoch wait update array steps columns table]]):gmatch "%S+" do
  NOT_FUNCTIONS[word] = true
end

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- All statements of a folder: name, text without comments, types of the parameters.
local function statements_of(folder)
  local found = {}
  for name in process.check({ "ls", folder }):gmatch "%S+%.sql" do
    local text = read(folder .. "/" .. name)
    local types = {}
    for type in text:gmatch "%-%- %$%d+ ([%w]+%[?%]?):" do
      types[#types + 1] = "pg_catalog." .. type
    end
    found[#found + 1] = { name = folder .. "/" .. name, types = types,
      sql = text:gsub("%-%-[^\n]*\n", ""):gsub("%%s", "public") }
  end
  return found
end

local function is_utility(sql)
  return sql:match "^%s*LISTEN" or sql:match "^%s*LOCK" or sql:match "^%s*BEGIN" or sql:match "^%s*COMMIT" or sql:match "^%s*ROLLBACK"
end

local function called_names(...)
  local names, seen = {}, {}
  for _, list in ipairs { ... } do
    for _, statement in ipairs(list) do
      for name in statement.sql:lower():gmatch "([%a_][%w_]*)%s*%(" do
        if not NOT_FUNCTIONS[name] and not seen[name] and not name:find "^pgq_" then
          seen[name] = true
          names[#names + 1] = ("('%s')"):format(name)
        end
      end
    end
  end
  return table.concat(names, ", ")
end

describe("with hostile objects in the search path", function()
  local pg = fixture.server {}
  local worker, client, lua = statements_of "sql/worker", statements_of "sql/client", statements_of "sql/lua"
  local migrate, commands = statements_of "sql/migrate", statements_of "sql/commands"
  local schema = statements_of "sql/schema"

  local function create(text, name)
    pg:psql((text:gsub("@SCHEMA", name):gsub("@NAMES", function() return called_names(worker, client, lua, migrate, commands, schema) end)))
  end

  setup(function()
    create(HOSTILE, "public")
    pg:psql "CREATE SCHEMA before_all"
    create(HIDING, "before_all")
  end)

  -- The server records which functions, operators, types and tables each statement would use.
  local function hijackers(list, path, filter)
    local probes = {}
    for _, statement in ipairs(list) do
      if not is_utility(statement.sql) and statement.name:find(filter) then
        probes[#probes + 1] = ('CREATE FUNCTION probes."%s"(%s) RETURNS pg_catalog.void LANGUAGE sql BEGIN ATOMIC %s; END;')
          :format(statement.name, table.concat(statement.types, ", "), statement.sql)
      end
    end
    assert(#probes > 0)
    return pg:psql(([[BEGIN; CREATE SCHEMA probes; SET LOCAL search_path = %s; %s; SET LOCAL search_path = pg_catalog;
      SELECT proname || ': ' || pg_describe_object(refclassid, refobjid, 0)
      FROM pg_depend JOIN pg_proc ON pg_proc.oid = objid
      WHERE classid = 'pg_proc'::regclass AND pronamespace = 'probes'::regnamespace
        AND refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_class'::regclass)
        AND NOT (refclassid = 'pg_proc'::regclass AND refobjid IN ('public.pgq_pause'::regproc, 'public.pgq_resume'::regproc,
          'public.pgq_cancel'::regproc, 'public.pgq_why_sessions'::regproc, 'public.pgq_why_words'::regproc,
          'public.pgq_why_workers'::regproc))
        AND NOT (refclassid = 'pg_class'::regclass
          AND refobjid IN (SELECT oid FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace
            OR oid IN ('public.pgq_jobs'::regclass, 'public.pgq_workers'::regclass, 'public.pgq_frontiers'::regclass,
              'public.pgq_queues'::regclass, 'public.pgq_attempts'::regclass, 'public.pgq_stats'::regclass, 'public.pgq_audit'::regclass)));
      ROLLBACK]]):format(path, table.concat(probes, "\n")))
  end

  local function needs_14()
    return tonumber(pg:psql "SHOW server_version_num") < 140000
      and pending "Postgres 13 has no function bodies that record what they use"
  end

  it("the worker's statements use none: its sessions have pg_catalog in front", function()
    if needs_14() then return end
    assert.equal("", hijackers(worker, "pg_catalog, public, before_all", ""))
    assert.equal("", hijackers(lua, "pg_catalog, public, before_all", "testing"))
    assert.equal("", hijackers(migrate, "pg_catalog, public, before_all", ""))
    assert.equal("", hijackers(commands, "pg_catalog, public, before_all", ""))
  end)

  it("the statements that run in a user's session use none, even with pg_catalog at the end", function()
    if needs_14() then return end
    assert.equal("", hijackers(client, "before_all, public, pg_catalog", ""))
    assert.equal("", hijackers(lua, "before_all, public, pg_catalog", "transactional"))
    local settings = { { name = "settings", types = { "pg_catalog.text", "pg_catalog.bool" },
      sql = read "sql/worker/session_settings.sql":gsub("%-%-[^\n]*\n", "") } }
    assert.equal("", hijackers(settings, "before_all, public, pg_catalog", ""))
    assert.equal("", hijackers(migrate, "before_all, public, pg_catalog", "transaction_settings"))
    assert.equal("", hijackers(commands, "before_all, public, pg_catalog", "command_settings"))
  end)

  it("a hostile operator is seen by these specs", function()
    if needs_14() then return end
    local wrong = { { name = "wrong", types = {}, sql = "SELECT 1 FROM pgq_jobs WHERE tableoid = 'pgq_jobs'::regclass" } }
    assert.matches("wrong: operator public.=%(oid,regclass%)", hijackers(wrong, "pg_catalog, public", ""))
  end)

  it("the functions and the trigger run none of them", function()
    local ids = pg:psql [[
      SELECT pgq_enqueue('a', ''), pgq_enqueue('a', '', now() + interval '1 h'),
        pgq_enqueue('a', '', now(), '{1h30m,0.5s,250ms,1us,+7m,-0s,00000000005m}'), pgq_enqueue('a', '', now(), '{}')]]
    assert.equal("1|2|3|4", ids)
    for wrong, message in pairs {
      ["'', ''"] = "queue name is empty", ["'a', NULL"] = "data is null", ["'a', '', NULL"] = "after is null",
      ["repeat('a', 1048577), ''"] = "1048577 bytes",
      ["'a', '', now(), '{{1s}}'"] = "one%-dimensional", ["'a', '', now(), '{x}'"] = "not a duration",
      ["'a', '', now(), '{-12345678m}'"] = "is negative", ["'a', '', now(), '{99999999h}'"] = "too long",
      ["'a', '', now(), array_fill('1s'::text, ARRAY[1001])"] = "limit is 1000",
    } do
      local out = process.run { "psql", "-XAt", "-d", pg.conninfo, "-c", "SELECT pgq_enqueue(" .. wrong .. ")" }
      assert.matches(message, out.stderr)
    end
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('b', ''), ('b', '')"
    pg:psql "UPDATE pgq_jobs SET lease = 5 WHERE id = 2"
    assert.equal("cancelled|running|ended|unknown", pg:psql
      "SELECT pgq_cancel(1), pgq_cancel(2), pgq_cancel(1), pgq_cancel(99)")
    assert.equal("retried|retried|unknown|paused|paused|resumed|cancelled", pg:psql [[SELECT pgq_retry(1), pgq_retry(1, true), pgq_retry(99),
      pgq_pause('a'), pgq_pause('a', now() + interval '1 h', 'why'), pgq_resume('a'), pgq_cancel(1)]])
    pg:psql [[INSERT INTO pgq_workers (host, pid, version, queues, pooled, status) VALUES ('h', 1, '1', '{a}', true,
      '{"executors": [{"pid": 1, "busy": true, "busy_since": "2026-01-01T00:00:00Z", "job": 5, "in_flight": 1}]}');
      INSERT INTO pgq_stats (queue_name, minute, completed) VALUES ('a', date_trunc('minute', now()), 5);
      INSERT INTO pgq_jobs (id, queue_name, data, run_after) VALUES (1000, 'a', '', now() + interval '1 h')]]
    assert.equal("starved cancelled no_worker unknown later starved", pg:psql [[SELECT string_agg(code, ' ' ORDER BY number) FROM (
      SELECT 1, code FROM pgq_why(3) UNION ALL SELECT 2, code FROM pgq_why(1) UNION ALL SELECT 3, code FROM pgq_why(5)
      UNION ALL SELECT 4, code FROM pgq_why(99) UNION ALL SELECT 5, code FROM pgq_why(1000)
      UNION ALL SELECT 6, code FROM pgq_why_queue('a')) AS answers (number, code)]])
    pg:psql "UPDATE pgq_workers SET status = NULL"
    assert.equal("behind unknown", pg:psql "SELECT (SELECT code FROM pgq_why_queue('a')) || ' ' || (SELECT code FROM pgq_why_queue('c'))")
    assert.matches("session %d+", pg:psql [[SELECT pgq_why_words(pgq_why_sessions(ARRAY(SELECT virtualtransaction FROM pg_locks)))]])
    local locked = process.check { "psql", "-XAtq", "-d", pg.conninfo,
      "-c", "BEGIN; SELECT id FROM pgq_jobs WHERE id = 3 FOR UPDATE", "-c", "SELECT code FROM pgq_why(3)" }
    assert.matches("behind", locked) -- its own locks do not count
  end)

  -- What a role did that could hijack the worker: each call of a hostile object raises an error.
  it("a worker runs jobs of all kinds", function()
    local _, drain = fixture.workers(pg)
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, retry_waits, lease)
      SELECT 'q', kind::bytea, '{2h}', CASE kind WHEN 'lost' THEN 7 END
      FROM pg_catalog.unnest('{complete,fail,fail for good,snooze,wait,lost}'::text[]) AS kind]]
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('tx', ''), ('large', convert_to(repeat('x', 20000000), 'UTF8'))"
    local result = drain [[
      pgq.register_queue("q", function(data, job)
        if data == "fail" then return nil, "no" end
        if data == "fail for good" then return pgq.discard("no") end
        if data == "snooze" then return pgq.snooze("1h") end
        if data == "wait" then pgq.sleep(1.5) pgq.enqueue("later", "", { delay = 3600 }) end
      end)
      pgq.register_queue("large", function(data) print(#data) end)
      pgq.register_queue("tx", function(_, job) job.tx:query("SELECT 1") end, { transactional = true })
    ]]
    assert.not_matches("hijacked", result.stderr)
    assert.not_matches("level=error.*level=error", result.stderr) -- one job fails for good
    assert.equal("20000000\n", result.stdout)
    assert.equal("fail|no|f\nfail for good|no|t\nsnooze||f\n||f", pg:psql
      "SELECT pg_catalog.encode(data, 'escape'::text), error, ran_at IS NOT NULL FROM pgq_jobs ORDER BY id")
  end)

  it("the commands run none of them", function()
    local function run(...)
      local result = process.run { PGQ_LUA, "--db", pg.conninfo, ... }
      assert.not_matches("hijacked", result.stderr)
      assert.equal(0, result.status, result.stderr)
    end
    run("enqueue", "q", "data")
    run("enqueue", "--delay", "1h", "q", "data")
    run("cancel", "1")
    run("retry", "1")
    run("edit", "1", "--data", "x", "--delay", "1s", "--retry-waits", "1s", "--queue", "q")
    run("pause", "q")
    run("resume", "q")
    run("cancel", "--state", "due,later", "--all", "--error", "no")
    run("delete", "--queue", "q", "--error", "no", "--since", "1h", "--before", "1s", "--meta", "a=b", "--dry-run")
    run("delete", "--queue", "q")
    run "queues"
    run("queues", "--json")
    run "jobs"
    run("jobs", "q", "--state", "failed,due", "--error", "x", "--meta", "a=b", "--since", "1h")
    run("jobs", "--group-by", "error")
    run("why", "1")
    run("why", "q", "--json")
    run "workers"
    run("stats", "q")
    run "stats"
    run("show", "1")
    run("show", "--json", "--data", "1")
    assert.not_matches("hijacked", process.run({ PGQ_LUA, "--db", pg.conninfo, "doctor" }).stdout)
    run "migrate"
    pg:psql [[DROP FUNCTION pgq_enqueue, pgq_cancel, pgq_retry, pgq_pause, pgq_resume; DROP TRIGGER pgq_ring ON pgq_jobs; DROP INDEX pgq_jobs_lease;
      ALTER TABLE pgq_jobs DROP started_at, RESET (fillfactor), DROP CONSTRAINT pgq_jobs_deaths_check]]
    run "migrate"
    pg:psql [[DROP TABLE pgq_jobs, pgq_workers; CREATE TABLE pgq_jobs (
      id serial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(), queue_name text NOT NULL, data bytea NOT NULL,
      run_after timestamptz NOT NULL, retry_waits text[] NOT NULL, ran_at timestamptz, error text)]]
    run "migrate"
    pg:psql [[DROP TABLE pgq_jobs, pgq_workers, pgq_frontiers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit;
      DROP FUNCTION pgq_ring, pgq_enqueue, pgq_cancel, pgq_retry, pgq_pause, pgq_resume]]
    run "migrate"
  end)
end)

local Library = require "spec.support.library"
local process = require "spec.support.process"
local Postgres = require "spec.support.postgres"

-- Jobs in a batch at most, and bytes (runtime/client/many.c).
local BATCH, BATCH_BYTES = 8192, 2 ^ 20
-- Two batches and a bit.
local MANY = 2 * BATCH + 100

-- The values of PQtransactionStatus.
local IDLE, OPEN, FAILED, UNKNOWN = 0, 2, 3, 4

describe("enqueueing many jobs from C", function()
  local pg, library

  setup(function()
    pg = Postgres.start { migrated = true }
    library = Library.install()
    library:compile("spec/support/many_client.c", "many")
  end)

  teardown(function()
    library:remove()
    pg:stop()
  end)

  before_each(function()
    pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
  end)

  local function read(out)
    local outcome, sqlstate, message = out:match "(%-?%d+) (%w+) ([^\n]*)\nids"
    local ids, first, last, rest = out:match "ids: (%d+) from (%d+) to (%d+)([^\n]*)\n"
    local state, nonblocking = out:match "transaction: (%-?%d+), nonblocking: (%-?%d+)"
    assert(outcome, "unexpected output: " .. out)
    return {
      outcome = tonumber(outcome), sqlstate = sqlstate, message = message, ids = tonumber(ids), first = tonumber(first),
      last = tonumber(last), ascending = rest == "", state = tonumber(state), nonblocking = tonumber(nonblocking),
      sql = out:match "sql: (%S+)",
    }
  end

  local function call_as(program, ...)
    return read(process.check { library.prefix .. "/" .. program, pg.conninfo, timeout = 90, ... })
  end

  local function call(...)
    return call_as("many-c", ...)
  end

  local function count()
    return tonumber((pg:psql "SELECT count(*) FROM pgq_jobs"))
  end

  local function expect_failure(result, sqlstate, pattern, state)
    assert.equal(-1, result.outcome)
    assert.matches(pattern, result.message)
    assert.equal(sqlstate, result.sqlstate)
    assert.equal(state, result.state)
    assert.equal(0, count())
  end

  -- Whether the ids 1 … n belong to the data "1" … "n".
  local function expect_in_order(n)
    assert.equal(("%d|t|1"):format(n), pg:psql [[SELECT count(*), bool_and(convert_from(data, 'UTF8') = id::text),
      count(DISTINCT run_after) FROM pgq_jobs]])
  end

  local function with_trigger(body, fn)
    pg:psql(([[CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN NEW; END $$;
      CREATE TRIGGER guard BEFORE INSERT ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION guard()]]):format(body))
    local ok, problem = pcall(fn)
    pg:psql "DROP FUNCTION guard() CASCADE"
    assert(ok, problem)
  end

  for _, form in ipairs { "array", "stream" } do
    describe("as " .. (form == "array" and "an array" or "a stream"), function()
      local as = "form=" .. form

      it("gives ids that ascend with the jobs, in one batch and in several", function()
        for _, program in ipairs { "many-c", "many-c++" } do
          for _, n in ipairs { 1, 2, BATCH - 1, BATCH, BATCH + 1, MANY } do
            pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
            local result = call_as(program, as, "count=" .. n)
            assert.equal(form == "array" and 0 or n, result.outcome)
            assert.equal("00000", result.sqlstate)
            assert.equal("", result.message)
            assert.same({ n, 1, n, true }, { result.ids, result.first, result.last, result.ascending })
            assert.equal(IDLE, result.state)
            expect_in_order(n)
          end
        end
      end)

      it("does nothing when there are no jobs, not even without a table", function()
        local result = call(as, "count=0", "sql=SET search_path = pg_temp")
        assert.same({ 0, "00000", 0 }, { result.outcome, result.sqlstate, result.ids })
      end)

      it("takes the options for all jobs", function()
        call(as, "count=3", "queue=mail", "wait=90s", "after=2030-01-31 12:00:00+00")
        assert.equal("3|mail|{1m30s}|t", pg:psql [[SELECT count(*), min(queue_name), min(retry_waits::text),
          bool_and(run_after = '2030-01-31 12:00:00+00') FROM pgq_jobs]])
      end)

      it("is part of the caller's transaction", function()
        local result = call(as, "count=" .. MANY, "sql=BEGIN", "then=ROLLBACK")
        assert.equal("00000", result.sqlstate)
        assert.equal(OPEN, result.state)
        assert.equal(0, count())
        call(as, "count=" .. MANY, "sql=BEGIN", "then=COMMIT")
        assert.equal(MANY, count())
      end)

      it("enqueues nothing when the database refuses a job: the first, the last or one between", function()
        for _, bad in ipairs { 1, BATCH + 5, MANY } do
          pg:psql(("ALTER TABLE pgq_jobs ADD CONSTRAINT luck CHECK (convert_from(data, 'UTF8') <> '%d')"):format(bad))
          local own = call(as, "count=" .. MANY, "then=SELECT 1")
          local caller = call(as, "count=" .. MANY, "sql=BEGIN", "then=COMMIT")
          pg:psql "ALTER TABLE pgq_jobs DROP CONSTRAINT luck"
          local from = math.floor((bad - 1) / BATCH) * BATCH + 1
          local range = ("^jobs %d to %d: .*luck"):format(from, math.min(from + BATCH - 1, MANY))
          expect_failure(own, "23514", range, IDLE)
          assert.is_nil(own.sql)
          expect_failure(caller, "23514", range, FAILED)
        end
      end)

      it("names the job that is too long, and the one without data", function()
        for _, case in ipairs {
          { "big", 268435457, "54000", "^job 20: data has 268435457 bytes, the limit is 268435456" },
          { "bad", 5, "22023", "^job 20: data is NULL, but its length is 5" },
        } do
          expect_failure(call(as, "count=50", ("%s=20:%d"):format(case[1], case[2])), case[3], case[4], IDLE)
          -- An array shows it before anything is sent.
          local caller = call(as, "count=50", ("%s=20:%d"):format(case[1], case[2]), "sql=BEGIN", "then=COMMIT")
          expect_failure(caller, case[3], case[4], form == "array" and OPEN or FAILED)
        end
        expect_failure(call(as, "count=" .. MANY, "bad=" .. MANY .. ":5"), "22023", "^job " .. MANY .. ": ", IDLE)
      end)

      it("says when a trigger suppressed one of the rows, and enqueues none", function()
        with_trigger("IF NEW.data = '9000'::bytea THEN RETURN NULL; END IF", function()
          expect_failure(call(as, "count=" .. MANY), "02000", "inserted 8191 of 8192 jobs", IDLE)
          expect_failure(call(as, "count=" .. MANY, "sql=BEGIN", "then=COMMIT"), "02000", "8191 of 8192", FAILED)
        end)
      end)

      it("refuses before it sends anything, and leaves the transaction as it is", function()
        for _, case in ipairs {
          { "22023", "queue name is empty", "queue=" },
          { "22023", "queue name is not valid UTF%-8", "queue=\255" },
          { "22023", "delay is negative", "delay_ms=-1" },
          { "22023", "both", "delay_ms=1", "after=2030-01-01" },
          { "22023", "retry wait 1", "wait=often" },
        } do
          expect_failure(call(as, "count=3", "sql=BEGIN", unpack(case, 3)), case[1], case[2], OPEN)
        end
        expect_failure(call(as, "count=1", "sql=BEGIN", "sql=SELECT 1/0"), "25P02", "roll it back", FAILED)
        expect_failure(call(as, "count=1", "sql=COPY pgq_jobs FROM STDIN"), "55000", "busy", 1)
      end)

      it("names the migration when the table is missing", function()
        local result = call(as, "count=2", "sql=SET search_path = pg_temp")
        assert.equal("42P01", result.sqlstate)
        assert.matches("run `pgq%-lua migrate`", result.message)
      end)

      it("works without memory for ids and error", function()
        local program = library.prefix .. "/many-c"
        assert.matches("^" .. (form == "array" and 0 or MANY) .. "\n",
          process.check { program, pg.conninfo, as, "count=" .. MANY, "null=" })
        assert.equal(MANY, count())
        assert.matches("^%-1\n", process.check { program, pg.conninfo, as, "count=2", "null=", "queue=" })
      end)
    end)
  end

  it("gives all jobs of a delayed call one moment, counted from the call, also late in a transaction", function()
    -- The trigger makes the batches lie well apart.
    with_trigger("IF convert_from(NEW.data, 'UTF8') IN ('8000', '16000') THEN PERFORM pg_sleep(0.2); END IF", function()
      call("count=" .. MANY, "delay_ms=60000", "sql=SET DateStyle = 'German'")
      expect_in_order(MANY)
      assert.equal("t", pg:psql "SELECT bool_and(run_after - created_at BETWEEN '60s' AND '70s') FROM pgq_jobs")
      pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
      call("count=" .. MANY, "delay_ms=60000", "sql=BEGIN", "sql=SELECT pg_sleep(0.3)", "then=COMMIT")
      expect_in_order(MANY)
      assert.equal("t", pg:psql "SELECT bool_and(run_after - created_at BETWEEN '60.3s' AND '70s') FROM pgq_jobs")
    end)
  end)

  it("cuts batches by bytes, and sends a larger job alone #slow", function()
    pg:psql "ALTER TABLE pgq_jobs ALTER COLUMN data SET STORAGE EXTERNAL"
    pg:psql [[CREATE TABLE batches (jobs int, bytes int);
      CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO batches SELECT count(*), sum(octet_length(data)) FROM fresh; RETURN NULL; END $$;
      CREATE TRIGGER note AFTER INSERT ON pgq_jobs REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION note()]]
    finally(function() pg:psql "DROP FUNCTION note() CASCADE; DROP TABLE batches" end)
    local function batches(...)
      pg:psql "TRUNCATE batches"
      local result = call(...)
      assert.equal("00000", result.sqlstate, result.message)
      return pg:psql "SELECT jobs, bytes FROM batches"
    end
    assert.equal("1|1\n1|67108864\n1|1", batches("count=3", "big=2:67108864"))
    -- With the header of the array, and the length of each job.
    local fits = BATCH_BYTES - 20 - 2 * 4 - 1
    assert.equal(("2|%d\n1|1"):format(fits + 1), batches("count=3", "big=2:" .. fits))
    assert.equal(("1|1\n1|%d\n1|1"):format(fits + 1), batches("count=3", "big=2:" .. fits + 1))
  end)

  it("ends with 38000 when the source says so, and enqueues nothing", function()
    for _, stop in ipairs { 1, BATCH, MANY } do
      local result = call("count=" .. MANY + 1, "stop=" .. stop, "then=SELECT 1")
      expect_failure(result, "38000", "function that provides the jobs ended the call %(%-5%) after " .. stop, IDLE)
      assert.is_nil(result.sql)
      expect_failure(call("count=" .. MANY + 1, "stop=" .. stop, "sql=BEGIN", "then=COMMIT"), "38000", "provides the jobs", FAILED)
    end
  end)

  it("ends with 38000 when the taker of ids says so, also at the last", function()
    for _, refuse in ipairs { 1, MANY } do
      local result = call("count=" .. MANY, "refuse=" .. refuse, "then=SELECT 1")
      expect_failure(result, "38000", "function that takes the ids ended the call %(7%)", IDLE)
      assert.is_nil(result.sql)
    end
    expect_failure(call("count=5", "refuse=5", "sql=BEGIN", "then=COMMIT"), "38000", "takes the ids", FAILED)
  end)

  it("lets the caller's transaction go on from a savepoint", function()
    local result = call("count=5", "stop=2", "sql=BEGIN", "sql=SAVEPOINT mine", "then=ROLLBACK TO mine")
    assert.equal(FAILED, result.state)
    assert.is_nil(result.sql)
  end)

  it("notices that a callback has used the connection", function()
    expect_failure(call("count=" .. MANY, "touch=3", "sql=BEGIN"), "55000", "a callback has used the connection", IDLE)
    for _, touch in ipairs { BATCH + 3, MANY } do
      local result = call("count=" .. MANY, "touch=" .. touch)
      assert.equal("55000", result.sqlstate)
      assert.equal(IDLE, result.state)
    end
  end)

  it("works on a connection in non-blocking mode, and leaves it in that", function()
    local result = call("count=" .. MANY, "nonblocking=", "big=5:33554432")
    assert.equal("00000", result.sqlstate, result.message)
    assert.equal(1, result.nonblocking)
    assert.equal(MANY, result.ids)
    assert.equal(0, call("count=3").nonblocking)
    local broken = call("count=" .. MANY, "nonblocking=", "stop=" .. BATCH + 1)
    assert.equal("38000", broken.sqlstate)
    assert.equal(1, broken.nonblocking)
  end)

  local function kill_in_the_middle(...)
    local client = process.start { library.prefix .. "/many-c", pg.conninfo, stdin = "pipe", ... }
    client:read_until "paused"
    pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    client:write "\n"
    client:close_stdin()
    return read(client:wait().stdout)
  end

  it("says 08006 when the connection is killed in the middle, and nothing is enqueued", function()
    for _, pause in ipairs { 1, BATCH + 5, MANY } do
      local result = kill_in_the_middle("count=" .. MANY, "pause=" .. pause)
      expect_failure(result, "08006", "the connection to the database broke", UNKNOWN)
    end
    expect_failure(kill_in_the_middle("count=" .. MANY, "pause=" .. MANY, "sql=BEGIN"), "08006", "broke", UNKNOWN)
  end)

  it("says 08007 when the connection breaks during the COMMIT", function()
    pg:psql [[CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER die AFTER INSERT ON pgq_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()]]
    local result = call "count=2"
    pg:psql "DROP FUNCTION die() CASCADE"
    expect_failure(result, "08007", "broke during the COMMIT", UNKNOWN)
  end)

  it("returns the error of a deferred constraint at the COMMIT", function()
    pg:psql [[CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON pgq_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()]]
    local result = call("count=2", "then=SELECT 1")
    pg:psql "DROP FUNCTION refuse() CASCADE"
    expect_failure(result, "P0001", "too late", IDLE)
    assert.is_nil(result.sql)
  end)

  it("needs no rights but INSERT and SELECT (id)", function()
    pg:psql [[CREATE ROLE enqueuer LOGIN; GRANT INSERT, SELECT (id) ON pgq_jobs TO enqueuer]]
    finally(function() pg:psql "DROP OWNED BY enqueuer; DROP ROLE enqueuer" end)
    local conninfo = pg.conninfo:gsub("user=postgres", "user=enqueuer")
    local out = process.check { library.prefix .. "/many-c", conninfo, "count=" .. MANY, "delay_ms=1" }
    assert.equal("00000", read(out).sqlstate)
    assert.equal(MANY, count())
    pg:psql "REVOKE INSERT ON pgq_jobs FROM enqueuer"
    assert.equal("42501", read(process.check { library.prefix .. "/many-c", conninfo, "count=2" }).sqlstate)
  end)

  it("takes queue names in UTF-8 whatever the client encoding is", function()
    local out = process.check { library.prefix .. "/many-c", pg.conninfo .. " client_encoding=LATIN1", "count=2", "queue=grün ☃" }
    assert.equal("00000", read(out).sqlstate)
    assert.equal("grün ☃|2", pg:psql "SELECT queue_name, count(*) FROM pgq_jobs GROUP BY 1")
  end)
end)

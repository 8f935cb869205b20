local Library = require "spec.support.library"
local process = require "spec.support.process"
local Postgres = require "spec.support.postgres"

-- Random characters, which do not compress; they are the same in every run.
local function noise(length)
  local state, out = 42, {}
  for i = 1, length do
    state = (state * 16807) % 2147483647
    out[i] = string.char(97 + math.floor(state / 65536) % 26)
  end
  return table.concat(out)
end

describe("libpgq, the C library", function()
  local pg, library, prefix

  setup(function()
    pg = Postgres.start { migrated = true }
    library = Library.install()
    library:compile("spec/support/enqueue_client.c", "client")
    prefix = library.prefix
  end)

  teardown(function()
    library:remove()
    pg:stop()
  end)

  before_each(function()
    pg:psql "DELETE FROM pgq_jobs"
  end)

  -- Calls pgq_enqueue with the arguments of the client and returns id, sqlstate and message.
  local function call_as(program, arguments, conninfo)
    local out = process.check { prefix .. "/" .. program, conninfo or pg.conninfo, timeout = 90, unpack(arguments) }
    local id, sqlstate, message = out:match "^(%-?%d+) (%S+) ([^\n]*)\n$"
    assert(id, "unexpected output: " .. out)
    return tonumber(id), sqlstate, message
  end

  local function call(arguments, conninfo)
    return call_as("client-c", arguments, conninfo)
  end

  local function job(columns, id)
    return pg:psql(("SELECT %s FROM pgq_jobs WHERE id = %d"):format(columns, id))
  end

  local function expect_refused(sqlstate, pattern, arguments, conninfo)
    local id, got, message = call(arguments, conninfo)
    assert.equal(-1, id)
    assert.matches(pattern, message)
    assert.equal(sqlstate, got)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end

  it("enqueues from C and from C++, with the defaults when there are no options", function()
    for _, program in ipairs { "client-c", "client-c++" } do
      local id, sqlstate, message = call_as(program, {})
      assert.is_true(id > 0)
      assert.equal("00000", sqlstate)
      assert.equal("", message)
      assert.equal("q|x|t|{1m0s,10m0s,30m0s}",
        job("queue_name, convert_from(data, 'UTF8'), run_after = created_at, retry_waits", id))
    end
    local id = call_as("client-c++", { "queue=mail", "data=hello", "delay_ms=1500", "wait=90s" })
    assert.equal("mail|hello|{1m30s}", job("queue_name, convert_from(data, 'UTF8'), retry_waits", id))
  end)

  it("delivers any bytes, and empty data as empty, not as null", function()
    assert.equal("\\x00ff0a5c00", job("data", (call { "hex=00ff0a5c00" })))
    for _, argument in ipairs { "data=", "null=0" } do
      assert.equal("f|0", job("data IS NULL, octet_length(data)", (call { argument })))
    end
  end)

  it("takes 64 MiB of data, and refuses more than 256 MiB #slow", function()
    -- Without this, compressing the data takes most of the time.
    pg:psql "ALTER TABLE pgq_jobs ALTER COLUMN data SET STORAGE EXTERNAL"
    assert.equal("67108864", job("octet_length(data)", (call { "size=67108864" })))
    pg:psql "DELETE FROM pgq_jobs"
    expect_refused("54000", "data has 268435457 bytes, the limit is 268435456", { "size=268435457" })
  end)

  it("delays on the database's clock from the moment of the call", function()
    local id = call { "sql=BEGIN", "sql=SELECT pg_sleep(0.3)", "delay_ms=60000", "then=COMMIT" }
    assert.equal("t", job("run_after - created_at BETWEEN '60.3s' AND '80s'", id))
    id = call { "delay_ms=9223372036854" }
    assert.equal("t", job("extract(year FROM age(run_after, created_at)) = 292", id))
  end)

  it("takes an earliest time as text", function()
    assert.equal("t", job("run_after = '2030-01-31 12:00:00+00'", (call { "after=2030-01-31 12:00:00+00" })))
  end)

  it("writes retry waits in the form of Go, and distinguishes no waits from the default", function()
    local id = call { "wait=90s", "wait=1h30m", "wait=1500us", "wait=0", "wait=0.5h" }
    assert.equal("{1m30s,1h30m0s,2ms,0s,30m0s}", job("retry_waits", id))
    assert.equal("{}", job("retry_waits", (call { "no_retries=" })))
    assert.equal("{1m0s,10m0s,30m0s}", job("retry_waits", (call { "queue=q" })))
  end)

  it("is part of the caller's transaction", function()
    assert.is_true(call { "sql=BEGIN", "then=ROLLBACK" } > 0)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    assert.is_true(call { "sql=BEGIN", "then=COMMIT" } > 0)
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("takes queue names with quotes, spaces, %, umlauts and 10,000 characters", function()
    for _, name in ipairs { [[it's "quoted"]], " ", "100% of %s", "grün ☃ 😀", ("long "):rep(2000) } do
      local id = call { "queue=" .. name }
      assert.equal(name, job("queue_name", id))
    end
  end)

  it("takes queue names in UTF-8 whatever the client encoding is, and in a database of another encoding", function()
    pg:psql "CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'"
    pg:psql "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'"
    local id = call({ "queue=grün ☃" }, pg.conninfo .. " client_encoding=LATIN1")
    assert.equal("grün ☃", job("queue_name", id))
    for _, database in ipairs { "latin1", "ascii" } do
      local conninfo = pg.conninfo:gsub("dbname=postgres", "dbname=" .. database)
      process.check { "psql", "-qX", "-d", conninfo, "-f", "sql/create_table.sql" }
      for _, encoding in ipairs { "UTF8", "LATIN1" } do
        assert.is_true(call({ "queue=grün" }, conninfo .. " client_encoding=" .. encoding) > 0)
      end
      local query = "SELECT DISTINCT encode(convert_to(queue_name, 'UTF8'), 'hex') FROM pgq_jobs"
      query = database == "ascii" and query:gsub("convert_to%(queue_name, 'UTF8'%)", "queue_name::bytea") or query
      local out = process.check { "psql", "-qXAt", "-d", conninfo, "-c", query }
      assert.equal("6772c3bc6e\n", out)
    end
    local latin1 = pg.conninfo:gsub("dbname=postgres", "dbname=latin1")
    local none, sqlstate = call({ "queue=☃" }, latin1)
    assert.equal(-1, none)
    assert.equal("22P05", sqlstate)
  end)

  local REFUSED = {
    { "an empty queue name", "22023", "queue name is empty", { "queue=" } },
    { "a queue name that is NULL", "22023", "queue name is empty", { "queue=NULL" } },
    { "a queue name that is not UTF-8", "22023", "queue name is not valid UTF%-8", { "queue=\255" } },
    { "data that is NULL but has a length", "22023", "data is NULL, but its length is 5", { "null=5" } },
    { "a negative delay", "22023", "delay is negative: %-1 ms", { "delay_ms=-1" } },
    { "a delay beyond the longest duration", "22023", "delay is too long", { "delay_ms=9223372036855" } },
    { "both a delay and an earliest time", "22023", "both", { "delay_ms=1", "after=2030-01-01" } },
    { "an earliest time that is not UTF-8", "22023", "earliest time", { "after=\255" } },
    { "an earliest time that the database cannot read", "22007", "someday", { "after=someday" } },
    { "an unparsable wait", "22023", 'retry wait 2 %("10 minutes"%) has an unknown unit',
      { "wait=1m", "wait=10 minutes" } },
    { "a wait without a unit", "22023", 'retry wait 1 %("10"%) has a number without a unit', { "wait=10" } },
    { "an empty wait", "22023", 'retry wait 1 %(""%) is empty', { "wait=" } },
    { "a negative wait", "22023", 'retry wait 1 %("%-5s"%) is negative', { "wait=-5s" } },
    { "a wait that is too long", "22023", "retry wait 1 .* is too long", { "wait=2562048h" } },
    { "a wait that is NULL", "22023", "retry wait 2 .* is NULL", { "wait=1s", "wait=NULL" } },
    { "waits that are NULL but have a count", "22023", "retry waits are NULL", { "waits_null=" } },
    { "both waits and no retries", "22023", "both", { "wait=1s", "no_retries=" } },
    { "a queue name too long for the index", "54000", "queue name is too long for the index",
      { "queue=" .. noise(4000) } },
    { "a queue name much too long", "54000", "queue name is too long for the index", { "queue=" .. noise(20000) } },
    { "a missing table", "42P01", "pgq_jobs.*run `pgq%-lua migrate`", { "sql=SET search_path = pg_temp" } },
    { "a failed transaction", "25P02", "roll it back", { "sql=BEGIN", "sql=SELECT 1/0" }, "sql: 22012\n" },
    { "a connection in pipeline mode", "55000", "pipeline", { "pipeline=" } },
    { "a busy connection", "55000", "busy", { "send=SELECT 1" } },
    { "a connection in COPY", "55000", "busy", { "sql=COPY pgq_jobs FROM STDIN" } },
    { "a connection that is NULL", "08003", "NULL", {}, "", "NULL" },
    { "a connection that was never made", "08006", "broken or was never made", {}, "", "host=/nowhere" },
    { "a connection that broke", "08006", "broken", { "sql=SELECT pg_terminate_backend(pg_backend_pid())" },
      "sql: none\n" },
  }

  for _, case in ipairs(REFUSED) do
    it("refuses " .. case[1], function()
      local out = process.check { prefix .. "/client-c", case[6] or pg.conninfo, unpack(case[4]) }
      local prelude, sqlstate, message = out:match "^(.-)%-1 (%S+) ([^\n]*)\n$"
      assert(prelude, "unexpected output: " .. out)
      assert.matches(case[3], message)
      assert.equal(case[2], sqlstate)
      assert.equal(case[5] or "", prelude)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end

  it("says 08006 when the connection breaks during the call", function()
    pg:psql [[
      CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
      CREATE TRIGGER die BEFORE INSERT ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION die()]]
    local ok, problem = pcall(expect_refused, "08006", "the connection to the database broke", { "queue=q" })
    pg:psql "DROP FUNCTION die() CASCADE"
    assert(ok, problem)
  end)

  it("leaves the caller's transaction usable when it refuses before anything is sent", function()
    local out = process.check { prefix .. "/client-c", pg.conninfo, "sql=BEGIN", "queue=", "then=SELECT 1" }
    assert.is_nil(out:find "sql:")
  end)

  it("works without a struct for the error", function()
    assert.equal("-1\n", process.check { prefix .. "/client-c", pg.conninfo, "queue=", "quiet=" })
    assert.matches("^%d+\n$", process.check { prefix .. "/client-c", pg.conninfo, "quiet=" })
  end)

  it("exports the functions of pgq.h and nothing else", function()
    assert.equal("pgq_enqueue\npgq_enqueue_many\npgq_enqueue_stream", library:exported_names())
  end)

  it("can be linked statically", function()
    library:compile_statically("spec/support/enqueue_client.c", "client")
    assert.is_true(call_as("client-static", { "wait=1s" }) > 0)
  end)
end)

local pgq = require "pgq"
local process = require "spec.support.process"
local Postgres = require "spec.support.postgres"
local uv = require "luv"

-- Random characters, which do not compress; they are the same in every run.
local function noise(length)
  local state, out = 42, {}
  for i = 1, length do
    state = (state * 16807) % 2147483647
    out[i] = string.char(97 + math.floor(state / 65536) % 26)
  end
  return table.concat(out)
end

describe("enqueueing from Lua", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    uv.os_setenv("DATABASE_URL", pg.conninfo)
    conn = assert(pgq.connect(pg.conninfo))
  end)

  teardown(function()
    conn:close()
    uv.os_unsetenv("DATABASE_URL")
    pg:stop()
  end)

  before_each(function()
    assert(conn:query("DELETE FROM pgq_jobs"))
  end)

  local function the_job(id)
    local rows = assert(conn:query([[SELECT *,
      round(extract(epoch FROM run_after - created_at)::numeric, 3)::float8 AS delay,
      extract(epoch FROM run_after)::float8 AS due, retry_waits::text AS waits FROM pgq_jobs WHERE id = $1]], id))
    assert.equal(1, #rows)
    return rows[1]
  end

  local function count()
    return assert(conn:query("SELECT count(*) AS n FROM pgq_jobs"))[1].n
  end

  it("returns the id of a job that is due at once and has three retries", function()
    local id = assert(conn:enqueue("mail", "to: ann"))
    assert.equal("number", type(id))
    local job = the_job(id)
    assert.equal("mail", job.queue_name)
    assert.equal("to: ann", job.data)
    assert.equal(0, job.delay)
    assert.equal("{1m0s,10m0s,30m0s}", job.waits)
    assert.equal(0, job.attempt)
    assert.equal(pgq.null, job.ran_at)
    assert.equal(pgq.null, job.error)
  end)

  it("delivers any bytes: NUL, invalid UTF-8, none at all", function()
    local all = {}
    for byte = 0, 255 do
      all[#all + 1] = string.char(byte)
    end
    for _, data in ipairs { "", "\0", "a\0b", "\255\254", "\\x41", "'; DROP TABLE pgq_jobs; --", table.concat(all) } do
      assert.equal(data, the_job(assert(conn:enqueue("bytes", data))).data)
    end
  end)

  it("takes 64 MiB and more", function()
    local data = ("0123456789abcdef"):rep(4 * 1024 * 1024) .. "\0end"
    local id = assert(conn:enqueue("big", data))
    -- Not assert.equal, which would print both.
    assert.is_true(data == the_job(id).data)
  end)

  it("refuses data beyond 256 MiB", function()
    local id, message, code = conn:enqueue("big", ("x"):rep(256 * 1024 * 1024 + 1))
    assert.is_nil(id)
    assert.matches("268435457 bytes", message)
    assert.equal("54000", code)
    collectgarbage()
  end)

  it("takes queue names with quotes, spaces, %, umlauts and 10,000 characters", function()
    for _, name in ipairs { [[it's "quoted"]], " ", "100% of %s", "{}", "grün ☃ 😀", "a\nb", ("long "):rep(2000) } do
      assert.equal(name, the_job(assert(conn:enqueue(name, ""))).queue_name)
    end
  end)

  it("says that a queue name is too long for the index", function()
    local id, message, code = conn:enqueue(noise(10000), "")
    assert.is_nil(id)
    assert.matches("queue name is too long for the index", message)
    assert.equal("54000", code)
    id, message, code = conn:enqueue(("x"):rep(2 ^ 20 + 1), "")
    assert.is_nil(id)
    assert.matches("queue name has 1048577 bytes", message)
    assert.equal("54000", code)
    assert.equal(0, count())
  end)

  it("delays by seconds and by durations", function()
    for _, case in ipairs {
      { 90, 90 }, { 0.25, 0.25 }, { 0, 0 }, { "1h30m", 5400 }, { "250ms", 0.25 }, { "10", 10 },
    } do
      local job = the_job(assert(conn:enqueue("later", "", { delay = case[1] })))
      -- created_at is the start of the transaction, which may be some moments before the statement.
      local late = job.delay - case[2]
      assert.is_true(late >= 0 and late < 5, ("%s gave %s"):format(case[1], job.delay))
    end
  end)

  it("delays from the moment of the call, also late in a transaction", function()
    local job_id
    assert(conn:transaction(function(tx)
      assert(tx:query("SELECT pg_sleep(0.3)"))
      job_id = assert(tx:enqueue("later", "", { delay = 1 }))
      return true
    end))
    assert.is_true(the_job(job_id).delay >= 1.3)
  end)

  it("takes an earliest time as Unix seconds and as text", function()
    for _, case in ipairs {
      { 1893456000, 1893456000 }, { 1893456000.25, 1893456000.25 }, { 1893456000.9999999, 1893456001 },
      { 0, 0 },
      { -1.5, -1.5 }, { 253402300800, 253402300800 }, { "2030-01-01 00:00:00+00", 1893456000 },
      { "2030-01-01T02:00:00+02:00", 1893456000 },
    } do
      assert.equal(case[2], the_job(assert(conn:enqueue("later", "", { after = case[1] }))).due)
    end
  end)

  it("takes retry waits as seconds and durations, and stores them in the form of Go", function()
    local waits = { 1, 0.5, "90", "1h30m", "100ms", "1500us", 86400 }
    local job = the_job(assert(conn:enqueue("retried", "", { retry_waits = waits })))
    assert.equal("{1s,500ms,1m30s,1h30m0s,100ms,2ms,24h0m0s}", job.waits)
    assert.equal("{}", the_job(assert(conn:enqueue("retried", "", { retry_waits = {} }))).waits)
  end)

  local BAD_VALUES = {
    { "an empty queue name", { "", "x" }, "queue name is empty" },
    { "a queue name with NUL", { "a\0b", "x" }, "queue name holds a NUL byte" },
    { "a queue name that is not UTF-8", { "\255", "x" }, "queue name is not valid UTF%-8" },
    { "a negative delay", { "q", "x", { delay = -1 } }, "delay %(%-1%) is negative" },
    { "a negative delay as text", { "q", "x", { delay = "-5s" } }, 'delay %("%-5s"%) is negative' },
    { "a delay that is not a number", { "q", "x", { delay = 0 / 0 } }, "is not a number" },
    { "an endless delay", { "q", "x", { delay = math.huge } }, "is too long" },
    { "an unparsable delay", { "q", "x", { delay = "soon" } }, 'delay %("soon"%)' },
    { "an empty delay", { "q", "x", { delay = "" } }, "is empty" },
    { "both delay and after", { "q", "x", { delay = 1, after = 1 } }, "both" },
    { "an earliest time out of range", { "q", "x", { after = 1e300 } }, "out of range" },
    { "an earliest time that is not a number", { "q", "x", { after = 0 / 0 } }, "out of range" },
    { "an earliest time with NUL", { "q", "x", { after = "now\0" } }, "NUL" },
    { "an unparsable wait", { "q", "x", { retry_waits = { "1m", "10 minutes" } } }, 'retry wait 2 %("10 minutes"%)' },
    { "a negative wait", { "q", "x", { retry_waits = { -1 } } }, "retry wait 1 %(%-1%) is negative" },
  }

  for _, case in ipairs(BAD_VALUES) do
    it("returns nil, a message and 22023 for " .. case[1], function()
      for _, call in ipairs { pgq.enqueue, function(...) return conn:enqueue(...) end } do
        local id, message, code = call(unpack(case[2]))
        assert.is_nil(id)
        assert.matches(case[3], message)
        assert.equal("22023", code)
      end
      assert.equal(0, count())
    end)
  end

  it("returns the database's error about an earliest time", function()
    local id, message, code = conn:enqueue("q", "x", { after = "someday" })
    assert.is_nil(id)
    assert.matches("someday", message)
    assert.equal("22007", code)
  end)

  local MISUSES = {
    { "a queue that is no string", { 5, "x" }, "queue name must be a string, not a number" },
    { "no data", { "q" }, "data must be a string, not a nil" },
    { "a table as data", { "q", {} }, "data must be a string, not a table" },
    { "options that are no table", { "q", "x", 10 }, "options must be a table" },
    { "an unknown option", { "q", "x", { dealy = 1 } }, '"dealy" is not an option' },
    { "an option without a name", { "q", "x", { 10 } }, "a number is not an option" },
    { "a delay of the wrong type", { "q", "x", { delay = true } }, "delay must be a number or a string" },
    { "an earliest time of the wrong type", { "q", "x", { after = {} } }, "after must be a number or a string" },
    { "waits that are no list", { "q", "x", { retry_waits = "1m" } }, "retry_waits must be a list" },
    { "named waits", { "q", "x", { retry_waits = { first = 1 } } }, "without holes or names" },
    { "waits with a hole", { "q", "x", { retry_waits = { 1, nil, 3 } } }, "without holes" },
    { "a wait of the wrong type", { "q", "x", { retry_waits = { 1, {} } } }, "retry wait 2 must be" },
  }

  for _, case in ipairs(MISUSES) do
    it("raises an error where the caller stands for " .. case[1], function()
      local calls = {
        function() local id = pgq.enqueue(unpack(case[2], 1, 3)) return id end,
        function() local id = conn:enqueue(unpack(case[2], 1, 3)) return id end,
        function()
          assert(conn:transaction(function(tx)
            local id = tx:enqueue(unpack(case[2], 1, 3)) return id
          end))
        end,
      }
      for i, call in ipairs(calls) do
        local ok, message = pcall(call)
        assert.is_false(ok)
        assert.matches(case[3], message)
        assert.matches("^[^:]*enqueue_lua_spec.lua:%d+: enqueue: ", message, "call " .. i)
      end
      assert.equal(0, count())
    end)
  end

  it("names the migration when the table is missing", function()
    local other = assert(pgq.connect(pg.conninfo))
    assert(other:query("SET search_path = pg_temp"))
    local id, message, code = other:enqueue("q", "x")
    assert.is_nil(id)
    assert.matches("pgq_jobs", message)
    assert.matches("pgq%-lua migrate", message)
    assert.equal("42P01", code)
    other:close()
  end)

  it("works on the connection that the module opens by itself", function()
    local id = assert(pgq.enqueue("own", "x", { delay = "1m" }))
    assert.equal("own", the_job(id).queue_name)
  end)

  it("goes on after the server was restarted between two calls", function()
    for _, mode in ipairs { "fast", "immediate" } do
      assert(pgq.enqueue("before", "x"))
      pg:restart(mode)
      assert(pgq.enqueue("after", mode))
    end
    conn = assert(pgq.connect(pg.conninfo))
    assert.equal(2, assert(conn:query("SELECT count(*) AS n FROM pgq_jobs WHERE queue_name = 'after'"))[1].n)
  end)

  it("says 08006 when the connection breaks during the call, and connects again for the next", function()
    assert(pgq.enqueue("q", "x"))
    pg:psql [[
      CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
      CREATE TRIGGER die BEFORE INSERT ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION die()]]
    local id, message, code = pgq.enqueue("q", "x")
    pg:psql "DROP FUNCTION die() CASCADE"
    assert.is_nil(id)
    assert.matches("broke", message)
    assert.equal("08006", code)
    assert.equal("number", type(assert(pgq.enqueue("q", "x"))))
  end)

  it("says 08001 when there is no server, and connects once there is one", function()
    local url = os.getenv "DATABASE_URL"
    pg:down()
    local id, message, code = pgq.enqueue("q", "x")
    pg:up()
    assert.is_nil(id)
    assert.matches(pg.dir, message, 1, true)
    assert.equal("08001", code)
    assert.equal(url, os.getenv "DATABASE_URL")
    assert(pgq.enqueue("q", "x"))
    conn = assert(pgq.connect(pg.conninfo))
  end)

  it("says when a trigger suppressed the row", function()
    pg:psql [[
      CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
      CREATE TRIGGER drop_row BEFORE INSERT ON pgq_jobs FOR EACH ROW EXECUTE FUNCTION drop_row()]]
    local id, message, code = conn:enqueue("q", "x")
    pg:psql "DROP FUNCTION drop_row() CASCADE"
    assert.is_nil(id)
    assert.matches("trigger", message)
    assert.equal("02000", code)
  end)

  it("works in a plain luajit script, also after the script has removed its globals", function()
    local out = process.check { "luajit", "-e", [[
      local pgq, tostring, write, assert = require "pgq", tostring, io.write, assert
      for _, name in ipairs { "error", "type", "pairs", "ipairs", "pcall", "select", "setmetatable", "getmetatable",
        "tostring", "require", "os", "io", "table", "math", "string" } do
        if type(_G[name]) == "table" then
          for key in pairs(_G[name]) do _G[name][key] = nil end
        end
        if name ~= "type" and name ~= "pairs" then _G[name] = nil end
      end
      local id = assert(pgq.enqueue("script", "from a script", { delay = 1, retry_waits = { 1, "2m" } }))
      local none, message, code = pgq.enqueue("", "x", { delay = 1 })
      write(tostring(id), " ", tostring(none), " ", code, "\n")]] }
    local id = out:match "^(%d+) nil 22023\n$"
    assert.is_truthy(id, out)
    assert.equal("from a script", the_job(tonumber(id)).data)
  end)
end)

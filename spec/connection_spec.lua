local pgq = require "pgq"
local process = require "spec.support.process"
local Postgres = require "spec.support.postgres"
local uv = require "luv"

-- Calls fn, and expects an error that names the line of the wrong call in this file.
local function assert_misuse(pattern, fn)
  local ok, message = pcall(fn)
  assert.is_false(ok)
  assert.matches("^[^:]*connection_spec.lua:%d+: " .. pattern, message)
end

describe("connections from Lua", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    pg:psql "CREATE TABLE things (id int PRIMARY KEY, name text)"
  end)

  teardown(function()
    pg:stop()
  end)

  before_each(function()
    conn = assert(pgq.connect(pg.conninfo))
    assert(conn:query "DELETE FROM things")
    assert(conn:query "DELETE FROM pgq_jobs")
  end)

  after_each(function()
    conn:close()
  end)

  local function count(table_name)
    return tonumber(pg:psql("SELECT count(*) FROM " .. table_name))
  end

  describe("pgq.connect", function()
    it("takes DATABASE_URL when it is called without a connection string, else libpq's defaults", function()
      local script = [[
        local pgq = require "pgq"
        io.write(assert(pgq.connect()):query("SELECT current_setting('application_name') AS name")[1].name)]]
      local function run(env)
        env.DATABASE_URL = env.DATABASE_URL or false
        return process.run { "luajit", "-e", script, env = env }
      end
      assert.equal("pgq-lua", run({ DATABASE_URL = pg.conninfo }).stdout)
      assert.equal("pgq-lua", run({ DATABASE_URL = "", PGHOST = pg.dir, PGUSER = "postgres" }).stdout)
      assert.equal("mine", run({ PGHOST = pg.dir, PGUSER = "postgres", PGAPPNAME = "mine" }).stdout)
      assert.equal("mine", run({ DATABASE_URL = pg.conninfo .. " application_name=mine", PGHOST = "/nowhere" }).stdout)
    end)

    it("takes a URI", function()
      local uri = ("postgresql:///postgres?host=%s&user=postgres"):format(pg.dir)
      local other = assert(pgq.connect(uri))
      assert.equal("postgres", other:query("SELECT current_user::text AS name")[1].name)
      other:close()
    end)

    it("speaks UTF-8 whatever the environment says", function()
      uv.os_setenv("PGCLIENTENCODING", "LATIN1")
      local other, message = pgq.connect(pg.conninfo .. " client_encoding=LATIN1")
      uv.os_unsetenv("PGCLIENTENCODING")
      assert(other, message)
      assert.equal("UTF8", other:query("SHOW client_encoding")[1].client_encoding)
      other:close()
    end)

    it("says where it looked when there is no server", function()
      local none, message, code = pgq.connect("host=/nowhere/at/all dbname=x")
      assert.is_nil(none)
      assert.matches("/nowhere/at/all", message, 1, true)
      assert.is_nil(message:find("[\n\t]"))
      assert.equal("08001", code)
    end)

    it("gives up after the time that the string or the environment sets", function()
      -- A server that accepts and never answers.
      local listener = uv.new_tcp()
      assert(listener:bind("127.0.0.1", 0))
      assert(listener:listen(8, function() end))
      local conninfo = ("host=127.0.0.1 sslmode=disable gssencmode=disable port=%d"):format(listener:getsockname().port)
      local function connect(text, env)
        env.DATABASE_URL = text
        return process.start { "luajit", "-e", "print(select(3, require 'pgq'.connect()))", env = env }
      end
      local by_string = connect(conninfo .. " connect_timeout=2", { PGCONNECT_TIMEOUT = "100" })
      local by_environment = connect(conninfo, { PGCONNECT_TIMEOUT = "2" })
      local by_default, began = connect(conninfo, {}), uv.hrtime()
      assert.equal("08001\n", by_string:wait().stdout)
      assert.equal("08001\n", by_environment:wait().stdout)
      assert.is_true(by_default:is_running() or uv.hrtime() - began > 9e9) -- it has ten seconds
      by_default:kill()
      by_default:wait()
      listener:close()
    end)

    it("notices by keepalives that a server has stopped answering, unless the string says otherwise", function()
      local ffi = require "ffi"
      ffi.cdef "int getsockopt(int socket, int level, int option, int *value, unsigned int *length);"
      local server = Postgres.start { tcp = true }
      finally(function() server:stop() end)
      -- TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT of the connection's socket.
      local function keepalives(conninfo)
        local tcp = assert(pgq.connect(conninfo))
        local value, length, found = ffi.new "int[1]", ffi.new("unsigned int[1]", 4), {}
        for option = 4, 6 do
          assert.equal(0, ffi.C.getsockopt(tcp._handle:fd(), 6, option, value, length))
          found[#found + 1] = value[0]
        end
        tcp:close()
        return table.concat(found, " ")
      end
      assert.equal("10 5 3", keepalives(server.tcp_conninfo))
      assert.equal("77 5 3", keepalives(server.tcp_conninfo .. " keepalives_idle=77"))
    end)

    it("never shows a password, whatever is wrong with the connection string", function()
      for _, conninfo in ipairs {
        "postgres://ann:hu@sh4@127.0.0.1:1/app", "postgres://ann:hu/sh4@127.0.0.1:1/app",
        "postgres://ann:hu?/sh4@127.0.0.1:1/app", "postgres://ann:sh4%zz@127.0.0.1:1/app",
        "postgres://ann:sh4@[127.0.0.1:1/app", "postgres://ann:sh4@127.0.0.1:1/app?sh4=1",
        "postgres://ann@127.0.0.1:1/app?password=sh4&sh4", "postgres://ann:hush@127.0.0.1:1/app?password=hu@sh4",
        "host=127.0.0.1 port=1 password=hu sh4", "host=127.0.0.1 port=1 password=hu sh4=x",
        "host=127.0.0.1 port=1 password='sh4", "password=sh4\0 port=1", "sh4", "postgres//ann:sh4@127.0.0.1:1/app",
        "host=127.0.0.1 port=1 user=ann password=sh4", "postgres://ann:sh4@127.0.0.1:1/app", "ann:sh4@127.0.0.1",
      } do
        local none, message, code = pgq.connect(conninfo)
        assert.is_nil(none)
        assert.is_nil(message:find("sh4", 1, true), conninfo .. " gave: " .. message)
        assert.is_true(code == "08001" or code == "22023", code)
      end
      local _, message, code = pgq.connect("password=hu sh4")
      assert.matches("host=db.example.com dbname=app", message, 1, true)
      assert.equal("22023", code)
    end)

    it("raises an error for a connection string that is not a string", function()
      assert_misuse("connect: .* a table", function() local c = pgq.connect({}) return c end)
    end)

    it("keeps the version and the name of the database, but no password, in reach of print", function()
      local other = assert(pgq.connect(pg.conninfo .. " password=sh4"))
      assert.matches("postgres at " .. pg.dir, tostring(other), 1, true)
      assert.is_nil(tostring(other):find("sh4", 1, true))
      other:close()
      assert.matches("closed", tostring(other))
      assert.matches("^%d+%.%d+%.%d+$", pgq._VERSION)
    end)
  end)

  describe("conn:query", function()
    local function one(sql, ...)
      local rows = assert(conn:query(sql, ...))
      assert.equal(1, #rows)
      return rows[1]
    end

    it("returns rows by column name, and how many there were", function()
      local rows = assert(conn:query("INSERT INTO things VALUES (1, 'a'), (2, NULL) RETURNING id, name"))
      assert.same({ { id = 1, name = "a" }, { id = 2, name = pgq.null }, affected = 2 }, rows)
      assert.same({ affected = 2 }, conn:query("UPDATE things SET name = 'b'"))
      assert.same({ affected = 0 }, conn:query("SELECT * FROM things WHERE id = 99"))
      assert.same({ affected = 0 }, conn:query("SET application_name = 'x'"))
      assert.same({ affected = 0 }, conn:query(""))
    end)

    it("gives values the Lua type that fits", function()
      assert.same({
        yes = true, no = false, i2 = -7, i4 = 2147483647, i8 = 9007199254740991, f4 = 1.5, f8 = 0.1, inf = math.huge,
        num = "12345678901234567890.5", txt = "grün", bytes = "\0\255\\x", ts = "2030-01-01 00:00:00", arr = "{1,2}",
        json = '{"a": 1}', nothing = pgq.null,
      }, one [[SELECT true AS yes, false AS no, (-7)::int2 AS i2, 2147483647::int4 AS i4,
        9007199254740991::int8 AS i8, 1.5::float4 AS f4, 0.1::float8 AS f8, 'Infinity'::float8 AS inf,
        12345678901234567890.5 AS num, 'grün' AS txt, '\x00ff5c78'::bytea AS bytes, '2030-01-01'::timestamp AS ts,
        '{1,2}'::int[] AS arr, '{"a": 1}'::json AS json, NULL AS nothing]])
      local nan = one("SELECT 'NaN'::float8 AS nan").nan
      assert.is_true(nan ~= nan)
    end)

    it("gives a bigint that a number cannot hold exactly as its digits", function()
      assert.same({ a = "9007199254740993", b = "-9223372036854775808", c = -9007199254740991 },
        one("SELECT 9007199254740993::int8 AS a, (-9223372036854775808)::int8 AS b, (-9007199254740991)::int8 AS c"))
    end)

    it("gives bytes also when the session writes them in the old form", function()
      assert(conn:query("SET bytea_output = 'escape'"))
      assert.equal("\0\255\\a'", one("SELECT '\\x00ff5c6127'::bytea AS b").b)
    end)

    it("sends parameters as parameters", function()
      assert.same({ a = "'; DROP TABLE things; --", b = "$2", c = "grün\n\\" },
        one("SELECT $1::text AS a, $2::text AS b, $3::text AS c", "'; DROP TABLE things; --", "$2", "grün\n\\"))
      assert.same({ t = true, f = false, n = true },
        one("SELECT $1::bool AS t, $2::bool AS f, $3::text IS NULL AS n", true, false, nil))
      assert.same({ i = 3, neg = -5, zero = 0, text = "7" },
        one("SELECT $1::int AS i, $2::int8 AS neg, $3::int AS zero, $4::text AS text", 3, -5, -0, 7))
    end)

    it("sends integers without an exponent and other numbers to the last digit", function()
      local function text_of(number)
        return one("SELECT $1::text AS text", number).text
      end
      assert.equal("3", text_of(3))
      assert.equal("-100000000000000000", text_of(-1e17))
      assert.equal("9007199254740992", text_of(2 ^ 53))
      assert.equal("0.1", text_of(0.1))
      assert.equal("Infinity", text_of(math.huge))
      assert.equal("NaN", text_of(0 / 0))
      for _, number in ipairs { 0.1, 1 / 3, math.pi, 1e300, 5e-324, 123456.789, -2 ^ -30 } do
        assert.equal(number, one("SELECT $1::float8 AS number", number).number)
      end
    end)

    it("sends bytes as bytea, and refuses a NUL byte in a text", function()
      local bytes = "\0\1\255'\\" .. ("\0"):rep(1000)
      assert.equal(bytes, one("SELECT $1::bytea AS b", pgq.bytea(bytes)).b)
      assert.equal("", one("SELECT $1::bytea AS b", pgq.bytea("")).b)
      local none, message, code = conn:query("SELECT $1::int, $2::text", 1, "a\0b")
      assert.is_nil(none)
      assert.matches("parameter 2 holds a NUL byte", message)
      assert.equal("22021", code)
      none, message, code = conn:query("SELECT 1\0")
      assert.is_nil(none)
      assert.matches("NUL", message)
      assert.equal("22021", code)
    end)

    it("returns nil, the message and the SQLSTATE of the database", function()
      assert(conn:query("INSERT INTO things VALUES (1, 'a')"))
      local none, message, code = conn:query("INSERT INTO things VALUES (1, 'b')")
      assert.is_nil(none)
      assert.matches("things_pkey", message)
      assert.equal("23505", code)
      none, message, code = conn:query("SELEKT")
      assert.is_nil(none)
      assert.matches("SELEKT", message)
      assert.equal("42601", code)
    end)

    it("stays usable after several statements in one text, and after COPY", function()
      assert(conn:query("INSERT INTO things SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n"))
      for _, case in ipairs {
        { "SELECT 1; SELECT 2", "42601" }, { "COPY things FROM STDIN", "0A000" }, { "COPY things TO STDOUT", "0A000" },
      } do
        local none, message, code = conn:query(case[1])
        assert.is_nil(none)
        assert.equal("string", type(message))
        assert.equal(case[2], code)
        assert.equal(1, one("SELECT 1 AS n").n)
      end
    end)

    it("raises an error where the caller stands for wrong types", function()
      assert_misuse("query: .* a number", function() local r = conn:query(5) return r end)
      assert_misuse("query: parameter 1 is a thread", function()
        local r = conn:query("SELECT $1", coroutine.create(print))
        return r
      end)
      assert_misuse("query: parameter 2 is a function", function()
        local r = conn:query("SELECT $1, $2", 1, print)
        return r
      end)
      assert_misuse(".*colon", function() local r = conn.query("SELECT 1") return r end)
      assert_misuse("bytea", function() local r = pgq.bytea(5) return r end)
    end)

    it("prints nothing, notices included", function()
      local result = process.run { "luajit", "-e", [[
        local conn = assert(require "pgq".connect())
        assert(conn:query "DROP TABLE IF EXISTS no_such_table")
        assert(conn:query "DO $$ BEGIN RAISE WARNING 'careful'; END $$")]], env = { DATABASE_URL = pg.conninfo } }
      assert.same({ 0, "", "" }, { result.status, result.stdout, result.stderr })
    end)

    it("holds no memory for results and connections that are no longer used", function()
      local function resident_kb()
        for line in io.lines("/proc/self/status") do
          local kb = line:match "^VmRSS:%s+(%d+)"
          if kb then
            return tonumber(kb)
          end
        end
      end
      local function work()
        for _ = 1, 10 do
          assert(conn:query("SELECT repeat('x', 2000000) AS t, decode(repeat('00', 500000), 'hex') AS b"))
          assert.is_nil((conn:query("SELECT repeat('x', 100000)::int")))
        end
        collectgarbage()
        collectgarbage()
      end
      work()
      local before = resident_kb()
      for _ = 1, 3 do
        work()
      end
      local grown = resident_kb() - before
      -- A leak would be of 90 MB. The address sanitizer keeps freed memory for a while.
      assert.is_true(grown < 30000 or os.getenv "PGQ_ASAN_LIBRARY" ~= nil, ("grew by %d kB"):format(grown))
      for _ = 1, 20 do
        assert(pgq.connect(pg.conninfo))
      end
      collectgarbage()
      collectgarbage()
      -- This connection and psql's own.
      local open
      for _ = 1, 100 do
        open = tonumber(pg:psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"))
        if open <= 3 then
          break
        end
      end
      assert.is_true(open <= 3, open .. " connections are open")
    end)
  end)

  describe("conn:transaction", function()
    it("commits the statements, and returns true and the function's results", function()
      local results = { conn:transaction(function(tx)
        assert(tx:query("INSERT INTO things VALUES (1, 'a')"))
        assert(tx:enqueue("mail", "x"))
        assert.equal(0, count("things"))
        assert.equal(0, count("pgq_jobs"))
        return "one", nil, 3
      end) }
      assert.same({ true, "one", nil, 3 }, results)
      assert.equal(1, count("things"))
      assert.equal(1, count("pgq_jobs"))
      assert.same({ true }, { conn:transaction(function() end) })
      assert.same({ true, false }, { conn:transaction(function() return false end) })
    end)

    it("rolls back, and returns all that the function returned, when that begins with nil or false", function()
      for _, first in ipairs { "nil", "false" } do
        local value = nil
        if first == "false" then
          value = false
        end
        local a, b, c = conn:transaction(function(tx)
          assert(tx:query("INSERT INTO things VALUES (1, 'a')"))
          assert(tx:enqueue("mail", "x"))
          return value, "no", "my code"
        end)
        assert.equal(value, a)
        assert.equal("no", b)
        assert.equal("my code", c)
        assert.equal(0, count("things"))
        assert.equal(0, count("pgq_jobs"))
      end
    end)

    it("rolls back and raises again the very error that the function raised", function()
      local thrown = setmetatable({}, { __tostring = function() error("broken") end })
      local ok, caught = pcall(conn.transaction, conn, function(tx)
        assert(tx:enqueue("mail", "x"))
        error(thrown)
      end)
      assert.is_false(ok)
      assert.is_true(rawequal(thrown, caught))
      assert.equal(0, count("pgq_jobs"))
      ok, caught = pcall(conn.transaction, conn, function() error("text", 0) end)
      assert.is_false(ok)
      assert.equal("text", caught)
      assert.equal(1, conn:query("SELECT 1 AS n")[1].n)
    end)

    it("returns the first error if the function ignored it", function()
      local done, message, code = conn:transaction(function(tx)
        assert(tx:query("INSERT INTO things VALUES (1, 'a')"))
        tx:query("SELECT 1/0")
        local none, _, later = tx:query("SELECT 2")
        assert.is_nil(none)
        assert.equal("25P02", later)
        assert.equal("25P02", (select(3, tx:enqueue("mail", "x"))))
        return "fine"
      end)
      assert.is_nil(done)
      assert.matches("division by zero", message)
      assert.equal("22012", code)
      assert.equal(0, count("things"))
      assert.equal(1, conn:query("SELECT 1 AS n")[1].n)
    end)

    it("commits after an error that a savepoint has undone", function()
      assert.is_true(conn:transaction(function(tx)
        assert(tx:query("SAVEPOINT here"))
        assert.is_nil((tx:query("SELECT 1/0")))
        assert(tx:query("ROLLBACK TO here"))
        assert(tx:enqueue("mail", "x"))
      end))
      assert.equal(1, count("pgq_jobs"))
    end)

    it("goes on after arguments that were refused before anything was sent", function()
      assert.is_true(conn:transaction(function(tx)
        assert.is_nil((tx:enqueue("", "x")))
        assert(tx:enqueue("mail", "x"))
      end))
      assert.equal(1, count("pgq_jobs"))
    end)

    it("returns the error of a COMMIT that the database refuses", function()
      pg:psql "CREATE TABLE later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
      local done, message, code = conn:transaction(function(tx)
        assert(tx:query("INSERT INTO later VALUES (1), (1)"))
        assert(tx:enqueue("mail", "x"))
      end)
      assert.is_nil(done)
      assert.matches("later_id_key", message)
      assert.equal("23505", code)
      assert.equal(0, count("pgq_jobs"))
    end)

    it("refuses statements that would end the transaction, and then rolls it back", function()
      for _, sql in ipairs { "COMMIT", "commit and chain", "END", "ABORT", "ROLLBACK", "rollback work", "PREPARE TRANSACTION 'x'",
        "-- so\n /* or /* so **/ */ ; Commit" } do
        local inner
        local done, message, code = conn:transaction(function(tx)
          assert(tx:enqueue("mail", "x"))
          inner = { tx:query(sql) }
          assert.same(inner, { tx:query "SELECT 1" })
        end)
        assert.is_nil(done)
        assert.matches("^the transaction was rolled back: %u+.- is refused in the function of a transaction", message)
        assert.same({ nil, message:match ": (.*)", "2D000" }, inner)
        assert.equal("2D000", code)
        assert.equal(0, count("pgq_jobs"))
      end
    end)

    it("does not take other statements for such statements", function()
      assert.is_true(conn:transaction(function(tx)
        for _, sql in ipairs { "SAVEPOINT a", "ROLLBACK WORK TO a", "rollback to savepoint a", "/* COMMIT */ SELECT 1",
          "RELEASE a", "PREPARE tx_commit AS SELECT 1", "SELECT 1 AS commit", "DEALLOCATE tx_commit" } do
          assert(tx:query(sql))
        end
      end))
    end)

    it("returns an error if the caller has begun a transaction", function()
      assert(conn:query("BEGIN"))
      local called = false
      local done, message, code = conn:transaction(function() called = true end)
      assert.is_nil(done)
      assert.matches("BEGIN of your own", message)
      assert.equal("25001", code)
      assert.is_false(called)
      assert(conn:query("ROLLBACK"))
    end)

    it("raises an error for wrong use: nested, direct, ended, without a function", function()
      local kept
      conn:transaction(function(tx)
        kept = tx
        assert_misuse(".*do not nest", function() local t = conn:transaction(function() end) return t end)
        assert_misuse(".*do not nest", function() local t = tx:transaction(function() end) return t end)
        assert_misuse(".*use tx:query", function() local r = conn:query("SELECT 1") return r end)
        assert_misuse(".*use tx:enqueue", function() local id = conn:enqueue("mail", "x") return id end)
        assert_misuse(".*colon", function() local r = tx.query("SELECT 1") return r end)
      end)
      assert_misuse(".*has ended", function() local r = kept:query("SELECT 1") return r end)
      assert_misuse(".*has ended", function() local id = kept:enqueue("mail", "x") return id end)
      assert_misuse("transaction: .* a string", function() local r = conn:transaction("x") return r end)
      assert.equal(0, count("pgq_jobs"))
    end)

    it("says 08006 when the connection breaks in it, and nothing is done", function()
      local done, message, code = conn:transaction(function(tx)
        assert(tx:enqueue("mail", "x"))
        local none, _, inner = tx:query("SELECT pg_terminate_backend(pg_backend_pid())")
        assert.is_nil(none)
        assert.equal("08006", inner)
      end)
      assert.is_nil(done)
      assert.equal("string", type(message))
      assert.equal("08006", code)
      assert.equal(0, count("pgq_jobs"))
    end)
  end)

  it("returns nil, a message and 08003 after close", function()
    conn:close()
    conn:close()
    local results = {
      { conn:query("SELECT 1") }, { conn:enqueue("mail", "x") }, { conn:transaction(function() end) },
    }
    for _, result in ipairs(results) do
      assert.is_nil(result[1])
      assert.equal("the connection is closed", result[2])
      assert.equal("08003", result[3])
    end
  end)

  it("returns 08006 on a connection that the server has ended", function()
    local pid = conn:query("SELECT pg_backend_pid() AS pid")[1].pid
    pg:psql(("SELECT pg_terminate_backend(%d, 5000)"):format(pid))
    for _ = 1, 2 do
      local none, message, code = conn:enqueue("mail", "x")
      assert.is_nil(none)
      assert.matches("connection", message)
      assert.equal("08006", code)
    end
    assert.equal("08006", (select(3, conn:query("SELECT 1"))))
    assert.matches("broken", tostring(conn))
  end)
end)

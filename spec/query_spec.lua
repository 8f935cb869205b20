-- pgq.query and pgq.transaction in a plain script, where they block, on the connection that the module keeps.

local pgq = require "pgq"
local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

-- Calls fn, and expects an error that names the line of the wrong call in this file.
local function assert_misuse(pattern, fn)
  local ok, message = pcall(fn)
  assert.is_false(ok)
  assert.matches("^[^:]*query_spec.lua:%d+: " .. pattern, message)
end

describe("pgq.query in a plain script", function()
  local pg

  setup(function()
    pg = Postgres.start { migrated = true }
    pg:psql "CREATE TABLE things (id int PRIMARY KEY, name text)"
    uv.os_setenv("DATABASE_URL", pg.conninfo)
  end)

  teardown(function()
    uv.os_unsetenv("DATABASE_URL")
    pg:stop()
  end)

  before_each(function() pg:psql "TRUNCATE things; TRUNCATE pgq_jobs" end)

  local function one(sql, ...)
    return assert(pgq.query(sql, ...))[1]
  end

  local function pid() return one("SELECT pg_backend_pid() AS pid").pid end

  -- A closed connection is still seen until the server has noticed the end.
  local function has_one_connection()
    wait.till("the others to be closed", 30, function()
      local count = pg:psql "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgq-lua'"
      return count == "1", count
    end)
  end

  it("returns rows, how many there were, and errors with their codes", function()
    assert.same({ { id = 1, name = pgq.null }, affected = 1 },
      pgq.query("INSERT INTO things VALUES ($1, $2) RETURNING *", 1, pgq.null))
    local none, message, code = pgq.query("INSERT INTO things VALUES (1, 'again')")
    assert.is_nil(none)
    assert.matches("things_pkey", message)
    assert.equal("23505", code)
    assert.equal("42601", (select(3, pgq.query("SELEKT"))))
    assert.equal("0A000", (select(3, pgq.query("COPY things TO STDOUT"))))
  end)

  it("keeps one connection, the one of pgq.enqueue, and replaces it when it broke", function()
    local first = pid()
    assert(pgq.enqueue("q", "x"))
    assert.equal(first, pid())
    has_one_connection()
    pg:psql(("SELECT pg_terminate_backend(%d, 30000)"):format(first))
    local second = pid()
    assert.is_true(first ~= second)
    local none, _, code = pgq.query("SELECT pg_terminate_backend(pg_backend_pid())")
    assert.is_nil(none)
    assert.equal("08006", code)
    assert.is_true(second ~= pid())
    has_one_connection()
  end)

  it("commits or rolls back a transaction, as conn:transaction does", function()
    assert.same({ true, "done" }, { pgq.transaction(function(tx)
      assert(tx:query("INSERT INTO things VALUES (1, 'a')"))
      assert(tx:enqueue("q", "x"))
      assert(tx:enqueue_many("q", { "y", "z" }))
      return "done"
    end) })
    assert.same({ nil, "no" }, { pgq.transaction(function(tx)
      assert(tx:query("INSERT INTO things VALUES (2, 'b')"))
      return nil, "no"
    end) })
    local thrown = {}
    local ok, caught = pcall(pgq.transaction, function(tx)
      assert(tx:query("INSERT INTO things VALUES (3, 'c')"))
      error(thrown)
    end)
    assert.is_false(ok)
    assert.equal(thrown, caught)
    local none, message, code = pgq.transaction(function(tx) tx:query "SELECT 1/0" end)
    assert.is_nil(none)
    assert.matches("division by zero", message)
    assert.equal("22012", code)
    assert.equal("1", pg:psql "SELECT string_agg(id::text, ',') FROM things")
    assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("uses other connections inside of a transaction, up to the size of the pool", function()
    assert.is_true(pgq.transaction(function(tx)
      assert(tx:query("INSERT INTO things VALUES (1, 'a')"))
      assert.equal(0, one("SELECT count(*) AS n FROM things").n)
      assert(pgq.enqueue("q", "x"))
      assert.is_true(tx:query("SELECT pg_backend_pid() AS pid")[1].pid ~= pid())
    end))
    has_one_connection()
    local function nest(depth)
      if depth == 0 then return pgq.query("SELECT 1") end
      local results = {}
      assert(pgq.transaction(function() results = { nest(depth - 1) } end))
      return unpack(results, 1, 3)
    end
    assert.equal(1, #nest(4))
    local none, message, code = nest(5)
    assert.is_nil(none)
    assert.equal("all 5 connections of the pool are taken", message)
    assert.equal("53300", code)
    assert(pgq.query("SELECT 1"))
    has_one_connection()
  end)

  it("leaves no transaction open: BEGIN and COMMIT are refused, and point to pgq.transaction", function()
    for sql, expected in pairs {
      BEGIN = "25001", ["START TRANSACTION"] = "25001", COMMIT = "25P01", ROLLBACK = "25P01", END = "25P01",
      ["begin read only"] = "25001",
    } do
      local none, message, code = pgq.query(sql)
      assert.is_nil(none)
      assert.matches("pgq.transaction", message, 1, true)
      assert.equal(expected, code, sql)
      assert(pgq.query("INSERT INTO things VALUES (1, 'a')"))
      assert.equal("1", pg:psql "DELETE FROM things RETURNING id")
    end
  end)

  it("refuses LISTEN", function()
    local none, message, code = pgq.query("LISTEN bell")
    assert.is_nil(none)
    assert.matches("LISTEN is refused on a connection of the pool", message)
    assert.equal("0A000", code)
    assert.equal(0, one("SELECT count(*) AS n FROM pg_listening_channels()").n)
    assert.is_true(pgq.transaction(function(tx)
      assert.equal("0A000", (select(3, tx:query("LISTEN bell"))))
      assert(tx:query("INSERT INTO things VALUES (1, 'a')"))
    end))
    assert.equal(0, one("SELECT count(*) AS n FROM pg_listening_channels()").n)
    assert.equal("1", pg:psql "SELECT count(*) FROM things")
  end)

  it("removes all that a statement leaves in the session: settings, temporary tables, prepared statements, locks", function()
    local first = pid()
    for _, case in ipairs {
      { "SET work_mem = '1234kB'", "SELECT current_setting('work_mem') = '1234kB' AS left" },
      { "SELECT set_config('work_mem', '1234kB', false)", "SELECT current_setting('work_mem') = '1234kB' AS left" },
      { "CREATE TEMP TABLE mine (id int)", "SELECT to_regclass('mine') IS NOT NULL AS left" },
      { "CREATE TEMP TABLE mine AS SELECT 1 AS id", "SELECT to_regclass('mine') IS NOT NULL AS left" },
      { "SELECT 1 AS id INTO TEMP mine", "SELECT to_regclass('mine') IS NOT NULL AS left" },
      { "PREPARE mine AS SELECT 1", "SELECT count(*) > 0 AS left FROM pg_prepared_statements" },
      { "SELECT pg_advisory_lock(7)", "SELECT count(*) > 0 AS left FROM pg_locks WHERE locktype = 'advisory'" },
      { "SELECT pg_advisory_lock(7), 1/0", "SELECT count(*) > 0 AS left FROM pg_locks WHERE locktype = 'advisory'" },
      { "DO $$ BEGIN SET work_mem = '1234kB'; END $$", "SELECT current_setting('work_mem') = '1234kB' AS left" },
      { "DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) > 0 AS left FROM pg_cursors WHERE name = 'mine'" },
    } do
      pgq.query(case[1])
      assert.is_false(one(case[2]).left, case[1])
      pgq.transaction(function(tx) tx:query(case[1]) end)
      assert.is_false(one(case[2]).left, case[1] .. " in a transaction")
    end
    assert.equal(first, pid())
    assert.equal("pgq-lua", one("SHOW application_name").application_name)
  end)

  it("does not keep a connection that had a large row or parameter, whose memory libpq never gives back", function()
    local first = pid()
    assert(pgq.query("SELECT repeat('x', 8000) AS t FROM generate_series(1, 2000)"))
    assert.equal(first, pid())
    assert(pgq.query("SELECT repeat('x', 9000000) AS t"))
    local second = pid()
    assert.is_true(first ~= second)
    assert(pgq.query("SELECT length($1)", ("x"):rep(9000000)))
    local third = pid()
    assert.is_true(second ~= third)
    assert(pgq.enqueue("q", ("x"):rep(9000000)))
    assert.is_true(third ~= pid())
    has_one_connection()
  end)

  it("raises an error where the caller stands for wrong use", function()
    assert_misuse("query: the statement must be a string, not a nil", function() local r = pgq.query() return r end)
    assert_misuse("query: parameter 1 is a function", function() local r = pgq.query("SELECT $1", print) return r end)
    assert_misuse("query: parameter 1, element %[1%] is a thread", function()
      local r = pgq.query("SELECT $1", { coroutine.create(print) })
      return r
    end)
    assert_misuse("transaction: a function is needed, not a string", function()
      local r = pgq.transaction("SELECT 1")
      return r
    end)
    local kept
    pgq.transaction(function(tx)
      kept = tx
      assert_misuse("transactions do not nest", function() local t = tx:transaction(print) return t end)
    end)
    assert_misuse("the transaction has ended", function() local r = kept:query("SELECT 1") return r end)
    assert(pgq.query("SELECT 1"))
  end)

  it("says 08001 when there is no server, and connects once there is one", function()
    pg:down()
    local none, message, code = pgq.query("SELECT 1")
    local also, _, its_code = pgq.transaction(error)
    pg:up()
    assert.is_nil(none)
    assert.matches(pg.dir, message, 1, true)
    assert.same({ "08001", nil, "08001" }, { code, also, its_code })
    assert(pgq.query("SELECT 1"))
  end)

  it("works without luv, and after the script has removed its globals", function()
    local out = process.check { "luajit", "-e", [[
      package.preload.luv = function() error "no luv here" end
      local pgq, write, assert = require "pgq", io.write, assert
      for _, name in ipairs { "error", "type", "pairs", "ipairs", "pcall", "select", "setmetatable", "getmetatable",
        "tostring", "require", "os", "io", "table", "math", "string" } do
        if type(_G[name]) == "table" then
          for key in pairs(_G[name]) do _G[name][key] = nil end
        end
        if name ~= "type" and name ~= "pairs" then _G[name] = nil end
      end
      assert(pgq.transaction(function(tx)
        assert(tx:query("INSERT INTO things VALUES (1, $1)", "x"))
        tx:enqueue_many("q", { "a", "b" })
      end))
      write(assert(pgq.query("SELECT name, $1 AS j FROM things", pgq.json { 1, { a = 2 } }))[1].j, "\n")]] }
    assert.equal('[1, {"a": 2}]\n', out)
  end)
end)

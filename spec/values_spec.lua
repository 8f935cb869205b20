-- Lua values as parameters, and values of Postgres in rows.

local ffi = require "ffi"
local pgq = require "pgq"
local Postgres = require "spec.support.postgres"

describe("values from Lua", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    conn = assert(pgq.connect(pg.conninfo))
  end)

  teardown(function()
    conn:close()
    pg:stop()
  end)

  local function one(sql, ...)
    local rows = assert(conn:query(sql, ...))
    assert.equal(1, #rows)
    return rows[1]
  end

  -- Calls fn, and expects an error that names the line of the wrong call in this file.
  local function assert_misuse(message, fn)
    local ok, problem = pcall(fn)
    assert.is_false(ok)
    assert.equal(message, (problem:gsub("^[^:]*values_spec.lua:%d+: ", "")))
    assert.matches("^[^:]*values_spec.lua:%d+: ", problem)
  end

  local function refuse(message, ...)
    local arguments, n = { ... }, select("#", ...)
    assert_misuse(message, function()
      local rows = conn:query(unpack(arguments, 1, n))
      return rows
    end)
  end

  describe("NULL", function()
    it("is pgq.null in rows, whatever the type, and as a parameter", function()
      assert.same({ a = pgq.null, b = pgq.null, c = pgq.null, d = 1 },
        one("SELECT NULL AS a, NULL::bytea AS b, NULL::int8 AS c, 1 AS d"))
      assert.same({ a = pgq.null, yes = true }, one("SELECT $1::int AS a, $2::text IS NULL AS yes", pgq.null, pgq.null))
      assert.same({ a = pgq.null }, one("SELECT $1::int AS a", nil))
    end)

    it("is the null of lua-cjson, and nothing else is", function()
      assert.equal(require("cjson").null, pgq.null)
      assert.is_true(pgq.null ~= nil and pgq.null ~= false)
    end)
  end)

  describe("booleans", function()
    it("are booleans, also where the server has nothing to infer from", function()
      assert.same({ a = true, b = "boolean", c = "{\"x\": false}" },
        one("SELECT $1 AS a, pg_typeof($1)::text AS b, jsonb_build_object('x', $2)::text AS c", true, false))
      assert.equal("true", one("SELECT $1::text AS t", true).t)
    end)
  end)

  describe("integers", function()
    it("keep all digits beyond 2^53, from 64-bit integers and as digits", function()
      assert.same({ a = "9223372036854775807", b = "-9223372036854775808", c = 42 },
        one("SELECT $1::int8 AS a, $2::int8 AS b, $3::int8 AS c", 9223372036854775807LL, -9223372036854775807LL - 1, 42LL))
      assert.equal("18446744073709551615", one("SELECT $1::numeric AS n", 18446744073709551615ULL).n)
      assert.equal("9007199254740993", one("SELECT $1::int8 AS n", "9007199254740993").n)
      assert.equal("9007199254740992", one("SELECT $1::int8 AS n", 2 ^ 53).n)
      assert.equal(2 ^ 53 - 1, one("SELECT $1::int8 AS n", 2 ^ 53 - 1).n)
      assert.equal("4611686018427387904", one("SELECT $1::int8 AS n", 2 ^ 62).n)
    end)

    it("are digits in the ids of jobs beyond 2^53", function()
      assert(conn:query "SELECT setval('pgq_jobs_id_seq', 9007199254740990)")
      assert.equal(9007199254740991, assert(conn:enqueue("q", "x")))
      assert.equal("9007199254740992", assert(conn:enqueue("q", "x")))
      assert.same({ "9007199254740993", "9007199254740994" }, conn:enqueue_many("q", { "x", "y" }))
    end)

    it("are no other values of the ffi library", function()
      refuse("query: parameter 1 is a cdata; give nil, pgq.null, a boolean, a number, a string, a list, "
        .. "pgq.bytea(string) or pgq.json(value)", "SELECT $1", ffi.new("int[1]"))
    end)
  end)

  describe("lists", function()
    local function back(type, list)
      return one("SELECT $1::" .. type .. "::text AS t", list).t
    end

    it("become arrays of the type that the server expects", function()
      assert.equal("{1,2,3}", back("int[]", { 1, 2, 3 }))
      assert.equal("{0.1,NaN,-Infinity,1e+300}", back("float8[]", { 0.1, 0 / 0, -math.huge, 1e300 }))
      assert.equal("{t,f,NULL}", back("bool[]", { true, false, pgq.null }))
      assert.equal("{9223372036854775807}", back("int8[]", { 9223372036854775807LL }))
      assert.equal("{}", back("int[]", {}))
      assert.equal("{{1,2},{3,4}}", back("int[]", { { 1, 2 }, { 3, 4 } }))
      assert.equal("{{{{{{1}}}}}}", back("int[]", { { { { { { 1 } } } } } }))
      assert.equal(2, one("SELECT count(*) AS n FROM (VALUES (1), (2), (3)) v (x) WHERE x = ANY ($1)", { 1, 3 }).n)
    end)

    it("keep every text as it is", function()
      local texts = { "", " ", "NULL", "null", 'a"b', "a\\b", "{", "}", ",", "grün\n\t", "'", "\\", '\\"', "{1,2}" }
      local rows = assert(conn:query("SELECT x FROM unnest($1::text[]) WITH ORDINALITY u (x, n) ORDER BY n", texts))
      for i, text in ipairs(texts) do
        assert.equal(text, rows[i].x)
      end
      assert.equal(#texts, #rows)
    end)

    it("keep bytes, and are then arrays of bytea", function()
      local all = {}
      for byte = 0, 255 do all[#all + 1] = string.char(byte) end
      local bytes = table.concat(all)
      local row = one("SELECT $1[1] AS a, $1[2] AS b, $1[3] AS c, pg_typeof($1)::text AS type",
        { pgq.bytea(bytes), pgq.null, pgq.bytea "" })
      assert.same({ a = bytes, b = pgq.null, c = "", type = "bytea[]" }, row)
    end)

    it("of pgq.json are arrays of jsonb", function()
      assert.same({ t = '{"{\\"a\\": \\"\\\\\\"\\"}",NULL}', type = "jsonb[]" },
        one("SELECT $1::text AS t, pg_typeof($1)::text AS type", { pgq.json { a = '"' }, pgq.null }))
    end)

    it("of 100,000 elements pass", function()
      local list = {}
      for i = 1, 100000 do list[i] = i end
      assert.equal(5000050000, one("SELECT sum(x) AS n FROM unnest($1::int8[]) x", list).n + 0)
    end)

    it("with holes or other keys are refused, and the parameter is named", function()
      local itself = { 1 }
      itself[2] = itself
      local deep = {}
      deep[1] = { deep }
      refuse('query: parameter 2 has the key "name": it is no list; pass it as pgq.json(value)',
        "SELECT $1, $2", 1, { name = "ann" })
      refuse('query: parameter 1, element [2] has the key "x": it is no list; pass it as pgq.json(value)',
        "SELECT $1", { { 1 }, { x = 1 } })
      refuse("query: parameter 1 has nothing at 2 of 2: a list has no holes; write pgq.null for NULL",
        "SELECT $1", { 1, nil, 3 })
      refuse("query: parameter 1 has nothing at 1 of 1: a list has no holes; write pgq.null for NULL",
        "SELECT $1", { [1.5] = 1 })
      refuse("query: parameter 1, element [2] is a list where others are values; pass a structure as pgq.json(value)",
        "SELECT $1", { 1, { 2 } })
      refuse("query: parameter 1, element [2] is a value where others are lists", "SELECT $1", { { 1 }, 2 })
      refuse("query: parameter 1, element [2][1] is a list where others are values; pass a structure as pgq.json(value)",
        "SELECT $1", { { 1 }, { { 2 } } })
      refuse("query: parameter 1, element [2] has 1 elements, but those before it 2: Postgres' arrays are rectangular",
        "SELECT $1", { { 1, 2 }, { 3 } })
      refuse("query: parameter 1, element [1][1][1][1][1][1] is a list in six others; Postgres has arrays of six "
        .. "dimensions at most", "SELECT $1", { { { { { { { 1 } } } } } } })
      refuse("query: parameter 1, element [1][1] contains itself", "SELECT $1", deep)
      refuse("query: parameter 1, element [2] is a list where others are values; pass a structure as pgq.json(value)",
        "SELECT $1", { 1, itself })
      refuse("query: parameter 1, element [2] is a function, which Postgres does not have", "SELECT $1", { 1, print })
      refuse("query: parameter 1, element [2] differs from those before it: pgq.bytea and pgq.json do not mix with "
        .. "other values", "SELECT $1", { "a", pgq.bytea "b" })
      refuse("query: parameter 1, element [2] differs from those before it: pgq.bytea and pgq.json do not mix with "
        .. "other values", "SELECT $1", { pgq.json {}, pgq.bytea "b" })
      local none, message, code = conn:query("SELECT $1::text[]", { "a", "b\0c" })
      assert.is_nil(none)
      assert.equal("parameter 1, element [2] holds a NUL byte; pass bytes as pgq.bytea(string)", message)
      assert.equal("22021", code)
    end)

    it("that contain themselves are refused", function()
      local itself = {}
      itself[1] = itself
      refuse("query: parameter 1, element [1] contains itself", "SELECT $1", itself)
    end)
  end)

  describe("pgq.json", function()
    local function back(value)
      return one("SELECT $1::text AS t", pgq.json(value)).t
    end

    it("makes a jsonb of tables, texts, numbers, booleans and null", function()
      assert.equal('{"a": [1, "x", true, null, {}], "b": {"c": 0.1}}',
        back { a = { 1, "x", true, pgq.null, {} }, b = { c = 0.1 } })
      assert.equal('"a\\"\\\\\\n\\u0001grün😀/"', back 'a"\\\n\1grün😀/')
      assert.equal("null", back(nil))
      assert.equal("null", back(pgq.null))
      assert.equal("{}", back {})
      assert.equal('{"1": "a", "3": "c", "x": "d"}', back { [1] = "a", [3] = "c", x = "d" })
      assert.equal("jsonb", one("SELECT pg_typeof($1)::text AS type", pgq.json {}).type)
      assert.equal(2, one("SELECT ($1 -> 'a' ->> 1)::int AS n", pgq.json { a = { 1, 2 } }).n)
    end)

    it("keeps the digits of numbers", function()
      assert.equal("[9007199254740991, 9007199254740992, 9223372036854775807, 18446744073709551615, -0.5, 100]",
        back { 2 ^ 53 - 1, 2 ^ 53, 9223372036854775807LL, 18446744073709551615ULL, -0.5, 1e2 })
      assert.equal(0.1 + 0.2, tonumber(back(0.1 + 0.2)))
      assert.equal(5e-324, tonumber(back(5e-324)))
    end)

    it("goes into columns of json and jsonb, and nests", function()
      assert(conn:query "CREATE TEMP TABLE documents (a json, b jsonb)")
      local inner = pgq.json { 1, 2 }
      assert(conn:query("INSERT INTO documents VALUES ($1, $2)", pgq.json { x = inner }, inner))
      assert.same({ a = '{"x": [1, 2]}', b = "[1, 2]" }, one "SELECT * FROM documents")
    end)

    local function refuses(message, value)
      assert_misuse("json: " .. message, function()
        local json = pgq.json(value)
        return json
      end)
    end

    it("refuses values that JSON does not have, and says where they are", function()
      local itself = { a = {} }
      itself.a.b = { itself }
      local deep = {}
      for _ = 1, 1000 do deep = { deep } end
      refuses("value is a function, which JSON does not have", print)
      refuses("value.a[2].b is a function, which JSON does not have", { a = { 1, { b = print } } })
      refuses("value[1] is a pgq.bytea, which JSON does not have", { pgq.bytea "x" })
      refuses("value.x is not a number (NaN), which JSON does not have", { x = 0 / 0 })
      refuses("value.x is infinite, which JSON does not have", { x = -math.huge })
      refuses("value.a.b[1] is a table that contains itself", itself)
      refuses("value" .. ("[1]"):rep(53) .. " is nested in 200 tables, which is too deep", deep)
      refuses("value.x is a text that holds a NUL, which jsonb cannot", { x = "a\0b" })
      refuses("value is a text that is not UTF-8", "\255")
      refuses("value has a key that is not UTF-8", { ["\255"] = 1 })
      refuses("value has a key that is neither a string nor a number", { [true] = 1 })
      refuses("value has a number and a text as keys that are the same in JSON", { [2] = 1, ["2"] = 2 })
      refuses("value is a userdata, which JSON does not have", io.stdout)
    end)

    it("lets the same table stand in two places", function()
      local shared = { 1 }
      assert.equal('{"a": [1], "b": [1]}', back { a = shared, b = shared })
    end)

    it("converts a million values", function()
      local list = {}
      for i = 1, 1000000 do list[i] = i end
      assert.equal(1000000, one("SELECT jsonb_array_length($1) AS n", pgq.json(list)).n)
    end)
  end)

  describe("marks", function()
    it("cannot be looked into or changed through their metatables", function()
      assert.equal("pgq.bytea", getmetatable(pgq.bytea "x"))
      assert.equal("pgq.json", tostring(pgq.json { password = "sh4" }))
      assert.is_false(pcall(setmetatable, pgq.json {}, {}))
    end)
  end)

  describe("statements", function()
    it("take thousands of parameters; Lua itself refuses more than the protocol can count", function()
      local numbers, marks = {}, {}
      for i = 1, 7000 do numbers[i], marks[i] = i, "$" .. i .. "::int" end
      local sql = "SELECT greatest(" .. table.concat(marks, ", ") .. ") AS n"
      assert.equal(7000, one(sql, unpack(numbers)).n)
      for i = 7001, 70000 do numbers[i] = i end
      assert.is_false(pcall(function() return conn:query(sql, unpack(numbers)) end))
      -- More arguments can be gathered, but not from a list.
      local function gather(n, ...)
        if n == 0 then return conn:query(...) end
        return gather(n - 1, "SELECT 1", ...) -- the first is the statement, the others are parameters
      end
      local none, message, code = gather(9000)
      assert.is_nil(none)
      assert.equal("could not determine data type of parameter $1", message)
      assert.equal("42P18", code)
      assert.equal(1, one("SELECT 1 AS n").n)
    end)

    it("name the error in the text", function()
      for sql, expected in pairs {
        ["SELEKT 1"] = { 'syntax error at or near "SELEKT"', "42601" },
        ["SELECT 1; SELECT 2"] = { "there is more than one statement in the text; send them one by one", "42601" },
        ["COPY pgq_jobs TO STDOUT"] = { "COPY is not supported here", "0A000" },
        ["COPY pgq_jobs FROM STDIN"] = { "COPY is not supported here", "0A000" },
        ["SELECT $1"] = { "bind message supplies 0 parameters, but prepared statement \"\" requires 1", "08P01" },
      } do
        local none, message, code = conn:query(sql)
        assert.is_nil(none)
        assert.same(expected, { message, code })
      end
      assert.equal(1, one("SELECT 1 AS n").n)
    end)

    it("close the connection of a COPY that sends without end, and say so", function()
      local other = assert(pgq.connect(pg.conninfo))
      local none, message, code = other:query("COPY (SELECT repeat('x', 100000) FROM generate_series(1, 1000000)) TO STDOUT")
      assert.is_nil(none)
      assert.matches("COPY", message)
      assert.equal("0A000", code)
      assert.equal("08003", (select(3, other:query("SELECT 1"))))
      other:close()
    end)

    it("return 100 MB", function()
      local rows = assert(conn:query("SELECT repeat('x', 1000000) AS t FROM generate_series(1, 100)"))
      assert.equal(100, #rows)
      for i = 1, 100 do assert.equal(1000000, #rows[i].t) end
      assert.equal(100000000, #one("SELECT repeat('x', 100000000) AS t").t)
      collectgarbage()
    end)
  end)
end)

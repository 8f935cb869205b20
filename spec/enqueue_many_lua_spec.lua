local pgq = require "pgq"
local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local uv = require "luv"

-- More than two batches, which are of 8192 jobs.
local MANY = 20000

describe("enqueueing many jobs from Lua", function()
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
    assert(conn:query("TRUNCATE pgq_jobs RESTART IDENTITY"))
  end)

  local function count()
    return assert(conn:query("SELECT count(*) AS n FROM pgq_jobs"))[1].n
  end

  -- The strings "1" … "n", as a list and as a function that gives them.
  local function list_of(n)
    local list = {}
    for i = 1, n do list[i] = tostring(i) end
    return list
  end

  local function source_of(n)
    local i = 0
    return function()
      i = i + 1
      if i <= n then return tostring(i) end
    end
  end

  -- Calls fn once with each way to enqueue many, outside and inside of a transaction.
  local function each_way(fn)
    fn("pgq", pgq.enqueue_many)
    fn("conn", function(...) return conn:enqueue_many(...) end)
    fn("tx", function(...)
      local arguments, ids, message, code = { n = select("#", ...), ... }, nil, nil, nil
      local ok, problem = conn:transaction(function(tx)
        ids, message, code = tx:enqueue_many(unpack(arguments, 1, arguments.n))
        return ids, message
      end)
      assert.equal(ids ~= nil, ok == true, problem)
      return ids, message, code
    end)
  end

  it("returns the ids in the order of the jobs, for a list and for a function", function()
    each_way(function(way, enqueue_many)
      for _, jobs in ipairs { list_of(MANY), source_of(MANY) } do
        assert(conn:query "TRUNCATE pgq_jobs RESTART IDENTITY")
        local ids = assert(enqueue_many("q", jobs))
        assert.equal(MANY, #ids, way)
        for i, id in ipairs(ids) do
          if id ~= i then error(("%s: id %d is %s"):format(way, i, tostring(id))) end
        end
        local row = assert(conn:query [[SELECT bool_and(convert_from(data, 'UTF8') = id::text) AS same, count(*) AS n FROM pgq_jobs]])[1]
        assert.same({ true, MANY }, { row.same, row.n })
      end
    end)
  end)

  it("returns {} for an empty list and for a function that gives nothing", function()
    each_way(function(_, enqueue_many)
      assert.same({}, enqueue_many("q", {}))
      assert.same({}, enqueue_many("q", function() end))
    end)
    assert.equal(0, count())
  end)

  it("delivers any bytes, and big data", function()
    local jobs = { "", "\0", "a\0b\n", "\255\254", ("x"):rep(3 * 2 ^ 20), "last" }
    assert(conn:enqueue_many("bytes", jobs))
    local rows = assert(conn:query "SELECT data FROM pgq_jobs ORDER BY id")
    assert.equal(#jobs, #rows)
    for i, row in ipairs(rows) do
      assert.is_true(row.data == jobs[i], "job " .. i)
    end
  end)

  it("takes the options of enqueue, for all jobs", function()
    assert(pgq.enqueue_many("mail", { "a", "b" }, { delay = "10m", retry_waits = { 5, "1m" } }))
    assert(conn:enqueue_many("mail", source_of(2), { delay = 600, retry_waits = { "5s", 60 } }))
    assert(conn:enqueue_many("mail", { "x" }, { after = 1893456000, retry_waits = {} }))
    local rows = assert(conn:query [[SELECT id, retry_waits::text AS waits, run_after - created_at BETWEEN '10 min' AND '10 min 30 s' AS delayed,
      extract(epoch FROM run_after)::float8 AS due FROM pgq_jobs ORDER BY id]])
    for i = 1, 4 do
      assert.same({ "{5s,1m0s}", true }, { rows[i].waits, rows[i].delayed })
    end
    assert.same({ "{}", 1893456000 }, { rows[5].waits, rows[5].due })
  end)

  it("takes any function that returns strings: io.lines, gmatch, coroutines", function()
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write "one\ntwo\n"
    file:close()
    assert.equal(2, #assert(conn:enqueue_many("q", io.lines(path))))
    os.remove(path)
    assert.equal(3, #assert(conn:enqueue_many("q", ("a,b,c"):gmatch "[^,]")))
    local wrapped = coroutine.wrap(function() for i = 1, 4 do coroutine.yield("job " .. i) end end)
    assert.equal(4, #assert(conn:enqueue_many("q", wrapped)))
  end)

  it("keeps the string that a function gave, though nothing else does", function()
    local i = 0
    local ids = assert(conn:enqueue_many("q", function()
      i = i + 1
      collectgarbage(i % 100 == 0 and "collect" or "step")
      return i <= 1000 and ("%d-%s"):format(i, ("y"):rep(1000)) or nil
    end))
    assert.equal(1000, #ids)
    assert.equal(1000, assert(conn:query [[SELECT count(*) AS n FROM pgq_jobs
      WHERE convert_from(data, 'UTF8') = id || '-' || repeat('y', 1000)]])[1].n)
  end)

  it("enqueues nothing when the database refuses one of the jobs", function()
    assert(conn:query "ALTER TABLE pgq_jobs ADD CONSTRAINT luck CHECK (convert_from(data, 'UTF8') <> '13000')")
    finally(function() conn:query "ALTER TABLE pgq_jobs DROP CONSTRAINT luck" end)
    each_way(function(_, enqueue_many)
      for _, jobs in ipairs { list_of(MANY), source_of(MANY) } do
        local ids, message, code = enqueue_many("q", jobs)
        assert.is_nil(ids)
        assert.matches("^jobs 8193 to 16384: .*luck", message)
        assert.equal("23514", code)
        assert.equal(0, count())
      end
    end)
    assert.equal(1, #assert(conn:enqueue_many("q", { "fine" })))
  end)

  it("rolls back a transaction in which a failure was ignored", function()
    local ok, message, code = conn:transaction(function(tx)
      tx:enqueue_many("before", { "a" })
      tx:enqueue_many("", { "a" }) -- refused before anything is sent
      tx:enqueue_many("q", source_of(10), { after = "someday" })
    end)
    assert.is_nil(ok)
    assert.matches("rolled back.*someday", message)
    assert.equal("22007", code)
    assert.equal(0, count())
  end)

  it("rolls back when the function throws, and throws the same error", function()
    local thrown = { "anything" }
    for _, at in ipairs { 1, 9000, MANY } do
      each_way(function(_, enqueue_many)
        local source, i = source_of(MANY), 0
        local ok, problem = pcall(enqueue_many, "q", function()
          i = i + 1
          if i == at then error(thrown) end
          return source()
        end)
        assert.is_false(ok)
        assert.equal(thrown, problem)
        assert.equal(0, count())
      end)
    end
    assert.equal(1, #assert(conn:enqueue_many("q", { "fine" })))
  end)

  it("makes the transaction fail when a function throws and the error is caught in it", function()
    local ok, message = conn:transaction(function(tx)
      pcall(tx.enqueue_many, tx, "q", function() error "oops" end)
    end)
    assert.is_nil(ok)
    assert.matches("rolled back", message)
    assert.is_true(conn:transaction(function(tx)
      assert(tx:query "SAVEPOINT mine")
      assert.is_false(pcall(tx.enqueue_many, tx, "q", function() error "oops" end))
      assert(tx:query "ROLLBACK TO mine")
      assert(tx:enqueue_many("q", { "fine" }))
    end))
    assert.equal(1, count())
  end)

  it("does not let the function use the connection that it feeds", function()
    local function refuses(pattern, enqueue_many, use)
      for _, at in ipairs { 1, 9000 } do
        local i = 0
        local ok, problem = pcall(enqueue_many, "q", function()
          i = i + 1
          if i == at then use() end
          return i < MANY and tostring(i) or nil
        end)
        assert.is_false(ok)
        assert.matches(pattern, problem)
        assert.matches("^[^:]*enqueue_many_lua_spec.lua:%d+: ", problem)
        assert.equal(0, count())
      end
    end
    local function on_conn(...) return conn:enqueue_many(...) end
    refuses("query: the connection is busy with enqueue_many", on_conn, function() conn:query "COMMIT" end)
    refuses("enqueue: the connection is busy", on_conn, function() conn:enqueue("q", "x") end)
    refuses("enqueue_many: the connection is busy", on_conn, function() conn:enqueue_many("q", { "x" }) end)
    refuses("close: the connection is busy", on_conn, function() conn:close() end)
    refuses("transaction: the connection is busy", on_conn, function() conn:transaction(function() end) end)
    for _, method in ipairs { "query", "enqueue", "enqueue_many" } do
      local tx
      refuses(method .. ": the connection is busy", function(...)
        local arguments = { ... }
        assert(conn:transaction(function(this) tx = this tx:enqueue_many(unpack(arguments)) end))
      end, function() tx[method](tx, "SELECT 1", "x") end)
    end
    -- Another connection is free.
    local other = assert(pgq.connect(pg.conninfo))
    local source = source_of(10)
    assert(conn:enqueue_many("q", function()
      assert(other:enqueue("other", "x"))
      assert(pgq.enqueue("other", "x"))
      return source()
    end))
    other:close()
    assert.equal(32, count())
    -- The calls of the module have connections of their own.
    source = source_of(10)
    assert(pgq.enqueue_many("q", function()
      assert(pgq.enqueue("other", "x"))
      assert(pgq.enqueue_many("other", { "x", "y" }))
      return source()
    end))
    assert.equal(32 + 43, count())
  end)

  local MISUSES = {
    { "a queue that is no string", { 5, {} }, "the queue name must be a string, not a number" },
    { "no jobs", { "q" }, "the jobs must be a list of strings, or a function that returns the next, not a nil" },
    { "a string as jobs", { "q", "x" }, "the jobs must be a list of strings, or a function .*, not a string" },
    { "an element that is no string", { "q", { "a", "b", 3 } }, "job 3 must be a string, not a number; encode it first" },
    { "a table as an element", { "q", { {} } }, "job 1 must be a string, not a table" },
    { "a list with a hole", { "q", { "a", nil, "c" } }, "job 2 is nil, but there is more in the list" },
    { "a list with a name", { "q", { "a", b = "b" } }, "job 2 is nil, but there is more in the list" },
    { "options that are no table", { "q", {}, 10 }, "options must be a table, not a number" },
    { "an unknown option", { "q", {}, { dealy = 1 } }, '"dealy" is not an option' },
    { "a number from a function", { "q", function() return 5 end }, "job 1 must be a string, not a number" },
    { "false from a function", { "q", function() return false end }, "job 1 must be a string, not a boolean" },
  }

  for _, case in ipairs(MISUSES) do
    it("raises an error where the caller stands for " .. case[1], function()
      local calls = {
        function() local ids = pgq.enqueue_many(unpack(case[2], 1, 3)) return ids end,
        function() local ids = conn:enqueue_many(unpack(case[2], 1, 3)) return ids end,
        function()
          assert(conn:transaction(function(tx) local ids = tx:enqueue_many(unpack(case[2], 1, 3)) return ids end))
        end,
      }
      for i, call in ipairs(calls) do
        local ok, message = pcall(call)
        assert.is_false(ok)
        assert.matches("^[^:]*enqueue_many_lua_spec.lua:%d+: enqueue_many: " .. case[3], message, "call " .. i)
      end
      assert.equal(0, count())
    end)
  end

  it("names the value of a function that is not a string, also late in the stream", function()
    local source, i = source_of(MANY), 0
    local ok, message = pcall(conn.enqueue_many, conn, "q", function()
      i = i + 1
      return i == 15000 and {} or source()
    end)
    assert.is_false(ok)
    assert.matches("job 15000 must be a string, not a table", message)
    assert.equal(0, count())
  end)

  it("returns nil, a message and a code for jobs that cannot be enqueued", function()
    for _, case in ipairs {
      { { "", { "x" } }, "queue name is empty", "22023" },
      { { "a\0b", { "x" } }, "queue name holds a NUL byte", "22023" },
      { { "q", { "x" }, { delay = -1 } }, "delay %(%-1%) is negative", "22023" },
      { { "q", { "x" }, { delay = 1, after = 1 } }, "both", "22023" },
      { { "q", { "x" }, { retry_waits = { "often" } } }, "retry wait 1", "22023" },
      { { "q", { "x" }, { after = "someday" } }, "someday", "22007" },
    } do
      each_way(function(_, enqueue_many)
        local ids, message, code = enqueue_many(unpack(case[1]))
        assert.is_nil(ids)
        assert.matches(case[2], message)
        assert.equal(case[3], code)
        assert.equal(0, count())
      end)
    end
  end)

  it("names the job that has more than 256 MiB", function()
    local ids, message, code = conn:enqueue_many("q", { "a", ("x"):rep(256 * 1024 * 1024 + 1), "c" })
    collectgarbage()
    assert.is_nil(ids)
    assert.matches("^job 2: data has 268435457 bytes", message)
    assert.equal("54000", code)
  end)

  it("says 08006 when the connection is killed in the middle, and enqueues nothing", function()
    for _, connect in ipairs { function() return assert(pgq.connect(pg.conninfo)) end, function() return nil end } do
      local other = connect()
      local source, i = source_of(MANY), 0
      local function jobs()
        i = i + 1
        if i == 10000 then
          pg:psql "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgq-lua' AND state <> 'idle'"
        end
        return source()
      end
      local ids, message, code
      if other then
        ids, message, code = other:enqueue_many("q", jobs)
      else
        ids, message, code = pgq.enqueue_many("q", jobs)
      end
      assert.is_nil(ids)
      assert.matches("the connection to the database broke", message)
      assert.equal("08006", code)
      assert.equal(0, count())
    end
    assert.equal(1, #assert(pgq.enqueue_many("q", { "again" })))
  end)

  it("says 08003 after close", function()
    local other = assert(pgq.connect(pg.conninfo))
    other:close()
    local ids, message, code = other:enqueue_many("q", { "x" })
    assert.is_nil(ids)
    assert.matches("closed", message)
    assert.equal("08003", code)
  end)

  it("works in a handler", function()
    local Worker = require "spec.support.worker"
    assert(pgq.enqueue("split", "a b c"))
    Worker.run { pg = pg, args = { "--drain" }, script = [[
      local pgq = require "pgq"
      pgq.register_queue("split", function(data) return assert(pgq.enqueue_many("parts", data:gmatch "%a")) and true end)]] }
    assert.equal("{a,b,c}", assert(conn:query [[SELECT array_agg(convert_from(data, 'UTF8') ORDER BY id)::text AS all
      FROM pgq_jobs WHERE queue_name = 'parts']])[1].all)
  end)

  it("works in a plain luajit script, also after the script has removed its globals", function()
    local out = process.check { "luajit", "-e", [[
      local pgq, write, assert, unpack = require "pgq", io.write, assert, unpack
      for _, name in ipairs { "error", "type", "pairs", "ipairs", "pcall", "select", "tostring", "table", "string" } do
        if name ~= "type" and name ~= "pairs" then _G[name] = nil end
      end
      local ids = assert(pgq.enqueue_many("script", { "a", "b" }))
      local none, message, code = pgq.enqueue_many("", { "a" })
      write(#ids, " ", code, "\n")]] }
    assert.equal("2 22023\n", out)
  end)
end)

local fixture = require "spec.support.fixture"

local HEAD = [[
  local pgq, ffi, uv = require "pgq", require "ffi", require "luv"
  ffi.cdef "struct thing { int x; };"
  local function boom() error "boom" end
  local function garbage() -- lets finalizers run in the midst of it
    local t = {}
    for i = 1, 2000 do t[i] = { tostring(i) } end
    return t
  end
]]

-- How a handler makes an object whose finalizer fails.
local KINDS = {
  { "of a proxy", [[getmetatable(newproxy(true)).__gc = boom]] },
  { "of cdata", [[ffi.gc(ffi.new "struct thing", boom)]] },
  { "of cdata, each another function,", [[ffi.gc(ffi.new "struct thing", function() error "boom" end)]] },
  { "of a ctype", [[thing()]], [[local thing = ffi.metatype("struct thing", { __gc = boom })]] },
  { "of a userdata whose metatable was replaced", [[debug.setmetatable(newproxy(), { __gc = boom })]] },
  { "of a ffi that was loaded again", [[package.loaded.ffi = nil require "ffi".gc(ffi.new "struct thing", boom)]] },
  { "with an error that is no text", [[ffi.gc(ffi.new "struct thing", function()
    error(setmetatable({}, { __tostring = boom })) end)]], nothing_logged = true },
  { "that waits", [[ffi.gc(ffi.new "struct thing", function() pgq.sleep(1) end)]], logged = "sleep: nothing can wait" },
  { "that yields", [[ffi.gc(ffi.new "struct thing", function() coroutine.yield() end)]], logged = "yield" },
  { "that asks the database", [[ffi.gc(ffi.new "struct thing", function() assert(pgq.query "SELECT 1") end)]],
    logged = "nothing can wait" },
}

describe("a finalizer that fails", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local _, drain = fixture.workers(pg, { head = HEAD })

  for _, kind in ipairs(KINDS) do
    it(kind[1] .. " is logged, and disturbs no job", function()
      enqueue("leaves", "", 5)
      enqueue("computes", "", 100)
      enqueue("waits", "", 100)
      local result = drain((kind[3] or "") .. ([[
        pgq.register_queue("leaves", function()
          for _ = 1, 200 do %s end
        end)
        pgq.register_queue("computes", function() garbage() end)
        pgq.register_queue("waits", function(data, job)
          pgq.sleep(0.01)
          pgq.await(function(resume)
            local timer = uv.new_timer()
            timer:start(1, 0, function() timer:close() garbage() resume() end)
          end)
          assert(pgq.query("SELECT 1"))
        end)]]):format(kind[2]))
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs", result.stderr)
      assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
      assert.is_nil(result.stderr:find("PANIC", 1, true), result.stderr)
      if not kind.nothing_logged then
        assert.matches("level=error[^\n]*a finalizer raised an error: [^\n]*" .. (kind.logged or "boom"), result.stderr)
      end
      local _, lines = result.stderr:gsub("a finalizer raised an error", "")
      assert.is_true(lines < 100, result.stderr)
    end)
  end

  it("while its executor exits does not hold it up", function()
    enqueue "leaves"
    local result = drain [[
      kept = {}
      pgq.register_queue("leaves", function()
        for i = 1, 100 do kept[i] = ffi.gc(ffi.new "struct thing", boom) end
      end)]]
    assert.matches("a finalizer raised an error: [^\n]*boom", result.stderr)
    assert.is_nil(result.stderr:find("killed", 1, true), result.stderr)
  end)

  it("does not take the time limit from the handler in which it runs", function()
    enqueue "q"
    local result = drain([[
      pgq.register_queue("q", function()
        ffi.gc(ffi.new "struct thing", function() pgq.sleep(0) end)
        local ok, problem = pcall(pgq.sleep, 60)
        error(problem == pgq.timeout and "its own limit" or problem, 0)
      end, { timeout = "300ms" })]])
    assert.equal("its own limit", pg:psql "SELECT error FROM pgq_jobs", result.stderr)
  end)
end)

describe("a debug hook that fails", function()
  local pg = fixture.server()
  local enqueue = fixture.enqueuer(pg)
  local _, drain = fixture.workers(pg, { head = HEAD })

  it("in the midst of a wait wakes no other job", function()
    enqueue("hooked", "", 200)
    enqueue("waits", "", 200)
    local result = drain([[
      pgq.register_queue("hooked", function(data, job)
        debug.sethook(function() error "hooked" end, "", 20 + job.id * 3)
        for _ = 1, 3 do pcall(pgq.sleep, 0.002) end
        debug.sethook()
      end)
      pgq.register_queue("waits", function()
        for _ = 1, 5 do pgq.sleep(0.005) end
      end)]])
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs WHERE queue_name = 'waits'", result.stderr)
    assert.is_nil(result.stderr:find("executor died", 1, true), result.stderr)
  end)
end)

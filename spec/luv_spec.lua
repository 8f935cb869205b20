-- Which loop luv uses, and on which coroutine it runs callbacks: in a worker, whatever its script requires first; in
-- plain scripts, which end without a crash; and in specs.
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"

describe("luv", function()
  local pg = fixture.server()

  local function run_worker(script)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', '', '{1h}')"
    return Worker.run { pg = pg, timeout = 30, args = { "--drain", "--executors", "1" }, script = script }
  end

  describe("that a worker's script requires before pgq", function()
    for name, call in pairs { run = [[uv.run "once"]], stop = "uv.stop()", walk = "uv.walk(print)", loop_close = "uv.loop_close()" } do
      it("cannot run or stop the executor's loop by uv." .. name, function()
        local result = run_worker(([[
          local uv = require "luv"
          require "pgq".register_queue("q", function() %s end)]]):format(call))
        assert.equal(0, result.status, result.stderr)
        assert.matches("^1|uv." .. name .. ": the loop is the executor's, and runs already", pg:psql [[SELECT attempt,
          regexp_replace(error, '^\S* ', '') FROM pgq_jobs]])
      end)
    end

    it("works as if pgq had been required first", function()
      local result = run_worker [[
        local uv, resume = require "luv", coroutine.resume
        local pgq = require "pgq"
        pgq.register_queue("q", function()
          local co = coroutine.create(function() pgq.sleep(0.05) return "slept" end)
          print(select(2, resume(co)), (pgq.await(function(done) uv.fs_stat("/", done) end)))
        end)]]
      assert.equal("slept\tnil\n", result.stdout)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)
  end)

  it("does not call back while a worker's script loads, and pgq.await says so", function()
    local result = run_worker [[
      local pgq = require "pgq"
      pgq.sleep(0.01)
      pgq.await(function() end)]]
    assert.equal(1, result.status)
    assert.matches("worker.lua:3: await: it cannot be used while the script loads; call it in a handler", result.stderr)
    result = run_worker [[require "luv".run()]]
    assert.matches("worker.lua:1: uv.run: the loop is the executor's, and runs when the script has loaded", result.stderr)
  end)

  describe("in a plain script", function()
    local function run(script)
      local result = process.run { "luajit", "-e", script }
      return result.stdout, result.status, result.signal
    end

    it("lets the script end when a callback or the script has closed the handle", function()
      for _, closing in ipairs { "timer:close() resume 'done'", "resume 'done'" } do
        assert.same({ "done\n", 0, 0 }, { run(([[
          local pgq, uv = require "pgq", require "luv"
          local timer
          print(pgq.await(function(resume)
            timer = uv.new_timer()
            timer:start(1, 0, function() %s end)
          end))
          if not timer:is_closing() then timer:close() end]]):format(closing)) })
      end
    end)

    it("does not wait for other events when a callback was due at the beginning of an iteration", function()
      assert.same({ "now\n", 0, 0 }, { run [[
        local pgq, uv = require "pgq", require "luv"
        local silent, timer = uv.new_pipe(), uv.new_timer()
        local name = os.tmpname()
        os.remove(name)
        assert(silent:bind(name))
        assert(silent:listen(1, function() end))
        print(pgq.await(function(resume) timer:start(0, 0, function() resume "now" end) end))
        timer:close()
        silent:close()]] })
    end)

    it("runs callbacks on a coroutine that was not collected", function()
      assert.same({ "directory\n1\n2\n3\n", 0, 0 }, { run [[
        local pgq = require "pgq"
        local function stat(path)
          return select(2, pgq.await(function(resume) require "luv".fs_stat(path, resume) end)).type
        end
        print(coroutine.wrap(function() return stat "/" end)())
        for i = 1, 3 do
          collectgarbage() collectgarbage()
          stat "/tmp"
          print(i)
        end]] })
    end)
  end)

  it("may be required in a handler that a spec runs", function()
    local file = os.tmpname()
    finally(function() os.remove(file) end)
    local script = assert(io.open(file, "w"))
    script:write [[
      local pgq = require "pgq"
      pgq.register_queue("q", function()
        local uv = require "luv"
        return pgq.await(function(resume) uv.fs_stat("/", function(problem) resume(problem == nil) end) end)
      end)]]
    script:close()
    local result = process.run { "luajit", "-e", ([[
      local worker = require "pgq.testing".load %q
      for _ = 1, 3 do
        print(worker:perform("q", "").status)
        collectgarbage() collectgarbage()
      end]]):format(file) }
    assert.same({ ("complete\n"):rep(3), 0, 0 }, { result.stdout, result.status, result.signal })
  end)
end)

local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"

local PASSWORD = "s3cr3t-of-the-spec"

describe("a password in a connection string", function()
  local pg = fixture.server()

  local function command_line(pid)
    local file = assert(io.open(("/proc/%d/cmdline"):format(pid)))
    local text = file:read "*a"
    file:close()
    return text
  end

  for name, words in pairs {
    ["--db CONNINFO"] = function(conninfo) return { "--db", conninfo } end,
    ["--db=CONNINFO"] = function(conninfo) return { "--db=" .. conninfo } end,
  } do
    it("is not seen in the list of processes after " .. name .. ", and the script still has its arguments", function()
      local conninfo = pg.conninfo .. " password=" .. PASSWORD
      local worker = Worker.start { args = words(conninfo), script_args = { "one", "two" }, script = [[
        local pgq = require "pgq"
        print(arg[1], arg[2], (arg[-1]:gsub("^%-%-db=", "")))
        pgq.register_queue("q", function() end)]] }
      assert.equal(conninfo, worker:read_until "one\ttwo\t([^\n]*)")
      worker:read_until "worker is serving"
      local pids = worker:executors()
      pids[#pids + 1] = worker.pid
      assert.is_true(#pids >= 2)
      for _, pid in ipairs(pids) do
        assert.is_nil(command_line(pid):find(PASSWORD, 1, true))
      end
      assert.matches("worker.lua%zone%ztwo", command_line(worker.pid))
      worker:stop()
    end)
  end

  it("is hidden in a URI, and a string without a password stays", function()
    for conninfo, shown in pairs {
      ["postgres://ann:" .. PASSWORD .. "@127.0.0.1:1/app"] = false,
      ["postgres://ann@127.0.0.1:1/app?password=" .. PASSWORD] = false,
      ["host=127.0.0.1 port=1 dbname=app"] = true,
    } do
      local worker = Worker.start { args = { "--db", conninfo }, script = "require 'pgq'.register_queue('q', print)" }
      worker:read_until "cannot connect"
      assert.equal(shown, command_line(worker.pid):find(conninfo, 1, true) ~= nil)
      worker:kill "sigkill"
    end
  end)

  it("is not repeated by the error about an unknown parameter, which names the parameter", function()
    local function answer(conninfo)
      return process.run { os.getenv "PGQ_LUA", "enqueue", "--db", conninfo, "q" }
    end
    local result = answer("postgres://ann:" .. PASSWORD .. "@db/app?sslmod=require")
    assert.equal(2, result.status)
    assert.matches("libpq has no parameter 'sslmod'", result.stderr)
    assert.is_nil(result.stderr:find(PASSWORD, 1, true))
    for _, conninfo in ipairs { "postgres://ann:s3cr3t%zz@db/app", "postgres://db/app?s3cr3t",
      "postgres://ann:half/@s3cr3t@db/app?x=1", "host=db user=ann password=half s3cr3t=x" } do
      result = answer(conninfo)
      assert.equal(2, result.status)
      assert.matches("the connection string cannot be read", result.stderr)
      assert.is_nil(result.stderr:find("s3cr3t", 1, true), result.stderr)
    end
  end)
end)

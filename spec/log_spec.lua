local cjson = require "cjson"
local Worker = require "spec.support.worker"
local fixture = require "spec.support.fixture"

describe("the log of a worker", function()
  local pg = fixture.server()

  local SCRIPT = [[
    local pgq = require "pgq"
    pgq.register_queue('a "quoted" queue', function(data)
      if data == "bad" then error("line one\nline = two \\ \"x\" \1\255", 0) end
    end)]]

  local function drain(...)
    pg:psql [[SELECT pgq_enqueue('a "quoted" queue', 'good'); SELECT pgq_enqueue('a "quoted" queue', 'bad')]]
    local result = Worker.run { pg = pg, script = SCRIPT, args = { "--drain", "--executors", "1", ... } }
    assert.equal(0, result.status, result.stderr)
    return result.stderr
  end

  it("is key=value lines with time, level and message", function()
    local log = drain("--log-level", "debug")
    for line in log:gmatch "[^\n]+" do
      assert.matches("^time=%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ level=%l+ msg=", line)
    end
    assert.is_truthy(log:find([[level=debug msg="job completed" queue="a \"quoted\" queue" job=1 attempt=1 duration=]], 1, true), log)
    local failed = [[level=warn msg="job failed and will be retried" queue="a \"quoted\" queue" job=2 attempt=1 duration=]]
    assert.is_truthy(log:find(failed, 1, true), log)
    assert.equal(2, select(2, log:gsub(" duration=%d+%.%d+ ", "")) + select(2, log:gsub(" duration=%d+%.%d+\n", "")), log)
    local detail = [[ error="line one\nline = two \\ \"x\" \x01]] .. "\239\191\189" .. [[" retry_in=60.000000 traceback="stack traceback:\n\t]]
    assert.is_truthy(log:find(detail, 1, true), log)
  end)

  it("has one JSON object per line with --log-format json", function()
    local log = drain("--log-level", "debug", "--log-format", "json")
    local found = {}
    for line in log:gmatch "[^\n]+" do
      local object = cjson.decode(line)
      assert.matches("^%d%d%d%d%-%d%d%-%d%dT.*Z$", object.time)
      found[object.msg] = object
    end
    local failed = found["job failed and will be retried"]
    assert.equal("warn", failed.level)
    assert.equal('a "quoted" queue', failed.queue)
    assert.equal(2, failed.job)
    assert.equal(1, failed.attempt)
    assert.equal("number", type(failed.duration))
    assert.equal('line one\nline = two \\ "x" \1\239\191\189', failed.error)
    assert.equal(60, failed.retry_in)
    assert.equal("debug", found["job completed"].level)
  end)

  for _, format in ipairs { "text", "json" } do
    it("has no characters that are not seen or change others, with --log-format " .. format, function()
      local hidden = { "\27[2J", "\194\133", "\194\155", "\127", "\226\128\139", "\226\128\168", "\226\128\169", "\226\128\174",
        "\226\129\166", "\239\187\191", "\243\160\129\129" }
      pg:psql "SELECT pgq_enqueue('q', 'x', now(), '{}')"
      local result = Worker.run { pg = pg, args = { "--drain", "--log-format", format }, script = ([[
        require "pgq".register_queue("q", function() error("<%s>", 0) end)]]):format(table.concat(hidden)) }
      local line = result.stderr:match "[^\n]*job failed for good[^\n]*"
      for _, character in ipairs(hidden) do
        assert.is_nil(line:find(character, 1, true))
      end
      if format == "json" then
        assert.equal("<" .. table.concat(hidden) .. ">", cjson.decode(line).error)
      else
        assert.is_truthy(line:find([[error="<\x1b[2J\u0085\u009b\x7f\u200b\u2028\u2029\u202e\u2066\ufeff\U000e0041>"]], 1, true), line)
      end
    end)
  end

  it("leaves out messages below --log-level", function()
    assert.is_nil(drain("--log-level", "warn"):find "level=info")
    local log = drain "--log-level=error"
    assert.equal("", log)
    assert.is_nil(drain():find "level=debug")
  end)

  it("never has a password in it", function()
    local password = "s3cr3t-of-the-spec"
    local conninfo = pg.conninfo .. " password=" .. password
    pg:psql "SELECT pgq_enqueue('q', 'x', now(), '{}')"
    local result = Worker.run { args = { "--db", conninfo, "--drain", "--log-level", "debug" },
      script = "require 'pgq'.register_queue('q', function() error(tostring(require 'pgq'.connect())) end)" }
    assert.equal(0, result.status, result.stderr)
    assert.is_nil(result.stderr:find(password, 1, true))
    for _, broken in ipairs { " port=1", " dbname=nowhere", " user=nobody" } do
      result = Worker.run { args = { "--db", conninfo .. broken, "--log-level", "debug", "--connect-timeout", "400ms" },
        script = "require 'pgq'.register_queue('q', print)" }
      assert.equal(1, result.status)
      assert.is_nil(result.stderr:find(password, 1, true))
    end
    result = Worker.run { script = "local pgq = require 'pgq' pgq.configure { db = 'postgresql://ann:" .. password
      .. "/@host/db' } pgq.register_queue('q', print)" }
    assert.equal(1, result.status)
    assert.matches("the connection string cannot be read", result.stderr)
    assert.is_nil(result.stderr:find(password, 1, true))
  end)
end)

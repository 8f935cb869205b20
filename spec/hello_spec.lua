local process = require "spec.support.process"
local Postgres = require "spec.support.postgres"

describe("examples/hello.lua", function()
  local pg, worker

  setup(function()
    pg = Postgres.start()
    pg:migrate()
    worker = process.start {
      os.getenv("PGQ_LUA"), "--db", pg.conninfo, "--poll-interval", "100ms", "examples/hello.lua",
    }
  end)

  teardown(function()
    worker:kill()
    assert.equal(0, worker:wait().status)
    pg:stop()
  end)

  local function enqueue(queue, data, waits)
    return pg:psql(("select pgq_enqueue('%s', '%s', now(), '{%s}')"):format(queue, data, waits))
  end

  it("greets", function()
    local id = enqueue("hello", "spec", "")
    assert.equal(("job %s: hello, spec!"):format(id), worker:read_until("job [^\n]*", 10, "stdout"))
  end)

  it("fails a flaky job once, and completes it when its retry wait is over", function()
    local id = enqueue("flaky", "once more", "300ms,1m")
    worker:read_until("the first attempt fails", 10, "stderr")
    assert.equal(("job %s: once more, in attempt 2"):format(id), worker:read_until("job [^\n]*", 10, "stdout"))
  end)

  it("backs off twice, for longer the second time, and then completes", function()
    local id = enqueue("busy", "it answers", "10ms,10ms,1m")
    local first = tonumber(worker:read_until("backs off[^\n]*pause=([%d.]+)", 10, "stderr"))
    local second = tonumber(worker:read_until("backs off[^\n]*pause=([%d.]+)", 10, "stderr"))
    assert.equal(2 * first, second)
    assert.equal(("job %s: it answers, in attempt 3"):format(id), worker:read_until("job [^\n]*", 10, "stdout"))
  end)
end)

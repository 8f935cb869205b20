local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local uv = require "luv"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua enqueue", function()
  local pg = fixture.server()

  local function enqueue(...)
    return process.run { PGQ_LUA, "--db", pg.conninfo, "enqueue", ... }
  end

  local function accepts(...)
    local result = enqueue(...)
    assert.equal(0, result.status, result.stderr)
    return result
  end

  local function refuses(pattern, ...)
    local result = enqueue(...)
    assert.is_true(result.status == 1 or result.status == 2, "status " .. result.status)
    assert.matches(pattern, result.stderr)
    assert.equal("", result.stdout)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end

  it("prints the id of the job", function()
    assert.equal("1\n", accepts("mail", "hello world").stdout)
    assert.equal("2\n", accepts("mail", "again").stdout)
    assert.equal("1|mail|hello world|t|{1m0s,10m0s,30m0s}|0", pg:psql
      "SELECT id, queue_name, convert_from(data, 'UTF8'), run_after = created_at, retry_waits, attempt FROM pgq_jobs WHERE id = 1")
  end)

  it("reads the data from standard input for -, byte for byte", function()
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    local data = table.concat(bytes):rep(4096)
    local result = process.run { PGQ_LUA, "--db", pg.conninfo, "enqueue", "q", "-", input = data }
    assert.equal("1\n", result.stdout)
    local path = os.tmpname()
    local file = io.open(path, "w")
    file:write(data)
    file:close()
    uv.fs_chmod(path, 420)
    assert.equal("t", pg:psql(("SELECT data = pg_read_binary_file('%s') FROM pgq_jobs"):format(path)))
    os.remove(path)
  end)

  it("takes missing and empty data as empty data", function()
    accepts "q"
    accepts("q", "")
    process.run { PGQ_LUA, "--db", pg.conninfo, "enqueue", "q", "-" }
    assert.equal("3", pg:psql "SELECT count(*) FROM pgq_jobs WHERE data = ''")
  end)

  it("takes data that looks like an option behind --", function()
    accepts("q", "--", "--drain")
    assert.equal("--drain", pg:psql "SELECT convert_from(data, 'UTF8') FROM pgq_jobs")
  end)

  it("delays by --delay, in seconds or as a duration, on the database's clock", function()
    accepts("q", "x", "--delay", "90")
    accepts("--delay", "1h30m", "q", "y")
    assert.equal("t|t", pg:psql [[SELECT bool_and(run_after - created_at BETWEEN wait AND wait + interval '20 seconds'),
      count(*) = 2 FROM pgq_jobs JOIN (VALUES (1, interval '90 s'), (2, interval '90 min')) AS expected (n, wait) ON n = id]])
  end)

  it("runs no sooner than --after", function()
    accepts("q", "x", "--after", "2030-01-31 08:00:00+01")
    assert.equal("t", pg:psql "SELECT run_after = '2030-01-31 07:00:00+00' FROM pgq_jobs")
  end)

  it("takes --retry-waits, and an empty one for none", function()
    accepts("q", "x", "--retry-waits", "1h,6h")
    accepts("q", "x", "--retry-waits", "90,250ms")
    accepts("q", "x", "--retry-waits", "")
    assert.equal("{1h0m0s,6h0m0s}\n{1m30s,250ms}\n{}", pg:psql "SELECT retry_waits FROM pgq_jobs ORDER BY id")
  end)

  it("takes a queue name with quotes, spaces, percent signs and 10,000 characters", function()
    local name = ([[it's "100%s" of $1; ]]):rep(500)
    accepts(name, "x")
    assert.equal("10000|t", pg:psql("SELECT length(queue_name), queue_name = $name$" .. name .. "$name$ FROM pgq_jobs"))
  end)

  it("refuses wrong arguments, and says why", function()
    refuses("the queue name is empty", "", "x")
    refuses("not valid UTF%-8", "\255\254", "x")
    refuses("%-%-delay: '%-5s' is negative", "q", "x", "--delay", "-5s")
    refuses("%-%-delay: 'tomorrow'", "q", "x", "--delay", "tomorrow")
    refuses("invalid input syntax.*'?next tuesdy", "q", "x", "--after", "next tuesdy")
    refuses("%-%-retry%-waits: 'often' .*write seconds or durations, such as 30s,10m,1h", "q", "x", "--retry-waits", "1h,often")
    refuses("%-%-retry%-waits: ''", "q", "x", "--retry-waits", "1h,,2h")
    refuses("%-%-retry%-waits: ''", "q", "x", "--retry-waits", "1h,")
    refuses("%-%-retry%-waits: '%-1m'", "q", "x", "--retry-waits", "-1m")
    refuses("exclude each other", "q", "x", "--delay", "1s", "--after", "2030-01-01")
  end)

  it("refuses a name that is too long for the index, and says so", function()
    local name = {}
    math.randomseed(1)
    for i = 1, 10000 do name[i] = string.char(math.random(33, 126)) end
    refuses("queue name is too long", table.concat(name), "x")
  end)

  it("refuses more data than a job may have", function()
    local result = process.run { timeout = 120, "sh", "-c", 'head -c 268435457 /dev/zero | "$@" enqueue q -', "sh", PGQ_LUA, "--db", pg.conninfo }
    assert.equal(1, result.status)
    assert.matches("standard input has more than 268435456 bytes, the limit of a job's data", result.stderr)
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)

  it("tries until --connect-timeout when the server is not there yet", function()
    pg:down()
    local waiting = process.start { PGQ_LUA, "--db", pg.conninfo, "--connect-timeout", "60s", "enqueue", "q", "x" }
    pg:up()
    assert.equal(0, waiting:wait(60).status)
    assert.equal("1", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)
end)

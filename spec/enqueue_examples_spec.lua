local process = require "spec.support.process"
local Postgres = require "spec.support.postgres"
local uv = require "luv"

describe("the examples of enqueueing", function()
  local pg, prefix

  setup(function()
    pg = Postgres.start()
    pg:migrate()
    prefix = assert(uv.fs_mkdtemp("/tmp/pgq-spec-install-XXXXXX"))
  end)

  teardown(function()
    process.check { "rm", "-rf", prefix }
    pg:stop()
  end)

  before_each(function()
    pg:psql "DELETE FROM pgq_jobs"
  end)

  local function jobs()
    return pg:psql [[SELECT queue_name, convert_from(data, 'UTF8'), run_after > now() + interval '20s', retry_waits
      FROM pgq_jobs ORDER BY id]]
  end

  it("examples/enqueue.lua enqueues at once, with a delay, and in a transaction", function()
    local out = process.check { "luajit", "examples/enqueue.lua", "Ann", env = { DATABASE_URL = pg.conninfo } }
    assert.matches("^enqueued job %d+\nenqueued job %d+, due in 30 seconds\nenqueued job %d+ in a transaction\n$", out)
    assert.equal("hello|Ann|f|{1m0s,10m0s,30m0s}\nhello|Ann, later|t|{5s,1m0s}\nhello|ANN|f|{1m0s,10m0s,30m0s}", jobs())
  end)

  it("examples/enqueue.c builds as it says and enqueues", function()
    process.check { "cmake", "--install", os.getenv "PGQ_BUILD", "--prefix", prefix, timeout = 60 }
    local sanitize = os.getenv "PGQ_ASAN_LIBRARY" and "-fsanitize=address,undefined" or ""
    process.check { "sh", "-c", ([[
      libdir=$(dirname $(dirname $(find %s -name pgq.pc)))
      export PKG_CONFIG_PATH=$libdir/pkgconfig
      cc -Wall -Wextra -Werror %s -o %s/enqueue examples/enqueue.c $(pkg-config --cflags --libs pgq) -Wl,-rpath,$libdir
    ]]):format(prefix, sanitize, prefix), timeout = 60 }
    assert.matches("^enqueued job %d+\n$", process.check { prefix .. "/enqueue", pg.conninfo, "Ann" })
    assert.equal("hello|Ann|f|{5s,1m0s}", jobs())
    local result = process.run { prefix .. "/enqueue", "host=/nowhere", "Ann" }
    assert.equal(1, result.status)
    assert.matches("/nowhere", result.stderr)
  end)

  it("examples/enqueue.sql enqueues at once, with a delay, and for each row of a query", function()
    process.check { "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", pg.conninfo, "-f", "examples/enqueue.sql" }
    assert.equal(table.concat({ "hello|SQL|f|{1m0s,10m0s,30m0s}", "hello|SQL, later|t|{5s,1m}",
      "hello|Ann|f|{1m0s,10m0s,30m0s}", "hello|Ben|f|{1m0s,10m0s,30m0s}" }, "\n"), jobs())
  end)
end)

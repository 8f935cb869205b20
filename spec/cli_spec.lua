local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local process = require "spec.support.process"

local PGQ_LUA = os.getenv "PGQ_LUA"

-- There is no server at this address.
local NOWHERE = "host=/nowhere port=1 user=nobody"

describe("pgq-lua", function()
  local function pgq(...)
    return process.run { PGQ_LUA, ... }
  end

  local function refuses(status, pattern, ...)
    local result = pgq(...)
    assert.equal(status, result.status, result.stderr)
    assert.matches(pattern, result.stderr)
    assert.equal("", result.stdout)
    return result
  end

  describe("called wrongly", function()
    it("says what is wrong and how it is used, on stderr, and exits 2", function()
      for _, case in ipairs {
        { "unknown option '%-%-nonsense'", "--nonsense", "worker.lua" },
        { "the script is missing" },
        { "the script is missing", "--drain" },
        { "cannot read the script '/no/such/worker.lua': No such file", "/no/such/worker.lua" },
        { "cannot read the script 'queus': No such file or directory; the nearest command is 'queues'\n", "queus" },
        { "'%-%-poll%-interval' needs a value", "--poll-interval" },
        { "%-%-poll%-interval: 'often' .*write seconds, or a duration", "--poll-interval", "often", "worker.lua" },
        { "%-%-executors: 'many' is not a whole number", "--executors", "many", "worker.lua" },
        { "%-%-log%-level: 'loud' is not one of: debug info warn error", "--log-level", "loud", "worker.lua" },
        { "%-%-pooler: 'pgbouncer' is not one of: auto none session transaction", "--pooler", "pgbouncer", "worker.lua" },
        { "option '%-%-delay' is for pgq%-lua enqueue only", "--delay", "1s", "worker.lua" },
        { "option '%-%-drain' is for a worker only", "migrate", "--drain" },
        { "unknown option '%-%-nonsense'", "enqueue", "q", "--nonsense" },
        { "the name of the queue is missing", "enqueue" },
        { "unexpected argument after DATA; quote data", "enqueue", "q", "two", "words" },
        { "unexpected argument 'now'", "migrate", "now" },
        { "say which jobs: give their ids", "cancel" },
      } do
        local result = refuses(2, unpack(case))
        assert.matches("usage: pgq%-lua ", result.stderr)
      end
    end)

    it("names the variable of the environment that cannot be read", function()
      local result = process.run { PGQ_LUA, "worker.lua", env = { PGQ_GRACE = "soon" } }
      assert.equal(2, result.status)
      assert.matches("PGQ_GRACE: 'soon'", result.stderr)
    end)

    it("does not show a connection string that cannot be read, since it may have a password", function()
      for _, conninfo in ipairs {
        "host=localhost password=my secret", "postgresql://ann:sec/ret:x@localhost:secret/db", "password='secret",
        "postgresql://ann:secret@[::1/db", "pass=secret",
      } do
        for _, words in ipairs { { "enqueue", "q" }, { "cancel", "1" }, { "migrate" }, { arg[0] } } do
          local result = process.run { PGQ_LUA, "--db", conninfo, unpack(words) }
          assert.equal(2, result.status, result.stderr)
          assert.matches("the connection string cannot be read", result.stderr)
          assert.is_nil(result.stderr:find("secret", 1, true), result.stderr)
        end
      end
    end)
  end)

  describe("asked for help", function()
    it("lists every option with its default and its variable", function()
      local result = pgq "--help"
      assert.equal(0, result.status)
      for _, option in ipairs {
        "--db CONNINFO [DATABASE_URL]", "--executors N (default 0) [PGQ_EXECUTORS]",
        "--poll-interval DURATION (default 10s) [PGQ_POLL_INTERVAL]", "--preserve-completed [PGQ_PRESERVE_COMPLETED]",
        "--discard-failed [PGQ_DISCARD_FAILED]", "--drain [PGQ_DRAIN]", "--grace DURATION (default 30s) [PGQ_GRACE]",
        "--connect-timeout DURATION [PGQ_CONNECT_TIMEOUT]", "--dev [PGQ_DEV]",
        "--log-format FORMAT (default text) [PGQ_LOG_FORMAT]", "--log-level LEVEL (default info) [PGQ_LOG_LEVEL]",
        "--version", "--help",
      } do
        assert.is_truthy(result.stdout:find("  " .. option .. "\n", 1, true), option .. " is not in\n" .. result.stdout)
      end
      assert.is_nil(result.stdout:find("--delay", 1, true), result.stdout)
    end)

    it("shows those of one command", function()
      local result = pgq("enqueue", "--help")
      assert.equal(0, result.status)
      for _, option in ipairs { "--delay DURATION", "--after TIME", "--retry-waits", "--db" } do
        assert.is_truthy(result.stdout:find("  " .. option, 1, true), option)
      end
      assert.is_nil(result.stdout:find("--drain", 1, true))
      assert.matches("usage: pgq%-lua migrate", pgq("migrate", "--help").stdout)
      assert.matches("usage: pgq%-lua dev", pgq("dev", "--help").stdout)
    end)

    it("fits 80 columns", function()
      for _, command in ipairs { "enqueue", "cancel", "migrate", "dev", false } do
        for line in pgq(unpack { command or "--help", "--help" }).stdout:gmatch "[^\n]+" do
          local _, columns = line:gsub("[^\128-\191]", "") -- continuation bytes of UTF-8 take no column
          assert(columns <= 80, line)
        end
      end
    end)

    it("tells its version", function()
      assert.matches("^pgq%-lua %d+%.%d+%.%d+\n$", pgq("--version").stdout)
    end)
  end)

  describe("given a bad script", function()
    local function bad(script, pattern)
      local result = Worker.run { script = script, args = { "--db", NOWHERE } }
      assert.equal(1, result.status, result.stderr)
      assert.matches(pattern, result.stderr)
      assert.is_nil(result.stderr:find "cannot connect") -- the script is loaded first
    end

    it("says where its syntax is wrong, and exits 1", function()
      bad("local x = 1\nif then", "pgq%-lua: [^\n]*worker.lua:2: unexpected symbol near 'then'")
    end)

    it("says where it raised an error while loading, and exits 1", function()
      bad("local x = 1\n\nlocal function f() error 'no config' end f()", "worker.lua:3: no config\nstack traceback:.*worker.lua:3: in function 'f'")
      bad("error(setmetatable({}, { __tostring = function() return 'an object' end }))", "pgq%-lua: an object")
      bad("error({})", "%(error object is a table value%)")
      bad("require 'no.such.module'", "worker.lua:1: module 'no.such.module' not found")
    end)

    it("says that it registers no queue, and exits 1", function()
      bad("local pgq = require 'pgq'\nprint 'hello'", "worker.lua:2: the script ends without a queue: call pgq.register_queue")
      bad("", "worker.lua:%d: the script ends without a queue")
    end)

    it("says that it ended the process, and exits 1", function()
      bad("os.exit(7)", "worker.lua: the executor exited with status 7 while it loaded the script")
    end)

    it("says what is wrong with a queue it registers, with file and line", function()
      for _, case in ipairs {
        { "pgq.register_queue('twice', print)\npgq.register_queue('twice', print)",
          'worker.lua:3: register_queue: queue "twice" is registered already, at [^\n]*worker.lua:2' },
        { "pgq.register_queue('', print)", "worker.lua:2: register_queue: the queue name must be UTF%-8 text, not empty" },
        { "pgq.register_queue('\\255', print)", "worker.lua:2: .*must be UTF%-8" },
        { "pgq.register_queue('a\\0b', print)", "worker.lua:2: .*without NUL" },
        { "pgq.register_queue(5, print)", "worker.lua:2: .*must be a string, not a number" },
        { "pgq.register_queue('q')", 'worker.lua:2: .*handler of queue "q" must be a function, not a nil' },
        { "pgq.register_queue('q', print, 7)", "worker.lua:2: .*options must be a table, not a number" },
        { "pgq.register_queue('q', print, { timeout_s = 7 })", "worker.lua:2: .*there is no option timeout_s" },
        { "pgq.register_queue('q', print, { discard_failed = 'yes' })", "discard_failed must be true or false, not a string" },
        { "pgq.configure { pol_interval = 1 }", "worker.lua:2: configure: there is no setting 'pol_interval'; the settings are: db" },
        { "pgq.configure { poll_interval = -1 }", "worker.lua:2: configure: poll_interval: '%-1' is negative" },
        { "pgq.configure { poll_interval = print }", "worker.lua:2: .*must be a text, a number or a boolean" },
        { "pgq.configure { db = 'a\\0b' }", "worker.lua:2: configure: names and values must be UTF%-8 text without NUL" },
        { "pgq.configure 'x'", "worker.lua:2: configure: settings must be a table, not a string" },
      } do
        bad("local pgq = require 'pgq'\n" .. case[1], case[2])
      end
    end)

    it("says how a worker's script is to be run when it is run by luajit", function()
      local result = process.run { "luajit", "-", input = "require 'pgq'.register_queue('q', print)" }
      assert.equal(1, result.status)
      assert.matches("register_queue: this script is not run by a worker; start it with: pgq%-lua FILE", result.stderr)
    end)
  end)

  describe("without its tables, or without a database", function()
    local pg
    local SCRIPT = "require 'pgq'.register_queue('q', print)"

    setup(function() pg = Postgres.start() end)
    teardown(function() pg:stop() end)

    it("names pgq-lua migrate when the table is missing, and exits 1", function()
      local result = Worker.run { pg = pg, script = SCRIPT }
      assert.equal(1, result.status)
      assert.matches("the database has no table pgq_jobs: run 'pgq%-lua migrate' first", result.stderr)
      result = process.run { PGQ_LUA, "--db", pg.conninfo, "enqueue", "q" }
      assert.equal(1, result.status)
      assert.matches("pgq%-lua migrate", result.stderr)
    end)

    it("names pgq-lua migrate when the table is that of btubbs/pgq, and exits 1", function()
      pg:psql [[CREATE TABLE pgq_jobs (id serial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT now(),
        queue_name text NOT NULL, data bytea NOT NULL, run_after timestamptz NOT NULL, retry_waits text[] NOT NULL,
        ran_at timestamptz, error text)]]
      local result = Worker.run { pg = pg, script = SCRIPT }
      assert.equal(1, result.status)
      assert.matches("the database has no column pgq_jobs.attempt: run 'pgq%-lua migrate' first", result.stderr)
    end)

    it("says where it looked for a server, and keeps trying", function()
      local worker = Worker.start { script = SCRIPT, args = { "--db", NOWHERE, "--log-level", "debug" } }
      worker:read_until 'cannot connect. connection=control error=.connection to server on socket ."/nowhere/.s.PGSQL.1." failed'
      worker:read_until "retry_in=0.200000"
      worker:read_until "retry_in=0.400000"
      assert.is_true(worker:is_running())
      worker:stop()
    end)

    it("gives up at start after --connect-timeout, with status 1", function()
      local result = Worker.run { script = SCRIPT, args = { "--db", NOWHERE, "--connect-timeout", "500ms" } }
      assert.equal(1, result.status)
      assert.matches("could not reach the database in time", result.stderr)
      assert.matches("/nowhere/.s.PGSQL.1", result.stderr)
      result = process.run { PGQ_LUA, "--db", NOWHERE, "enqueue", "q" }
      assert.equal(1, result.status)
      assert.matches("/nowhere/.s.PGSQL.1", result.stderr)
    end)
  end)

  it("refuses to be started as an executor by a user", function()
    local result = pgq "executor"
    assert.equal(2, result.status)
    assert.matches("started by pgq%-lua itself", result.stderr)
  end)
end)

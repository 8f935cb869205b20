-- A statement outside of a transaction is committed after its result was sent. The server can still
-- refuse the commit, or stop before it: then the call must return an error.

local Library = require "spec.support.library"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local pgq = require "pgq"
local process = require "spec.support.process"
local uv = require "luv"

-- A trigger at the commit of rows in pgq_jobs and things: the text of the row says what it does.
local AT_COMMIT = [[
  CREATE TABLE things (data bytea);
  CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.data = 'refused' THEN RAISE EXCEPTION 'refused at the commit' USING ERRCODE = '23514'; END IF;
    IF NEW.data = 'cut' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
    RETURN NULL;
  END $$;
  CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit();
  CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT ON pgq_jobs DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION at_commit()]]

local INSERT = "INSERT INTO things VALUES ($1::text::bytea)"

describe("a statement that fails at its commit", function()
  local pg, conn

  setup(function()
    pg = Postgres.start { migrated = true }
    pg:psql(AT_COMMIT)
    uv.os_setenv("DATABASE_URL", pg.conninfo)
  end)

  teardown(function()
    uv.os_unsetenv("DATABASE_URL")
    pg:stop()
  end)

  before_each(function()
    pg:psql "TRUNCATE pgq_jobs, things"
    conn = assert(pgq.connect(pg.conninfo))
  end)

  after_each(function() conn:close() end)

  local function expect(message, code, ...)
    local result, its_message, its_code = ...
    assert.is_nil(result)
    assert.matches(message, its_message)
    assert.equal(code, its_code)
    assert.equal("0|0", pg:psql "SELECT (SELECT count(*) FROM pgq_jobs), (SELECT count(*) FROM things)")
  end

  it("is no success of conn:enqueue, pgq.enqueue and enqueue_many", function()
    expect("refused at the commit", "23514", conn:enqueue("q", "refused"))
    expect("refused at the commit", "23514", pgq.enqueue("q", "refused"))
    expect("refused at the commit", "23514", conn:enqueue_many("q", { "x", "refused" }))
    expect("broke", "08006", conn:enqueue("q", "cut"))
    expect("broke", "08006", pgq.enqueue("q", "cut"))
    assert(pgq.enqueue("q", "x"))
  end)

  it("is no success of conn:query and pgq.query, also when the statement returns rows", function()
    for _, sql in ipairs { INSERT, INSERT .. " RETURNING data" } do
      expect("refused at the commit", "23514", conn:query(sql, "refused"))
      expect("refused at the commit", "23514", pgq.query(sql, "refused"))
      expect("broke", "08006", pgq.query(sql, "cut"))
    end
    expect("broke", "08006", conn:query(INSERT, "cut"))
    expect("broken", "08006", conn:query "SELECT 1")
  end)

  it("is no success in a handler, of a statement that is prepared or not, and the connection goes on", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '')"
    local result = Worker.run { timeout = 30, pg = pg, args = { "--drain", "--executors", "1" }, script = ([[
      local pgq = require "pgq"
      local sql = "%s"
      pgq.register_queue("q", function(data)
        for _ = 1, 4 do
          assert(pgq.query("DELETE FROM things"))
          assert(pgq.query(sql, "x"))
          for _, what in ipairs { "refused", "cut" } do
            print(what, select(3, pgq.query(sql, what)))
            print(what, select(3, pgq.enqueue("other", what)))
          end
        end
      end)]]):format(INSERT) }
    assert.equal(0, result.status, result.stderr)
    assert.equal(("refused\t23514\nrefused\t23514\ncut\t08006\ncut\t08006\n"):rep(4), result.stdout)
    assert.equal("0|1", pg:psql "SELECT (SELECT count(*) FROM pgq_jobs), (SELECT count(*) FROM things)")
  end)

  it("is no success of pgq_enqueue in C, nor of the command", function()
    local library = Library.install()
    finally(function() library:remove() end)
    library:compile("spec/support/enqueue_client.c", "client")
    local function call(data)
      local out = process.check { library.prefix .. "/client-c", pg.conninfo, "queue=q", "data=" .. data }
      local id, code, message = out:match "^(%-?%d+) (%S+) ([^\n]*)\n$"
      return tonumber(id) > 0 and id or nil, message, code
    end
    expect("refused at the commit", "23514", call "refused")
    expect("broke", "08006", call "cut")
    for data, message in pairs { refused = "refused at the commit", cut = "broke" } do
      local result = process.run { os.getenv "PGQ_LUA", "enqueue", "--db", pg.conninfo, "q", data }
      assert.equal(1, result.status)
      assert.matches(message, result.stderr)
      assert.equal("", result.stdout)
    end
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end)
end)

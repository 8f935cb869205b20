-- The roles of people: the manual's GRANTs are enough for the commands that change jobs and queues, and less is not.

local documents = require "spec.support.documents"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"

local PGQ_LUA = os.getenv "PGQ_LUA"

-- The statements of the manual's chapter GRANTS that are about this role.
local function grants_to(role)
  local found = {}
  local chapter = documents.read("runtime/manual/pgq_jobs.5.md"):match "\n## GRANTS\n(.-)\n## "
  for statement in chapter:match("```sql\n(.-)```"):gmatch "[^;]+;" do
    if statement:find("ROLE " .. role .. "%f[^%w_]") or statement:find("TO " .. role .. "%f[^%w_]") then
      found[#found + 1] = statement
    end
  end
  assert(#found >= 2, role)
  return table.concat(found)
end

describe("a role for people", function()
  local pg = fixture.server {
    clean = "TRUNCATE pgq_audit, pgq_queues",
    sql = grants_to "pgq_viewer" .. grants_to "pgq_operator" .. grants_to "pgq_canceller" .. [[
      CREATE ROLE olga LOGIN; GRANT pgq_operator TO olga; CREATE ROLE vera LOGIN; GRANT pgq_viewer TO vera;
      CREATE ROLE carl LOGIN; GRANT pgq_canceller TO carl; CREATE ROLE nobody LOGIN]],
  }

  local function run_as(role, ...)
    return process.run { PGQ_LUA, "--db", pg.conninfo .. " user=" .. role, ... }
  end

  local COMMANDS = {
    { "retry", "1" }, { "cancel", "2" }, { "edit", "3", "--data", "x", "--queue", "q", "--delay", "0", "--retry-waits", "1s" },
    { "delete", "4" }, { "retry", "--all" }, { "retry", "--all", "--dry-run" }, { "cancel", "--all" }, { "delete", "--all" },
    { "pause", "q", "--for", "1h", "--reason", "why" }, { "resume", "q" },
  }

  local function add()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error) VALUES ('q', '', now(), 'x'), ('q', '', NULL, NULL), ('q', '', NULL, NULL),
      ('q', '', now(), 'x'), ('q', '', now(), 'x'), ('q', '', NULL, NULL)]]
  end

  it("with the privileges of pgq_operator does everything, and pgq_audit has its name", function()
    add()
    for _, words in ipairs(COMMANDS) do
      local result = run_as("olga", unpack(words))
      assert.equal(0, result.status, table.concat(words, " ") .. ": " .. result.stderr)
    end
    assert.equal("olga 9", pg:psql "SELECT role || ' ' || count(*) FROM pgq_audit GROUP BY role")
    local conninfo = pg.conninfo .. " user=olga"
    add()
    for _, call in ipairs { "pgq_retry(7)", "pgq_cancel(8)", "pgq_pause('q')", "pgq_resume('q')" } do
      process.check { "psql", "-XAtd", conninfo, "-c", "SELECT " .. call }
    end
  end)

  it("with those of pgq_viewer only sees what would be done, and hears which privilege is missing", function()
    add()
    for _, words in ipairs(COMMANDS) do
      local result = run_as("vera", unpack(words))
      if words[3] ~= "--dry-run" then
        assert.equal(1, result.status, table.concat(words, " "))
        assert.matches("permission denied for table pgq_%l+; the role 'vera' does not have: .*%f[%w](%u+)[^,\n]* on pgq_%l+", result.stderr)
        assert.matches("%. To grant that: GRANT .* ON pgq_%l+ TO vera\n", result.stderr)
      end
    end
    assert.matches("does not have: .*INSERT on pgq_queues", run_as("vera", "pause", "q").stderr)
    assert.matches("does not have: .*DELETE on pgq_jobs", run_as("vera", "delete", "--all").stderr)
    assert.matches("does not have: .*UPDATE %(retry_waits%) on pgq_jobs", run_as("vera", "retry", "--all").stderr)
    -- What the message says to grant is enough.
    for _ = 1, 3 do
      local denied = run_as("vera", "pause", "q").stderr:match "To grant that: ([^\n]+)\n"
      if denied then pg:psql(denied) end
    end
    assert.equal(0, run_as("vera", "pause", "q").status)
    pg:psql "REVOKE INSERT, UPDATE ON pgq_queues FROM vera; REVOKE ALL ON pgq_audit FROM vera; TRUNCATE pgq_audit, pgq_queues"
    assert.equal("3 jobs would be retried:", run_as("vera", "retry", "--all", "--dry-run").stdout:match "^[^\n]+")
    assert.equal("", pg:psql "SELECT * FROM pgq_audit")
  end)

  it("with those of pgq_canceller cancels by ids", function()
    add()
    local result = run_as("carl", "cancel", "2")
    assert.equal("2 cancelled\n", result.stdout, result.stderr)
    assert.matches("the role 'carl' does not have: SELECT on pgq_jobs", run_as("carl", "cancel", "--all").stderr)
  end)

  it("without any is told so", function()
    add()
    assert.matches("the role 'nobody' does not have: SELECT %(id%) on pgq_jobs", run_as("nobody", "cancel", "2").stderr)
  end)
end)

-- pgq-lua why: words, forms of the answer, exit status, privileges. What it answers is in why_spec.lua.

local cjson = require "cjson"
local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local terminal = require "spec.support.terminal"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua why", function()
  local pg = fixture.server { sql = [[
    CREATE ROLE pgq_viewer LOGIN; GRANT SELECT ON pgq_jobs, pgq_workers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit TO pgq_viewer;
    CREATE ROLE stranger LOGIN; GRANT SELECT ON pgq_jobs TO stranger]] }
  local enqueue = fixture.enqueuer(pg)

  local function run(...) return process.run { PGQ_LUA, "--db", pg.conninfo, "why", ... } end
  local function run_as(role, ...)
    return process.run { PGQ_LUA, "--db", (pg.conninfo:gsub("user=postgres", "user=" .. role)), "why", ... }
  end

  it("takes a number for the id of a job, and other words for a queue", function()
    enqueue "mail"
    enqueue "42"
    assert.equal("no_worker\t-\tNo worker serves the queue 'mail'; no worker is running.\n", run("1").stdout)
    assert.equal("no_worker\t-\tNo worker serves the queue 'mail'; no worker is running.\n", run("mail").stdout)
    assert.equal("no_worker\t-\tNo worker serves the queue '42'; no worker is running.\n", run("--queue", "42").stdout)
  end)

  it("prints JSON", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data, run_after) VALUES ('mail', '', '2999-01-02 03:04:05+00')"
    local answer = cjson.decode(run("--json", "01").stdout)
    assert.same({ 1, cjson.null, "later", "2999-01-02T03:04:05.000000Z" }, { answer.id, answer.queue, answer.code, answer["until"] })
    assert.matches("^The job is due in %d+d", answer.sentence)
    assert.same({}, answer.who)
    answer = cjson.decode(run("mail", "--json").stdout)
    assert.same({ cjson.null, "mail", "later" }, { answer.id, answer.queue, answer.code })
  end)

  it("fits a terminal", function()
    enqueue "a queue whose name is so long that the sentence about it takes more than one line"
    local out, status = terminal.run(60, { PGQ_LUA, "--db", pg.conninfo, "why", "1" })
    assert.equal(0, status)
    assert.matches("^CODE +UNTIL\nno_worker +%-\n  No worker serves the queue 'a queue whose name is so", out)
    assert.is_true(terminal.width(out) <= 60)
  end)

  it("exits with 0 for an answer, with 1 for an unknown job or queue, and with 2 for wrong usage", function()
    enqueue "mail"
    assert.equal(0, run("1").status)
    assert.equal(1, run("2").status)
    assert.matches("^unknown\t%-\tThere is no job 2: ", run("2").stdout)
    assert.equal(1, run("nothing").status)
    for _, words in ipairs { {}, { "1", "2" }, { "--queue", "mail", "1" }, { "99999999999999999999" } } do
      local result = run(unpack(words))
      assert.equal(2, result.status)
      assert.matches("^pgq%-lua why: .*\nusage: pgq%-lua why %[options%] ID | QUEUE\n", result.stderr)
    end
    assert.equal(2, run("1", "--limit", "3").status)
  end)

  it("works with the privileges of the manual, and names those that are missing", function()
    enqueue "mail"
    assert.equal(0, run_as("pgq_viewer", "1").status)
    assert.equal(0, run_as("pgq_viewer", "mail").status)
    local result = run_as("stranger", "1")
    assert.equal(1, result.status)
    assert.matches("the role 'stranger' does not have: SELECT on pgq_workers, SELECT on pgq_queues, SELECT on pgq_attempts, SELECT on pgq_stats", result.stderr)
  end)

  it("says that the functions are missing", function()
    pg:psql "ALTER FUNCTION pgq_why(bigint) RENAME TO gone"
    local result = run "1"
    pg:psql "ALTER FUNCTION gone(bigint) RENAME TO pgq_why"
    assert.equal(1, result.status)
    assert.matches("run `pgq%-lua migrate`", result.stderr)
  end)
end)

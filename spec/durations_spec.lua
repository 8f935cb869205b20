-- One grammar of durations, and one list of default retry waits: what SQL and Lua read is what C reads.

local Postgres = require "spec.support.postgres"
local pgq = require "pgq"
local testing = require "pgq.testing"

-- The cases of spec/support/durations.txt: lists of { text, result } by their first word.
local function read_cases()
  local cases = { read = {}, option = {}, refuse = {} }
  for line in io.lines "spec/support/durations.txt" do
    local word, text, result = line:match "^(%a+) (.-)|(.*)$"
    if word then table.insert(cases[word], { text, result }) end
  end
  return cases
end

local function read_file(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

describe("durations", function()
  local cases = read_cases()

  describe("in pgq_enqueue", function()
    local pg, conn

    setup(function()
      pg = Postgres.start()
      pg:migrate()
      conn = assert(pgq.connect(pg.conninfo))
    end)

    teardown(function()
      conn:close()
      pg:stop()
    end)

    local function enqueue(wait)
      return conn:query("SELECT pgq_enqueue('q', '', now(), ARRAY[$1]::text[]) AS id", wait)
    end

    it("are read if C reads them", function()
      for _, case in ipairs(cases.read) do
        local rows, message = enqueue(case[1])
        assert(rows, ("'%s': %s"):format(case[1], tostring(message)))
      end
    end)

    it("are refused if C refuses them, as are numbers without a unit", function()
      for _, kind in ipairs { "refuse", "option" } do
        for _, case in ipairs(cases[kind]) do
          local rows, message, code = enqueue(case[1])
          assert(not rows, ("'%s' was taken"):format(case[1]))
          assert.equal("22023", code, ("'%s': %s"):format(case[1], message))
          if case[2] == "is negative" or case[2] == "is too long" then
            assert.truthy(message:find("' " .. case[2], 1, true), message)
          end
        end
      end
    end)

    it("by default are those of C", function()
      local default = "{" .. read_file("runtime/common/retry_waits.h"):match 'RETRY_WAITS_DEFAULT_LIST "(.-)"' .. "}"
      assert.equal(default, pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('q', '') RETURNING retry_waits")
      local id = conn:query("SELECT pgq_enqueue('q', '') AS id")[1].id
      assert.equal(default, pg:psql("SELECT retry_waits FROM pgq_jobs WHERE id = " .. id))
      assert.equal(default, "{" .. table.concat(require("pgq.testing.rules").DEFAULT_WAITS, ",") .. "}")
      -- The claim sends no waits when they are the default, and an upgrade sets the default.
      local found = 0
      for _, path in ipairs { "sql/schema/pgq_jobs.sql", "sql/worker/claim.sql" } do
        found = found + (read_file(path):find("'" .. default .. "'", 1, true) and 1 or 0)
      end
      assert.equal(2, found)
    end)
  end)

  describe("in pgq.testing", function()
    local path, worker

    setup(function()
      path = os.tmpname()
      local file = assert(io.open(path, "w"))
      assert(file:write [[
        local pgq = require "pgq"
        pgq.register_queue("q", function(job)
          assert(pgq.enqueue("other", "", { retry_waits = { job } }))
        end)]])
      file:close()
      worker = testing.load(path)
    end)

    teardown(function() os.remove(path) end)

    it("are read if C reads them, as are numbers of seconds", function()
      for _, kind in ipairs { "read", "option" } do
        for _, case in ipairs(cases[kind]) do
          local outcome = worker:perform("q", case[1])
          assert.is_nil(outcome.error)
          local wait = outcome.enqueued[1].retry_waits[1]
          assert.equal(tonumber(case[2]), select(2, require("pgq.core").duration(wait)), case[1])
        end
      end
    end)

    it("are refused if C refuses them, for the same reason", function()
      for _, case in ipairs(cases.refuse) do
        local outcome = worker:perform("q", case[1])
        assert.truthy(outcome.error, case[1])
        assert.truthy(outcome.error:find(case[2], 1, true), ("'%s': %s"):format(case[1], outcome.error))
      end
    end)
  end)
end)

-- pgq-lua edit: changes jobs that do not run.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua edit", function()
  local pg = fixture.server { clean = "TRUNCATE pgq_audit RESTART IDENTITY" }
  local start = fixture.workers(pg)

  local function command(words)
    table.insert(words, 1, PGQ_LUA)
    table.insert(words, 2, "--db")
    table.insert(words, 3, pg.conninfo)
    return process.run(words)
  end

  local function edit(...)
    local result = command { "edit", ... }
    assert.equal("", result.stderr)
    assert.equal(0, result.status)
    return result.stdout
  end

  local function add(more, values)
    return pg:psql(("INSERT INTO pgq_jobs (queue_name, data%s) VALUES ('q', 'old'%s) RETURNING id")
      :format(more and ", " .. more or "", values and ", " .. values or ""))
  end

  local function row(id)
    return pg:psql([[SELECT queue_name, encode(data, 'escape'), retry_waits, date_trunc('hour', run_after - now() + interval '1 minute'),
      ran_at IS NULL, attempt FROM pgq_jobs WHERE id = ]] .. id)
  end

  local function audit() return pg:psql "SELECT verb, ids, count, detail FROM pgq_audit ORDER BY id" end

  it("changes what the options name, and nothing else", function()
    local id = add("retry_waits, attempt", "'{5s}', 2")
    assert.equal("q|old|{5s}|00:00:00|t|2", row(id))
    assert.equal(id .. " edited\n", edit(id, "--data", "new"))
    assert.equal("q|new|{5s}|00:00:00|t|2", row(id))
    edit(id, "--delay", "2h", "--retry-waits", "30,10m")
    assert.equal("q|new|{30s,10m0s}|02:00:00|t|2", row(id))
    edit("--queue", "other queue", "--retry-waits", "", "--data", "", id)
    assert.equal("other queue||{}|02:00:00|t|2", row(id))
    edit(id, "--after", pg:psql "SELECT now() + interval '5 h'")
    assert.equal("other queue||{}|05:00:00|t|2", row(id))
    edit(id, "--delay", "0")
    assert.equal("other queue||{}|00:00:00|t|2", row(id))
    assert.equal(("edit|{%s}|1|--data\nedit|{%s}|1|--delay 7200000ms --retry-waits 30,10m\n"):format(id, id), audit():match "^.-\n.-\n")
  end)

  it("changes several jobs, and those that have ended, but not their time", function()
    local due, failed = add(), add("ran_at, error", "now(), 'x'")
    assert.equal(("%s edited\n%s edited\n"):format(due, failed), edit(due, failed, "--data", "new"))
    assert.equal("q|new|{1m0s,10m0s,30m0s}|00:00:00|f|0", row(failed))
    local result = command { "edit", due, failed, "--delay", "1h" }
    assert.equal(("%s edited\n%s is failed: only the time of a job that waits can be changed\n"):format(due, failed), result.stdout)
    assert.equal(1, result.status)
  end)

  it("takes data of any bytes from a file or standard input", function()
    local id, bytes = add(), {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    bytes = table.concat(bytes):rep(5000)
    local path = os.tmpname()
    finally(function() os.remove(path) end)
    local file = assert(io.open(path, "wb"))
    file:write(bytes)
    file:close()
    edit(id, "--data-file", path)
    assert.equal("1280000|" .. pg:psql("SELECT md5(decode('" .. bytes:sub(1, 256):gsub(".", function(c) return ("%02x"):format(c:byte()) end)
      .. "', 'hex'))"), pg:psql("SELECT length(data), md5(substr(data, 1, 256)) FROM pgq_jobs"))
    assert.equal(0, command({ "edit", id, "--data-file", "-", input = "from\0input" }).status)
    assert.equal("from\\000input", pg:psql "SELECT encode(data, 'escape') FROM pgq_jobs")
    local result = command { "edit", id, "--data-file", "/nowhere" }
    assert.equal(1, result.status)
    assert.matches("cannot open '/nowhere'", result.stderr)
  end)

  it("leaves running and unknown jobs alone", function()
    local id = add("lease, started_at, run_after", "7, now(), now() + interval '1 min'")
    local result = command { "edit", id, "999", "--data", "new" }
    assert.equal(id .. " is running: a running job cannot be edited\n999 unknown: there is no such job\n", result.stdout)
    assert.equal(1, result.status)
    assert.equal("old", pg:psql "SELECT encode(data, 'escape') FROM pgq_jobs")
    assert.equal("", audit())
  end)

  it("checks the values as enqueueing does", function()
    local id = add()
    for message, words in pairs {
      ["the id of a job is missing"] = { "--data", "x" },
      ["there is nothing to change"] = { id },
      ["exclude each other; give one of them"] = { id, "--data", "x", "--data-file", "y" },
      ["%-%-delay and %-%-after exclude each other"] = { id, "--delay", "1s", "--after", "now" },
      ["the name of the queue is empty"] = { id, "--queue", "" },
      ["is not a whole number"] = { "x", "--data", "x" },
      ["%-%-retry%-waits: 'soon'"] = { id, "--retry-waits", "1s,soon" },
      ["%-%-retry%-waits: '%-1s'"] = { id, "--retry-waits", "-1s" },
      ["%-%-delay: 'tomorrow'"] = { id, "--delay", "tomorrow" },
      ["%-%-after: 'eventually' is not a time: .*; write a time that Postgres reads, such as"] = { id, "--after", "eventually" },
      ["unknown option '%-%-priority'"] = { id, "--priority", "1" },
      ["'%-%-all' is for pgq%-lua"] = { id, "--all", "--data", "x" },
    } do
      local result = command { "edit", unpack(words) }
      assert.matches(message, result.stderr)
      assert.equal(2, result.status, message)
    end
    assert.equal("old", pg:psql "SELECT encode(data, 'escape') FROM pgq_jobs")
  end)

  it("wakes a worker that sleeps, for a time to come and in another queue", function()
    local worker = start('pgq.register_queue("q2", function(data, job) print("ran", job.id) end)', "--poll-interval", "1h")
    worker:read_until "worker is serving"
    local first, second = add(), add("run_after", "now() + interval '1 day'")
    wait.sleep(1)
    edit(first, "--queue", "q2")
    worker:read_until("ran\t" .. first)
    wait.sleep(1)
    edit(second, "--queue", "q2")
    edit(second, "--delay", "1s")
    worker:read_until("ran\t" .. second)
    worker:stop()
  end)
end)

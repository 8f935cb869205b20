-- A minute of spec/chaos/run, and a test that its books find each kind of mistake.

local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local books = require "spec.chaos.books"
local spot_books = require "spec.chaos.spot_books"

describe("a minute of chaos", function()
  -- PGQ_CHAOS_SEED sets another seed, to replay another run.
  local seed = os.getenv "PGQ_CHAOS_SEED" or "3"

  it("loses no job, and lets only its holder end a job", function()
    local result = process.run { "luajit", "spec/chaos/main.lua", "--minutes", "1", "--seed", seed, timeout = 240 }
    local shown = result.stderr .. result.stdout
    assert.equal(0, result.status, shown)
    assert.matches("| lost +| 0 ", result.stdout, nil, false, shown)
    assert.matches("| strangers +| 0 ", result.stdout, nil, false, shown)
    local jobs = tonumber(result.stdout:match "| jobs acknowledged +| (%d+)")
    assert.is_true(jobs > 2000, shown)
    assert.is_true(tonumber(result.stdout:match "| faults +| (%d+)") > 10, shown)
  end)

  it("has the same schedule for the same seed, and another schedule for another seed", function()
    local function list(n)
      return process.check { "luajit", "spec/chaos/main.lua", "--minutes", "5", "--seed", n, "--schedule" }
    end
    local first = list(1)
    assert.equal(100, select(2, first:gsub("\n", "\n")))
    assert.equal(first, list(1))
    assert.not_equal(first, list(2))
  end)

  it("on spot machines has a schedule of its own, with a power cut", function()
    local list = process.check { "luajit", "spec/chaos/main.lua", "--spot", "--minutes", "10", "--schedule" }
    assert.equal(2, select(2, list:gsub("power cut", "")))
    assert.is_true(select(2, list:gsub("kill worker", "")) > 20, list)
    assert.equal(60, select(2, list:gsub("kill executor", "")))
  end)

  it("ends by ^C with nothing left running, and status 130", function()
    local run = process.start { "luajit", "spec/chaos/main.lua", "--minutes", "5" }
    run:read_until("faults in 5 minutes", 60, "stderr")
    local mine = process.check { "ps", "-e", "-o", "pid,ppid,args" }
    local workers = {}
    for pid, parent in mine:gmatch "(%d+) +(%d+) [^\n]*spec/chaos/worker.lua" do
      if tonumber(parent) == run.pid then
        workers[#workers + 1] = pid
      end
    end
    assert.equal(3, #workers, mine)
    run:kill("sigint")
    assert.equal(130, run:wait(60).status)
    for _, pid in ipairs(workers) do
      assert.equal("", process.run({ "ps", "-o", "args=", "-p", pid }).stdout)
    end
  end)
end)

describe("the books of a chaos run", function()
  local pg

  setup(function()
    pg = Postgres.start { migrated = true }
    pg:psql "\\i spec/chaos/audit.sql"
    pg:psql "\\i spec/chaos/spot.sql"
  end)

  teardown(function() pg:stop() end)

  before_each(function()
    pg:psql [[
      SET client_min_messages = warning;
      DROP TABLE IF EXISTS chaos_events, chaos_plans, chaos_repeats, chaos_taken;
      TRUNCATE pgq_jobs, chaos_runs, chaos_writes, chaos_acknowledged, chaos_faults, chaos_effects RESTART IDENTITY]]
  end)

  -- Makes job 1 with this plan, whose enqueueing was acknowledged.
  local function enqueue(plan)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('q', '%s', '{1s,1s,1s}');
      INSERT INTO chaos_acknowledged VALUES (1)]]):format(plan or "quick 0"))
  end

  local runs = 0
  local function run(worker, attempt)
    runs = runs + 1
    pg:psql(("INSERT INTO chaos_runs (worker, pid, run, job, attempt) VALUES ('%s', 7, %d, 1, %d)"):format(
      worker, runs, attempt or 1))
  end

  -- Writes as a worker does: the trigger takes its name from its session.
  local function write(worker, sql)
    pg:psql(("SET application_name = '%s'; %s"):format(worker, sql))
  end

  local COMPLETE = "DELETE FROM pgq_jobs WHERE id = 1"
  local LEASE = "UPDATE pgq_jobs SET lease = 77, attempt = attempt + 1, run_after = now() + interval '1 min'"
  local RETRY = "UPDATE pgq_jobs SET attempt = attempt + 1, retry_waits = '{1s}', error = 'failed as planned'"

  -- Returns the broken ones of these rules (books.rules) as a text, if these faults have happened.
  local function check(faults, rules)
    books.close(pg, faults or {}, {}, true)
    local names, told = {}, {}
    for i, entry in ipairs(books.check(pg, rules)) do
      names[i] = entry.rule
      told[i] = entry.text
    end
    return table.concat(names, ", "), table.concat(told, "\n")
  end

  it("balance when a job was completed by the worker that ran it", function()
    enqueue()
    run "w1.1"
    write("w1.1", COMPLETE)
    assert.equal("", (check()))
  end)

  it("balance when a job was leased, and completed under the lease", function()
    enqueue()
    run "w1.1"
    write("w1.1", LEASE)
    write("w1.1", "UPDATE pgq_jobs SET run_after = now() + interval '1 min'")
    write("w1.1", COMPLETE)
    assert.equal("", (check()))
  end)

  it("find a job that was deleted and never ran", function()
    enqueue()
    pg:psql "TRUNCATE pgq_jobs"
    local names, text = check()
    assert.equal("lost", names)
    assert.matches("it never ran", text)
  end)

  it("find a job that ran and was deleted by no worker", function()
    enqueue()
    run "w1.1"
    pg:psql "TRUNCATE pgq_jobs"
    local names, text = check()
    assert.equal("lost", names)
    assert.matches("nobody ended it", text)
  end)

  it("find a job that was completed although its attempt was to fail", function()
    enqueue "fail 1"
    run "w1.1"
    write("w1.1", COMPLETE)
    assert.equal("lost", (check()))
  end)

  it("find a job that was completed before its handler ended", function()
    enqueue "sleep 2"
    run "w1.1"
    write("w1.1", COMPLETE)
    assert.equal("lost", (check()))
  end)

  it("find a job that is left behind, and a job that failed although its plan was not to fail", function()
    enqueue()
    run "w1.1"
    assert.equal("left behind", (check()))
    pg:psql "DROP TABLE chaos_events, chaos_plans, chaos_repeats, chaos_taken"
    write("w1.1", "UPDATE pgq_jobs SET ran_at = now(), attempt = 1, error = 'no luck'")
    assert.equal("failed for good", (check()))
  end)

  it("find a worker that completes a job that it has not run", function()
    enqueue()
    run "w1.1"
    write("w2.1", COMPLETE)
    local names, text = check()
    assert.equal("strangers", names)
    assert.matches("w2.1 +complete", text)
  end)

  it("find a worker that completes a later attempt than the one it ran", function()
    local began = os.time()
    enqueue "fail 1"
    run("w1.1", 1)
    run("w2.1", 1)
    write("w2.1", RETRY)
    write("w1.1", COMPLETE)
    local names, text = check { { kind = "stall", who = "w1.1", began = began - 1, ended = os.time() + 1 } }
    assert.equal("strangers", names)
    assert.matches("w1.1 wrote complete of attempt 2", text)
  end)

  it("find a worker that writes under another worker's lease, though it ran the job", function()
    local began = os.time()
    enqueue()
    run "w1.1"
    run "w2.1"
    write("w2.1", LEASE)
    write("w1.1", COMPLETE)
    local names, text = check { { kind = "stall", who = "w1.1", began = began - 1, ended = os.time() + 1 } }
    assert.equal("strangers", names)
    assert.matches("under the lease 77 of w2.1", text)
  end)

  it("find a worker that treats a lease as lost before its end, and a worker that runs the job during the lease", function()
    enqueue()
    run "w1.1"
    write("w1.1", LEASE)
    run("w2.1", 2)
    write("w2.1", "UPDATE pgq_jobs SET lease = NULL, retry_waits = '{1s}', error = 'worker lost: lease ran out'")
    write("w3.1", "UPDATE pgq_jobs SET ran_at = now(), attempt = 2, error = 'worker lost: lease ran out'")
    local names, text = check()
    assert.matches("leases broken", names)
    assert.matches("w2.1 took the lease 77 for lost", text)
    assert.matches("w2.1 ran it under the lease of w1.1", text)
  end)

  it("find a job that runs again without a fault, and report nothing if there was a fault", function()
    local began = os.time()
    enqueue()
    run "w1.1"
    run "w2.1"
    write("w2.1", COMPLETE)
    assert.equal("unexplained repeats", (check()))
    pg:psql "DROP TABLE chaos_events, chaos_plans, chaos_repeats, chaos_taken"
    assert.equal("", (check { { kind = "kill supervisor", who = "w1.1", began = began - 1, ended = os.time() + 1 } }))
  end)

  local function fault(kind, who, began)
    return { { kind = kind, who = who, began = began - 1, ended = os.time() + 1 } }
  end

  local END_LEASE = "UPDATE pgq_jobs SET lease = NULL, attempt = attempt - 1, run_after = now()"

  -- Worker 1 leases the job, worker 2 ends its lease long before it runs out, and runs the job.
  local function take_over()
    enqueue "sleep 0"
    run "w1.1"
    write("w1.1", LEASE)
    write("w2.1", END_LEASE)
    run "w2.1"
    write("w2.1", COMPLETE)
  end

  it("balance when another worker ends the lease of a dead worker", function()
    local began = os.time()
    take_over()
    assert.equal("", (check(fault("kill worker", "w1.1", began), spot_books.rules)))
  end)

  it("find another worker that ends the lease of a worker which has only lost its session", function()
    local began = os.time()
    take_over()
    local names, text = check(fault("terminate backend", "w1.1", began), spot_books.rules)
    assert.matches("leases broken", names)
    assert.matches("w2.1 took the lease 77 for lost", text)
  end)

  it("find a job on a spot machine that pays an attempt for the death of its worker", function()
    local began = os.time()
    enqueue "sleep 0"
    run "w1.1"
    write("w1.1", LEASE)
    write("w2.1", "UPDATE pgq_jobs SET lease = NULL, retry_waits = '{1s}', error = 'no luck'")
    run("w2.1", 2)
    write("w2.1", COMPLETE)
    assert.matches("innocents charged", (check(fault("kill worker", "w1.1", began), spot_books.rules)))
  end)

  it("find a job on a spot machine that fails for good for the death of its worker", function()
    enqueue "sleep 0"
    run "w1.1"
    write("w1.1", "UPDATE pgq_jobs SET ran_at = now(), attempt = 1, error = 'no luck'")
    assert.matches("innocents failed", (check({}, spot_books.rules)))
  end)

  it("find a poison that lives on for ten deaths, and one that has not failed", function()
    enqueue "slay 99"
    for i = 1, 9 do
      run("w1." .. i)
    end
    write("w1.9", LEASE)
    write("w2.1", "UPDATE pgq_jobs SET lease = NULL, ran_at = now(), error = 'no luck'")
    assert.equal("", (check({}, spot_books.rules)))
    pg:psql "DROP TABLE chaos_events, chaos_plans, chaos_repeats, chaos_taken"
    run "w1.10"
    assert.matches("poisons that live on", (check({}, spot_books.rules)))
    pg:psql "DROP TABLE chaos_events, chaos_plans, chaos_repeats, chaos_taken; UPDATE pgq_jobs SET ran_at = NULL"
    assert.matches("left behind, poisons that live on", (check({}, spot_books.rules)))
  end)

  it("find a transactional job whose effect is missing, or there twice", function()
    enqueue "tx 0"
    run "w1.1"
    write("w1.1", COMPLETE)
    assert.equal("effects not once", (check({}, spot_books.rules)))
    pg:psql "DROP TABLE chaos_events, chaos_plans, chaos_repeats, chaos_taken; INSERT INTO chaos_effects VALUES (1)"
    assert.equal("", (check({}, spot_books.rules)))
    pg:psql "DROP TABLE chaos_events, chaos_plans, chaos_repeats, chaos_taken; INSERT INTO chaos_effects VALUES (1)"
    assert.equal("effects not once", (check({}, spot_books.rules)))
  end)
end)

-- A chaos run with all kinds of faults: workers, executors, connections and the server.

local uv = require "luv"
local process = require "spec.support.process"
local Faults = require "spec.chaos.faults"
local Fleet = require "spec.chaos.fleet"
local books = require "spec.chaos.books"
local common = require "spec.chaos.common"
local schedule = require "spec.chaos.schedule"

local mixed = {}

-- How long the rest of the jobs may take when the faults are over, in seconds.
local DRAIN = 60

-- No transaction of a worker that is not disturbed may be older than this, in seconds (with leases).
local TRANSACTION_MOST = 2

local function break_things(run)
  local options = run.options
  run.fleet:start()
  common.live(run, 1)
  run.faults:start(run.list)
  common.say("%d faults in %g minutes, seed %d", #run.list, options.minutes, options.seed)
  local minutes = math.floor(options.minutes)
  for minute = 1, minutes do
    common.live(run, 60)
    common.say("minute %d: %d faults so far", minute, #run.faults:happened())
  end
  common.live(run, (options.minutes - minutes) * 60)
  common.live(run, 30, function() return run.faults.pending == 0 end)
  run.faults:close()
end

-- The faults are over: the workers must now run all jobs that are left.
local function settle_down(run)
  run.tried, run.unknown = run.fleet:stop_enqueuers()
  run.drain_seconds = common.drain(run, DRAIN)
  common.stop_fleet(run)
end

local function print_faults(faults, missed)
  local counts = {}
  for _, fault in ipairs(faults) do
    counts[fault.kind] = (counts[fault.kind] or 0) + 1
  end
  for _, kind in ipairs(schedule.kinds) do
    local left_out = missed[kind.name]
    common.line("faults: " .. kind.name, (counts[kind.name] or 0) .. (left_out and ", missed " .. left_out or ""))
  end
end

-- Checks the books and prints the table. Returns whether no rule is broken.
local function report(run)
  local paths, problems = {}, run.fleet.problems
  for i, enqueuer in ipairs(run.fleet.enqueuers) do
    paths[i] = enqueuer.path
  end
  local faults = run.faults:happened()
  local done = #faults
  for _, standstill in ipairs(run.standstills) do
    faults[#faults + 1] = standstill
  end
  books.close(run.pg, faults, paths, run.leases)
  local broken = books.check(run.pg)
  local calm, disturbed = common.longest_transactions(run, faults)
  if run.leases and calm.age > TRANSACTION_MOST then
    problems[#problems + 1] = ("a transaction of %s was open for %.2f s, seen at %s: %s\n%s"):format(
      calm.worker, calm.age, common.clock(calm.now), calm.what, common.faults_around(faults, calm))
  end
  for _, list in ipairs { run.fleet:orphans(), run.fleet:complaints() } do
    for _, problem in ipairs(list) do
      problems[#problems + 1] = problem
    end
  end

  common.line("figure", "value")
  common.line(("-"):rep(34), ("-"):rep(33))
  common.line("seed", run.options.seed)
  common.line("minutes", run.options.minutes)
  common.line("workers, enqueuers", run.options.workers .. ", " .. run.options.enqueuers)
  common.line("jobs tried", run.tried)
  common.line("jobs unknown (answer lost)", run.unknown)
  for _, figure in ipairs(books.tell(run.pg)) do
    common.line(figure[1], figure[2])
  end
  common.print_rules(books.rules, broken)
  print_faults(faults, run.faults.missed)
  common.line("faults", done)
  common.line("times the machine stood still", #run.standstills)
  common.line("longest transaction, undisturbed", ("%.2f s"):format(calm.age))
  common.line("longest transaction, disturbed", ("%.2f s"):format(disturbed.age))
  common.line("supervisor memory, first and most", ("%d, %d KiB, grew %d"):format(common.memory(run.fleet)))
  common.line("drained within", ("%.1f s"):format(run.drain_seconds))
  common.print_broken(broken, problems)
  return #broken == 0 and #problems == 0
end

local function knows_leases()
  local help = process.check { os.getenv "PGQ_LUA", "--help" }
  return help:find("--lease", 1, true) ~= nil and help:find("--hold-limit", 1, true) ~= nil
end

-- The faults, in the order of time.
function mixed.schedule(options)
  return schedule.make(options)
end

-- Runs all of it, and prints the table. Returns whether no rule is broken.
function mixed.play(run)
  local options = run.options
  run.leases = knows_leases()
  run.pg = common.start_server()
  local logs = run.pg.dir .. "/logs"
  assert(uv.fs_mkdir(logs, 493))
  run.fleet = Fleet.new {
    pg = run.pg, workers = options.workers, enqueuers = options.enqueuers, rate = options.jobs_per_second,
    seed = options.seed, logs = logs, leases = run.leases,
  }
  run.faults = Faults.new { fleet = run.fleet, pg = run.pg }
  common.watch_machine(run)
  break_things(run)
  settle_down(run)
  return report(run)
end

return mixed

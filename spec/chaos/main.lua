-- The program of spec/chaos/run: disturbs workers, connections and the server, then checks the outcomes of all jobs.

local uv = require "luv"
local loop = require "spec.support.loop"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local Postgres = require "spec.support.postgres"
local Faults = require "spec.chaos.faults"
local Fleet = require "spec.chaos.fleet"
local Proxy = require "spec.chaos.proxy"
local books = require "spec.chaos.books"
local schedule = require "spec.chaos.schedule"

-- How long the rest of the jobs may take when the faults are over, in seconds.
local DRAIN = 60

-- No transaction of a worker that is not disturbed may be older than this, in seconds (with leases).
local TRANSACTION_MOST = 2

-- If this process could not go on for this long, in seconds, the machine stood still.
local STANDSTILL = 0.6

local OPTIONS = {
  { name = "minutes", default = 1, help = "how long things break" },
  { name = "seed", default = 42, help = "of the schedule of faults and of the jobs" },
  { name = "workers", default = 3, help = "workers, of two executors each" },
  { name = "enqueuers", default = 2, help = "processes that enqueue" },
  { name = "faults-per-minute", default = 20, help = "how much breaks" },
  { name = "jobs-per-second", default = 200, help = "how much is enqueued, by all enqueuers together" },
  { name = "logs", text = "DIR", help = "keep the workers' and the server's logs there" },
  { name = "schedule", flag = true, help = "print the schedule and exit" },
  { name = "help", flag = true, help = "print this and exit" },
}

local HELP_END = [[

The same seed and options give the same faults at the same times, on the same targets (a worker, an enqueuer, the
server) and of the same length, and enqueuers that choose the same jobs. What cannot be replayed is what the processes
do at that moment: which job runs where, which executor or connection is at the place that a fault chose, where in a
message a cut falls, and how long the server takes to start again.

The exit status is 0 when the books balance, 1 when they do not, 130 when interrupted.
]]

local function print_help()
  print "usage: spec/chaos/run [options]\n"
  print "Runs workers and enqueuers on a Postgres of its own, breaks them, and audits what became of the jobs.\n"
  for _, option in ipairs(OPTIONS) do
    local shown = "--" .. option.name .. (option.flag and "" or " " .. (option.text or "N"))
    print(("  %-24s %s%s"):format(shown, option.help, option.default and (" (%g)"):format(option.default) or ""))
  end
  io.write(HELP_END)
end

local function misuse(message)
  io.stderr:write("spec/chaos/run: ", message, "; see --help\n")
  os.exit(2)
end

local function find_option(word)
  for _, option in ipairs(OPTIONS) do
    if word == "--" .. option.name then
      return option
    end
  end
  misuse("there is no option " .. word)
end

-- The command line as a table by name, with underscores for dashes.
local function read_options(words)
  local values = {}
  for _, option in ipairs(OPTIONS) do
    values[option.name:gsub("-", "_")] = option.default
  end
  local i = 1
  while words[i] do
    local option = find_option(words[i])
    local value = option.flag or words[i + 1]
    if not option.flag and not option.text then
      value = tonumber(value)
    end
    if not value then
      misuse(words[i] .. " needs a value")
    end
    values[option.name:gsub("-", "_")] = value
    i = i + (option.flag and 1 or 2)
  end
  return values
end

local function say(...)
  io.stderr:write("chaos: ", string.format(...), "\n")
end

-- ^C and SIGTERM end the run, but never before everything is cleaned up.
local function watch_signals()
  local state = { interrupted = false, handles = {} }
  for _, name in ipairs { "sigint", "sigterm" } do
    local handle = uv.new_signal()
    handle:start(name, function() state.interrupted = true end)
    state.handles[#state.handles + 1] = handle
  end
  return state
end

-- Keeps the list of the times when the machine stood still, in the form of faults: nobody did them, but they explain as
-- much.
local function watch_machine(run)
  local function now()
    local seconds, microseconds = uv.gettimeofday()
    return seconds + microseconds / 1e6
  end
  local last = now()
  run.standstills, run.clock = {}, uv.new_timer()
  run.clock:start(100, 100, function()
    local this = now()
    if this - last > STANDSTILL then
      run.standstills[#run.standstills + 1] = { kind = "standstill", who = "*", began = last, ended = this }
    end
    last = this
  end)
end

-- Runs the loop until fn() is true, or `seconds` have passed; looks after the server and the workers meanwhile.
local function live(run, seconds, fn)
  local deadline = uv.hrtime() + seconds * 1e9
  local next_look = 0
  while uv.hrtime() < deadline and not (fn and fn()) do
    if run.signals.interrupted then
      error({ interrupted = true }, 0)
    end
    run.faults:look()
    if uv.hrtime() >= next_look then
      next_look = uv.hrtime() + 1e9
      run.fleet:look()
    end
    wait.sleep(0.03)
  end
end

local function start_server()
  local pg = Postgres.start {
    tcp = true,
    -- An immediate stop must not lose what was acknowledged.
    settings = { fsync = "on", full_page_writes = "on", shared_buffers = "128MB", max_wal_size = "2GB" },
  }
  pg:migrate()
  pg:psql "\\i spec/chaos/audit.sql"
  return pg
end

local function break_things(run)
  local options = run.options
  run.fleet:start()
  live(run, 1)
  run.faults:start(run.list)
  say("%d faults in %g minutes, seed %d", #run.list, options.minutes, options.seed)
  local minutes = math.floor(options.minutes)
  for minute = 1, minutes do
    live(run, 60)
    say("minute %d: %d faults so far", minute, #run.faults:happened())
  end
  live(run, (options.minutes - minutes) * 60)
  live(run, 30, function() return run.faults.pending == 0 end)
  run.faults:close()
end

-- The faults are over: the workers must now run all jobs that are left.
local function settle_down(run)
  local fleet = run.fleet
  run.tried, run.unknown = fleet:stop_enqueuers()
  local left
  local function count_left()
    left = run.pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL"
    return left == "0"
  end
  local began = uv.hrtime()
  local checked = 0
  live(run, DRAIN, function()
    if uv.hrtime() - checked > 5e8 then
      checked = uv.hrtime()
      return count_left()
    end
  end)
  run.drain_seconds = (uv.hrtime() - began) / 1e9
  run.transactions = fleet:stop_watch()
  for number = 1, #fleet.workers do
    fleet:executors(number)
  end
  fleet:stop_workers()
  live(run, 2, function() return #fleet:orphans() == 0 end)
end

-- Whether the worker, its connection or the server was disturbed at that time.
local function is_disturbed(faults, seen)
  for _, fault in ipairs(faults) do
    if (fault.who == "*" or fault.who == seen.worker) and fault.began <= seen.now
      and fault.ended + 1 >= seen.now - seen.age then
      return true
    end
  end
  return false
end

local function clock(seconds)
  return os.date("%H:%M:%S", math.floor(seconds)) .. ("%.3f"):format(seconds % 1):sub(2)
end

-- The faults of the worker and the server in the 15 seconds before, as a text for the report.
local function faults_around(faults, seen)
  local lines = {}
  for _, fault in ipairs(faults) do
    local slot = seen.worker:match "^w%d+"
    local concerns = fault.who == "*" or fault.who:match "^w%d+" == slot or seen.what:find(fault.who, 1, true)
    if concerns and fault.began <= seen.now and fault.ended > seen.now - 15 then
      lines[#lines + 1] = ("  %s to %s  %-6s %s"):format(clock(fault.began), clock(fault.ended), fault.who, fault.kind)
    end
  end
  return table.concat(lines, "\n")
end

local function longest_transactions(run, faults)
  local calm, disturbed = { age = 0 }, { age = 0 }
  for _, seen in ipairs(run.transactions) do
    if is_disturbed(faults, seen) then
      disturbed = seen.age > disturbed.age and seen or disturbed
    else
      calm = seen.age > calm.age and seen or calm
    end
  end
  return calm, disturbed
end

-- The supervisors' memory: the most one began with, the most one had, the most that one grew, in KiB.
local function memory(fleet)
  local first, most, growth = 0, 0, 0
  for _, samples in pairs(fleet.memory) do
    if #samples >= 4 then
      first = math.max(first, samples[3])
      growth = math.max(growth, samples[#samples] - samples[3])
      for i = 3, #samples do
        most = math.max(most, samples[i])
      end
    end
  end
  return first, most, growth
end

local function line(title, value)
  print(("| %-34s | %-28s |"):format(title, value))
end

local function print_faults(faults, missed)
  local counts = {}
  for _, fault in ipairs(faults) do
    counts[fault.kind] = (counts[fault.kind] or 0) + 1
  end
  for _, kind in ipairs(schedule.kinds) do
    local left_out = missed[kind.name]
    line("faults: " .. kind.name, (counts[kind.name] or 0) .. (left_out and ", missed " .. left_out or ""))
  end
end

local function print_broken(broken, problems)
  for _, entry in ipairs(broken) do
    print(("\nVIOLATION: %s: %d %s"):format(entry.rule, entry.count, entry.title))
    print(entry.text)
  end
  for _, problem in ipairs(problems) do
    print("\nVIOLATION: " .. problem)
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
  local calm, disturbed = longest_transactions(run, faults)
  if run.leases and calm.age > TRANSACTION_MOST then
    problems[#problems + 1] = ("a transaction of %s was open for %.2f s, seen at %s: %s\n%s"):format(
      calm.worker, calm.age, clock(calm.now), calm.what, faults_around(faults, calm))
  end
  for _, list in ipairs { run.fleet:orphans(), run.fleet:complaints() } do
    for _, problem in ipairs(list) do
      problems[#problems + 1] = problem
    end
  end

  line("figure", "value")
  line(("-"):rep(34), ("-"):rep(28))
  line("seed", run.options.seed)
  line("minutes", run.options.minutes)
  line("workers, enqueuers", run.options.workers .. ", " .. run.options.enqueuers)
  line("jobs tried", run.tried)
  line("jobs unknown (answer lost)", run.unknown)
  for _, figure in ipairs(books.tell(run.pg)) do
    line(figure[1], figure[2])
  end
  for _, rule in ipairs(books.rules) do
    local count = 0
    for _, entry in ipairs(broken) do
      count = entry.rule == rule.name and entry.count or count
    end
    line(rule.name, count)
  end
  print_faults(faults, run.faults.missed)
  line("faults", done)
  line("times the machine stood still", #run.standstills)
  line("longest transaction, undisturbed", ("%.2f s"):format(calm.age))
  line("longest transaction, disturbed", ("%.2f s"):format(disturbed.age))
  line("supervisor memory, first and most", ("%d, %d KiB, grew %d"):format(memory(run.fleet)))
  line("drained within", ("%.1f s"):format(run.drain_seconds))
  print_broken(broken, problems)
  return #broken == 0 and #problems == 0
end

local function copy_logs(run)
  if run.options.logs then
    process.run { "sh", "-c", 'mkdir -p "$2" && cp -r "$1"/logs/. "$1"/log "$2"', "sh", run.pg.dir, run.options.logs }
  end
end

local function clean_up(run)
  if run.faults then
    run.faults:close()
  end
  if run.fleet then
    run.fleet:kill_all()
  end
  if run.pg then
    pcall(copy_logs, run)
  end
  Postgres.stop_all()
  if run.clock then
    loop.close(run.clock)
  end
  for _, handle in ipairs(run.signals.handles) do
    loop.close(handle)
  end
  loop.run_until(5, function() return Proxy.closing() == 0 end)
end

local function knows_leases()
  local help = process.check { os.getenv "PGQ_LUA", "--help" }
  return help:find("--lease", 1, true) ~= nil and help:find("--hold-limit", 1, true) ~= nil
end

local function main(words)
  local options = read_options(words)
  if options.help then
    print_help()
    return 0
  end
  local list = schedule.make(options)
  if options.schedule then
    for _, fault in ipairs(list) do
      print(schedule.describe(fault))
    end
    return 0
  end
  local run = { options = options, list = list, signals = watch_signals(), leases = knows_leases() }
  local ok, result = xpcall(function()
    run.pg = start_server()
    local logs = run.pg.dir .. "/logs"
    assert(uv.fs_mkdir(logs, 493))
    run.fleet = Fleet.new {
      pg = run.pg, workers = options.workers, enqueuers = options.enqueuers, rate = options.jobs_per_second,
      seed = options.seed, logs = logs, leases = run.leases,
    }
    run.faults = Faults.new { fleet = run.fleet, pg = run.pg }
    watch_machine(run)
    break_things(run)
    settle_down(run)
    return report(run)
  end, function(problem)
    return type(problem) == "table" and problem or debug.traceback(problem, 2)
  end)
  clean_up(run)
  if ok then
    return result and 0 or 1
  elseif type(result) == "table" then
    say("interrupted")
    return 130
  end
  io.stderr:write(result, "\n")
  return 1
end

os.exit(main(arg))

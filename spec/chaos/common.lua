-- What the modes of a chaos run share: the loop, the server, the table, and the end. A `run` is a table with `options`,
-- `signals`, and as soon as they exist `pg`, `fleet` and `faults`.

local uv = require "luv"
local loop = require "spec.support.loop"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local Postgres = require "spec.support.postgres"
local Proxy = require "spec.chaos.proxy"

local common = {}

-- If this process could not go on for this long, in seconds, the machine stood still.
local STANDSTILL = 0.6

function common.say(...)
  io.stderr:write("chaos: ", string.format(...), "\n")
end

-- ^C and SIGTERM end the run, but never before everything is cleaned up.
function common.watch_signals()
  local state = { interrupted = false, handles = {} }
  for _, name in ipairs { "sigint", "sigterm" } do
    local handle = uv.new_signal()
    handle:start(name, function() state.interrupted = true end)
    state.handles[#state.handles + 1] = handle
  end
  return state
end

-- Seconds since 1970.
function common.now()
  local seconds, microseconds = uv.gettimeofday()
  return seconds + microseconds / 1e6
end

-- Keeps the list of the times when the machine stood still, in the form of faults: nobody did them, but they explain as
-- much.
function common.watch_machine(run)
  local last = common.now()
  run.standstills, run.clock = {}, uv.new_timer()
  run.clock:start(100, 100, function()
    local this = common.now()
    if this - last > STANDSTILL then
      run.standstills[#run.standstills + 1] = { kind = "standstill", who = "*", began = last, ended = this }
    end
    last = this
  end)
end

-- Runs the loop until fn() is true, or `seconds` have passed; looks after the server and the workers meanwhile.
function common.live(run, seconds, fn)
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

-- Starts a server with the tables and the books. An immediate stop of it does not lose what was acknowledged.
function common.start_server(settings)
  local all = { fsync = "on", full_page_writes = "on", shared_buffers = "128MB", max_wal_size = "2GB" }
  for name, value in pairs(settings or {}) do
    all[name] = value
  end
  local pg = Postgres.start { tcp = true, settings = all }
  pg:migrate()
  pg:psql "\\i spec/chaos/audit.sql"
  return pg
end

-- Stops the watch and the workers when no job is left.
function common.stop_fleet(run)
  local fleet = run.fleet
  run.transactions = fleet:stop_watch()
  for number = 1, #fleet.workers do
    fleet:executors(number)
  end
  fleet:stop_workers()
  common.live(run, 2, function() return #fleet:orphans() == 0 end)
end

-- Waits for at most `seconds` until no job is left to run. Returns how long that took.
function common.drain(run, seconds)
  local began, checked = uv.hrtime(), 0
  common.live(run, seconds, function()
    if uv.hrtime() - checked > 5e8 then
      checked = uv.hrtime()
      return run.pg:psql "SELECT count(*) FROM pgq_jobs WHERE ran_at IS NULL" == "0"
    end
  end)
  return (uv.hrtime() - began) / 1e9
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

function common.clock(seconds)
  return os.date("%H:%M:%S", math.floor(seconds)) .. ("%.3f"):format(seconds % 1):sub(2)
end

-- The faults of the worker and the server in the 15 seconds before, as a text for the report.
function common.faults_around(faults, seen)
  local lines = {}
  for _, fault in ipairs(faults) do
    local slot = seen.worker:match "^w%d+"
    local concerns = fault.who == "*" or fault.who:match "^w%d+" == slot or seen.what:find(fault.who, 1, true)
    if concerns and fault.began <= seen.now and fault.ended > seen.now - 15 then
      local from, to = common.clock(fault.began), common.clock(fault.ended)
      lines[#lines + 1] = ("  %s to %s  %-6s %s"):format(from, to, fault.who, fault.kind)
    end
  end
  return table.concat(lines, "\n")
end

function common.longest_transactions(run, faults)
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
function common.memory(fleet)
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

function common.line(title, value)
  print(("| %-34s | %-33s |"):format(title, value))
end

-- The lines of the rules: 0, or how many broke it.
function common.print_rules(rules, broken)
  for _, rule in ipairs(rules) do
    local count = 0
    for _, entry in ipairs(broken) do
      count = entry.rule == rule.name and entry.count or count
    end
    common.line(rule.name, count)
  end
end

function common.print_broken(broken, problems)
  for _, entry in ipairs(broken) do
    print(("\nVIOLATION: %s: %d %s"):format(entry.rule, entry.count, entry.title))
    print(entry.text)
  end
  for _, problem in ipairs(problems) do
    print("\nVIOLATION: " .. problem)
  end
end

local function copy_logs(run)
  if run.options.logs then
    process.run { "sh", "-c", 'mkdir -p "$2" && cp -r "$1"/logs/. "$1"/log "$2"', "sh", run.pg.dir, run.options.logs }
  end
end

function common.clean_up(run)
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

return common

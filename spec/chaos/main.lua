-- The program of spec/chaos/run: disturbs workers, connections and the server, then checks the outcomes of all jobs.

local common = require "spec.chaos.common"
local mixed = require "spec.chaos.mixed"
local schedule = require "spec.chaos.schedule"
local spot = require "spec.chaos.spot"

-- `default` holds without --spot, `spot` with it.
local OPTIONS = {
  { name = "spot", flag = true, help = "spot machines: workers are killed and replaced, all the time" },
  { name = "minutes", default = 1, help = "how long things break" },
  { name = "seed", default = 42, help = "of the schedule of faults and of the jobs" },
  { name = "workers", default = 3, spot = 50, help = "workers" },
  { name = "enqueuers", default = 2, help = "processes that enqueue; not with --spot" },
  { name = "faults-per-minute", default = 20, help = "how much breaks; not with --spot" },
  { name = "jobs-per-second", default = 200, spot = 250, help = "how much is enqueued, or run with --spot" },
  { name = "kill-every", spot = 10, help = "--spot: seconds from the death of a worker to the next" },
  { name = "poisons-per-minute", spot = 1, help = "--spot: jobs that kill their worker or executor each time" },
  { name = "logs", text = "DIR", help = "keep the workers' and the server's logs there" },
  { name = "schedule", flag = true, help = "print the schedule and exit" },
  { name = "help", flag = true, help = "print this and exit" },
}

local HELP_END = [[

The same seed and options give the same faults at the same times, on the same targets (a worker, an enqueuer, the
server) and of the same length, and enqueuers that choose the same jobs. What cannot be replayed is what the processes
do at that moment: which job runs where, which executor or connection is at the place that a fault chose, where in a
message a cut falls, and how long the server takes to start again.

With --spot the workers run with the default hold limit and lease, directly on the server, and the table also says at
which rate the jobs ran. In a run of five minutes or more the rate is judged, too.

The exit status is 0 when the books balance, 1 when they do not, 130 when interrupted.
]]

local function print_help()
  print "usage: spec/chaos/run [options]\n"
  print "Runs workers and enqueuers on a Postgres of its own, breaks them, and audits what became of the jobs.\n"
  for _, option in ipairs(OPTIONS) do
    local shown = "--" .. option.name .. (option.flag and "" or " " .. (option.text or "N"))
    local default = option.default or option.spot
    print(("  %-24s %s%s%s"):format(shown, option.help, default and (" (%g"):format(default) or "",
      default and (option.default and option.spot and (", with --spot %g)"):format(option.spot) or ")") or ""))
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
  for _, option in ipairs(OPTIONS) do
    local name = option.name:gsub("-", "_")
    values[name] = values[name] or values.spot and option.spot or option.default
  end
  return values
end

local function main(words)
  local options = read_options(words)
  if options.help then
    print_help()
    return 0
  end
  local mode = options.spot and spot or mixed
  local list = mode.schedule(options)
  if options.schedule then
    for _, fault in ipairs(list) do
      print(schedule.describe(fault))
    end
    return 0
  end
  local run = { options = options, list = list, signals = common.watch_signals() }
  local ok, result = xpcall(mode.play, function(problem)
    return type(problem) == "table" and problem or debug.traceback(problem, 2)
  end, run)
  common.clean_up(run)
  if ok then
    return result and 0 or 1
  elseif type(result) == "table" then
    common.say("interrupted")
    return 130
  end
  io.stderr:write(result, "\n")
  return 1
end

os.exit(main(arg))

-- The program of spec/bench/run.

local uv = require "luv"
local loop = require "spec.support.loop"
local Postgres = require "spec.support.postgres"
local Peers = require "spec.bench.peers"
local Server = require "spec.bench.server"
local folders = require "spec.bench.folders"
local machine = require "spec.bench.machine"
local report = require "spec.bench.report"
local rounds = require "spec.bench.rounds"

local SCENARIOS = { "drain", "variants", "enqueue", "bulk", "latency", "growth", "horizon", "handlers", "waiting",
  "queries", "fleet", "queues", "waking", "before", "memory", "operating" }

local HELP = [[
usage: spec/bench/run [options]

Measures pgq-lua on a Postgres of its own, in turn with what it is compared to, and prints tables of the figures and of
what they are to each other.

  --rounds N           how often each thing is measured (5)
  --only NAME[,NAME]   only these scenarios of %s
  --scale F            this part of the sizes, for a quick look (1)
  --no-peers           without graphile-worker and pg-boss, which npm installs otherwise
  --before COMMIT      what the scenario "before" compares with (628552b, version 0.1.0)
  --results FILE       where the page is written (spec/bench/results.md)
  --help               print this and exit
]]

-- All of them, in lines of four.
local function scenario_names()
  local lines = {}
  for i = 1, #SCENARIOS, 4 do
    lines[#lines + 1] = table.concat(SCENARIOS, ", ", i, math.min(i + 3, #SCENARIOS))
  end
  return table.concat(lines, ",\n" .. (" "):rep(23))
end

local function misuse(message)
  io.stderr:write("spec/bench/run: ", message, "; see --help\n")
  os.exit(2)
end

local function scenario_list(text)
  local known, list = {}, {}
  for _, name in ipairs(SCENARIOS) do
    known[name] = true
  end
  for name in text:gmatch "[^,]+" do
    list[#list + 1] = known[name] and name or misuse("there is no scenario " .. name)
  end
  return list
end

local function positive(text)
  local number = tonumber(text)
  return number and number > 0 and number or nil
end

local OPTIONS = {
  rounds = function(text) return positive(text) and math.ceil(positive(text)) end,
  scale = positive,
  only = scenario_list,
  before = function(text) return text ~= "" and text:sub(1, 1) ~= "-" and text or nil end,
  results = function(text) return text end,
}

local function read_options(words)
  local options = { rounds = 5, scale = 1, only = SCENARIOS, before = "628552b", results = "spec/bench/results.md" }
  local at = 1
  while words[at] do
    local name = words[at]:match "^%-%-(.+)$" or misuse("what is " .. words[at])
    if name == "help" then
      io.stdout:write(HELP:format(scenario_names()))
      os.exit(0)
    elseif name == "no-peers" then
      options.no_peers = true
      at = at + 1
    else
      local read = OPTIONS[name] or misuse("there is no option --" .. name)
      options[name] = read(words[at + 1] or "") or misuse(words[at] .. " needs a value")
      at = at + 2
    end
  end
  return options
end

local function say(...)
  io.stderr:write("bench: ", string.format(...), "\n")
end

-- The argument of scenarios: the server, the peers (nil without them), the options, say(format, …), and size(n, least),
-- which is n at --scale 1 and never less than `least`.
local function new_bench(options)
  local bench = { options = options, say = say }
  function bench.size(n, least)
    return math.max(least, math.floor(n * options.scale))
  end
  bench.peers = not options.no_peers and Peers.install() or nil
  bench.server = Server.start()
  return bench
end

local function write_page(run, path)
  local file = assert(io.open(path, "w"))
  file:write(report.page(run))
  file:close()
end

local function play(bench, words)
  local run = {
    command = "spec/bench/run" .. (#words > 0 and " " or "") .. table.concat(words, " "),
    machine = machine.describe(bench.server, bench.peers and bench.peers:versions()), results = {},
  }
  for _, fact in ipairs(run.machine) do
    print(("%s: %s"):format(fact[1], fact[2]))
  end
  for _, name in ipairs(bench.options.only) do
    local results = rounds.play(bench, require("spec.bench.scenarios." .. name))
    table.insert(run.results, results)
    print("\n" .. report.scenario(results))
    io.stdout:flush()
    write_page(run, bench.options.results) -- the results so far, since a full run takes more than an hour
  end
  local goals = report.goals(run.results)
  if goals then
    print("## Goals\n\n" .. goals)
  end
end

-- ^C ends the processes that this one started: they and the server watch whether it lives.
local function watch_signals()
  for _, name in ipairs { "sigint", "sigterm" } do
    local handle = uv.new_signal()
    handle:start(name, function()
      folders.remove_all()
      os.exit(130)
    end)
    handle:unref()
  end
end

local function main(words)
  local options = read_options(words)
  watch_signals()
  local ok, problem = xpcall(function() play(new_bench(options), words) end, debug.traceback)
  Postgres.stop_all()
  folders.remove_all()
  loop.settle()
  if not ok then
    io.stderr:write("spec/bench/run: ", problem, "\n")
  end
  return ok and 0 or 1
end

os.exit(main(arg))

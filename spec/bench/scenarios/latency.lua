-- How long a job waits for an idle worker.

local folders = require "spec.bench.folders"
local Peers = require "spec.bench.peers"
local wait = require "spec.support.wait"
local enqueue = require "spec.bench.scenarios.enqueue"
local rounds = require "spec.bench.rounds"
local runs = require "spec.bench.runs"
local stats = require "spec.bench.stats"

local latency = { name = "latency", title = "Latency: from enqueueing to the handler, worker asleep" }

local BARE = "bare commit"
local QUANTILES = { { key = "p50", q = 0.5 }, { key = "p99", q = 0.99 }, { key = "max", q = 1 } }

-- The latency of a peer includes its client for Node. If a peer can be used by SQL, our own client is used instead.
local GRAPHILE = "SELECT graphile_worker.add_job('bench', json_build_object('sent', $1::text))"

-- All numbers in the files of that name, in ms.
local function read_waits(paths)
  local list = {}
  for _, path in ipairs(paths) do
    local file = io.open(path)
    for ns in (file and file:read "*a" or ""):gmatch "(%d+)\n" do
      list[#list + 1] = ns / 1e6
    end
    if file then
      file:close()
    end
  end
  return list
end

local function wait_for(count, paths)
  return wait.till("all jobs to have begun", 60, function()
    local list = read_waits(paths())
    return #list >= count and list, #list
  end)
end

local function run_bare(db, count, round)
  db:empty()
  db:settle()
  local took = enqueue.send(db, count, round)
  db:expect(count)
  return took
end

local function run_ours(db, count, round)
  db:empty()
  db:settle()
  local bell = db:has_trigger()
  local worker = runs.start_serving(db, {
    kind = "latency", jobs = count, args = bell and {} or { "--poll-interval", "1s" },
  })
  enqueue.send(db, count, round)
  local waits = wait_for(count, function() return folders.files(worker.folder) end)
  runs.stop(worker)
  db:expect(0)
  return waits
end

local function run_peer(bench, name, count, round)
  local db = bench.peers:fill(bench.server, name, 0)
  local folder = folders.new()
  local path = folder .. "/waits"
  local worker = bench.peers:serve(name, db, path)
  if name == "pg-boss" then
    Peers.finish(bench.peers:start(name, db, "send", count, round))
  else
    enqueue.send(db, count, round, GRAPHILE)
  end
  local waits = wait_for(count, function() return { path } end)
  wait.sleep(0.5) -- until the worker has written the outcomes
  worker:kill "sigterm"
  worker:wait(60)
  Peers.expect_done(name, db)
  folders.remove(folder)
  return waits
end

-- A contender whose values are kept, for quantiles of all rounds.
local function contender(pooled, name, fn)
  pooled[name] = {}
  return { name = name, run = function(round)
    local values, figures = fn(round), {}
    for _, value in ipairs(values) do
      table.insert(pooled[name], value)
    end
    for _, quantile in ipairs(QUANTILES) do
      figures[quantile.key] = stats.quantile(values, quantile.q)
    end
    return figures
  end }
end

-- The 99th percentile of one round depends on a few jobs, so the percentile of all rounds is compared.
local function compare(results, pooled, names)
  for _, name in ipairs(names) do
    table.insert(results.figures, rounds.single(name .. ": p99 of all rounds", "ms",
      stats.quantile(pooled[name], 0.99)))
  end
  local goals = { p50 = { at_most = 3 }, p99 = { at_most = 10 } }
  for _, name in ipairs(names) do
    for _, key in ipairs(name ~= BARE and { "p50", "p99" } or {}) do
      local q = key == "p50" and 0.5 or 0.99
      local single = rounds.single(("%s over a bare commit: %s"):format(name, key), "ms",
        stats.quantile(pooled[name], q) - stats.quantile(pooled[BARE], q))
      single.goal = name == "pgq-lua" and goals[key] or nil
      table.insert(results.comparisons, single)
    end
  end
end

function latency.prepare(bench)
  local db = bench.server:database "bench"
  local count = math.ceil(bench.size(2000, 10) / bench.options.rounds)
  local pooled, names = {}, {}
  local plan = {
    about = ("%d jobs a round, one by one, 60 ms and a random time with a mean of 40 ms apart: from just before the "
      .. "statement is sent to the begin of the handler, by one clock. A bare commit is the same INSERT into the same "
      .. "table without a worker, till its commit is acknowledged."):format(count),
    contenders = {
      contender(pooled, BARE, function(round) return run_bare(db, count, round) end),
      contender(pooled, "pgq-lua", function(round) return run_ours(db, count, round) end),
    },
    figures = {
      { key = "p50", name = "p50", unit = "ms" }, { key = "p99", name = "p99", unit = "ms" },
      { key = "max", name = "max", unit = "ms" },
    },
    notes = db:has_trigger() and {} or { "The tables have no trigger: pgq-lua polls, every second." },
    finish = function(results) compare(results, pooled, names) end,
  }
  for _, name in ipairs(bench.peers and Peers.names or {}) do
    table.insert(plan.contenders, contender(pooled, name, function(round)
      return run_peer(bench, name, count, round)
    end))
  end
  for i, one in ipairs(plan.contenders) do
    names[i] = one.name
  end
  return plan
end

return latency

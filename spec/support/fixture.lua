-- The beginning of most specs: a server with the tables, a clean start of each test, and functions to enqueue jobs and
-- to run a worker. Called inside of a describe block.

local busted = require "busted"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"

local fixture = {}

-- The first lines of most workers' scripts: `pgq`, `uv`, now() in seconds, spin(seconds), which computes, and
-- wait_for(condition), which lets other handlers run until condition() is true.
fixture.HEAD = [[
local pgq = require "pgq"
local uv = require "luv"
local function now() return uv.hrtime() / 1e9 end
local function spin(seconds)
  local began = now()
  while now() - began < seconds do end
end
local function wait_for(condition)
  local began = now()
  while not condition() do
    assert(now() - began < 20, "waited in vain")
    pgq.sleep(0.05)
  end
end
]]

-- fixture.server{ sql = "CREATE TABLE …", clean = "TRUNCATE …" }: a server that runs while the tests of this describe
-- block do; the other options are those of Postgres.start. `sql` runs once. Before each test all jobs and all workers'
-- rows are deleted and `clean` runs. After each test its workers are killed: the workers of a failed test would claim
-- the jobs of the next test. Returns the server, which is started when the tests begin.
function fixture.server(options)
  options = options or {}
  local pg = setmetatable({}, Postgres)
  local clean = "TRUNCATE pgq_jobs, pgq_workers RESTART IDENTITY"
  if options.clean then
    clean = clean .. ";" .. options.clean
  end
  options.migrated = true

  busted.setup(function()
    Postgres.start(options, pg)
    if options.sql then
      pg:psql(options.sql)
    end
  end)
  busted.teardown(function() pg:stop() end)
  busted.before_each(function() pg:psql(clean) end)
  busted.after_each(Worker.kill_all)
  return pg
end

-- fixture.enqueuer(pg, retry_waits): a function enqueue(queue, data, count) that inserts `count` jobs (1) with one text
-- (""), and with these retry waits, such as "{1h}" (the default: a job that failed shows it until the test ends).
function fixture.enqueuer(pg, retry_waits)
  retry_waits = retry_waits or "{1h}"
  return function(queue, data, count)
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data, retry_waits) SELECT '%s', '%s', '%s' FROM generate_series(1, %d)")
      :format(queue, data or "", retry_waits, count or 1))
  end
end

-- fixture.workers(pg, { head = fixture.HEAD, args = { "--executors", "1" }, env = }): two functions with these
-- defaults. start(script, …) starts a worker on `head` and script, with `args` and the options that follow.
-- drain(script, …) runs it until no job is due, expects exit status 0, and returns what Process:wait returns.
function fixture.workers(pg, options)
  options = options or {}
  local head = options.head or fixture.HEAD
  local function start(script, ...)
    local args = { unpack(options.args or { "--executors", "1" }) }
    for _, word in ipairs { ... } do
      args[#args + 1] = word
    end
    return Worker.start { pg = pg, script = head .. script, args = args, env = options.env }
  end
  local function drain(script, ...)
    local result = start(script, "--drain", ...):wait(60)
    assert(result.status == 0, result.stderr)
    return result
  end
  return start, drain
end

-- fixture.queues_of(bodies): the script of a worker with a queue q1, q2, … for each of these bodies of handlers, whose
-- arguments are `data` and `job`.
function fixture.queues_of(bodies)
  local script = {}
  for i, body in ipairs(bodies) do
    script[i] = ('pgq.register_queue("q%d", function(data, job)\n%s\nend)'):format(i, body)
  end
  return table.concat(script, "\n")
end

-- fixture.run_all(pg, drain, bodies, …): runs one job for each of the bodies, all in the same worker, with the options
-- that follow. Returns a list with the end of each job, "completed" or "attempt|retried or failed|error", and what
-- drain returned. No jobs are left then.
function fixture.run_all(pg, drain, bodies, ...)
  for i in ipairs(bodies) do
    fixture.enqueuer(pg)("q" .. i)
  end
  local result = drain(fixture.queues_of(bodies), ...)
  local left = {}
  for i in ipairs(bodies) do
    local row = pg:psql(([[SELECT attempt, CASE WHEN ran_at IS NULL THEN 'retried' ELSE 'failed' END, error
      FROM pgq_jobs WHERE queue_name = 'q%d']]):format(i))
    left[i] = row == "" and "completed" or row
  end
  pg:psql "TRUNCATE pgq_jobs RESTART IDENTITY"
  return left, result
end

return fixture

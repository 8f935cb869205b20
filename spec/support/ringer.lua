-- A client that enqueues in all possible ways, at random moments while a worker falls asleep, and waits for the jobs it
-- enqueued to be done:
--
--     luajit spec/support/ringer.lua CONNINFO QUEUE,… SEED SECONDS DEADLINE
--
-- It goes on for SECONDS, and on a slow machine until it has made at least 25 rounds.
--
-- Between rounds it is silent, so that the next wake-up does not hide a lost one. No other worker may run jobs
-- of these queues by polling. It prints its rounds, its jobs and the slowest round; or, with status 1, the round whose
-- jobs were not done within DEADLINE seconds of their commit.

local uv = require "luv"
local pgq = require "pgq"

local conninfo, queue_list, seed, seconds, deadline = ...
seed, seconds, deadline = tonumber(seed), tonumber(seconds), tonumber(deadline)
math.randomseed(seed)
local conn = assert(pgq.connect(conninfo))

local queues = {}
for name in queue_list:gmatch "[^,]+" do
  queues[#queues + 1] = name
end

local function any_queue()
  return queues[math.random(#queues)]
end

local function nap(most_ms)
  uv.sleep(math.random(0, most_ms))
end

-- One transaction of three is long.
local function hold()
  if math.random(3) == 1 then
    nap(300)
  end
end

local function insert(tx, tag)
  assert(tx:query("INSERT INTO pgq_jobs (queue_name, data) VALUES ($1, $2::text::bytea)", any_queue(), tag))
  return 1
end

local function transaction(fn)
  return assert(select(2, assert(conn:transaction(fn))))
end

local function isolated(level)
  return function(tag)
    return transaction(function(tx)
      assert(tx:query("SET TRANSACTION ISOLATION LEVEL " .. level))
      assert(tx:query "SELECT count(*) FROM pgq_workers") -- the snapshot is of now
      hold()
      insert(tx, tag)
      hold()
      return 1
    end)
  end
end

-- Each function enqueues jobs whose data is the tag, commits, and returns the number of jobs.
local ways = {
  plain = function(tag) return insert(conn, tag) end,
  enqueue = function(tag)
    assert(conn:enqueue(any_queue(), tag))
    return 1
  end,
  many_queues = function(tag)
    local rows = assert(conn:query([[INSERT INTO pgq_jobs (queue_name, data)
      SELECT name, $2::text::bytea FROM unnest($1::text[]) AS name, generate_series(1, 3)]],
      "{" .. queue_list .. "}", tag))
    return rows.affected
  end,
  copy = function(tag)
    assert(conn:query(([[COPY pgq_jobs (queue_name, data) FROM PROGRAM 'printf "%s\t%s\n%s\t%s\n"']]):format(
      any_queue(), tag, any_queue(), tag)))
    return 2
  end,
  transaction = function(tag)
    return transaction(function(tx)
      hold()
      insert(tx, tag)
      hold()
      return 1
    end)
  end,
  twice = function(tag)
    return transaction(function(tx)
      insert(tx, tag)
      hold()
      insert(tx, tag)
      return 2
    end)
  end,
  savepoint_first = function(tag)
    return transaction(function(tx)
      assert(tx:query "SAVEPOINT a")
      insert(tx, tag)
      hold()
      assert(tx:query "ROLLBACK TO a")
      insert(tx, tag)
      hold()
      return 1
    end)
  end,
  savepoint_last = function(tag)
    return transaction(function(tx)
      assert(tx:query "SAVEPOINT a")
      insert(tx, tag)
      assert(tx:query "RELEASE a")
      assert(tx:query "SAVEPOINT b")
      insert(tx, tag)
      hold()
      assert(tx:query "ROLLBACK TO b")
      return 1
    end)
  end,
  repeatable_read = isolated "REPEATABLE READ",
  serializable = isolated "SERIALIZABLE",
}

local names = {}
for name in pairs(ways) do
  names[#names + 1] = name
end
table.sort(names)

local function are_done(tag)
  return assert(conn:query("SELECT FROM pgq_jobs WHERE data = $1::text::bytea LIMIT 1", tag))[1] == nil
end

local rounds, jobs, slowest = 0, 0, 0

local function round(name)
  local tag = ("%d-%d"):format(seed, rounds)
  jobs = jobs + ways[name](tag)
  rounds = rounds + 1
  local committed = uv.hrtime()
  while not are_done(tag) do
    local took = (uv.hrtime() - committed) / 1e9
    if took > deadline then
      print(("LOST: seed %d, round %d (%s), not done after %.1f s"):format(seed, rounds, name, took))
      os.exit(1)
    end
    uv.sleep(2)
  end
  slowest = math.max(slowest, (uv.hrtime() - committed) / 1e9)
end

local till = uv.hrtime() + seconds * 1e9
while uv.hrtime() < till or rounds < 25 do
  round(names[math.random(#names)])
  -- The worker looks for jobs for 50 ms after its last job, and then goes to sleep.
  if math.random(4) == 1 then
    nap(300)
  else
    uv.sleep(math.random(40, 70))
  end
end
print(("rounds %d jobs %d slowest %.3f s"):format(rounds, jobs, slowest))
conn:close()

-- A worker with many queues: it asks those that have jobs, and looks at the others.
local fixture = require "spec.support.fixture"

describe("a worker with many queues", function()
  local pg = fixture.server()
  local _, drain = fixture.workers(pg)

  -- Enqueues `each` jobs for each of the queues q1 to q`queues`, for one queue after the other.
  local function fill(queues, each)
    pg:psql(([[INSERT INTO pgq_jobs (queue_name, data, retry_waits)
      SELECT 'q' || n %% %d + 1, '', '{0s}' FROM generate_series(1, %d) AS n]]):format(queues, queues * each))
  end

  local function expect_done()
    assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
  end

  it("completes the jobs of each of them, whatever their handlers do", function()
    fill(300, 20)
    drain([[
      local handlers = {
        function() end,
        function() uv.sleep(2) end,
        function() pgq.sleep(0.002) end,
        function(_, job) if job.attempt == 1 and job.id % 7 == 0 then error "once" end end,
        function(_, job) if job.attempt == 1 and job.id % 500 == 0 then return pgq.backoff() end end,
      }
      for i = 1, 300 do
        pgq.register_queue("q" .. i, handlers[i % 5 + 1], { transactional = i % 50 == 0 })
      end]], "--executors", "2")
    expect_done()
  end)

  -- All of them are found by the second claim.
  it("begins all of them long before one of them is done", function()
    fill(40, 2000)
    local result = drain [[
      local counts, begun = {}, 0
      for i = 1, 40 do
        pgq.register_queue("q" .. i, function()
          counts[i] = (counts[i] or 0) + 1
          begun = begun + (counts[i] == 1 and 1 or 0)
          if counts[i] == 2000 and begun then
            print(begun .. " have begun")
            begun = 0 / 0
          end
        end)
      end]]
    assert.equal("40", result.stdout:match "^(%d+) have begun")
    expect_done()
  end)

  it("runs the jobs of each of them in order", function()
    fill(60, 200)
    local result = drain [[
      local last = {}
      for i = 1, 60 do
        pgq.register_queue("q" .. i, function(_, job)
          if job.id < (last[i] or 0) then print("job " .. job.id .. " ran after " .. last[i]) end
          last[i] = job.id
        end)
      end]]
    assert.equal("", result.stdout)
    expect_done()
  end)

  -- The jobs are enqueued by a handler, so that the number of jobs which run before them does not depend on the pace of
  -- the machine.
  it("finds the jobs of idle queues while others have a backlog, whatever it knows of these queues", function()
    fill(3, 10000)
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, run_after)
      SELECT queue, '', now() - interval '1 hour' FROM generate_series(1, 3), unnest('{slow,quick}'::text[]) AS queue]]
    local result = drain(([[
      local count, enqueued, late = 0, nil, {}
      for i = 1, 100 do
        pgq.register_queue("q" .. i, function()
          count = count + 1
          spin(0.00003)
          if count == 5000 then
            local insert = "INSERT INTO pgq_jobs (queue_name, data) VALUES ('slow', ''), ('quick', ''), ('new', '')"
            assert(os.execute('psql -X -q -d "%s" -c "' .. insert .. '"') == 0)
            enqueued = count
          end
        end)
      end
      for _, name in ipairs { "slow", "quick", "new" } do
        pgq.register_queue(name, function()
          if name == "slow" then uv.sleep(60) end
          if enqueued then print(name .. " after " .. count - enqueued) end
        end)
      end]]):format(pg.conninfo))
    for _, name in ipairs { "slow", "quick", "new" } do
      local jobs = tonumber(result.stdout:match(name .. " after (%d+)"))
      assert.is_true(jobs and jobs < 10000, result.stdout)
    end
    expect_done()
  end)
end)

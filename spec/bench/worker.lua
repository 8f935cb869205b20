-- The script of the workers that are measured. Arguments: what its jobs do, the folder for what they note, how many
-- queues it registers, every how many jobs it counts.

local pgq = require "pgq"
local uv = require "luv"
local ffi = require "ffi"
local statements = require "spec.bench.statements"
local tally = require "spec.bench.tally"

ffi.cdef "int poll(void *fds, unsigned long count, int timeout_ms);"

local kind, folder, queues, step = ...
local count = tally.counter(folder, tonumber(step))

local function spin(seconds)
  local until_ns = uv.hrtime() + seconds * 1e9
  repeat until uv.hrtime() >= until_ns
end

local latencies
local function note_latency(data)
  local took = uv.hrtime() - tonumber(data)
  latencies = latencies or assert(io.open(("%s/latency-%d"):format(folder, uv.os_getpid()), "w"))
  latencies:write(("%.0f\n"):format(took))
  latencies:flush()
end

local handlers = {
  nothing = count,
  latency = note_latency,
  fail = function(data) -- one in a hundred: the number of the job ends in 00
    count()
    if data:byte(-1) == 48 and data:byte(-2) == 48 then
      return nil, "failed as planned"
    end
  end,
  spin = function()
    count()
    spin(0.001)
  end,
  block = function()
    count()
    ffi.C.poll(nil, 0, 50)
  end,
  wait = function()
    count()
    pgq.sleep(0.05)
  end,
  second = function()
    count()
    pgq.sleep(1)
  end,
  queries = function(data)
    count()
    local account = statements.account_of(data)
    assert(pgq.query(statements.read, account))
    assert(pgq.query(statements.write, account))
    assert(pgq.query(statements.read, account))
    assert(pgq.enqueue(statements.queue, data))
  end,
}

for i = 1, tonumber(queues) do
  pgq.register_queue(i == 1 and "bench" or "bench" .. i, handlers[kind])
end

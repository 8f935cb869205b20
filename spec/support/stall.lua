-- For how long the machine stood still, or gave the specs no processor time. The processes of the specs may then have
-- had none either, so timers of the worker may have fired late and in another order.

local uv = require "luv"
local loop = require "spec.support.loop"

local stall = {}

local STEP_MS = 10

-- stall.longest(fn): calls fn, which is to wait in the specs' loop, and returns the longest time in seconds for which
-- the loop did not run.
function stall.longest(fn)
  local timer, last, longest = uv.new_timer(), uv.hrtime(), 0
  local function look()
    local now = uv.hrtime()
    longest = math.max(longest, now - last - STEP_MS * 1e6)
    last = now
  end
  uv.update_time()
  timer:start(STEP_MS, STEP_MS, look)
  local ok, problem = pcall(fn)
  look()
  loop.close(timer)
  loop.settle()
  if not ok then
    error(problem, 0)
  end
  return longest / 1e9
end

return stall

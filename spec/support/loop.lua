-- The event loop of the specs, and how to close a handle in it.

local uv = require "luv"

local loop = {}

-- luv 1.44 frees a handle that is collected between close() and the next iteration of the loop, which then reads it. So
-- closing handles are kept here until the loop is done with them.
local closing = {}

function loop.close(handle)
  if not handle:is_closing() then
    closing[handle] = true
    handle:close(function() closing[handle] = nil end)
  end
end

-- Runs the loop until all handles are closed; also needed before the Lua state ends.
function loop.settle()
  while next(closing) do
    uv.run("nowait")
  end
end

-- Runs the loop until fn gives a true value, which it returns; nil when `timeout` seconds pass first.
function loop.run_until(timeout, fn)
  local timer = uv.new_timer()
  local over = false
  -- The loop's clock stands still while the loop does not run: without an update, the timer would fire too early.
  uv.update_time()
  -- It repeats: uv.run("once") fires a timer that is due before it polls, and would then wait for ever.
  timer:start(math.max(0, math.floor(timeout * 1000)), 10, function() over = true end)
  local value = fn()
  while not value and not over do
    uv.run("once")
    value = fn()
  end
  loop.close(timer)
  loop.settle()
  return value
end

return loop

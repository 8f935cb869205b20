-- Waits with a deadline for conditions that have to be polled.

local uv = require "luv"
local loop = require "spec.support.loop"

local wait = {}

local POLL_SECONDS = 0.02

-- wait.sleep(seconds): only for specs in which time itself is the subject.
function wait.sleep(seconds)
  loop.run_until(seconds, function() end)
end

-- wait.till(what, timeout, fn): calls fn until it returns a true value, and returns what it returned. After timeout
-- seconds it raises an error that names `what` and the last value (or error) that fn gave.
function wait.till(what, timeout, fn)
  local deadline = uv.hrtime() + timeout * 1e9
  while true do
    local results = { pcall(fn) }
    local ok, value, detail = results[1], results[2], results[3]
    if ok and value then
      return unpack(results, 2, table.maxn(results))
    end
    if uv.hrtime() >= deadline then
      local seen = tostring(value)
      if detail ~= nil then
        seen = seen .. ", " .. tostring(detail)
      end
      error(("waited %gs for %s; last seen: %s"):format(timeout, what, seen), 2)
    end
    wait.sleep(POLL_SECONDS)
  end
end

return wait

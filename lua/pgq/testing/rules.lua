-- How a job is settled after its handler has ended. The supervisor of a worker has the same rules.

local core = require "pgq.core"

local floor, ipairs = math.floor, ipairs
local format, gmatch = string.format, string.gmatch

local rules = {}

--- The retry waits of a job that was enqueued without waits of its own, as Postgres stores them.
rules.DEFAULT_WAITS = {}
for wait in gmatch(core.default_retry_waits, "[^{},]+") do
  rules.DEFAULT_WAITS[#rules.DEFAULT_WAITS + 1] = wait
end

function rules.copy_list(list)
  local to = {}
  for i, value in ipairs(list) do
    to[i] = value
  end
  return to
end

--- The seconds from one time to the other, rounded to milliseconds; nil unless it is later.
function rules.delay(created_at, run_after)
  local delay = run_after and floor((run_after - created_at) * 1000 + 0.5) / 1000
  return delay and delay > 0 and delay or nil
end

--- Returns a message when a job cannot be given to a handler, or nil.
function rules.find_refusal(job)
  for i, wait in ipairs(job.retry_waits) do
    local ms, problem = core.retry_wait(wait)
    if not ms then
      return format("retry_waits cannot be read: element %d, '%s', %s; write durations such as 10m0s", i, wait, problem)
    end
  end
end

local function fail(ending, queue)
  ending.action = queue.discard_failed and "delete" or "fail"
  return ending
end

--- Decides how a job is settled.
-- @tparam table queue with preserve_completed and discard_failed, as they apply to the queue
-- @tparam table waits the retry waits that are left
-- @param ... what outcome.of() has returned
-- @treturn table status, error, traceback, wait (seconds), and action: delete, preserve, retry, fail or snooze
function rules.decide(queue, waits, ok, message, how, wait_ms, traceback)
  if ok then
    return { status = "complete", action = queue.preserve_completed and "preserve" or "delete" }
  end
  if how == "snooze" then
    return { status = "snooze", action = "snooze", wait = wait_ms / 1000 }
  end
  local ending = { status = how == "backoff" and how or "failed", traceback = traceback }
  ending.error = core.clean_text(message)
  if how == "discard" then
    ending.status = how
    return fail(ending, queue)
  end
  if #waits == 0 then
    return fail(ending, queue)
  end
  wait_ms = wait_ms or core.retry_wait(waits[1])
  ending.status = how == "backoff" and how or "retry"
  ending.action = "retry"
  ending.wait = wait_ms / 1000
  return ending
end

return rules

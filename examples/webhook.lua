-- Posts the data of each job to a webhook with curl: handlers wait, so an executor has many calls in flight.
-- Run:      pgq-lua --dev examples/webhook.lua http://localhost:8080/hook
-- Enqueue:  pgq-lua --dev enqueue webhook '{"order": 7}'
local pgq = require "pgq"
local run = require "examples.run"

local url = assert(arg[1], "the URL of the webhook is missing")

pgq.configure { concurrency = 100 } -- up to 100 calls in flight in each executor

pgq.register_queue("webhook", function(body, job)
  -- A job may run more than once; the key tells the receiver which calls it has had already.
  local curl, problem = run("curl", {
    "--silent", "--show-error", "--max-time", "5", "--json", "@-",
    "--header", ("Idempotency-Key: %d"):format(job.id),
    "--output", "/dev/null", "--write-out", "%{http_code} %header{retry-after}", url,
  }, body)
  if not curl then
    return nil, problem
  elseif curl.status ~= 0 then
    return nil, curl.stderr -- no connection, no answer within 5 seconds …
  end

  local status, wait = curl.stdout:match "^(%d+) (%d*)"
  local message = "the webhook answered " .. status
  if status:find "^2" then
    print(("job %d: %s"):format(job.id, message))
  elseif status == "503" then
    return pgq.backoff(message) -- the receiver is overloaded: the other calls should wait, too
  elseif wait ~= "" then
    return pgq.retry(tonumber(wait), message) -- the receiver has said when to try again
  elseif status:find "^4" and status ~= "408" and status ~= "429" then
    return pgq.discard(message) -- the receiver would refuse this data the next time, too
  else
    return nil, message
  end
end, { timeout = "30s" })

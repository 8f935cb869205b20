-- A worker with three queues: jobs that succeed, jobs that fail once, and jobs whose queue backs off.
-- Run:      pgq-lua --dev examples/hello.lua
-- Enqueue:  pgq-lua --dev enqueue hello Ann
local pgq = require "pgq"

-- A job is done when its handler returns. If the worker dies before that, the job runs again.
pgq.register_queue("hello", function(data, job)
  print(("job %d: hello, %s!"):format(job.id, data))
end)

-- A handler fails by returning nil and a message, or by raising an error. The job runs again after its next retry wait.
pgq.register_queue("flaky", function(data, job)
  if job.attempt == 1 then
    return nil, "the first attempt fails"
  end
  print(("job %d: %s, in attempt %d"):format(job.id, data, job.attempt))
end)

-- While a service is overloaded, further jobs would fail too: a backoff pauses the whole queue, for longer each time,
-- until a job succeeds.
pgq.register_queue("busy", function(data, job)
  if job.attempt <= 2 then
    return pgq.backoff("the service is busy")
  end
  print(("job %d: %s, in attempt %d"):format(job.id, data, job.attempt))
end)

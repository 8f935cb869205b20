-- Ways to fail, and what each means for the next attempt. The jobs of this queue import files of names.
-- Run:      pgq-lua --dev examples/retry.lua
-- Enqueue:  pgq-lua --dev enqueue import names.txt --retry-waits 1s,10s,1h
local pgq = require "pgq"

local function count_lines(file)
  local count = 0
  for _ in file:lines() do
    count = count + 1
  end
  return count
end

pgq.register_queue("import", function(path, job)
  if not path:find "%.txt$" then
    return pgq.discard(path .. " is not a text file") -- failed for good: another attempt would fail too
  end
  local file, problem = io.open(path)
  if not file then
    return nil, problem -- failed: the job runs again after its next retry wait, if it has one left
  end
  local count = count_lines(file)
  file:close()
  if count == 0 then
    return pgq.retry("2s", path .. " is still empty") -- failed: runs again after this wait instead of the next one
  end
  print(("%s: %d names, in attempt %d"):format(path, count, job.attempt))
end)

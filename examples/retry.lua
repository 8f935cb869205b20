-- Attempts that fail, and what they say about the next one. The jobs of this queue import files of names.
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
    return pgq.discard(path .. " is no text file") -- failed for good: no attempt would help
  end
  local file, problem = io.open(path)
  if not file then
    return nil, problem -- failed: again after the next of the job's retry waits, until there is none
  end
  local count = count_lines(file)
  file:close()
  if count == 0 then
    return pgq.retry("2s", path .. " is empty yet") -- failed: again after this wait, which takes the place of the next
  end
  print(("%s: %d names, in attempt %d"):format(path, count, job.attempt))
end)

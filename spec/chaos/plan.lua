-- What the jobs of a chaos run do. A job's data is its plan: a word and a number. The handlers follow it, the books
-- know from it how an attempt had to end, and so that no outcome was made up.

local plan = {}

-- weight: of 1000 jobs how many; number: its range. `queue` is where it goes; it also says what is claimed in batches.
plan.kinds = {
  { name = "quick", queue = "quick", weight = 930, number = { 0, 0 } },   -- does nothing but write its row
  { name = "sleep", queue = "quick", weight = 5, number = { 0.1, 1.2 } }, -- sleeps so many seconds, amid a batch
  { name = "sleep", queue = "slow", weight = 4, number = { 0.1, 3 } },
  { name = "spin", queue = "slow", weight = 2, number = { 0.1, 1.5 } },   -- computes so long
  { name = "fail", queue = "flaky", weight = 52, number = { 1, 3 } },     -- fails its attempts up to this one
  { name = "doom", queue = "flaky", weight = 4, number = { 0, 0 } },      -- fails all attempts, and stays as failed
  { name = "exit", queue = "deadly", weight = 1, number = { 1, 2 } },     -- os.exit() up to this attempt
  { name = "kill", queue = "deadly", weight = 2, number = { 1, 2 } },     -- SIGKILL for its own executor, likewise
}

plan.queues = { "quick", "slow", "flaky", "deadly" }

-- So many retries that faults alone cannot make a job fail for good; a job whose plan is to fail has few.
plan.retry_waits = {}
for i = 1, 40 do
  plan.retry_waits[i] = i < 4 and 0.2 or 1
end
plan.doomed_waits = { 0.2, 0.5 }

local WHOLE = { fail = true, exit = true, kill = true }

-- plan.choose(random): a job's queue, data and retry waits; random() is in [0, 1).
function plan.choose(random)
  local left = random() * 1000
  local chosen = plan.kinds[1]
  for _, kind in ipairs(plan.kinds) do
    if left < kind.weight then
      chosen = kind
      break
    end
    left = left - kind.weight
  end
  local least, most = unpack(chosen.number)
  local number = WHOLE[chosen.name] and least + math.floor(random() * (most - least + 1))
    or least + random() * (most - least)
  return chosen.queue, ("%s %.6g"):format(chosen.name, number),
    chosen.name == "doom" and plan.doomed_waits or plan.retry_waits
end

return plan

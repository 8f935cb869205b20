-- Measures enqueueing from a file of lines.

local uv = require "luv"
local process = require "spec.support.process"
local wait = require "spec.support.wait"
local folders = require "spec.bench.folders"
local memory = require "spec.bench.memory"
local runs = require "spec.bench.runs"

local bulk = {}

function bulk.is_known()
  return runs.has_option("enqueue", "--lines")
end

-- bulk.write_files(count): two files in a new folder, which is returned: `lines`, each line the data of a job, and
-- `rows`, the same as COPY reads it.
function bulk.write_files(count)
  local folder = folders.new()
  local lines, rows = assert(io.open(folder .. "/lines", "w")), assert(io.open(folder .. "/rows", "w"))
  for i = 1, count do
    lines:write(("%020d\n"):format(i))
    rows:write(("bench\t%020d\n"):format(i))
  end
  lines:close()
  rows:close()
  return folder
end

-- Runs a command to its end. Returns its duration in seconds, and the largest memory that was seen, in MB.
local function run(words)
  local began = uv.hrtime()
  local child, most = process.start(words), 0
  while child:is_running() do
    most = math.max(most, memory.peak(child.pid) or 0)
    wait.sleep(0.02)
  end
  local result = child:wait()
  assert(result.status == 0, result.stdout .. result.stderr)
  return (uv.hrtime() - began) / 1e9, most
end

-- Both enqueue a file of `count` jobs into the empty table, and return jobs per second and the peak of their memory.
local function into(db, count, words)
  db:empty()
  db:settle()
  local seconds, most = run(words)
  db:expect(count)
  return count / seconds, most
end

function bulk.lines(db, folder, count)
  return into(db, count, { "sh", "-c", 'exec "$1" enqueue --db "$2" bench --lines <"$3"', "sh", os.getenv "PGQ_LUA",
    db.conninfo, folder .. "/lines" })
end

function bulk.copy(db, folder, count)
  return into(db, count, { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", db.conninfo, "-c",
    ("\\copy pgq_jobs (queue_name, data) FROM '%s/rows'"):format(folder) })
end

return bulk

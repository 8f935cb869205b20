-- Describes the machine and the programs of a measurement.

local uv = require "luv"
local process = require "spec.support.process"

local machine = {}

-- The first line of what a command prints; "unknown" when it fails.
local function output_of(...)
  local ok, result = pcall(process.run, { ... })
  return ok and result.status == 0 and result.stdout:match "^[^\n]+" or "unknown"
end

function machine.cores()
  return #uv.cpu_info()
end

-- The build type (CMake's) of the program that is measured.
function machine.build_type()
  local file = io.open(os.getenv "PGQ_BUILD" .. "/CMakeCache.txt")
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  return text:match "CMAKE_BUILD_TYPE:[^=]*=(%S+)" or "unknown"
end

local function commit()
  local id = output_of("git", "rev-parse", "--short", "HEAD")
  -- The results themselves may differ: they are written by each run.
  local changed = output_of("git", "status", "--porcelain", "--", ".", ":!spec/bench/results.md")
  return id .. (id ~= "unknown" and changed ~= "unknown" and " with changes" or "")
end

-- machine.describe(server, peers): a list of { what, value }. `peers` is nil, or names and versions, node's among them.
function machine.describe(server, peers)
  local one, five = uv.loadavg()
  local list = {
    { "date", os.date "!%Y-%m-%d %H:%M UTC" },
    { "machine", ("%d cores, %s; %.0f GB of memory; Linux %s"):format(machine.cores(), uv.cpu_info()[1].model,
      uv.get_total_memory() / 2 ^ 30, output_of("uname", "-r")) },
    { "load before the start", ("%.2f (1 minute), %.2f (5 minutes)"):format(one, five) },
    { "Postgres", server.pg:psql("SHOW server_version") .. ", on the same machine, on "
      .. output_of("findmnt", "-n", "-o", "FSTYPE", "-T", server.dir) .. ", through a unix socket" },
    { "pgq-lua", ("%s, commit %s, %s"):format(output_of(os.getenv "PGQ_LUA", "--version"), commit(),
      machine.build_type()) },
  }
  for _, peer in ipairs(peers or {}) do
    list[#list + 1] = peer
  end
  local settings = {}
  for i, setting in ipairs(server:shown_settings()) do
    settings[i] = table.concat(setting, " = ")
  end
  list[#list + 1] = { "settings", table.concat(settings, ", ") }
  return list
end

return machine

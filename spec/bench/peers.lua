-- The queues that pgq-lua is compared with: installed by npm into the build, run under the Node that they ask for.

local uv = require "luv"
local process = require "spec.support.process"

local Peers = {}
Peers.__index = Peers

local SOURCE = "spec/bench/peers"

-- As on graphile-worker's page on performance: otherwise the log line of each job would be measured.
local ENV = { NO_LOG_SUCCESS = "1", NODE_ENV = "production" }

Peers.names = { "graphile-worker", "pg-boss" }
local PROGRAMS = { ["graphile-worker"] = "graphile.mjs", ["pg-boss"] = "pgboss.mjs" }

local function version_of(folder, name)
  local file = assert(io.open(("%s/node_modules/%s/package.json"):format(folder, name)))
  local version = file:read("*a"):match '"version":%s*"([^"]+)"'
  file:close()
  return version
end

-- Peers.install(): installs them in build/bench/peers, if they are not there already.
function Peers.install()
  local folder = os.getenv "PGQ_BUILD" .. "/bench/peers"
  process.check { "sh", "-c", [[
    mkdir -p "$2" && cp "$1"/*.mjs "$2" || exit 1
    if ! cmp -s "$1/package.json" "$2/installed.json"; then
      cp "$1/package.json" "$2" && cd "$2" && npm install --no-audit --no-fund --no-package-lock &&
        cp package.json installed.json
    fi]], "sh", SOURCE, folder, timeout = 600 }
  local self = setmetatable({ folder = folder, node = folder .. "/node_modules/node/bin/node" }, Peers)
  self.node_version = process.check({ self.node, "--version" }):match "%S+"
  return self
end

-- For the report: a list of { name, version }.
function Peers:versions()
  local list = {}
  for i, name in ipairs(Peers.names) do
    list[i] = { name, ("%s (npm), on Node %s"):format(version_of(self.folder, name), self.node_version) }
  end
  return list
end

function Peers:start(name, db, ...)
  local env = { DATABASE_URL = db:url() }
  for key, value in pairs(ENV) do
    env[key] = value
  end
  return process.start { self.node, self.folder .. "/" .. PROGRAMS[name], env = env, ... }
end

local function finish(child)
  local result = child:wait(1800)
  assert(result.status == 0 and result.signal == 0, "a peer failed: " .. result.stdout .. result.stderr)
  return result.stdout
end

-- Makes a new database for the peer, with this many jobs.
function Peers:fill(server, name, jobs)
  local database = "peer_" .. name:gsub("%W", "_")
  server:drop(database)
  local db = server:bare_database(database)
  finish(self:start(name, db, "fill", jobs))
  db:settle()
  return db
end

local LEFT = {
  ["graphile-worker"] = "SELECT count(*) FROM graphile_worker._private_jobs",
  ["pg-boss"] = "SELECT count(*) FROM pgboss.job WHERE name = 'bench' AND state <> 'completed'",
}

function Peers.expect_done(name, db)
  local left = db:psql(LEFT[name])
  assert(left == "0", ("this run did not do its work: %s jobs of %s are left"):format(left, name))
end

-- The same figures as runs.drain: jobs per second from the first handler on, and from the start of the process.
function Peers:drain(server, name, jobs)
  local db = self:fill(server, name, jobs)
  local began = uv.hrtime()
  local out = finish(self:start(name, db, "drain", jobs))
  local first, done = out:match "first (%d+) done (%d+)"
  Peers.expect_done(name, db)
  return jobs / ((done - first) / 1e9), jobs / ((done - began) / 1e9)
end

-- Starts its worker; returns it when it serves. It appends how long each job waited to the file `path`.
function Peers:serve(name, db, path)
  local worker = self:start(name, db, "serve", path)
  worker:read_until("serving", 30, "stdout")
  return worker
end

Peers.finish = finish

return Peers

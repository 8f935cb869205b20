-- busted loads this before any spec, once per run.
--
-- C modules are loaded here and stay: busted drops what a spec file has required, and loading a C module a second time
-- into one process crashes (hence also --no-auto-insulate).
require "luv"
pcall(require, "pgq.core")

local loop = require "spec.support.loop"
local Pgbouncer = require "spec.support.pgbouncer"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"

Postgres.add_to_path()

-- A spec that fails in its setup never reaches its teardown.
require "busted".subscribe({ "suite", "end" }, function()
  Pgbouncer.stop_all()
  Postgres.stop_all()
  Worker.kill_all()
  Worker.remove_scripts()
  loop.settle()
  return nil, true
end)

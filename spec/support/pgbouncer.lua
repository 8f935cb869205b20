-- A pgbouncer of the specs' own, before a server of spec/support/postgres.lua: in a temporary folder, reached through a
-- unix socket there, gone when the specs end.

local uv = require "luv"
local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local Pgbouncer = {}
Pgbouncer.__index = Pgbouncer

local running = {}

local SETTINGS = [[
[databases]
* = host=%s port=%d

[pgbouncer]
listen_port = %d
unix_socket_dir = %s
auth_type = trust
auth_file = %s/users
admin_users = postgres
logfile = %s/log
pidfile = %s/pid
%s]]

local function write_file(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

local function settings_text(settings)
  local lines = {}
  for name, value in pairs(settings) do
    lines[#lines + 1] = ("%s = %s\n"):format(name, value)
  end
  return table.concat(lines)
end

-- Pgbouncer.start(pg, { pool_mode = "transaction", default_pool_size = 4, … }): starts one and returns it when it
-- answers. `conninfo` leads through it to the database of pg.
function Pgbouncer.start(pg, settings)
  local dir = assert(uv.fs_mkdtemp("/tmp/pgq-pool-XXXXXX"))
  local self = setmetatable({ pg = pg, dir = dir, port = pg.port }, Pgbouncer)
  running[self] = true
  write_file(dir .. "/users", '"postgres" ""\n')
  write_file(dir .. "/ini", SETTINGS:format(pg.dir, pg.port, self.port, dir, dir, dir, dir, settings_text(settings)))
  self.conninfo = ("host=%s port=%d dbname=postgres user=postgres"):format(dir, self.port)
  local _, user = Postgres.as_user()
  if user ~= "" then
    process.check { "chown", "-R", user, dir }
  end
  self:up()
  return self
end

-- Starts it again after :down().
function Pgbouncer:up()
  -- The change of the user clears the signal at the death of the parent, so it is set once more.
  local words = { unpack((Postgres.as_user())) }
  for _, word in ipairs { "setpriv", "--pdeathsig", "KILL", "--", "pgbouncer", self.dir .. "/ini" } do
    words[#words + 1] = word
  end
  words.cwd = "/"
  words.env = { PATH = os.getenv "PATH" .. ":/usr/sbin" } -- Debian's place for it
  self._process = process.start(words)
  wait.till("pgbouncer to answer", 30, function() return self:admin "SHOW VERSION" end)
end

-- Ends it at once, and all its connections to clients and servers.
function Pgbouncer:down()
  self._process:kill "sigterm"
  self._process:wait()
end

-- Sends a command to the console of pgbouncer, and returns what psql prints.
function Pgbouncer:admin(command)
  local conninfo = self.conninfo:gsub("dbname=postgres", "dbname=pgbouncer")
  return process.check { "psql", "-XqAtc", command, "-d", conninfo }
end

-- Runs SQL through it with psql, as Postgres:psql does.
function Pgbouncer:psql(sql)
  local out = process.check { "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo, "-f", "-",
    input = sql, timeout = 60 }
  return (out:gsub("\n$", ""))
end

-- Returns what pgbouncer has logged so far.
function Pgbouncer:log()
  local file = io.open(self.dir .. "/log")
  local text = file and file:read "*a" or ""
  if file then
    file:close()
  end
  return text
end

-- Ends it and removes its folder. A second call does nothing.
function Pgbouncer:stop()
  if not running[self] then
    return
  end
  running[self] = nil
  if self._process and self._process:is_running() then
    self:down()
  end
  process.check { "rm", "-rf", self.dir }
end

function Pgbouncer.stop_all()
  for pool in pairs(running) do
    pool:stop()
  end
end

return Pgbouncer

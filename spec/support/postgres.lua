-- A Postgres server of the specs' own: in a temporary folder, reached through a unix socket there, gone afterwards.

local uv = require "luv"
local libpq = require "spec.support.libpq"
local ports = require "spec.support.port"
local process = require "spec.support.process"

local Postgres = {}
Postgres.__index = Postgres

local running = {}

local BASE_SETTINGS = {
  fsync = "off",
  full_page_writes = "off",
  listen_addresses = "",
  max_connections = "100",
  shared_buffers = "32MB",
}

-- The folder of psql and, unless PGQ_POSTGRES names another one, of the server's programs. Of the folders of all
-- versions, such as /usr/lib/postgresql/15/bin, the last one is the newest.
local BINDIR = [[
dir=$(pg_config --bindir 2>/dev/null)
[ -x "$dir/initdb" ] || dir=$(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$dir/initdb" ] && echo "$dir"]]

-- Waits until the specs end (its stdin closes), however they end, then stops the server and removes the folder.
-- $1: folder; the other arguments: the pg_ctl command.
local WATCHER = [[
dir=$1; shift
cat >/dev/null
if [ -f "$dir/data/postmaster.pid" ]; then "$@" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1; fi
rm -rf "$dir"]]

-- Makes a template: runs a script that leaves a cluster in $dir/data, and moves that cluster into its place. Several
-- runs of the specs may call this at once: one of them does the work, the others wait for its lock. The work is done in
-- /tmp, because the build folder may be closed to the server's user.
-- $1: template; $2: name of the server's user, empty if the specs run as that user; $3: script; the other arguments are
-- the script's.
local MAKE_TEMPLATE = [[
set -e
template=$1; user=$2; script=$3; shift 3
[ ! -d "$template" ] || exit 0
dir=$(mktemp -d /tmp/pgq-spec-template-XXXXXX)
trap 'rm -rf "$dir"' EXIT
if [ -n "$user" ]; then chown "$user" "$dir"; fi
eval "$script"
rm -rf "$template.new"
cp -a --reflink=auto "$dir/data" "$template.new"
mv "$template.new" "$template"]]

-- The arguments are the initdb command.
local INITDB = [[
cd "$dir"
"$@" -D "$dir/data" --no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C]]

-- $1: the empty template; the other arguments are the pg_ctl command. The server is shut down, so the copies start
-- without a recovery.
local MIGRATE = [[
cp -a --reflink=auto "$1" "$dir/data"; shift
(cd /; "$@" -D "$dir/data" -w -t 60 -l "$dir/log" -o "-F -k $dir -c listen_addresses=" start) >/dev/null
PGOPTIONS="-c client_min_messages=warning" psql -X -q -1 -v ON_ERROR_STOP=1 -h "$dir" -p 5432 -U postgres -d postgres \
  -f sql/create_table.sql || status=$?
(cd /; "$@" -D "$dir/data" -m fast -w stop) >/dev/null
[ -z "${status:-}" ] || exit "$status"]]

-- Starts a server that alone sees a small disk: the mount is gone when the server is.
-- $1: folder to mount on; $2: size; the other arguments: the pg_ctl command.
local WITH_DISK = [[
dir=$1; size=$2; shift 2
mount -t tmpfs -o "size=$size" pgq-spec "$dir" && chown --reference="$dir/.." "$dir" || exit 1
exec "$@"]]

local function user_exists(name)
  return process.run { "id", "-u", name }.status == 0
end

-- A base backup through SQL, for a server that comes without pg_basebackup. Its session has to stay open meanwhile,
-- hence \!. Before version 15 the functions had other names.
-- $1: folder of the standby's data; $2: folder of the primary's data; $3: connection string; $4: version of the server.
local BASE_BACKUP = [[
set -e
start="pg_backup_start('standby', true)"; stop="pg_backup_stop()"
if [ "$4" -lt 15 ]; then start="pg_start_backup('standby', true, false)"; stop="pg_stop_backup(false, false)"; fi
psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$3" >/dev/null <<END
SELECT $start;
\! cp -a "$2" "$1" && rm -rf "$1"/postmaster.pid "$1"/postmaster.opts "$1"/pg_replslot/* "$1"/pg_wal/0*
SELECT labelfile FROM $stop \g $1/backup_label
END
touch "$1/standby.signal"
echo "primary_conninfo = '$3'" >>"$1/postgresql.auto.conf"]]

-- How to run the server's programs, since Postgres refuses to run as root. It is determined once.
local installation
local function get_installation()
  if installation then
    return installation
  end
  local clients = process.check({ "sh", "-c", BINDIR }):gsub("%s+$", "")
  local bindir = os.getenv "PGQ_POSTGRES" or clients
  local prefix, user = {}, ""
  if uv.getuid() == 0 then
    user = user_exists("postgres") and "postgres" or "nobody"
    local gid = process.check({ "id", "-g", user }):gsub("%s+$", "")
    prefix = { "setpriv", "--reuid", user, "--regid", gid, "--init-groups", "--" }
  end
  local version = process.check({ bindir .. "/postgres", "--version" }):match "%d.*%w"
  installation = {
    bindir = bindir, clients = clients, prefix = prefix, user = user, version = version:gsub("[^%w.]+", "-"),
  }
  return installation
end

-- Postgres.as_user(): the words that make the rest of a command line run as the user of the servers, as a table, and
-- that user's name; both are empty if the specs run as that user.
function Postgres.as_user()
  local found = get_installation()
  return found.prefix, found.user
end

-- Lets specs find psql and pgbench where Debian has them: its /usr/bin/psql is a script in Perl that takes four times
-- as long.
function Postgres.add_to_path()
  uv.os_setenv("PATH", get_installation().clients .. ":" .. os.getenv "PATH")
end

-- The major version of the servers, as a number.
function Postgres.version()
  return tonumber(get_installation().version:match "%d+")
end

-- Postgres.can_dump(): whether the pg_dump in the PATH of specs can read the servers: it refuses newer versions.
function Postgres.can_dump()
  return tonumber(process.check({ "pg_dump", "--version" }):match "%d+") >= Postgres.version()
end

-- The command line that runs a program as the user of the servers, as a table.
local function as_user(...)
  local words = { unpack(get_installation().prefix) }
  for _, word in ipairs { ... } do
    words[#words + 1] = word
  end
  return words
end

-- The command line that runs a program of the server, as a table.
local function command(program, ...)
  return as_user(get_installation().bindir .. "/" .. program, ...)
end

-- Makes the template `name` in the build folder unless it is there, with the arguments of MAKE_TEMPLATE, and returns
-- its path. The path has the server's version and whatever else the content depends on.
local function make_template(name, script, ...)
  local found = get_installation()
  local build = assert(os.getenv("PGQ_BUILD"), "PGQ_BUILD is not set: run specs through <build>/busted")
  local template = ("%s/postgres-template-%s%s"):format(build, found.version, name)
  if not uv.fs_stat(template) then
    process.check {
      "flock", template .. ".lock", "sh", "-c", MAKE_TEMPLATE, "sh", template, found.user, script,
      timeout = 120, ...,
    }
  end
  return template
end

local function empty_template()
  return make_template("", INITDB, unpack(command "initdb"))
end

-- A checksum of the files that `migrate` runs.
local function schema_version()
  return process.check({ "sh", "-c", "cksum < sql/create_table.sql" }):match "%d+"
end

local function migrated_template()
  local name = "-migrated-" .. schema_version()
  return make_template(name, MIGRATE, empty_template(), unpack(command "pg_ctl"))
end

local function write_settings(dir, settings)
  local file = assert(io.open(dir .. "/data/postgresql.conf", "a"))
  for name, value in pairs(settings) do
    file:write(("%s = '%s'\n"):format(name, (tostring(value):gsub("'", "''"))))
  end
  file:close()
end

local function merged(...)
  local all = {}
  for _, settings in ipairs { ... } do
    for name, value in pairs(settings) do
      all[name] = value
    end
  end
  return all
end

-- An empty folder that is removed when the specs end, for a server that is not there yet.
local function new_server(tcp, self)
  local found = get_installation()
  local dir = assert(uv.fs_mkdtemp("/tmp/pgq-spec-XXXXXX"))
  local watcher = { "sh", "-c", WATCHER, "sh", dir, unpack(command("pg_ctl")) }
  watcher.stdin, watcher.outlive, watcher.cwd = "pipe", true, "/"
  local port = tcp and ports.free() or 5432
  self = setmetatable(self or {}, Postgres)
  self.dir, self.port, self._watcher = dir, port, process.start(watcher)
  running[self] = true
  if found.user ~= "" then
    process.check { "chown", found.user, dir }
  end
  self.conninfo = ("host=%s port=%d dbname=postgres user=postgres"):format(dir, port)
  if tcp then
    self.tcp_conninfo = ("host=127.0.0.1 port=%d dbname=postgres user=postgres"):format(port)
  end
  return self
end

local function address_settings(self)
  local addresses = self.tcp_conninfo and "127.0.0.1" or ""
  return { port = self.port, unix_socket_directories = self.dir, listen_addresses = addresses }
end

-- Postgres.can_have_disk(): whether servers may be started with `disk` here; only root may mount.
function Postgres.can_have_disk()
  return uv.getuid() == 0 and process.run({ "unshare", "-m", "true" }).status == 0
end

-- Postgres.start{ settings = { name = value }, tcp = true, disk = "8m", migrated = true }: starts a server and returns
-- it. Fields: conninfo (through the unix socket), dir, port, and with `tcp` also tcp_conninfo (127.0.0.1, a free port).
-- With `migrated` its database has the tables that `pgq-lua migrate` creates. With `disk` the server has an empty file
-- system of that size at dir .. "/disk", for a tablespace; it does not survive :down(). The server becomes `object`, if
-- given.
function Postgres.start(options, object)
  options = options or {}
  local template = options.migrated and migrated_template() or empty_template()
  local self = new_server(options.tcp, object)
  self._disk = options.disk
  if self._disk then
    process.check { "mkdir", self.dir .. "/disk" }
  end
  process.check { "cp", "-a", "--reflink=auto", template, self.dir .. "/data", timeout = 30 }
  write_settings(self.dir, merged(BASE_SETTINGS, options.settings or {}, address_settings(self)))
  self:up()
  return self
end

-- Postgres.start_standby(primary): a streaming standby of a server that was started with `tcp`; it has `tcp` too.
function Postgres.start_standby(primary)
  local self = new_server(true)
  local data = self.dir .. "/data"
  local words = command("pg_basebackup", "-d", primary.conninfo, "-D", data, "-R", "-X", "stream", "-c", "fast",
    "--no-sync")
  if not uv.fs_stat(get_installation().bindir .. "/pg_basebackup") then
    words = as_user("sh", "-c", BASE_BACKUP, "sh", data, primary.dir .. "/data", primary.conninfo, Postgres.version())
  end
  words.timeout, words.cwd = 60, "/"
  process.check(words)
  write_settings(self.dir, address_settings(self))
  self:up()
  return self
end

-- Promotes a standby, and returns when it is the primary.
function Postgres:promote()
  self:_pg_ctl("promote")
end

function Postgres:_pg_ctl(...)
  local words = command("pg_ctl", "-D", self.dir .. "/data", "-w", "-t", "30", "-l", self.dir .. "/log", ...)
  if self._disk and (...) == "start" then
    words = { "unshare", "-m", "sh", "-c", WITH_DISK, "sh", self.dir .. "/disk", self._disk, unpack(words) }
  end
  words.timeout, words.cwd = 35, "/"
  local result = process.run(words)
  if result.status ~= 0 then
    local what = table.concat({ ... }, " ")
    error(("pg_ctl %s failed: %s%s\n%s"):format(what, result.stdout, result.stderr, self:log()), 3)
  end
end

-- Starts the server again after :down().
function Postgres:up()
  self:_pg_ctl("start")
end

-- Stops the server and keeps its folder; mode is "fast" (the default), "immediate" or "smart".
function Postgres:down(mode)
  self:_pg_ctl("-m", mode or "fast", "stop")
end

function Postgres:restart(mode)
  self:_pg_ctl("-m", mode or "fast", "restart")
end

-- Returns what the server has logged so far.
function Postgres:log()
  local file = io.open(self.dir .. "/log")
  if not file then
    return ""
  end
  local text = file:read("*a")
  file:close()
  return text
end

-- Runs SQL as psql does, in a session of its own, and returns what psql would print: a line per row, with "|"
-- between the columns. Raises an error when a statement fails.
function Postgres:psql(sql)
  if libpq.can_run(sql) then
    local text, problem = libpq.run(self.conninfo, sql, 60)
    return text or error(("%s\n%s"):format(problem, sql), 2)
  end
  local out = process.check {
    "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo, "-f", "-", input = sql, timeout = 60,
  }
  return (out:gsub("\n$", ""))
end

-- Creates the tables, or brings them up to date.
function Postgres:migrate()
  process.check { os.getenv "PGQ_LUA", "--db", self.conninfo, "migrate", timeout = 60 }
end

-- Stops the server and removes its folder. A second call does nothing.
function Postgres:stop()
  if running[self] then
    running[self] = nil
    self._watcher:close_stdin()
    self._watcher:wait(30)
  end
end

function Postgres.stop_all()
  for server in pairs(running) do
    server:stop()
  end
end

return Postgres

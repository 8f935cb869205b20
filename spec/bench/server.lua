-- The server for the measurements, with one database for each contender that needs its own rows.

local pgq = require "pgq"
local uv = require "luv"
local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local Server = {}
Server.__index = Server

local Database = {}
Database.__index = Database

-- The durability of a server in production. The other settings make figures steady: a checkpoint in one run and not
-- of the next would be all that is seen.
Server.settings = {
  { "fsync", "on" }, { "full_page_writes", "on" }, { "synchronous_commit", "on" }, { "wal_level", "replica" },
  { "shared_buffers", "512MB" }, { "max_wal_size", "4GB" }, { "checkpoint_timeout", "30min" },
  { "max_connections", "200" }, { "autovacuum", "on" },
}

-- Making ten million jobs takes minutes on a slow disk.
local TIMEOUT = 3600

function Server.start()
  local settings = {}
  for _, setting in ipairs(Server.settings) do
    settings[setting[1]] = setting[2]
  end
  local self = setmetatable({ pg = Postgres.start { settings = settings }, databases = {} }, Server)
  self.dir = self.pg.dir
  return self
end

-- Server:database(name [, program]): that database with the tables of pgq-lua, as it makes them, or another program in
-- its place; made when it is not there.
function Server:database(name, program)
  if not self.databases[name] then
    local database = self:bare_database(name)
    process.check { program or os.getenv "PGQ_LUA", "migrate", "--db", database.conninfo, timeout = 60 }
  end
  return self.databases[name]
end

-- The same without tables, for the peers.
function Server:bare_database(name)
  if not self.databases[name] then
    self.pg:psql("CREATE DATABASE " .. name)
    self.databases[name] = setmetatable({
      server = self, name = name, conninfo = self.pg.conninfo:gsub("dbname=%S+", "dbname=" .. name),
    }, Database)
  end
  return self.databases[name]
end

function Server:drop(name)
  local database = self.databases[name]
  if database then
    self.databases[name] = nil
    if database.conn then
      database.conn:close()
    end
    self.pg:psql(("DROP DATABASE %s WITH (FORCE)"):format(name))
  end
end

-- The settings as the server has them: a list of { name, value }.
function Server:shown_settings()
  local list = {}
  for i, setting in ipairs(Server.settings) do
    list[i] = { setting[1], self.pg:psql("SHOW " .. setting[1]) }
  end
  return list
end

function Server:stop()
  self.pg:stop()
end

-- Where the server is, for clients that want a URL.
function Database:url()
  return ("postgres://postgres@/%s?host=%s&port=%d"):format(self.name, self.server.dir, self.server.pg.port)
end

function Database:psql(sql)
  local out = process.check {
    "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo, "-f", "-", input = sql,
    timeout = TIMEOUT,
  }
  return (out:gsub("\n$", ""))
end

-- Runs a statement over a connection that stays open, and returns its rows: for what is asked again and again, or is
-- needed at once.
function Database:query(sql)
  self.conn = self.conn or assert(pgq.connect(self.conninfo))
  return assert(self.conn:query(sql))
end

-- How many sessions of programs the database has now, beside our own; with `condition`, SQL over pg_stat_activity, only
-- those.
function Database:sessions(condition)
  return self:query(([[SELECT count(*) AS sessions FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND (%s)]]):format(condition or "true"))[1].sessions
end

function Database:has_jobs()
  return #self:query "SELECT FROM pgq_jobs LIMIT 1" > 0
end

local function insertion(count, options)
  options = options or {}
  local queues = options.queues or 1
  return ([[INSERT INTO pgq_jobs (queue_name, data, run_after, retry_waits)
    SELECT 'bench' || coalesce(nullif(n %% %d + 1, 1)::text, ''), %s, %s, '%s'
    FROM generate_series(1, %d) AS n]]):format(queues,
    options.data or "convert_to(lpad(n::text, 20, '0'), 'UTF8')", options.due or "now()",
    options.waits or "{1m0s,10m0s,30m0s}", count)
end

-- Enqueues `count` jobs by one statement, for each queue in turn. options: queues (1); data and due (run_after), both
-- SQL over their number n; waits (retry_waits).
function Database:enqueue(count, options)
  self:psql(insertion(count, options))
end

-- The same; returns the time (ns) when it was committed, which is when workers can see the jobs.
function Database:enqueue_timed(count, options)
  self:query(insertion(count, options))
  return uv.hrtime()
end

function Database:empty()
  self:psql "TRUNCATE pgq_jobs"
end

-- Vacuums the tables and flushes the disk, so that earlier runs do not slow down the next one.
function Database:settle()
  self:psql "VACUUM (ANALYZE)"
  self:psql "CHECKPOINT"
end

-- What has been done to pgq_jobs so far, of sessions that are over: rows that were deleted, and blocks that were looked
-- at in the table and its indexes, in all and those that were not in the server's memory.
function Database:count_work()
  wait.till("the sessions to be over", 30, function()
    return self:psql [[SELECT count(*) FROM pg_stat_activity
      WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()]] == "0"
  end)
  local seen = self:psql [[
    SELECT n_tup_del, heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read, heap_blks_read + idx_blks_read
    FROM pg_stat_user_tables JOIN pg_statio_user_tables USING (relid) WHERE relid = 'pgq_jobs'::regclass]]
  local deleted, blocks, read = seen:match "(%d+)|(%d+)|(%d+)"
  return { deleted = tonumber(deleted), blocks = tonumber(blocks), read = tonumber(read) }
end

-- Raises an error unless the table has so many rows in all, and so many of them with an error.
function Database:expect(rows, failed)
  local seen = self:psql "SELECT count(*), count(error) FROM pgq_jobs"
  local wanted = ("%d|%d"):format(rows, failed or 0)
  assert(seen == wanted, ("this run did not do its work: jobs|errors in the table are %s, not %s"):format(seen, wanted))
end

-- Whether the tables have a doorbell.
function Database:has_trigger()
  return self:psql [[SELECT count(*) > 0 FROM pg_trigger
    WHERE tgrelid = 'pgq_jobs'::regclass AND NOT tgisinternal]] == "t"
end

function Database:set_trigger(on)
  self:psql(("ALTER TABLE pgq_jobs %s TRIGGER USER"):format(on and "ENABLE" or "DISABLE"))
end

return Server

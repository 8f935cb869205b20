-- Functions for specs of the doorbell: its flags, its rings, and whether a worker sends statements.

local process = require "spec.support.process"
local wait = require "spec.support.wait"

local bell = {}

-- bell.flags(pg, schema): how many flags "asleep" are up, of all workers of the table in that schema ("public").
function bell.flags(pg, schema)
  return tonumber(pg:psql(([[SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND classid = '%s.pgq_jobs'::regclass AND objid >= 256]]):format(schema or "public")))
end

-- bell.wait_asleep(pg, count, schema): waits until `count` flags (1) are up. From then on every enqueue rings.
function bell.wait_asleep(pg, count, schema)
  wait.till((count or 1) .. " flags to be up", 30, function() return bell.flags(pg, schema) == (count or 1) end)
end

-- bell.last_stir(pg, name): when the sessions of that application_name last did anything, as text. The control
-- session, which holds the lock of the worker's row, does not count: it has a heartbeat. Claims come from the others.
function bell.last_stir(pg, name)
  return pg:psql(([[SELECT max(state_change) FROM pg_stat_activity AS a WHERE application_name = '%s' AND query <> ''
    AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND locktype = 'advisory'
      AND classid IN (SELECT oid FROM pg_class WHERE relname = 'pgq_workers'))]]):format(name))
end

-- bell.wait_still(pg, name, seconds): waits until they have done nothing for that long (half a second), and returns
-- bell.last_stir().
function bell.wait_still(pg, name, seconds)
  return wait.till(name .. " to be still", 30, function()
    local before = bell.last_stir(pg, name)
    wait.sleep(seconds or 0.5)
    return before ~= "" and bell.last_stir(pg, name) == before and before
  end)
end

-- bell.control_pid(pg): the process number of the only worker's control session, as text; "" while there is none.
function bell.control_pid(pg)
  return pg:psql "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 'pgq_workers'::regclass"
end

-- bell.lose_control(pg): ends the control session of the only worker, and waits until it has another. The session
-- that was ended may be seen for a while.
function bell.lose_control(pg)
  local pid = bell.control_pid(pg)
  pg:psql(("SELECT pg_terminate_backend(%s)"):format(pid))
  wait.till("the next control session", 30, function()
    local new = bell.control_pid(pg)
    return new ~= pid and new:find "^%d+$" ~= nil
  end)
end

local Listener = {}
Listener.__index = Listener

-- bell.listen(pg): a psql session that listens to the rings.
function bell.listen(pg)
  local psql = process.start { "psql", "-XqAt", "-d", pg.conninfo, stdin = "pipe" }
  local self = setmetatable({ _psql = psql, _asked = 0, _seen = 1 }, Listener)
  psql:write "LISTEN pgq_bell;\n"
  self:heard()
  return self
end

-- Returns the number of rings since the last call.
function Listener:heard()
  self._asked = self._asked + 1
  self._psql:write(("SELECT 'asked %d';\n"):format(self._asked))
  self._psql:read_until(("asked %d\n"):format(self._asked))
  -- psql prints notifications after the result of a statement, so the next statement shows all of them.
  self._psql:write(("SELECT 'again %d';\n"):format(self._asked))
  self._psql:read_until(("again %d\n"):format(self._asked))
  local _, rings = self._psql.stdout:gsub('Asynchronous notification "pgq_bell"', "")
  local new = rings - self._seen + 1
  self._seen = rings + 1
  return new
end

function Listener:close()
  self._psql:close_stdin()
  self._psql:wait()
end

return bell

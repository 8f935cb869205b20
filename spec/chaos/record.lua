-- Writes the rows of chaos_runs, for the scripts of workers.

local pgq = require "pgq"
local uv = require "luv"

-- new_record(worker, conninfo): a function record(job), which writes the row of this run, and tries again when the
-- server goes away. All handlers of an executor share the connection, and one of them makes it: a server that many
-- workers reach at once after its start has no time for connections that are given up.
return function(worker, conninfo)
  local pid = uv.os_getpid()
  local runs, audit, connecting = 0, nil, false

  local function connect()
    if audit or connecting then
      return
    end
    connecting = true
    local ok, conn = pcall(pgq.connect, conninfo .. " connect_timeout=60")
    connecting = false
    if not ok then -- the handler was interrupted
      error(conn, 0)
    end
    audit = conn
  end

  return function(job)
    runs = runs + 1
    local run = runs
    while true do
      connect()
      local conn = audit
      if conn then
        local done, message, code = conn:query("INSERT INTO chaos_runs (worker, pid, run, job, attempt) VALUES "
          .. "($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING", worker, pid, run, job.id, job.attempt)
        if done then
          return
        end
        if code:sub(1, 2) ~= "08" and code:sub(1, 2) ~= "57" then
          io.stderr:write("chaos: cannot write a run: ", message, " ", code, "\n")
        end
        conn:close()
        audit = audit ~= conn and audit or nil
      end
      pgq.sleep(0.02)
    end
  end
end

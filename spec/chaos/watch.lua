-- Watches how long transactions of the workers last, in a process of its own. Argument: connection string. Prints a
-- line "now worker age what" (seconds since 1970, seconds, what it does and whom it waits for) for each transaction of
-- more than half a second that it sees. It ends when its stdin closes.

local pgq = require "pgq"
local uv = require "luv"

local conninfo = ...
local SQL = [[
  SELECT application_name, extract(epoch FROM clock_timestamp())::text AS now,
    extract(epoch FROM clock_timestamp() - xact_start)::text AS age,
    concat_ws(' ', state, 'since', to_char(state_change, 'HH24:MI:SS.MS'), wait_event_type, wait_event,
      regexp_replace(left(query, 50), '\s+', ' ', 'g'),
      'waits for ' || (SELECT string_agg(application_name || ' ' || state, ', ') FROM pg_stat_activity AS other
        WHERE other.pid = ANY (pg_blocking_pids(mine.pid)))) AS what
  FROM pg_stat_activity AS mine
  WHERE application_name ~ '^w[0-9]+[.]' AND xact_start < clock_timestamp() - interval '0.5 s']]

local stopped, conn = false, nil
local stdin = uv.new_pipe(false)
stdin:open(0)
stdin:read_start(function() stopped = true end)
while not stopped do
  conn = conn or pgq.connect(conninfo)
  local rows = conn and conn:query(SQL)
  if rows then
    for _, row in ipairs(rows) do
      print(row.now, row.application_name, row.age, row.what)
    end
    io.stdout:flush()
  elseif conn then
    conn:close()
    conn = nil
  end
  uv.sleep(150)
  uv.run("nowait")
end

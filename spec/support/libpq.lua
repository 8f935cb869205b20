-- Statements run through libpq in the specs' own process. A psql costs ten times as much CPU time, and specs that poll
-- the database run hundreds of them.

local ffi = require "ffi"
local uv = require "luv"
local loop = require "spec.support.loop"

ffi.cdef [[
  typedef struct pg_conn PGconn;
  typedef struct pg_result PGresult;
  PGconn *PQconnectdb(const char *conninfo);
  int PQstatus(const PGconn *conn);
  char *PQerrorMessage(const PGconn *conn);
  int PQsocket(const PGconn *conn);
  int PQsendQuery(PGconn *conn, const char *query);
  int PQconsumeInput(PGconn *conn);
  int PQisBusy(PGconn *conn);
  PGresult *PQgetResult(PGconn *conn);
  void PQfinish(PGconn *conn);
  int PQresultStatus(const PGresult *res);
  char *PQresultErrorMessage(const PGresult *res);
  int PQntuples(const PGresult *res);
  int PQnfields(const PGresult *res);
  int PQgetlength(const PGresult *res, int row, int column);
  char *PQgetvalue(const PGresult *res, int row, int column);
  void PQclear(PGresult *res);
]]

local pq = ffi.load "pq"

local CONNECTION_OK = 0
local PGRES_EMPTY_QUERY, PGRES_COMMAND_OK, PGRES_TUPLES_OK = 0, 1, 2

-- psql's name, by which specs tell these sessions from others. Notices would go to the specs' stderr.
local SESSION = " connect_timeout=30 fallback_application_name=psql options='-c client_min_messages=error'"

local libpq = {}

-- libpq.can_run(sql): whether this is one statement. psql can split several statements, and can COPY.
function libpq.can_run(sql)
  return not sql:gsub("[;%s]+$", ""):find "[;\\]" and not sql:find "^%s*[Cc][Oo][Pp][Yy]"
end

local function rows_of(result)
  local lines = {}
  for row = 0, pq.PQntuples(result) - 1 do
    local values = {}
    for column = 0, pq.PQnfields(result) - 1 do
      values[column + 1] = ffi.string(pq.PQgetvalue(result, row, column), pq.PQgetlength(result, row, column))
    end
    lines[row + 1] = table.concat(values, "|")
  end
  return table.concat(lines, "\n")
end

local STATUSES = {
  [PGRES_EMPTY_QUERY] = function() return "" end,
  [PGRES_COMMAND_OK] = function() return "" end,
  [PGRES_TUPLES_OK] = rows_of,
}

-- Runs the specs' loop until the answer has come, so that the processes of the spec are read meanwhile. Returns false
-- after `timeout` seconds.
local function wait_for_answer(conn, timeout)
  local poll = uv.new_poll(pq.PQsocket(conn))
  local readable = true
  poll:start("r", function() readable = true end)
  local done = loop.run_until(timeout, function()
    if not readable then
      return false
    end
    readable = false
    return pq.PQconsumeInput(conn) == 0 or pq.PQisBusy(conn) == 0
  end)
  poll:stop()
  loop.close(poll)
  loop.settle()
  return done
end

local function run(conn, sql, timeout)
  if pq.PQstatus(conn) ~= CONNECTION_OK or pq.PQsendQuery(conn, sql) == 0 then
    return nil, ffi.string(pq.PQerrorMessage(conn))
  end
  local text, problem = "", nil
  while true do
    if not wait_for_answer(conn, timeout) then
      return nil, ("no answer within %g s"):format(timeout)
    end
    local result = pq.PQgetResult(conn)
    if result == nil then
      return not problem and text or nil, problem
    end
    local read = STATUSES[pq.PQresultStatus(result)]
    if read then
      text = read(result)
    else
      problem = ffi.string(pq.PQresultErrorMessage(result))
    end
    pq.PQclear(result)
  end
end

-- libpq.run(conninfo, sql, timeout): runs one statement in a session of its own. Returns the rows as `psql -A -t`
-- prints them, without the last newline, or nil and what went wrong. `timeout` is in seconds.
function libpq.run(conninfo, sql, timeout)
  local conn = pq.PQconnectdb(conninfo .. SESSION)
  local text, problem = run(conn, sql, timeout)
  pq.PQfinish(conn)
  return text, problem
end

return libpq

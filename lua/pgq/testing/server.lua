-- The jobs of a test with a server. The statements do what a worker's do, for one job at a time. A claimed job is
-- leased before its handler runs, so that it is not locked meanwhile.
--
-- The server's clock cannot be moved. Instead, all jobs are made older.

local connection = require "pgq.database.connection"
local core = require "pgq.core"
local rules = require "pgq.testing.rules"

local concat, error, format, gmatch, gsub, ipairs, setmetatable =
  table.concat, error, string.format, string.gmatch, string.gsub, ipairs, setmetatable

local Server = {}
Server.__index = Server

-- The lease is not extended, so it is longer than any test.
local LEASE = "interval '1 day'"

local TOKEN = "(random() * 1e14)::bigint + 1"

-- NULLs are selected in other ways, since the script's instance of pgq has a pgq.null of its own.
local COLUMNS = concat({
  "id, queue_name, data, attempt",
  "coalesce(error, '') AS error, error IS NOT NULL AS has_error",
  "array_to_string(retry_waits, E'\n') AS waits",
  "lease IS NOT NULL AS leased, ran_at IS NOT NULL AS ended",
  "extract(epoch FROM created_at)::float8 AS created_at",
  "extract(epoch FROM run_after)::float8 AS run_after",
  "extract(epoch FROM coalesce(ran_at, run_after))::float8 AS ran_at",
}, ", ")

local function check(value, message, code)
  if value then
    return value
  end
  if code == "42P01" or code == "42703" then
    message = message .. "; run `pgq-lua migrate` to create the tables"
  end
  error("testing: " .. message, 0)
end

--- Connects, and raises an error when there is no server, or no table.
function Server.new(conninfo)
  local self = setmetatable({ _conn = check(connection.open(conninfo)) }, Server)
  self:_query "SELECT lease FROM pgq_jobs LIMIT 0"
  return self
end

function Server:_query(sql, ...)
  return check(self._conn:query(sql, ...))
end

function Server.os_functions()
  return {}
end

-- A list of texts as the literal of a Postgres array.
local function array(texts)
  local quoted = {}
  for i, text in ipairs(texts) do
    quoted[i] = '"' .. gsub(text, '["\\]', "\\%0") .. '"'
  end
  return "{" .. concat(quoted, ",") .. "}"
end

local function state_of(row)
  if row.ended then
    return row.has_error and "failed" or "preserved"
  end
  return row.leased and "running" or "waiting"
end

local function read(row)
  local waits = {}
  for wait in gmatch(row.waits, "[^\n]+") do
    waits[#waits + 1] = wait
  end
  return {
    id = row.id,
    queue = row.queue_name,
    data = row.data,
    attempt = row.attempt,
    error = row.has_error and row.error or nil,
    retry_waits = waits,
    created_at = row.created_at,
    run_after = row.run_after,
    delay = rules.delay(row.created_at, row.run_after),
    ran_at = row.ended and row.ran_at or nil,
    state = state_of(row),
  }
end

local OLDER = gsub("created_at, run_after, ran_at", "[%l_]+", "%0 = %0 - $1::float8 * interval '1 second'")
local AGE = "WITH free AS (SELECT id FROM pgq_jobs FOR UPDATE SKIP LOCKED)"
  .. " UPDATE pgq_jobs AS job SET " .. OLDER .. " FROM free WHERE job.id = free.id"

--- Makes all jobs older, except those that the script has locked in a transaction.
function Server:age(seconds)
  self:_query(AGE, seconds)
end

function Server:enqueue(queue, data, options)
  return self._conn:enqueue(queue, data, options)
end

--- The largest id so far. Jobs that are enqueued later have larger ids.
function Server:mark()
  return self:_query("SELECT coalesce(max(id), 0) AS id FROM pgq_jobs")[1].id
end

local LIST = "SELECT " .. COLUMNS .. " FROM pgq_jobs"
  .. " WHERE id > $1 AND ($2::text IS NULL OR queue_name = $2) ORDER BY id"

--- The jobs with ids above `mark`, of a queue or of all (nil), in the order in which they were enqueued.
function Server:jobs(queue, mark)
  local rows = self:_query(LIST, mark or 0, queue)
  local jobs = {}
  for i, row in ipairs(rows) do
    jobs[i] = read(row)
  end
  return jobs
end

local DUE = "queue_name = ANY ($1::text[]) AND ran_at IS NULL AND run_after <= now()"
local CLAIM = "SELECT " .. COLUMNS .. " FROM pgq_jobs WHERE " .. DUE
  .. " ORDER BY run_after, id LIMIT 1 FOR UPDATE SKIP LOCKED"
local COUNT_ATTEMPT = "attempt = least(attempt, 2147483646) + CASE WHEN lease IS NULL THEN 1 ELSE 0 END"
local TAKE_LEASE = "UPDATE pgq_jobs SET lease = " .. TOKEN .. ", run_after = now() + " .. LEASE .. ", " .. COUNT_ATTEMPT
  .. " WHERE id = $1 RETURNING attempt, lease"

--- Leases the job of these queues that is due first, and counts its attempt. Returns nil when none is due. The field
-- `lost` is true when a worker had leased the job and did not settle it.
function Server:claim(names)
  local job
  check(self._conn:transaction(function(tx)
    local row = check(tx:query(CLAIM, array(names)))[1]
    if not row then
      return
    end
    job = read(row)
    job.lost = row.leased
    local leased = check(tx:query(TAKE_LEASE, job.id))[1]
    job.attempt, job.lease = leased.attempt, leased.lease
  end))
  return job
end

local NEXT_WAITS = "retry_waits = retry_waits[array_lower(retry_waits, 1) + 1:]"
local RUN_IN = "run_after = statement_timestamp() + %s::float8 * interval '1 second'"

-- The statement of each action; $1 is the id, $2 the token of the lease.
local SETTLE = {
  delete = "DELETE FROM pgq_jobs",
  preserve = "UPDATE pgq_jobs SET lease = NULL, ran_at = statement_timestamp(), error = NULL",
  fail = "UPDATE pgq_jobs SET lease = NULL, ran_at = statement_timestamp(), error = $3::text, "
    .. "run_after = to_timestamp($4::float8)",
  retry = "UPDATE pgq_jobs SET lease = NULL, error = $3::text, " .. NEXT_WAITS .. ", " .. format(RUN_IN, "$4"),
  snooze = "UPDATE pgq_jobs SET lease = NULL, attempt = attempt - 1, " .. format(RUN_IN, "$3"),
}

--- Settles a claimed job. Returns false when the job does not exist any more, or its lease was lost.
function Server:settle(job, ending)
  local sql = SETTLE[ending.action] .. " WHERE id = $1 AND lease = $2"
  local action, rows = ending.action
  if action == "fail" then
    rows = self:_query(sql, job.id, job.lease, ending.error, job.run_after)
  elseif action == "retry" then
    rows = self:_query(sql, job.id, job.lease, ending.error, ending.wait)
  elseif action == "snooze" then
    rows = self:_query(sql, job.id, job.lease, ending.wait)
  else
    rows = self:_query(sql, job.id, job.lease)
  end
  return rows.affected > 0
end

local BEGIN = "INSERT INTO pgq_jobs (queue_name, data, retry_waits, attempt, created_at, run_after, lease)"
  .. " VALUES ($1, $2, $3::text[], $4, coalesce(to_timestamp($5::float8), now()), now() + " .. LEASE .. ", " .. TOKEN
  .. ") RETURNING id, lease, extract(epoch FROM created_at)::float8 AS created_at,"
  .. " coalesce($6::float8, extract(epoch FROM now())::float8) AS run_after"

--- Inserts a job for one run, leased. drop() deletes it. The options are those of worker:perform.
function Server:begin(queue, data, options)
  local row = self:_query(BEGIN, queue, core.bytea(data), array(options.retry_waits), options.attempt,
    options.created_at, options.run_after)[1]
  return {
    id = row.id,
    lease = row.lease,
    queue = queue,
    data = data,
    created_at = row.created_at,
    run_after = row.run_after,
    retry_waits = options.retry_waits,
    attempt = options.attempt,
  }
end

function Server:drop(job)
  self:_query("DELETE FROM pgq_jobs WHERE id = $1", job.id)
end

function Server:close()
  self._conn:close()
end

return Server

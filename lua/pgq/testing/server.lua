-- The jobs of a test with a server. The statements, sql/lua/testing_*.sql, do what a worker's do, for one job at a
-- time. A claimed job is leased before its handler runs, so that it is not locked meanwhile.
--
-- The server's clock cannot be moved. Instead, the times in all jobs are moved to the past.

local connection = require "pgq.database.connection"
local core = require "pgq.core"
local rules = require "pgq.testing.rules"

local sql = core.sql
local concat, error, gmatch, gsub, ipairs, setmetatable =
  table.concat, error, string.gmatch, string.gsub, ipairs, setmetatable

local Server = {}
Server.__index = Server

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

function Server:_query(text, ...)
  return check(self._conn:query(text, ...))
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

--- Makes all jobs older, except those that the script has locked in a transaction.
function Server:age(seconds)
  self:_query(sql.testing_age, seconds)
end

function Server:enqueue(queue, data, options)
  return self._conn:enqueue(queue, data, options)
end

--- The largest id so far. Jobs that are enqueued later have larger ids.
function Server:mark()
  return self:_query("SELECT coalesce(max(id), 0) AS id FROM pgq_jobs")[1].id
end

--- The jobs with ids above `mark`, of a queue or of all (nil), in the order in which they were enqueued.
function Server:jobs(queue, mark)
  local rows = self:_query(sql.testing_jobs, mark or 0, queue)
  local jobs = {}
  for i, row in ipairs(rows) do
    jobs[i] = read(row)
  end
  return jobs
end

--- Leases the job of these queues that is due first, and counts its attempt. Returns nil when none is due. The field
-- `lost` is true when a worker had leased the job and did not settle it.
function Server:claim(names)
  local job
  check(self._conn:transaction(function(tx)
    local row = check(tx:query(sql.testing_claim, array(names)))[1]
    if not row then
      return
    end
    job = read(row)
    job.lost = row.leased
    local leased = check(tx:query(sql.testing_lease, job.id))[1]
    job.attempt, job.lease = leased.attempt, leased.lease
  end))
  return job
end

-- The statement of each action.
local SETTLE = {
  delete = sql.testing_complete,
  preserve = sql.testing_preserve,
  fail = sql.testing_fail,
  retry = sql.testing_retry,
  snooze = sql.testing_snooze,
}

--- Settles a claimed job. Returns false when the job does not exist any more, or its lease was lost.
function Server:settle(job, ending)
  local action = ending.action
  local text, rows = SETTLE[action]
  if action == "fail" then
    rows = self:_query(text, job.id, job.lease, ending.error, job.run_after)
  elseif action == "retry" then
    rows = self:_query(text, job.id, job.lease, ending.error, ending.wait)
  elseif action == "snooze" then
    rows = self:_query(text, job.id, job.lease, ending.wait)
  else
    rows = self:_query(text, job.id, job.lease)
  end
  return rows.affected > 0
end

--- Inserts a job for one run, leased. drop() deletes it. The options are those of worker:perform.
function Server:begin(queue, data, options)
  local row = self:_query(sql.testing_begin, queue, core.bytea(data), array(options.retry_waits), options.attempt,
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

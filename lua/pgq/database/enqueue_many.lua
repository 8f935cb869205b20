-- Enqueueing many jobs, all or none. They travel in batches; the server has one batch while the next is being filled.
--
-- A handler may change globals: what is needed later is kept here when the module is loaded.

local async = require "pgq.database.calls"

local error, pcall, type = error, pcall, type
local format = string.format

local WHAT = "enqueue_many"

-- Each of these fills the batch as far as there are jobs and room. They return true; or nil, message, code, where no
-- code means misuse.

local function no_string(number, value)
  return nil, format("job %d must be a string, not a %s; encode it first", number, type(value))
end

local function fill_from_list(enqueuer, source)
  local list = source.jobs
  local next_index, message, code = enqueuer:add_list(list, source.next_index)
  if not next_index then
    return nil, message, code
  end
  source.next_index = next_index
  local value = list[next_index]
  if value ~= nil and type(value) ~= "string" then
    return no_string(next_index, value)
  end
  return true
end

local function fill_from_function(enqueuer, source)
  while true do
    if source.data == nil and not source.ended then
      source.given = source.given + 1
      source.data = source.jobs()
    end
    local data = source.data
    if data == nil then
      source.ended = true
      return true
    elseif type(data) ~= "string" then
      return no_string(source.given, data)
    end
    local added, message, code = enqueuer:add(data)
    if added == nil then
      return nil, message, code
    elseif not added then
      return true
    end
    source.data = nil
  end
end

local function begin(conn, enqueuer)
  if enqueuer:owns_transaction() then
    local begun, message, code = async.exec(conn, WHAT, "BEGIN")
    if not begun then
      return nil, message, code
    end
  end
  local sent, message, code = enqueuer:send_moment()
  if not sent then
    async.check(conn)
    return sent == false, message, code
  end
  async.finish(conn, WHAT)
  return enqueuer:take_moment()
end

local function commit(conn, enqueuer)
  if not enqueuer:owns_transaction() then
    return true
  end
  local committed, message, code = async.exec(conn, WHAT, "COMMIT")
  if not committed then
    return nil, enqueuer:explain_commit(message, code)
  end
  return true
end

-- Sends the batch, fills the next, and takes the ids of the one that was sent.
local function turn(conn, enqueuer, fill, source, ids)
  local done, message, code = enqueuer:send()
  async.check(conn)
  if not done then
    return nil, message, code
  end
  done, message, code = fill(enqueuer, source)
  if not done then
    return nil, message, code
  end
  async.finish(conn, WHAT)
  return enqueuer:take(ids)
end

local function enqueue_all(conn, enqueuer, source, ids)
  local fill = type(source.jobs) == "table" and fill_from_list or fill_from_function
  local done, message, code = fill(enqueuer, source)
  if not done or enqueuer:count() == 0 then
    return done, message, code
  end
  done, message, code = begin(conn, enqueuer)
  while done and enqueuer:count() > 0 do
    done, message, code = turn(conn, enqueuer, fill, source, ids)
  end
  if not done then
    return nil, message, code
  end
  return commit(conn, enqueuer)
end

-- Rolls the call's own transaction back, or makes the caller's fail.
local function undo(conn, enqueuer)
  if conn._handle:transaction_state() == "busy" then
    async.finish(conn, WHAT)
  end
  conn._handle:clear()
  local sql = enqueuer:undo()
  if sql then
    async.exec(conn, WHAT, sql)
  end
end

--- Enqueues what `jobs`, a list of strings or a function, gives, with arguments that job.prepare_many has checked.
-- @return list of ids; or nil, message, code; or nil, message for misuse
local function enqueue_many(conn, queue, jobs, prepared)
  local enqueuer, problem, code = conn._handle:enqueuer(queue, prepared.after, prepared.delay_ms, prepared.waits)
  if not enqueuer then
    return nil, problem, code
  end
  local ids, source = {}, { jobs = jobs, next_index = 1, given = 0 }
  async.prepare(conn)
  conn._using = WHAT
  local ok, done
  ok, done, problem, code = pcall(enqueue_all, conn, enqueuer, source, ids)
  if not ok or not done then
    undo(conn, enqueuer)
  end
  conn._using = nil
  if not ok then
    error(done, 0)
  elseif not done then
    return nil, problem, code
  end
  return ids
end

return enqueue_many

-- Enqueueing many jobs, all or none. They are sent in batches: while the server inserts one batch, the next is filled.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local calls = require "pgq.database.calls"

local error, pcall, type = error, pcall, type
local format = string.format

local WHAT = "enqueue_many"

-- Each of these fills the batch until it is full or there are no more jobs. They return true; or nil, message, code.
-- A failure without a code is misuse.

local function fail_type(number, value)
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
    return fail_type(next_index, value)
  end
  return true
end

local function fill_from_function(enqueuer, source)
  while true do
    if source.data == nil and not source.ended then
      source.taken = source.taken + 1
      source.data = source.jobs()
    end
    local data = source.data
    if data == nil then
      source.ended = true
      return true
    elseif type(data) ~= "string" then
      return fail_type(source.taken, data)
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
    local begun, message, code = calls.exec(conn, WHAT, "BEGIN")
    if not begun then
      return nil, message, code
    end
  end
  local sent, message, code = enqueuer:send_moment()
  if not sent then
    calls.check(conn)
    return sent == false, message, code
  end
  calls.finish(conn, WHAT)
  return enqueuer:take_moment()
end

local function commit(conn, enqueuer)
  if not enqueuer:owns_transaction() then
    return true
  end
  local committed, message, code = calls.exec(conn, WHAT, "COMMIT")
  if not committed then
    return nil, enqueuer:explain_commit(message, code)
  end
  return true
end

-- Sends the batch, fills the next one, and takes the ids of the batch that was sent.
local function run_batch(conn, enqueuer, fill, source, ids)
  local done, message, code = enqueuer:send()
  calls.check(conn)
  if not done then
    return nil, message, code
  end
  done, message, code = fill(enqueuer, source)
  if not done then
    return nil, message, code
  end
  calls.finish(conn, WHAT)
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
    done, message, code = run_batch(conn, enqueuer, fill, source, ids)
  end
  if not done then
    return nil, message, code
  end
  return commit(conn, enqueuer)
end

-- Rolls back the transaction that the call has begun, or makes that of the caller fail.
local function undo(conn, enqueuer)
  if conn._handle:transaction_state() == "busy" then
    calls.finish(conn, WHAT)
  end
  conn._handle:clear()
  local sql = enqueuer:undo()
  if sql then
    calls.exec(conn, WHAT, sql)
  end
end

--- Enqueues the jobs of a list, or those that a function returns.
-- @tparam table options what enqueue_arguments.check_many has returned
-- @return list of ids; or nil, message, code; or nil, message for misuse
local function enqueue_many(conn, queue, jobs, options)
  local enqueuer, problem, code = conn._handle:enqueuer(queue, options.after, options.delay_ms, options.waits)
  if not enqueuer then
    return nil, problem, code
  end
  local ids, source = {}, { jobs = jobs, next_index = 1, taken = 0 }
  calls.set_blocking(conn)
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

-- Replaces the functions of pgq that need a database, for tests without a server: jobs are kept in memory, and queries
-- are answered by a function of the test. Misuse raises the same errors as in connection.lua.

local enqueue_arguments = require "pgq.database.enqueue_arguments"
local session_effects = require "pgq.database.session_effects"

local error, getmetatable, ipairs, pcall, setmetatable, tostring, type =
  error, getmetatable, ipairs, pcall, setmetatable, tostring, type
local format = string.format

local Connection, Transaction = {}, {}
Connection.__index, Transaction.__index = Connection, Transaction

local NO_ANSWER = "there is no database in this test: load the script with { query = function(sql, …) … end }, which "
  .. "returns rows or nil, message, code; or with { db = \"…\" }"

-- Keeps `return f()` from being a tail call, which would make the levels of errors wrong.
local function pass(...)
  return ...
end

-- Answers a query of the script with the function of the test.
local function answer(answers, sql, ...)
  if type(sql) ~= "string" then
    error(format("query: the statement must be a string, not a %s", type(sql)), 3)
  end
  if not answers then
    error("query: " .. NO_ANSWER, 3)
  end
  return answers(sql, ...)
end

-- Returns the data of the jobs of enqueue_many as a list.
local function read_jobs(jobs, level)
  if type(jobs) == "table" then
    return jobs
  end
  local list = {}
  for data in jobs do
    if type(data) ~= "string" then
      error(format("enqueue_many: job %d must be a string, not a %s; encode it first", #list + 1, type(data)),
        level + 1)
    end
    list[#list + 1] = data
  end
  return list
end

-- Makes jobs, all or none of them, and stores each by put(job), which returns its id. Returns the list of ids; or nil,
-- message, code.
local function make_all(memory, put, level, queue, jobs, options)
  local checked, message, code = enqueue_arguments.check_many(queue, jobs, options, level + 1)
  if not checked then
    return nil, message, code
  end
  local made = {}
  for i, data in ipairs(read_jobs(jobs, level + 1)) do
    made[i], message, code = memory:make(queue, data, checked, options and options.after)
    if not made[i] then
      return nil, format("job %d: %s", i, message), code
    end
  end
  for i, one in ipairs(made) do
    made[i] = put(one)
  end
  return made
end

local function make_one(memory, put, level, queue, data, options)
  local checked, message, code = enqueue_arguments.check(queue, data, options, level + 1)
  if not checked then
    return nil, message, code
  end
  local made
  made, message, code = memory:make(queue, data, checked, options and options.after)
  if not made then
    return nil, message, code
  end
  return put(made)
end

local function check(self, class, name, method)
  if type(self) ~= "table" or getmetatable(self) ~= class then
    error(format("call it with a colon: %s:%s(…)", name, method), 3)
  end
  if class == Transaction and not self._open then
    error("the transaction has ended: use tx only in the function given to transaction", 3)
  end
  if class == Connection and self._transaction then
    error(format("the connection has an open transaction: use tx:%s in its function, not conn:%s", method, method), 3)
  end
end

-- ── a connection ──

local function new_connection(memory, answers)
  local self = { _memory = memory, _answers = answers, _closed = false, _transaction = nil }
  function self._put(made) return memory:put(made) end
  return setmetatable(self, Connection)
end

local function closed()
  return nil, "the connection is closed", "08003"
end

function Connection:query(sql, ...)
  check(self, Connection, "conn", "query")
  if self._closed then
    return closed()
  end
  return pass(answer(self._answers, sql, ...))
end

function Connection:enqueue(queue, data, options)
  check(self, Connection, "conn", "enqueue")
  if self._closed then
    return closed()
  end
  return pass(make_one(self._memory, self._put, 2, queue, data, options))
end

function Connection:enqueue_many(queue, jobs, options)
  check(self, Connection, "conn", "enqueue_many")
  if self._closed then
    return closed()
  end
  return pass(make_all(self._memory, self._put, 2, queue, jobs, options))
end

function Connection:close()
  check(self, Connection, "conn", "close")
  self._closed = true
end

-- ── a transaction: its jobs are stored when it commits ──

local function new_transaction(memory, answers)
  local self = { _memory = memory, _answers = answers, _open = true, _made = {}, _failure = nil }
  function self._put(made)
    self._made[#self._made + 1] = made
    return memory:reserve(made)
  end
  return setmetatable(self, Transaction)
end

-- As in Postgres, a failed statement makes the transaction fail.
local function note(tx, value, message, code)
  if not value and not tx._failure then
    tx._failure = { message = message, code = code }
  end
  return value, message, code
end

function Transaction:query(sql, ...)
  check(self, Transaction, "tx", "query")
  if type(sql) == "string" then
    self._refused = session_effects.check_inside(sql) or self._refused
    if self._refused then
      return nil, self._refused, "2D000"
    elseif sql:upper():find "^%s*ROLLBACK%s+TO%s" then
      self._failure = nil
    end
  end
  return note(self, answer(self._answers, sql, ...))
end

function Transaction:enqueue(queue, data, options)
  check(self, Transaction, "tx", "enqueue")
  return pass(make_one(self._memory, self._put, 2, queue, data, options))
end

function Transaction:enqueue_many(queue, jobs, options)
  check(self, Transaction, "tx", "enqueue_many")
  local ok, ids, message, code = pcall(make_all, self._memory, self._put, 2, queue, jobs, options)
  if not ok then
    note(self, nil, tostring(ids))
    error(ids, 0)
  end
  return ids, message, code
end

function Transaction:transaction()
  check(self, Transaction, "tx", "transaction")
  error("transactions do not nest; use SAVEPOINT and ROLLBACK TO with tx:query", 2)
end

-- Stores the jobs of a transaction, and returns true; or nil, message, code when it cannot be committed.
local function commit(tx)
  tx._open = false
  local failure = tx._failure
  if tx._refused then
    return nil, "the transaction was rolled back: " .. tx._refused, "2D000"
  elseif failure then
    return nil, "the transaction was rolled back, since a statement in it had failed: " .. tostring(failure.message),
      failure.code
  end
  for _, made in ipairs(tx._made) do
    tx._memory:put(made)
  end
  return true
end

-- Ends a transaction, and returns what conn:transaction does. The arguments after `tx` are the results of pcall for its
-- function.
local function finish(tx, ok, ...)
  tx._open = false
  if not ok then
    error((...), 0)
  end
  local first, second = ...
  if not first and second ~= nil then
    return ...
  end
  local committed, message, code = commit(tx)
  if not committed then
    return nil, message, code
  end
  return true, ...
end

local function check_function(fn)
  if type(fn) ~= "function" then
    error(format("transaction: a function is needed, not a %s", type(fn)), 3)
  end
end

local function leave(self, ...)
  self._transaction = nil
  return ...
end

function Connection:transaction(fn)
  check(self, Connection, "conn", "transaction")
  check_function(fn)
  if self._closed then
    return closed()
  end
  local tx = new_transaction(self._memory, self._answers)
  self._transaction = tx
  return finish(tx, leave(self, pcall(fn, tx)))
end

-- ── the functions of pgq ──

local offline = {}

--- Replaces functions in an instance of pgq.
-- @tparam table pgq the instance
-- @tparam Memory memory stores the jobs
-- @tparam[opt] function answers called as answers(sql, …) for each query
function offline.install(pgq, memory, answers)
  local function put(made) return memory:put(made) end

  function pgq.enqueue(queue, data, options)
    return pass(make_one(memory, put, 2, queue, data, options))
  end

  function pgq.enqueue_many(queue, jobs, options)
    return pass(make_all(memory, put, 2, queue, jobs, options))
  end

  function pgq.query(sql, ...)
    return pass(answer(answers, sql, ...))
  end

  function pgq.transaction(fn)
    check_function(fn)
    local tx = new_transaction(memory, answers)
    return finish(tx, pcall(fn, tx))
  end

  function pgq.connect(conninfo)
    if conninfo ~= nil and type(conninfo) ~= "string" then
      error("connect: the connection string must be a string, not a " .. type(conninfo), 2)
    end
    return new_connection(memory, answers)
  end
end

--- Replaces transactional.run: calls a handler with a transaction as job.tx, and commits it when the handler succeeds.
-- Returns what outcome.of() does. A failure to commit makes the attempt fail.
function offline.run_transactional(memory, answers, outcome_of, handler, data, its_job)
  local tx = new_transaction(memory, answers)
  its_job.tx = tx
  local function commit_if(ok, ...)
    tx._open = false
    if not ok then
      return ok, ...
    end
    local committed, message = commit(tx)
    return committed or false, message
  end
  return commit_if(outcome_of(handler, data, its_job))
end

return offline

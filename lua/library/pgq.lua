---@meta pgq

-- Annotations of the module `pgq` for LuaLS, the Lua language server. To use them, add the folder of this file to the
-- setting `workspace.library`. Nothing here is run.

---A number of seconds, or a text such as "1h30m", "10m0s" or "250ms".
---@alias pgq.Duration number|string

---A parameter of a statement: nil or `pgq.null` for NULL; a boolean, a number, a 64-bit integer such as 42LL, a string;
---a list of these for an array; `pgq.bytea(bytes)`, `pgq.json(value)`.
---@alias pgq.Parameter any

---@class pgq.Row: table<string, any>

---A list of rows. NULL is `pgq.null`; boolean is a boolean; integers and floats are numbers, but a bigint that a number
---cannot hold exactly is its digits; bytea is its bytes; any other type is its text.
---@class pgq.Rows: pgq.Row[]
---@field affected integer the number of rows that the statement returned or changed

---A job, as its handler gets it.
---@class pgq.Job
---@field id integer|string the digits when the id is beyond 2^53
---@field queue string
---@field attempt integer from 1
---@field created_at number Unix seconds
---@field run_after number Unix seconds
---@field retries_left integer
---@field version? string of the script: twelve hex digits
---@field tx? pgq.Transaction in a transactional queue: completes the job when it commits

---@alias pgq.Handler fun(data: string, job: pgq.Job): any, any

---@class pgq.QueueOptions
---@field concurrency? integer how many jobs of the queue an executor may have in flight
---@field discard_failed? boolean
---@field preserve_completed? boolean
---@field timeout? pgq.Duration time limit of the handler; 0 for none
---@field transactional? boolean the handler gets `job.tx`

---@class pgq.EnqueueOptions
---@field delay? pgq.Duration the job does not run before this time from now
---@field after? number|string the job does not run before this time: Unix seconds, or the text of a timestamp
---@field retry_waits? pgq.Duration[] one wait per retry; {} for none; by default {60, 600, 1800}

---@alias pgq.Jobs string[]|fun(): string?

---@class pgq.Outcome
---@field error? string
---@field backoff? boolean
---@field discard? boolean
---@field retry? pgq.Duration
---@field snooze? pgq.Duration

---An error value that interrupts a handler.
---@class pgq.Interrupt
---@field name string
---@field message string

---@class pgq
---@field _VERSION string
---@field null lightuserdata NULL, in rows and as a parameter; the same value as `cjson.null`. Compare with ==
---@field timeout pgq.Interrupt raised in a handler that waits when its time limit is reached
---@field cancelled pgq.Interrupt raised in a handler that waits when its job was cancelled, or its lease was lost
local pgq = {}

---Registers the handler of a queue. Only while a worker's script loads.
---@param name string
---@param handler pgq.Handler
---@param options? pgq.QueueOptions
function pgq.register_queue(name, handler, options) end

---Sets options of the worker, with underscores for dashes. Only while a worker's script loads.
---@param values table<string, string|number|boolean>
function pgq.configure(values) end

---Asks the worker to stop, as SIGTERM does.
function pgq.stop() end

---The job fails, and its whole queue slows down. To be returned or thrown by a handler.
---@param message? string
---@return pgq.Outcome
function pgq.backoff(message) end

---The job runs again later, without counting an attempt. To be returned or thrown by a handler.
---@param seconds pgq.Duration
---@return pgq.Outcome
function pgq.snooze(seconds) end

---The job fails, and is not tried again. To be returned or thrown by a handler.
---@param message? string
---@return pgq.Outcome
function pgq.discard(message) end

---The job fails, and is tried again after this wait instead of its next retry wait. To be returned or thrown by a
---handler.
---@param seconds pgq.Duration
---@param message? string
---@return pgq.Outcome
function pgq.retry(seconds, message) end

---Waits; other jobs of the executor go on. In a plain script it blocks.
---@param seconds pgq.Duration
function pgq.sleep(seconds) end

---Calls start(resume), waits until resume(…) is called, and returns its arguments.
---@param start fun(resume: fun(...: any)): function? may return a function to call if the wait is interrupted
---@return any ...
function pgq.await(start) end

---Opens a connection that belongs to the caller.
---@param conninfo? string connection string or URI; by default the worker's database
---@return pgq.Connection? connection
---@return string? message
---@return string? code
function pgq.connect(conninfo) end

---Enqueues a job.
---@param queue string
---@param data string
---@param options? pgq.EnqueueOptions
---@return integer|string|nil id
---@return string? message
---@return string? code
function pgq.enqueue(queue, data, options) end

---Enqueues many jobs, all or none of them.
---@param queue string
---@param jobs pgq.Jobs
---@param options? pgq.EnqueueOptions
---@return (integer|string)[]? ids
---@return string? message
---@return string? code
function pgq.enqueue_many(queue, jobs, options) end

---Runs a statement on a connection of the pool, in a transaction of its own.
---@param sql string
---@param ... pgq.Parameter
---@return pgq.Rows? rows
---@return string? message
---@return string? code
function pgq.query(sql, ...) end

---Runs fn(tx) in a transaction on a connection of the pool.
---@param fn fun(tx: pgq.Transaction): ...
---@return true|false|nil committed
---@return any ... what fn returned; or message, code
function pgq.transaction(fn) end

---Marks bytes as a parameter of type bytea.
---@param bytes string
---@return pgq.Parameter
function pgq.bytea(bytes) end

---Makes a parameter of type jsonb.
---@param value any
---@return pgq.Parameter
function pgq.json(value) end

---A connection that belongs to the caller.
---@class pgq.Connection
local Connection = {}

---Enqueues a job.
---@param queue string
---@param data string
---@param options? pgq.EnqueueOptions
---@return integer|string|nil id
---@return string? message
---@return string? code
function Connection:enqueue(queue, data, options) end

---Enqueues many jobs, all or none of them, in a transaction of its own.
---@param queue string
---@param jobs pgq.Jobs a function must not use this connection
---@param options? pgq.EnqueueOptions
---@return (integer|string)[]? ids
---@return string? message
---@return string? code
function Connection:enqueue_many(queue, jobs, options) end

---Runs a statement.
---@param sql string
---@param ... pgq.Parameter
---@return pgq.Rows? rows
---@return string? message
---@return string? code
function Connection:query(sql, ...) end

---Runs fn(tx) in a transaction.
---@param fn fun(tx: pgq.Transaction): ...
---@return true|false|nil committed
---@return any ... what fn returned; or message, code
function Connection:transaction(fn) end

---Closes the connection. Closing again does nothing.
function Connection:close() end

---A transaction, until its function returns.
---@class pgq.Transaction
local Transaction = {}

---Enqueues a job that workers see when the transaction commits.
---@param queue string
---@param data string
---@param options? pgq.EnqueueOptions
---@return integer|string|nil id
---@return string? message
---@return string? code
function Transaction:enqueue(queue, data, options) end

---Enqueues many jobs that workers see when the transaction commits.
---@param queue string
---@param jobs pgq.Jobs
---@param options? pgq.EnqueueOptions
---@return (integer|string)[]? ids
---@return string? message
---@return string? code
function Transaction:enqueue_many(queue, jobs, options) end

---Runs a statement in the transaction.
---@param sql string
---@param ... pgq.Parameter
---@return pgq.Rows? rows
---@return string? message
---@return string? code
function Transaction:query(sql, ...) end

---@deprecated Raises an error: transactions do not nest. Use SAVEPOINT with tx:query.
function Transaction:transaction() end

return pgq

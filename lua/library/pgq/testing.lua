---@meta pgq.testing

-- Annotations of the module `pgq.testing` for LuaLS, the Lua language server.

---@class pgq.testing
local testing = {}

---@class pgq.testing.LoadOptions
---@field args? string[] arguments of the script
---@field db? string connection string or URI of a server whose tables are used
---@field query? fun(sql: string, ...: any): pgq.Rows?, string?, string? answers the script's queries without a server

---@class pgq.testing.PerformOptions
---@field attempt? integer
---@field cancel_after? pgq.Duration the job is cancelled when its handler has waited for that long
---@field created_at? number Unix seconds
---@field id? integer
---@field retry_waits? pgq.Duration[] the waits that are left at this attempt
---@field run_after? number Unix seconds

---@class pgq.testing.Job
---@field id integer
---@field queue string
---@field data string
---@field state "waiting"|"running"|"failed"|"preserved"
---@field attempt integer
---@field error? string
---@field retry_waits string[]
---@field created_at number Unix seconds
---@field run_after? number Unix seconds
---@field delay? number seconds from created_at to run_after
---@field ran_at? number Unix seconds
---@field after? number|string without a server: the option `after`, as it was given

---@class pgq.testing.Outcome
---@field status "complete"|"retry"|"failed"|"backoff"|"discard"|"snooze"|"cancelled"
---@field wait? number seconds until the job runs again
---@field error? string
---@field traceback? string
---@field enqueued pgq.testing.Job[] the jobs that the handler enqueued
---@field job pgq.testing.Job
---@field dropped? true the job was gone or cancelled when its handler ended

---Loads a worker's script.
---@param path string
---@param options? pgq.testing.LoadOptions
---@return pgq.testing.Worker
function testing.load(path, options) end

---A script that has been loaded.
---@class pgq.testing.Worker
---@field settings table<string, string> what pgq.configure was given, as texts
---@field stopped boolean whether pgq.stop() was called
local Worker = {}

---Runs one job, which is not kept, and returns its outcome.
---@param queue string
---@param data string
---@param options? pgq.testing.PerformOptions
---@return pgq.testing.Outcome
function Worker:perform(queue, data, options) end

---Runs the jobs that are due, in the order of their time, until none is due.
---@param limit? integer the largest number of jobs to run
---@return pgq.testing.Outcome[]
function Worker:drain(limit) end

---Moves time forward, so that waiting jobs become due.
---@param duration pgq.Duration
function Worker:advance(duration) end

---Enqueues a job, which drain() runs.
---@param queue string
---@param data string
---@param options? pgq.EnqueueOptions
---@return integer? id
---@return string? message
---@return string? code
function Worker:enqueue(queue, data, options) end

---The jobs that were enqueued and have not been tried.
---@param queue? string
---@return pgq.testing.Job[]
function Worker:enqueued(queue) end

---All jobs, in the order in which they were enqueued.
---@param queue? string
---@return pgq.testing.Job[]
function Worker:jobs(queue) end

---Closes the connections to the server, also those of the script.
function Worker:close() end

return testing

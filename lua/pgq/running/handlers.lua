-- The functions of pgq that only a worker's script can use, and the call of a handler. The executor, or pgq.testing,
-- finds the registered queues, the settings and the function `run` in the table `host`.
--
-- A handler may change globals, so this file keeps what it needs when it is loaded.

local core = require "pgq.core"
local durations = require "pgq.durations"
local outcome = require "pgq.running.outcome"

local error, pairs, tostring, type = error, pairs, tostring, type
local floor, format, getinfo = math.floor, string.format, debug.getinfo
local describe, outcome_of = outcome.describe, outcome.of

local QUEUE_OPTIONS = {
  concurrency = true,
  discard_failed = true,
  preserve_completed = true,
  timeout = true,
  transactional = true,
}

local function not_a_worker(name)
  return function()
    error(name .. ": this script is not run by a worker; start it with: pgq-lua FILE", 2)
  end
end

local function functions_for(host)
  local queues, by_name, settings = {}, {}, {}
  host.queues, host.settings = queues, settings

  -- The place of the call to register_queue.
  local function where()
    local info = getinfo(3, "Sl")
    return info and format("%s:%d", info.short_src, info.currentline) or "?"
  end

  local function only_while_loading(name)
    if not host.loading then
      error(name .. ": it can be called only while the script loads, not in a handler", 3)
    end
  end

  -- The value of a boolean option of a queue; nil if it is not given.
  local function read_boolean(name, value)
    if value ~= nil and type(value) ~= "boolean" then
      error(format("register_queue: the option %s must be true or false, not a %s", name, type(value)), 3)
    end
    return value
  end

  -- The timeout of a queue in milliseconds; -1 if none is given.
  local function read_timeout(value)
    if value == nil then
      return -1
    end
    local ms, problem = durations.read(value)
    if not ms then
      error("register_queue: the timeout " .. problem, 3)
    end
    return ms
  end

  -- How many jobs of a queue an executor may have in flight; 0 if it is not given.
  local function read_concurrency(value)
    if value == nil then
      return 0
    end
    if type(value) ~= "number" or value < 1 or value > 1000000 or value ~= floor(value) then
      error(format("register_queue: the concurrency must be a whole number from 1 to 1000000, not %s", describe(value)),
        3)
    end
    return value
  end

  --- Registers the handler of a queue; the worker then claims jobs from it.
  -- @tparam string name name of the queue, UTF-8 and not empty
  -- @tparam function handler called as handler(data, job): `data` are the job's bytes as a string; `job` is a table
  -- with id, queue, attempt (from 1), created_at and run_after (Unix seconds), retries_left, and version, a short hash
  -- of the script's source. The attempt succeeds when the handler returns nothing, nil or true. It fails when the
  -- handler returns nil or false and a message, raises an error, or returns a table of pgq.backoff, pgq.retry,
  -- pgq.discard or pgq.snooze
  -- @tparam[opt] table options preserve_completed, discard_failed: the worker's options of these names, for this queue;
  -- timeout: seconds or a duration such as "30s", 0 for none. After that time a handler that waits is interrupted by
  -- the error pgq.timeout, and a handler that does not wait is killed together with its executor; the attempt fails;
  -- concurrency: how many jobs of this queue an executor may have in flight; transactional: job.tx is a transaction
  -- that completes the job when it commits
  -- @raise an error when an argument is wrong, when the name is registered already, in a handler, and in a plain script
  local function register_queue(name, handler, options)
    only_while_loading "register_queue"
    if type(name) ~= "string" then
      error("register_queue: the queue name must be a string, not a " .. type(name), 2)
    end
    if name == "" or not core.is_text(name) then
      error("register_queue: the queue name must be UTF-8 text, not empty and without NUL", 2)
    end
    if type(handler) ~= "function" then
      error(format('register_queue: the handler of queue "%s" must be a function, not a %s', name, type(handler)), 2)
    end
    if by_name[name] then
      error(format('register_queue: queue "%s" is registered already, at %s', name, by_name[name].where), 2)
    end
    if options ~= nil and type(options) ~= "table" then
      error("register_queue: options must be a table, not a " .. type(options), 2)
    end
    for option in pairs(options or {}) do
      if not QUEUE_OPTIONS[option] then
        error(format("register_queue: there is no option %s; there are concurrency, discard_failed, "
          .. "preserve_completed, timeout and transactional", describe(option)), 2)
      end
    end
    local queue = { name = name, handler = handler, where = where() }
    queue.preserve_completed = read_boolean("preserve_completed", options and options.preserve_completed)
    queue.discard_failed = read_boolean("discard_failed", options and options.discard_failed)
    queue.timeout_ms = read_timeout(options and options.timeout)
    queue.concurrency = read_concurrency(options and options.concurrency)
    queue.transactional = read_boolean("transactional", options and options.transactional) or false
    queues[#queues + 1] = queue
    by_name[name] = queue
  end

  --- Sets options of the worker, whose names have underscores instead of dashes: poll_interval, preserve_completed,
  -- executors … A flag on the command line, or a variable in the environment, takes precedence.
  -- @tparam table values strings, numbers and booleans by name; durations are seconds or texts such as "1m30s"
  -- @raise an error for an unknown name or a value that cannot be read, in a handler, and in a plain script
  local function configure(values)
    only_while_loading "configure"
    if type(values) ~= "table" then
      error("configure: settings must be a table, not a " .. type(values), 2)
    end
    for name, value in pairs(values) do
      if type(name) ~= "string" then
        error("configure: names of settings are strings, not a " .. type(name), 2)
      end
      local kind = type(value)
      if kind ~= "string" and kind ~= "number" and kind ~= "boolean" then
        error(format("configure: %s must be a text, a number or a boolean, not a %s", name, kind), 2)
      end
      local text = kind == "number" and format("%.14g", value) or tostring(value)
      if not core.is_text(name) or not core.is_text(text) then
        error("configure: names and values must be UTF-8 text without NUL", 2)
      end
      local problem = core.check_setting(name, text)
      if problem then
        error("configure: " .. problem, 2)
      end
      settings[name] = text
    end
  end

  -- Runs the handler of a job, and returns what outcome.of() does. `number` is that of the queue, from 1; the next
  -- arguments are the job's data, and fields of the job that the handler gets. `settling` is nil unless the job is
  -- transactional: a table with `lease`, the token of its lease, `preserve`, whether the completed job stays in the
  -- table, and `timeout_ms`, its time limit. These are single arguments, since setting fields of a table takes longer
  -- than calling a handler that does nothing.
  function host.run(number, data, id, attempt, created_at, run_after, retries_left, settling)
    local queue = queues[number]
    local job = {
      id = id,
      queue = queue.name,
      attempt = attempt,
      created_at = created_at,
      run_after = run_after,
      retries_left = retries_left,
      version = host.version,
    }
    if settling then
      return host.run_transactional(queue.handler, data, job, settling.lease, settling.preserve, settling.timeout_ms)
    end
    return outcome_of(queue.handler, data, job)
  end

  return {
    register_queue = register_queue,
    configure = configure,
    --- Asks the worker to stop, as SIGTERM does: it claims no more jobs, and exits when the running jobs have ended.
    stop = host.stop,
  }
end

return function(host)
  if host then
    return functions_for(host)
  end
  return {
    register_queue = not_a_worker "register_queue",
    configure = not_a_worker "configure",
    stop = not_a_worker "stop",
  }
end

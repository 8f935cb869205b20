-- Where the caller stands, and how to wait there. This is the half for plain scripts, where every call blocks.

local error = error

local tasks = {}

--- Where the caller stands: "plain" in a script that plain luajit runs, or in a worker's while it loads: calls block.
-- "task" in a handler's coroutine, or one inside of it: calls wait. "callback" in a callback of luv, where nothing may
-- wait.
function tasks.mode()
  return "plain"
end

--- Raises an error about the function at `level`, where 1 is the caller of this function, when nothing may wait here.
function tasks.check(_, _)
end

--- Waits in a task until start's argument, a function, is called, and returns what that got. `start` may return a
-- function that undoes what it began, for a wait that is interrupted; then this raises an error.
function tasks.wait(what, _)
  error(what .. ": nothing can wait here")
end

--- Has `fn` called when the current task has ended, in whatever way. Returns a function that takes this back.
function tasks.at_end(_)
  return function() end
end

--- Writes a line into the worker's log.
function tasks.log(_, _)
end

return tasks

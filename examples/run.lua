-- A module for the examples that start programs: runs a program, while the executor runs other jobs.
-- Use:      local result, problem = require "examples.run"("gm", { "identify", "photo.jpg" })
local pgq = require "pgq"
local uv = require "luv"

-- Reads the pipe to its end, and calls done(text), without the newlines at the end of the text, as $(…) in a shell.
local function collect(pipe, done)
  local chunks = {}
  pipe:read_start(function(_, chunk)
    chunks[#chunks + 1] = chunk
    if not chunk then
      pipe:close()
      done((table.concat(chunks):gsub("\n+$", "")))
    end
  end)
end

-- Returns { status =, stdout =, stderr = }, or nil and why the program cannot be started. If a signal has ended the
-- program, its status is above 128. When the handler is interrupted, the program gets SIGTERM.
return function(program, args, input)
  return pgq.await(function(resume)
    local pipes, result, child, problem = { uv.new_pipe(), uv.new_pipe(), uv.new_pipe() }, {}
    local function set(name, value)
      result[name] = value
      if result.status and result.stdout and result.stderr then resume(result) end
    end
    child, problem = uv.spawn(program, { args = args, stdio = pipes }, function(status, signal)
      child:close()
      set("status", signal > 0 and 128 + signal or status)
    end)
    if not child then
      for _, pipe in ipairs(pipes) do pipe:close() end
      return resume(nil, ("cannot start %s: %s"):format(program, problem))
    end
    collect(pipes[2], function(text) set("stdout", text) end)
    collect(pipes[3], function(text) set("stderr", text) end)
    pipes[1]:write(input or "", function() pipes[1]:close() end)
    return function() child:kill() end
  end)
end

-- Runs a program on a terminal of its own.

local ffi = require "ffi"
local uv = require "luv"
local loop = require "spec.support.loop"

-- A second require, which busted causes between two files, declares the same again.
pcall(ffi.cdef, [[
  struct pgq_spec_winsize { unsigned short rows, columns, x, y; };
  int openpty(int *master, int *slave, char *name, const void *settings, const struct pgq_spec_winsize *size);
  long read(int fd, void *bytes, unsigned long size);
]])

local terminal = {}

local TIMEOUT = 60

-- terminal.run(columns, { "cmd", "arg", … }): runs cmd with its stdin, stdout and stderr on a terminal of that width.
-- Returns what it printed, with plain newlines, and its exit status.
function terminal.run(columns, words)
  local master, slave = ffi.new "int[1]", ffi.new "int[1]"
  local size = ffi.new("struct pgq_spec_winsize", { rows = 24, columns = columns })
  assert(ffi.C.openpty(master, slave, nil, nil, size) == 0, "there is no terminal")
  local args, chunks, bytes, status, ended = { "--pdeathsig", "KILL", "--" }, {}, ffi.new "char[4096]", nil, false
  for _, word in ipairs(words) do args[#args + 1] = tostring(word) end
  local handle
  handle = assert(uv.spawn("setpriv", { args = args, stdio = { slave[0], slave[0], slave[0] } }, function(code)
    status = code
    loop.close(handle)
  end))
  uv.fs_close(slave[0])
  -- A read fails when no process has the terminal any more.
  local poll = uv.new_poll(master[0])
  poll:start("r", function()
    local length = tonumber(ffi.C.read(master[0], bytes, 4096))
    if length > 0 then
      chunks[#chunks + 1] = ffi.string(bytes, length)
    else
      ended = true
      poll:stop()
    end
  end)
  local over = loop.run_until(TIMEOUT, function() return status and ended end)
  loop.close(poll)
  uv.run "nowait"
  uv.fs_close(master[0])
  local text = table.concat(chunks):gsub("\r\n", "\n")
  assert(over, ("%s has not ended on its terminal; it has printed: %s"):format(table.concat(args, " "), text))
  return text, status
end

-- The number of characters of the longest line of a text in UTF-8.
function terminal.width(text)
  local most = 0
  for line in text:gmatch "[^\n]+" do
    local _, characters = line:gsub("[^\128-\191]", "")
    most = math.max(most, characters)
  end
  return most
end

return terminal

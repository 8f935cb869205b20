-- luajit spec/support/answering.lua QUESTION ANSWER COMMAND…: runs a command on a terminal of its own, and types ANSWER
-- and a newline when QUESTION, a plain text, has appeared on it. Prints what was on the terminal. Unlike script(1), it
-- does not stop when the command is stopped and continued.

local ffi = require "ffi"

ffi.cdef [[
  int forkpty(int *master, char *name, const void *termios, const void *size);
  int execvp(const char *file, char *const argv[]);
  long read(int fd, void *bytes, unsigned long size);
  long write(int fd, const void *bytes, unsigned long size);
  int waitpid(int pid, int *status, int options);
  void _exit(int status);
]]

local EINTR, EAGAIN = 4, 11
local question, answer = arg[1], arg[2]

local function load(name)
  local ok, library = pcall(ffi.load, name)
  return ok and library or ffi.C
end

local master = ffi.new "int[1]"
local child = load("libutil.so.1").forkpty(master, nil, nil, nil)
assert(child >= 0, "forkpty failed")
if child == 0 then
  local words = ffi.new("const char *[?]", #arg - 1)
  for i = 3, #arg do words[i - 3] = arg[i] end
  ffi.C.execvp(arg[3], ffi.cast("char *const *", words))
  ffi.C._exit(127)
end

local buffer, text, answered = ffi.new "char[4096]", "", question == ""
while true do
  local length = tonumber(ffi.C.read(master[0], buffer, 4096))
  if length > 0 then
    text = text .. ffi.string(buffer, length)
  elseif length == 0 or (ffi.errno() ~= EINTR and ffi.errno() ~= EAGAIN) then
    break -- the command has closed the terminal
  end
  if not answered and text:find(question, 1, true) then
    answered = true
    ffi.C.write(master[0], answer .. "\n", #answer + 1)
  end
end
io.write((text:gsub("\r\n", "\n")))
local status = ffi.new "int[1]"
while ffi.C.waitpid(child, status, 0) < 0 and ffi.errno() == EINTR do end
os.exit(bit.rshift(status[0], 8) % 256)

-- A program on the screen of a terminal that is as large as a spec wants it: tmux is the terminal.

local uv = require "luv"
local process = require "spec.support.process"
local wait = require "spec.support.wait"

local Screen = {}
Screen.__index = Screen

local TIMEOUT = 60

local running = {}

-- What the shell does.
local SCRIPT = [[
cd @DIR; trap : INT HUP; stty -g >before; echo $$ >shell
@COMMAND; status=$?; stty -g >after; echo "[ended with $status]"
exec sleep 1000]]

-- A word for the shell.
local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

function Screen:_tmux(...)
  return process.check { "tmux", "-u", "-S", self.dir .. "/tmux", "-f", "/dev/null", ... }
end

-- Screen.start{ "cmd", "arg", …, columns = 80, rows = 24, env = { NAME = "value" } }: runs cmd by a shell, on a screen
-- of this size; false in env removes a name. When cmd has ended, the shell prints "[ended with STATUS]", and waits.
function Screen.start(options)
  local self = setmetatable({ dir = assert(uv.fs_mkdtemp "/tmp/pgq-screen-XXXXXX") }, Screen)
  local words = { "env" }
  for name, value in pairs(options.env or {}) do
    words[#words + 1] = value and quote(name .. "=" .. value) or "-u " .. name
  end
  for _, word in ipairs(options) do words[#words + 1] = quote(word) end
  self.command = table.concat(options, " ")
  local script = SCRIPT:gsub("@DIR", self.dir):gsub("@COMMAND", function() return table.concat(words, " ") end)
  running[#running + 1] = self
  process.check { "env", "-u", "TMUX", "SHELL=/bin/sh", "LC_ALL=C.UTF-8", "tmux", "-u", "-S", self.dir .. "/tmux",
    "-f", "/dev/null", "new-session", "-d", "-x", options.columns or 80, "-y", options.rows or 24, script }
  return self
end

-- What the screen shows: its lines, without blanks at their ends. With `styles`, escape sequences stand for colours.
function Screen:text(styles)
  return (self:_tmux("capture-pane", "-p", styles and "-e" or nil))
end

-- The line of the screen that has the pattern.
function Screen:line(pattern)
  for line in self:text():gmatch "[^\n]+" do
    if line:find(pattern) then return line end
  end
end

-- Presses keys, by the names that tmux has for them: "q", "Enter", "PageDown", "C-c".
function Screen:press(...) self:_tmux("send-keys", ...) end

-- Types a text.
function Screen:type(text) self:_tmux("send-keys", "-l", text) end

function Screen:resize(columns, rows)
  self:_tmux("resize-window", "-x", tostring(columns), "-y", tostring(rows))
end

-- Waits until the screen has the pattern, or condition(text) is true; returns what that returned.
function Screen:wait(condition, timeout)
  local is_pattern = type(condition) == "string"
  local what = (is_pattern and ("%q"):format(condition) or "a text") .. " on the screen: " .. self.command
  return wait.till(what, timeout or TIMEOUT, function()
    local text = self:text()
    return is_pattern and text:match(condition) or not is_pattern and condition(text), "\n" .. text
  end)
end

-- Waits until the program has ended. Returns its exit status.
function Screen:ended()
  return tonumber((self:wait "%[ended with (%d+)%]"))
end

-- The settings of the terminal before the program and after it, as stty prints them.
function Screen:settings()
  local found = {}
  for i, name in ipairs { "before", "after" } do
    local file = assert(io.open(self.dir .. "/" .. name))
    found[i] = file:read "*l"
    file:close()
  end
  return found[1], found[2]
end

-- The process of the program: the child of the shell.
function Screen:pid()
  return wait.till("the process of " .. self.command, TIMEOUT, function()
    local shell = tonumber(assert(io.open(self.dir .. "/shell")):read "*l")
    local children = assert(io.open(("/proc/%d/task/%d/children"):format(shell, shell))):read "*a"
    return tonumber(children:match "%d+")
  end)
end

function Screen:stop()
  process.run { "tmux", "-S", self.dir .. "/tmux", "kill-server" }
  process.run { "rm", "-rf", self.dir }
end

-- Ends all screens.
function Screen.stop_all()
  for _, screen in ipairs(running) do screen:stop() end
  running = {}
end

return Screen

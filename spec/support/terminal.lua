-- Runs a program on a terminal of its own, as script(1) of util-linux makes one.

local process = require "spec.support.process"

local terminal = {}

local function quote(word) return "'" .. tostring(word):gsub("'", "'\\''") .. "'" end

-- terminal.run(columns, { "cmd", "arg", … }): runs cmd with its stdin and stdout on a terminal of that width. Returns
-- what it printed, with plain newlines, and its exit status.
function terminal.run(columns, words)
  local quoted = {}
  for i, word in ipairs(words) do quoted[i] = quote(word) end
  local command = ("stty cols %d -opost; %s"):format(columns, table.concat(quoted, " "))
  local result = process.run { "script", "-qec", command, "/dev/null" }
  return result.stdout, result.status
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

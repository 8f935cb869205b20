-- Builds pgq-lua at an earlier commit, to compare it with this one.

local process = require "spec.support.process"
local folders = require "spec.bench.folders"
local machine = require "spec.bench.machine"

local former = {}

-- The time limit of a build, in seconds.
local TIMEOUT = 600

-- $1: the id of the commit; $2: an empty folder; $3: the build type; $4: how many processes.
local BUILD = [[
set -e
mkdir "$2/source"
git archive --output "$2/source.tar" "$1"
tar -x -f "$2/source.tar" -C "$2/source"
cmake -S "$2/source" -B "$2/build" -D CMAKE_BUILD_TYPE="$3" >"$2/log" 2>&1 &&
  cmake --build "$2/build" --target pgq-lua -j "$4" >>"$2/log" 2>&1 || { tail -n 20 "$2/log" >&2; exit 1; }]]

-- former.find(commit): the id of the commit; or nil, and why it was not found.
function former.find(commit)
  local ok, result = pcall(process.run, { "git", "rev-parse", "--verify", "--quiet", commit .. "^{commit}" })
  local id = ok and result.status == 0 and result.stdout:match "^%x+"
  if id then
    return id
  end
  return nil, ok and process.run({ "git", "rev-parse", "--git-dir" }).status == 0
    and ("the commit %s is not in this clone: fetch it, or name another by --before"):format(commit)
    or "this is no git clone, so there is no commit to compare with"
end

-- former.build(id): the program at that commit, with the build type of the one that is measured, and the folder that it
-- is in, which is the caller's to remove.
function former.build(id)
  local folder = folders.new()
  process.check { "sh", "-c", BUILD, "sh", id, folder, machine.build_type(), machine.cores(), timeout = TIMEOUT }
  return folder .. "/build/pgq-lua", folder
end

return former

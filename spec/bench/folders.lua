-- Temporary folders. All are removed at the end of the program, also if it is killed.

local uv = require "luv"

local folders = {}

local kept = {}

function folders.new()
  local folder = assert(uv.fs_mkdtemp("/tmp/pgq-bench-XXXXXX"))
  kept[folder] = true
  return folder
end

-- The paths of the files in a folder.
function folders.files(folder)
  local paths, request = {}, assert(uv.fs_scandir(folder))
  for name in function() return uv.fs_scandir_next(request) end do
    paths[#paths + 1] = folder .. "/" .. name
  end
  return paths
end

local function remove_tree(path)
  local stat = uv.fs_lstat(path)
  if stat and stat.type == "directory" then
    for _, inner in ipairs(folders.files(path)) do
      remove_tree(inner)
    end
    uv.fs_rmdir(path)
  else
    uv.fs_unlink(path)
  end
end

function folders.remove(folder)
  remove_tree(folder)
  kept[folder] = nil
end

function folders.remove_all()
  for folder in pairs(kept) do
    folders.remove(folder)
  end
end

return folders

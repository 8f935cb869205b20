-- Temporary folders, each with files only. All are gone at the end, however that comes.

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

function folders.remove(folder)
  for _, path in ipairs(folders.files(folder)) do
    os.remove(path)
  end
  uv.fs_rmdir(folder)
  kept[folder] = nil
end

function folders.remove_all()
  for folder in pairs(kept) do
    folders.remove(folder)
  end
end

return folders

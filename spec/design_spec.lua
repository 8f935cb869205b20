-- runtime/DESIGN.md against the source tree: its map names every file, and every path and function in it exists.

local documents = require "spec.support.documents"
local process = require "spec.support.process"
local uv = require "luv"

local PAGES = { "runtime/DESIGN.md", "runtime/DECISIONS.md" }

-- Names of files in earlier versions. A reader who does not know these versions cannot understand them.
local OLD_NAMES = {
  "echo", "heir", "lookout", "nothing", "owed", "park", "parked", "room", "trouble", "turn", "turns", "watch",
}

local function exists(path) return uv.fs_stat(path) ~= nil end

-- The files below these folders, and the folders.
local function list_files(folders)
  local files = {}
  for path in process.check({ "find", unpack(folders) }):gmatch "[^\n]+" do files[#files + 1] = path end
  table.sort(files)
  return files
end

-- The part of DESIGN.md from one heading of the second level to the next.
local function chapter(title)
  local text = documents.read "runtime/DESIGN.md"
  local from = assert(text:find("\n## " .. title .. "\n", 1, true), "there is no chapter " .. title)
  local to = text:find("\n## ", from + 1, true)
  return text:sub(from, to)
end

-- The map: the folders in its headings, and the paths of the files below them. x.c stands for x.c and x.h, if x.h
-- exists.
local function read_map()
  local folders, files, missing, folder = {}, {}, {}, nil
  for line in chapter("The map"):gmatch "[^\n]+" do
    local heading, names = line:match "^### `([^`]+)/`", line:match "^    (%S.*)$"
    folder = heading or folder
    if heading then folders[heading] = true end
    -- The names end at the description, before which there are at least two spaces.
    for name in (folder and names and names:match "^(.-)  " or folder and names or ""):gmatch "[^, ]+" do
      local path = folder .. "/" .. name:gsub("/$", "")
      files[path] = true
      if path:match "%.c$" and exists((path:gsub("c$", "h"))) then files[path:gsub("c$", "h")] = true end
      if not path:match "/x_" and not exists(path) then missing[#missing + 1] = path end
    end
  end
  return folders, files, missing
end

-- Resolves a path of the table; those of the supervisor's rooms are short.
local function resolve(path)
  return exists(path) and path or exists("runtime/supervisor/" .. path) and "runtime/supervisor/" .. path
end

describe("DESIGN.md", function()
  it("has a map whose folders and files exist", function()
    local folders, _, missing = read_map()
    for folder in pairs(folders) do
      if not exists(folder) then missing[#missing + 1] = folder end
    end
    assert.same({}, missing)
  end)

  it("names every source file of runtime, lua and sql in its map", function()
    local _, files = read_map()
    local missing = {}
    for _, path in ipairs(list_files { "runtime", "lua", "sql" }) do
      local source = path:match "%.[ch]$" or path:match "%.lua$" or path:match "%.sql$" or path:match "%.in$"
        or path:match "^runtime/cmake/"
      if source and not files[path] then missing[#missing + 1] = path end
    end
    assert.same({}, missing)
  end)

  it("names the folders of CMakeLists.txt as rooms, with the rooms that each sees", function()
    local cmake, map = documents.read "CMakeLists.txt", chapter "The map"
    local wrong, count = {}, 0
    for name, folder, arguments in cmake:gmatch "\nroom%((%S+) FOLDER (%S+)([^)]*)%)" do
      local heading = map:match("\n### `" .. folder:gsub("%p", "%%%0") .. "/`[^\n]*") or ""
      local sees = (arguments:match "SEES (.*)" or ""):gsub("LIBRARIES.*", "")
      for seen in sees:gmatch "%S+" do
        local listed = heading:match "%(sees (.-)%)" or ""
        local by_six = listed:find "the six rooms" and cmake:match("runtime/supervisor/" .. seen:gsub("%p", "%%%0") .. " ")
        if seen ~= "common" and not by_six and not (", " .. listed .. ","):find(", " .. seen .. ",", 1, true) then
          wrong[#wrong + 1] = name .. " sees " .. seen
        end
      end
      if heading == "" then wrong[#wrong + 1] = name end
      count = count + 1
    end
    assert.same({}, wrong)
    assert.is_true(count >= 11)
  end)

  it("names files that exist, and functions and types that they have, in the table", function()
    local wrong, rows = {}, 0
    for row in chapter("To change X, open Y"):gmatch "\n| ([^\n]+)" do
      local file
      rows = rows + 1
      for word in row:gmatch "`([^`]+)`" do
        local path = resolve(word)
        if path then
          file = path
        elseif word:find "[/.]" and not word:find "^pgq%." and not word:find " " then
          wrong[#wrong + 1] = word
        elseif file and uv.fs_stat(file).type == "file" then
          local name = word:gsub("%(%)$", ""):gsub("%[%]$", "")
          if not documents.read(file):find(name, 1, true) then wrong[#wrong + 1] = word .. " in " .. file end
        end
      end
    end
    assert.same({}, wrong)
    assert.is_true(rows > 25)
  end)

  it("names files that exist in its other chapters, as do the decisions", function()
    local wrong = {}
    for _, page in ipairs(PAGES) do
      for word in documents.read(page):gmatch "`([%w_./-]+/[%w_.-]+%.%l+)`" do
        if not resolve(word) and not word:find "/NAME%." and not word:find "/x_" then wrong[#wrong + 1] = page .. ": " .. word end
      end
    end
    assert.same({}, wrong)
  end)

  it("links to files and sections that exist, as do the decisions", function()
    for _, page in ipairs(PAGES) do
      for target in documents.read(page):gmatch "%]%(([^)]+)%)" do
        local path, section = target:match "^([^#]*)#?(.*)$"
        path = path == "" and page or "runtime/" .. path
        assert.is_true(exists(path), page .. " links to " .. target)
        assert.is_true(section == "" or documents.sections(path)[section] == true, page .. " links to " .. target)
      end
    end
  end)

  it("has no line of more than 120 characters, except in tables", function()
    for _, page in ipairs(PAGES) do
      for line in documents.read(page):gmatch "[^\n]+" do
        local _, length = line:gsub("[^\128-\191]", "")
        assert.is_true(length <= 120 or line:sub(1, 1) == "|", page .. ": " .. line)
      end
    end
  end)
end)

describe("the source tree", function()
  it("has no file that is named by a word which only its authors understand", function()
    local wrong = {}
    for _, path in ipairs(list_files { "runtime", "lua", "sql" }) do
      local name = path:match "([^/]+)$":gsub("%..*$", "")
      for _, old in ipairs(OLD_NAMES) do
        if ("_" .. name .. "_"):find("_" .. old .. "_", 1, true) then wrong[#wrong + 1] = path end
      end
    end
    assert.same({}, wrong)
  end)
end)

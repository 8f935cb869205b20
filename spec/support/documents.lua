-- Reads README.md and the pages of the manual for specs.

local uv = require "luv"

local documents = {}

local MANUAL = "runtime/manual"

function documents.read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

-- The pages of the manual, in alphabetical order: { path, text, name = "pgq-lua", section = "1" }.
function documents.manual()
  local pages = {}
  local scan = assert(uv.fs_scandir(MANUAL))
  for file in function() return uv.fs_scandir_next(scan) end do
    local name, section = file:match "^(.+)%.(%d%l*)%.md$"
    if name then
      local path = MANUAL .. "/" .. file
      pages[#pages + 1] = { path = path, text = documents.read(path), name = name, section = section }
    end
  end
  table.sort(pages, function(a, b) return a.path < b.path end)
  return pages
end

-- README.md, the index of the manual, and its pages: { path, text }.
function documents.all()
  local all = documents.manual()
  for _, path in ipairs { MANUAL .. "/README.md", "README.md" } do
    table.insert(all, 1, { path = path, text = documents.read(path) })
  end
  return all
end

-- The fenced blocks of a text: ```language [mark]. Returns a list of { language, mark, line, text }, with the line that
-- a block begins at. docs_spec.lua checks blocks of the languages that it knows, and executes those with a mark.
function documents.read_blocks(text)
  local blocks, open, number = {}, nil, 0
  for line in text:gmatch "([^\n]*)\n" do
    number = number + 1
    local language, mark = line:match "^```(%w*) ?(%w*)$"
    if language and open then
      open.text = table.concat(open, "\n") .. "\n"
      blocks[#blocks + 1], open = open, nil
    elseif language then
      open = { language = language, mark = mark, line = number }
    elseif open then
      open[#open + 1] = line
    end
  end
  assert(not open, "a block is not closed")
  return blocks
end

-- The sections of a document, as the set of the names that links use.
function documents.sections(path)
  local sections = {}
  for title in ("\n" .. documents.read(path)):gmatch "\n##+ ([^\n]+)" do
    sections[title:lower():gsub("[^%w _-]", ""):gsub(" ", "-")] = true
  end
  return sections
end

return documents

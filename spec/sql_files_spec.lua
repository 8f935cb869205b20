-- The files of sql/: each has a comment that describes it, and the program uses all of them.

local uv = require "luv"
local process = require "spec.support.process"

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- The paths of all files below the folder whose names have one of the endings, sorted.
local function find(folder, ...)
  local found = {}
  local entries = assert(uv.fs_scandir(folder))
  for name, kind in function() return uv.fs_scandir_next(entries) end do
    local path = folder .. "/" .. name
    if kind == "directory" then
      for _, below in ipairs(find(path, ...)) do found[#found + 1] = below end
    end
    for _, ending in ipairs { ... } do
      if kind == "file" and name:sub(-#ending) == ending then found[#found + 1] = path end
    end
  end
  table.sort(found)
  return found
end

local function name_of(path)
  return path:match "([^/]+)%.%w+$"
end

-- Returns the comment lines at the top of a file, and the rest of the file.
local function parts_of(path)
  local comment = {}
  local text = read(path)
  local position = 1
  while text:sub(position, position + 1) == "--" do
    local line, next_position = text:match("^%-%- ?([^\n]*)\n()", position)
    comment[#comment + 1], position = line, next_position
  end
  return comment, text:sub(position)
end

describe("the statements", function()
  it("are plain ASCII: the encoding of a database may have no other characters", function()
    for _, file in ipairs(find("sql", ".sql")) do
      assert.is_nil(read(file):find "[^\t\n\32-\126]", file)
    end
  end)

  local paths = find("sql/worker", ".sql")
  for _, folder in ipairs { "sql/client", "sql/lua", "sql/migrate", "sql/commands" } do
    for _, path in ipairs(find(folder, ".sql")) do paths[#paths + 1] = path end
  end

  for _, path in ipairs(paths) do
    it(path .. " begins with its purpose and describes each of its parameters", function()
      local comment, sql = parts_of(path)
      assert.matches("^%u%l+[ ,]", comment[1])
      local described, used, most = {}, {}, 0
      for _, line in ipairs(comment) do
        local number, meaning = line:match "^%$(%d+) [%l%d]+%[?%]?: (.+)$"
        if number then
          assert.is_true(#meaning >= 7, line)
          described[#described + 1] = tonumber(number)
        end
      end
      for number in sql:gmatch "%$(%d+)" do
        used[tonumber(number)] = true
        most = math.max(most, tonumber(number))
      end
      for number = 1, most do assert.is_true(used[number], "$" .. number .. " is not used") end
      assert.equal(most, #described)
      for i, number in ipairs(described) do assert.equal(i, number) end
    end)
  end

  it("return the same columns, if they claim jobs", function()
    local function columns(path) return (select(2, parts_of(path)):match "^(.-)\nFROM ") end
    assert.equal(columns "sql/worker/claim.sql", columns "sql/worker/claim_in_fleet.sql")
  end)

  it("are all used", function()
    local code = {}
    for _, path in ipairs(find("runtime", ".c")) do code[#code + 1] = read(path):gsub("/%*.-%*/", "") end
    for _, path in ipairs(find("lua", ".lua")) do code[#code + 1] = read(path):gsub("%-%-[^\n]*", "") end
    code = table.concat(code)
    local NAMES = { worker = "STATEMENT_%s", client = "SQL_%s", migrate = "SQL_%s", lua = "sql.%s", commands = "SQL_%s" }
    for _, path in ipairs(paths) do
      local kind = path:match "^sql/(%l+)/"
      local name = NAMES[kind]:format(kind == "lua" and name_of(path) or name_of(path):upper())
      assert.is_truthy(code:find("%f[%w_]" .. name:gsub("%.", "%%.") .. "%f[^%w_]"), name .. " is not used")
    end
  end)
end)

describe("a statement whose file is wrong ends the build:", function()
  local WRONG = {
    { "no purpose", "SELECT 1\n", "says what the statement does" },
    { "no statement", "-- Does nothing.\n", "or the statement, is missing" },
    { "a parameter that is not described", "-- Reads.\n-- $1 int8: id\nSELECT $1, $2\n", "describes 1 parameters" },
    { "a parameter that is not used", "-- Reads.\n-- $1 int8: id\nSELECT 1\n", "the statement has 0" },
    { "parameters out of order", "-- Reads.\n-- $2 int8: id\n-- $1 int8: other\nSELECT $1, $2\n", "parameter %$2" },
    { "a comment behind SQL", "-- Reads.\nSELECT 1 -- one\n", "a comment after SQL" },
    { "two statements", "-- Reads.\nSELECT 1; SELECT 2\n", "a semicolon" },
  }

  for _, case in ipairs(WRONG) do
    it(case[1], function()
      local folder = assert(uv.fs_mkdtemp "/tmp/pgq-sql-XXXXXX")
      finally(function() process.check { "rm", "-r", folder } end)
      for name, text in pairs { ["wrong.sql"] = case[2], list = "wrong.sql\n" } do
        local file = assert(io.open(folder .. "/" .. name, "w"))
        file:write(text)
        file:close()
      end
      local result = process.run { "cmake", "-D", "SOURCE_DIR=" .. folder, "-D", "LIST=" .. folder .. "/list",
        "-D", "OUTPUT=" .. folder .. "/rows.h", "-D", "FORM=rows", "-P", "runtime/cmake/statements.cmake" }
      assert.equal(1, result.status)
      assert.matches(case[3], (result.stderr:gsub("%s+", " ")))
    end)
  end
end)

describe("the schema", function()
  it("is joined into create_table.sql, which is current", function()
    local joined = os.tmpname()
    finally(function() os.remove(joined) end)
    process.check { "cmake", "-D", "SOURCE_DIR=" .. uv.cwd(), "-D", "OUTPUT=" .. joined,
      "-P", "runtime/cmake/create_table.cmake" }
    assert.equal(read(joined), read "sql/create_table.sql")
  end)

  -- The build has just updated the file, so that the spec above cannot see that a commit lacks it.
  it("is committed together with create_table.sql", function()
    if not uv.fs_stat ".git" then return end -- an archive of the sources
    local changed = process.check { "git", "-c", "safe.directory=*", "status", "--porcelain", "--", "sql",
      "runtime/cmake/create_table.cmake" }
    if changed:find("sql/create_table.sql", 1, true) then
      assert.is_truthy(changed:find "sql/schema" or changed:find "create_table.cmake",
        "sql/create_table.sql has changed, and its parts have not: commit it")
    end
  end)
end)

describe("SQL in the sources", function()
  local KEYWORDS = { "SELECT", "INSERT INTO", "UPDATE", "DELETE FROM", "CREATE", "ALTER", "DROP", "WITH" }

  local function is_sql(text)
    for _, keyword in ipairs(KEYWORDS) do
      if text:find("^[%s%(]*" .. keyword .. "%f[^%w_]") then return true end
    end
  end

  -- The first lines of all statements of the file that take more than one line. In C, literals that follow one another
  -- are one text; in Lua, those that are joined by two dots, and long brackets.
  local function find_long(path)
    local found = {}
    local text = read(path)
    local is_lua = path:find "%.lua$"
    local joint = is_lua and "^%s*\n%s*%.%." or "^%s*\n%s*\""
    for literal, after in text:gmatch '("[^"\n]*")()' do
      if is_sql(literal:sub(2)) and text:find(joint, after) then found[#found + 1] = path .. ": " .. literal end
    end
    for literal in (is_lua and text or ""):gmatch "%[%[(.-)%]%]" do
      if is_sql(literal) and literal:find "\n" then found[#found + 1] = path .. ": " .. literal:match "[^\n]+" end
    end
    return found
  end

  it("has no more than one line: longer statements are in files", function()
    local paths = find("runtime", ".c", ".h", ".lua")
    for _, path in ipairs(find("lua", ".c", ".h", ".lua")) do paths[#paths + 1] = path end
    local found = {}
    for _, path in ipairs(paths) do
      for _, statement in ipairs(find_long(path)) do found[#found + 1] = statement end
    end
    assert.same({}, found)
  end)
end)

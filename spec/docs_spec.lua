-- The README against the program: what stands there is true, runs, and leaves nothing public out.

local pgq = require "pgq"
local Postgres = require "spec.support.postgres"
local process = require "spec.support.process"
local uv = require "luv"

local PGQ_LUA, BUILD, SOURCE = os.getenv "PGQ_LUA", os.getenv "PGQ_BUILD", os.getenv "PGQ_SOURCE"

local function with_file(path, mode, fn)
  local file = assert(io.open(path, mode))
  local result = fn(file)
  file:close()
  return result
end

local function read(path) return with_file(path, "r", function(file) return file:read "*a" end) end
local function write(path, text) with_file(path, "w", function(file) file:write(text) end) end

local README = read "README.md"

-- The fenced blocks: ```language [mark], with the line they begin at. A block of a language that is known here is
-- checked; one marked `run` or `worker` is also executed.
local function read_blocks()
  local blocks, open, number = {}, nil, 0
  for line in README:gmatch "([^\n]*)\n" do
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

-- The rows of the table of options, by name: { argument, variable, setting, default }; "–" is false.
local function read_option_rows()
  local rows = {}
  for line in README:gmatch "\n(| `%-%-[^\n]*)" do
    local cells = {}
    for cell in line:gmatch "|%s*([^|]-)%s*%f[|]" do
      cells[#cells + 1] = cell ~= "–" and cell:gsub("`", "") or false
    end
    local name, argument = cells[1]:match "^%-%-(%S+) ?(.*)$"
    rows[name] = { argument = argument, variable = cells[2], setting = cells[3], default = cells[4] }
  end
  return rows
end

-- The same from --help of every command.
local function read_help()
  local options = {}
  for _, command in ipairs { "--help", "enqueue", "cancel", "migrate", "dev" } do
    for line in process.check({ PGQ_LUA, command, "--help" }):gmatch "\n  %-%-([^\n]+)" do
      local name = line:match "^%S+"
      options[name] = {
        argument = line:gsub(" %(default [^)]*%)", ""):gsub(" %[[%w_]+%]", ""):match "^%S+ ?(.*)$",
        variable = line:match "%[([%w_]+)%]" or false, setting = false, default = line:match "%(default ([^)]*)%)" or false,
      }
    end
  end
  return options
end

-- The names that pgq.configure takes, as its own error lists them.
local function read_settings(dir)
  write(dir .. "/nonsense.lua", "require 'pgq'.configure { nonsense = 1 }")
  return assert(process.run({ PGQ_LUA, dir .. "/nonsense.lua" }).stderr:match "settings are: ([%l_ ]+)")
end

-- Whether a comment that begins with `opening` ends right above the line of `definition` (a plain text) in one of `files`.
local function has_doc_comment(files, opening, definition)
  for _, path in ipairs(files) do
    local comment = ""
    for line in read(path):gmatch "([^\n]*)\n" do
      local text = line:gsub("^%s+", "")
      if line:find(definition, 1, true) and comment:sub(1, #opening) == opening then return true end
      local begins, goes_on = text:sub(1, #opening) == opening, text:match "^%-%-" or text:match "^%*"
      comment = begins and text or goes_on and comment .. text or ""
    end
  end
  return false
end

describe("the README", function()
  local blocks, dir, pg, env = read_blocks()

  setup(function()
    dir = assert(uv.fs_mkdtemp "/tmp/pgq-spec-docs-XXXXXX")
    pg = Postgres.start { migrated = true }
    pg:psql "CREATE TABLE orders (id int, state text, details jsonb); INSERT INTO orders VALUES (1, NULL), (2, 'new')"
    env = {
      DATABASE_URL = pg.conninfo, PATH = BUILD .. ":" .. os.getenv "PATH",
      LUA_PATH = SOURCE .. "/lua/?.lua;;", LUA_CPATH = BUILD .. "/lua/?.so;;",
    }
    for _, block in ipairs(blocks) do -- the one that the section on testing is about
      if block.mark == "worker" and block.text:find "busy@example.com" then write(dir .. "/worker.lua", block.text) end
    end
  end)

  teardown(function()
    process.check { "rm", "-rf", dir }
    pg:stop()
  end)

  it("has a table of all options, with the variables, settings and defaults of --help", function()
    local expected = read_help()
    for setting in read_settings(dir):gmatch "[%l_]+" do
      expected[setting:gsub("_", "-")].setting = setting
    end
    assert.same(expected, read_option_rows())
  end)

  it("names every function of pgq.h, each of which has a comment", function()
    local found
    for declaration, name in read("runtime/client/pgq.h"):gmatch "\n(PGQ_API [^\n(]-([%w_]+)%()" do
      found = true
      assert.is_truthy(README:match "\n```c\n.-\n```\n":find(name .. "(", 1, true), name)
      assert.is_true(has_doc_comment({ "runtime/client/pgq.h" }, "/*", declaration), name)
    end
    assert.is_true(found, "there is none")
  end)

  it("names every function of the module pgq, each of which has a comment", function()
    local files = { "lua/pgq.lua", "lua/pgq/running/handlers.lua", "lua/pgq/running/outcome.lua",
      "lua/pgq/running/tasks.lua", "lua/pgq/running/await.lua" }
    for name in pairs(pgq) do
      assert.is_truthy(README:find("pgq%." .. name .. "%f[^%w_]"), "pgq." .. name)
      assert.is_true(has_doc_comment(files, "---", "function pgq." .. name .. "(")
        or has_doc_comment(files, "---", "function " .. name .. "(")
        or has_doc_comment(files, "---", "function outcome." .. name .. "(")
        or has_doc_comment(files, "---", "outcome." .. name .. " = ")
        or has_doc_comment(files, "---", "function tasks." .. name .. "(")
        or has_doc_comment(files, "---", "function await." .. name .. "(")
        or has_doc_comment(files, "---", "  " .. name .. " = "), name)
    end
  end)

  it("names every method of connections and transactions, each of which has a comment", function()
    local conn = assert(pgq.connect(pg.conninfo))
    local classes = { Connection = getmetatable(conn).__index }
    conn:transaction(function(tx) classes.Transaction = getmetatable(tx).__index end)
    conn:close()
    for class, variable in pairs { Connection = "conn", Transaction = "tx" } do
      for name in pairs(classes[class]) do
        if name:sub(1, 1) ~= "_" then
          assert.is_truthy(README:find("`" .. variable .. ":" .. name .. "%f[^%w_]"), variable .. ":" .. name)
          local definition = ("function %s:%s("):format(class, name)
          assert.is_true(has_doc_comment({ "lua/pgq/database/connection.lua" }, "---", definition), name)
        end
      end
    end
  end)

  it("names every function and method of pgq.testing, each of which has a comment", function()
    local testing = require "pgq.testing"
    local methods = getmetatable(testing.load(dir .. "/worker.lua")).__index
    for variable, functions in pairs { ["testing."] = testing, ["worker:"] = methods } do
      for name in pairs(functions) do
        if name:sub(1, 1) ~= "_" then
          assert.is_truthy(README:find("| `" .. variable .. name .. "(", 1, true), name)
          local definition = ("function %s%s("):format(variable == "worker:" and "Worker:" or variable, name)
          assert.is_true(has_doc_comment({ "lua/pgq/testing.lua" }, "---", definition), name)
        end
      end
    end
  end)

  -- How a block is checked, by language, and executed, by language and mark.
  local checks = {
    lua = function(path) return { "luajit", "-bl", path } end,
    sh = function(path) return { "sh", "-n", path } end,
    c = function(path)
      return { "sh", "-c", 'exec gcc -Wall -Wextra -Werror -fsyntax-only -I"$1/runtime/client" $(pkg-config --cflags libpq) "$2"', "sh", SOURCE, path }
    end,
    sql = function(path) return { "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", pg.conninfo, "-c", "BEGIN", "-f", path, "-c", "ROLLBACK" } end,
    ["lua run"] = function(path) return { "luajit", path } end,
    ["lua worker"] = function(path) return { PGQ_LUA, "--drain", path } end,
    ["lua spec"] = function(path) return { "luajit", SOURCE .. "/spec/support/busted.lua", path } end,
    ["sh run"] = function(path) return { "sh", "-eu", path } end,
  }

  for _, block in ipairs(blocks) do
    local function run(check)
      local path = ("%s/%d.%s"):format(dir, block.line, block.language)
      write(path, block.text)
      local words = check(path)
      words.cwd, words.env, words.timeout = dir, env, 120
      local result = process.run(words)
      assert.is_true(result.status == 0 and not result.stderr:find "cannot enqueue", result.stderr)
    end

    local check = checks[block.language]
    local execute = block.mark ~= "" and assert(checks[block.language .. " " .. block.mark], "no block can be marked so")
    assert(check or block.language == "ini", "nobody checks blocks of " .. block.language)
    if check then
      it(("has a block of %s at line %d that is right"):format(block.language, block.line), function()
        assert.is_nil(block.language == "sql" and block.text:find "COMMIT" or nil, "this would not be rolled back")
        run(check)
        if execute then run(execute) end
      end)
    end
  end

  it("has blocks of every kind that is checked, which a change of their marks would hide", function()
    local seen = { lua = true }
    for _, block in ipairs(blocks) do seen[(block.language .. " " .. block.mark):gsub(" $", "")] = true end
    for kind in pairs(checks) do assert.is_true(seen[kind], kind) end
  end)

  it("links to files and sections that exist", function()
    for target in README:gmatch "%]%(([^)#:]+)%)" do assert.is_truthy(uv.fs_stat(target), target) end
    local sections = {}
    for title in README:gmatch "\n##+ ([^\n]+)" do sections[title:lower():gsub("[^%w ]", ""):gsub(" ", "-")] = true end
    for target in README:gmatch "%]%(#([^)]+)%)" do assert.is_true(sections[target], target) end
  end)
end)

-- README.md and the manual against the program: their examples are right and run, and their links lead somewhere.
-- manual_spec.lua looks at what the manual must contain; languages_spec.lua runs the examples in other languages.

local Postgres = require "spec.support.postgres"
local documents = require "spec.support.documents"
local process = require "spec.support.process"
local uv = require "luv"

local PGQ_LUA, BUILD, SOURCE = os.getenv "PGQ_LUA", os.getenv "PGQ_BUILD", os.getenv "PGQ_SOURCE"

-- languages_spec.lua checks blocks in these languages, except "ini", which no spec checks.
local ELSEWHERE = { python = true, js = true, go = true, ruby = true, ini = true }

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

describe("README.md and the manual", function()
  local dir, pg, env, checks
  local pages, with_blocks, handlers = documents.all(), {}, nil

  for _, document in ipairs(pages) do
    document.blocks = documents.read_blocks(document.text)
    for _, block in ipairs(document.blocks) do
      if block.mark == "worker" and block.text:find "busy@example.com" then handlers = block.text end
    end
    if document.blocks[1] then with_blocks[#with_blocks + 1] = document end
  end

  -- The folder in which the blocks of a document run. Its worker.lua is the first worker of the document; in a document
  -- without one, it is that of pgq-lua-handlers(7), which the specs of pgq.testing(3lua) are about.
  local function folder_of(document)
    if document.folder then return document.folder end
    document.folder = dir .. "/" .. document.path:gsub("/", "-")
    assert(uv.fs_mkdir(document.folder, 493))
    local script = handlers
    for _, block in ipairs(document.blocks) do
      if block.mark == "worker" then
        script = block.text
        break
      end
    end
    write(document.folder .. "/worker.lua", script)
    return document.folder
  end

  setup(function()
    dir = assert(uv.fs_mkdtemp "/tmp/pgq-spec-docs-XXXXXX")
    pg = Postgres.start { migrated = true }
    pg:psql "CREATE TABLE orders (id int, state text, details jsonb); INSERT INTO orders VALUES (1, NULL), (2, 'new')"
    env = {
      DATABASE_URL = pg.conninfo, PATH = BUILD .. ":" .. os.getenv "PATH",
      LUA_PATH = SOURCE .. "/lua/?.lua;;", LUA_CPATH = BUILD .. "/lua/?.so;;",
    }
  end)

  teardown(function()
    for _, document in ipairs(pages) do
      if document.folder then process.run { PGQ_LUA, "dev", "stop", cwd = document.folder } end
    end
    process.check { "rm", "-rf", dir }
    pg:stop()
  end)

  -- How a block is checked, by language, and executed, by language and mark.
  checks = {
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

  for _, document in ipairs(with_blocks) do
    local function run(block, check)
      local path = ("%s/%d.%s"):format(folder_of(document), block.line, block.language)
      write(path, block.text)
      local words = check(path)
      words.cwd, words.env, words.timeout = folder_of(document), env, 120
      local result = process.run(words)
      assert.is_true(result.status == 0 and not result.stderr:find "cannot enqueue", result.stderr)
    end

    describe(document.path, function()
      for _, block in ipairs(document.blocks) do
        local check = checks[block.language]
        local execute = checks[block.language .. " " .. block.mark]
        assert(check or ELSEWHERE[block.language], "nothing checks blocks of " .. block.language)
        assert(execute or block.mark == "" or ELSEWHERE[block.language], "no block can be marked " .. block.mark)
        if check then
          it(("has a block of %s at line %d that is right"):format(block.language, block.line), function()
            assert.is_nil(block.language == "sql" and block.text:find "COMMIT" or nil, "this would not be rolled back")
            run(block, check)
            if execute and block.mark ~= "" then run(block, execute) end
          end)
        end
      end
    end)
  end

  it("have blocks of every kind that is checked, so that no kind is lost by a change of its marks", function()
    local seen = {}
    for _, document in ipairs(pages) do
      for _, block in ipairs(document.blocks) do seen[(block.language .. " " .. block.mark):gsub(" $", "")] = true end
    end
    for kind in pairs(checks) do assert.is_true(seen[kind], kind) end
  end)

  it("link to files and sections that exist", function()
    for _, document in ipairs(pages) do
      local folder = document.path:match "^(.*/)" or ""
      for target in document.text:gmatch "%]%(([^)]+)%)" do
        local path, section = target:match "^([^#]*)#?(.*)$"
        local where = ("%s links to %s"):format(document.path, target)
        if not target:find "^https?:" then
          path = path == "" and document.path or folder .. path
          assert.is_truthy(uv.fs_stat(path), where)
          assert.is_true(section == "" or documents.sections(path)[section] == true, where)
        end
      end
    end
  end)
end)

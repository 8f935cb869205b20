-- The manual is complete: every option, public function and log message has an entry, and every entry has its subject.

local Postgres = require "spec.support.postgres"
local documents = require "spec.support.documents"
local messages = require "spec.support.messages"
local pgq = require "pgq"
local process = require "spec.support.process"
local uv = require "luv"

local PGQ_LUA, BUILD = os.getenv "PGQ_LUA", os.getenv "PGQ_BUILD"

local COMMANDS = {
  worker = "pgq-lua",
  cancel = "pgq-lua-cancel",
  delete = "pgq-lua-delete",
  dev = "pgq-lua-dev",
  edit = "pgq-lua-edit",
  enqueue = "pgq-lua-enqueue",
  jobs = "pgq-lua-jobs",
  migrate = "pgq-lua-migrate",
  pause = "pgq-lua-pause",
  queues = "pgq-lua-queues",
  resume = "pgq-lua-resume",
  retry = "pgq-lua-retry",
  show = "pgq-lua-show",
  stats = "pgq-lua-stats",
  top = "pgq-lua-top",
  why = "pgq-lua-why",
  workers = "pgq-lua-workers",
}

local pages = documents.manual()
local by_name = {}
for _, page in ipairs(pages) do by_name[page.name] = page end

local function contains(text, part) return text:find(part, 1, true) ~= nil end

-- The options that a page lists, by name: { argument, variable, setting, default }; false for none.
local function read_option_entries(text)
  local entries = {}
  for name, argument, body in text:gmatch "\n### `%-%-([%w-]+)` ?([^\n]*)\n\n([^\n]+)" do
    entries[name] = {
      argument = argument:gsub("[*\\]", ""),
      variable = body:match " Variable: `([^`]+)`%." or false,
      setting = body:match " Setting: `([^`]+)`%." or false,
      default = body:match " Default: `([^`]+)`%." or false,
    }
  end
  return entries
end

-- The same from --help of a command.
local function read_help(command)
  local entries = {}
  local words = { PGQ_LUA, command ~= "worker" and command or "--help", "--help" }
  for line in process.check(words):gmatch "\n  %-%-([^\n]+)" do
    entries[line:match "^%S+"] = {
      argument = line:gsub(" %(default [^)]*%)", ""):gsub(" %[[%w_]+%]", ""):match "^%S+ ?(.*)$",
      variable = line:match "%[([%w_]+)%]" or false, setting = false, default = line:match "%(default ([^)]*)%)" or false,
    }
  end
  return entries
end

-- Whether a comment that begins with `opening` ends directly above the line of a definition (a plain text), in one of
-- the files.
local function has_doc_comment(files, opening, definition)
  for _, path in ipairs(files) do
    local comment = ""
    for line in documents.read(path):gmatch "([^\n]*)\n" do
      local text = line:gsub("^%s+", "")
      if contains(line, definition) and comment:sub(1, #opening) == opening then return true end
      local begins, goes_on = text:sub(1, #opening) == opening, text:match "^%-%-" or text:match "^%*"
      comment = begins and text or goes_on and comment .. text or ""
    end
  end
  return false
end

local function lua_files()
  local files = {}
  for path in process.check({ "find", "lua/pgq", "lua/pgq.lua", "-name", "*.lua" }):gmatch "[^\n]+" do
    files[#files + 1] = path
  end
  return files
end

describe("the manual", function()
  for command, name in pairs(COMMANDS) do
    it("lists the options of the option table in " .. name .. "(1)", function()
      local block = by_name[name].text:match "<!%-%- options of %l+: [^\n]*%-%->\n(.-)\n<!%-%- end of options %-%->"
      assert.is_truthy(block, "the page has no such list")
      assert.equal(process.check { BUILD .. "/runtime/manual/option_list", command }, block,
        "renew the list: cmake --build build --target manual")
      local entries = read_option_entries(block)
      for _, entry in pairs(entries) do entry.setting = false end
      assert.same(read_help(command), entries)
    end)
  end

  it("lists the settings that pgq.configure takes, which are the options that a script may set", function()
    local dir = assert(uv.fs_mkdtemp "/tmp/pgq-spec-manual-XXXXXX")
    local file = assert(io.open(dir .. "/nonsense.lua", "w"))
    file:write "require 'pgq'.configure { nonsense = 1 }"
    file:close()
    local listed = process.run({ PGQ_LUA, dir .. "/nonsense.lua" }).stderr:match "settings are: ([%l_ ]+)"
    process.check { "rm", "-rf", dir }
    local expected, found = {}, {}
    for setting in assert(listed):gmatch "[%l_]+" do expected[setting] = (setting:gsub("_", "-")) end
    for name, entry in pairs(read_option_entries(by_name["pgq-lua"].text)) do
      if entry.setting then found[entry.setting] = name end
    end
    assert.same(expected, found)
  end)

  it("has an entry for every function of pgq.h, each of which has a comment", function()
    local found
    for declaration, name in documents.read("runtime/client/pgq.h"):gmatch "\n(PGQ_API [^\n(]-([%w_]+)%()" do
      found = true
      assert.is_true(contains(by_name.libpgq.text, "\n### `" .. name .. "()`\n"), name)
      assert.is_true(has_doc_comment({ "runtime/client/pgq.h" }, "/*", declaration), name)
    end
    assert.is_true(found, "there is none")
  end)

  it("has an entry for everything in the module pgq, each of which has a comment", function()
    local files = lua_files()
    for name in pairs(pgq) do
      assert.is_truthy(by_name.pgq.text:find("\n### `pgq%." .. name .. "%f[^%w_]"), "pgq." .. name)
      local documented = false
      for _, definition in ipairs { "function pgq.%s(", "function %s(", "function outcome.%s(", "outcome.%s = ",
        "function tasks.%s(", "function await.%s(", "  %s = " } do
        documented = documented or has_doc_comment(files, "---", definition:format(name))
      end
      assert.is_true(documented, name)
    end
    for name in by_name.pgq.text:gmatch "\n### `pgq%.([%w_]+)" do assert.is_not_nil(pgq[name], name) end
  end)

  it("has an entry for every method of connections and transactions, each of which has a comment", function()
    local pg = Postgres.start()
    local conn = assert(pgq.connect(pg.conninfo))
    local classes = { Connection = getmetatable(conn).__index }
    conn:transaction(function(tx) classes.Transaction = getmetatable(tx).__index end)
    conn:close()
    pg:stop()
    for class, variable in pairs { Connection = "conn", Transaction = "tx" } do
      for name in pairs(classes[class]) do
        if name:sub(1, 1) ~= "_" then
          assert.is_true(contains(by_name.pgq.text, ("\n### `%s:%s("):format(variable, name)), variable .. ":" .. name)
          assert.is_true(has_doc_comment(lua_files(), "---", ("function %s:%s("):format(class, name)), name)
        end
      end
    end
  end)

  it("has an entry for every function and method of pgq.testing, each of which has a comment", function()
    local testing = require "pgq.testing"
    local methods = getmetatable(testing.load("examples/hello.lua")).__index
    for variable, functions in pairs { ["testing."] = testing, ["worker:"] = methods } do
      for name in pairs(functions) do
        if name:sub(1, 1) ~= "_" then
          assert.is_true(contains(by_name["pgq.testing"].text, ("\n### `%s%s("):format(variable, name)), name)
          local definition = ("function %s%s("):format(variable == "worker:" and "Worker:" or variable, name)
          assert.is_true(has_doc_comment(lua_files(), "---", definition), name)
        end
      end
    end
  end)

  it("has an entry for every column, function and trigger of the tables", function()
    local pg = Postgres.start { migrated = true }
    local names = pg:psql [[SELECT '`' || attname || '`' FROM pg_attribute
      WHERE attrelid IN ('pgq_jobs'::regclass, 'pgq_workers'::regclass, 'pgq_frontiers'::regclass,
        'pgq_queues'::regclass, 'pgq_attempts'::regclass, 'pgq_stats'::regclass, 'pgq_audit'::regclass) AND attnum > 0 AND NOT attisdropped
      UNION ALL SELECT '### `' || proname || '(' FROM pg_proc WHERE proname LIKE 'pgq\_%']]
    pg:stop()
    assert.is_truthy(names:find "lease")
    for name in names:gmatch "[^\n]+" do
      -- The functions that only pgq_why and pgq_why_queue call share an entry.
      local part = name:match "^### `(pgq_why_%l+)" or name:match "^### `(pgq_why_%l+_%l+)"
      if part and part ~= "pgq_why_queue" then name = "`" .. name:match "pgq_why_[%l_]+" .. "`" end
      assert.is_true(contains(by_name.pgq_jobs.text, name), name)
    end
  end)

  it("lists every log message of the levels info, warn and error, and no other", function()
    local listed, problems = {}, {}
    local function complain(...) problems[#problems + 1] = string.format(...) end
    for message, level in by_name["pgq-lua-operating"].text:gmatch "\n%- `([^`]+)`%s%((%l+)%):%s" do
      listed[message:gsub("%s+", " ")] = level
    end
    local expected = messages.in_sources()
    for message, found in pairs(expected) do
      if not listed[message] then
        complain("%s: not in pgq-lua-operating(7): %s", found.where, message)
      elseif not found.levels[listed[message]] then
        complain("%s: not of level %s: %s", found.where, listed[message], message)
      end
    end
    for message in pairs(listed) do
      if not expected[message] then complain("logged nowhere: %s", message) end
    end
    table.sort(problems)
    assert.equal("", table.concat(problems, "\n"))
  end)

  it("has pages in the form of man pages", function()
    for _, page in ipairs(pages) do
      assert.equal(("# %s(%s)"):format(page.name, page.section), page.text:match "^[^\n]*", page.path)
      local name, purpose = page.text:match "\n## NAME\n\n(%S+) %- (%l?[^\n]+)\n"
      assert.equal(page.name, name, page.path)
      assert.is_truthy(purpose, page.path)
      assert.is_truthy(page.text:find "\n## SEE ALSO\n", page.path)
      for title in page.text:gmatch "\n## ([^\n]+)" do assert.equal(title:upper(), title, page.path) end
    end
  end)

  it("is listed in its index and in the README", function()
    local index, readme = documents.read "runtime/manual/README.md", documents.read "README.md"
    for _, page in ipairs(pages) do
      local file = page.path:match "[^/]+$"
      assert.is_true(contains(index, "](" .. file .. ")"), file)
      assert.is_true(contains(readme, "](" .. page.path .. ")"), file)
    end
  end)

  it("names pages in links as their files are named", function()
    for _, document in ipairs(documents.all()) do
      for text, target in document.text:gmatch "%[([^%[%]]+)%]%(([^)#]+%.md)%)" do
        local name, section = text:match "^(.+)%((%d%l*)%)$"
        if name then
          assert.equal(("%s.%s.md"):format(name, section), target:match "[^/]+$", document.path)
        end
      end
    end
  end)

  it("becomes man pages", function()
    for _, page in ipairs(pages) do
      local path = ("%s/man/man%s/%s.%s"):format(BUILD, page.section:sub(1, 1), page.name, page.section)
      local text = documents.read(path)
      assert.is_true(contains(text, ('\n.TH "%s" "%s"'):format(page.name:upper(), page.section)), path)
      assert.is_true(contains(text, "\n.SH NAME\n.LP\n" .. page.name .. " - "), path)
      assert.is_true(contains(text, "\n.SH SEE ALSO\n"), path)
    end
  end)
end)

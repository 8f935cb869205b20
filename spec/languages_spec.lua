-- The programs of pgq-lua-other-languages(7) run, and enqueue what they say. It needs the drivers, which spec/run --all
-- installs (packages_for_languages in spec/support/bootstrap.sh); node's comes from npm, into the build folder.

local Postgres = require "spec.support.postgres"
local cjson = require "cjson"
local documents = require "spec.support.documents"
local process = require "spec.support.process"
local uv = require "luv"

local FOLDER = os.getenv "PGQ_BUILD" .. "/languages"
local NODE_DRIVER = "pg@8.23.1"

local INSTALL = [[mkdir -p "$1" && cd "$1" && { [ -d node_modules/pg ] ||
  npm install --no-audit --no-fund --no-save --no-package-lock --prefix . "$2"; }]]

-- How to run a program in a language, and the ending of its file's name.
local LANGUAGES = {
  python = { ending = ".py", command = { "/usr/bin/python3" } }, -- Debian's, to which its drivers belong
  js = { ending = ".js", command = { "node" } },
  go = { ending = ".go", command = { "go", "run" } },
  ruby = { ending = ".rb", command = { "/usr/bin/ruby" } },
}

describe("pgq-lua-other-languages(7)", function()
  local pg, dir
  local page = documents.read "runtime/manual/pgq-lua-other-languages.7.md"
  local programs, seen = {}, {}
  for _, block in ipairs(documents.read_blocks(page)) do
    if LANGUAGES[block.language] then
      assert(block.mark == "run", "a program that is not run, at line " .. block.line)
      programs[#programs + 1] = block
      seen[block.language] = true
    end
  end

  setup(function()
    process.check { "sh", "-c", INSTALL, "sh", FOLDER, NODE_DRIVER, timeout = 300 }
    dir = assert(uv.fs_mkdtemp(FOLDER .. "/run-XXXXXX")) -- inside, where node looks for modules
    pg = Postgres.start { tcp = true, migrated = true }
  end)

  teardown(function()
    process.check { "rm", "-rf", dir }
    pg:stop()
  end)

  for _, block in ipairs(programs) do
    it(("has a program in %s at line %d that enqueues a job"):format(block.language, block.line), function()
      local language = LANGUAGES[block.language]
      local path = ("%s/%d%s"):format(dir, block.line, language.ending)
      local file = assert(io.open(path, "w"))
      file:write(block.text)
      file:close()
      local words = { unpack(language.command) }
      words[#words + 1] = path
      words.cwd, words.timeout = dir, 300
      words.env = {
        DATABASE_URL = ("postgres://postgres@127.0.0.1:%d/postgres?sslmode=disable"):format(pg.port),
        GO111MODULE = "off", GOPATH = "/usr/share/gocode", GOCACHE = FOLDER .. "/go-cache", GOFLAGS = "",
      }
      local id = process.check(words):match "^(%d+)\n$"
      assert.is_truthy(id, "it does not print an id")
      local row = pg:psql("SELECT queue_name, run_after >= created_at + interval '10 minutes', retry_waits, "
        .. "convert_from(data, 'UTF8') FROM pgq_jobs WHERE id = " .. id)
      local queue, delayed, waits, data = row:match "^([^|]*)|([^|]*)|([^|]*)|([^\n]*)\n*$"
      assert.same({ "mail", "t", "{5s,1m}" }, { queue, delayed, waits })
      assert.same({ to = "ann@example.com", text = "Dear Ann,\n1 \\ 2" }, cjson.decode(data))
    end)
  end

  it("has programs in all languages that this spec knows", function()
    for language in pairs(LANGUAGES) do assert.is_true(seen[language], language) end
  end)
end)

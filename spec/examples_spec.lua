-- Every example, run as its head comment says, with a private Postgres of --dev.

local Listener = require "spec.support.listener"
local process = require "spec.support.process"
local uv = require "luv"
local wait = require "spec.support.wait"

local PGQ_LUA, BUILD, SOURCE = os.getenv "PGQ_LUA", os.getenv "PGQ_BUILD", os.getenv "PGQ_SOURCE"

-- Stops the server and removes the folder, also when the specs are killed.
local GUARD = [[
cat >/dev/null
cd "$1" && "$2" dev stop
cd / && rm -rf "$1"]]

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

-- What the head comment of an example says, by the words in front: { Run = "pgq-lua …", … }.
local function read_head(name)
  local text, said = read(SOURCE .. "/examples/" .. name), {}
  local head = name:find "%.c$" and text:match "^/%*.-%*/\n" or text:gsub("\n[^-].*", "\n")
  for label, command in head:gmatch "\n[- *]+(%u%l+): +([^\n]+)" do
    said[label] = command
  end
  return said, text
end

describe("the example", function()
  local dir, guard, env

  setup(function()
    dir = assert(uv.fs_mkdtemp "/tmp/pgq-spec-examples-XXXXXX")
    guard = process.start { "sh", "-c", GUARD, "sh", dir, PGQ_LUA, stdin = "pipe", outlive = true, cwd = "/" }
    assert(uv.fs_symlink(SOURCE .. "/examples", dir .. "/examples"))
    env = { PATH = BUILD .. ":" .. os.getenv "PATH", LUA_PATH = false, LUA_CPATH = false, no_proxy = "*" }
    process.check { PGQ_LUA, "--dev", "migrate", cwd = dir, timeout = 60 }
  end)

  teardown(function()
    guard:close_stdin()
    guard:wait(60)
  end)

  local function sh(command)
    return process.check { "sh", "-c", command, cwd = dir, env = env, timeout = 60 }
  end

  local function psql(sql)
    local out = process.check { "sh", "-c", 'psql -XqAt -v ON_ERROR_STOP=1 -d "$(pgq-lua dev conninfo)" -f -',
      cwd = dir, env = env, input = sql }
    return (out:gsub("\n$", ""))
  end

  before_each(function() psql "TRUNCATE pgq_jobs" end)

  -- ── the examples that are workers ──

  -- By name: those that have a spec.
  local names = { ["run.lua"] = true, ["enqueue.lua"] = true, ["enqueue.sql"] = true, ["enqueue.c"] = true,
    ["tables.sql"] = true }

  -- A worker that runs an example.
  local Example = {}
  Example.__index = Example

  -- Enqueues a job as the head comment says, with `data` and `waits` if they are given, and returns its id.
  function Example:enqueue(data, waits)
    local command = self.said.Enqueue
    if data then
      command = command:gsub("(enqueue %S+ ).*", function(words) return words .. "'" .. data .. "'" end)
    end
    if waits then
      command = command:gsub(" %-%-retry%-waits.*", "") .. " --retry-waits " .. waits
    end
    return (sh(command):gsub("\n", ""))
  end

  -- Waits for a line of its output.
  function Example:prints(line)
    assert.equal(line, self.process:read_until("([^\n]*)\n", 60, "stdout"))
  end

  -- Waits until the log says something, and returns what `pattern` has caught.
  function Example:logs(pattern)
    return self.process:read_until(pattern, 60, "stderr")
  end

  -- Waits until the job has failed for good, and returns its attempt and error.
  function Example.fails(_, id)
    return wait.till("job " .. id .. " to fail", 60, function()
      local row = psql(("SELECT attempt, error FROM pgq_jobs WHERE id = %s AND ran_at IS NOT NULL"):format(id))
      return row:match "." and row
    end)
  end

  -- An `it` whose function gets a worker that runs the example. Where the head comment has a port, the worker gets
  -- another one, worker.port, which no process listens on.
  local function example(name, what, fn)
    names[name] = true
    it(name .. " " .. what, function()
      local said = read_head(name)
      if said.Tables then
        sh(said.Tables .. " >tables.log 2>&1")
      end
      local self = setmetatable({ said = said, port = Listener.free_port() }, Example)
      local run = said.Run:gsub("localhost:%d+", "127.0.0.1:" .. self.port)
      self.process = process.start { "sh", "-c", "exec " .. run, cwd = dir, env = env }
      finally(function()
        self.process:kill "sigkill"
        if self.server then self.server:stop() end
      end)
      fn(self)
      self.process:kill()
      assert.equal(0, self.process:wait(60).status)
    end)
  end

  example("hello.lua", "greets", function(worker)
    local id = worker:enqueue()
    worker:prints(("job %s: hello, Ann!"):format(id))
  end)

  example("hello.lua", "fails a flaky job once, and completes it when its retry wait is over", function(worker)
    local id = sh("pgq-lua --dev enqueue flaky 'once more' --retry-waits 300ms,1m"):match "%d+"
    worker:logs "the first attempt fails"
    worker:prints(("job %s: once more, in attempt 2"):format(id))
  end)

  example("hello.lua", "backs off twice, for longer the second time, and then completes", function(worker)
    local id = sh("pgq-lua --dev enqueue busy 'it answers' --retry-waits 10ms,10ms,1m"):match "%d+"
    local first, second = worker:logs "backs off[^\n]*pause=([%d.]+)", worker:logs "backs off[^\n]*pause=([%d.]+)"
    assert.equal(2 * tonumber(first), tonumber(second))
    worker:prints(("job %s: it answers, in attempt 3"):format(id))
  end)

  example("goodbye.lua", "finds names with a query, and gives up what has none", function(worker)
    worker:enqueue()
    worker:prints "goodbye, Ann!"
    assert.equal("1|there is no user joe@example.com", worker:fails(worker:enqueue "joe@example.com"))
  end)

  example("retry.lua", "tries again until the file is there and filled", function(worker)
    local id = worker:enqueue("names.txt", "5s,10s,1h")
    worker:logs 'job failed and will be retried".-job=%d+ attempt=1 .-names.txt: No such file.-retry_in=5.000'
    write(dir .. "/names.txt", "")
    worker:logs 'job failed and will be retried".-attempt=2 .-names.txt is still empty" retry_in=2.000'
    worker.process:kill "sigstop" -- so that the next attempt does not begin meanwhile
    assert.equal("2|{1h0m0s}", psql("SELECT attempt, retry_waits FROM pgq_jobs WHERE id = " .. id))
    write(dir .. "/names.txt", "Ann\nBen\n")
    worker.process:kill "sigcont"
    worker:prints "names.txt: 2 names, in attempt 3"
  end)

  example("retry.lua", "gives up after the last wait, and at once where no attempt would help", function(worker)
    assert.equal("3|none.txt: No such file or directory", worker:fails(worker:enqueue("none.txt", "10ms,10ms")))
    assert.equal("1|names.csv is not a text file", worker:fails(worker:enqueue "names.csv"))
  end)

  example("backoff.lua", "waits for a dead mail server, and then sends", function(worker)
    worker:enqueue(nil, "10ms,10ms,1s,1s,1s,1s,1s,1s,1s,1s,1m")
    local first, second = worker:logs "queue backs off.-Failed to connect.-pause=([%d.]+)", worker:logs "pause=([%d.]+)"
    assert.equal(2 * tonumber(first), tonumber(second))
    worker:logs "queue backs off"
    worker.server = Listener.start_smtp(worker.port)
    worker:prints "sent to ann@example.com"
    assert.same({ "From: shop@example.com\r\nTo: ann@example.com\r\nSubject: Your order\r\n\r\n"
      .. "Your order is on its way.\r\n" }, worker.server.mails)
    assert.equal("1|the data is not an address, a space, and a text", worker:fails(worker:enqueue "nonsense"))
    wait.till("all to be done", 60, function() return psql "SELECT count(*) FROM pgq_jobs" == "1" end)
  end)

  example("welcome.lua", "adds a user and sends the welcome mail, once", function(worker)
    worker:enqueue()
    worker:prints "to eve@example.com: welcome, Eve!"
    worker:enqueue()
    worker:enqueue "kim@example.com Kim"
    worker:prints "to kim@example.com: welcome, Kim!"
    assert.equal("ann@example.com|Ann\neve@example.com|Eve\nkim@example.com|Kim", psql "SELECT * FROM users ORDER BY 1")
    wait.till("all to be done", 60, function() return psql "SELECT count(*) FROM pgq_jobs" == "0" end)
    assert.equal("1|the data is not an address, a space, and a name", worker:fails(worker:enqueue "nonsense"))
  end)

  example("welcome.lua", "sends no mail to a user whose transaction fails at its very end", function(worker)
    psql [[
      CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not max'; END $$;
      CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON users DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.name = 'Max') EXECUTE FUNCTION refuse()]]
    assert.equal("1|not max", worker:fails(worker:enqueue("max@example.com Max", "''")))
    worker:enqueue "pat@example.com Pat"
    worker:prints "to pat@example.com: welcome, Pat!"
    assert.equal("0", psql "SELECT count(*) FROM users WHERE name = 'Max'")
  end)

  example("transfer.lua", "moves money, or nothing", function(worker)
    local function balance() return (sh(worker.said.Look:gsub(" %-c", " -At%0"))) end
    worker:enqueue()
    wait.till("the money to move", 60, function() return balance() == "ann|750\nben|250\n", balance() end)
    assert.equal("1|ann has not enough money", worker:fails(worker:enqueue "ann ben 751"))
    assert.equal("1|ann or joe has no account", worker:fails(worker:enqueue "ann joe 1"))
    assert.equal("1|the data is not two accounts and a number of cents", worker:fails(worker:enqueue "ann ben -1"))
    assert.equal("ann|750\nben|250\n", balance())
    local ids = psql [[SELECT count(pgq_enqueue('transfer', convert_to(
      CASE WHEN n % 3 = 0 THEN 'ben ann 1' ELSE 'ann ben 1' END, 'UTF8'))) FROM generate_series(1, 300) n]]
    assert.equal("300", ids)
    wait.till("all to be done", 90, function() return psql "SELECT count(*) FROM pgq_jobs" == "3" end)
    assert.equal("ann|650\nben|350\n", balance())
  end)

  -- ── the examples that start programs ──

  -- A webhook that gives the answers of the test, one after the other.
  local function webhook(what, answers, fn)
    example("webhook.lua", what, function(worker)
      local requests = {}
      worker.server = Listener.start_http(worker.port, function(client, head, body)
        requests[#requests + 1] = { head = head, body = body }
        local answer = answers[#requests] or answers[#answers]
        return type(answer) == "string" and answer or answer(client)
      end)
      fn(worker, requests)
      assert.is_nil(worker.server.problem)
    end)
  end

  webhook("posts the data", { "200 OK" }, function(worker, requests)
    local id = worker:enqueue()
    worker:prints(("job %s: the webhook answered 200"):format(id))
    assert.equal('{"order": 7}', requests[1].body)
    assert.matches("^POST /hook HTTP/1.1\r\n", requests[1].head)
    assert.matches("\r\nContent%-Type: application/json\r\n", requests[1].head)
    assert.matches(("\r\nIdempotency%%-Key: %s\r\n"):format(id), requests[1].head)
  end)

  webhook("backs off at 503", { "503 Busy", "503 Busy", "202 Fine\r\nRetry-After: 60" }, function(worker, requests)
    local id = worker:enqueue(nil, "10ms,10ms,1m")
    assert.equal("0.100000", worker:logs "queue backs off.-the webhook answered 503.-pause=([%d.]+)")
    assert.equal("0.200000", worker:logs "queue backs off.-the webhook answered 503.-pause=([%d.]+)")
    worker:prints(("job %s: the webhook answered 202"):format(id))
    assert.equal(3, #requests)
  end)

  webhook("calls again when it is told to, or else after the retry wait, and gives up what is refused",
    { "429 Slow\r\nRetry-After: 1", "500 Oh", "429 Slow", "404 Gone" }, function(worker, requests)
      local id = worker:enqueue(nil, "1h,10ms,20ms,1m")
      worker:logs "the webhook answered 429.-retry_in=1.000"
      worker:logs "the webhook answered 500.-retry_in=0.010"
      worker:logs "the webhook answered 429.-retry_in=0.020"
      assert.equal("4|the webhook answered 404", worker:fails(id))
      assert.equal(4, #requests)
    end)

  -- No client is answered before this number of clients wait for an answer.
  local MANY, waiting = 30, 0
  webhook("has many calls in flight", { function(client)
    waiting = waiting + 1
    while waiting < MANY do
      client:sleep(0.02)
    end
    return "200 OK"
  end }, function(worker, requests)
    sh [[yes '{"order": 8}' | head -n 100 | pgq-lua --dev enqueue webhook --lines]]
    for _ = 1, 100 do
      worker.process:read_until("job %d+: the webhook answered 200\n", 60, "stdout")
    end
    assert.equal(100, #requests)
  end)

  webhook("does not wait for ever", { function(client) client:sleep(60) end }, function(worker)
    local id = worker:enqueue(nil, "''")
    assert.matches("^1|curl: %(28%) Operation timed out after %d+ milliseconds", worker:fails(id))
  end)

  example("webhook.lua", "tells of a webhook that is not there", function(worker)
    assert.matches("^1|curl: %(7%) Failed to connect", worker:fails(worker:enqueue(nil, "''")))
  end)

  example("thumbnails.lua", "makes a small picture of a large one", function(worker)
    sh "gm convert -size 800x600 gradient:red-blue photo.jpg"
    worker:enqueue()
    worker:prints "photo.jpg: photo.thumb.jpg"
    assert.equal("JPEG 160x120\n", sh "gm identify -format '%m %wx%h' photo.thumb.jpg")
    write(dir .. "/broken.jpg", "no picture")
    assert.matches("^1|gm convert: .*broken.jpg", worker:fails(worker:enqueue("broken.jpg", "''")))
    assert.equal("1|not the path of a JPEG file: |touch x.jpg", worker:fails(worker:enqueue "|touch x.jpg"))
    assert.equal("broken.jpg\nphoto.jpg\nphoto.thumb.jpg\n", sh "ls | grep -e jpg -e part")
  end)

  describe("run.lua", function()
    -- Runs a job through a handler with this body and time limit, in a worker that it returns.
    local function start(body, timeout, option)
      write(dir .. "/runs.lua", ([[
        local pgq = require "pgq"
        %s
        pgq.register_queue("runs", function() %s end, { timeout = "%s" })
      ]]):format(read_head("run.lua").Use:gsub("^.*(require [^(]*).*$", "local run = %1"), body, timeout))
      sh "pgq-lua --dev enqueue runs --retry-waits ''"
      local words = { PGQ_LUA, "--dev", cwd = dir, env = env }
      words[#words + 1] = option
      words[#words + 1] = "runs.lua"
      return process.start(words)
    end

    -- The same, and returns what it has printed.
    local function run(body)
      local result = start(body, "60s", "--drain"):wait(60)
      assert.equal(0, result.status)
      return result.stdout
    end

    it("returns the status and the output, and passes the input on", function()
      assert.equal("3|a|b|nil\n", (run [[
        local result, problem = run("sh", { "-c", "cat; echo b >&2; exit 3" }, "a\n\n")
        print(table.concat({ result.status, result.stdout, result.stderr, tostring(problem) }, "|"))]]))
      assert.equal("143||\n", (run [[
        local result = run("sh", { "-c", "kill $$" })
        print(table.concat({ result.status, result.stdout, result.stderr }, "|"))]]))
      assert.equal("1000000\n", (run [[print(#run("cat", {}, ("x"):rep(1000000)).stdout)]]))
    end)

    it("says when a program cannot be started", function()
      assert.equal("nil\tcannot start no-such-program: ENOENT: no such file or directory\n",
        (run [[print(run("no-such-program", {}))]]))
    end)

    it("ends the program when the time of the handler is over", function()
      local worker = start([[run("sh", { "-c", "echo $$ >pid; exec sleep 60" })]], "4s")
      finally(function() worker:kill "sigkill" end)
      worker:read_until "pgq.timeout"
      local pid = read(dir .. "/pid"):match "%d+"
      wait.till("the program to end", 30, function() return not uv.fs_readlink("/proc/" .. pid .. "/cwd") end)
      worker:kill()
      assert.equal(0, worker:wait(60).status)
    end)
  end)

  -- ── the examples that enqueue ──

  local function jobs()
    return psql [[SELECT queue_name, convert_from(data, 'UTF8'), run_after > now() + interval '20s', retry_waits
      FROM pgq_jobs ORDER BY id]]
  end

  it("enqueue.lua enqueues at once, with a delay, and in a transaction", function()
    assert.equal('DATABASE_URL="$(pgq-lua dev conninfo)" luajit examples/enqueue.lua Ann', read_head("enqueue.lua").Run)
    local out = process.check { "luajit", "examples/enqueue.lua", "Ann",
      env = { DATABASE_URL = sh("pgq-lua dev conninfo"):gsub("\n", "") } }
    assert.matches("^enqueued job %d+\nenqueued job %d+, due in 30 seconds\nenqueued job %d+ in a transaction\n$", out)
    assert.equal("hello|Ann|f|{1m0s,10m0s,30m0s}\nhello|Ann, later|t|{5s,1m0s}\nhello|ANN|f|{1m0s,10m0s,30m0s}", jobs())
  end)

  it("enqueue.sql enqueues at once, with a delay, and for each row of a query", function()
    sh(read_head("enqueue.sql").Run:gsub("^psql", "psql -X -v ON_ERROR_STOP=1"))
    assert.equal(table.concat({ "hello|SQL|f|{1m0s,10m0s,30m0s}", "hello|SQL, later|t|{5s,1m}",
      "hello|Ann|f|{1m0s,10m0s,30m0s}", "hello|Ben|f|{1m0s,10m0s,30m0s}" }, "\n"), jobs())
  end)

  it("enqueue.c builds as it says and enqueues", function()
    local said = read_head "enqueue.c"
    process.check { "cmake", "--install", BUILD, "--prefix", dir .. "/installed", timeout = 60 }
    local options = "-Wall -Wextra -Werror" .. (os.getenv "PGQ_ASAN_LIBRARY" and " -fsanitize=address,undefined" or "")
    sh(([[
      libdir=$(dirname $(find $PWD/installed -name 'libpgq.so'))
      export PKG_CONFIG_PATH=$libdir/pkgconfig
      %s -Wl,-rpath,$libdir]]):format(said.Build:gsub("^cc", "%0 " .. options)))
    assert.matches("^enqueued job %d+\n$", sh(said.Run))
    assert.equal("hello|Ann|f|{5s,1m0s}", jobs())
    local result = process.run { dir .. "/enqueue", "host=/nowhere", "Ann" }
    assert.equal(1, result.status)
    assert.matches("/nowhere", result.stderr)
  end)

  it("tables.sql can be run again", function()
    local run = read_head("tables.sql").Run:gsub("^psql", "psql -X -v ON_ERROR_STOP=1")
    sh(run .. " 2>&1")
    sh(run .. " 2>&1")
  end)

  -- ── all of them ──

  it("has at most 40 lines, says how it is run, and has a spec, whichever it is", function()
    local found = 0
    for name in process.check({ "ls", SOURCE .. "/examples" }):gmatch "(%S+%.%l+)\n" do
      local said, text = read_head(name)
      assert.is_true(names[name], name .. " has no spec")
      assert.is_truthy(said.Run or said.Use, name .. " does not say how it is run")
      assert.is_true(select(2, text:gsub("\n", "")) <= 40, name .. " has more than 40 lines")
      found = found + 1
    end
    assert.is_true(found > 10)
  end)
end)

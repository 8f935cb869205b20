-- Handlers that call libraries which block: LuaSocket, lua-curl, os.execute. They work as they are, one job on each
-- executor at a time.
local Listener = require "spec.support.listener"
local Postgres = require "spec.support.postgres"
local Worker = require "spec.support.worker"
local wait = require "spec.support.wait"

-- The source of a function post(url, data) for each library; it returns status and body.
local LIBRARIES = {
  LuaSocket = [[
    local http = require "socket.http"
    local function post(url, data)
      local body, status = http.request(url, data)
      return status, body
    end]],
  ["lua-curl"] = [[
    local curl = require "curl"
    local function post(url, data)
      local handle, body, status = curl.easy_init(), {}, nil
      handle:setopt(curl.OPT_URL, url)
      handle:setopt(curl.OPT_POSTFIELDS, data)
      handle:setopt(curl.OPT_HEADERFUNCTION, function(line)
        status = line:match "^HTTP/%S+ (%d+)" or status
        return #line
      end)
      handle:setopt(curl.OPT_WRITEFUNCTION, function(part)
        body[#body + 1] = part
        return #part
      end)
      assert(handle:perform())
      return status, table.concat(body)
    end]],
}

local HANDLER = [[
    local pgq = require "pgq"
    pgq.register_queue("post", function(data)
      local status, body = post("http://127.0.0.1:%d/", data)
      print(data, status, #body) -- in one call, because two executors write to the same pipe
    end)
    pgq.register_queue("beside", function() print "beside" end)]]

describe("a handler that calls a blocking library", function()
  local pg, server, posts, at_once, most

  setup(function()
    pg = Postgres.start { migrated = true }
  end)

  teardown(function() pg:stop() end)

  before_each(function()
    pg:psql "TRUNCATE pgq_jobs"
    posts, at_once, most = {}, 0, 0
    server = Listener.start_http(Listener.free_port(), function(client, _, body)
      posts[#posts + 1] = body
      at_once = at_once + 1
      most = math.max(most, at_once)
      client:sleep(body == "for ever" and 3600 or 0.2)
      at_once = at_once - 1
      return "200 OK"
    end)
  end)

  after_each(function()
    server:stop()
    assert.is_nil(server.problem)
  end)

  local function start(library, ...)
    return Worker.start { pg = pg, args = { "--executors", "2", ... }, script = LIBRARIES[library] .. HANDLER:format(server.port) }
  end

  for library in pairs(LIBRARIES) do
    it(("(%s) gets its answers, on one executor each"):format(library), function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'post', convert_to('job ' || n, 'UTF8') FROM generate_series(1, 8) n"
      local worker = start(library, "--drain")
      assert.equal(0, worker:wait(60).status)
      for n = 1, 8 do
        assert.matches(("job %d\t200\t3\n"):format(n), worker.stdout)
      end
      assert.equal(8, #posts)
      assert.equal(2, most)
      assert.equal("0", pg:psql "SELECT count(*) FROM pgq_jobs")
    end)

    it(("(%s) is killed when its time is over, and the other executor goes on"):format(library), function()
      pg:psql "INSERT INTO pgq_jobs (queue_name, data, retry_waits) VALUES ('post', 'for ever', '{1h}')"
      local worker = start(library, "--timeout", "10s")
      wait.till("the post to have come", 30, function() return #posts == 1 end)
      pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'beside', ''::bytea FROM generate_series(1, 3)"
      worker:read_until("beside\nbeside\nbeside\n", 30, "stdout")
      assert.equal("0", pg:psql "SELECT count(error) FROM pgq_jobs")
      wait.till("the job to have failed", 60, function() return pg:psql "SELECT count(error) FROM pgq_jobs" == "1" end)
      assert.matches("killed at the time limit of 10s", pg:psql "SELECT error FROM pgq_jobs")
      worker:stop()
      assert.equal(1, #posts)
    end)
  end

  it("(os.execute) gets its status", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('run', 'true'), ('run', 'false'), ('run', 'sleep 0.1; exit 3')"
    local result = Worker.run { pg = pg, timeout = 60, args = { "--drain" }, script = [[
      require "pgq".register_queue("run", function(data) print(data, os.execute(data) / 256) end)]] }
    for _, line in ipairs { "true\t0\n", "false\t1\n", "sleep 0.1; exit 3\t3\n" } do
      assert.matches(line, result.stdout, 1, true)
    end
  end)
end)

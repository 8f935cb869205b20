-- pgq-lua top: on a real terminal, beside real workers and a server that is locked, stopped and started.

local fixture = require "spec.support.fixture"
local process = require "spec.support.process"
local Screen = require "spec.support.screen"
local wait = require "spec.support.wait"

local PGQ_LUA = os.getenv "PGQ_LUA"

describe("pgq-lua top", function()
  local pg = fixture.server {
    clean = "TRUNCATE pgq_queues, pgq_stats, pgq_attempts",
    sql = [[CREATE ROLE pgq_viewer LOGIN;
      GRANT SELECT ON pgq_jobs, pgq_workers, pgq_queues, pgq_attempts, pgq_stats, pgq_audit TO pgq_viewer;
      CREATE ROLE nobody LOGIN]],
  }
  local enqueue = fixture.enqueuer(pg)
  local start_worker = fixture.workers(pg)

  after_each(Screen.stop_all)

  -- Starts top on a screen; `options` may have columns, rows, env, args and a connection string.
  local function top(options)
    options = options or {}
    local words = { PGQ_LUA, "--db", options.conninfo or pg.conninfo, "top", columns = options.columns, rows = options.rows, env = options.env }
    for _, word in ipairs(options.args or {}) do words[#words + 1] = word end
    return Screen.start(words)
  end

  -- The first words of the lines of the list, which begin below the titles.
  local function names(text)
    local found, below = {}, false
    for line in text:gmatch "[^\n]+" do
      if line:find "^ *%d+%-%d+ of " or line:find "^none" then break end
      local name = below and line:match "^ *(%S+)  "
      if name then found[#found + 1] = name end
      below = below or line:find "QUEUE" or line:find "^ *COUNT"
    end
    return found
  end

  local function add_queues(count)
    pg:psql(("INSERT INTO pgq_jobs (queue_name, data) SELECT 'q' || to_char(n, 'FM0000'), '' FROM generate_series(1, %d) AS n, generate_series(1, n %% 7 + 1)")
      :format(count))
  end

  -- The selected row: the line that begins in bold and with its colours swapped. Such styles last until they are changed.
  local function selected(screen)
    local bold, swapped = false, false
    local function follow(codes)
      for code in (codes == "" and "0" or codes):gmatch "%d+" do
        bold = code == "1" or bold and code ~= "0" and code ~= "22"
        swapped = code == "7" or swapped and code ~= "0" and code ~= "27"
      end
    end
    for line in screen:text(true):gmatch "[^\n]+" do
      local first = line:match "^[\27%[%d;m]*"
      for codes in first:gmatch "\27%[([%d;]*)m" do follow(codes) end
      if bold and swapped then return (line:gsub("\27%[[%d;]*m", ""):gsub(" +$", "")) end
      for codes in line:sub(#first + 1):gmatch "\27%[([%d;]*)m" do follow(codes) end
    end
  end

  it("shows queues, running jobs, workers and errors, each live", function()
    enqueue("slow", "", 2)
    enqueue("broken", "", 3)
    pg:psql "UPDATE pgq_jobs SET retry_waits = '{}' WHERE queue_name = 'broken'"
    start_worker [[
      pgq.register_queue("slow", function() pgq.sleep(1000) end)
      pgq.register_queue("broken", function(_, job) error("no such user: " .. job.id) end)]]
    local screen = top()
    screen:wait "connected"
    screen:wait "workers 1  executors %d/1 busy  jobs 2  done %d+/min  failed [%d.]+/min  since %d%d:%d%dZ"
    screen:wait "\nslow +0 +%- +2 +0 +0 .* served"
    screen:wait "\nbroken +0 +%- +0 +0 +3 .* served"
    screen:press "2"
    screen:wait "all queues, running.*\n +1 +slow +running +%d+s ago +1 +%S+:%d+\n +2 +slow"
    screen:press "3"
    screen:wait "WORKER.*\n *%d+ +%S+:%d+ .* serving +worker.lua"
    screen:wait "job 1 of slow for %d+s in %d+"
    screen:press "4"
    screen:wait "\n +3 .* no such user: #\n"
  end)

  it("opens the jobs of a queue, then a job with its attempts and why it waits, and goes back", function()
    enqueue("mail", "", 1)
    enqueue("zoo", "", 1)
    start_worker [[pgq.register_queue("mail", function() error("the relay is down\nfor all") end)
      pgq.register_queue("zoo", function() end)]]
    local screen = top()
    screen:wait "\nmail +0 +%- +0 +1 "
    screen:press "Enter"
    screen:wait "> mail, in any state.*later +in %d+.*the relay is down"
    screen:press "Enter"
    screen:wait "> mail, in any state > job 1\njob 1 of the queue mail: later\n +why"
    screen:wait "attempt 1: retried"
    screen:press("PageDown", "PageDown")
    screen:wait "stack traceback:"
    screen:press "Escape"
    screen:wait "> mail, in any state\n"
    screen:press "BSpace"
    screen:wait "\nzoo +0 "
    assert.is_nil(screen:text():find "in any state")
  end)

  it("groups errors, and opens the jobs that have failed with one", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error)
      SELECT 'mail', '', now(), '100% of host ' || n || ' is_down' FROM generate_series(1, 4) AS n;
      INSERT INTO pgq_jobs (queue_name, data, ran_at, error) VALUES ('mail', '', now(), '100% of host 1 is-down'), ('web', '', now(), 'x')]]
    local screen = top()
    screen:press "4"
    screen:wait "\n +4 .* #%% of host # is_down\n"
    screen:wait "1%-3 of 3; of the latest 6 failed jobs"
    screen:press "Enter"
    screen:wait "1%-4 of 4"
    screen:press "1"
    screen:wait "\nweb"
    screen:press("Down", "e")
    screen:wait "> web\n.*1%-1 of 1; of the latest 1 failed jobs"
  end)

  it("sorts by each column, in both directions, and the mark shows which", function()
    add_queues(20)
    local screen = top { rows = 40 }
    screen:wait "1%-20 of 20"
    assert.equal("q0001", names(screen:text())[1])
    screen:press("s", "s")
    screen:wait "DUE▼.*1%-20 of 20, by DUE\n?"
    local by_due = names(screen:text())
    assert.same({ "q0006", "q0013", "q0020" }, { by_due[1], by_due[2], by_due[3] })
    screen:press "S"
    screen:wait "DUE▲"
    assert.same({ "q0007", "q0014" }, { names(screen:text())[1], names(screen:text())[2] })
    screen:press "<"
    screen:wait "QUEUE▲"
    screen:press "S"
    screen:wait "QUEUE▼"
    assert.equal("q0020", names(screen:text())[1])
  end)

  it("filters queues by name among all of them, and clears the filter", function()
    add_queues(250)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES ('Zebra_1', ''), ('zebraX1', '')"
    local screen = top()
    screen:wait "1%-15 of more than 100"
    screen:press "/"
    screen:type "zebra_"
    screen:wait "filter: zebra_"
    screen:wait "1%-1 of 1 with 'zebra_'"
    screen:press "Enter"
    screen:wait "q quit"
    assert.same({ "Zebra_1" }, names(screen:text()))
    screen:press "Escape"
    screen:wait "of more than 100"
    screen:press "/"
    screen:type "no%such"
    screen:wait "Nothing here has the text of the filter"
    screen:press "Escape"
    screen:wait "of more than 100"
  end)

  it("pages through many queues, a part of 100 after the other, and says within which it sorts", function()
    add_queues(250)
    local screen = top { args = { "--interval", "200ms" } }
    screen:wait "1%-15 of more than 100"
    screen:press "End"
    screen:wait "86%-100 of more than 100"
    screen:press "PageDown"
    screen:wait "101%-115 of more than 200"
    screen:wait "\nq0101 "
    screen:press("s", "s")
    screen:wait "by DUE within 101%-200"
    screen:press("S", "<", "<")
    screen:press("End", "NPage")
    screen:wait "201%-215 of 250"
    screen:press("End")
    screen:wait "236%-250 of 250"
    screen:wait "\nq0250 "
    screen:press("Home")
    screen:wait "1%-15 of more than 100"
    screen:press("NPage", "Up")
    screen:wait(function(text) return text:find "\nq0015 " end)
    assert.matches("^q0015 ", selected(screen))
  end)

  it("keeps the selection on its row, wherever the next answer puts it", function()
    add_queues(5)
    local screen = top()
    screen:wait "1%-5 of 5"
    screen:press("Down", "Down")
    wait.till("the selection", 30, function() return (selected(screen) or ""):find "^q0003 " end)
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) SELECT 'a' || n, '' FROM generate_series(1, 4) AS n"
    screen:wait "1%-9 of 9"
    assert.matches("^q0003 ", selected(screen))
    pg:psql "DELETE FROM pgq_jobs WHERE queue_name = 'q0003'"
    screen:wait "1%-8 of 8"
    assert.matches("^q0004 ", selected(screen))
  end)

  it("pauses, goes on, and changes the interval", function()
    local screen = top()
    screen:wait "There are no queues"
    screen:press "p"
    screen:wait "PAUSED"
    wait.till("no questions", 30, function()
      return pg:psql [[SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'pgq-lua top' AND state_change > now() - interval '1 second']] == "0"
    end)
    enqueue("mail")
    assert.matches("There are no queues", screen:text())
    screen:press "r" -- reads once
    screen:wait "\nmail +1 "
    screen:press "Space"
    screen:wait(function(text) return not text:find "PAUSED" end)
    enqueue("web")
    screen:wait "\nweb +1 "
    screen:press "+"
    screen:wait "every 2s"
    screen:press("-", "-")
    screen:wait "every 500ms"
    screen:press "d"
    screen:type "1.5m"
    screen:press "Enter"
    screen:wait "every 1m30s"
    screen:press "d"
    screen:type "soon"
    screen:press "Enter"
    screen:wait "'soon' .*; write 2s or 500ms"
  end)

  it("fits the screen when that gets another size, down to a few lines", function()
    add_queues(60)
    local screen = top()
    screen:wait "1%-15 of 60"
    screen:resize(120, 50)
    screen:wait "1%-41 of 60"
    screen:resize(40, 10)
    screen:wait "1%-%d of 60"
    for _, size in ipairs { { 20, 6 }, { 10, 3 }, { 5, 2 }, { 2, 1 } } do screen:resize(unpack(size)) end
    screen:resize(80, 24)
    screen:wait "1%-15 of 60"
    for line in screen:text():gmatch "[^\n]+" do assert.is_true(#line <= 84, line) end
    screen:press "?"
    screen:wait "Any key closes this page"
    assert.is_nil(screen:text():find "…", 1, true)
    screen:press "x"
    screen:wait "1%-15 of 60"
  end)

  it("goes on when the server is stopped and started, and says meanwhile how old the numbers are", function()
    enqueue("mail", "", 3)
    local screen = top()
    screen:wait "\nmail +3 "
    pg:down()
    screen:wait "CONNECTION LOST %d+%S+ ago"
    screen:wait "\nmail +3 "
    screen:press "?"
    screen:wait "Any key closes"
    screen:press "x"
    screen:press "2"
    screen:wait "reading …"
    screen:press "1"
    screen:wait "again in"
    pg:up()
    enqueue("mail", "", 2)
    screen:wait "connected"
    screen:wait "\nmail +5 "
    screen:press "q"
    assert.equal(0, screen:ended())
  end)

  it("keeps its keys alive while a session has locked a table, and says that, and goes on", function()
    enqueue("mail", "", 3)
    local screen = top()
    screen:wait "\nmail +3 "
    local locker = process.start { "psql", "-Xq", "-d", pg.conninfo, stdin = "pipe" }
    locker:write "BEGIN; LOCK TABLE pgq_jobs;\n"
    screen:wait "lock timeout; another session has locked a table:%s`pgq%-lua doctor` names it"
    screen:press "?"
    screen:wait("Any key closes", 2)
    screen:press "x"
    screen:press "3"
    screen:wait "No worker runs"
    screen:press "1"
    screen:wait "lock timeout"
    locker:write "ROLLBACK;\n"
    screen:wait(function(text) return not text:find "lock timeout" and text:find "\nmail +3 " end)
    locker:close_stdin()
    locker:wait()
  end)

  it("is read-only: needs what pgq_viewer has, and names what another role lacks", function()
    enqueue("mail", "", 3)
    local screen = top { conninfo = pg.conninfo .. " user=pgq_viewer" }
    screen:wait "\nmail +3 .* NO WORKER"
    for key, pattern in pairs { ["2"] = "There are no such jobs", ["3"] = "No worker runs", ["4"] = "No job has failed" } do
      screen:press(key)
      screen:wait(pattern)
    end
    screen:press("1", "Enter")
    screen:wait "1%-3 of 3"
    screen:press "Enter"
    screen:wait "job 1 of the queue mail: due\n +why"
    assert.is_nil(screen:text():find "denied")

    local other = top { conninfo = pg.conninfo .. " user=nobody" }
    other:wait "permission denied for table %S+; the role 'nobody' does not have: SELECT%s+on pgq_jobs"
    pg:psql "GRANT SELECT ON pgq_jobs, pgq_workers, pgq_queues, pgq_stats TO nobody"
    other:wait "\nmail +3 "
    assert.equal("3 0", pg:psql "SELECT count(*) || ' ' || count(pg_current_xact_id_if_assigned()) FROM pgq_jobs")
  end)

  it("escapes hostile names and errors, and keeps columns in their places behind wide characters", function()
    pg:psql [[INSERT INTO pgq_jobs (queue_name, data, ran_at, error) VALUES
      (E'a\x1b[31mred\nline', '', now(), E'bad \x1b]0;title\x07 \u202e end'), (U&'\65E5\672C\8A9E', '', now(), 'x'), (U&'e\0301te', '', now(), 'x'),
      (repeat('long', 100), '', now(), 'x'), ('%s%n''"$(id)', '', now(), 'x')]]
    local screen = top()
    screen:wait "1%-5 of 5"
    local text = screen:text()
    assert.is_truthy(text:find("a\\x1b[31mred\\nline", 1, true), text)
    assert.is_truthy(text:find("%s%n'\"$(id)", 1, true), text)
    assert.is_truthy(text:find("longlong.*…  ", 1), text)
    -- The column behind the name begins at the same place: tmux counts a wide character as two columns.
    local plain = text:match "\n(%%s%%n[^\n]*)\n"
    local wide = text:match "\n(日本語[^\n]*)\n"
    assert.equal(plain:find " 0 ", wide:find " 0 " - 3 * 3 + 3 * 2)
    screen:press "4"
    screen:wait "bad \\x1b%]#;title\\x07 \\u202e end"
    screen:press("Down", "Enter")
    screen:wait "1%-1 of 1"
    screen:press "Enter"
    screen:wait "error +bad \\x1b%]0;title\\x07 \\u202e end"
  end)

  it("restores the terminal when it quits, and ends by signals as other programs do", function()
    for key, status in pairs { q = 0, ["C-c"] = 0, sigterm = 143, sighup = 129 } do
      local screen = top()
      screen:wait "There are no queues"
      if #key > 3 then
        process.check { "kill", "-" .. key:sub(4):upper(), tostring(screen:pid()) }
      else
        screen:press(key)
      end
      assert.equal(status, screen:ended(), key)
      local before, after = screen:settings()
      assert.equal(before, after, key)
      assert.is_nil(screen:text():find "no queues", key)
    end
  end)

  it("stops and goes on, by its shell and by a signal", function()
    enqueue("mail")
    local screen = Screen.start { "bash", "--norc", "-i", env = { PS1 = "prompt> ", DATABASE_URL = pg.conninfo } }
    screen:wait "prompt>"
    screen:type(PGQ_LUA .. " top")
    screen:press "Enter"
    screen:wait "\nmail +1 "
    screen:press "C-z"
    screen:wait "Stopped.*prompt>"
    screen:type "stty -a | grep -c ' -echo '; stty -a | grep -c ' icanon '"
    screen:press "Enter"
    screen:wait "\n0\n1\n"
    screen:type "fg"
    screen:press "Enter"
    screen:wait "\nmail +1 "
    enqueue("web")
    screen:wait "\nweb +1 "
    screen:press "q"
    screen:wait "prompt> *\n*$"
  end)

  it("works without colours and in any locale", function()
    pg:psql "INSERT INTO pgq_jobs (queue_name, data) VALUES (U&'\\65E5\\672C', ''), ('web', '')" -- the first one is selected
    for _, env in ipairs { { NO_COLOR = "1" }, { TERM = "vt100" }, { LC_ALL = "C", LANG = "C" }, { TERM = "linux" } } do
      local screen = top { env = env }
      screen:wait "日本 +1 .* NO WORKER"
      local colours = screen:text(true):find "\27%[[%d;]*3[13]m"
      assert.equal(env.NO_COLOR == nil and env.TERM ~= "vt100", colours ~= nil)
    end
  end)

  it("says what is wrong where there is no terminal, or none that it knows, or no server", function()
    local piped = process.run { PGQ_LUA, "--db", pg.conninfo, "top" }
    assert.equal(2, piped.status)
    assert.equal("pgq-lua top: standard output is not a terminal; `pgq-lua queues` prints the list once, and as JSON with --json\n", piped.stderr)
    assert.equal(2, process.run { PGQ_LUA, "--db", pg.conninfo, "top", "mail" }.status)
    assert.matches("between 100ms and 1h", process.run { PGQ_LUA, "top", "--interval", "1ms" }.stderr)

    local unknown = top { columns = 200, env = { TERM = "no-such-terminal" } }
    unknown:wait "pgq%-lua top: TERM names a terminal that this machine does not know %(TERM=no%-such%-terminal%); set"
    assert.equal(2, unknown:ended())
    local dumb = top { env = { TERM = "dumb" } }
    dumb:wait "cannot move its cursor %(TERM=dumb%)"
    assert.equal(2, dumb:ended())
    local unset = top { env = { TERM = false } }
    unset:wait "TERM is not set"

    local nowhere = top { conninfo = "host=/nowhere" }
    nowhere:wait "pgq%-lua top: .*/nowhere"
    assert.equal(1, nowhere:ended())
  end)

  it("asks for tables that are missing", function()
    local screen = top { conninfo = (pg.conninfo:gsub("dbname=%S+", "dbname=template1")) }
    screen:wait "relation .* does not exist; run `pgq%-lua migrate`"
  end)
end)

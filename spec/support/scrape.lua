-- Asks the HTTP server of a worker that was started with --listen.

local process = require "spec.support.process"
local wait = require "spec.support.wait"

local scrape = {}

-- scrape.address(worker): where it listens, as host:port. It must not have been read from the log before.
function scrape.address(worker)
  return (worker:read_until("listening for requests of metrics and health\" address=([^%s]+)", 30, "stderr"))
end

-- scrape.get(address, path, …): asks for a page; further words are options of curl. Returns { status =, type =, body =,
-- head = all header lines }.
function scrape.get(address, path, ...)
  local result = process.run { "curl", "-sS", "-i", "--max-time", "20", "-g", "http://" .. address .. path, ... }
  if result.status ~= 0 then error("curl: " .. result.stderr, 2) end
  local head, body = result.stdout:match "^(.-\r\n)\r\n(.*)$"
  return {
    status = tonumber(head:match "^HTTP/%S+ (%d+)"),
    type = head:match "[Cc]ontent%-[Tt]ype: ([^\r]+)",
    head = head,
    body = body,
  }
end

-- scrape.parse(body): the value of each series, by its name and labels as they are written; and a list of the names.
function scrape.parse(body)
  local values, names = {}, {}
  for line in body:gmatch "[^\n]+" do
    local series, value = line:match "^([^#].*) (%S+)$"
    if series then
      assert(values[series] == nil, "the series appears twice: " .. series)
      values[series] = tonumber((value:gsub("+Inf", "inf")))
      names[series:match "^[%w_]+"] = true
    end
  end
  return values, names
end

-- scrape.metrics(address): what scrape.parse returns for /metrics, and the body.
function scrape.metrics(address)
  local page = scrape.get(address, "/metrics")
  assert(page.status == 200, page.body)
  local values, names = scrape.parse(page.body)
  return values, names, page.body
end

-- scrape.wait_for(address, series, condition, timeout): waits until condition(value) is true; value is nil while there
-- is no such series. Returns all values.
function scrape.wait_for(address, series, condition, timeout)
  return (wait.till(series, timeout or 30, function()
    local values = scrape.metrics(address)
    return condition(values[series]) and values, values[series]
  end))
end

-- scrape.wait_for_status(address, path, status, timeout): waits until the page has this status, and returns its body.
function scrape.wait_for_status(address, path, status, timeout)
  return (wait.till(("%s to answer %d"):format(path, status), timeout or 30, function()
    local page = scrape.get(address, path)
    return page.status == status and page.body, page.status .. page.body
  end))
end

return scrape

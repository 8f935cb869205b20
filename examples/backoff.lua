-- Sends mail through a server that may be down: a backoff pauses the whole queue, twice as long each time, until a mail
-- is sent. A backoff is a failed attempt: the jobs need retry waits for as long as the server may be down.
-- Run:      pgq-lua --dev examples/backoff.lua smtp://localhost:2525
-- Enqueue:  pgq-lua --dev enqueue mail 'ann@example.com Your order is on its way.' --retry-waits 1s,1s,1s,1m,1h
local pgq = require "pgq"
local run = require "examples.run"

local server = assert(arg[1], "the address of the mail server is missing, such as smtp://localhost:2525")

-- Exit statuses of curl that mean that the server is down: no such host, no connection, no answer in time.
local DOWN = { [6] = true, [7] = true, [28] = true }

pgq.register_queue("mail", function(data)
  local address, text = data:match "^(%S+@%S+) (.+)$"
  if not address then
    return pgq.discard "the data is not an address, a space, and a text"
  end
  local curl, problem = run("curl", {
    "--silent", "--show-error", "--connect-timeout", "5", "--max-time", "30",
    "--mail-from", "shop@example.com", "--mail-rcpt", address, "--crlf", "--upload-file", "-", server,
  }, ("From: shop@example.com\nTo: %s\nSubject: Your order\n\n%s\n"):format(address, text))
  if not curl then
    return nil, problem
  elseif DOWN[curl.status] then
    return pgq.backoff(curl.stderr)
  elseif curl.status ~= 0 then
    return nil, curl.stderr
  end
  print("sent to " .. address)
end, { timeout = "1m" })

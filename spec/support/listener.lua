-- Small servers for clients that specs start: on 127.0.0.1, in the loop of the specs, a coroutine for each client.

local uv = require "luv"
local loop = require "spec.support.loop"

local Listener = {}
Listener.__index = Listener

local Client = {}
Client.__index = Client

-- Removes what `pattern` matches from the front of the received bytes, and returns the captures. Waits for the match.
function Client:read(pattern)
  while true do
    local found = { self._input:find("^" .. pattern) }
    if found[1] then
      self._input = self._input:sub(found[2] + 1)
      return unpack(found, 3)
    end
    coroutine.yield()
  end
end

-- Removes this number of bytes and returns them.
function Client:read_bytes(count)
  while #self._input < count do
    coroutine.yield()
  end
  local bytes = self._input:sub(1, count)
  self._input = self._input:sub(count + 1)
  return bytes
end

function Client:write(text)
  self._socket:write(text, function() end)
end

-- Waits for this number of seconds.
function Client:sleep(seconds)
  local timer, over = uv.new_timer(), false
  self._timer = timer
  timer:start(math.floor(1000 * seconds), 0, function()
    loop.close(timer)
    over, self._timer = true, nil
    self:_go_on()
  end)
  while not over do
    coroutine.yield()
  end
end

function Client:_close()
  self._listener._clients[self] = nil
  loop.close(self._socket)
  if self._timer then
    loop.close(self._timer)
  end
end

function Client:_go_on()
  if coroutine.status(self._thread) == "dead" or self._socket:is_closing() then
    return
  end
  local ok, problem = coroutine.resume(self._thread, self)
  if not ok then
    self._listener.problem = problem
  end
  if coroutine.status(self._thread) == "dead" then
    self._socket:shutdown(function() self:_close() end)
  end
end

local function accept(self, serve)
  local socket = uv.new_tcp()
  assert(self._socket:accept(socket))
  local client = setmetatable({ _socket = socket, _listener = self, _input = "" }, Client)
  client._thread = coroutine.create(serve)
  self._clients[client] = true
  self.count = self.count + 1
  client:_go_on()
  socket:read_start(function(_, bytes)
    if bytes then
      client._input = client._input .. bytes
      client:_go_on()
    else
      client:_close()
    end
  end)
end

-- Listener.free_port(): a port that no process listens on.
Listener.free_port = require("spec.support.port").free

-- Listener.start(port, serve): calls serve(client) in a coroutine for each client; when it returns, the connection is
-- closed. Fields: `count`, the number of clients so far, and `problem`, the error that a serve has thrown.
function Listener.start(port, serve)
  local self = setmetatable({ _socket = uv.new_tcp(), _clients = {}, count = 0, port = port }, Listener)
  assert(self._socket:bind("127.0.0.1", port))
  assert(self._socket:listen(128, function(err)
    assert(not err, err)
    accept(self, serve)
  end))
  return self
end

-- Listener.start_http(port, answer): answer(client, head, body) returns the head of the answer, such as "200 OK".
function Listener.start_http(port, answer)
  return Listener.start(port, function(client)
    local head = client:read "(.-\r\n)\r\n"
    local body = client:read_bytes(tonumber(head:lower():match "content%-length: (%d+)"))
    local answered = answer(client, head, body)
    client:write(("HTTP/1.1 %s\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"):format(answered))
  end)
end

-- Listener.start_smtp(port): accepts every mail, and keeps it in its field `mails`.
function Listener.start_smtp(port)
  local mails = {}
  local self = Listener.start(port, function(client)
    client:write "220 spec\r\n"
    while true do
      local command = client:read "(%a+)[^\n]*\n"
      if command == "QUIT" then
        return client:write "221 bye\r\n"
      elseif command == "DATA" then
        client:write "354 go on\r\n"
        mails[#mails + 1] = client:read "(.-\r\n)%.\r\n"
      end
      client:write "250 spec\r\n"
    end
  end)
  self.mails = mails
  return self
end

function Listener:stop()
  loop.close(self._socket)
  for client in pairs(self._clients) do
    client:_close()
  end
  loop.settle()
end

return Listener

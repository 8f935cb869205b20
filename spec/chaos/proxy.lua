-- A TCP proxy on loopback that can cut, stall and delay the connections that go through it.

local uv = require "luv"

local Proxy = {}
Proxy.__index = Proxy

-- luv 1.44 frees a handle that is collected while it closes: closing ones are kept until they are closed.
local closing = {}

local function close(handle, with_reset)
  if handle:is_closing() then
    return
  end
  closing[handle] = true
  local function on_closed()
    closing[handle] = nil
  end
  if not (with_reset and handle:close_reset(on_closed)) then
    handle:close(on_closed)
  end
end

-- Ends both sides of a connection: by RST, or by FIN.
local function drop(proxy, connection, with_reset)
  proxy.connections[connection] = nil
  close(connection.client, with_reset)
  close(connection.server, with_reset)
end

-- A cut that is due happens in the middle of the next message: its first bytes still get through.
local function cut_within(proxy, connection, to, chunk)
  local cut = connection.cut
  local length = math.floor(cut.pick * #chunk)
  proxy.connections[connection] = nil
  connection.client:read_stop()
  connection.server:read_stop()
  to:write(chunk:sub(1, length), function() drop(proxy, connection, cut.with_reset) end)
end

local function forward(proxy, connection, from, to)
  from:read_start(function(_, chunk)
    if not chunk and connection.stalled then
      close(from)
    elseif not chunk then
      drop(proxy, connection)
    elseif connection.stalled then
      connection.swallowed = connection.swallowed + #chunk
    elseif connection.cut then
      cut_within(proxy, connection, to, chunk)
    elseif not to:is_closing() then
      to:write(chunk, function() end)
    end
  end)
end

local function start(proxy, connection)
  forward(proxy, connection, connection.client, connection.server)
  forward(proxy, connection, connection.server, connection.client)
end

local function accept(proxy)
  local connection = { client = uv.new_tcp(), server = uv.new_tcp(), swallowed = 0 }
  proxy._listener:accept(connection.client)
  connection.client:nodelay(true)
  connection.server:nodelay(true)
  proxy.connections[connection] = true
  connection.server:connect("127.0.0.1", proxy._server_port, function(problem)
    if connection.client:is_closing() then
      return
    elseif problem then
      drop(proxy, connection)
    else
      start(proxy, connection)
    end
  end)
end

-- Proxy.listen(server_port): a proxy with a port of its own (field `port`) to that port of 127.0.0.1.
function Proxy.listen(server_port)
  local proxy = setmetatable({ connections = {}, _server_port = server_port, _listener = uv.new_tcp() }, Proxy)
  assert(proxy._listener:bind("127.0.0.1", 0))
  proxy.port = proxy._listener:getsockname().port
  assert(proxy._listener:listen(64, function() accept(proxy) end))
  return proxy
end

-- The connections that a fault affects: one of them in two cases of three, otherwise all.
local function chosen(proxy, pick)
  local all = {}
  for connection in pairs(proxy.connections) do
    all[#all + 1] = connection
  end
  if pick >= 2 / 3 or #all == 0 then
    return all
  end
  return { all[math.floor(pick * 1.5 * #all) + 1] }
end

-- Cuts connections in their next message, or after `patience` seconds without one. Returns how many.
function Proxy:cut(pick, with_reset, after, patience)
  local connections = chosen(self, pick)
  for _, connection in ipairs(connections) do
    connection.cut = { pick = pick * 7 % 1, with_reset = with_reset }
  end
  after(patience, function()
    for _, connection in ipairs(connections) do
      drop(self, connection, with_reset)
    end
  end)
  return #connections
end

-- For this many seconds all messages are dropped, in both directions, and neither side notices the other's end; then
-- the connections are reset, as by a router that has forgotten them. Returns how many.
function Proxy:stall(pick, seconds, after, done)
  local connections = chosen(self, pick)
  if #connections == 0 then
    return 0
  end
  for _, connection in ipairs(connections) do
    connection.stalled = true
  end
  after(seconds, function()
    for _, connection in ipairs(connections) do
      drop(self, connection, true)
    end
    done()
  end)
  return #connections
end

-- For this many seconds nothing is delivered; then everything is. Returns the number of connections.
function Proxy:delay(pick, seconds, after, done)
  local connections = chosen(self, pick)
  if #connections == 0 then
    return 0
  end
  for _, connection in ipairs(connections) do
    connection.client:read_stop()
    connection.server:read_stop()
  end
  after(seconds, function()
    for _, connection in ipairs(connections) do
      if self.connections[connection] then
        start(self, connection)
      end
    end
    done()
  end)
  return #connections
end

function Proxy:close()
  close(self._listener)
  for connection in pairs(self.connections) do
    drop(self, connection, true)
  end
end

-- How many handles of all proxies are not closed yet; the loop has to turn until there are none.
function Proxy.closing()
  local count = 0
  for _ in pairs(closing) do
    count = count + 1
  end
  return count
end

return Proxy

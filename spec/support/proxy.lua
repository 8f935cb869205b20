-- A TCP proxy on loopback in the specs' own loop, for faults of the network. The loop runs while a spec waits with
-- wait.till or reads from a process. spec/chaos/proxy.lua has faults at random; these are exact.

local uv = require "luv"
local loop = require "spec.support.loop"

local Proxy = {}
Proxy.__index = Proxy

local function close_pair(proxy, pair)
  proxy.pairs[pair] = nil
  loop.close(pair.client)
  loop.close(pair.server)
end

local function pump(proxy, pair, from, to, filter)
  from:read_start(function(_, chunk)
    if pair.frozen then
      return
    elseif not chunk then
      close_pair(proxy, pair)
    elseif filter and filter(chunk, pair) == "cut" then
      close_pair(proxy, pair)
    elseif not to:is_closing() then
      to:write(chunk)
    end
  end)
end

local function accept(proxy)
  local pair = { client = uv.new_tcp(), server = uv.new_tcp() }
  proxy._listener:accept(pair.client)
  if proxy.refuses then
    loop.close(pair.client)
    loop.close(pair.server)
    return
  end
  proxy.pairs[pair] = true
  proxy.accepted = proxy.accepted + 1
  pair.client:nodelay(true)
  pair.server:nodelay(true)
  if proxy.silent then -- accepts, and never answers
    return
  end
  pair.server:connect("127.0.0.1", proxy._port, function(problem)
    if problem or pair.client:is_closing() then
      close_pair(proxy, pair)
      return
    end
    pump(proxy, pair, pair.client, pair.server, proxy.from_client)
    pump(proxy, pair, pair.server, pair.client, proxy.from_server)
  end)
end

-- Proxy.listen(port): a proxy with a port of its own (field `port`) to that port of 127.0.0.1. Fields that a spec may
-- set: from_client(chunk, pair) and from_server(chunk, pair) see what is sent, and may return "cut", which closes both
-- ends before the chunk is passed on; `pair` is a table of the connection's own. `refuses`: new connections are closed;
-- `silent`: they are accepted, and nothing ever comes. `accepted` counts connections.
function Proxy.listen(port)
  local proxy = setmetatable({ pairs = {}, accepted = 0, _port = port, _listener = uv.new_tcp() }, Proxy)
  assert(proxy._listener:bind("127.0.0.1", 0))
  proxy.port = proxy._listener:getsockname().port
  assert(proxy._listener:listen(128, function() accept(proxy) end))
  return proxy
end

-- The connection string of a server, through the proxy.
function Proxy:conninfo(pg)
  return (pg.tcp_conninfo:gsub("port=%d+", "port=" .. self.port))
end

-- Resets the clients' ends of all connections (or of those for which which(pair) is true). The server does not hear of
-- it: its ends stay open, silent, until the proxy is closed. Returns how many.
function Proxy:half_open(which)
  local count = 0
  for pair in pairs(self.pairs) do
    if not pair.frozen and (not which or which(pair)) then
      pair.frozen = true
      pair.client:read_stop()
      pair.client:close_reset()
      count = count + 1
    end
  end
  return count
end

-- Nothing passes any more, in either direction, and nobody hears of it.
function Proxy:freeze()
  for pair in pairs(self.pairs) do
    pair.frozen = true
  end
end

function Proxy:close()
  loop.close(self._listener)
  for pair in pairs(self.pairs) do
    close_pair(self, pair)
  end
  loop.settle()
end

return Proxy

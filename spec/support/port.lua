-- A TCP port for a server that specs start.

local uv = require "luv"
local loop = require "spec.support.loop"

local port = {}

-- port.free(): returns a port of 127.0.0.1 that no process listens on. The port is below 32768: the kernel gives ports
-- above that to clients, so a client could take such a port before the server does, or while the server is down.
function port.free()
  for _ = 1, 100 do
    local high, low = uv.random(2):byte(1, 2)
    local number = 10240 + (high * 256 + low) % 22000
    local socket = uv.new_tcp()
    local free = socket:bind("127.0.0.1", number) and socket:listen(1, function() end)
    loop.close(socket)
    loop.settle()
    if free then
      return number
    end
  end
  error "no port is free"
end

return port

-- Random numbers that are the same for the same seed on every machine: xorshift, 32 bits.

local bit = require "bit"

-- random(seed): a function that returns numbers in [0, 1).
return function(seed)
  local x = bit.bxor(seed, 0x5bd1e995)
  if x == 0 then
    x = 1
  end
  local function next_number()
    x = bit.bxor(x, bit.lshift(x, 13))
    x = bit.bxor(x, bit.rshift(x, 17))
    x = bit.bxor(x, bit.lshift(x, 5))
    return x % 4294967296 / 4294967296
  end
  for _ = 1, 20 do -- neighbouring seeds begin alike
    next_number()
  end
  return next_number
end

--- Python's random numbers: the Mersenne Twister (Matsumoto and Nishimura 1998) and what `random.Random` makes of it.
-- @module cft.eval.ifeval.mersenne

local bit = require "bit"

local M = {}
local Random = {}
Random.__index = Random

local N, SHIFT = 624, 397
local band, bor, bxor, rshift, lshift = bit.band, bit.bor, bit.bxor, bit.rshift, bit.lshift

local function unsigned(x) return x % 2 ^ 32 end

-- a * b of 32 bits: no product here is above 2^53.
local function product(a, b)
  local high = math.floor(a / 65536)
  return (a % 65536 * b + high * b % 65536 * 65536) % 2 ^ 32
end

local function mixed(x) return unsigned(bxor(x, rshift(x, 30))) end

--- A stream, as `random.seed(seed)` begins one. @int seed 0 to 2^32 - 1
function M.new(seed)
  local s = { [0] = 19650218 }
  for i = 1, N - 1 do s[i] = (product(mixed(s[i - 1]), 1812433253) + i) % 2 ^ 32 end
  local i = 1
  local function next_index()
    i = i + 1
    if i == N then s[0], i = s[N - 1], 1 end
  end
  for _ = 1, N do
    s[i] = (unsigned(bxor(s[i], product(mixed(s[i - 1]), 1664525))) + seed) % 2 ^ 32
    next_index()
  end
  for _ = 1, N - 1 do
    s[i] = (unsigned(bxor(s[i], product(mixed(s[i - 1]), 1566083941))) - i) % 2 ^ 32
    next_index()
  end
  s[0] = 2 ^ 31
  return setmetatable({ s = s, at = N }, Random)
end

local function twist(s)
  for i = 0, N - 1 do
    local y = bor(band(s[i], 0x80000000), band(s[(i + 1) % N], 0x7fffffff))
    s[i] = unsigned(bxor(s[(i + SHIFT) % N], rshift(y, 1), y % 2 == 1 and 0x9908b0df or 0))
  end
end

-- 32 bits.
local function word(self)
  if self.at == N then
    twist(self.s)
    self.at = 0
  end
  local y = self.s[self.at]
  self.at = self.at + 1
  y = bxor(y, rshift(y, 11))
  y = bxor(y, band(lshift(y, 7), 0x9d2c5680))
  y = bxor(y, band(lshift(y, 15), 0xefc60000))
  return unsigned(bxor(y, rshift(y, 18)))
end

--- `random()`: 0 to 1, 1 left out, of 53 bits.
function Random:uniform()
  local a, b = rshift(word(self), 5), rshift(word(self), 6)
  return (a * 67108864 + b) / 9007199254740992
end

--- `gauss(0, 1)`: two of each pair of uniform ones.
function Random:gauss()
  local z = self.other
  self.other = nil
  if z then return z end
  local angle = self:uniform() * 2 * math.pi
  local radius = math.sqrt(-2 * math.log(1 - self:uniform()))
  self.other = math.sin(angle) * radius
  return math.cos(angle) * radius
end

--- `randrange(n)`. @int n 1 to 2^32 - 1
function Random:below(n)
  local bits = select(2, math.frexp(n))
  while true do
    local r = math.floor(word(self) / 2 ^ (32 - bits))
    if r < n then return r end
  end
end

return M

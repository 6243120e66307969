--- Event files for TensorBoard: a run's scalars, written by hand.
--
-- A file is a row of records: the number of bytes (u64), its checksum, the bytes, their checksum; all little-endian, the
-- checksums CRC-32C (RFC 3720, appendix B.4), rotated and offset as TensorFlow's tensorflow/core/lib/hash/crc32c.h does. A
-- record is an Event of tensorflow/core/util/event.proto, of which a scalar takes five fields.
-- @module cft.report.tfevents

local bit = require "bit"
local runs = require "cft.report.run"

local M = {}

-- ---- checksums ---------------------------------------------------------------------------------

local CASTAGNOLI = 0x82f63b78  -- the polynomial, its bits turned round

local crc_of = {}
for n = 0, 255 do
  local c = n
  for _ = 1, 8 do c = bit.band(c, 1) == 1 and bit.bxor(bit.rshift(c, 1), CASTAGNOLI) or bit.rshift(c, 1) end
  crc_of[n] = c
end

--- CRC-32C of a text, 0 to 2^32 - 1.
function M.crc32c(text)
  local c = bit.bnot(0)
  for i = 1, #text do c = bit.bxor(crc_of[bit.band(bit.bxor(c, text:byte(i)), 255)], bit.rshift(c, 8)) end
  return bit.bnot(c) % 2 ^ 32
end

-- ---- numbers -----------------------------------------------------------------------------------

-- `count` bytes of a whole number, the lowest first.
local function bytes(v, count)
  local list = {}
  for i = 1, count do
    list[i] = string.char(v % 256)
    v = math.floor(v / 256)
  end
  return table.concat(list)
end

-- Round half to even.
local function rounded(v)
  local low = math.floor(v)
  if v - low > 0.5 or v - low == 0.5 and low % 2 == 1 then return low + 1 end
  return low
end

-- A finite number of IEEE 754: the sign, an exponent of `exponent_bits`, a mantissa of `mantissa_bits`, as two halves.
local function ieee(v, exponent_bits, mantissa_bits)
  local bias = 2 ^ (exponent_bits - 1) - 1
  local sign = (v < 0 or 1 / v < 0) and 1 or 0
  local m, e = math.frexp(math.abs(v))  -- 0.5 <= m < 1
  local exponent, mantissa = 0, 0
  if m > 0 then
    exponent = math.max(e - 1 + bias, 0)
    local shift = exponent > 0 and mantissa_bits + 1 or mantissa_bits + e - 1 + bias  -- below: no leading 1
    mantissa = rounded(math.ldexp(m, shift))
    if exponent > 0 then mantissa = mantissa - 2 ^ mantissa_bits end
    if mantissa >= 2 ^ mantissa_bits then exponent, mantissa = exponent + 1, 0 end
    if exponent >= 2 ^ exponent_bits - 1 then exponent, mantissa = 2 ^ exponent_bits - 1, 0 end
  end
  return sign * 2 ^ exponent_bits + exponent, mantissa
end

--- A number as four bytes, rounded to the nearest.
function M.f32(v)
  local head, mantissa = ieee(v, 8, 23)
  return bytes(head * 2 ^ 23 + mantissa, 4)
end

--- A number as eight bytes.
function M.f64(v)
  local head, mantissa = ieee(v, 11, 52)
  return bytes(mantissa % 2 ^ 32, 4) .. bytes(head * 2 ^ 20 + math.floor(mantissa / 2 ^ 32), 4)
end

-- A whole number from 0, seven bits a byte.
local function varint(v)
  local list = {}
  while v >= 128 do
    list[#list + 1] = string.char(128 + v % 128)
    v = math.floor(v / 128)
  end
  list[#list + 1] = string.char(v)
  return table.concat(list)
end

-- ---- records -----------------------------------------------------------------------------------

local function masked(text)
  local c = M.crc32c(text)
  return bytes((math.floor(c / 2 ^ 15) + c % 2 ^ 15 * 2 ^ 17 + 0xa282ead8) % 2 ^ 32, 4)
end

local function record(data)
  local length = bytes(#data, 8)
  return length .. masked(length) .. data .. masked(data)
end

local function text_field(tag, text) return string.char(tag) .. varint(#text) .. text end

-- Fields: 1 wall_time, a double; 2 step; 3 file_version; 5 summary. Of a summary 1 value; of a value 1 tag, 2 simple_value.
local function event(time, rest) return record("\9" .. M.f64(time) .. rest) end

local function scalars(time, step, values)
  local parts = {}
  for i, v in ipairs(values) do
    parts[i] = text_field(0x0a, text_field(0x0a, v[1]) .. "\21" .. M.f32(v[2]))
  end
  return event(time, "\16" .. varint(step) .. text_field(0x2a, table.concat(parts)))
end

-- ---- a run -------------------------------------------------------------------------------------

-- Names as TensorBoard groups them, by what stands in front of the slash.
local NAMES = { { "loss", "train/loss" }, { "lr", "train/lr" }, { "grad_norm", "train/grad_norm" }, { "tok_s", "train/tokens_per_s" },
                { "epoch", "train/epoch" }, { "tokens", "train/tokens" }, { "memory", "train/memory" },
                { "heldout_loss", "heldout/loss" } }

local function values_of(run, t)
  local list = {}
  local function add(name, v) if runs.number(v) then list[#list + 1] = { name, v } end end
  for _, pair in ipairs(NAMES) do add(pair[2], t[pair[1]]) end
  for _, pair in ipairs { { "ledger", "train_ledger/" }, { "heldout_ledger", "heldout_ledger/" } } do
    for _, name in ipairs(runs.entries { t[pair[1]] or {} }) do
      add(pair[2] .. name, runs.field(t[pair[1]], "number", name, "loss"))
    end
  end
  for _, name in ipairs(run.metrics) do add("own/" .. name, t[name]) end
  return list
end

--- The event file of a run.
-- @tab run of `cft.report.run`
-- @treturn string bytes @treturn string its name: the same for the same run
function M.of(run)
  local first = run.steps[1] and runs.number(run.steps[1].time) or 0
  local parts = { event(first, text_field(0x1a, "brain.Event:2")) }
  for _, t in ipairs(run.steps) do
    if t.step >= 0 and t.step % 1 == 0 and t.step < 2 ^ 53 then
      parts[#parts + 1] = scalars(runs.number(t.time) or first, t.step, values_of(run, t))
    end
  end
  return table.concat(parts), ("events.out.tfevents.%010d.cft"):format(math.max(0, math.floor(first)))
end

return M

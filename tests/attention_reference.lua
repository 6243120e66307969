--- Attention with its rotation in Lua doubles: who sees which keys is said row by row.

local rope = require "cft.nn.rope"

local M = {}

M.BASE = 100  -- of the rotation's frequencies: small, so that few positions turn far

local function matrix(list, width)
  local rows = {}
  for i = 0, #list / width - 1 do
    rows[i] = {}
    for j = 1, width do rows[i][j] = list[i * width + j] end
  end
  return rows
end

local function rotate(row, at, heads, d, offset)
  local f = rope.frequencies(d, M.BASE)
  for h = 0, heads - 1 do
    for j = 0, d / 2 - 1 do
      local p, q = offset + h * d + j + 1, offset + h * d + j + d / 2 + 1
      local c, s = math.cos(at * f[j]), math.sin(at * f[j])
      row[p], row[q] = row[p] * c - row[q] * s, row[q] * c + row[p] * s
    end
  end
end

--- The result as a flat list.
-- @tab flat one list of packed [q k v] rows; or two, of q rows and of [k v] rows
-- @tab case `heads`, `kv`, `D`
-- @tab key_at the position of every key row
-- @tab asks for every query row, `{ at =, sees = }`: its position, and the key rows it sees (from 0)
function M.attend(flat, case, key_at, asks)
  local H, K, D = case.heads, case.kv, case.D
  local q, keys, from
  if flat[2] then
    q, keys, from = matrix(flat[1], H * D), matrix(flat[2], 2 * K * D), 0
  else
    q, keys, from = matrix(flat[1], (H + 2 * K) * D), matrix(flat[1], (H + 2 * K) * D), H * D
  end
  for i, at in ipairs(key_at) do rotate(keys[i - 1], at, K, D, from) end
  local y = {}
  for i, ask in ipairs(asks) do
    local row = q[i - 1]
    rotate(row, ask.at, H, D, 0)
    for h = 0, H - 1 do
      local g, s, top, sum = math.floor(h / (H / K)), {}, -math.huge, 0
      for p, key in ipairs(ask.sees) do
        s[p] = 0
        for j = 1, D do s[p] = s[p] + row[h * D + j] * keys[key][from + g * D + j] end
        s[p] = s[p] / math.sqrt(D)
        top = math.max(top, s[p])
      end
      for p = 1, #s do
        s[p] = math.exp(s[p] - top)
        sum = sum + s[p]
      end
      for j = 1, D do
        local o = 0
        for p, key in ipairs(ask.sees) do o = o + s[p] / sum * keys[key][from + K * D + g * D + j] end
        y[#y + 1] = o
      end
    end
  end
  return y
end

return M

--- A model as text: a tree of its parts, with shapes, parameters and bytes.
-- @module cft.models.show

local format = require "cft.base.format"
local tensor = require "cft.engine.tensor"

local bytes_of = { f32 = 4, bf16 = 2, f64 = 8 }

local function count(dims)
  local n = 1
  for _, d in ipairs(dims) do n = n * d end
  return n
end

-- A group's entries as rows { name, shape, parameters }.
local function entries_of(group)
  local rows, total = {}, 0
  for _, e in ipairs(group.entries) do
    local n = count(e.dims)
    rows[#rows + 1], total = { e.key, "(" .. table.concat(e.dims, ", ") .. ")", n }, total + n
  end
  return rows, total
end

-- Groups in a row that have the same entries: { first, last, rows, total }.
local function alike(groups)
  local list = {}
  for _, group in ipairs(groups) do
    local rows, total = entries_of(group)
    local text = {}
    for i, row in ipairs(rows) do text[i] = row[1] .. row[2] end
    local key, last = table.concat(text, " "), list[#list]
    if last and last.key == key then
      last.last, last.n = group.name, last.n + 1
    else
      list[#list + 1] = { key = key, first = group.name, last = group.name, n = 1, rows = rows, total = total }
    end
  end
  return list
end

--- A model's tree.
-- @tparam Model m
-- @treturn string
return function(m)
  local each, all = bytes_of[m.dtype], m:count()
  local lines = { ("%s, %s parameters in %s on %s, %s; context %s"):format(m.config.arch, format.count(all), m.dtype,
    tensor.device_name(m.device), format.bytes(each * all), m.config.context and format.count(m.config.context) or "not known") }
  for _, g in ipairs(alike(m.groups)) do
    local name = g.n > 1 and ("%s to %s, each"):format(g.first, g.last) or g.first
    lines[#lines + 1] = ("  %-28s %24s  %s"):format(name, format.count(g.total), format.bytes(each * g.total))
    for _, row in ipairs(g.rows) do
      lines[#lines + 1] = ("    %-12s %-16s %21s"):format(row[1], row[2], format.count(row[3]))
    end
  end
  return table.concat(lines, "\n")
end

--- Sampled lists of records, for reports: how many there are, and the first of them.
--
-- An entry is a record's number, or `{ record =, reason = }`.
-- @module cft.data.util.sampled_list
-- @usage local sampled_list = require "cft.data.util.sampled_list"
-- local odd = sampled_list.new()
-- sampled_list.add(odd, 7)
-- print(odd.n, sampled_list.names(odd))   --> 1   7

local M = {}

local KEPT = 10000  -- entries of a list; the others are counted
local NAMED = 10    -- in a line

--- An empty list.
-- @treturn table `n`: how many were added; and the first 10,000 of them
function M.new() return { n = 0 } end

--- Put an entry at the end.
function M.add(list, entry)
  list.n = list.n + 1
  if #list < KEPT then list[#list + 1] = entry end
end

--- Put all of another list at the end.
function M.append(list, other)
  list.n = list.n + other.n
  for _, entry in ipairs(other) do
    if #list == KEPT then break end
    list[#list + 1] = entry
  end
end

--- The numbers of the first few records.
-- @treturn string such as `3, 17, 20`
function M.names(list)
  local names = {}
  for k = 1, math.min(#list, NAMED) do
    local entry = list[k]
    names[k] = tostring(type(entry) == "table" and entry.record or entry)
  end
  return table.concat(names, ", ") .. (list.n > NAMED and ", ..." or "")
end

return M

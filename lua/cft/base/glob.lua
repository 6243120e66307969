--- File name patterns (`*`, `?`, `[a-z]`, `[!a]`, and `**` for any folders) as Lua patterns.
-- @module cft.base.glob
-- @usage print(("data/train-0.parquet"):find(cft.glob.pattern "data/train-*"))   --> 1   20

local M = {}

--- A Lua pattern that fits whole paths. A bracket that nothing closes is one.
-- @string glob
-- @bool[opt] slashes `*` and `?` stand for slashes too, as in patterns of the Hub
-- @treturn string
function M.pattern(glob, slashes)
  local one = slashes and "." or "[^/]"
  local out, i = {}, 1
  while i <= #glob do
    local negated, members, after = glob:match("^%[(!?)(%]?[^%]]*)%]()", i)
    if after and members ~= "" then
      out[#out + 1] = ("[%s%s]"):format(negated == "!" and "^" or "", (members:gsub("[%%%]%^]", "%%%0")))
    else
      local c = glob:sub(i, i)
      local slash, folders = glob:match("^%*%*(/?)()", i)
      local any = slash == "/" and not slashes and ".*%f[^/%z]" or ".*"  -- what follows begins a name
      out[#out + 1] = folders and any or c == "*" and one .. "*" or c == "?" and one or c:gsub("%p", "%%%0")
      after = folders or i + 1
    end
    i = after
  end
  return "^" .. table.concat(out) .. "$"
end

--- Does a path have signs of a pattern?
-- @usage cft.glob.is "data/*.jsonl", cft.glob.is "data/a.jsonl"   --> true false
function M.is(path) return path:find "[%*%?%[]" ~= nil end

return M

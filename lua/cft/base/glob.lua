--- File name patterns (`*`, `?`, `[a-z]`, `[!a]`, and `**` for any folders) as Lua patterns.
-- @module cft.base.glob
-- @usage print(("data/train-0.parquet"):find(cft.glob.pattern "data/train-*"))   --> 1   20

local M = {}

--- @string glob @treturn string a Lua pattern that fits whole paths
function M.pattern(glob)
  local out = glob:gsub("[%^%$%(%)%%%.%+%-]", "%%%0"):gsub("%[(.-)%]", function(set)
    return "[" .. set:gsub("^!", "^"):gsub("%%%-", "-") .. "]"
  end):gsub("%*%*/?", "\0"):gsub("%*", "[^/]*"):gsub("%?", "[^/]"):gsub("%z", ".*")
  return "^" .. out .. "$"
end

--- Does a path have signs of a pattern?
function M.is(path) return path:find "[%*%?%[]" ~= nil end

return M

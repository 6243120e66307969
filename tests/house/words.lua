-- Words of the field: phrases that stood here for a term that everybody knows do not come back.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

-- What is found, and the term that is meant.
local phrases = {
  { "rounded by chance", "stochastic rounding" }, { "[Rr]ounding by chance", "stochastic rounding" },
  { "by_chance", "stochastic rounding" }, { "computed again", "recomputed" }, { "two means", "moments" },
  { "[^%w]whence[^%w]", "where ... from, origin" },
}

local function found()
  local list = {}
  local pipe = assert(io.popen "find lua runtime kernels docs recipes README.md CHANGES.md -type f")
  for path in pipe:lines() do
    if not path:find "%.inc$" and not path:find "%.jsonl$" then
      local number = 0
      for line in (read(path) .. "\n"):gmatch "(.-)\n" do
        number = number + 1
        for _, p in ipairs(phrases) do
          if line:find(p[1]) then list[#list + 1] = ("%s:%d: say %s: %s"):format(path, number, p[2], line) end
        end
      end
    end
  end
  pipe:close()
  return list
end

return {
  { "terms of the field stand where phrases of our own stood", function()
    local list = found()
    if #list > 0 then error(table.concat(list, "\n"), 0) end
  end },
}

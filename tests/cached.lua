--- Files that tests fetch into a cache outside of the repository.

local M = {}

--- The path of what `tests/fetch_models.sh NAME` brings; the test is skipped where it cannot.
-- @string name "smollm2" or "deepseek"
function M.path(name)
  local pipe = assert(io.popen("bash tests/fetch_models.sh " .. name .. " 2>&1"))
  local last
  for line in pipe:lines() do last = line end
  pipe:close()
  if not last or not last:match "^/" then skip(last or "tests/fetch_models.sh said nothing") end
  return last
end

return M

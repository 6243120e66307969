--- Call `fn(...)`, and `after()` whatever came of it: results are returned, an error goes on up.
-- @func after takes nothing
-- @func fn
-- @return what fn returns
return function(after, fn, ...)
  local results = { pcall(fn, ...) }
  after()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

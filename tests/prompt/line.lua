-- What is typed at the prompt and no Lua, made Lua.
local expect = require "tests.expect"
local line = require "cft.prompt.line"

-- { typed, run }
local cases = {
  { "#x", "__length(x)" },
  { "#x.y[1]:z(2) + #t", "__length(x.y[1]:z(2)) + __length(t)" },
  { "for i = 1, #x do print(#x[i]) end", "for i = 1, __length(x) do print(__length(x[i])) end" },
  { "#{1, 2}", "__length({1, 2})" }, { "#(a .. b)^2", "__length((a .. b))^2" }, { "-#x", "-__length(x)" },
  { "#f{1}'s'.k", "__length(f{1}'s'.k)" }, { "#x..'a'", "__length(x)..'a'" }, { "#f[[s]]", "__length(f)[[s]]" },
  { "#'a#b'", "__length('a#b')" }, { "#x[#x]", "__length(x[__length(x)])" },
  -- not an operator
  { "'#x'", "'#x'" }, { "[[#x]]", "[[#x]]" }, { "-- #x", "-- #x" }, { "[==[ ]] #x ]==]", "[==[ ]] #x ]==]" },
  { "'a\\'#x'", "'a\\'#x'" }, { "--[[ #x ]] 1", "--[[ #x ]] 1" },
  -- not finished, or not Lua: as it is, for Lua to say so
  { "#", "#" }, { "#x[", "__length(x)[" }, { "1 # 2", "1 # 2" }, { "x = 1", "x = 1" },
  -- what the next line wants
  { "local x = 1", "x = 1" }, { "local a, b = f()", "a, b = f()" }, { "local function f() end", "function f() end" },
  { "  local t = {\n1", "t = {\n1" }, { "local x", "local x" }, { "do local x = 1 end", "do local x = 1 end" },
  { "local x = #y", "x = __length(y)" }, { "localx = 1", "localx = 1" }, { "local functions = 1", "functions = 1" },
  -- commands
  { "? data", 'help("data")' }, { "?", "help()" }, { "  ?  x:sum ", 'help("x:sum")' },
  { "!ls -l", '__shell("ls -l")' },
  { "%time f()", "return __timed(function() return f()\nend)" },
  { "%time x = 1", "return __timed(function() x = 1\nend)" },
  { "%time #x", "return __timed(function() return __length(x)\nend)" },
}

local tests = {}
for i, case in ipairs(cases) do
  tests[i] = { case[1], function() expect.same(line.rewrite(case[1]), case[2]) end }
end

tests[#tests + 1] = { "an unknown command is named", function()
  local ok, message = pcall(loadstring(line.rewrite "%timeit f()"))
  expect.same({ ok, message }, { false, "%timeit is no command of the prompt; there are %time, ? and !" })
end }

tests[#tests + 1] = { "a length is __len's, or Lua's", function()
  local thing = setmetatable({}, { __len = function() return 7 end })
  expect.same({ line.length(thing), line.length { 1, 2 }, line.length "abc" }, { 7, 2, 3 })
  expect.truthy(not pcall(line.length, nil))
end }

return tests

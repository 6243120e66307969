-- File name patterns.
local expect = require "tests.expect"
local glob = require "cft.base.glob"

local function fits(pattern, path, slashes) return path:find(glob.pattern(pattern, slashes)) ~= nil end

local cases = {  -- pattern, fits, fits not
  { "a*.json", { "a.json", "a-1.json" }, { "b.json", "a.jsonl", "a/b.json" } },
  { "a?c", { "abc", "a.c" }, { "ac", "a/c" } },
  { "[a-c]1", { "a1", "c1" }, { "d1", "-1" } },
  { "[!a-c]1", { "d1" }, { "a1" } },
  { "[]^%]", { "]", "^", "%" }, { "a", "[" } },
  { "**/x", { "a/b/x", "x" }, { "y", "ax", "a/bx" } },
  { "a/**", { "a/b/c" }, { "b/c" } },
  { "a[b", { "a[b" }, { "ab", "a" } },
  { "a[]", { "a[]" }, { "a" } },
  { "1.5-%d+(x)$^", { "1.5-%d+(x)$^" }, { "1x5-%d+(x)$^" } },
}

local tests = {
  { "with slashes, * and ? stand for them too", function()
    expect.same({ fits("a*c", "a/b/c", true), fits("a?c", "a/c", true), fits("a*c", "a/b", true) }, { true, true, false })
  end },
  { "a path or a pattern", function()
    expect.same({ glob.is "a/b.c", glob.is "a*", glob.is "a?", glob.is "a[1]" }, { false, true, true, true })
  end },
}
for _, case in ipairs(cases) do
  tests[#tests + 1] = { case[1], function()
    for _, path in ipairs(case[2]) do expect.truthy(fits(case[1], path), path .. " fits") end
    for _, path in ipairs(case[3]) do expect.truthy(not fits(case[1], path), path .. " does not fit") end
  end }
end
return tests

-- The runner itself: what it counts, what it refuses to accept.
local expect = require "tests.expect"
local process = require "tests.process"

local kept = [[
local held = {}
return {
  { "passes", function() end },
  { "fails", function() error "this is why" end },
  { "leaks", function() held[1] = require("cft.engine.tensor").zeros { 3 } end },
  { "leaks no more", function() held[1] = nil end },
  { "lets the collector have it", function() require("cft.engine.tensor").zeros { 3 } end },
  { "lacks a file", function() skip "no shared data" end },
  { "lacks a device", function() skip "no GPU here" end },
}
]]

local function run(text, env, ...)
  local path = process.write(process.folder() .. "/suite.lua", text)
  return process.cftrun { "tests/run.lua", path, env = env or { CI = false }, ... }, path
end

local function last_line(r) return r.out:match "([^\n]*)\n$" end

return {
  { "counts, names and explains", function()
    local r, path = run(kept)
    expect.same({ r.code, r.err, last_line(r) }, { 1, "", "3 passed, 2 failed, 2 skipped" })
    path = path:gsub("%p", "%%%0")
    expect.match(r.out, "failed " .. path .. ": fails\n  [^\n]*:4: this is why\n")
    expect.match(r.out, "failed " .. path .. ": leaks\n  tensors still alive: 1\n")
    expect.match(r.out, "skipped " .. path .. ": lacks a file\n  no shared data\n")
    expect.match(r.out, path .. " +%d+%.%d%d s  3 passed, 2 failed, 2 skipped\n")
  end },
  { "under CI only a GPU may be missing", function()
    local r = run(kept, { CI = "true" })
    expect.same(last_line(r), "3 passed, 3 failed, 1 skipped")
    expect.match(r.out, "lacks a file\n  skipped under CI: no shared data\n")
  end },
  { "a filter picks cases", function()
    local r = process.cftrun { "tests/run.lua", "tests/base/check.lua: nil is", env = { CI = false } }
    expect.same({ r.code, last_line(r) }, { 0, "1 passed, 0 failed, 0 skipped" })
  end },
  { "a filter that fits nothing is a mistake", function()
    local r = process.cftrun { "tests/run.lua", "tests/base/nothing" }
    expect.same({ r.code, r.out, r.err }, { 2, "", "cftrun: no test fits tests/base/nothing\n" })
  end },
  { "a file that does not load is a failure", function()
    for text, message in pairs {
      ["return {"] = "unexpected symbol near '<eof>'",
      ["error 'broken'"] = "suite%.lua:1: broken",
      ["return 3"] = "suite%.lua returns no list of cases",
      ["undeclared = 1"] = "undeclared variable",
    } do
      local r = run(text)
      expect.same({ r.code, last_line(r) }, { 1, "0 passed, 1 failed, 0 skipped" })
      expect.match(r.out, message)
    end
  end },
  { "expectations show both values, at the test's line", function()
    local here = "^tests/house/runner%.lua:%d+: "
    expect.raises(here .. 'what: got +{ 1, %["a"%] = 2 }\n  expected { 1, %["a"%] = 3 }\n' ..
                  '  first differ at %["a"%]: 2, expected 3$',
                  function() expect.same({ 1, a = 2 }, { 1, a = 3 }, "what") end)
    expect.raises(here .. "got +1\n  expected nil$", function() expect.same(1, nil) end)
    expect.raises("first differ at %[2%]: nil, expected 2$", function() expect.same({ 1 }, { 1, 2 }) end)
    expect.raises("first differ at %[2%]: 2, expected nil$", function() expect.same({ 1, 2 }, { 1 }) end)
    expect.raises(here .. "got 1.1%d*, expected 1 to 0.01$", function() expect.close(1.1, 1, 0.01) end)
    expect.raises("got %-?nan, expected 1 to", function() expect.close(0 / 0, 1, 0.01) end)
    expect.raises("at 2 of 3 got 9, expected 2 to 0.1 %(off by 3.5%)",
                  function() expect.close({ 1, 9, 4 }, { 1, 2, 3 }, 0.1) end)
    expect.raises("got 1 numbers, expected 2", function() expect.close({ 1 }, { 1, 2 }, 0.1) end)
    expect.raises(here .. 'nothing was raised, expected an error like "x"', function() expect.raises("x", function() end) end)
    expect.raises('raised   "y"\n  expected "x"', function() expect.raises("x", error, "y", 0) end)
    expect.raises("got 3, expected nil and a message", function() expect.fails("x", 3) end)
    expect.raises('the message is "y", expected "x"', function() expect.fails("x", nil, "y") end)
    expect.close({ 1, 1 / 0 }, { 1.0001, 1 / 0 }, 1e-3)
    expect.same({ 0 / 0, { {} } }, { 0 / 0, { {} } })
  end },
}

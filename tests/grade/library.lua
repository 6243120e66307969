-- Without ball arithmetic: what exact fractions do not decide is unknown, the rest is as ever.
local expect = require "tests.expect"
local process = require "tests.process"

local code = [[
local grade = require("cft").grade
local there, why = grade.has_balls()
print(there, why)
for _, mode in ipairs { "symbolic", "strict" } do
  local g = grade.new { mode = mode }
  for _, pair in ipairs { { "\\frac{3}{6}", "0.5" }, { "2", "3" }, { "\\sqrt{4}", "2" }, { "\\sqrt{12}", "2\\sqrt{3}" }, { "x+1", "1+x" } } do
    local v = g:answer(pair[1], pair[2])
    print(v.verdict, v.reason)
  end
end
]]

return {
  { "a library that cannot be opened", function()
    local folder = process.folder()
    process.write(folder .. "/libflint-arb.so.2", "no library")
    local got = process.cftrun { "-e", code, env = { LD_LIBRARY_PATH = folder } }
    expect.same(got.code, 0)
    expect.match(got.out, "^false\tno ball arithmetic: .*libflint%-arb%.so%.2")
    local verdicts = {}
    for verdict, reason in got.out:gmatch "\n(%a+)\t([^\n]*)" do
      verdicts[#verdicts + 1] = verdict
      if verdict == "unknown" then expect.match(reason, "^no ball arithmetic") end
    end
    expect.same(verdicts, { "right", "wrong", "right", "unknown", "unknown", "right", "wrong", "right", "unknown", "unknown" })
  end },
}

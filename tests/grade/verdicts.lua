-- Answers against references: `symbolic` and `strict`. A row: answer, reference, verdict in symbolic, verdict in strict.
local expect = require "tests.expect"
local grade = require "cft.grade"

local R, W, U = "right", "wrong", "unknown"

-- What exact fractions and texts decide: no library is needed.
local exact = {
  { "5", "5", R, R }, { "5", "6", W, W }, { "05", "5", R, R }, { "5.0", "5", R, R }, { "-5", "5", W, W },
  { "1,234", "1234", R, R }, { "1,234,567", "1234567", R, R }, { "10,\\!080", "10080", R, R }, { "1{,}000", "1000", R, R },
  { "1 000 000", "1000000", R, R }, { "12,34", "1234", W, W }, { "\\frac{3}{6}", "\\frac12", R, R },
  { "0.5", "\\dfrac{1}{2}", R, R }, { "1/3", "\\frac{1}{3}", R, R }, { ".5", "0.50", R, R },
  { "1\\frac{4}{5}", "\\frac95", R, R }, { "1 4/5", "1.8", R, R }, { "1.5 \\times 10^{3}", "1500", R, R },
  { "1.5e3", "1500", R, R }, { "1.5e-3", "0.0015", R, R }, { "6.72 \\times 10^{-5}", ".0000672", R, R },
  { "50\\%", "0.5", R, R }, { "50%", "50", R, W }, { "50", "50\\%", R, W }, { "0.5", "50", W, W },
  { "25\\%", "25^\\circ", W, W }, { "25 cm", "25\\%", W, W }, { "28 pct", "28\\%", R, R }, { "5 million dollars", "5000000", R, W },
  { "5 million", "5", W, W }, { "1:2", "0.5", R, R }, { "0", "x+y=0", W, W }, { "5", "A:B=5", R, W }, { "x = 1/3 \\approx 0.33", "1/3", R, W },
  { "-x > -1", "x < 1", R, R }, { "0.0011_2", "0.0011_{2}", R, R }, { "41121_3", "1112112_3", W, W }, { "\\\\frac{1}{2}", "0.5", R, R },
  { "a_1 = -1, a_2 = 1", "(-1, 1)", R, W }, { "It is not 5, I fear", "5", U, U },
  { "90^\\circ", "90", R, W }, { "90°", "90^{\\circ}", R, R }, { "90 degrees", "90^\\circ", R, R },
  { "\\$18.90", "18.9", R, W }, { "$18.90", "\\$18.90", R, R }, { "18.90 dollars", "\\$18.90", R, R },
  { "15\\mbox{ cm}^2", "15 \\text{ cm}^2", R, R }, { "15 cm", "15", R, W }, { "15 cm", "0.15 \\text{ m}", R, R },
  { "15 cm", "15 meters", W, W }, { "15 cm", "15 cm^2", W, W }, { "5 apples", "5", R, W },
  { "x = 5", "5", R, W }, { "5", "x=5", R, W }, { "a = 2 + 3 = 5", "5", R, W }, { "y = 5", "x = 5", W, W },
  { "52_8", "52_{8}", R, R }, { "52", "52_8", R, W }, { "42", "52_8", W, R }, { "53_8", "52_8", W, W },
  { "1,-2", "-2, 1", R, W }, { "1, 2", "1, 2, 3", W, W }, { "1 and 2", "1, 2", R, R }, { "\\{1, 2\\}", "\\{2,1\\}", R, R },
  { "{1,2}", "\\{2, 1\\}", R, R }, { "1,2", "\\{2,1\\}", R, W }, { "\\{1,2\\}", "(1,2)", W, W },
  { "(1,2)", "(2,1)", W, W }, { "(1,2)", "(1, 4/2)", R, R }, { "(1,2)", "[1,2]", W, W }, { "(1,2]", "(1,2)", W, W },
  { "1, 2", "(1,2)", R, W }, { "(0,9) \\cup (9,36)", "(9,36)\\cup(0,9)", R, R }, { "(0,9)", "(0,9) \\cup (9,36)", W, W },
  { "(-\\infty, 0]", "x \\le 0", R, W }, { "x \\in [-2,7]", "[-2,7]", R, W }, { "-2 \\le x \\le 7", "[-2,7]", R, W },
  { "x > 3", "x \\ge 3", W, W }, { "3 < x", "x > 3", R, R }, { "(-\\infty,\\infty)", "\\mathbb{R}", R, R },
  { "\\emptyset", "\\{\\}", R, R }, { "\\infty", "-\\infty", W, W },
  { "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}", R, R },
  { "\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", R, W },
  { "(1,2)", "\\begin{pmatrix}1\\\\2\\end{pmatrix}", R, W },
  { "\\begin{pmatrix} 1/5 \\\\ -18/5 \\end{pmatrix}", "\\begin{pmatrix} 0.2 \\\\ -3.6 \\end{pmatrix}", R, R },
  { "C", "C", R, R }, { "(C)", "C", R, R }, { "\\text{(C)}", "C", R, R }, { "c", "C", R, R }, { "C. 5 meters", "C", R, R },
  { "D", "C", W, W }, { "A and C", "C", W, W }, { "A, C", "C", W, W }, { "Choice C", "C", R, R }, { "Cat", "C", W, W },
  { "\\text{Evelyn}", "Evelyn", R, R }, { "evelyn", "\\text{Evelyn}", R, R }, { "The ellipse.", "\\text{ellipse}", R, R },
  { "\\text{west}", "\\text{east}", W, W }, { "seat", "east", W, W }, { "5", "east", W, W },
  { "yes", "Yes", R, R }, { "no", "yes", W, W }, { "", "5", W, W }, { "5", "", U, U }, { "5", "  ", U, U },
  { "3.14159", "3.14", R, W }, { "3.1", "3.14", W, W }, { "3.141", "3.14", R, W }, { "3.149", "3.14", W, W },
  { "0.3333", "1/3", R, W }, { "0.33", "1/3", W, W }, { "2.0001", "2", W, W }, { "100!", "100!", R, R },
  { "123456789012345678901234567890123456789012", "123456789012345678901234567890123456789012.0", R, R },
  { "123456789012345678901234567890123456789012", "123456789012345678901234567890123456789013", W, W },
}

-- What needs ball arithmetic.
local balls = {
  { "\\sqrt{12}", "2\\sqrt{3}", R, R }, { "2\\sqrt3", "\\sqrt{12}", R, R }, { "\\sqrt{12}", "3.46", R, W },
  { "\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}", R, R }, { "(x+1)^2", "x^2+2x+1", R, R }, { "(x+1)^2", "x^2+2x+2", W, W },
  { "x^2+1", "1+x^2", R, R }, { "(a+5)(b+2)", "(b+2)(a+5)", R, R }, { "ab", "ba", R, R }, { "2k+2", "2(k+1)", R, R },
  { "6-5i", "-5i+6", R, R }, { "6-5i", "6+5i", W, W }, { "\\pi", "3.14159265", R, W }, { "3.1416", "\\pi", R, W },
  { "\\tan^2 y + 1", "\\sec^2(y)", R, R }, { "\\cot x", "\\frac{1}{\\tan x}", R, R }, { "\\ln 8", "3\\ln 2", R, R },
  { "\\log_2 8", "3", R, R }, { "\\sqrt[3]{-8}", "-2", R, R }, { "e^{i\\pi}", "-1", R, R }, { "\\binom{5}{2}", "10", R, R },
  { "\\lfloor \\frac{n}{2} \\rfloor", "\\lfloor 0.5n \\rfloor", R, R }, { "\\lfloor \\frac{n}{2} \\rfloor", "\\lfloor\\sqrt{n-1}\\rfloor", W, W },
  { "\\lfloor \\frac{n}{2} \\rfloor", "\\lfloor \\frac{2n-1}{5} \\rfloor", W, W }, { "\\lceil x \\rceil", "\\lfloor x \\rfloor + 1", R, R },
  { "y = 2x + 3", "2x - y + 3 = 0", R, R }, { "5x - 7y + 11z + 4 = 0", "-5x + 7y - 11z = 4", R, R },
  { "y = 2x + 3", "y = 2x + 4", W, W }, { "x^2 = 4", "y^2 = 4", W, W }, { "y=2x+1", "2x+1", R, W },
  { "1 \\pm \\sqrt{19}", "1+\\sqrt{19}, 1-\\sqrt{19}", R, R }, { "3 \\pm 2\\sqrt2", "3 \\pm \\sqrt{8}", R, R },
  { "\\{1\\pm\\sqrt{5},-2\\}", "-2, 1+\\sqrt5, 1-\\sqrt5", R, W }, { "(3, \\pi/2)", "\\left( 3, \\frac{\\pi}{2} \\right)", R, R },
  { "11\\sqrt2", "\\sqrt{242}", R, R }, { "30^\\circ", "\\pi/6", R, R }, { "|x-1|", "|1-x|", R, R },
  { "2^{100}", "1267650600228229401496703205376", R, R }, { "2^{1000}", "2^{1000}+1", W, W },
  { "\\sqrt{2}+\\sqrt{3}", "\\sqrt{5+2\\sqrt{6}}", R, R }, { "x", "y", W, W }, { "x_1+x_2", "x_2+x_1", R, R },
}

local function check(mode, column, rows)
  local grader, failed = grade.new { mode = mode }, {}
  for _, row in ipairs(rows) do
    local v = grader:answer(row[1], row[2])
    if v.verdict ~= row[column] then
      failed[#failed + 1] = ("%s against %s: %s, %s"):format(row[1], row[2], v.verdict, v.reason)
    end
    expect.truthy(#v.reason > 0, "a reason")
  end
  expect.same(failed, {})
end

local function need_balls()
  local there, why = grade.has_balls()
  if not there then skip(why) end
end

return {
  { "symbolic: what needs no library", function() check("symbolic", 3, exact) end },
  { "strict: what needs no library", function() check("strict", 4, exact) end },
  { "symbolic: expressions", function()
    need_balls()
    check("symbolic", 3, balls)
  end },
  { "strict: expressions", function()
    need_balls()
    check("strict", 4, balls)
  end },
  { "options are checked, and each is of its modes", function()
    expect.raises("must be one of", grade.new, { mode = "strikt" })
    expect.raises("unknown option 'modes'", grade.new, { modes = "strict" })
    expect.raises("are of the modes paper and qwen", grade.new, { mode = "strict", keep_units = true })
    expect.raises("are of the modes paper and qwen", grade.new, { reference_strips = 1 })
    expect.raises("must be from 0 to 3", grade.new, { mode = "paper", reference_strips = 4 })
    local grader = grade.new()
    expect.raises("a string is wanted", grader.answer, grader, 5, "5")
    expect.raises("the reference is a nil", grader.response, grader, "5")
  end },
}

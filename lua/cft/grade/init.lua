--- Is an answer right? A rule-based grader in C that says why, in bounded time; docs/grade.md has its rules.
--
-- Four modes: `symbolic`, as a careful person would; `strict`, mathematically equal as written; `paper`, the evaluation
-- of Critique Fine-Tuning, leniencies included; `qwen`, the evaluation of Qwen2.5-Math, from which that one came.
-- @module cft.grade
-- @usage local grader = cft.grade.new { mode = "symbolic" }
-- local v = grader:response("So it is \\boxed{\\frac{3}{6}}.", "0.5")
-- print(v.verdict, v.answer, v.reason)
-- --> right   \frac{3}{6}   the last box: the numbers are equal

local blame = require "cft.base.blame"
local check = require "cft.base.check"
local door = require "cft.engine.ffi"

local C, ffi = door.C, door.ffi

local M = {}

--- A grader of one mode, for one thread.
-- @type Grader
local Grader = {}
Grader.__index = Grader

local modes = { symbolic = C.CFT_GRADE_SYMBOLIC, strict = C.CFT_GRADE_STRICT, paper = C.CFT_GRADE_PAPER,
                qwen = C.CFT_GRADE_QWEN }
local verdicts = { [0] = "wrong", "right", "unknown" }

--- The names of the modes.
M.modes = { "symbolic", "strict", "paper", "qwen" }

--- A grader.
-- @tab[opt] opts
-- @string[opt="symbolic"] opts.mode `symbolic`, `strict`, `paper` or `qwen`
-- @bool[opt=false] opts.keep_units `paper` and `qwen`: no unit is taken off, as they treat Minerva-Math
-- @int[opt] opts.reference_strips `paper` and `qwen`: how often their clean-up goes over a reference before a response is
-- compared with it, 0 to 3; 2 if absent, as for GSM8K, OlympiadBench, AMC, AIME and TheoremQA (MATH 1, MATH-500 3)
-- @treturn Grader
function M.new(opts)
  local o = check.options("grade.new", opts, {
    mode = { "string", "symbolic", one_of = M.modes }, keep_units = { "boolean", false },
    reference_strips = { "integer", optional = true, min = 0, max = 3 },
  })
  local compatible = o.mode == "paper" or o.mode == "qwen"
  if not compatible and (o.keep_units or o.reference_strips) then
    blame("grade.new: keep_units and reference_strips are of the modes paper and qwen; the mode is %s", o.mode)
  end
  local out = ffi.new "cft_grader *[1]"
  local strips = compatible and (o.reference_strips or 2) or 0
  door.try(C.cft_grader_new, out, modes[o.mode], o.keep_units and C.CFT_GRADE_KEEP_UNITS or 0, strips)
  return setmetatable({ mode = o.mode, handle = ffi.gc(out[0], C.cft_grader_release), out = ffi.new "cft_grade" }, Grader)
end

local function text(what, value)
  if type(value) ~= "string" then blame("grade: %s is a %s, and a string is wanted", what, type(value)) end
  return value
end

local function graded(self, f, given, reference)
  text("what is graded", given)
  text("the reference", reference)
  local out = self.out
  door.check(f(self.handle, given, #given, reference, #reference, out))
  return { verdict = verdicts[out.verdict], reason = ffi.string(out.reason),
           answer = ffi.string(out.answer, out.answer_bytes) }
end

--- Take the answer out of a response and compare it with the reference.
-- @string response all that a model wrote
-- @string reference
-- @treturn table `verdict`: right, wrong or unknown; `reason`: the rule that decided; `answer`: what was compared
function Grader:response(response, reference) return graded(self, C.cft_grader_response, response, reference) end

--- The same of an answer that has been taken out already. In `paper` and `qwen` it is their comparison alone, of texts
-- that their clean-up has been over.
-- @string answer
-- @string reference
-- @treturn table
-- @usage cft.grade.new({ mode = "strict" }):answer("x(x+1)", "x^2+x")   --> { answer = "x(x+1)", reason = "the expressions agree at 4 points", verdict = "right" }
function Grader:answer(answer, reference) return graded(self, C.cft_grader_answer, answer, reference) end

--- Whether ball arithmetic is there (FLINT with Arb), without which `symbolic` and `strict` answer `unknown` where exact
-- fractions do not decide.
-- @treturn bool
-- @treturn ?string what is missing
-- @usage cft.grade.has_balls()
function M.has_balls()
  local why = ffi.new "const char *[1]"
  if C.cft_grade_has_balls(why) then return true end
  return false, ffi.string(why[0])
end

return M

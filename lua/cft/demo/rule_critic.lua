--- A critic by rule for worked solutions with calculator annotations, as GSM8K's: `<<48/2=24>>24`.
--
-- It computes each annotated step again. Where all are right and the final answer is not, it names the
-- first step whose result does not occur in the reference solution; where every result does, it can
-- only say that the final answer is another. It never says more than it knows.
-- @usage local critic = require "cft.demo.rule_critic"
-- local text, how = critic.critique("He has 2+2 = <<2+2=5>>5 pens\nA: 5", "2+2 = <<2+2=4>>4 pens\nA: 4", false)
-- print(how)   --> calculation

local M = {}

-- ---- arithmetic ------------------------------------------------------------------------------

local parse_sum

local function parse_atom(s)
  local rest = s.text:sub(s.at)
  local number = rest:match "^%d[%d,]*%.?%d*%%?" or rest:match "^%.%d+%%?"
  if number then
    s.at = s.at + #number
    local percent = number:sub(-1) == "%"
    local v = tonumber((number:gsub("[,%%]", "")))
    return v and (percent and v / 100 or v)
  end
  local c = rest:sub(1, 1)
  if c == "(" then
    s.at, s.depth = s.at + 1, s.depth + 1
    if s.depth > 50 then return nil end
    local v = parse_sum(s)
    if not v or s.text:sub(s.at, s.at) ~= ")" then return nil end
    s.at, s.depth = s.at + 1, s.depth - 1
    return v
  elseif c == "-" or c == "+" then
    s.at, s.depth = s.at + 1, s.depth + 1
    if s.depth > 50 then return nil end
    local v = parse_atom(s)
    s.depth = s.depth - 1
    return v and (c == "-" and -v or v)
  end
end

-- Operands with operators between them, from the left; `*` is also written x.
local function chain(operand, results)
  return function(s)
    local v = operand(s)
    while v do
      local result = results[s.text:sub(s.at, s.at)]
      if not result then return v end
      s.at = s.at + 1
      local w = operand(s)
      v = w and result(v, w)
    end
  end
end

local function times(v, w) return v * w end
local parse_product = chain(parse_atom, { ["*"] = times, x = times, ["/"] = function(v, w) return v / w end })
parse_sum = chain(parse_product, { ["+"] = function(v, w) return v + w end, ["-"] = function(v, w) return v - w end })

--- The value of `3*(2+4)/5`, with `%`, `$` and thousands' commas; nil for anything else.
-- @string text
-- @usage cft.critic.value "3*(2+4)/5", cft.critic.value "$1,200+50%"   --> 3.6 1200.5
function M.value(text)
  local s = { text = text:gsub("[%s%$]", ""):gsub("×", "*"):gsub("÷", "/"), at = 1, depth = 0 }
  local v = parse_sum(s)
  if not v or s.at ~= #s.text + 1 or v ~= v or v == math.huge or v == -math.huge then return nil end
  return v
end

-- A result may be rounded to the digits it is given with, or to a whole number.
local function agrees(exact, given, text)
  local decimals = #(text:match "%.(%d+)" or "")
  return math.abs(exact - given) <= 0.5 * 10 ^ -decimals + 1e-9 * math.abs(exact)
         or math.abs(exact - given) <= 1e-3 * math.abs(exact)
end

-- ---- solutions -------------------------------------------------------------------------------

--- The annotated steps of a solution: `{ left, right, value, given }`; value and given are nil where
-- they are no arithmetic.
-- @usage cft.critic.steps("2+2 = <<2+2=5>>5")[1]   --> { given = 5, left = "2+2", right = "5", value = 4 }
function M.steps(solution)
  local steps = {}
  for inside in solution:gmatch "<<(.-)>>" do
    local left, right = inside:match "^(.*)=(.-)$"
    if left then
      steps[#steps + 1] = { left = left, right = right, value = M.value(left), given = M.value(right) }
    end
  end
  return steps
end

--- A solution as a person would write it, without annotations.
-- @usage cft.critic.plain "2+2 = <<2+2=4>>4"   --> "2+2 = 4"
function M.plain(solution) return (solution:gsub("<<.->>", "")) end

local function numbers_of(text)
  local found = {}
  for number in M.plain(text):gmatch "%d[%d,]*%.?%d*" do
    local v = tonumber((number:gsub(",", ""):gsub("%.$", "")))
    if v then found[v] = true end
  end
  for _, s in ipairs(M.steps(text)) do
    if s.given then found[s.given] = true end
  end
  return found
end

local function final(solution) return solution:match "\nA: *([^\n]*)%s*$" or solution:match "^A: *([^\n]*)%s*$" end

-- %.10g, and never -0.
local function show(v) return ("%.10g"):format(v == 0 and 0 or v) end

--- A critique of a solution.
-- @string solution with annotations @string reference a right solution, with annotations
-- @bool right whether the solution's final answer is right
-- @treturn string the critique, which ends in the paper's conclusion
-- @treturn string how it was found: "right", "calculation", "step" or "answer"
function M.critique(solution, reference, right)
  local lines, how = {}, right and "right" or "answer"
  local known = numbers_of(reference)
  for i, s in ipairs(M.steps(solution)) do
    local line = ("Step %d: %s = %s"):format(i, s.left, s.right)
    if s.value and s.given and not agrees(s.value, s.given, s.right) then
      lines[#lines + 1] = ("%s is wrong: %s = %s."):format(line, s.left, show(s.value))
      if not right then how = "calculation" break end
    elseif not right and s.given and not known[s.given] then
      lines[#lines + 1] = line .. " is calculated right, but this is not what the problem asks for at this point."
      how = "step"
      break
    else
      lines[#lines + 1] = line .. " is right."
    end
  end
  local answer = final(solution)
  if right then
    lines[#lines + 1] = answer and ("The final answer %s is right."):format(answer) or "The final answer is right."
  elseif how == "answer" then
    lines[#lines + 1] = answer and ("The final answer %s is not right."):format(answer)
      or "There is no right final answer."
  end
  return ("Critique:\n%s\n\nConclusion: %s [END]"):format(table.concat(lines, "\n"), right and "right" or "wrong"), how
end

return M

-- A large set of critiques, for measuring what data beyond memory costs.
--
--   cftrun scripts/make_big_jsonl.lua FILE SIZE [SEED]      SIZE such as 5GB, 200MB, 4096
--
-- Records in the paper's first schema, about 2 KB each, the same bytes for the same seed wherever it
-- runs: sentences of made-up words (frequent ones are frequent), numbers and formulas; each record ends
-- in a verdict. The file ends with the record that reaches SIZE. The text means nothing; its lengths, its
-- mix of letters, digits and signs, and its JSON escapes are those of WebInstruct-CFT.

local path, size, seed = arg[1], arg[2], tonumber(arg[3] or "1")
local number, unit = (size or ""):match "^(%d+%.?%d*)([KMG]?)B?$"
if not path or not number or not seed then
  io.stderr:write "usage: cftrun scripts/make_big_jsonl.lua FILE SIZE [SEED]   (SIZE: 5GB, 200MB, 4096)\n"
  os.exit(2)
end
local bytes = tonumber(number) * ({ [""] = 1, K = 1e3, M = 1e6, G = 1e9 })[unit]

-- Numerical Recipes' generator in doubles: exact, and the same on every machine.
local state = seed % 2 ^ 31
local function roll(n)  -- 0 to n - 1
  state = (state * 1664525 + 1013904223) % 2 ^ 32
  return math.floor(state / 2 ^ 32 * n)
end

local onsets = { "b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "st", "pr", "tr", "ch", "th", "" }
local nuclei = { "a", "e", "i", "o", "u", "ea", "io", "ou" }
local codas = { "", "", "n", "r", "s", "t", "l", "nd", "ng", "ment", "tion", "ly" }
local words = { "the", "of", "is", "and", "to", "a", "we", "that", "in", "equation", "solution", "value", "therefore",
                "since", "function", "number", "step", "answer", "correct", "wrong" }
for i = #words + 1, 6000 do
  local parts = {}
  for k = 1, 1 + roll(3) do parts[k] = onsets[1 + roll(#onsets)] .. nuclei[1 + roll(#nuclei)] end
  words[i] = table.concat(parts) .. codas[1 + roll(#codas)]
end

-- A rank in proportion to one over it, roughly: text has few frequent words and many rare ones.
local function word()
  local x = roll(2 ^ 20) / 2 ^ 20
  return words[1 + math.floor(#words * x * x * x)]
end

local function formula()
  local kind = roll(4)
  if kind == 0 then return ("$x^{%d} + %dx = %d$"):format(2 + roll(5), 1 + roll(99), roll(1000)) end
  if kind == 1 then return ("\\\\frac{%d}{%d} = %.3f"):format(1 + roll(99), 1 + roll(99), roll(1e6) / 1e3) end
  if kind == 2 then return ("%d * %d = %d"):format(roll(1000), roll(1000), roll(1e6)) end
  return ("\\\\[ \\\\int_0^{%d} f(t)\\\\,dt \\\\approx %d.%02d \\\\]"):format(1 + roll(9), roll(100), roll(100))
end

local sentences = {}
for i = 1, 20000 do
  local parts = {}
  for k = 1, 6 + roll(14) do parts[k] = roll(9) == 0 and formula() or word() end
  parts[1] = parts[1]:gsub("^%l", string.upper)
  sentences[i] = table.concat(parts, " ") .. (roll(3) == 0 and ".\\n" or roll(9) == 0 and " \\u201cso\\u201d. " or ". ")
end

local function text(count, out)
  for _ = 1, count do out[#out + 1] = sentences[1 + roll(#sentences)] end
end

local file = assert(io.open(path, "wb"))
file:setvbuf("full", 2 ^ 20)
local written, record = 0, 0
while written < bytes do
  local out = { '{"instruction":"Please critique whether the following solution to the question is correct.",'
                .. '"input":"Question:\\n', ("Problem %d. "):format(record) }
  text(1 + roll(3), out)
  out[#out + 1] = "\\n\\nSolution:\\n"
  text(2 + roll(9), out)
  out[#out + 1] = '","output":"Critique:\\n'
  text(3 + roll(12), out)
  out[#out + 1] = roll(2) == 0 and '\\n\\nConclusion: right [END]"}\n' or '\\n\\nConclusion: wrong [END]"}\n'
  local line = table.concat(out)
  assert(file:write(line))
  written, record = written + #line, record + 1
end
assert(file:close())
print(("%s: %d records, %d bytes"):format(path, record, written))

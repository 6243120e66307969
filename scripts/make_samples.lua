-- The small samples of data beside the recipes, made by rule: word problems of the demo's world, worked solutions
-- that may be wrong, critiques. They are the project's own; nothing in them is taken from anybody else.
--
--   cftrun scripts/make_samples.lua FOLDER          such as recipes/data
--
-- problems.jsonl has all of a problem by name; the others have the shape of the files that a recipe wants:
-- webinstruct.jsonl, one_problem.jsonl and gsm8k.jsonl.
local cft = require "cft"

local folder = arg[1]
if not folder then
  io.stderr:write "usage: cftrun scripts/make_samples.lua FOLDER\n"
  os.exit(2)
end

-- A JSON text with the keys in this order, so that a line reads well.
local function object(pairs_of)
  local parts = {}
  for i = 1, #pairs_of, 2 do
    parts[#parts + 1] = ("%s: %s"):format(cft.json.encode(pairs_of[i]), type(pairs_of[i + 1]) == "table"
      and pairs_of[i + 1].json or cft.json.encode(pairs_of[i + 1]))
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function write(name, count, make)
  local lines = {}
  for i = 1, count do lines[i] = make(i - 1) end
  cft.files.write(("%s/%s"):format(folder, name), table.concat(lines, "\n") .. "\n")
end

local draw = cft.demo.training(7)

write("problems.jsonl", 160, function(i)
  local r = draw(i)
  return object { "question", r.question, "answer", r.reference, "solution", r.solution,
                  "critique", r.output:match "^Critique:\n(.*)\n\nConclusion", "right", r.right }
end)

write("webinstruct.jsonl", 40, function(i)
  local r = draw(i)
  return object { "instruction", r.instruction, "input", r.input, "output", r.output }
end)

-- One question, forty solutions: either step may be off by something.
write("one_problem.jsonl", 40, function(i)
  local off = { 0, 1, -1, 2, -2, 3, -3, 4 }
  local one = 17 + off[i % 5 + 1]
  local two = one - 3 + off[math.floor(i / 5) + 1]
  local critique = one ~= 17 and "Step 1: 12 + 5 = 17, wrong.\n\nConclusion: wrong [END]"
    or two ~= 14 and "Step 1: 12 + 5 = 17, right.\nStep 2: 17 - 3 = 14, wrong.\n\nConclusion: wrong [END]"
    or "Step 1: 12 + 5 = 17, right.\nStep 2: 17 - 3 = 14, right.\n\nConclusion: right [END]"
  local solution = ("Step 1: 12 + 5 = %d\nStep 2: %d - 3 = %d\nAnswer: %d"):format(one, one, two, two)
  local function message(role, content) return object { "role", role, "content", content } end
  return object { "messages", { json = ("[%s, %s]"):format(
    message("user", "Please critique whether the following solution to the question is correct.\n\nQuestion:\n"
      .. "Tom has 12 apples. Tom gets 5. Tom loses 3. How many?\n\nSolution:\n" .. solution),
    message("assistant", "Critique:\n" .. critique .. "\n\n")) } }
end)

-- With GSM8K's calculator annotations: "Step 1: 3 + 4 = 7" as "Step 1: 3 + 4 = <<3+4=7>>7".
local function annotated(solution)
  return (solution:gsub("(%d+) ([+-]) (%d+) = (%-?%d+)", "%1 %2 %3 = <<%1%2%3=%4>>%4"):gsub("\nAnswer:", "\nA:"))
end

-- Four solutions to a problem, of which some are wrong: its own, the right one, and two with another answer.
write("gsm8k.jsonl", 40, function(i)
  local r = draw(i)
  local reference = annotated(r.reference)
  local function solved(solution, is_correct)
    return { json = object { "is_correct", is_correct, "solution", solution } }
  end
  local off = reference:gsub("\nA: (%d+)", function(n) return "\nA: " .. n + 1 end)
  return object { "question", r.question, "ground_truth", reference,
                  "6b_finetuning", solved(annotated(r.solution), r.right), "6b_verification", solved(off, false),
                  "175b_finetuning", solved(reference, true),
                  "175b_verification", solved(annotated(r.solution), r.right) }
end)
print(folder .. ": problems, webinstruct, one_problem and gsm8k.jsonl")

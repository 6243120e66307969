--- The demo's world: word problems, noisy solutions and critiques, made by rule, and a model small
-- enough to learn to judge them on a CPU in two minutes.
--
-- Somebody has some things and gains or loses some, once or twice. A solution computes step by step;
-- half of the solutions are wrong in one step and go on from there. The critique computes each step
-- from the problem and stops at the first wrong one. It ends in the paper's
-- `Conclusion: right [END]` or `Conclusion: wrong [END]`.

local order = require "cft.data.util.order"
local template = require "cft.text.template"

local M = {}

local NAMES = { "Tom", "Ann", "Max", "Eve", "Sam", "Liz" }
local THINGS = { "apples", "pens", "books", "coins", "eggs", "cards" }
local GAINS, LOSSES = { "gets", "buys", "finds" }, { "loses", "gives", "eats" }
local INSTRUCTION = "Please critique whether the following solution to the question is correct."
local LARGEST = 20

--- How a wrong step is wrong.
M.kinds = { "result", "operation", "number" }

-- A stream of whole numbers, a function of (seed, index) alone.
local function dice(seed, index)
  local at = 0
  return function(n)  -- 0 to n - 1
    at = at + 1
    return order.at(seed * 1000003 + index, at, 0, 2 ^ 20) % n
  end
end

-- The problem: a start and one or two changes, every value within 0 to 20.
local function draw_problem(roll)
  local p = { name = roll(#NAMES) + 1, thing = roll(#THINGS) + 1, start = roll(LARGEST + 1), changes = {} }
  local have = p.start
  for i = 1, 1 + roll(2) do
    local gain, by
    repeat
      gain, by = roll(2) == 1, 1 + roll(9)
    until gain and have + by <= LARGEST or not gain and have - by >= 0
    have = gain and have + by or have - by
    p.changes[i] = { gain = gain, by = by, verb = roll(3) + 1 }
  end
  return p
end

local function apply(gain, have, by) return gain and have + by or have - by end
local function within(v) return v >= 0 and v <= LARGEST end

-- The steps of a solution; the step `bad` is wrong in the way `kind`, nil if that cannot be done
-- within 0 to 20. What follows a wrong step goes on from its result.
local function solve(p, bad, kind, roll)
  local have, steps = p.start, {}
  for i, c in ipairs(p.changes) do
    local s = { from = have, gain = c.gain, by = c.by }
    if i == bad and kind == "operation" then s.gain = not s.gain end
    if i == bad and kind == "number" then s.by = 1 + (c.by - 1 + 1 + roll(8)) % 9 end
    s.to = apply(s.gain, s.from, s.by)
    if i == bad and kind == "result" then s.to = s.to + (roll(2) == 1 and 1 or -1) * (1 + roll(3)) end
    if not within(s.to) then return nil end
    steps[i], have = s, s.to
  end
  return steps
end

local function equation(from, gain, by, to)
  return ("%d %s %d = %d"):format(from, gain and "+" or "-", by, to)
end

local function question_of(p)
  local parts = { ("%s has %d %s."):format(NAMES[p.name], p.start, THINGS[p.thing]) }
  for _, c in ipairs(p.changes) do
    parts[#parts + 1] = ("%s %s %d."):format(NAMES[p.name], (c.gain and GAINS or LOSSES)[c.verb], c.by)
  end
  return table.concat(parts, " ") .. " How many?"
end

local function solution_of(steps)
  local lines = {}
  for i, s in ipairs(steps) do lines[i] = ("Step %d: %s"):format(i, equation(s.from, s.gain, s.by, s.to)) end
  return table.concat(lines, "\n") .. ("\nAnswer: %d"):format(steps[#steps].to)
end

local function critique_of(p, steps)
  local have, lines = p.start, {}
  for i, c in ipairs(p.changes) do
    local s, to = steps[i], apply(c.gain, have, c.by)
    local right = s.from == have and s.gain == c.gain and s.by == c.by and s.to == to
    lines[i] = ("Step %d: %s, %s."):format(i, equation(have, c.gain, c.by, to), right and "right" or "wrong")
    if not right then return table.concat(lines, "\n") .. "\n\nConclusion: wrong [END]" end
    have = to
  end
  return table.concat(lines, "\n") .. "\n\nConclusion: right [END]"
end

-- What makes two problems the same: their numbers, not their words.
local function key_of(p)
  local parts = { p.start }
  for _, c in ipairs(p.changes) do parts[#parts + 1] = (c.gain and "+" or "-") .. c.by end
  return table.concat(parts, " ")
end

-- One problem in ten is for tests alone, by its numbers, so that no wording of it is trained on.
local function is_heldout(key)
  local h = 5381
  for i = 1, #key do h = (h * 33 + key:byte(i)) % 2 ^ 31 end
  return h % 10 == 0
end

local function record(seed, index, heldout)
  local roll = dice(seed, index)
  while true do
    local p = draw_problem(roll)
    local key = key_of(p)
    if is_heldout(key) == heldout then
      -- In the held-out set right and wrong alternate: half of each, exactly.
      local wrong
      if heldout then wrong = index % 2 == 1 else wrong = roll(2) == 1 end
      local kind = wrong and M.kinds[roll(#M.kinds) + 1] or nil
      local steps = solve(p, wrong and 1 + roll(#p.changes), kind, roll)
      if steps then
        return {
          instruction = INSTRUCTION,
          input = ("Question:\n%s\n\nSolution:\n%s"):format(question_of(p), solution_of(steps)),
          output = "Critique:\n" .. critique_of(p, steps),
          question = question_of(p), solution = solution_of(steps), reference = solution_of(solve(p)),
          right = not wrong, kind = kind, key = key,
        }
      end
    end
  end
end

--- Training records, the paper's fields `instruction`, `input`, `output`, and by themselves `question`, `solution` and
-- `reference`, a right one: a function of seed and index.
-- @usage cft.demo.training(1)(0).output   --> "Critique:\nStep 1: 6 + 2 = 8, right.\nStep 2: 8 - 6 = 2, wrong.\n\nConclusion: wrong [END]"
function M.training(seed)
  return function(i) return record(seed, i, false) end
end

--- Held-out records: none shares its numbers with a training record; also `right`, and `kind` of a
-- wrong one.
-- @int seed
-- @treturn function i, from 0 → record
-- @usage cft.demo.heldout(1)(0).right   --> true
function M.heldout(seed)
  return function(i) return record(seed + 1, i, true) end
end

-- ---- tokenizer -------------------------------------------------------------------------------

-- Texts as GPT-2's pattern cuts them, near enough to collect words: the tokenizer itself decides,
-- and what is missing here costs bytes, not correctness.
local function pieces(text, see)
  local at = 1
  while at <= #text do
    local from, to = text:find("^ ?%a+", at)
    if not from then from, to = text:find("^ ?%d+", at) end
    if not from then from, to = text:find("^ ?[^%s%a%d]+", at) end
    if not from then from, to = text:find("^%s+", at) end
    see(text:sub(from, to))
    at = to + 1
  end
end

-- The 256 bytes as ByteLevel writes them: printable ones as themselves, the rest from U+0100 on.
local function byte_names()
  local names, extra = {}, 0
  for b = 0, 255 do
    local plain = b >= 33 and b <= 126 or b >= 161 and b <= 172 or b >= 174
    local code = plain and b or 256 + extra
    if not plain then extra = extra + 1 end
    names[b] = code < 128 and string.char(code)
               or string.char(0xC0 + math.floor(code / 64), 0x80 + code % 64)
  end
  return names
end

-- A tokenizer.json: a byte-level BPE in which every word that `texts`, a function, gives to its argument is one token (the
-- flag `ignore_merges` of Llama 3's tokenizer takes whole words), as are `sentences`.
local function json_of_words(texts, sentences)
  local json = require "cft.base.json"
  local names, vocab, count, words = byte_names(), {}, 0, {}
  local function add(token)
    if not vocab[token] then vocab[token], count = count, count + 1 end
  end
  for b = 0, 255 do add(names[b]) end
  local function see(piece)
    if not words[piece] then
      words[piece] = true
      add((piece:gsub(".", function(c) return names[c:byte()] end)))
    end
  end
  texts(function(text) pieces(text, see) end)
  pieces("system\nuser\nassistant\n", see)
  local added = {}
  for _, token in ipairs { "<|endoftext|>", "<|im_start|>", "<|im_end|>", unpack(sentences) } do
    added[#added + 1] = { id = count, content = token, single_word = false, lstrip = false,
                          rstrip = false, normalized = false, special = token:match "^<|" ~= nil }
    count = count + 1
  end
  return json.encode {
    version = "1.0", truncation = json.null, padding = json.null, added_tokens = added,
    normalizer = json.null,
    pre_tokenizer = { type = "ByteLevel", add_prefix_space = false, trim_offsets = true, use_regex = true },
    post_processor = json.null,
    decoder = { type = "ByteLevel", add_prefix_space = true, trim_offsets = true, use_regex = true },
    model = { type = "BPE", dropout = json.null, unk_token = json.null,
              continuing_subword_prefix = json.null, end_of_word_suffix = json.null,
              fuse_unk = false, byte_fallback = false, ignore_merges = true, vocab = vocab,
              merges = json.array() },
  }
end

local EXAMPLES = 2000  -- records whose words a tokenizer has

--- tokenizer.json of this world.
-- @int seed
-- @treturn string JSON
-- @usage cft.json.decode(cft.demo.tokenizer_json(1)).model.type   --> "BPE"
function M.tokenizer_json(seed)
  return json_of_words(function(see)
    for n = 0, LARGEST do see(" " .. n) end
    for i = 0, EXAMPLES - 1 do
      local r = M.training(seed)(i)
      see(r.input)
      see(r.output)
    end
  end, { INSTRUCTION, "You are a helpful assistant." })
end

local function parse(text, label) return require("cft.text.tokenizer").parse(text, label, { eos = "<|endoftext|>" }) end

--- A small tokenizer made of the words of a source's first records; any other text is bytes. For tiny models.
-- @param source of `cft.data`, or a mixture of `cft.mix`
-- @treturn Tokenizer with ChatML's tokens
-- @usage print(#cft.demo.words(source):encode " has")   --> 1
function M.words(source)
  return parse(json_of_words(function(see)
    for _, part in ipairs(source.parts or { { source = source } }) do
      for i, record in part.source:records() do
        if i >= EXAMPLES then break end
        for _, message in ipairs(record.messages) do
          local content = message.content
          for _, piece in ipairs(type(content) == "table" and content or { { text = content } }) do see(piece.text) end
        end
      end
    end
  end, {}), "a tokenizer of the recipe's words")
end

-- ---- model and evaluation --------------------------------------------------------------------

--- That tokenizer, loaded. @int seed @treturn Tokenizer
-- @usage cft.demo.tokenizer(1)   --> tokenizer of 326 ids; bos none, eos "<|endoftext|>" (321)
function M.tokenizer(seed) return parse(M.tokenizer_json(seed), "the demo's tokenizer") end

-- ---- a run -----------------------------------------------------------------------------------

--- Settings that the demo puts in place of a recipe's; the command line still wins.
M.settings = {
  steps = 1500, batch = 32, tokens = 4096, lr = 1.2e-3, warmup = 50, schedule = "cosine", weight_decay = 0,
  clip = 1, beta2 = 0.98, dtype = "f32", device = "cpu", out = "checkpoints/demo",
}

--- The shape that learns it: see `cft.models.new`.
M.tiny = { arch = "qwen2", d = 128, layers = 2, heads = 4, ffn = 256, tied = true, theta = 1000, context = 512,
           init = math.sqrt(0.25 / 128) }

--- Held-out solutions that are judged; half of them are wrong.
M.tests = 240

-- What is trained on; `right`, `kind` and `key` are for `evaluate`.
local function paper_fields(r) return { instruction = r.instruction, input = r.input, output = r.output } end

--- Records to train on, as many as the run takes; and those whose loss is measured.
-- @tab cfg settings of the run
-- @usage local training, heldout = cft.demo.sources { steps = 2, batch = 8, seed = 1 }
-- training:size(), heldout:size()   --> 16 240
function M.sources(cfg)
  local data = require "cft.data.open"
  local n = cfg.steps and math.max(1, cfg.steps) * cfg.batch or 48000
  return data.generate(n, M.training(cfg.seed), { name = "word problems", fields = paper_fields }),
         data.generate(M.tests, M.heldout(cfg.seed), { name = "word problems held out", fields = paper_fields })
end

-- Let the model write critiques of held-out solutions, greedily, and read their verdicts.
-- @tab run of `cft.recipe`
-- @treturn table `accuracy` (percent), `by_kind` ("right" and each kind of error → { good, all }),
-- `sample`: a record of a wrong solution with the critique that was written for it
function M.evaluate(run)
  local make = M.heldout(run.cfg.seed)
  local conversations, records = {}, {}
  for i = 0, M.tests - 1 do
    records[i + 1] = make(i)
    conversations[i + 1] = assert(require("cft.data.open").conversation(records[i + 1]))
  end
  local written = require("cft.generate").answers(run, conversations, { max_new = 64 })
  local result = { good = 0, by_kind = {} }
  for i, r in ipairs(records) do
    local text = written[i]
    local kind = r.kind or "right"
    local k = result.by_kind[kind] or { good = 0, all = 0 }
    result.by_kind[kind], k.all = k, k.all + 1
    if template.verdict(text) == r.right then result.good, k.good = result.good + 1, k.good + 1 end
    if i == 2 then result.sample = { record = r, text = text } end
  end
  result.accuracy = 100 * result.good / M.tests
  return result
end

-- Measure before training; what it returns measures after, and says both. @tab run of `cft.recipe`
function M.begin(run)
  local host = require "cft.host"
  local start, before = host.now(), M.evaluate(run)
  return function()
    local after, log = M.evaluate(run), run.log
    for _, kind in ipairs { "right", unpack(M.kinds) } do
      local k = after.by_kind[kind]
      if k then log:say("  %-10s solutions judged right: %d of %d", kind, k.good, k.all) end
    end
    log:say("\n%s\n", after.sample.record.input)
    log:say("%s\n", after.sample.text)
    log:say("demo: verdict accuracy %.1f%% -> %.1f%% in %.0f s", before.accuracy, after.accuracy,
            host.now() - start)
  end
end

return M

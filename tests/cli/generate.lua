-- `cftrun generate` as its users meet it, with a tiny model in a folder.

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local file = require "cft.generate.file"
local process = require "tests.process"
local tiny_chat = require "tests.tiny_chat"

local tests = {}
local function test(name, fn) tests[#tests + 1] = { name, fn } end

local folder

local function model()
  if not folder then
    folder = process.folder() .. "/model"
    tiny_chat(folder, 128)
  end
  return folder
end

local function run(...)
  local args = { "generate", ... }
  return process.cftrun(args)
end

test("a prompt, twice the same; another seed, another text", function()
  local function text(...)
    local r = run(model(), "How many?", "--max-new", "12", "--temperature", "1", "--no-ends", ...)
    expect.same({ r.code, r.err }, { 0, "" })
    return r.out
  end
  local first = text()
  expect.same(text(), first)
  expect.same(text("--batch", "1", "--chunk", "3", "--deterministic"), first)
  expect.truthy(text("--seed", "1") ~= first, "the seed says nothing")
  expect.truthy(text "--raw" ~= first, "--raw says nothing")
  expect.truthy(text("--system", "Be brief.") ~= first, "--system says nothing")
  expect.truthy(text("--dtype", "bf16") ~= "", "bf16")
  local three = run(model(), "How many?", "--n=3", "--max-new=4", "--temperature=1").out
  expect.truthy(three:find "^%[1%]\n.*%[2%]\n.*%[3%]\n", three)
end)

test("each option that chooses tokens is heard", function()
  local function text(...) return run(model(), "a", "--raw", "--no-ends", "--max-new", "20", ...).out end
  local greedy, drawn = text(), text("--temperature", "2")
  expect.truthy(drawn ~= greedy)
  for _, option in ipairs { { "--top-k", "1" }, { "--top-p", "0.0001" }, { "--min-p", "1" } } do
    expect.same(text("--temperature", "2", unpack(option)), greedy, option[1])
  end
  expect.truthy(text("--penalty", "100") ~= greedy, "--penalty")
  expect.truthy(text("--bias", "65=1000") ~= greedy, "--bias")
  local stop = greedy:sub(3, 4)
  expect.same(text("--stop", "not there", "--stop", stop), greedy:match("^(.-)" .. stop:gsub("%p", "%%%0")) .. "\n", "--stop")
end)

test("what is refused, with words and a code", function()
  local function refused(pattern, code, ...)
    local r = run(...)
    expect.same(r.code, code, r.err)
    expect.truthy(r.err:find(pattern), r.err)
    expect.same(r.out, "")
  end
  refused("a model is wanted: cftrun generate MODEL", 2)
  refused("did you mean 'temperature'", 2, model(), "a", "--temprature", "1")
  refused("unknown argument 'b'", 2, model(), "a", "b")
  refused("%-%-top%-p must be from 0 to 1, got 2", 2, model(), "a", "--top-p", "2")
  refused("%-%-max%-new wants a number, got 'x'", 2, model(), "a", "--max-new", "x")
  refused("%-%-seed wants a value", 2, model(), "a", "--seed")
  refused("%-%-memory must be a size, as 2GiB, got 'much'", 2, model(), "a", "--memory", "much")
  refused("%-%-bias wants ID=NUMBER, got 'x'", 2, model(), "a", "--bias", "x")
  refused("%-%-bias names token 5 twice, with 1 and 2", 2, model(), "a", "--bias", "5=1", "--bias", "5=2")
  refused("%-%-max%-new is said twice: 4 and 5", 2, model(), "a", "--max-new", "4", "--max-new", "5")
  refused("is a folder; a file of prompts is wanted", 4, model(), "--file", process.folder(), "--out", model() .. "-out")
  refused("%-%-device must be cpu, cuda, cuda:N or auto, got 'gpu'", 2, model(), "a", "--device", "gpu")
  refused("a prompt and %-%-file", 2, model(), "a", "--file", "x", "--out", "y")
  refused("%-%-file wants %-%-out", 2, model(), "--file", "x")
  refused("%-%-out wants %-%-file", 2, model(), "--out", "x")
  refused("%-%-n wants a prompt", 2, model(), "--n", "2")
  refused("%-%-logprobs wants %-%-file", 2, model(), "a", "--logprobs", "2")
  refused("no folder or file /nowhere/x", 4, "/nowhere/x", "a")
  refused("no/such", 4, model(), "--file", "no/such", "--out", model() .. "-out")
end)

test("a prompt that begins with a dash stands behind --", function()
  local r = run(model(), "--max-new", "2", "--", "--seed")
  expect.same({ r.code, r.err }, { 0, "" })
end)

-- ---- files ---------------------------------------------------------------------------------------

local records = {
  '{"prompt":"How many?","id":1}', "", '{"messages":[{"role":"user","content":"Why?"}],"id":2}', '{"ids":[72,105]}',
  '{"prompt":"äöü"}', '{"prompt":"five"}', '{"prompt":"six"}',
}

local function files(lines)
  local place = process.folder()
  process.write(place .. "/in.jsonl", table.concat(lines or records, "\n") .. "\n")
  return place .. "/in.jsonl", place .. "/out.jsonl", place
end

local settings = { "--dtype", "f32", "--max-new", "10", "--temperature", "1", "--no-ends", "--n", "2", "--seed", "4" }

local function many(path, out, ...)
  local args = { model(), "--file", path, "--out", out, unpack(settings) }
  for _, a in ipairs { ... } do args[#args + 1] = a end
  return run(unpack(args))
end

test("a file: order, other fields, log-probabilities", function()
  local path, out = files()
  local r = many(path, out, "--batch", "2", "--logprobs", "2")
  expect.same({ r.code, r.err, r.out }, { 0, "", "" })
  local answers = {}
  for line in io.lines(out) do answers[#answers + 1] = assert(json.decode(line)) end
  expect.same(#answers, 6)
  expect.same({ answers[1].prompt, answers[1].id, answers[2].id, answers[4].prompt }, { "How many?", 1, 2, "äöü" })
  for _, a in ipairs(answers) do
    expect.same(#a.generated, 2)
    for _, g in ipairs(a.generated) do
      expect.same({ g.finish, g.tokens, #g.ids, #g.logprobs, #g.top, #g.top[1] }, { "length", 10, 10, 10, 10, 2 })
      for j, logprob in ipairs(g.logprobs) do expect.truthy(logprob <= 0 and g.top[j][1].logprob >= logprob) end
    end
  end
end)

-- What says that a file was begun with these settings.
local function identity(path)
  return file.identity({ dtype = "f32", path = model(), config = {} }, path,
    { raw = false, max_new = 10, temperature = 1, top_k = 0, top_p = 1, min_p = 0, penalty = 1, seed = 4, n = 2, ends = false })
end

test("a file that was interrupted anywhere becomes the same file", function()
  local path, out, place = files()
  expect.same(many(path, out).code, 0)
  local whole, again = process.contents(out), place .. "/again.jsonl"
  for cut = 0, #whole, math.floor(#whole / 5) do
    process.write(again .. ".part", whole:sub(1, cut))  -- whole lines, and a part of one
    process.write(again .. ".part.json", identity(path))
    local r = many(path, again, "--batch", "3")
    expect.same({ r.code, r.err }, { 0, "" })
    expect.same(process.contents(again), whole)
    os.remove(again)
  end
  expect.same(io.open(again .. ".part.json"), nil)
end)

test("what a file must not be", function()
  local function refused(pattern, code, lines, ...)
    local path, out = files(lines)
    local r = many(path, out, ...)
    expect.same(r.code, code, r.err)
    expect.truthy(r.err:find(pattern), r.err)
  end
  refused("in.jsonl, line 2: .*JSON", 1, { records[1], "{" })
  refused("line 1: a record has a prompt, messages or ids", 1, { '{"question":"x"}' })
  refused("line 1: a record has one of prompt, messages and ids; this one has prompt and ids", 1, { '{"prompt":"x","ids":[1]}' })
  refused("line 1: 'prompt' must be a text", 1, { '{"prompt":4}' })
  refused("line 1: 'ids' must be a list, not empty", 1, { '{"ids":[]}' })
  refused("line 1: a record is an object", 1, { "[1]" })
  refused("line 1: a field 'generated' is there already", 1, { '{"prompt":"x","generated":1}' })
  refused("line 1: message 1 must have a role", 1, { '{"messages":[{"role":"x","content":"y"}]}' })
  refused("line 1: a prompt of %d+ tokens, but the model's context is 128", 1, { ('{"prompt":"%s"}'):format(("x"):rep(400)) })
  refused("line 2: id 999999 in a prompt; the model's vocabulary is 0 to %d+", 1, { records[1], '{"ids":[999999]}' })
  refused("line 1: a system message stands in front of texts and conversations", 1, { '{"ids":[72]}' }, "--system", "Be brief.")
  local path, out = files()
  local lock = host.lock(out .. ".part.lock")
  local busy = many(path, out)
  expect.truthy(busy.code == 2 and busy.err:find "out.jsonl.part is being written by process", busy.err)
  lock:release()
  process.write(out, "mine")
  local r = many(path, out)
  expect.same(r.code, 2)
  expect.truthy(r.err:find "is there already", r.err)
  expect.same(process.contents(out), "mine")
end)

test("a file whose program was killed anywhere becomes the same file", function()
  local lines = {}
  for i = 1, 40 do lines[i] = ('{"prompt":"number %d"}'):format(i) end
  local path, out, place = files(lines)
  expect.same(many(path, out, "--batch", "2").code, 0)
  local whole, again, kills = process.contents(out), place .. "/again.jsonl", 0
  local words = { model(), "--file", path, "--out", again, "--batch", "2", unpack(settings) }
  for _, share in ipairs { 0, 0.3, 0.6 } do  -- of the answers, that is there before the next kill
    local script = ('cftrun generate %s & pid=$!; for i in $(seq 500); do [ "$(stat -c %%s %s.part 2>/dev/null || echo 0)" -lt %d ] || break; ' ..
      'kill -0 $pid 2>/dev/null || break; sleep 0.002; done; kill -9 $pid; wait $pid; echo code=$?'):format(table.concat(words, " "), again, share * #whole + 1)
    if not process.shell(script, "."):find "code=137" then break end
    kills = kills + 1
    if io.open(again) then break end  -- it was just done
  end
  expect.truthy(kills > 0, "nobody was killed")
  if not io.open(again) then expect.same(many(path, again, "--batch", "2").code, 0) end
  expect.same(process.contents(again), whole)
end)

test("a file is gone on with by the same settings only", function()
  local path, out = files()
  process.write(out .. ".part", "")
  process.write(out .. ".part.json", identity(path))
  local r = many(path, out, "--top-k", "5")
  expect.same(r.code, 2)
  expect.truthy(r.err:find "was begun with another top_k", r.err)
end)

-- ---- the conversation ----------------------------------------------------------------------------

test("a conversation: answers, /new, what is too long", function()
  local r = process.cftrun { "generate", model(), "--max-new", "6", "--no-ends",
                             input = "Hello\n/new\nHello\n" .. ("long "):rep(60) .. "\nHello\n" }
  expect.same(r.code, 0, r.err)
  expect.truthy(r.err:find "a prompt of %d+ tokens, but the model's context is 128", r.err)
  local first, second = r.out:match "> (.-)\n.-%(a new conversation%)\n> (.-)\n"
  expect.truthy(first and #first > 0, r.out)
  expect.same(second, first)
end)

test("Ctrl-C stops an answer, and not the conversation", function()
  local folder_ = process.folder()
  tiny_chat(folder_ .. "/long", 8192)
  local out = process.shell(([[mkfifo in; exec 4<>in; : >out
    env --default-signal=INT cftrun generate long --max-new 8000 --no-ends <in 4>&- >out 2>err & pid=$!
    grown() { for i in $(seq 1000); do [ "$(stat -c %%s out)" -lt $1 ] || return 0; sleep 0.01; done; echo "nothing came"; }
    stopped() { for i in $(seq 1000); do [ "$(grep -c '(stopped)' out)" != $1 ] || return 0; sleep 0.01; done; echo "nothing stopped"; }
    echo Hello >&4; grown 400; kill -INT $pid; stopped 1
    echo And >&4; grown $(($(stat -c %%s out) + 400)); kill -INT $pid; stopped 2
    exec 4>&-; wait $pid; echo "code=$?"; cat err; wc -c <out]]):format(), folder_)
  local bytes = tonumber(out:match "^code=0\n(%d+)\n$")
  expect.truthy(bytes and bytes < 60000, out)  -- 8,000 tokens are more
end)

return tests

-- How values look at the prompt.
local cft = require "cft"
local demo = require "cft.demo"
local expect = require "tests.expect"
local text = require "cft.prompt".text

local tok = demo.tokenizer(1)
local source = cft.data.list { demo.training(1)(0), demo.training(1)(1) }

return {
  { "a model is a tree: blocks that are alike once, parameters and bytes", function()
    local m = cft.models.new { arch = "llama", d = 64, layers = 4, heads = 4, ffn = 128, vocab = 97 }
    local shown = text(m)
    expect.match(shown, "^llama, 176%.8k parameters in f32 on cpu, 690%.75 KiB; context 2048\n")
    expect.match(shown, "\n  layers%.0 to layers%.3, each +41%.1k +160%.50 KiB\n    qkv +%(192, 64%) +12%.3k\n")
    m:release()
  end },
  { "source, samples, batches, tokenizer", function()
    local samples = cft.samples.new(source, cft.template.qwen(), tok, {})
    local batches = cft.batch.new(samples, { batch = 2, tokens = 512, seed = 1 })
    expect.same(text(source), "source list, 2 records")
    expect.match(text(samples), "2 samples of 2 records")
    expect.match(text(batches), "^1 optimizer steps an epoch, of 2 samples each, in packs of 512 tokens$")
    expect.match(text(tok), '^tokenizer of %d+ ids; bos none, eos "<|endoftext|>" %(%d+%)$')
    local micro = batches:update(0, 0)[1]
    expect.match(tostring(micro), "^micro%-batch of 2 samples: %d+ rows, %d+ with loss, of weight %d+$")
    expect.match(text(micro), "\n%-%-%- list: record [01]\n.*⟦Critique:")
  end },
  { "tables stay shallow, and long ones say what is missing", function()
    expect.same(text { 1, "a", { 2 } }, '{ 1, "a", {...} }')
    local long = {}
    for i = 1, 25 do long[i] = i end
    expect.match(text(long), "%.%.%. 5 more")
  end },
}

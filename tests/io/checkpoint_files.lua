--- Weights, state and checkpoints through the modules that users call: cft.files, cft.models.gguf, cft.hub.

local cached = require "tests.cached"
local expect = require "tests.expect"
local ffi = require "ffi"
local files = require "cft.io.files"
local host = require "cft.host"
local hub = require "cft.io.hub"
local models = require "cft.models"
local process = require "tests.process"
local tensor = require "cft.engine.tensor"
require "cft.engine.ops"

local golden = "tests/golden/"

-- A case that is given an empty folder.
local function in_folder(fn)
  return function() fn(process.folder()) end
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function lua_numbers(t)
  local flat, n = t:to_host()
  local list = {}
  for i = 1, n do list[i] = tonumber(flat[i - 1]) end
  return list
end

local function same_tensor(got, want, name)
  expect.same(got:shape(), want:shape(), name)
  expect.same(lua_numbers(got), lua_numbers(want), name)
end

-- Every tensor of a source is that of the other, bit for bit.
local function same_weights(got, want)
  local a, b = got:names(), want:names()
  table.sort(a)
  table.sort(b)
  expect.same(a, b)
  for _, name in ipairs(a) do
    local x, y = got:tensor(name), want:tensor(name)
    same_tensor(x, y, name)
    x:release()
    y:release()
  end
  got:release()
  want:release()
end

-- ---- safetensors -------------------------------------------------------------------------------

local function folder_of_hugging_face()
  local w = files.folder(golden .. "qwen2-small")
  expect.same(w.config.model_type, "qwen2")
  local name = w:names()[1]
  local t = w:tensor(name)
  expect.same(t:shape()[1] > 0, true)
  expect.same(w:tensor "none", nil)
  w:release()
  expect.same(#t:to_table(), t:shape()[1])  -- it outlives its file
  t:release()
  expect.raises("is closed", w.tensor, w, name)
end

local function a_tensor_is_the_mapped_file()
  local w = files.safetensors(golden .. "safetensors/model.safetensors")
  expect.same(w:metadata "format", "pt")
  expect.same(w:metadata "none", nil)
  local a, b = w:tensor "n.i32", w:tensor "n.i32"
  expect.truthy(a:shares(a))
  local before = tensor.memory("cpu").total
  local large = w:tensor 'quote"d.f32'
  expect.same(tensor.memory("cpu").total, before, "memory")  -- mapped, not counted
  expect.same(large:shape(), { 70, 5 })
  a:fill_(5)  -- private pages: the other tensor of this mapping sees it, the file does not
  expect.same(b:to_table(), { { 5, 5 }, { 5, 5 } })
  a:release()
  b:release()
  large:release()
  w:release()
  w = files.safetensors(golden .. "safetensors/model.safetensors")
  b = w:tensor "n.i32"
  expect.truthy(b:to_table()[1][1] ~= 5)
  b:release()
  w:release()
end

local function types_that_cft_has_not()
  local w = files.safetensors(golden .. "safetensors/foreign.safetensors")
  expect.raises('tensor "flags" is "BOOL"', w.tensor, w, "flags")
  local t = w:tensor "fine"
  expect.same(t:to_table(), { 1, 1 })
  t:release()
  w:release()
end

local function writing(folder)
  local x = tensor.randn({ 3, 5 }, { seed = 1 })
  local y = tensor.randn({ 4 }, { seed = 2 })
  local made = 0
  local entries = {
    { name = "b", tensor = x },
    { name = "a", tensor = tensor.transpose(x, 0, 1) },  -- not contiguous
    { name = "c", dtype = "bf16", dims = { 4 }, make = function()
      made = made + 1
      return tensor.cast(y, "bf16")
    end },
    { name = "none", tensor = tensor.empty { 0, 2 } },
  }
  local path = folder .. "/deep/model.safetensors"
  files.write_tensors(path, entries)
  expect.same(made, 1)
  local w = files.safetensors(path)
  expect.same(w:names(), { "a", "b", "none", "c" })  -- wide types first, then by name
  same_tensor(w:tensor "a", entries[2].tensor)
  same_tensor(w:tensor "b", x)
  expect.same(w:tensor("c"):dtype(), "bf16")
  same_tensor(w:tensor "c", tensor.cast(y, "bf16"))
  expect.same(w:tensor("none"):shape(), { 0, 2 })

  files.write_tensors(folder .. "/s/model.safetensors", entries, { max_shard_bytes = 64 })
  expect.same(host.list(folder .. "/s"),
              { "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
                "model-00003-of-00003.safetensors", "model.safetensors.index.json" })
  same_weights(files.safetensors(folder .. "/s"), w)

  local function refused(pattern, entry, opts)
    expect.raises(pattern, files.write_tensors, folder .. "/no/x.safetensors", { entry }, opts)
  end
  refused("an entry is", { name = "x" })
  refused("no dtype 'f33'", { name = "x", dtype = "f33", dims = { 1 }, make = function() end })
  refused("'x' came as f32, announced as bf16",
          { name = "x", dtype = "bf16", dims = { 4 }, make = function() return y:detach() end })
  refused("'x' is smaller than announced",
          { name = "x", dtype = "f32", dims = { 5 }, make = function() return y:detach() end })
  refused('16 bytes for "x", which has 12 left',
          { name = "x", dtype = "f32", dims = { 3 }, make = function() return y:detach() end })
  refused("unknown option 'max_shard'", { name = "x", tensor = x }, { max_shard = 1 })
  refused("someone else's", { name = "x", dtype = "f32", dims = { 3 }, make = function() error "someone else's" end })
  expect.same(host.list(folder .. "/no"), {})
end

-- ---- GGUF --------------------------------------------------------------------------------------

local function llama()
  local g = models.gguf(golden .. "gguf/tiny-llama.gguf")
  expect.same(g.config, {
    architectures = { "LlamaForCausalLM" }, model_type = "llama", hidden_act = "silu",
    hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2,
    intermediate_size = 64, max_position_embeddings = 256, rms_norm_eps = 1e-05, rope_theta = 500000,
    head_dim = 8, vocab_size = 70, tie_word_embeddings = true, attention_bias = false,
    mlp_bias = false, bos_token_id = 1, eos_token_id = 2,
    rope_scaling = { rope_type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4,
                     original_max_position_embeddings = 8192 },
  })
  expect.same(g:value "tokenizer.ggml.pre", "llama-bpe")
  expect.same(g:value "tokenizer.ggml.merges", { "< 4", "<4 >" })
  expect.same(#g:value "tokenizer.ggml.tokens", 70)
  expect.same(g:value "none", nil)
  expect.same(g:tensor "none", nil)
  same_weights(g, files.safetensors(golden .. "gguf/tiny-llama.safetensors"))
end

local function qwen2()
  local g = models.gguf(golden .. "gguf/tiny-qwen2.gguf")
  expect.same(g.config, {
    architectures = { "Qwen2ForCausalLM" }, model_type = "qwen2", hidden_act = "silu",
    hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2,
    intermediate_size = 64, max_position_embeddings = 256, rms_norm_eps = 1e-06, rope_theta = 1000000,
    head_dim = 8, vocab_size = 70, tie_word_embeddings = false, bos_token_id = 1, eos_token_id = 2,
  })
  same_weights(g, files.safetensors(golden .. "gguf/tiny-qwen2.safetensors"))
end

-- A GGUF file of values only, and what is wrong with it as a model.
local function gguf_text(values)
  local parts, n = {}, 0
  local function u64(x) return ffi.string(ffi.new("uint64_t[1]", x), 8) end
  local function u32(x) return ffi.string(ffi.new("uint32_t[1]", x), 4) end
  local function text(s) return u64(#s) .. s end
  for _, pair in ipairs(values) do
    n = n + 1
    local key, value = pair[1], pair[2]
    if type(value) == "string" then
      parts[n] = text(key) .. u32(8) .. text(value)
    else
      parts[n] = text(key) .. u32(6) .. ffi.string(ffi.new("float[1]", value), 4)
    end
  end
  return "GGUF" .. u32(3) .. u64(0) .. u64(n) .. table.concat(parts)
end

local function models_that_are_not_ours(folder)
  local path = folder .. "/x.gguf"
  local base = { { "general.architecture", "llama" }, { "llama.embedding_length", 8 },
                 { "llama.block_count", 1 }, { "llama.attention.head_count", 2 },
                 { "llama.feed_forward_length", 16 }, { "llama.context_length", 32 },
                 { "llama.attention.layer_norm_rms_epsilon", 1e-5 } }
  local function refused(pattern, change, remove)
    local values = {}
    for _, pair in ipairs(base) do
      if pair[1] ~= remove and not (change and pair[1] == change[1]) then values[#values + 1] = pair end
    end
    values[#values + 1] = change
    files.write(path, gguf_text(values))
    expect.raises("x%.gguf: " .. pattern, models.gguf, path)
  end
  refused("architecture 'phi3' is not implemented", { "general.architecture", "phi3" })
  refused("architecture 'nil' is not implemented", nil, "general.architecture")
  refused("'llama.block_count' is missing", nil, "llama.block_count")
  refused("'llama.block_count' is a string", { "llama.block_count", "many" })
  refused("llama.expert_count = 8 is not implemented", { "llama.expert_count", 8 })
  refused("llama.logit_scale = 0.5 is not implemented", { "llama.logit_scale", 0.5 })
  refused("is one of 3 parts", { "split.count", 3 })
  refused("no tensor 'token_embd.weight'")
  refused("values of another width", { "llama.attention.value_length", 3 })
  expect.raises("No such file", models.gguf, folder .. "/none.gguf")
end

-- ---- state -------------------------------------------------------------------------------------

local function state(folder)
  local path = folder .. "/run/state.msgpack"
  local x, y = tensor.randn({ 2, 3 }, { seed = 3 }), tensor.cast(tensor.randn({ 5 }, { seed = 4 }), "bf16")
  local value = {
    step = 12, lr = 0.1, tiny = 5e-324, minus_zero = -0.0, inf = math.huge, name = "naïve\0z", on = true,
    off = false, seed = 2LL ^ 62, big = 18446744073709551615ULL, none = {}, list = { 1, { 2, "x" }, {} },
    optim = { m = x, v = { y } },
  }
  files.write_state(path, value)
  local got = assert(files.read_state(path))
  local m, v = got.optim.m, got.optim.v[1]
  expect.same({ m.dtype, m.dims, m.bytes }, { "f32", { 2, 3 }, 24 })
  same_tensor(m:tensor(), x)
  local z = tensor.empty({ 5 }, { dtype = "bf16" })
  same_tensor(v:copy_to(z), y)
  -- Into a view that is not contiguous.
  local wide = tensor.zeros { 3, 2 }
  same_tensor(m:copy_to(tensor.transpose(wide, 0, 1)), x)
  expect.raises("does not fit a tensor %(5%) bf16", m.copy_to, m, z)

  expect.same(tostring(got.seed), "4611686018427387904LL")
  expect.same(tostring(got.big), "18446744073709551615ULL")
  expect.same(1 / got.minus_zero, -math.huge)
  for _, key in ipairs { "seed", "big", "optim" } do got[key], value[key] = nil, nil end
  expect.same(got, value)

  local before = read(path)
  local function refused(pattern, bad) expect.raises(pattern, files.write_state, path, bad) end
  refused("state%.f: a function cannot be saved", { f = print })
  refused("state%[2%]%.x: a thread cannot be saved", { 1, { x = coroutine.create(print) } })
  refused("state: is a list that has a field 'x' too", { 1, x = 2 })
  refused("state: a key is a boolean", { [true] = 1 })
  refused("state: a key is a number", { [7] = 1 })
  refused("reserved", { ["$array"] = 1 })
  local cycle = {}
  cycle.x = cycle
  refused("tables too deep", cycle)
  expect.same(read(path), before)  -- the good file stays
  expect.same(host.list(folder .. "/run"), { "state.msgpack" })

  expect.fails("No such file", files.read_state(folder .. "/none"))
  files.write(path, before:sub(1, -2))
  expect.fails("state.msgpack, byte %d+: is cut short", files.read_state(path))
  expect.raises("the key 'a' comes twice", function()
    files.write(path, "\130\169cft_state\1\165state\130\161a\1\161a\2")
    files.read_state(path)
  end)
end

-- ---- checkpoints -------------------------------------------------------------------------------

local function checkpoints(folder)
  local path = folder .. "/run/step-1"
  local function save_of(note)
    local save = files.save(path)
    save:write("note.txt", note)
    save:write_state("ranks/0.msgpack", { step = 1 })
    save:write_tensors("model.safetensors", { { name = "x", tensor = tensor.ones { 2 } } })
    return save
  end
  local save = save_of "one"
  expect.same(host.kind(path), nil)
  expect.same(host.kind(save:folder()), "folder")
  expect.raises("must lie in the save's folder", save.write, save, "../x", "")
  save:commit()
  expect.raises("the save is done", save.write, save, "x", "")
  expect.same(files.verify(path), true)
  expect.same(host.list(folder .. "/run"), { "step-1" })
  expect.same(host.list(path), { "checksums.xxh128", "model.safetensors", "note.txt", "ranks" })

  save_of("two"):discard()
  do local _ = save_of "three" end  -- forgotten
  collectgarbage()
  collectgarbage()
  expect.same(host.list(folder .. "/run"), { "step-1" })
  expect.same(read(path .. "/note.txt"), "one")

  files.write(path .. "/note.txt", "One")
  expect.fails("note.txt: is not what was written", files.verify(path))
  expect.fails("no complete checkpoint", files.verify(folder))
  files.remove(path)
  expect.same(host.kind(path), nil)
  expect.same(files.hash "hello", "b5e9c1ad071b3e7fc779cfaa5e523818")
  files.write(folder .. "/h", "hello")
  expect.same(files.hash_file(folder .. "/h"), files.hash "hello")
  expect.fails("No such file", files.hash_file(folder .. "/none"))
end

-- ---- the Hub's cache -----------------------------------------------------------------------------

-- In a process of its own, whose environment is the case.
local function find_with(variable, value, name)
  local env = { HF_HUB_CACHE = false, HUGGINGFACE_HUB_CACHE = false, HF_HOME = false, XDG_CACHE_HOME = false }
  env[variable] = value
  local run = process.cftrun { "-e", ('local p, why = require("cft.io.hub").find(%q) print(p or why)'):format(name),
                               env = env }
  expect.same(run.err, "")
  return (run.out:gsub("\n$", ""))
end

local function names_in_the_cache(folder)
  local root = folder .. "/hub/models--Org--Name"
  local commit = ("0123456789"):rep(4)
  files.write(root .. "/refs/main", commit)
  files.write(root .. "/refs/v1", "gone")
  files.write(root .. "/snapshots/" .. commit .. "/config.json", "{}")
  local at = root .. "/snapshots/" .. commit
  local function found(name) return find_with("HF_HUB_CACHE", folder .. "/hub", name) end
  expect.same(found "Org/Name", at)
  expect.same(find_with("HUGGINGFACE_HUB_CACHE", folder .. "/hub", "Org/Name"), at)
  expect.same(find_with("HF_HOME", folder, "Org/Name"), at)
  files.write(folder .. "/huggingface/hub/models--gpt2/refs/main", "c0ffee\n")
  files.write(folder .. "/huggingface/hub/models--gpt2/snapshots/c0ffee/a.gguf", "")
  expect.same(find_with("XDG_CACHE_HOME", folder, "gpt2"),
              folder .. "/huggingface/hub/models--gpt2/snapshots/c0ffee/a.gguf")
  expect.same(found("Org/Name@" .. commit), at)
  expect.match(found "Org/Name@v1", "the Hub cache has no .*/snapshots/gone; to fetch it: cftrun fetch Org/Name@v1$")
  expect.match(found "data/train.jsonl", "^there is no folder or file data/train.jsonl$")  -- rather a file than a repository
  expect.match(found "Org/Name@../../x", "the Hub cache has no ")
  expect.match(found "Org/Other",
               "^there is no folder or file Org/Other, and the Hub cache has no .*/hub/models%-%-Org%-%-Other; to fetch it: cftrun fetch Org/Other$")
  os.remove(at .. "/config.json")
  expect.match(found "Org/Name", "has no config.json: its download was not finished, .*; to fetch the rest: cftrun fetch Org/Name$")
  files.write(at .. "/adapter_config.json", "{}")
  expect.match(found "Org/Name", "Org/Name, .*/" .. commit .. " is an adapter such as LoRA's .* the folder of the result$")
  os.remove(at .. "/adapter_config.json")
  files.write(at .. "/a.gguf", "")
  files.write(at .. "/b.gguf", "")
  expect.match(found "Org/Name", "has 2 GGUF files; name one: a.gguf, b.gguf")
end

local function what_is_no_model(folder)
  local function problem(path, text)
    local found, why = hub.find(path)
    expect.same(found, nil)
    expect.match(why, text)
    local model, said = models.load(path)
    expect.same({ model, said }, { nil, why })
  end
  local pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" .. ("0"):rep(64) .. "\nsize 7\n"
  for _, name in ipairs { "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json" } do
    local at = folder .. "/" .. name:gsub("%W", "")
    files.write(at .. "/config.json", "{}")
    files.write(at .. "/" .. name, pointer)
    problem(at, "/" .. name:gsub("%p", "%%%0") .. " is a pointer of Git LFS, not the file it stands for; to fetch that: git lfs pull$")
  end
  files.write(folder .. "/x.gguf", pointer)
  problem(folder .. "/x.gguf", "/x%.gguf is a pointer of Git LFS")
  files.write(folder .. "/lora/adapter_config.json", "{}")
  files.write(folder .. "/lora/adapter_model.safetensors", "")
  problem(folder .. "/lora", "/lora is an adapter such as LoRA's %(it has adapter_config.json%), no whole model; merge it")
  files.write(folder .. "/sd/model_index.json", "{}")
  problem(folder .. "/sd", "/sd is a pipeline of diffusers %(it has model_index.json%), no language model$")
end

local function paths(folder)
  expect.same(hub.find(folder), folder)
  files.write(folder .. "/x.gguf", "")
  files.write(folder .. "/x.txt", "")
  expect.same(hub.find(folder .. "/x.gguf"), folder .. "/x.gguf")
  expect.fails("is a file, but no .gguf", hub.find(folder .. "/x.txt"))
  expect.fails("there is no folder or file /none/at/all$", hub.find "/none/at/all")
  expect.fails("no model was named", hub.find "")
end

-- ---- a real file -------------------------------------------------------------------------------

local function smollm2()
  local g = models.gguf(cached.path "smollm2")
  expect.same(g.config, {
    architectures = { "LlamaForCausalLM" }, model_type = "llama", hidden_act = "silu",
    hidden_size = 576, num_hidden_layers = 30, num_attention_heads = 9, num_key_value_heads = 3,
    intermediate_size = 1536, max_position_embeddings = 8192, rms_norm_eps = 1e-05,
    rope_theta = 100000, head_dim = 64, vocab_size = 49152, tie_word_embeddings = true,
    attention_bias = false, mlp_bias = false, bos_token_id = 1, eos_token_id = 2, pad_token_id = 2,
  })
  expect.same(#g:names(), 272)
  local t = g:tensor "model.layers.29.self_attn.q_proj.weight"
  expect.same(t:shape(), { 576, 576 })
  t:release()
  g:release()
end

return {
  { "a folder of Hugging Face", folder_of_hugging_face },
  { "a tensor is the mapped file", a_tensor_is_the_mapped_file },
  { "types that cft has not", types_that_cft_has_not },
  { "tensors are written", in_folder(writing) },
  { "GGUF: llama", llama },
  { "GGUF: qwen2", qwen2 },
  { "GGUF: models that are not ours", in_folder(models_that_are_not_ours) },
  { "GGUF: SmolLM2", smollm2 },
  { "state", in_folder(state) },
  { "checkpoints", in_folder(checkpoints) },
  { "hub: what is no model is named as what it is", in_folder(what_is_no_model) },
  { "hub: names in the cache", in_folder(names_in_the_cache) },
  { "hub: paths", in_folder(paths) },
}

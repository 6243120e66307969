-- Saving keeps what was loaded: number spellings, harmless keys, chat templates, other files of the folder.

local expect = require "tests.expect"
local host = require "cft.host"
local json = require "cft.base.json"
local models = require "cft.models"
local process = require "tests.process"
local saves = require "cft.io.save"
local tokenizers = require "cft.text.tokenizer"

local function contents(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "*a"
  file:close()
  return text
end

-- All bytes and a few merges.
local tokenizer = json.encode {
  added_tokens = json.array {}, pre_tokenizer = { type = "ByteLevel", add_prefix_space = false },
  decoder = { type = "ByteLevel" }, model = assert(json.read "tests/golden/tokenizer/components.json").tiny,
}
local small = { arch = "llama", d = 8, layers = 1, heads = 2, ffn = 12, vocab = 264 }

-- A saved model, with what `files` has in place of its own; and where it was saved again.
local function saved_again(files, opts)
  local folder, again = process.folder() .. "/m", process.folder() .. "/again"
  local m = models.new(small)
  m:save(folder)
  m:release()
  for name, text in pairs(files) do
    if type(text) == "function" then text = text(contents(folder .. "/" .. name)) end
    os.execute("mkdir -p " .. (folder .. "/" .. name):match "^(.*)/")
    process.write(folder .. "/" .. name, text)
  end
  m = assert(models.load(folder))
  m:save(again, opts)
  m:release()
  return again, folder
end

return {
  { "a new model's floats are written as floats", function()
    local folder = process.folder() .. "/m"
    local shape = { scaling = { type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4,
                                original_max_position_embeddings = 256 } }
    for key, value in pairs(small) do shape[key] = value end
    local m = models.new(shape)
    m:save(folder)
    m:release()
    local text = contents(folder .. "/config.json")
    for _, line in ipairs { '"factor": 8.0', '"low_freq_factor": 1.0', '"high_freq_factor": 4.0',
                            '"rope_theta": 10000.0', '"original_max_position_embeddings": 256', '"hidden_size": 8' } do
      expect.truthy(text:find(line .. "[,\n]"), line .. " in " .. text)
    end
  end },

  { "numbers keep their spelling, harmless keys their value", function()
    local again = saved_again {
      ["config.json"] = function(text)
        return (text:gsub("^{", [[{
  "rope_scaling": { "type": "linear", "factor": 4.0 }, "temperature": 1.0, "unsloth_version": "2024.9",
  "id2label": { "0": "a" }, "transformers.js_config": { "x": [1.50, 2, null] }, "use_cache": false,]], 1)
          :gsub('"rms_norm_eps": [^\n]*', '"rms_norm_eps": 1E-5,'):gsub('"rope_parameters": {.-},', "")
          :gsub('"rope_theta": 10000.0', '"rope_theta": 500000'))
      end,
      ["generation_config.json"] = '{ "temperature": 1.0, "top_p": 0.90, "eos_token_id": [3, 4], "top_k": 50 }',
    }
    local text = contents(again .. "/config.json")
    for _, line in ipairs { '"factor": 4.0', '"temperature": 1.0', '"unsloth_version": "2024.9"',
                            '"rms_norm_eps": 1E%-5', '"rope_theta": 500000', '1.50', '"use_cache": false',
                            '"0": "a"', '2', 'null' } do
      expect.truthy(text:find(line .. "[,\n]"), line .. " in " .. text)
    end
    text = contents(again .. "/generation_config.json")
    expect.same(json.decode(text), { temperature = 1, top_p = 0.9, eos_token_id = { 3, 4 }, top_k = 50 })
    for _, line in ipairs { '"temperature": 1.0', '"top_p": 0.90', '"top_k": 50' } do
      expect.truthy(text:find(line .. "[,\n]"), line .. " in " .. text)
    end
  end },

  { "named chat templates are kept, from a list in tokenizer_config.json", function()
    local again = saved_again {
      ["tokenizer.json"] = tokenizer,
      ["tokenizer_config.json"] = json.encode { chat_template = json.array { { name = "default", template = "D" },
        { name = "tool_use", template = "T{{ x }}" }, { name = "rag", template = "R" } } },
    }
    expect.same(contents(again .. "/chat_template.jinja"), "D")
    expect.same(contents(again .. "/additional_chat_templates/tool_use.jinja"), "T{{ x }}")
    expect.same(contents(again .. "/additional_chat_templates/rag.jinja"), "R")
    expect.same(json.read(again .. "/tokenizer_config.json").chat_template, nil)
    expect.same({ saves.verify(again) }, { true })
    local tok = tokenizers.load(again)
    expect.same({ tok.chat_template, tok.named_templates }, { "D", { tool_use = "T{{ x }}", rag = "R" } })
  end },

  { "named chat templates are kept, from files, which go before tokenizer_config.json", function()
    local again, folder = saved_again {
      ["tokenizer.json"] = tokenizer, ["tokenizer_config.json"] = json.encode { chat_template = "of the config" },
      ["additional_chat_templates/tool_use.jinja"] = "T", ["additional_chat_templates/notes.txt"] = "no template",
    }
    expect.same({ tokenizers.load(folder).chat_template, tokenizers.load(again).named_templates },
                { nil, { tool_use = "T" } })
    expect.same(contents(again .. "/chat_template.jinja"), nil)
  end },

  { "a chat template's name is that of a file, and its template a text", function()
    local function refuses(pattern, named)
      local folder = process.folder()
      process.write(folder .. "/tokenizer.json", tokenizer)
      process.write(folder .. "/tokenizer_config.json", json.encode { chat_template = json.array { named } })
      expect.raises(pattern, tokenizers.load, folder)
    end
    refuses("tokenizer_config.json: a chat template's name is wanted, got ../x", { name = "../x", template = "T" })
    refuses("a chat template's name is wanted, got nil", { template = "T" })
    refuses("a chat template's name is wanted, got nil", "T")
    refuses("chat template 'a' is no text", { name = "a", template = 7 })
  end },

  { "tokenizer_config.json keeps its numbers' spelling", function()
    local again = saved_again { ["tokenizer.json"] = tokenizer, ["tokenizer_config.json"] =
      '{"model_max_length": 1000000000000000019884624838656, "x": {"y": 1.0}}' }
    local text = contents(again .. "/tokenizer_config.json")
    expect.truthy(text:find('"model_max_length":1000000000000000019884624838656', 1, true), text)
    expect.truthy(text:find('"x":{"y":1.0}', 1, true), text)
  end },

  { "other files of the folder go with the model; weights of other formats and stale facts do not", function()
    local licence = "a\0b\r\n"
    local again, folder = saved_again {
      LICENSE = licence, ["merges.txt"] = "m", ["tokenizer.model"] = "v", ["pytorch_model.bin"] = "w",
      ["model.gguf"] = "w", ["added_tokens.json"] = "{}", [".hidden"] = "h", ["onnx/model.onnx"] = "w",
      ["optimizer.pt"] = "o",
    }
    local names = host.list(again)
    table.sort(names)
    expect.same(names, { "LICENSE", "checksums.xxh128", "config.json", "generation_config.json", "merges.txt",
                         "model.safetensors", "tokenizer.model" })
    expect.same({ contents(again .. "/LICENSE"), saves.verify(again) }, { licence, true })

    local m = assert(models.load(again))  -- over itself, and again: all of it stays
    m:save(again)
    m:save(again)
    m:release()
    expect.same({ contents(again .. "/LICENSE"), saves.verify(again) }, { licence, true })
    m = assert(models.load(folder))
    expect.raises("would remove its '.hidden'", m.save, m, folder)
    m:release()
    expect.same(contents(folder .. "/.hidden"), "h")
  end },

  { "a folder with anything else in it is not given up for a model", function()
    local m = models.new(small)
    local function refuses(name)
      local folder = process.folder()
      os.execute("mkdir -p " .. (folder .. "/" .. name):match "^(.*)/")
      process.write(folder .. "/" .. name, "precious")
      expect.raises("saving a model there would remove its '" .. name:match "^[^/]*" .. "'", m.save, m, folder)
      expect.same({ contents(folder .. "/" .. name), #host.list(folder) }, { "precious", 1 })
    end
    refuses "thesis"
    refuses "photos/cat"
    refuses "state.msgpack"
    refuses "pytorch_model.bin"
    local folder = process.folder()  -- empty, then with a model
    m:save(folder)
    m:save(folder)
    m:release()

    local from, to = process.folder() .. "/m", process.folder()
    os.rename(folder, from)
    process.write(from .. "/README.md", "its own")
    process.write(to .. "/README.md", "another's")
    m = assert(models.load(from))
    expect.raises("would remove its 'README.md'", m.save, m, to)
    process.write(to .. "/README.md", "its own")
    m:save(to)
    m:release()
  end },
}

-- Embedding and head: tied by config.json or by what the files hold, and never grown unasked.

local configs = require "cft.models.config"
local expect = require "tests.expect"
local json = require "cft.base.json"
local models = require "cft.models"
local op = require "tests.op"
local process = require "tests.process"
local safetensors = require "cft.io.safetensors"
local tensor = require "cft.engine.tensor"

local D, V = 16, 24

-- A saved model of which `change(named)` replaced tensors, by name; config.json gets `keys`.
local function folder_of(opts, keys, change)
  local folder = process.folder() .. "/m"
  local m = models.new { arch = "llama", d = D, layers = 1, heads = 2, ffn = 20, vocab = V, seed = 3, tied = opts.tied }
  m:save(folder)
  tensor.scope(function()
    local named, entries = {}, {}
    for name, t in m:named() do named[name] = t end
    change(named)
    for name, t in pairs(named) do entries[#entries + 1] = { name = name, tensor = t } end
    safetensors.write(folder .. "/model.safetensors", entries)
  end)
  m:release()
  os.remove(folder .. "/checksums.xxh128")  -- of the weights that were there before
  local config = assert(json.read(folder .. "/config.json"))
  for key, value in pairs(keys) do config[key] = value end
  process.write(folder .. "/config.json", json.encode(config))
  return folder
end

local function random(rows) return tensor.zeros({ rows, D }):normal_(9, 0, 0, 0.1) end

local function head_of(m)
  return tensor.scope(function() return op.numbers(tensor.contiguous(m.weights.head)) end)
end

local function loads(folder, opts, fn)
  local m = assert(models.load(folder, opts))
  fn(m)
  m:release()
end

return {
  { "tied by config, another head in the file: the head is kept, said, and saved", function()
    local theirs
    local folder = folder_of({ tied = false }, { tie_word_embeddings = true }, function(named)
      named["lm_head.weight"] = random(V)
      theirs = op.numbers(named["lm_head.weight"])
    end)
    local saved = process.folder() .. "/again"
    loads(folder, nil, function(m)
      expect.same({ m.config.tied, #m.notes }, { false, 1 })
      expect.match(m.notes[1], "tie_word_embeddings is true, but the files have a 'lm_head.weight' that is not")
      expect.same(head_of(m), theirs)
      m:save(saved)
    end)
    loads(saved, nil, function(m)
      expect.same({ m.config.tied, m.notes }, { false, {} })
      expect.same(head_of(m), theirs)
    end)
  end },

  { "tied by config, the embedding again as head: tied, nothing said", function()
    local folder = folder_of({ tied = true }, {}, function(named)
      named["lm_head.weight"] = named["model.embed_tokens.weight"]
    end)
    loads(folder, nil, function(m) expect.same({ m.config.tied, m.notes }, { true, {} }) end)
  end },

  { "tied by config, a head that differs by less than bf16 holds: tied in bf16, not in f32", function()
    local folder = folder_of({ tied = true }, {}, function(named)
      local head = tensor.zeros { V, D }
      head:copy_(named["model.embed_tokens.weight"])
      local row = tensor.narrow(head, 0, 7, 1)
      row:fill_(1 + 2 ^ -20)
      tensor.narrow(named["model.embed_tokens.weight"], 0, 7, 1):fill_(1)
      named["lm_head.weight"] = head
    end)
    loads(folder, { dtype = "bf16" }, function(m) expect.same(m.config.tied, true) end)
    loads(folder, { dtype = "f32" }, function(m) expect.same(m.config.tied, false) end)
  end },

  { "tied by config, the head alone in the file: it is the embedding", function()
    local theirs
    local folder = folder_of({ tied = true }, {}, function(named)
      named["lm_head.weight"], named["model.embed_tokens.weight"] = named["model.embed_tokens.weight"], nil
      theirs = op.numbers(named["lm_head.weight"])
    end)
    loads(folder, nil, function(m)
      expect.same(m.config.tied, true)
      expect.same(head_of(m), theirs)
    end)
  end },

  { "not tied, and no head or no embedding: refused by name", function()
    local function without(name)
      local folder = folder_of({ tied = false }, {}, function(named) named[name] = nil end)
      expect.raises("no tensor '" .. name .. "'", models.load, folder)
    end
    without "lm_head.weight"
    without "model.embed_tokens.weight"
    local folder = folder_of({ tied = true }, {}, function(named) named["model.embed_tokens.weight"] = nil end)
    expect.raises("no tensor 'model.embed_tokens.weight'", models.load, folder)
  end },

  { "head or embedding of another size than config says: refused, growing asked or not", function()
    for _, name in ipairs { "lm_head.weight", "model.embed_tokens.weight" } do
      for _, rows in ipairs { V - 4, V + 4 } do
        local folder = folder_of({ tied = false }, {}, function(named) named[name] = random(rows) end)
        local message = ("'%s' is (%d, %d); config.json makes it (%d, %d)"):format(name, rows, D, V, D)
        message = message:gsub("[()]", "%%%0")
        expect.raises(message, models.load, folder)
        expect.raises(message, models.load, folder, { vocab = V + 8 })
      end
    end
    local folder = folder_of({ tied = false }, { tie_word_embeddings = true }, function(named)
      named["lm_head.weight"] = random(V - 4)
    end)
    expect.raises("'lm_head.weight' is %(20, 16%)", models.load, folder)
  end },

  { "rows are grown where vocab asks, and by model:read only from the number it is told", function()
    local folder = folder_of({ tied = false }, {}, function() end)
    local larger = { vocab = V + 3 }
    loads(folder, larger, function(m)
      local head = head_of(m)
      expect.same({ m.config.vocab, #head }, { V + 3, (V + 3) * D })
      local mean = 0
      for row = 0, V - 1 do mean = mean + head[row * D + 1] / V end
      for row = V, V + 2 do expect.close(head[row * D + 1], mean, 1e-6) end
      local source = safetensors.folder(folder)
      expect.raises("'model.embed_tokens.weight' is %(24, 16%); config.json makes it %(27, 16%)", m.read, m, source)
      expect.raises("'model.embed_tokens.weight' is %(24, 16%)", m.read, m, source, { grow_from = 23 })
      expect.raises("unknown option 'grow'", m.read, m, source, { grow = true })
      m:read(source, { grow_from = V })
      source:release()
      expect.same(configs.write(m.config, "f32").vocab_size, V + 3)
    end)
  end },
}

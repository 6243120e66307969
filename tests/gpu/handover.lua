--- Put a shape and a batch where PyTorch can read them:
--    cftrun tests/gpu/handover.lua MODEL TOKENS LENGTH FOLDER
-- FOLDER gets config.json and batch.safetensors, which tests/oracle/bench_pytorch.py takes.

local configs = require "cft.models.config"
local files = require "cft.io.files"
local host = require "cft.host"
local json = require "cft.base.json"
local step = require "cft.cli.bench.step"
local tensor = require "cft.engine.tensor"

local name, tokens, length, folder = arg[1], tonumber(arg[2]), tonumber(arg[3]), arg[4]
local shape = assert(require("cft.models.shapes").named(name), "no such shape")

local config = { eps = 1e-6, init = 0.02, tied = false, head_dim = shape.d / shape.heads }
for k, v in pairs(shape) do config[k] = v end

local _, sequences, weights = step.batch(shape.vocab, tokens, 1, { length })
local ids, w, cu = {}, {}, { 0 }
for s, list in ipairs(sequences) do
  for j, id in ipairs(list) do
    ids[#ids + 1], w[#w + 1] = id, j == 1 and 0 or weights[s][j]
  end
  cu[#cu + 1] = #ids
end

host.make_folders(folder)
files.write(folder .. "/config.json", json.encode(configs.write(config, "bf16")) .. "\n")
files.write_tensors(folder .. "/batch.safetensors", {
  { name = "ids", tensor = tensor.new(ids, { dtype = "i32" }) },
  { name = "cu_seqlens", tensor = tensor.new(cu, { dtype = "i32" }) },
  { name = "weights", tensor = tensor.new(w) },
})

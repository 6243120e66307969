--- What stands in a model's folder beside the model: a licence, a card, code, a slow tokenizer's vocabulary. It is
-- kept where the model is saved, and nothing of another folder's is removed for a model.

local blame = require "cft.base.blame"
local host = require "cft.host"

local M = {}

-- What a saved model has anew, or must not have: what says again, differently after training, what is said there.
local ours = {
  "^config%.json$", "^generation_config%.json$", "^tokenizer%.json$", "^tokenizer_config%.json$",
  "^special_tokens_map%.json$", "^added_tokens%.json$", "^chat_template%.jinja$", "^additional_chat_templates$",
  "^checksums%.xxh128$", "^state%.msgpack$", "^adapter_config%.json$",
}

-- Weights of any format, and their lists.
local weights = {
  "%.safetensors$", "%.index%.json$", "%.bin$", "%.pt$", "%.pth$", "%.ckpt$", "%.h5$", "%.msgpack$", "%.gguf$",
  "%.onnx$", "%.npz$",
}

local function one_of(patterns, name)
  for _, pattern in ipairs(patterns) do
    if name:find(pattern) then return true end
  end
end

local function contents(path)
  local file, why = io.open(path, "rb")
  local text = file and file:read "*a"
  if file then file:close() end
  return text or blame("%s: %s", path, why or "cannot be read")
end

--- The files that go with a model.
-- @string folder that it was loaded from
-- @treturn table a list of names: files of the folder itself that are neither the model's own nor weights nor hidden
function M.names(folder)
  local list = {}
  for _, name in ipairs(host.list(folder) or {}) do
    local other = not (one_of(ours, name) or one_of(weights, name) or name:find "^%.")
    if other and host.kind(folder .. "/" .. name) == "file" then list[#list + 1] = name end
  end
  return list
end

--- Copy them, byte for byte, into a folder that is being saved.
-- @tparam Save save @string folder
function M.copy(save, folder)
  for _, name in ipairs(M.names(folder)) do save:write(name, contents(folder .. "/" .. name)) end
end

--- Refuse a folder of which a save would remove, or change, what is no model's.
-- @string to where a model is to be saved @string[opt] from where it was loaded from
function M.check(to, from)
  local carried = {}
  for _, name in ipairs(from and M.names(from) or {}) do carried[name] = true end
  for _, name in ipairs(host.list(to) or {}) do
    local path = to .. "/" .. name
    local model = name ~= "state.msgpack" and (one_of(ours, name) or name:find "%.safetensors$"
                                               or name:find "%.safetensors%.index%.json$")
    local stays = carried[name] and contents(path) == contents(from .. "/" .. name)
    if not (model or stays) then
      blame("%s: saving a model there would remove its '%s'; give a new folder, or take that file away", to, name)
    end
  end
end

return M

--- A model of random weights that chats: small, with a tokenizer and a chat template, in a folder.
-- @usage local tiny_chat = require "tests.tiny_chat"
-- local eos = tiny_chat(process.folder() .. "/tiny", 128)

local demo = require "cft.demo"
local models = require "cft.models"

--- Write one.
-- @string folder which is made
-- @int context of the model, in tokens
-- @treturn int its end token
return function(folder, context)
  local tok = demo.tokenizer(1)
  tok.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
  local m = models.new { arch = "llama", d = 32, layers = 2, heads = 2, ffn = 48, vocab = tok:size(), tied = true, seed = 2,
                         init = 0.5, context = context }
  m:save(folder, { tokenizer = tok })
  m:release()
  return tok.eos
end

-- The texts of a conversation, whether its contents are texts or lists of parts.

local conversation = require "cft.data.conversation"
local data = require "cft.data.open"
local expect = require "tests.expect"

local function record(user, answer)
  return { messages = { { role = "system", content = "Judge." }, { role = "user", content = user },
    { role = "assistant", content = answer } } }
end

local plain = record("2 + 3?", "It is 5. Conclusion: right")
local parts = record({ { text = "2 " }, { text = "+ 3?" } }, { { text = "It is 5. " }, { text = "Conclusion: right" } })

return {
  { "parts say what one text says", function()
    for _, name in ipairs { "prompt", "answer", "verdict" } do
      expect.same(conversation[name](parts), conversation[name](plain), name)
    end
    expect.same(conversation.prompt(plain), "system\0Judge.\0user\0" .. "2 + 3?")
    expect.same(conversation.answer(plain), "It is 5. Conclusion: right")
    expect.same(conversation.whole(parts), "Judge.\n2 \n+ 3?\nIt is 5. \nConclusion: right")
    expect.same({ conversation.text "a", conversation.text { { text = "a" }, { text = "b" } } }, { "a", "ab" })
    expect.same(data.prompt(parts), conversation.prompt(plain))
  end },

  { "a verdict is that of the parts, else of the text", function()
    expect.same(conversation.verdict(plain), true)
    expect.same(conversation.verdict(record("q", { { text = "Conclusion: right", verdict = false } })), false)
    expect.same(conversation.verdict(record("q", "Conclusion: wrong")), false)
    expect.same(conversation.verdict(record("q", "no more")), nil)
    expect.same(conversation.verdict { question = "q" }, nil)
  end },
}

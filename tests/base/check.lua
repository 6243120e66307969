-- Options: types, defaults, suggestions, and which line an error names.
local blame = require "cft.base.blame"
local check = require "cft.base.check"
local expect = require "tests.expect"

local specs = {
  steps = { "integer", min = 1 },
  warmup = { "number", 0, min = 0 },
  floor = { "number", 0, min = 0, max = 1 },
  shape = { "string", "cosine", one_of = { "cosine", "linear" } },
  weight = { "number|function", optional = true },
  names = { "table", optional = true },
  on = { "boolean", false },
}

local function cosine(opts) return check.options("cosine", opts, specs) end
local function refuses(message, opts)
  return { message, function() expect.raises(message, cosine, opts) end }
end

return {
  { "defaults fill what is absent", function()
    expect.same(cosine { steps = 3 }, { steps = 3, warmup = 0, floor = 0, shape = "cosine", on = false })
  end },
  { "given values win, false included", function()
    local o = check.options("f", { on = false }, { on = { "boolean", true } })
    expect.same(o, { on = false })
  end },
  { "nil is an empty table", function()
    expect.same(check.options("f", nil, { x = { "number", 1 } }), { x = 1 })
  end },
  { "the caller's table is not touched", function()
    local mine = { steps = 3 }
    cosine(mine)
    expect.same(mine, { steps = 3 })
  end },
  { "one of several types", function()
    expect.same(cosine { steps = 1, weight = 2 }.weight, 2)
    expect.same(type(cosine { steps = 1, weight = print }.weight), "function")
  end },

  refuses("cosine: unknown option 'step'; did you mean 'steps'%?$", { step = 10 }),
  refuses("cosine: unknown option 'warm'; did you mean 'warmup'%?$", { steps = 1, warm = 10 }),
  refuses("cosine: unknown option 'zebra'$", { zebra = 1 }),
  refuses("cosine: options have names, but one came as %[1%]$", { 10 }),
  refuses("cosine: options must be a table of names and values, got 10$", 10),
  refuses("cosine: 'steps' is required$", {}),
  refuses("cosine: 'steps' must be an integer, got '10'$", { steps = "10" }),
  refuses("cosine: 'steps' must be an integer, got 1.5$", { steps = 1.5 }),
  refuses("cosine: 'steps' must be an integer, got inf$", { steps = 1 / 0 }),
  refuses("cosine: 'steps' must be 1 or more, got 0$", { steps = 0 }),
  refuses("cosine: 'floor' must be from 0 to 1, got 2$", { steps = 1, floor = 2 }),
  refuses("cosine: 'floor' must be from 0 to 1, got %-?nan$", { steps = 1, floor = 0 / 0 }),
  refuses("'shape' must be one of 'cosine', 'linear', got 'liner'; did you mean 'linear'%?$",
          { steps = 1, shape = "liner" }),
  refuses("'shape' must be one of 'cosine', 'linear', got 3$", { steps = 1, shape = 3 }),
  refuses("'weight' must be a number or function, got 'x'$", { steps = 1, weight = "x" }),
  refuses("'names' must be a table, got a function$", { steps = 1, names = print }),

  { "of two mistakes always the same is named", function()
    for _ = 1, 20 do expect.raises("unknown option 'aa'", cosine, { zz = 1, aa = 2, mm = 3 }) end
  end },

  { "suggestions are near or none", function()
    local names = { "model", "data", "lr", "warmup", "weight_decay" }
    expect.same(check.closest("modle", names), "model")
    expect.same(check.closest("MODEL", names), "model")
    expect.same(check.closest("l", names), "lr")
    expect.same(check.closest("weightdecay", names), "weight_decay")
    expect.same(check.closest("optimizer", names), nil)
    expect.same(check.closest("", names), nil)
  end },

  { "an error names the user's line, through tail calls too", function()
    local line
    local function user() line = debug.getinfo(1, "l").currentline; cosine {} end
    expect.raises("^tests/base/check%.lua:%d+: cosine: 'steps' is required", user)
    local ok, err = pcall(user)
    -- cosine is a tail call into the library, so the innermost line left is user's
    expect.same(ok, false)
    expect.same(tonumber(err:match ":(%d+):"), line)
  end },
  { "a message without any user's frame has no line", function()
    local ok, err = pcall(coroutine.wrap(blame), "lost %s", "soul")
    expect.same({ ok, err }, { false, "lost soul" })
  end },
}

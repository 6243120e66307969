-- A recipe's settings: defaults, the command line, mistakes.
local config = require "cft.config"
local exit = require "cft.base.exit"
local expect = require "tests.expect"
local tensor = require "cft.engine.tensor"
local process = require "tests.process"

local defaults = {
  model = "tiny", lr = 1e-3, batch = 8,              -- common ones
  depth = 2, flash = true, note = "a", sizes = { 1, 2 }, files = {},
  extra = config.optional("number|string", "something"),
  kind = config.key { "string", "all", one_of = { "all", "slip" }, help = "which errors" },
}

local function read(...)
  local copy = {}
  for key, value in pairs(defaults) do copy[key] = value end
  return config.read(copy, { [0] = "recipe.lua", ... })
end

local function reads(argument, key, value)
  return { "reads " .. argument, function() expect.same(read(argument)[key], value) end }
end

local function refuses(message, ...)
  local args = { ... }
  return { "refuses " .. table.concat(args, " "), function()
    local err = expect.raises(message, read, unpack(args))
    expect.same(exit.code(err), exit.USAGE)
  end }
end

local function blames(name, message, bad)
  return { name, function()
    expect.raises("^tests/.-:%d+: config: " .. message, function() config.read(bad, {}) end)
  end }
end

return {
  { "defaults: the recipe's, then the common ones", function()
    local cfg = read()
    expect.same({ cfg.model, cfg.lr, cfg.batch, cfg.depth }, { "tiny", 1e-3, 8, 2 })
    expect.same({ cfg.epochs, cfg.schedule, cfg.clip, cfg.seed }, { 1, "cosine", 1, 42 })
    expect.same({ cfg.data, cfg.steps, cfg.extra, cfg.preview }, {})
    expect.same({ cfg.demo, cfg.dry_run, cfg.resume }, { false, false, false })
  end },
  { "every key of the product's list is common", function()
    local cfg = config.read({}, {})
    for name in ([[model data out template steps epochs batch tokens lr warmup weight_decay clip schedule
                   seed dtype device heldout eval_every save_every]]):gmatch "%S+" do
      local _ = cfg[name]  -- an unknown one raises
    end
  end },

  reads("lr=1e-5", "lr", 1e-5), reads("lr=0x10", "lr", 16), reads("depth=-3", "depth", -3),
  reads("steps=20", "steps", 20), reads("steps=", "steps", nil),
  reads("flash=false", "flash", false), reads("flash=NO", "flash", false), reads("flash=1", "flash", true),
  reads("note=x=y z", "note", "x=y z"), reads("note=", "note", ""), reads("note=12", "note", "12"),
  reads("sizes=3,4,5", "sizes", { 3, 4, 5 }), reads("sizes=", "sizes", {}), reads("files=a,b", "files", { "a", "b" }),
  reads("extra=7", "extra", 7), reads("extra=seven", "extra", "seven"), reads("extra=", "extra", nil),
  reads("kind=slip", "kind", "slip"),
  reads("heldout=60", "heldout", 60), reads("heldout=test.jsonl", "heldout", "test.jsonl"),
  reads("data=one.json", "data", "one.json"), reads("data=one.json,two.json", "data", { "one.json", "two.json" }),
  reads("length=cut_context", "length", "cut_context"), reads("beta2=0.95", "beta2", 0.95),
  reads("max_tokens=100", "max_tokens", 100), reads("drop_last=yes", "drop_last", true),
  reads("--demo", "demo", true), reads("--dry-run", "dry_run", true),
  reads("--preview=3", "preview", 3), reads("--device=cuda:1", "device", "cuda:1"),
  reads("--resume", "resume", true), reads("--resume=old run", "resume", "old run"),
  { "the last of two wins", function() expect.same(read("lr=1", "lr=2").lr, 2) end },
  { "options with the value behind them", function()
    local cfg = read("--preview", "3", "--device", "cpu", "--resume", "checkpoints/x", "lr=1")
    expect.same({ cfg.preview, cfg.device, cfg.resume, cfg.lr }, { 3, "cpu", "checkpoints/x", 1 })
  end },
  { "--resume takes no setting, option or script for its folder", function()
    for _, after in ipairs { "lr=1", "--demo" } do expect.same(read("--resume", after).resume, true) end
    local _, value, next_one = config.flag({ "--resume", "recipes/x.lua" }, 1)
    expect.same({ value, next_one }, { true, 2 })
  end },

  refuses("^unknown key 'lrr'; did you mean 'lr'%?$", "lrr=1"),
  refuses("^unknown key 'warm_up'; did you mean 'warmup'%?$", "warm_up=1"),
  refuses("^unknown key 'zebra'$", "zebra=1"),
  refuses("^unknown key 'learning_rate'; did you mean 'lr'%?$", "learning_rate=1"),
  refuses("^unknown key 'batch_size'; did you mean 'batch'%?$", "batch_size=8"),
  refuses("^unknown option '%-%-learning%-rate=1e%-5'; say lr=1e%-5$", "--learning-rate=1e-5"),
  refuses("^unknown option '%-%-batch_size'; say batch=VALUE$", "--batch_size", "8"),
  refuses("^lr=fast: 'lr' must be a number, got 'fast'$", "lr=fast"),
  refuses("^lr=nan: 'lr' must be a number, got 'nan'$", "lr=nan"),
  refuses("^lr=: 'lr' must be a number, got ''$", "lr="),
  refuses("^lr=%-1: 'lr' must be 0 or more, got %-1$", "lr=-1"),
  refuses("^batch=1.5: 'batch' must be an integer, got 1.5$", "batch=1.5"),
  refuses("^batch=0: 'batch' must be 1 or more, got 0$", "batch=0"),
  refuses("^flash=maybe: 'flash' must be a boolean, got 'maybe'$", "flash=maybe"),
  refuses("^sizes=1,x: 'sizes' must be a table, got '1,x'$", "sizes=1,x"),
  refuses("^dtype=b16: 'dtype' must be one of 'auto', 'f32', 'bf16', got 'b16'; did you mean 'bf16'%?$", "dtype=b16"),
  refuses("^kind=slipp: 'kind' must be one of 'all', 'slip', got 'slipp'; did you mean 'slip'", "kind=slipp"),
  refuses("^length=cut: 'length' must be one of 'drop', 'cut_context', 'llamafactory', got 'cut'; did you mean 'cut_context'%?$", "length=cut"),
  refuses("^'fast' is neither key=value nor an option$", "fast"),
  refuses("^'=3' is neither key=value nor an option$", "=3"),
  refuses("^unknown option '%-%-demoo'; did you mean '%-%-demo'%?$", "--demoo"),
  refuses("^unknown option '%-%-lr=1e%-5'; say lr=1e%-5$", "--lr=1e-5"),
  refuses("^unknown option '%-%-save%-every'; say save_every=VALUE$", "--save-every", "5"),
  refuses("^%-%-preview wants N behind it$", "--preview"),
  refuses("^%-%-preview=x: '%-%-preview' must be an integer, got 'x'$", "--preview", "x"),
  refuses("^%-%-demo takes no value$", "--demo=yes"),
  refuses("^%-%-allow%-change goes with %-%-resume$", "--allow-change", "lr"),
  refuses("^%-%-allow%-change lrr: no key 'lrr'; did you mean 'lr'%?$", "--resume", "--allow-change=steps,lrr"),
  { "--allow-change takes keys, with commas", function()
    expect.same(read("--resume", "--allow-change", "lr,depth").allow_change, { "lr", "depth" })
  end },

  { "each key is declared once, with a group and what resume thinks of it", function()
    local seen = {}
    for _, list in ipairs { config.common, config.further } do
      for _, row in ipairs(list) do
        local name, spec = row[1], row[2]
        expect.same(seen[name], nil, name)
        seen[name] = true
        expect.truthy(spec.help and spec.group, name .. " has help and a group")
      end
    end
    expect.same(config.key({ "number", 1 }).resume, "same")
    expect.raises("^tests/.-:%d+: config.key: resume is same, free or resolved, got 'often'$",
                  function() config.key { "number", resume = "often" } end)
  end },
  { "a stage's settings are those of its group, as they are", function()
    local cfg = read("beta2=0.95", "seed=7")
    expect.same(config.group(cfg, "data").limit_bad, 0)
    expect.same({ config.group(cfg, "batch").seed, config.group(cfg, "optim").beta2 }, { 7, 0.95 })
    expect.same(config.group(cfg, "forward"), { skip = true, deterministic = false, gradients = "f32" })
    expect.same(config.group(config.complete { beta2 = 0.5 }, "optim").beta2, 0.5)
  end },
  { "a deterministic run on the CPU sums its products in generation's order, another one does not", function()
    for _, deterministic in ipairs { true, false } do
      require("cft.recipe.find").device(read("device=cpu", "deterministic=" .. tostring(deterministic)), { say = function() end })
      expect.same(tensor.set_rows_alone("cpu", deterministic), deterministic)
    end
  end },
  { "a plain table's values are checked as those of a recipe are", function()
    expect.raises("^tests/.-:%d+: config: 'optimizer' must be one of 'adamw', 'lion', got 'adam'; did you mean 'adamw'%?$",
                  function() config.complete { optimizer = "adam" } end)
    expect.raises("^tests/.-:%d+: config: 'batch' must be an integer, got '4'$", function() config.complete { batch = "4" } end)
    local err = expect.raises("^cache: token ids are not kept", config.complete, { cache = "x" })
    expect.same(require("cft.base.exit").code(err), 2)
  end },
  { "what resume compares: keys of the recipe's own too, but for free ones", function()
    local cfg = config.read({ depth = 2, note = config.key { "string", "a", resume = "free" } }, { "depth=3", "out=x", "lr=1" })
    local list = config.identity(cfg)
    expect.same({ list.depth.value, list.lr.value, list.lr.default, list.data.resolved }, { 3, 1, 5e-6, true })
    for _, name in ipairs { "note", "out", "eval_every", "save_every", "device", "quarantine" } do expect.same(list[name], nil, name) end
    list = config.identity(config.complete { depth = 3, demo = true, lr = 1 })
    expect.same({ list.depth.value, list.lr.value, list.clip.value, list.demo }, { 3, 1, 1 })
  end },

  { "a key that is not one is an error where it is read or set", function()
    local cfg = read()
    expect.raises("^tests/.-:%d+: config: no key 'lrr'; did you mean 'lr'%?$", function() return cfg.lrr end)
    expect.raises("no key 'lrr'", function() cfg.lrr = 1 end)
    cfg.steps = 7
    expect.same(cfg.steps, 7)
  end },
  blames("a default of a wrong type", "'lr' must be a number, got 'fast'$", { lr = "fast" }),
  blames("a default out of its range", "'batch' must be 1 or more, got 0$", { batch = 0 }),
  blames("a function is no default", "'f' is a function; a key is", { f = print }),
  blames("an option's name is no key", "'demo' is an option of cftrun and cannot be a key$", { demo = true }),
  blames("keys have names", "keys have names, but one came as %[1%]$", { "lr" }),

  { "a recipe's own key that is a common one but for signs, or what others call it, is refused", function()
    for name, is in pairs { batchsize = "batch", batch_size = "batch", learning_rate = "lr", LearningRate = "lr",
                            saveevery = "save_every", Warmup = "warmup" } do
      expect.raises(("config: '%s' is no setting; '%s' is. A key of your own needs a name"):format(name, is), config.read,
                    { [name] = 3 }, {})
    end
    expect.same(config.read({ batch_of_tests = 3, rate = 2 }, {}).rate, 2)
  end },
  { "--allow-change: several are one list, spaces do not count; --resume= wants a folder", function()
    local cfg = config.read({}, { "--resume", "x", "--allow-change", "lr, batch", "--allow-change=seed" })
    expect.same(cfg.allow_change, { "lr", "batch", "seed" })
    local r = process.cftrun { process.write(process.folder() .. "/r.lua", 'require("cft.config") {}'), "--resume=" }
    expect.same({ r.code, r.err }, { 2, "cftrun: --resume= wants FOLDER behind it\n" })
  end },

  { "RECIPE --help prints the header, own and common keys", function()
    local folder = process.folder()
    local recipe = process.write(folder .. "/r.lua", [[
-- What this recipe does.
local config = require "cft.config"
config { lr = 0.25, depth = 2, kind = config.key { "string", "all", one_of = { "all", "slip" }, help = "which errors" } }
error "not reached"
]])
    for _, args in ipairs { { recipe, "--help" }, { "--help", recipe }, { recipe, "lr=1", "-h" } } do
      local r = process.cftrun(args)
      expect.same({ r.code, r.err }, { 0, "" })
      expect.match(r.out, "^What this recipe does%.\n\nUsage: cftrun " .. recipe:gsub("%p", "%%%0"))
      expect.match(r.out, "\n  depth=2 *\n")
      expect.match(r.out, "\n  kind=all +which errors %(all, slip%)\n")
      expect.match(r.out, "\n  lr=0.25 +peak learning rate")
      expect.match(r.out, "\n  %-%-dry%-run +check")
    end
  end },
  { "the command line reaches cft.config, and mistakes exit with 2", function()
    local recipe = process.write(process.folder() .. "/r.lua", [[
local cfg = require("cft.config") { lr = 0.25 }
print(cfg.lr, cfg.demo, cfg.preview, cfg.device)
]])
    local r = process.cftrun { "--demo", "--preview", "2", recipe, "lr=1e-5", "--device", "cpu" }
    expect.same({ r.code, r.out, r.err }, { 0, "1e-05\ttrue\t2\tcpu\n", "" })
    r = process.cftrun { recipe, "lrr=1" }
    expect.same({ r.code, r.out, r.err }, { 2, "", "cftrun: unknown key 'lrr'; did you mean 'lr'?\n" })
  end },
  { "a key that was is refused with the reason, wherever it stands", function()
    local folder = process.folder()
    local plain = process.write(folder .. "/plain.lua", 'local cfg = require("cft.config") { lr = 0.25 }')
    local with = process.write(folder .. "/with.lua", 'local cfg = require("cft.config") { cache = "tokens" }')
    for _, r in ipairs { process.cftrun { plain, "cache=tokens" }, process.cftrun { with } } do
      expect.same({ r.code, r.out }, { 2, "" })
      expect.match(r.err, "^cftrun: cache: token ids are not kept between runs any more: .* Leave the key out; [^\n]*%$CFT_CACHE\n$")
    end
  end },
}

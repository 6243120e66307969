--- A training recipe from its settings: finds what it needs, checks it, trains, measures, saves.
--
-- Every stage is an object that a recipe or the prompt can take over: `prepare` gives them all,
-- `run` is `prepare` and the usual loop.
-- @usage cft.recipe.run(cft.config { model = "...", data = "..." }, { name = "mine" })

local batch = require "cft.samples.batch"
local blame = require "cft.base.blame"
local chat_template = require "cft.text.chat_check"
local check = require "cft.base.check"
local checkpoint = require "cft.train.checkpoint"
local config = require "cft.config"
local data = require "cft.data.open"
local decontaminate = require "cft.data.decontaminate"
local demo = require "cft.demo"
local exit = require "cft.base.exit"
local files = require "cft.io.files"
local host = require "cft.host"
local json = require "cft.base.json"
local format = require "cft.base.format"
local logs = require "cft.base.log"
local memory = require "cft.train.memory_plan"
local models = require "cft.models"
local optim = require "cft.train.optim"
local preview = require "cft.report.samples"
local samples = require "cft.samples"
local schedule = require "cft.train.schedule"
local template = require "cft.text.template"
local tensor = require "cft.engine.tensor"
local tokenizers = require "cft.text.tokenizer"
local train = require "cft.train"

local M = {}

local spec = {
  name = { "string" },
  fields = { "function", optional = true },    -- record of the file → record of a known schema
  load = { "function", optional = true },      -- path → training source, held-out source
  template = { "table", {} },                  -- options of the template
  missing = { "table", {} },                   -- `model`, `data`: size, and how to get them
  heldout_by = { "function", optional = true }, -- record → what must not be on both sides
}

local function setting(cfg, name)
  local v = rawget(cfg, name)
  if v == nil then return config.default(name) end
  return v
end

-- ---- what is not here ------------------------------------------------------------------------

local function missing(o, list)
  local lines = { "not on this machine:" }
  for _, m in ipairs(list) do
    local hint = o.missing[m.what]
    lines[#lines + 1] = ("  %s %s: %s%s"):format(m.what, m.name, m.why, hint and "\n    " .. hint or "")
  end
  lines[#lines + 1] = "  set model= and data= to what you have; --demo needs neither"
  exit.fail(exit.MISSING, "%s", table.concat(lines, "\n"))
end

-- Both are looked for before either is an error, so that one run names all there is to get.
local function find(cfg, o)
  local absent = {}
  local path, why = require("cft.io.hub").find(cfg.model or "")
  if not path then absent[#absent + 1] = { what = "model", name = cfg.model or "", why = why } end
  local paths = type(cfg.data) == "table" and cfg.data or { cfg.data }
  if #paths == 0 then absent[#absent + 1] = { what = "data", name = "", why = "no data= given" } end
  for _, p in ipairs(paths) do
    local found, problem = data.find(p)
    if not found then absent[#absent + 1] = { what = "data", name = p, why = problem:gsub("^.-: ", "", 1) } end
  end
  if #absent > 0 then missing(o, absent) end
  return path
end

-- ---- the stages ------------------------------------------------------------------------------

local function open_device(cfg, log)
  local d = tensor.default_device(cfg.device)
  local name = tensor.device_name(d)
  local why = cfg.device == "auto" and name == "cpu" and tensor.why_cpu()
  log:say("device %s: %s%s", name, tensor.device_description(d), why and why ~= "" and (" (" .. why .. ")") or "")
  for _, note in ipairs(tensor.notes()) do log:say("%s", note) end
  -- What is fastest is for a clock to say, and two runs may hear of it differently.
  tensor.set_autotune(d, setting(cfg, "autotune") and not setting(cfg, "deterministic"))
  local dtype = cfg.dtype ~= "auto" and cfg.dtype or tensor.best_dtype(d)
  if setting(cfg, "gradients") == "bf16" and dtype ~= "bf16" then
    exit.fail(exit.USAGE, "gradients=bf16 goes with bf16 weights, and this run's are %s; say dtype=bf16", dtype)
  end
  return name, dtype
end

local function sources(cfg, o)
  if o.load then
    local source, heldout = o.load(cfg.data)
    for what, given in pairs { training = source or false, ["held-out"] = heldout } do
      if type(given) ~= "table" or not given.records then
        blame("recipe.run: load gave %s as the source of %s records; cft.data.open and cft.data.list make one",
              type(given) == "table" and "a table" or tostring(given or nil), what)
      end
    end
    return source, heldout
  end
  local source = data.open(cfg.data, { fields = o.fields, limit_bad = setting(cfg, "limit_bad"),
                                       quarantine = setting(cfg, "quarantine"), name = o.name })
  if type(cfg.heldout) == "string" then
    return source, data.open(cfg.heldout, { fields = o.fields, name = "held out" })
  elseif cfg.heldout and cfg.heldout > 0 then
    if setting(cfg, "stream") then
      exit.fail(exit.USAGE, "stream: heldout = %s goes through all records first; give a file of held-out ones, or heldout = 0",
                cfg.heldout)
    end
    return source:split { heldout = cfg.heldout, seed = cfg.seed, by = o.heldout_by }
  end
  return source
end

-- How samples are made. Whoever streams does not go through the records first.
local function sampling(run, source)
  local cfg = run.cfg
  local how = { max_tokens = setting(cfg, "max_tokens") or cfg.tokens, stream = setting(cfg, "stream"),
                say = function(text) run.log:say("%s", text) end }
  for _, name in ipairs { "length", "cut_side", "add_tokens", "no_learned", "all_learned", "double_bos" } do
    how[name] = setting(cfg, name)
  end
  if how.stream and source.parts then exit.fail(exit.USAGE, "stream: a mixture is counted before it is mixed; give one source") end
  return how
end

-- Training records that ask what a benchmark asks are reported, and dropped where that is wanted.
local function clean(source, run, how)
  local benchmarks = setting(run.cfg, "decontaminate")
  if not benchmarks then return source end
  local function say(text) run.log:say("%s", text) end
  if how.stream then
    how.also = decontaminate.watch { files = benchmarks, drop = setting(run.cfg, "decontaminate_drop"), say = say }
    return source
  end
  local kept
  kept, run.contaminated = decontaminate.apply(source, {
    files = benchmarks, drop = setting(run.cfg, "decontaminate_drop"), out = run.out,
    say = say,
  })
  return kept
end

-- What servers write with the model's own chat template should be what is trained on.
local function check_template(run)
  local policy = setting(run.cfg, "template_check")
  if policy == "off" then return end
  local found, why = chat_template.compare(run.chat, run.tokenizer)
  local report = why and "template " .. run.chat.name .. " cannot be compared: " .. why
    or found and #found > 0 and chat_template.report(run.chat, found)
  if not report then return end
  if policy == "strict" then exit.fail(exit.FAILED, '%s\n  template_check = "strict" allows none', report) end
  run.log:say("%s", report)
  run.template_report = report
end

local function new_model(cfg, run)
  if cfg.demo then
    local shape = demo.shape(run.tokenizer:size(), cfg.seed, run.device)
    shape.dtype = run.dtype
    return models.new(shape)
  end
  return models.load(run.path, { dtype = run.dtype, vocab = run.samples.report and #run.samples.report.added > 0 and
                                 run.tokenizer:size() or nil })
end

-- What is no number goes on as it is: the trainer refuses it.
local function scaled(lr, multiplier) return type(multiplier) == "number" and lr * multiplier or multiplier end

-- One run at a time writes into a folder.
local function take(folder)
  local made, why_not = host.make_folders(folder)
  if not made then exit.fail(exit.FAILED, "out '%s': %s", folder, why_not) end
  local lock, why = host.lock(folder .. "/.lock")
  if why == "busy" then  -- perhaps by a run of this process that is over, and not yet collected
    collectgarbage()
    collectgarbage()
    lock, why = host.lock(folder .. "/.lock")
  end
  if not lock then
    exit.fail(exit.FAILED, "%s: %s", folder, why == "busy" and "another run is writing into this folder; "
              .. "give this one another out=" or why)
  end
  return lock
end

--- Everything a run needs, made and checked, nothing trained.
-- @tab cfg of `cft.config` @tab opts `name`; as wanted `fields`, `load`, `template`, `missing`
-- @bool[opt=false] quiet say nothing
-- @treturn table `model`, `tokenizer`, `chat`, `samples`, `batches`, `heldout`, `steps`, `lr`, `log`, ...
function M.prepare(cfg, opts, quiet)
  local o = check.options("recipe.run", opts, spec)
  local run = { cfg = cfg, options = o, name = o.name }
  if not cfg.demo then run.path = find(cfg, o) end
  local trains = not (cfg.dry_run or cfg.preview)
  run.out = trains and cfg.out or nil
  run.lock = run.out and take(run.out)
  run.log = logs.open(run.out, { append = cfg.resume, quiet = quiet })
  run.device, run.dtype = open_device(cfg, run.log)

  run.tokenizer = cfg.demo and demo.tokenizer(cfg.seed) or tokenizers.load(run.path)
  run.chat = template.of(cfg.template or "chatml", next(o.template) and o.template or nil)
  check_template(run)
  local train_source, heldout_source
  if cfg.demo then train_source, heldout_source = demo.sources(cfg) else train_source, heldout_source = sources(cfg, o) end

  for _, note in ipairs(train_source.notes or {}) do run.log:say("%s", note) end
  run.data_hash = train_source.hash and train_source:hash() or nil
  local how = sampling(run, train_source)
  train_source = clean(train_source, run, how)
  run.samples = samples.new(train_source, run.chat, run.tokenizer, how)
  run.log:say("%s", run.samples:describe())
  local packing = { batch = cfg.batch, tokens = cfg.tokens, seed = cfg.seed }
  for _, name in ipairs { "drop_last", "packing", "norm", "rows", "ranks", "share_prefix", "group_by" } do
    packing[name] = setting(cfg, name)
  end
  run.batches = batch.new(run.samples, packing)
  local places = cfg.batch * (cfg.steps or math.floor(run.batches:updates() * cfg.epochs + 0.5))
  if run.samples.fit then run.samples:fit(places) end  -- the weights of a mixture may follow the run
  if heldout_source then
    how.add_tokens, how.stream, how.also = false, false, nil
    run.heldout_samples = samples.new(heldout_source, run.chat, run.tokenizer, how)
    run.log:say("%s", run.heldout_samples:describe())
    run.heldout = batch.new(run.heldout_samples, { batch = cfg.batch, tokens = cfg.tokens, shuffle = false })
  end
  run.steps = cfg.steps or math.floor(run.batches:updates() * cfg.epochs + 0.5)
  if type(cfg.schedule) == "function" then
    run.lr = function(step) return scaled(cfg.lr, cfg.schedule(step, run.steps)) end
  else
    local multiplier = schedule.named(cfg.schedule, cfg.warmup, run.steps)
    run.lr = function(step) return cfg.lr * multiplier(step) end
  end
  run.log:say("%d updates of %d samples (%d an epoch), %d of warm-up, learning rate %g", run.steps,
              cfg.batch, run.batches:updates(), schedule.warmup_steps(cfg.warmup, run.steps), cfg.lr)
  if packing.packing then run.log:say("%s", batch.describe(run.batches:survey(1))) end
  return run
end

-- ---- a run -----------------------------------------------------------------------------------

-- Keep a step within `memory = "8GiB"` by computing blocks again on the way back.
local function plan_memory(run, m)
  local wanted = setting(run.cfg, "memory")
  local plan = memory.plan(m, run.cfg.tokens, wanted and memory.bytes(wanted), tensor.memory(m.device).total)
  if plan.recompute > 0 then m.options.recompute = function(i) return i <= plan.recompute end end
  run.log:say("memory: about %s a step of %d tokens, %d of %d blocks computed again", format.bytes(plan.bytes),
              run.cfg.tokens, plan.recompute, m.config.layers)
end

local function write_summary(run, summary)
  local m = run.model
  local all = { recipe = run.name, model = run.cfg.demo and "demo" or run.cfg.model, device = run.device,
                dtype = m.dtype, parameters = m:count(), peak_bytes = tensor.memory(m.device).peak,
                checkpoint = run.saved or json.null, template_check = run.template_report }
  for k, v in pairs(summary) do all[k] = v end
  if run.out then files.write(run.out .. "/summary.json", json.encode(all, { indent = 2 }) .. "\n") end
  return all
end

--- What `run` calls in its own place, if it is set: how a command gets at a recipe's settings and options.
M.instead = nil

--- Prepare, train, measure, save.
-- @tab cfg of `cft.config` @tab opts see `prepare`
-- @treturn table what summary.json holds
function M.run(cfg, opts)
  if M.instead then return M.instead(cfg, opts) end
  local run = M.prepare(cfg, opts)
  if cfg.preview then
    preview.show(run, cfg.preview)
    return
  end
  run.model = assert(new_model(cfg, run))
  local m = run.model
  if run.tokenizer:size() > m.config.vocab then
    exit.fail(exit.FAILED, "the tokenizer has %d tokens, but the model's vocabulary %d; they are not each other's",
              run.tokenizer:size(), m.config.vocab)
  end
  run.log:say("model %s: %s parameters in %s", cfg.demo and "of the demo" or cfg.model,
              format.count(m:count()), m.dtype)
  if cfg.dry_run then
    run.log:say("dry run: all is there; nothing was trained")
    return
  end
  for _, name in ipairs { "skip", "deterministic", "gradients" } do m.options[name] = setting(cfg, name) end
  run.optim = optim.of(m, function(name) return setting(cfg, name) end)
  plan_memory(run, m)
  run.trainer = train.new {
    model = m, batches = run.batches, optim = run.optim, lr = run.lr, steps = run.steps, log = run.log,
    heldout = run.heldout, eval_every = cfg.eval_every, save_every = cfg.save_every,
    context = setting(cfg, "context_loss"),
    save = run.out and function(t)
      run.saved = checkpoint.save(run, t)
      t.saved_in = run.saved
    end or nil,
  }
  if cfg.resume then
    local from = checkpoint.resume(run, cfg.resume)
    run.log:say("resumed at update %d from %s", run.trainer.done, from)
  end
  local finish = cfg.demo and demo.begin(run) or nil
  local made, summary = run.trainer.done, run.trainer:run()
  if run.samples.stream then run.samples:close() end
  if run.trainer.done == made and not summary.interrupted then  -- what an earlier run wrote stays
    run.log:say("nothing to train: %d of %d updates are made", made, run.steps)
    run.log:close()
    return summary
  end
  summary = write_summary(run, summary)
  if summary.interrupted then
    run.log:close()
    exit.leave(exit.INTERRUPTED)
  end
  run.log:say("loss %.4f -> %.4f%s; %s tokens, %s tok/s, %s", summary.loss_first, summary.loss_last,
              summary.heldout_loss_after and (", held out %.4f -> %.4f"):format(
                summary.heldout_loss_before, summary.heldout_loss_after) or "",
              format.count(summary.tokens), format.count(summary.tokens_per_s), format.duration(summary.seconds))
  if next(summary.ledger_last) then
    run.log:say("  first and last tenth: %s", train.compare(summary.ledger_first, summary.ledger_last))
  end
  if summary.heldout_ledger_after then
    run.log:say("  held out: %s", train.compare(summary.heldout_ledger_before, summary.heldout_ledger_after))
  end
  if run.saved then run.log:say("saved in %s", run.saved) end
  if finish then finish() end
  run.log:close()
  return summary
end

return M

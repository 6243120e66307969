--- The settings of every recipe and the options of a run, each declared once: what it is, what it is for,
-- and whether a run may be resumed with another value. Help, the tables of docs/ (scripts/print_settings.lua),
-- the options of the stages (`cft.config.group`) and the identity of a run come from here.
-- @module cft.config.keys

local check = require "cft.base.check"
local format = require "cft.base.format"
local optim = require "cft.train.optim"
local schedule = require "cft.train.schedule"
local template = require "cft.text.template"

local M = {}

--- Options of a run, which stand before or behind the recipe's path. Each becomes a field of the
-- configuration. `takes`: what follows it; in brackets if it may be left out.
M.flags = {
  ["--demo"] = { field = "demo", help = "tiny built-in model and data, on the CPU" },
  ["--dry-run"] = { field = "dry_run", help = "check all and say what it takes: memory, disk, time; train nothing" },
  ["--preview"] = { field = "preview", takes = "N", help = "show N samples as the model sees them" },
  ["--device"] = { field = "device", takes = "D", help = "cpu, cuda, cuda:1 or auto; same as device=D" },
  ["--resume"] = { field = "resume", takes = "[FOLDER]", help = "go on from the newest checkpoint, or from this one" },
  ["--until"] = { field = "time_limit", takes = "TIME", help = "stop and save in time: 3h, 90m, 2h30m since the start" },
  ["--continue"] = { field = "go_on", help = "go on from the newest checkpoint in out=, or begin where there is none" },
  ["--restarts"] = { field = "restarts", takes = "N", help = "with --ranks: where one is lost, start all again, N times at most" },
  ["--ranks"] = { field = "start_ranks", takes = "N", help = "start N processes of this run by mpirun; docs/multi-gpu.md" },
  ["--trace"] = { field = "trace", takes = "FILE", help = "time every op of a few steps; FILE is for Perfetto" },
  ["--trace-steps"] = { field = "trace_steps", takes = "N-M", help = "the steps that --trace looks at; else the second to the fourth" },
  ["--overwrite"] = { field = "overwrite", help = "begin a new run in an out= that holds another one, which is removed" },
  ["--allow-change"] = { field = "allow_change", takes = "KEY[,KEY]",
                         help = "resume although these are not what they were" },
}

local Key = {}

local resumes = { same = true, free = true, resolved = true }

--- A key with more to say than its default.
-- @tab spec as for `check.options`: `{ "type", default }` and any of `one_of`, `min`, `max`, `optional`; and
-- `help`, one line; `more`, what else the docs say; `group`, the stages that take it, the first one the docs' heading;
-- `resume`, what --resume does about another value: "same", the default, refuses it; "free" goes on; "resolved"
-- compares what the value came to (records, steps) and the value itself only where that cannot be compared; `idle`, a
-- function of a function name → value: why the key does nothing beside these, nil where it does
-- @usage local spec = { "string", "all", one_of = { "all", "slip" }, help = "which errors" }
-- cft.config.read({ kinds = cft.config.key(spec) }, { "kinds=slip" }).kinds   --> "slip"
function M.key(spec)
  spec.resume = spec.resume or "same"
  if not resumes[spec.resume] then
    require "cft.base.blame"("config.key: resume is same, free or resolved, got '%s'", tostring(spec.resume))
  end
  return setmetatable(spec, Key)
end

--- A key that may stay nil.
-- @string kind a type, or several: "number|string"
-- @string[opt] help one line
-- @usage cft.config.read({ rival = cft.config.optional("string", "a second model") }, { "rival=gpt2" }).rival   --> "gpt2"
function M.optional(kind, help) return M.key { kind, optional = true, help = help } end

--- Was this made by `key`?
function M.is(value) return getmetatable(value) == Key end

local function is_size(text)
  local bytes = format.size(text)
  if not bytes or bytes < 1 then return "a size such as 8GiB or 500MiB" end
end

-- A check for keys that take a name, or something that has no name.
local function named(names)
  return function(value)
    if type(value) ~= "string" then return nil end
    for _, name in ipairs(names) do
      if value == name then return nil end
    end
    return "one of " .. table.concat(names, ", ") .. check.suggestion(value, names)
  end
end

local function listed(names) return table.concat(names, ", ", 1, #names - 1) .. " or " .. names[#names] end

-- A benchmark's name is known before anything is loaded.
local function is_benchmark(name)
  local benchmarks = require "cft.eval.benchmarks"  -- which few runs want
  if not benchmarks.known(name) then return ("one of %s, or the path of a Lua file"):format(table.concat(benchmarks.names, ", ")) end
end

-- For `idle`: why a key does nothing, unless a function of other keys' values is true.
local function unless(condition, why)
  return function(get) return not condition(get) and why or nil end
end

-- { name, spec } in the order of help and docs
local function declare(name, spec) return { name, M.key(spec) } end

--- Those that most recipes set.
M.common = {
  declare("model", { "string", optional = true, group = "run", resume = "resolved",
    help = "weights: a folder, a .gguf file, or a name in the local Hub cache" }),
  declare("data", { "string|table", optional = true, group = "data", resume = "resolved",
    help = "training records: a file, or several with commas" }),
  declare("out", { "string", optional = true, group = "run", resume = "free",
    help = "folder for checkpoints, log.jsonl and summary.json" }),
  declare("template", { "string|function|table", optional = true, group = "samples", fits = named(template.names),
    help = "how a record becomes text: " .. table.concat(template.names, ", ") }),
  declare("steps", { "integer", optional = true, min = 0, group = "run", resume = "resolved",
    help = "optimizer steps: how long a run is" }),
  declare("epochs", { "number", 1, min = 0, group = "run", resume = "resolved",
    help = "passes over the data, where nothing else says how long the run is" }),
  declare("batch", { "integer", 32, min = 1, group = "batch", help = "samples an optimizer step" }),
  declare("tokens", { "integer", 8192, min = 1, group = "batch", help = "tokens a micro-batch, at most" }),
  declare("lr", { "number", 5e-6, min = 0, group = "optim", help = "peak learning rate" }),
  declare("warmup", { "number", 0.1, min = 0, group = "optim",
    help = "optimizer steps of linear warm-up; below 1, a share of all" }),
  declare("schedule", { "string|function", "cosine", group = "optim", fits = named(schedule.names),
    help = listed(schedule.names) }),
  declare("seed", { "integer", 42, min = 0, group = "run batch",
    help = "of the order, of new weights and of stochastic rounding" }),
  declare("dtype", { "string", "auto", one_of = { "auto", "f32", "bf16" }, group = "model", resume = "resolved",
    help = "of weights and activations" }),
  declare("device", { "string", "auto", fits = check.device, group = "run", resume = "free",
    help = "cpu, cuda, cuda:1; auto takes a GPU where there is one" }),
  declare("memory", { "string", optional = true, fits = is_size, group = "model", resume = "free",
    help = "a budget such as 8GiB, kept by recomputation of blocks in backward; if absent, a GPU's memory less 1.5 GiB" }),
  declare("heldout", { "number|string", optional = true, min = 0, group = "data", resume = "resolved",
    help = "records kept out of training: how many, a share below 1, or a file" }),
  declare("eval_every", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "optimizer steps between held-out losses" }),
  declare("save_every", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "optimizer steps between checkpoints; if absent, save_minutes says when" }),
  declare("keep", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "checkpoints that stay: so many of the newest, and the best one; all if absent" }),
}

local policy = { "error", "drop", "keep" }

local function has_spikes(get) return get "spike" ~= "off" end

--- Those for who needs them.
M.further = {
  declare("budget_tokens", { "number", optional = true, min = 1, group = "run", resume = "resolved",
    help = "in place of steps: tokens of samples; the optimizer step that reaches it is the last", more = "below" }),
  declare("budget_flops", { "number", optional = true, min = 1, group = "run", resume = "resolved",
    help = "in place of steps: FLOPs, every token computed once", more = "docs/performance.md, \"FLOPs of a step\"" }),
  declare("save_minutes", { "number", 30, min = 0, group = "run", resume = "free",
    idle = unless(function(get) return get "save_every" == nil end, "save_every says when"),
    help = "minutes between checkpoints where save_every is not set, each replaced by the next one; 0: none" }),
  declare("stall", { "number", 600, min = 1, group = "run", resume = "free",
    help = "of several ranks: seconds that the others wait for one that lives and does nothing new, before all end",
    more = "docs/multi-gpu.md, \"When a rank is lost\"" }),
  declare("spike", { "string", "off", one_of = { "off", "skip", "reduce", "stop" }, group = "optim",
    help = "what becomes of a step whose loss or norm is far above the ones before", more = "docs/run-folder.md" }),
  declare("spike_factor", { "number", 6, min = 0, group = "optim", idle = unless(has_spikes, "spike = off looks for none"),
    help = "how far: so many times their spread above their median" }),
  declare("max_tokens", { "integer", optional = true, min = 1, group = "samples",
    help = "longest sample; if absent, the model's context, or what a micro-batch holds if that is less" }),
  declare("length", { "string", "drop", one_of = { "drop", "cut_context", "llamafactory" }, group = "samples",
    help = "what becomes of longer ones", more = "docs/templates.md" }),
  declare("cut_side", { "string", "right", one_of = { "left", "right" }, group = "samples",
    idle = unless(function(get) return get "length" == "cut_context" end, "length = cut_context alone cuts a side"),
    help = "the side cut_context takes from" }),
  declare("no_learned", { "string", "error", one_of = policy, group = "samples",
    help = "samples without a loss token" }),
  declare("all_learned", { "string", "error", one_of = policy, group = "samples",
    help = "samples with nothing but loss tokens" }),
  declare("double_bos", { "string", "error", one_of = policy, group = "samples",
    help = "samples that begin with two begin-of-text tokens" }),
  declare("template_check", { "string", "log", one_of = { "log", "strict", "off" }, group = "run", resume = "free",
    help = "what becomes of differences from the model's own chat template", more = "`strict` makes them an error" }),
  declare("add_tokens", { "boolean", false, group = "samples",
    help = "add tokens of the template that the tokenizer lacks" }),
  declare("stream", { "boolean", false, group = "samples",
    help = "train at once, each record checked when its turn comes", more = "docs/data.md" }),
  declare("limit_bad", { "integer", 0, min = 0, group = "data", help = "unreadable records that are passed over" }),
  declare("quarantine", { "string", optional = true, group = "data", resume = "free",
    help = "file that collects them" }),
  declare("decontaminate", { "string|table", optional = true, group = "data",
    help = "benchmarks whose questions are looked for in the training records", more = "docs/data.md" }),
  declare("decontaminate_drop", { "boolean", false, group = "data",
    help = "leave out the records that were found" }),
  declare("packing", { "boolean", true, group = "batch",
    help = "samples back to back; false: padded rows, as the authors' trainer" }),
  declare("rows", { "integer", 8, min = 1, group = "batch", help = "samples a micro-batch without packing",
    idle = unless(function(get) return not get "packing" or get "norm" ~= "tokens" end,
                  "with packing, and norm = tokens, there are no rows of samples"),
    more = "and of the run that `norm = \"rank_mean\"` and `\"micro_mean\"` follow" }),
  declare("share_prefix", { "boolean", true, group = "batch",
    idle = unless(function(get) return get "packing" end, "without packing nothing is shared"),
    help = "compute once what samples of a pack begin with alike",
    more = "several critiques of one response; docs/data.md, \"Samples that begin alike\"" }),
  declare("shuffle", { "boolean", true, group = "batch", help = "another order of the samples each epoch; false: as they come",
    more = "with `order_by`, among those that it has equal" }),
  declare("order_by", { "string|function", optional = true, group = "batch",
    help = "what samples stand in the order of: length, a field of the record, or either with - in front, for the largest first",
    more = "or a function of the record; docs/data.md, \"Order\"" }),
  declare("group_by", { "string|function", optional = true, group = "batch", fits = named { "prefix" },
    help = "prefix: samples that begin alike stand together in the order",
    more = "or a function of the record: they meet in an optimizer step" }),
  declare("drop_last", { "boolean", false, group = "batch",
    help = "leave out an epoch's last optimizer step if it is short" }),
  declare("norm", { "string", "tokens", one_of = { "tokens", "rank_mean", "micro_mean" }, group = "batch",
    help = "what the loss is a mean of", more = "docs/data.md" }),
  declare("ranks", { "integer", 8, min = 1, group = "batch", help = "ranks that rank_mean imitates",
    idle = unless(function(get) return get "norm" == "rank_mean" end, "norm = rank_mean alone has ranks") }),
  declare("gradients", { "string", "f32", one_of = { "f32", "bf16" }, group = "model forward",
    help = "dtype gradients accumulate in; bf16 with bf16 weights" }),
  declare("skip", { "boolean", true, group = "model forward", help = "compute no logits for tokens without loss",
    more = "such rows skip the head and the last block" }),
  declare("context_loss", { "boolean", false, group = "run", resume = "free",
    help = "of held-out samples, measure query and response as well", more = "below" }),
  declare("attach", { "boolean", true, group = "run", resume = "free",
    help = "let `cftrun attach` run lines in the run, between its steps", more = "docs/cli.md" }),
  declare("select", { "string", optional = true, fits = is_benchmark, group = "run", resume = "free",
    help = "a benchmark that scores the run while it trains, and chooses the best checkpoint", more = "docs/eval.md" }),
  declare("select_every", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "optimizer steps between its scores; a tenth of the run if absent" }),
  declare("retain", { "string", optional = true, fits = is_benchmark, group = "run", resume = "free",
    help = "a benchmark that is measured before and after: what was lost", more = "docs/eval.md" }),
  declare("score_data", { "string", optional = true, group = "run", resume = "free",
    help = "where the data of select and retain are: a folder; the Hub's cache if absent" }),
  declare("score_limit", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "the first so many of their problems; all if absent" }),
  declare("score_max_new", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "tokens of an answer, at most; the benchmark's if absent" }),
  declare("probe_every", { "integer", optional = true, min = 1, group = "run", resume = "free",
    help = "optimizer steps between probes of verdicts on what is held out", more = "docs/eval.md" }),
  declare("probe_steps", { "string", optional = true, group = "run", resume = "free",
    help = "a Lua pattern of the lines that judge a step, with one capture, the verdict", more = "docs/eval.md" }),
  declare("report_samples", { "integer", 4, min = 0, group = "run", resume = "free",
    help = "held-out samples kept for the report, before and after", more = "docs/report.md" }),
  declare("deterministic", { "boolean", false, group = "model forward",
    help = "bit-equal repeats on a GPU; on a CPU log-probabilities with the bits of generation's",
    more = "a GPU's attention backward without atomics, and no `autotune`; docs/cuda.md, docs/generate.md" }),
  declare("autotune", { "boolean", true, group = "model", resume = "free",
    help = "time a GPU's matmuls once and keep the fastest; not with deterministic",
    more = "kept in a file for later runs; false: the library's first suggestion; docs/cuda/matmul.md" }),
}

-- What the docs say more of the optimizers' keys, which are theirs.
local more = {
  optimizer = "docs/add-an-optimizer.md",
  master = "`master = false, moments = \"bf16\", gradients = \"bf16\"` take 8 bytes a parameter in place of 18; "
    .. "docs/numerics.md, docs/cuda/memory-7b.md",
}
for _, row in ipairs(optim.keys) do
  local name, spec = row[1], row[2]
  spec.group, spec.more = "optim", more[name]
  M.further[#M.further + 1] = declare(name, spec)
end

--- Keys that were, and why they are refused.
M.gone = {
  cache = "token ids are not kept between runs any more: of 5 GB a scan took 239 s without a cache, 219 s and 8.9 GB "
    .. "of disk to fill one. Leave the key out; what is kept of large files goes to $CFT_CACHE",
}

--- Names that other trainers have for these keys, to be hinted at.
M.elsewhere = {
  learning_rate = "lr", batch_size = "batch", num_train_epochs = "epochs", max_steps = "steps", output_dir = "out",
  save_steps = "save_every", eval_steps = "eval_every", lr_scheduler_type = "schedule", warmup_steps = "warmup",
  warmup_ratio = "warmup",
}

--- Name → declaration.
M.by_name = {}
for _, list in ipairs { M.common, M.further } do
  for _, row in ipairs(list) do M.by_name[row[1]] = row[2] end
end

return M

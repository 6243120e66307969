--- AdamW: Loshchilov & Hutter 2019 (arXiv 1711.05101), with the defaults of Hugging Face's Trainer.

local check = require "cft.base.check"
local door = require "cft.engine.ffi"
local C, ffi = door.C, door.ffi

local M = { name = "adamw" }

--- What it keeps beside the weights: the first and the second moment.
M.state = { "m", "v" }

M.settings = {
  { "beta1", { "number", 0.9, min = 0, fits = check.below_one, help = "decay of the first moment" } },
  { "beta2", { "number", 0.999, min = 0, fits = check.below_one, help = "decay of the second moment" } },
  { "eps", { "number", 1e-8, min = 0, help = "added to the root of the second moment" } },
}

local step, options = door.call(C.cft_adamw_step, 7), ffi.new "cft_adamw_options"

--- Enqueue the update of a run of weights; see `cft.train.optim`.
function M.update(t, scale, o, at)
  options.lr, options.decay, options.step, options.seed = at.lr, at.decay, at.count, at.seed
  options.beta1, options.beta2, options.eps = o.beta1, o.beta2, o.eps
  step(t.p, t.master, t.m, t.v, t.g, scale, options)
end

return M

--- The order of an epoch: what stands at a place is a function of (seed, epoch, place) alone, see
-- runtime/batch/order.c.
-- @module cft.data.util.order
-- @usage local order = require "cft.data.util.order"
-- print(order.at(42, 0, 7, 100))  -- 0 to 99, and another one for each of the 100 places

local C = require("cft.engine.ffi").C

local M = {}

--- What stands at a place.
-- @int seed
-- @int epoch
-- @int place 0 to n - 1
-- @int n
-- @treturn int 0 to n - 1
function M.at(seed, epoch, place, n) return tonumber(C.cft_order_at(seed, epoch, place, n)) end

return M

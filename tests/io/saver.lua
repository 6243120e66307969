--- Saves beside a running program, from Lua: cft.io.saver.

local expect = require "tests.expect"
local host = require "cft.host"
local process = require "tests.process"
local safetensors = require "cft.io.safetensors"
local saver = require "cft.io.saver"
local saves = require "cft.io.save"
local states = require "cft.io.state"
local tensor = require "cft.engine.tensor"

local DEVICE = os.getenv "CFT_TEST_DEVICE" or "cpu"

local function filled(n, value) return tensor.zeros({ n }, { device = DEVICE }):fill_(value):keep() end

-- A save of two tensors: one as weights, one in a state, which has a number beside it.
local function filler(w, m, step)
  return function(save)
    save:write("config.json", "{}\n")
    save:write_tensors("model.safetensors", { { name = "w", tensor = w } })
    save:write_state("state.msgpack", { step = step, moments = { w = { m = m } } })
  end
end

local function expect_saved(path, w, m, step)
  expect.truthy(saves.verify(path))
  local file, state = safetensors.open(path .. "/model.safetensors"), states.read(path .. "/state.msgpack")
  local values, n = file:tensor("w"):to_host()
  for i = 0, n - 1, 997 do expect.same(values[i], w) end
  values = state.moments.w.m:tensor():to_host()
  for i = 0, n - 1, 997 do expect.same(values[i], m) end
  expect.same(state.step, step)
  file:release()
end

local function one_after_the_other()
  local folder, w, m = process.folder(), filled(300001, 0), filled(300001, 0)
  local self = saver.new(DEVICE, { now = host.now })
  expect.truthy(self:reserve(3e6))
  for step = 1, 3 do
    w:fill_(step)
    m:fill_(-step)
    local path = ("%s/step-%d"):format(folder, step)
    expect.truthy(self:start(path, filler(w, m, step)))
    expect.raises("is not over", self.start, self, folder .. "/other", filler(w, m, step))
    self:copied()
    w:fill_(99)  -- as the next optimizer step would
    m:fill_(99)
    expect.same((self:wait()), "done")
    expect_saved(path, step, -step, step)
  end
  expect.same(#host.list(folder), 3)
  expect.same((self:wait()), "idle")
  local copied, over = self:times()
  expect.truthy(copied > 0 and over >= copied and self.stalled > 0)
  self:release()
end

local function a_failure_is_told()
  local folder, w = process.folder(), filled(1000, 1)
  local self = saver.new(DEVICE)
  process.write(folder .. "/in the way", "")
  expect.raises("there is a file of that name", self.start, self, folder .. "/in the way", filler(w, w, 1))
  expect.raises("cannot be saved", self.start, self, folder .. "/a", function(save)
    save:write_state("x", print)
  end)
  expect.same(host.list(folder), { "in the way" })
  -- The folder above goes while the save is on its way, and a file is in its place.
  expect.truthy(self:start(folder .. "/b/c", function(save)
    filler(w, w, 1)(save)
    saves.remove(folder .. "/b")
    process.write(folder .. "/b", "")
  end))
  self:copied()
  local state, why = self:wait()
  expect.same(state, "failed")
  expect.match(why, "b/c.*Not a directory")
  expect.same((self:look()), "idle")
  expect.truthy(self:start(folder .. "/d", filler(w, w, 2)))
  expect.same((self:wait()), "done")
  self:release()
end

local function who_waits_can_give_up()
  local folder, w = process.folder(), filled(1000, 1)
  local self, asked = saver.new(DEVICE, { retry_s = 100 }), 0
  self:start(folder .. "/a", filler(w, w, 1))
  local state = self:wait(function() asked = asked + 1 end)
  expect.same(state, "done")
  self:start(folder .. "/b", filler(w, w, 1))
  self:release()  -- what is being written is waited for
  expect_saved(folder .. "/b", 1, 1, 1)
end

return {
  { "what is copied may change while it is written", one_after_the_other },
  { "what fails is told, and the next one may be made", a_failure_is_told },
  { "one who waits is told how it goes on", who_waits_can_give_up },
}

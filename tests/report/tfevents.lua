-- Event files for TensorBoard. The bytes below were read back by TensorBoard 2.21.0's EventAccumulator (2026-12-01):
-- tests/oracle/report.py does that with a run's.

local expect = require "tests.expect"
local hash = require "cft.io.hash"
local folders = require "tests.report.folder"
local process = require "tests.process"
local runs = require "cft.report.run"
local tfevents = require "cft.report.tfevents"

local function hex(bytes) return hash.hex(bytes) end

return {
  { "CRC-32C, as RFC 3720 has it", function()
    for _, case in ipairs { { ("\0"):rep(32), 0x8a9136aa }, { ("\255"):rep(32), 0x62a8ab43 }, { "123456789", 0xe3069283 }, { "", 0 } } do
      expect.same(tfevents.crc32c(case[1]), case[2])
    end
  end },
  { "numbers are rounded as Python's struct does", function()
    for _, case in ipairs {
      { 0, "00000000", "0000000000000000" }, { 1, "0000803f", "000000000000f03f" }, { -2, "000000c0", "00000000000000c0" },
      { 0.1, "cdcccc3d", "9a9999999999b93f" }, { 1e-45, "01000000", "b96a37ad01d69636" }, { 1e-40, "c2160100", "9c577727266ca137" },
      { 3.4028235e38, "ffff7f7f", "f8af4de5ffffef47" }, { 1e39, "0000807f", "1d4a9cf487820748" },
      { 16777217, "0000804b", "0000001000007041" }, { 16777219, "0200804b", "0000003000007041" }, { 1 / 3, "abaaaa3e", "555555555555d53f" },
    } do
      expect.same({ hex(tfevents.f32(case[1])), hex(tfevents.f64(case[1])) }, { case[2], case[3] }, tostring(case[1]))
    end
  end },
  { "a file, byte by byte", function()
    local folder = process.folder()
    process.write(folder .. "/log.jsonl", '{"log":1,"run":"r","started":"x"}\n'
      .. '{"step":1,"time":1790000000.25,"tokens":300,"loss":0.1,"lr":0,"ledger":{"verdict":{"loss":2,"tokens":3}},"accuracy":0.5}\n'
      .. '{"step":300,"time":1790000001,"tokens":600,"loss":-1e-40,"heldout_loss":"nan"}\n{"step":-1,"loss":1}\n{"step":0.5}\n')
    local bytes, name = tfevents.of(runs.read(folder))
    expect.same(name, "events.out.tfevents.1790000000.cft")
    expect.same(hex(bytes),
      "1800000000000000a37f4b2209000010e04eacda411a0d627261696e2e4576656e743a32e93836597800000000000000"
      .. "a2a521c509000010e04eacda4110012a6b0a110a0a747261696e2f6c6f737315cdcccc3d0a0f0a08747261696e2f6c72"
      .. "15000000000a130a0c747261696e2f746f6b656e7315000096430a1b0a14747261696e5f6c65646765722f7665726469"
      .. "637415000000400a130a0c6f776e2f6163637572616379150000003f7d896a5036000000000000004f578cef09000040"
      .. "e04eacda4110ac022a280a110a0a747261696e2f6c6f737315c21601800a130a0c747261696e2f746f6b656e73150000"
      .. "1644cd6e64c7")
  end },
  { "cftrun log --tensorboard: a folder a run", function()
    local run, out = folders.run(), process.folder()
    local r = process.cftrun { "log", run, run .. "/", "--tensorboard", out .. "/tb" }
    local name = run:match "[^/]+$"
    local file = "/events.out.tfevents.1790000002.cft"
    expect.same({ r.code, r.err, r.out }, { 0, "", ("written: %s/tb/%s%s\nwritten: %s/tb/%s-2%s\n"):format(out, name, file, out, name, file) })
    expect.same(process.contents(out .. "/tb/" .. name .. file), (tfevents.of(runs.read(run))))
  end },
}

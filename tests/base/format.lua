-- Numbers as people read them.
local expect = require "tests.expect"
local format = require "cft.base.format"

return {
  { "durations", function()
    expect.same({ format.duration(0.4), format.duration(59.4), format.duration(93), format.duration(3599.5),
                  format.duration(36000) }, { "0s", "59s", "1m33s", "1h00m", "10h00m" })
  end },
  { "bytes", function()
    expect.same({ format.bytes(0), format.bytes(1023), format.bytes(1234567), format.bytes(2 ^ 51) },
                { "0 B", "1023 B", "1.18 MiB", "2048.00 TiB" })
  end },
  { "counts", function()
    expect.same({ format.count(9999), format.count(12345), format.count(2.5e6), format.count(7.62e9) },
                { "9999", "12.3k", "2.5M", "7.62B" })
  end },
  { "sizes are read", function()
    expect.same({ format.size "8GiB", format.size " 1.5 kb ", format.size "7B" }, { 2 ^ 33, 1500, 7 })
    for _, none in ipairs { "", "8", "GiB", "8 parsecs", "1.2.3 MB", "-1GB" } do expect.same(format.size(none), nil) end
  end },
}

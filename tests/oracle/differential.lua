--- What cft makes of the cases of differential.py:  cftrun tests/oracle/differential.lua CASES
-- Ends with 1 where one is WRONG.

local found = require("tests.differential").run(arg[1])
print(found:describe())
for _, counts in pairs(found.counts) do
  if counts.WRONG > 0 then os.exit(1) end
end

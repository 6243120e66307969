-- cftrun fetch against a Hub of our own (tests/c/http_server.h) that does as the first part of its URL
-- says. What a single request does is in tests/c/net.c.
local exit = require "cft.base.exit"
local expect = require "tests.expect"
local fetch = require "cft.io.fetch"
local host = require "cft.host"
local process = require "tests.process"

-- ---- the Hub -----------------------------------------------------------------------------------

local server  -- { root =, log =, url =, stdin = }

local function contents(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function program()
  local pipe = io.popen 'readlink /proc/$PPID/exe'
  local path = pipe:read "*l":gsub("[^/]*$", "") .. "tests/http_server"
  pipe:close()
  if not host.kind(path) then skip("there is no " .. path) end
  return path
end

-- The same bytes every time.
local function bytes(n, seed)
  local x, out = seed, {}
  for i = 1, math.ceil(n / 4) do
    x = (x * 1103515245 + 12345) % 2 ^ 31
    out[i] = ("%c%c%c%c"):format(x % 256, x / 256 % 256, x / 65536 % 256, x / 2 ^ 24)
  end
  return table.concat(out):sub(1, n)
end

local files = {  -- of Org/Name at main
  ["config.json"] = '{"model_type":"none"}\n', ["empty"] = "", ["model.safetensors"] = bytes(100000, 1),
  ["onnx/model.onnx"] = bytes(50000, 2), ["onnx/a b#c%.txt"] = "odd\n", ["copy.safetensors"] = bytes(100000, 1),
}

local function put(path, text)
  assert(host.make_folders((path:match "^(.*)/")))
  return process.write(path, text)
end

local function hub()
  if server then return server end
  local root = process.folder()
  server = { root = root, log = root .. "/log" }
  for name, text in pairs(files) do put(root .. "/models/Org/Name/main/" .. name, text) end
  put(root .. "/models/Org/Name/v1!x/config.json", "{}")
  put(root .. "/models/gpt2/main/config.json", "{}")
  put(root .. "/datasets/Org/Set/main/data/train.jsonl", '{"a":1}\n')
  server.stdin = io.popen(("'%s' '%s' '%s' '%s/port'"):format(program(), root, server.log, root), "w")
  local give_up = host.now() + 20
  while not host.kind(root .. "/port") do
    if host.now() > give_up then error "the server does not start" end
    os.execute "sleep 0.02"
  end
  server.url = "http://127.0.0.1:" .. contents(root .. "/port"):match "%d+"
  return server
end

-- What was asked with these faults: lines that have all the texts.
local function asked(faults, ...)
  local n = 0
  for line in io.lines(hub().log) do
    local all = line:find("/" .. faults .. "/", 1, true)
    for _, text in ipairs { ... } do all = all and line:find(text, 1, true) end
    if all then n = n + 1 end
  end
  return n
end

-- A raw answer of the API, for a repository of its own.
local function listing(name, text) put(hub().root .. "/models/Org/" .. name .. "/main/.tree.json", text) end

-- ---- running it --------------------------------------------------------------------------------

local function environment(home, faults, more)
  local env = { HF_HOME = home, HF_ENDPOINT = hub().url .. "/" .. faults, no_proxy = "*", HF_TOKEN = false,
                HUGGING_FACE_HUB_TOKEN = false, HF_TOKEN_PATH = false, HF_HUB_CACHE = false, HUGGINGFACE_HUB_CACHE = false,
                HF_HUB_OFFLINE = false, TRANSFORMERS_OFFLINE = false, HF_HUB_DOWNLOAD_TIMEOUT = "5" }
  for name, value in pairs(more or {}) do env[name] = value end
  return env
end

-- cftrun fetch ARGS in a home of its own, or the one that is given.
local function run(faults, args, env, home)
  home = home or process.folder()
  local words = { "fetch", unpack(args) }
  words.env = environment(home, faults, env)
  local r = process.cftrun(words)
  r.home = home
  return r
end

-- The same through cft.fetch, where tries need not be waited for.
local function patient(faults, opts, home)
  home = home or process.folder()
  opts = "wait = 0.02, " .. opts
  local r = process.cftrun { "-e", ("print(cft.fetch.repo { %s })"):format(opts), env = environment(home, faults) }
  r.home = home
  return r
end

-- It failed, with one line at the end that says so, and nothing stands in the cache.
local function refuses(r, code, message)
  expect.same(r.code, code)
  expect.same(r.out, "")
  expect.match("\n" .. r.err, "\ncftrun: " .. message .. "\n$")
end

local function folder(home, kind, name) return ("%s/hub/%ss--%s"):format(home, kind, (name:gsub("/", "--"))) end

local function expect_snapshot(r, wanted)
  expect.same(r.code == 0 and "" or r.err, "")
  local path = r.out:match "^([^\n]*)\n$"
  local names, pipe = {}, io.popen(("cd '%s' && find . ! -type d | sort"):format(path))
  for name in pipe:lines() do names[#names + 1] = name:sub(3) end
  pipe:close()
  local expected = {}
  for name, text in pairs(wanted) do
    expected[#expected + 1] = name
    expect.truthy(contents(path .. "/" .. name) == text, name .. " is not what the server has")
  end
  table.sort(names)
  table.sort(expected)
  expect.same(names, expected)
  return path
end

local function no_traces(home)
  local pipe = io.popen(("cd '%s' && find . -name '*.incomplete' -o -name '*cft-tmp*'"):format(home))
  expect.same(pipe:read "*a", "")
  pipe:close()
end

-- ---- the cases ---------------------------------------------------------------------------------

local function a_model()
  local r = run("model", { "Org/Name" })
  local path = expect_snapshot(r, files)
  local root = folder(r.home, "model", "Org/Name")
  local commit = contents(root .. "/refs/main")
  expect.same(path, root .. "/snapshots/" .. commit)
  expect.match(commit, "^%x+$")
  expect.same(#commit, 40)
  -- Links are relative, of the depth of each; equal contents share a blob, named by its checksum.
  local pipe = io.popen(("cd '%s' && readlink model.safetensors copy.safetensors 'onnx/model.onnx' empty"):format(path))
  local links = pipe:read "*a"
  pipe:close()
  expect.match(links, "^(%.%./%.%./blobs/%x+)\n%1\n%.%./%.%./%.%./blobs/%x+\n%.%./%.%./blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\n$")
  pipe = io.popen(("sha256sum < '%s/model.safetensors'"):format(path))
  expect.same(pipe:read "*a":match "%x+", links:match "blobs/(%x+)")
  pipe:close()
  expect.same(#host.list(root .. "/blobs"), 5)
  no_traces(r.home)
  expect.same(asked("model", "cdn GET", "model.safetensors") + asked("model", "cdn GET", "copy.safetensors"), 1)

  -- Once more: nothing is fetched.
  local again = run("again", { "Org/Name" }, nil, r.home)
  expect.same({ again.code, again.out }, { 0, r.out })
  expect.match(again.err, "6 files, .* all here\n$")
  expect.same(asked("again", "resolve"), 0)
  -- And cft finds it.
  local found = process.cftrun { "-e", 'print(cft.hub.find "Org/Name")', env = environment(r.home, "none") }
  expect.same(found.out, path .. "\n")
  -- A blob of the wrong size does not count.
  local blob = io.popen(("readlink -f '%s/config.json'"):format(path)):read "*l"
  process.write(blob, "half")
  expect_snapshot(run("mend", { "Org/Name" }, nil, r.home), files)
  expect.same(asked("mend", "resolve"), 1)
end

local function data_sets_and_revisions()
  local r = run("set", { "Org/Set", "--type", "dataset" })
  expect_snapshot(r, { ["data/train.jsonl"] = '{"a":1}\n' })
  local found = process.cftrun { "-e", 'print(#assert(cft.data.find "Org/Set"))', env = environment(r.home, "none") }
  expect.same({ found.out, found.err }, { "1\n", "" })

  r = run("revision", { "Org/Name", "--revision=v1/x" })
  local path = expect_snapshot(r, { ["config.json"] = "{}" })
  expect.same(path:match "[^/]*$", contents(folder(r.home, "model", "Org/Name") .. "/refs/v1/x"))
  expect.same(run("revision", { "Org/Name@v1/x" }).code, 0)
  local commit = path:match "[^/]*$"
  local by_commit = run("commit", { "Org/Name@" .. commit })
  expect_snapshot(by_commit, { ["config.json"] = "{}" })
  expect.same(asked("commit", "/revision/"), 0)  -- what it stands for is known
  expect.same(host.kind(folder(by_commit.home, "model", "Org/Name") .. "/refs"), nil)
  expect_snapshot(run("short", { "gpt2" }), { ["config.json"] = "{}" })
end

local function some_of_the_files()
  local function only(...)
    local picked = {}
    for _, name in ipairs { ... } do picked[name] = files[name] end
    return picked
  end
  expect_snapshot(run("some", { "Org/Name", "--include", "*.safetensors", "--exclude=copy*" }), only "model.safetensors")
  expect_snapshot(run("some", { "Org/Name", "config.json", "onnx/" }), only("config.json", "onnx/model.onnx", "onnx/a b#c%.txt"))
  expect_snapshot(run("some", { "Org/Name", "--include", "*[gl].?[ns][on][nx]", "--include", "[!a-dm-z]mpty" }), only("config.json", "onnx/model.onnx", "empty"))
  refuses(run("some", { "Org/Name", "confg.json" }), 4, "Org/Name has no file confg%.json; did you mean 'config%.json'%?")
  refuses(run("some", { "Org/Name", "--include", "*.gguf" }), 4, "Org/Name: none of its 6 files fits; it has config%.json, [^\n]*")
end

local function a_plan()
  local r = run("plan", { "Org/Name", "--dry-run" })
  expect.same({ r.code, r.err }, { 0, "" })
  expect.match(r.out, "97%.66 KiB +model%.safetensors\n")
  expect.match(r.out, "\n6 files, 146%.51 KiB; 146%.51 KiB to fetch\n$")
  expect.same(host.kind(r.home .. "/hub"), nil)  -- nothing was made
  expect.same(asked("plan", "resolve"), 0)
  run("plan", { "Org/Name", "config.json" }, nil, r.home)
  expect.match(run("plan", { "Org/Name", "--dry-run" }, nil, r.home).out, " 22 B  here +config%.json\n")
end

local function who_may()
  local closed = "closed;private"
  refuses(run(closed, { "Org/Name" }), 4, "there is no model http://[^ ]*/Org/Name, or it is private and HF_TOKEN is not set")
  refuses(run(closed, { "Org/Name" }, { HF_TOKEN = "wrong" }), 4, "http://[^ ]* does not accept the token in HF_TOKEN")
  refuses(run(closed, { "Org/Name" }, { HF_TOKEN = "a\nb" }), 2, "HF_TOKEN: the token has characters that no token has")
  expect.same(run(closed, { "Org/Name" }, { HF_TOKEN = " secret " }).code, 0)
  -- The Hub is told who asks, the CDN is not.
  expect.same(asked(closed, "hub GET", "token=yes", " 302") > 0, true)
  expect.same(asked(closed, "cdn", "token=yes"), 0)
  expect.truthy(asked(closed, "cdn", "token=no", " 200") > 0)
  local home = process.folder()
  process.write(home .. "/token", "secret\n")
  expect.same(run(closed, { "Org/Name", "config.json" }, nil, home).code, 0)
  process.write(home .. "/other", "secret")
  expect.same(run(closed, { "Org/Name", "config.json" }, { HF_TOKEN_PATH = home .. "/other" }).code, 0)
end

local function what_there_is_not()
  refuses(run("none", { "Org/None" }), 4, "there is no model http://[^ ]*/none/Org/None, or it is private and HF_TOKEN is not set")
  refuses(run("none", { "--type=dataset", "Org/Name" }), 4, "there is no dataset http://[^ ]*/none/datasets/Org/Name, or [^\n]*")
  refuses(run("none", { "Org/Name@v9" }), 4, "Org/Name has no revision 'v9'")
  refuses(run("gated;status=9:403;error=GatedRepo", { "Org/Name" }), 4,
          "Org/Name is gated: ask for access at http://[^ ]*/Org/Name, then set HF_TOKEN to a token of that account")
  refuses(run("forbidden;api=9:403", { "Org/Name" }), 4, "http://[^ ]*: status 403: as asked")
end

local function tries_again()
  -- Two files at a time share the misfortune; bytes that came are not fetched twice.
  local drop = "drop;drop=3:30000"
  local r = patient(drop, "name = 'Org/Name', include = { 'model.safetensors' }")
  expect_snapshot(r, { ["model.safetensors"] = files["model.safetensors"] })
  expect.same(asked(drop, "range=bytes=30000-", " 206"), 1)
  expect.same(asked(drop, "range=bytes=90000-", " 206"), 1)
  expect.match(r.err, "model%.safetensors: http://[^\n]*; again in a moment\n")
  no_traces(r.home)
  expect_snapshot(patient("stutter;status=3:503;api=2:502", "name = 'Org/Name'"), files)
  expect_snapshot(patient("corrupt;corrupt=1", "name = 'Org/Name', jobs = 1"), files)
  expect_snapshot(patient("ignores;norange;drop=2:30000", "name = 'Org/Name'"), files)
end

local function headway_counts()
  -- Each try brings more than a MiB: as many as it takes, though one try more would be all.
  local name = "Org/Big"
  local text = bytes(5 * 2 ^ 20, 3)
  put(hub().root .. "/models/Org/Big/main/big.safetensors", text)
  local r = patient("big;drop=4:1100000", "name = 'Org/Big', retries = 1")
  expect_snapshot(r, { ["big.safetensors"] = text })
  -- A server that begins anew each time makes none.
  refuses(patient("circle;norange;drop=99:2000000", ("name = '%s', retries = 2"):format(name)), 4, "[^\n]*%(tried %d+ times%)")
end

local function gives_up()
  local down = "down;api=99:503"
  refuses(patient(down, "name = 'Org/Name', retries = 2"), 4, "http://[^ ]*: status 503: as asked %(tried 3 times%)")
  expect.same(asked(down, "api"), 3)
  refuses(patient("never;drop=99:0", "name = 'Org/Name', files = { 'model.safetensors' }, retries = 1"), 4,
          "http://[^\n]*model%.safetensors: [^\n]* %(tried 2 times%)")
  -- A server that asks to wait is waited for; one that asks for an hour is not.
  local began = host.now()
  expect.same(patient("busy;api=1:429;retry=1", "name = 'Org/Name', files = { 'empty' }").code, 0)
  expect.truthy(host.now() - began >= 1, "it waited")
  began = host.now()
  expect.same(patient("window;api=1:429;window=1", "name = 'Org/Name', files = { 'empty' }").code, 0)
  expect.truthy(host.now() - began >= 1, "it waited")
  refuses(patient("hour;api=1:429;retry=3600", "name = 'Org/Name'"), 4,
          "http://[^ ]*: status 429: as asked; it asks to wait for 1h00m")
  refuses(run("x", { "Org/Name" }, { HF_ENDPOINT = "http://127.0.0.1:1" }), 4, "http://127%.0%.0%.1:1/api/[^\n]*")
end

local function wrong_files()
  local corrupt = "wrong;corrupt=99"
  local r = patient(corrupt, "name = 'Org/Name', files = { 'model.safetensors' }")
  refuses(r, 1, "http://[^\n]*: the checksum is %x+, the repository lists %x+ %(tried 2 times%)")
  expect.same(host.list(folder(r.home, "model", "Org/Name") .. "/blobs"), {})
  expect.same(host.kind(folder(r.home, "model", "Org/Name") .. "/snapshots"), nil)
  expect.same(host.kind(folder(r.home, "model", "Org/Name") .. "/refs"), nil)
  refuses(run("size;size", { "Org/Name", "model.safetensors" }), 1, "http://[^\n]*: the server has [^\n]*, the repository lists 100000")
  refuses(run("linked;linked", { "Org/Name", "model.safetensors" }), 1, "http://[^\n]*: the server has %x+, the repository lists %x+")
  refuses(run("loop;loop", { "Org/Name", "model.safetensors" }), 1, "http://[^\n]*: more than 10 redirects")
  refuses(run("scheme;scheme", { "Org/Name", "model.safetensors" }), 1, 'http://[^\n]*: is redirected to what is no HTTP: "file:///etc/passwd"')
end

local function good_stays_good()
  local r = run("good", { "Org/Name" })
  local path = expect_snapshot(r, files)
  local ref = folder(r.home, "model", "Org/Name") .. "/refs/main"
  process.write(ref, "0123456789012345678901234567890123456789")  -- as if main had moved on since
  refuses(patient("worse;corrupt=99;drop=1:5", "name = 'Org/Name'", process.folder()), 1, "[^\n]*the checksum is[^\n]*")
  local blobs = folder(r.home, "model", "Org/Name") .. "/blobs"
  os.execute(("rm '%s'/*"):format(blobs))
  refuses(patient("worse;corrupt=98", "name = 'Org/Name'", r.home), 1, "[^\n]*the checksum is[^\n]*")
  expect.same(contents(ref), "0123456789012345678901234567890123456789")
  expect.same(run("better", { "Org/Name" }, nil, r.home).out, path .. "\n")
  expect.same(contents(ref), path:match "[^/]*$")
end

local sha = ("0"):rep(40)
local function entry(more) return ('[{"type":"file","path":"a","size":1,"oid":"%s"%s}]'):format(sha, more or "") end

local nonsense = {
  { "an object", '{"error":"x"}', "it is no array" },
  { "an entry", '[3]', "an entry is no object" },
  { "no path", '[{"type":"file","size":1,"oid":"' .. sha .. '"}]', "a path is no string" },
  { "up", entry():gsub('"a"', '"../../x"'), "a path is '%.%./%.%./x'" },
  { "up within", entry():gsub('"a"', '"a/../x"'), "a path is 'a/%.%./x'" },
  { "absolute", entry():gsub('"a"', '"/etc/cron.d/x"'), "a path is '/etc/cron%.d/x'" },
  { "empty", entry():gsub('"a"', '""'), "a path is ''" },
  { "a dot", entry():gsub('"a"', '"./a"'), "a path is '%./a'" },
  { "two slashes", entry():gsub('"a"', '"a//b"'), "a path is 'a//b'" },
  { "a terminal's control", entry():gsub('"a"', '"\\u001b[2Ja"'), "a path is '\\x1b%[2Ja'" },
  { "too long", entry():gsub('"a"', '"' .. ("n"):rep(300) .. '"'), "a path is 'n+'" },
  { "another type", entry():gsub('"file"', '"commit"'), "a is neither file nor directory" },
  { "no size", entry():gsub("1", '"1"', 1), "a has no size" },
  { "a negative size", entry():gsub("1", "-1", 1), "a has no size" },
  { "a broken size", entry():gsub("1", "1.5", 1), "a has no size" },
  { "a huge size", entry():gsub("1", "1e300", 1), "a has no size" },
  { "no checksum", entry():gsub(sha, "0000"), "a has no checksum" },
  { "a path as checksum", entry():gsub(sha, "../" .. ("0"):rep(37)), "a has no checksum" },
  { "large without checksum", entry ',"lfs":{"size":1,"oid":"0"}', "a has no checksum" },
  { "twice", "[" .. entry():sub(2, -2) .. "," .. entry():sub(2, -2) .. "]", "a comes twice" },
}

local function lists_that_make_no_sense()
  for i, case in ipairs(nonsense) do
    listing("Bad" .. i, (case[2]))
    local r = run("bad", { "Org/Bad" .. i })
    expect.same(r.err:match "Bad%d+/tree/%x+: the list of files makes no sense: " ~= nil and r.code, 1, case[1])
    expect.match(r.err, ": " .. case[3] .. "\n$", case[1])
    expect.same(host.kind(r.home .. "/hub"), nil)
  end
end

local function answers_that_make_no_sense()
  expect.match(run("junk;junk", { "Org/Name" }).err, "^cftrun: http://[^ ]*/revision/main: the answer is no JSON: [^\n]*\n$")
  listing("Deep", ("["):rep(100000))
  expect.match(run("deep", { "Org/Deep" }).err, "^cftrun: http://[^ ]*/tree/%x+: the answer is no JSON: [^\n]*\n$")
  put(hub().root .. "/models/Org/Commit/main/.info.json", '{"sha":"../../../x"}')
  expect.match(run("commit", { "Org/Commit" }).err, "^cftrun: http://[^ ]*: the answer about Org/Commit has no commit in it\n$")
  local r = run("huge;huge", { "Org/Name" })
  expect.same(r.code, 1)
  expect.match(r.err, "^cftrun: http://[^ ]*: the answer is more than 67108864 bytes\n$")
end

local function pages()
  expect_snapshot(run("page;page=1:2", { "Org/Name" }), files)
  expect.same(asked("page;page=1:2", "/tree/"), 4)  -- 7 entries, a folder among them
  expect.match(run("endless;pages", { "Org/Name" }).err, "makes no sense: an empty page, and more to come\n$")
  listing("Folders", '[{"type":"directory","path":"a","oid":"' .. sha .. '","size":0}]')
  expect.match(run("folders;pages", { "Org/Folders" }).err, "makes no sense: 201 pages without a file\n$")
end

local function offline()
  local home = run("online", { "Org/Name" }).home
  local r = run("offline", { "Org/Name" }, { HF_HUB_OFFLINE = "1" }, home)
  expect.same(r.code, 0)
  expect.match(r.out, "/snapshots/%x+\n$")
  expect.match(r.err, "^HF_HUB_OFFLINE is set: nothing was asked")
  expect.match(run("offline", { "Org/None" }, { HF_HUB_OFFLINE = "on" }, home).err,
               "^cftrun: HF_HUB_OFFLINE is set, and the Hub cache has no [^\n]*/models%-%-Org%-%-None\n$")
  expect.same(asked("offline"), 0)
end

local function two_at_once()
  local home, pids = process.folder(), process.folder()
  local words = {}
  for name, value in pairs(environment(home, "two;slow=9:300000")) do
    words[#words + 1] = value and ("%s='%s'"):format(name, value) or "-u " .. name
  end
  table.sort(words)
  local exe = io.popen 'readlink /proc/$PPID/exe':read "*l"
  os.execute(("for i in 1 2 3; do env %s '%s' fetch Org/Name >%s/out$i 2>%s/err$i & done; wait"):format(
    table.concat(words, " "), exe, pids, pids))
  for i = 1, 3 do
    expect_snapshot({ code = 0, err = "", out = contents(pids .. "/out" .. i) }, files)
  end
  expect.same(asked("two;slow=9:300000", "cdn GET"), 2)  -- each large content once
  no_traces(home)
end

local function ctrl_c()
  local home = process.folder()
  local words = {}
  for name, value in pairs(environment(home, "slow;slow=9:60000")) do
    words[#words + 1] = value and ("%s='%s'"):format(name, value) or "-u " .. name
  end
  table.sort(words)
  local exe = io.popen 'readlink /proc/$PPID/exe':read "*l"
  -- Once bytes are there; a shell's background job would ignore SIGINT, so it is given back.
  os.execute(([[cd '%s' && env --default-signal=INT %s '%s' fetch Org/Name --jobs 1 >out 2>err & pid=$!
    for i in $(seq 500); do [ -s '%s'/hub/*/blobs/*.incomplete ] && break; sleep 0.02; done
    kill -INT $pid; wait $pid; echo $? >'%s/code']]):format(home, table.concat(words, " "), exe, home, home))
  expect.same(contents(home .. "/code"), "130\n")
  expect.match(contents(home .. "/err"), "\ncftrun: interrupted; %d[^\n]* of 146%.51 KiB are here, and the same command goes on from there\n$")
  expect.same(host.kind(folder(home, "model", "Org/Name") .. "/refs"), nil)
  local r = run("rest", { "Org/Name" }, nil, home)
  expect_snapshot(r, files)
  expect.same(asked("rest", " 206"), 1)
end

local function usage()
  local function says(message, ...)
    local r = run("usage", { ... })
    expect.same({ r.code, r.out }, { 2, "" })
    expect.match(r.err, "^cftrun: " .. message .. "\n$")
  end
  says("fetch: a repository is wanted: cftrun fetch Org/Name")
  says("fetch: unknown option '%-%-includ'; did you mean '%-%-include'%?", "Org/Name", "--includ", "x")
  says("fetch: unknown option '%-%-repo%-type'; did you mean '%-%-type'%?", "Org/Name", "--repo-type", "dataset")
  says("fetch: %-%-revision wants a value", "Org/Name", "--revision")
  says("fetch: %-%-jobs must be from 1 to 64, got 0", "Org/Name", "--jobs", "0")
  says("fetch: %-%-jobs must be an integer, got 'many'", "Org/Name", "--jobs=many")
  says("fetch: %-%-type must be one of 'model', 'dataset', got 'modle'; did you mean 'model'%?", "Org/Name", "--type", "modle")
  says("fetch: two revisions, @v1 and %-%-revision v2", "Org/Name@v1", "--revision", "v2")
  says("'datasets/Org/Set' is no repository; say %-%-type dataset Org/Set", "datasets/Org/Set")
  for _, name in ipairs { "a/b/c", "../x", "/x/y", "Org/..", "a--b", "Org/x.git", "Org /x", ".x", "x-", "Org/", "", ("x"):rep(97) } do
    says("'[^\n]*' is no name of a repository, as in Org/Name", name)
  end
  for _, revision in ipairs { "../x", "a//b", "/a", "a b", "" } do
    says("'[^\n]*' is no revision", "Org/Name", "--revision", revision)
  end
  expect.match(run("usage", { "Org/Name" }, { HF_ENDPOINT = "ftp://x" }).err, "^cftrun: HF_ENDPOINT: \"ftp://x\" is no URL with http:// or https://\n$")
  expect.match(run("usage", { "Org/Name" }, { HF_HUB_DOWNLOAD_TIMEOUT = "soon" }).err, "^cftrun: HF_HUB_DOWNLOAD_TIMEOUT=soon: must be an integer, got nil\n$")
  local help = run("usage", { "--help" })
  expect.same({ help.code, help.err }, { 0, "" })
  for _, option in ipairs { "--type", "--revision", "--include", "--exclude", "--jobs", "--dry-run" } do
    expect.match(help.out, "\n  " .. option:gsub("%-", "%%-") .. " ")
    expect.match(contents "docs/fetch.md", "| `" .. option:gsub("%-", "%%-"))
  end
end

local function the_bar()
  local r = process.cftrun { "-e", [[
    local p = require "cft.io.fetch.progress" ()
    p.terminal = true
    p:draw { done = 25, total = 100, received = 0, files = 1, of = 3, note = "" }
    p:draw { done = 26, total = 100, received = 1, files = 1, of = 3, note = "" }  -- too soon
    p:say("a line of %d%%", 5)
    p.drawn = 0
    p:draw { done = 100, total = 100, received = 0, files = 3, of = 3, note = "  another process has x" }
    p:wipe()
  ]] }
  local bar = "\r\27[K[%s%s] %3d%%  %d B of 100 B  0 B/s  %d/3 files"
  expect.same(r.err, bar:format(("="):rep(7), (" "):rep(21), 25, 25, 1) .. "\r\27[Ka line of 5%\n"
    .. bar:format(("="):rep(28), "", 100, 100, 3) .. "  another process has x\r\27[K")
end

local function from_lua()
  expect.raises("fetch%.repo: unknown option 'revison'; did you mean 'revision'%?", fetch.repo, { name = "x", revison = "y" })
  local err = expect.raises("'%.%./x' is no name of a repository", fetch.repo, { name = "../x" })
  expect.same(exit.code(err), exit.USAGE)
end

local function opened_on_use()
  local r = process.cftrun { "-e", 'print(io.open("/proc/self/maps"):read "*a":find "libcurl", cft.hub.cache() ~= nil)' }
  expect.same({ r.code, r.out }, { 0, "nil\ttrue\n" })
  local broken = process.folder()
  process.write(broken .. "/libcurl.so.4", "")
  refuses(run("library", { "Org/Name" }, { LD_LIBRARY_PATH = broken }), 3,
          "fetching wants a library that is not here: [^\n]*libcurl%.so%.4[^\n]*")
end

return {
  { "a model", a_model },
  { "data sets and revisions", data_sets_and_revisions },
  { "some of the files", some_of_the_files },
  { "a plan", a_plan },
  { "who may", who_may },
  { "what there is not", what_there_is_not },
  { "tries again", tries_again },
  { "headway counts", headway_counts },
  { "gives up", gives_up },
  { "wrong files", wrong_files },
  { "what is good stays", good_stays_good },
  { "lists that make no sense", lists_that_make_no_sense },
  { "answers that make no sense", answers_that_make_no_sense },
  { "pages", pages },
  { "offline", offline },
  { "three at once", two_at_once },
  { "Ctrl-C", ctrl_c },
  { "usage", usage },
  { "the bar", the_bar },
  { "from Lua", from_lua },
  { "libcurl is opened on use", opened_on_use },
}

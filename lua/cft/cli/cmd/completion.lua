--- print what a shell needs to complete cftrun's words
--
--   eval "$(cftrun completion bash)"        in ~/.bashrc; in ~/.zshrc behind `autoload -U bashcompinit; bashcompinit`
--   cftrun completion fish | source         in ~/.config/fish/config.fish

local check = require "cft.base.check"
local exit = require "cft.base.exit"
local keys = require "cft.config.keys"

local M = {}

local function sorted(list)
  table.sort(list)
  return list
end

local function options()
  local list = { "--help", "--version", "-e" }
  for name in pairs(keys.flags) do list[#list + 1] = name end
  return sorted(list)
end

local function settings()
  local list = {}
  for name in pairs(keys.by_name) do list[#list + 1] = name .. "=" end
  return sorted(list)
end

local function commands()
  local list = {}
  for _, row in ipairs(require "cft.cli".commands()) do list[#list + 1] = row[1] end
  return list
end

-- Values of the settings that have few.
local function choices()
  local list = {}
  for name, key in pairs(keys.by_name) do
    if key.one_of then list[#list + 1] = { name, table.concat(key.one_of, " ") }
    elseif (key[1] or ""):find "boolean" then list[#list + 1] = { name, "true false" } end
  end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local shells = {}

function shells.bash()
  local cases = {}
  for _, choice in ipairs(choices()) do
    cases[#cases + 1] = ("    %s=*) COMPREPLY=($(compgen -P '%s=' -W '%s' -- \"${word#*=}\")) ;;"):format(choice[1], choice[1], choice[2])
  end
  return ([==[
_cftrun() {
  local word=${COMP_LINE:0:COMP_POINT}
  word=${word##* }
  compopt -o nospace 2>/dev/null
  case $word in
%s
    *=*) local IFS=$'\n'; COMPREPLY=($(compgen -P "${word%%%%=*}=" -f -- "${word#*=}")) ;;
    -*) COMPREPLY=($(compgen -S ' ' -W '%s' -- "$word")) ;;
    *) COMPREPLY=($(compgen -f -- "$word"))
       if ((COMP_CWORD == 1)); then COMPREPLY+=($(compgen -S ' ' -W '%s' -- "$word"))
       else COMPREPLY+=($(compgen -W '%s' -- "$word")); fi ;;
  esac
  # "=" parts words to bash: what stands before it is not put in again
  if [[ $word == *=* && ${COMP_WORDBREAKS-} == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#*=}"); fi
}
complete -o filenames -F _cftrun cftrun]==]):format(table.concat(cases, "\n"), table.concat(options(), " "), table.concat(commands(), " "),
    table.concat(settings(), " "))
end

function shells.fish()
  local lines = {}
  for _, row in ipairs(require "cft.cli".commands()) do
    lines[#lines + 1] = ("complete -c cftrun -n __fish_is_first_arg -a %s -d %q"):format(row[1], row[2])
  end
  for name, flag in pairs(keys.flags) do
    lines[#lines + 1] = ("complete -c cftrun -l %s%s -d %q"):format(name:sub(3), flag.takes and flag.takes:sub(1, 1) ~= "[" and " -x" or "", flag.help)
  end
  for name, key in pairs(keys.by_name) do lines[#lines + 1] = ("complete -c cftrun -a %s= -d %q"):format(name, key.help) end
  for _, choice in ipairs(choices()) do
    for value in choice[2]:gmatch "%S+" do lines[#lines + 1] = ("complete -c cftrun -a %s=%s"):format(choice[1], value) end
  end
  return table.concat(sorted(lines), "\n")
end

--- `cftrun completion`.
-- @tab args
function M.run(args)
  local shell = args[1]
  if shell == "--help" or shell == "-h" then return print "cftrun completion bash|fish" end
  if not shells[shell] or args[2] then
    exit.fail(exit.USAGE, "completion: bash or fish is wanted, got %s%s", args[2] and "more" or shell and "'" .. shell .. "'" or "nothing",
      check.suggestion(shell or "", shells))
  end
  print(shells[shell]())
end

return M

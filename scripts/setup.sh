# setup.sh - what run.sh and test.sh share: packages, configure, build. Sourced, with the
# repository's root as the current directory. Each step says what it does in a line, or does
# nothing and says nothing.

# All that a build needs, as Debian names it. CMake, the pkg-config names and the headers that go
# with each are looked up by CMakeLists.txt.
packages=(
  gcc g++ libc6-dev cmake ninja-build pkg-config
  libluajit-5.1-dev    # scripting
  libpcre2-dev         # pre-tokenizers' patterns
  libjansson-dev       # JSON
  libmsgpack-dev       # the state of runs
  libzstd-dev zlib1g-dev libsnappy-dev libxxhash-dev  # compressed data, checksums
  libedit-dev          # the prompt
  libcurl4-openssl-dev libssl-dev ca-certificates  # cftrun fetch, and its checksums
  libevent-dev         # cftrun serve
)

# What is installed along with these where it can be had, and is not asked for where it cannot.
optional=(
  libdnnl-dev          # oneDNN, which `cftrun bench` compares our matmuls with
  libflint-arb2        # ball arithmetic, with which cft.grade compares expressions
  openmpi-bin libopenmpi-dev  # mpirun, and what several ranks sum by
  libgloo-dev          # the same for ranks that torchrun starts
  python3-langdetect   # profiles of languages, for IFEval: which one a text is in, as the reference tells it
  libcld2-0            # the same by another detector, where these are not there
)

say() { echo "${0##*/}: $*" >&2; }

# Those of $packages that are not installed, one a line.
missing_packages() {
  # dpkg-query complains about names it has never heard of, and means the same: not installed.
  { dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true; } |
    awk -v wanted="${packages[*]}" '
      $2 == "installed" { there[$1] = 1 }
      END { n = split(wanted, w, " "); for (i = 1; i <= n; ++i) if (!(w[i] in there)) print w[i] }'
}

install_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    # Not Debian: what is missing here cannot be known by name, but CMake finds out.
    command -v cmake >/dev/null && command -v ninja >/dev/null && return
    say "install cmake, ninja and what Debian calls: ${packages[*]}"
    exit 3
  fi
  local missing
  missing=$(missing_packages)
  [[ -z $missing ]] && return
  if [[ $(id -u) != 0 ]]; then
    say "please install what is missing: sudo apt-get install" $missing
    exit 3
  fi
  say "installing with apt-get:" $missing
  local log
  log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
         apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm "$log"
    say "apt-get failed"
    exit 3
  fi
  rm "$log"
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${optional[@]}" >/dev/null 2>&1 ||
    say "goes on without ${optional[*]}"
}

# build PRESET [TARGET]: bring build/PRESET up to date.
build() {
  local folder=build/$1 target=${2:-all} jobs=${CFT_JOBS:-$(nproc)}
  if [[ ! -f $folder/build.ninja ]]; then
    say "configuring $folder"
    local log
    if ! log=$(cmake --preset "$1" 2>&1); then
      echo "$log" >&2
      say "cmake failed; on systems other than Debian, install what it calls: ${packages[*]}"
      exit 3
    fi
  fi
  ninja -C "$folder" -j "$jobs" "$target" 2>&1 | progress "building $folder with $jobs jobs" >&2 ||
    { say "the build failed"; exit 1; }
}

# Build the CUDA module too where there are a compiler and a driver, for this machine's cards. A run
# does without one: what goes wrong here is said, and no more.
build_module() {
  local nvcc
  nvcc=$(command -v nvcc || ls -d /usr/local/cuda*/bin/nvcc 2>/dev/null | tail -n 1 || true)
  [[ $nvcc ]] || return 0
  { ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; } || [[ -e /dev/nvidiactl ]] || return 0
  local archs
  archs=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | paste -sd ';') || archs=
  if [[ $archs ]] && ! grep -qxF "CFT_CUDA_ARCHS:STRING=$archs" build/cpu/CMakeCache.txt; then
    cmake -DCFT_CUDA_ARCHS="$archs" build/cpu >/dev/null 2>&1 || true
  fi
  (build cpu cft_cuda) || say "the CUDA module was not built; runs take the CPU (./run.sh doctor says more)"
}

# What ninja says, made short: nothing if there was nothing to do, one line if there was, which a
# terminal sees count; and whatever a compiler has to say, in full.
progress() {
  local line said= clear=
  while IFS= read -r line; do
    case $line in
      '[0/'*Re-checking* | 'ninja: Entering'* | 'ninja: no work'* | '-- '*) ;;
      '['[0-9]*/[0-9]*']'*)
        [[ $said ]] || say "$1"
        said=yes
        if [[ -t 2 ]]; then
          clear=$'\r\e[K'
          printf '%s%.79s' "$clear" "$line"
        fi
        ;;
      *) printf '%s%s\n' "$clear" "$line" ;;
    esac
  done
  printf '%s' "$clear"
}

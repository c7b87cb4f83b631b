#!/bin/bash
# setup.sh [SCRIPT]: makes .venv of the checkout that this script lies in, for TPUs; nothing if it is
# there. SCRIPT, the text of one, runs afterwards every time.
set -euo pipefail
cd "$(dirname "$0")/../.."
commit=$(git rev-parse --short=12 HEAD)
wanted=$(cat requirements.lock pyproject.toml | sha256sum)
if [ "$(cat .venv/.archobj_pod 2>/dev/null)" != "$wanted" ]; then
  export PATH="$HOME/.local/bin:$PATH"
  # TPU images carry an older Python; uv brings one that requirements.lock holds for.
  command -v uv >/dev/null || python3 -m pip install --quiet --user uv
  rm -rf .venv
  uv venv --quiet --python 3.11 .venv
  uv pip install --quiet --python .venv/bin/python --no-deps --requirement requirements.lock
  uv pip install --quiet --python .venv/bin/python --constraint requirements.lock \
    --editable '.[tpu,gcp]'
  printf '%s\n' "$wanted" >.venv/.archobj_pod
fi
if [ $# -gt 0 ]; then bash -euc "$1" setup_script; fi
printf 'archobj_ready %s %s\n' "$(hostname)" "$commit"

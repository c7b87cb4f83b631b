#!/bin/bash
# start.sh RUN COMMAND…: starts the command, which outlives the connection; nothing if RUN is
# running, an error if that is another command. ~/archobj_runs/RUN holds its log, its process id,
# what it is (commit and arguments, ended by NUL) and, when it has ended, its status.
set -euo pipefail
run=$1
shift
folder=$HOME/archobj_runs/$run
mkdir -p "$folder"
worker=$(cd "$(dirname "$0")" && pwd)
cd "$worker/../.."
commit=$(git rev-parse HEAD)
# Held by supervise.sh as long as it lives: a lock knows of reboots, a process id does not.
exec 9>"$folder/lock"
if ! flock --timeout 5 9; then
  if ! printf '%s\0' "$commit" "$@" | cmp --quiet - "$folder/command"; then
    printf 'another command, or commit, is running under the name %s\n' "$run" >&2
    exit 1
  fi
  printf 'archobj_started %s already running\n' "$(hostname)"
  exit 0
fi
rm -f "$folder/status" "$folder/pid"
printf '%s\0' "$commit" "$@" >"$folder/command"
{
  printf '== %s, commit %s:' "$(date --utc +%FT%TZ)" "${commit:0:12}"
  printf ' %q' "$@"
  printf '\n'
} >>"$folder/log"
PATH="$PWD/.venv/bin:$PATH" setsid nohup bash "$worker/supervise.sh" "$folder" "$@" \
  </dev/null >>"$folder/log" 2>&1 &
printf 'archobj_started %s\n' "$(hostname)"

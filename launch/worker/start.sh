#!/bin/bash
# start.sh RUN COMMAND…: starts the command, which outlives the connection; nothing if RUN is
# running. ~/archobj_runs/RUN holds its log, its process id and, when it has ended, its status.
set -euo pipefail
run=$1
shift
folder=$HOME/archobj_runs/$run
mkdir -p "$folder"
# Held by supervise.sh as long as it lives: a lock knows of reboots, a process id does not.
exec 9>"$folder/lock"
if ! flock --timeout 5 9; then
  printf 'archobj_started %s already running\n' "$(hostname)"
  exit 0
fi
rm -f "$folder/status" "$folder/pid"
worker=$(cd "$(dirname "$0")" && pwd)
cd "$worker/../.."
{
  printf '== %s, commit %s:' "$(date --utc +%FT%TZ)" "$(git rev-parse --short=12 HEAD)"
  printf ' %q' "$@"
  printf '\n'
} >>"$folder/log"
PATH="$PWD/.venv/bin:$PATH" setsid nohup bash "$worker/supervise.sh" "$folder" "$@" \
  </dev/null >>"$folder/log" 2>&1 &
printf 'archobj_started %s\n' "$(hostname)"

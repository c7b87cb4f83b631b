#!/bin/bash
# stop.sh RUN SECONDS: asks the run to save and stop (SIGTERM); kills it if it has not after SECONDS.
set -euo pipefail
folder=$HOME/archobj_runs/$1
if [ -e "$folder/lock" ] && ! flock --shared --nonblock "$folder/lock" true; then
  kill -TERM "$(cat "$folder/pid")" || true
  if ! flock --shared --timeout "$2" "$folder/lock" true; then
    kill -KILL "$(cat "$folder/pid")" || true
    flock --shared --timeout 30 "$folder/lock" true
  fi
fi
printf 'archobj_stopped %s\n' "$(hostname)"

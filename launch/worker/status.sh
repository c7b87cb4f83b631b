#!/bin/bash
# status.sh RUN: one line, `archobj_status HOST STATE | WHAT | LAST LINE OF THE LOG`; STATE is
# absent, running, dead (it ended without leaving a status, as in a reboot) or `exited STATUS`, and
# WHAT is commit and arguments, as start.sh keeps them, in base64.
set -euo pipefail
folder=$HOME/archobj_runs/$1
last=
what=
if [ ! -e "$folder/log" ]; then
  state=absent
else
  if ! flock --shared --nonblock "$folder/lock" true; then
    state=running
  elif [ -s "$folder/status" ]; then
    state="exited $(cat "$folder/status")"
  else
    state=dead
  fi
  what=$(base64 --wrap=0 "$folder/command")
  # A progress bar overwrites its line; the last version counts.
  last=$(tail -c 4096 "$folder/log" | tr '\r' '\n' | grep -v '^[[:space:]]*$' | tail -n 1 || true)
fi
printf 'archobj_status %s %s | %s | %s\n' "$(hostname)" "$state" "$what" "$last"

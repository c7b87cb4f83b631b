#!/bin/bash
# supervise.sh FOLDER COMMAND…: runs the command; leaves its process id and exit status in FOLDER.
folder=$1
shift
# A machine that shuts down signals every process: this one stays until it has the status. A trap,
# unlike an ignored signal, is not inherited.
again=
trap 'again=yes' HUP INT TERM
"$@" 9>&- &
child=$!
printf '%s\n' "$child" >"$folder/pid"
wait "$child"
status=$?
while [ -n "$again" ]; do
  again=
  wait "$child"
  status=$?
done
printf '%s\n' "$status" >"$folder/status"

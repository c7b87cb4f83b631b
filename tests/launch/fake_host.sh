#!/bin/bash
# The programs of a host of the fake cloud, by the name they are called by. `archobj` writes what it
# was given to ~/arguments, separated by NUL, and ends as $FAKE_CLOUD/plan says: a line an attempt,
# a word a host, which is an exit status or `wait` (until SIGTERM, then 75).
case ${0##*/} in
  hostname) echo "$FAKE_HOST" ;;
  uv)
    echo "$*" >>"$HOME/uv_calls"
    if [ -e "$FAKE_CLOUD/uv_fails" ]; then echo 'no space left on device' >&2; exit 1; fi
    if [ "$1" = venv ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/archobj; fi
    ;;
  archobj)
    printf '%s\0' "$@" >"$HOME/arguments"
    printf '%s' "${GREETING-}" >"$HOME/greeting"
    touch "$HOME/pid.$$"
    echo "$FAKE_HOST" >>"$FAKE_CLOUD/attempts.$FAKE_HOST"
    attempt=$(wc -l <"$FAKE_CLOUD/attempts.$FAKE_HOST")
    printf 'step 1\rstep %s\n' "$attempt"
    read -ra plan < <(sed -n "${attempt}p" "$FAKE_CLOUD/plan")
    ends=${plan[$FAKE_WORKER]}
    if [ "$ends" = wait ]; then
      trap 'kill "$sleeper"; exit 75' TERM
      sleep 60 & sleeper=$!
      wait "$sleeper"
    fi
    if [ "$ends" = killed ]; then kill -KILL $$; fi
    exit "$ends"
    ;;
esac

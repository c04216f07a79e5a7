#!/bin/sh
# A chief and some workers on this machine; further flags go to all of them.
#
#   docs/examples/tuning/local.sh
#   WORKERS=4 PORT=7078 PYTHON=.venv/bin/python docs/examples/tuning/local.sh --quicktest
#
# Stopped or killed? The same command again: finished trials are kept, those in progress go on after their last epoch.
here=$(cd "$(dirname "$0")" && pwd)
search() { # only in the background, where it takes the place of the shell, so that signals reach it
  exec "${PYTHON:-python}" -m tinykit.search --flagfile="$here/common.flags" --chief "${PORT:-7077}" "$@"
}

search "$@" &
chief=$!
workers=
number=1
while [ "$number" -le "${WORKERS:-2}" ]; do
  search --worker "worker$number" "$@" &
  workers="$workers $!"
  number=$((number + 1))
done
trap 'kill -TERM $chief $workers 2>/dev/null' INT TERM
wait "$chief"
code=$?
case $code in
  0 | 3) ;;                                # done; done, but over its budget: workers end by themselves
  *) kill -TERM $workers 2>/dev/null ;;    # nobody will answer them
esac
wait
exit "$code"

#!/bin/sh
# Every task of the folder, one after the other; further flags go to each of them.
#
#   docs/examples/batch/local.sh
#   PYTHON=.venv/bin/python docs/examples/batch/local.sh --quicktest
#   TASKS="0 1" docs/examples/batch/local.sh
#
# Stopped, killed, or a task failed? The same command again: what is complete is passed over in a second, the rest goes on where it was.
here=$(cd "$(dirname "$0")" && pwd)
failed=0
for task in ${TASKS:-$(cd "$here/tasks" && ls | sed 's/\.flags$//')}; do
  "${PYTHON:-python}" -m tinykit.train --flagfile="$here/common.flags" --flagfile="$here/tasks/$task.flags" "$@"
  code=$?
  echo "task $task: exit code $code"
  case $code in
    0 | 3) ;;                  # done; done, but over its budget
    130 | 143) exit $code ;;   # somebody wants us to end
    *) failed=1 ;;             # bad input, parity, a crash: the others can go on
  esac
done
exit $failed

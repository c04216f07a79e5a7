#!/usr/bin/env bash
# Every long measurement, one after the other, each at most 20 minutes; the outcome is benchmarks/full.log.
#
#   TINYKIT_DATA=folder PYTHON=.venv/bin/python benchmarks/full.sh [state folder, default build/full]
#
# Interrupted? Start it again: rows that have passed are not run again, and fuzz_engine.py and fuzz_readers.py go on where they were. Remove
# the state folder to start afresh. Exit code 1 if a row has failed.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
state=${1:-build/full}
mkdir -p "$state"

# row NAME COMMAND...: runs the command; what is kept of its output is the totals and the failures.
row() {
  local name=$1 begin code
  shift
  if [ ! -e "$state/$name.done" ]; then
    begin=$SECONDS
    timeout 1200 "$@" >"$state/$name.out" 2>"$state/$name.err"
    code=$?
    {
      echo "+ ${*/#$python/python}"
      echo "  $(date -u +%F), $((SECONDS - begin)) s, exit code $code"
      grep -E '^( *\* |\||seed |[a-z_]+\(-?[0-9]+\):)' "$state/$name.out" | cut -c1-400 | sed 's/^/  /'
      [ "$code" = 0 ] || tail -n 3 "$state/$name.err" | cut -c1-400 | sed 's/^/  /'
    } >"$state/$name.log"
    [ "$code" = 0 ] && touch "$state/$name.done"
  fi
  cat "$state/$name.log"
}

{
  row fuzz_engine "$python" benchmarks/fuzz_engine.py --networks 500 --seed 0 --boards nano33ble,disco_f746ng --state "$state" --resume
  row fuzz_exact "$python" benchmarks/fuzz_exact.py --networks 200 --seed 1000
  row fuzz_readers "$python" benchmarks/fuzz_readers.py --mutants 100000 --seed 0 --state "$state" --resume
  row fuzz_monitor "$python" benchmarks/fuzz_monitor.py --conversations 200 --seed 0 --state "$state" --resume
  row kill_resume "$python" benchmarks/kill_resume.py --seed 0 --state "$state/kill_resume"
  if [ -n "${TINYKIT_DATA:-}" ]; then
    row engine "$python" benchmarks/engine.py
    row reference_models "$python" benchmarks/reference_models.py
    row serial_loop "$python" benchmarks/serial_loop.py
  else
    echo "engine.py, reference_models.py, serial_loop.py: not run, because TINYKIT_DATA does not name the folder with the reference models"
  fi
} | tee benchmarks/full.log
! grep -qE 'exit code [1-9]' benchmarks/full.log

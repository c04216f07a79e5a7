#!/bin/bash
# An array job: task 0 is the chief, all others are workers. Submit it from this folder, on a file system that all nodes see: sbatch slurm.sh
#SBATCH --job-name=tinykit-tuning
#SBATCH --array=0-4
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tuning_%a.log

# The chief says where it is; it may come back on another node, so that workers look again whenever they begin.
address=chief.address
if [ "$SLURM_ARRAY_TASK_ID" = 0 ]; then
  echo "$(hostname):${PORT:-7077}" >"$address.new" && mv "$address.new" "$address"
  role=(--chief "$(cat "$address")")
else
  until [ -s "$address" ]; do sleep 1; done
  role=(--chief "$(cat "$address")" --worker "task$SLURM_ARRAY_TASK_ID")
fi

srun "${PYTHON:-python}" -m tinykit.search --flagfile=common.flags "${role[@]}" "$@"
code=$?
if [ "$code" = 143 ]; then
  # Back into the queue under the same number; the same command goes on where it stopped.
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"

#!/bin/bash
# An array job: task N of the array is tasks/N.flags. Submit it from this folder: sbatch slurm.sh
#SBATCH --job-name=tinykit
#SBATCH --array=0-2
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=task_%a.log

# --signal: SIGTERM for srun's process two minutes before the time is up, so that it ends between two batches, with exit code 143.
srun "${PYTHON:-python}" -m tinykit.train --flagfile=common.flags --flagfile="tasks/$SLURM_ARRAY_TASK_ID.flags" "$@"
code=$?
if [ "$code" = 143 ]; then
  # Back into the queue under the same number; the same command goes on where it stopped.
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"

"""The examples that are no pages of the gallery."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_jobs_of_slurm_work_on_a_task_at_a_time() -> None:
    """…with all their cores, and end before SLURM ends them. No SLURM is needed to say what a job would be."""
    names = runpy.run_path(str(EXAMPLES / "slurm.py"))
    with names["slurm"]() as cluster:
        script = cluster.job_script()
    for words in ("#SBATCH --cpus-per-task=8", "--nthreads 1", "export OMP_NUM_THREADS=8", "--lifetime 23h50m"):
        assert words in script, script

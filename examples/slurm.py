"""The same from Python with dask-jobqueue: workers come from SLURM as jobs of their own.

    python examples/slurm.py MODEL COARSE ENSEMBLE.zarr

Copy it, and change queue, cores, memory and time to your cluster's. Run it where jobs may be submitted from (a login
node, or a job); it may be stopped at any moment and run again.
"""

from __future__ import annotations

import sys

from dask_jobqueue import SLURMCluster

import finescale


def slurm() -> SLURMCluster:
    """A cluster without workers yet."""
    # One task at a time in each worker, whose networks use all its cores: that takes the least memory.
    return SLURMCluster(
        queue="standard",
        cores=1,
        job_cpu=8,
        processes=1,
        memory="8GB",
        walltime="24:00:00",
        # Workers end before SLURM ends them, so that their tasks go to others in time.
        worker_extra_args=["--lifetime", "23h50m", "--lifetime-stagger", "4m"],
        job_script_prologue=["export OMP_NUM_THREADS=8"],
    )


def main(model: str, coarse: str, ensemble: str) -> None:
    cluster = slurm()
    cluster.adapt(minimum_jobs=1, maximum_jobs=64)
    finescale.downscale(model, coarse, ensemble, members=16, scheduler=cluster.scheduler_address, resume=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

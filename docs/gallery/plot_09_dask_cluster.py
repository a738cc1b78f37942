"""
On a Dask cluster
=================

A large domain is cut into windows, and each window with some members is a task. Tasks
may be done by this computer, by many processes, or by a `Dask
<https://distributed.dask.org>`_ cluster, as on a supercomputer or in a cloud. What
comes out is the same, whoever does what: the noise of a member is a function of its
place.

This page needs Dask's scheduler and workers: ``pip install 'finescale[cluster]'``.
"""

# %%
# Radar, coarsened by 8, in a file, as workers read their windows themselves. The output
# is a Zarr store: a folder into which all can write at once.

from pathlib import Path
from tempfile import TemporaryDirectory

import finescale
from finescale.data.samples import radar

folder = TemporaryDirectory()
here = Path(folder.name)
truth = radar()["precipitation_rate"]
coarse = finescale.coarsen(truth, "1x8", here / "coarse.nc")
print(dict(coarse.sizes))

# %%
# A cluster: a scheduler, which hands out tasks, and two workers. They are processes of
# their own, and find each other by a file. On a supercomputer the same commands stand
# in the scripts of jobs: ``dask scheduler --scheduler-file dask.json``, and on as many
# machines as there are ``dask worker --scheduler-file dask.json``.

import subprocess
import sys

try:
    from distributed import Client, get_task_stream
except ImportError:
    Client = None
    print("Dask's workers are not installed: pip install 'finescale[cluster]'")


def start(kind: str, *options: str) -> subprocess.Popen:
    found = ["--scheduler-file", str(here / "dask.json"), *options]
    command = [sys.executable, "-m", "dask", kind, *found]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


running = []
if Client is not None:
    running += [start("scheduler", "--port", "0", "--dashboard-address", ":0")]
    worker = ("--nthreads", "1", "--no-dashboard", "--local-directory", folder.name)
    running += [start("worker", *worker) for _ in range(2)]

# %%
# The prediction names the scheduler. Windows are 15 × 15 coarse cells and four times
# large, and each with its four members is a task.

given, out = here / "coarse.nc", here / "cluster.zarr"
asked = {"members": 4, "seed": 0, "factor": "1x8", "window": (4, 15, 15)}
tasks = []
if running:
    with Client(scheduler_file=str(here / "dask.json")) as client:
        client.wait_for_workers(2)
        with get_task_stream(client) as stream:
            who = {"scheduler": client.scheduler.address, "progress": False}
            finescale.downscale("rain", given, out, **who, **asked)
        tasks = stream.data
    for process in reversed(running):
        process.terminate()
        process.wait()

# %%
# Who did what, and when? The first tasks take longer, as each worker loads its model
# then.

import matplotlib
from matplotlib.figure import Figure

from finescale.plots import COLOURS, STYLE

matplotlib.rcParams.update(STYLE)
if tasks:
    workers = sorted({task["worker"] for task in tasks})
    spans = [
        (workers.index(task["worker"]), part)
        for task in tasks
        for part in task["startstops"]
    ]
    begin = min(part["start"] for _, part in spans)
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    ax = figure.subplots()
    for worker, part in spans:
        start, stop = part["start"] - begin, part["stop"] - begin
        style = {"height": 0.6, "color": COLOURS[worker], "edgecolor": "white"}
        ax.barh(f"worker {worker + 1}", stop - start, left=start, **style)
    ax.set(xlabel="time since the first task (s)")
    ax.set_title(f"{len(tasks)} tasks of a prediction")
figure if tasks else None

# %%
# The same without a cluster: fields are equal to the bit on one processor, to rounding
# elsewhere. A cluster whose workers come late or go early changes nothing either. What
# a killed run had finished is kept, and ``resume=True`` goes on.

import numpy as np
import xarray as xr

alone = finescale.downscale("rain", given, progress=False, **asked)
if tasks:
    with xr.open_zarr(out, chunks=None) as written:
        difference = float(np.abs(written - alone)["precipitation_rate"].max())
    print(f"largest difference: {difference:g} mm/h")

# %%
# One time, all members.

from finescale.plots import overview, region_of

time = 6
members = alone["precipitation_rate"].isel(time=time)
region, _ = region_of(truth)
# sphinx_gallery_thumbnail_number = 2
fields = {f"Member {k + 1}": members.sel(realization=k) for k in range(4)}
figure = overview(fields, region, units="mm/h", rain=True, label="rain rate", columns=4)
when = truth.time.dt.strftime("%Y-%m-%d %H:%M UTC").values[time]
figure.suptitle(when, fontweight="bold")
figure

# %%
# :doc:`Clusters </clusters>` says more: SLURM, memory, what a decade costs, faults and
# restarts.

"""
On a Dask cluster
=================

A large domain is cut into windows, and each window with some members is a task. Tasks may be done by this computer, by
many processes, or by a `Dask <https://distributed.dask.org>`_ cluster, as on a supercomputer or in a cloud. What comes
out is the same, whoever does what: the noise of a member is a function of its place.

This page needs Dask's scheduler and workers: ``pip install 'finescale[cluster]'``.
"""

# %%
# Radar, coarsened by 8, in a file, as workers read their windows themselves. The output is a Zarr store: a folder into
# which all can write at once.

from pathlib import Path
from tempfile import TemporaryDirectory

import finescale
from finescale.data.samples import radar

folder = TemporaryDirectory()
here = Path(folder.name)
truth = radar()["precipitation_rate"]
finescale.coarsen(truth, "1x8", here / "coarse.nc")

# %%
# A cluster of two workers, which are threads of this process so that the page is a plain script. Where a scheduler is
# running already, its address is all that is needed: ``scheduler="tcp://host:8786"``. Windows are 15 × 15 coarse cells
# and four times large.

try:
    from distributed import Client, LocalCluster, get_task_stream
except ImportError:
    LocalCluster = None
    print("Dask's workers are not installed: pip install 'finescale[cluster]'")

asked = {"members": 4, "seed": 0, "factor": "1x8", "window": (4, 15, 15), "progress": False}
tasks = []
if LocalCluster is not None:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
        get_task_stream(client) as stream,
    ):
        address = cluster.scheduler_address
        finescale.downscale("rain", here / "coarse.nc", here / "cluster.zarr", scheduler=address, **asked)
    tasks = stream.data

# %%
# Who did what, and when? The first tasks take longer, as each worker loads its model then.

import matplotlib
from matplotlib.figure import Figure

from finescale.plots import COLOURS, STYLE

matplotlib.rcParams.update(STYLE)
if tasks:
    workers = sorted({task["worker"] for task in tasks})
    spans = [(workers.index(task["worker"]), part) for task in tasks for part in task["startstops"]]
    begin = min(part["start"] for _, part in spans)
    figure = Figure(figsize=(8, 2.4), layout="constrained")
    ax = figure.subplots()
    for worker, part in spans:
        start, stop = part["start"] - begin, part["stop"] - begin
        ax.barh(worker, stop - start, left=start, height=0.6, color=COLOURS[worker], edgecolor="white")
    ax.set_yticks(range(len(workers)), labels=[f"worker {k + 1}" for k in range(len(workers))])
    ax.set(title=f"{len(tasks)} tasks of a prediction", xlabel="time since the first task (s)", ylabel="")
figure if tasks else None

# %%
# The same without a cluster: fields are equal to the bit on one processor, to rounding elsewhere. A cluster whose
# workers come late or go early changes nothing either. What a killed run had finished is kept, and ``resume=True`` goes
# on.

import numpy as np
import xarray as xr

alone = finescale.downscale("rain", here / "coarse.nc", **asked)
if tasks:
    with xr.open_zarr(here / "cluster.zarr", chunks=None) as written:
        difference = np.abs(written["precipitation_rate"] - alone["precipitation_rate"]).max()
    print(f"largest difference: {float(difference):g} mm/h")

# %%
# One time, all members.

from finescale.plots import overview, region_of

time = 6
members = alone["precipitation_rate"].isel(time=time)
region, _ = region_of(truth)
fields = {f"Member {k + 1}": members.sel(realization=k) for k in range(4)}
figure = overview(fields, region, units="mm/h", rain=True, label="rain rate", columns=4)
figure.suptitle(f"{str(truth.time.values[time])[:16].replace('T', ' ')} UTC", fontweight="bold")
figure

# %%
# :doc:`Clusters </clusters>` says more: SLURM, memory, what a decade costs, faults and restarts.

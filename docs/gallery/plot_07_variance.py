"""
Uncertainty without members
===========================

Often the question is only: how far off may this value be? Then no members are needed. A
second network, the *variance head*, learns how large the error of the first one is,
from the coarse field alone; formulas do the rest.
"""

# %%
# The data are made up: a temperature every day, on cells of 10 km. Small eddies are
# strong where it is warm.

import numpy as np
import xarray as xr
from scipy.special import ndtr

from finescale.data.synthetic import gaussian_field


def temperature(days: int, seed: int) -> xr.DataArray:
    shape, cells = (days, 64, 64), {"spacing_km": 10, "cadence_minutes": 1440}
    wide = gaussian_field(shape, seed=(seed, 0), outer_km=400, **cells)
    eddies = gaussian_field(shape, seed=(seed, 1), outer_km=60, **cells)
    metres = 1e4 * (np.arange(64) + 0.5)
    day = np.timedelta64(1, "D")
    return xr.DataArray(
        (15 + 2 * wide + 1.5 * ndtr(2 * wide) * eddies).astype(np.float32),
        {
            "time": np.datetime64("2012-01-01", "ns") + np.arange(days) * day,
            "y": ("y", metres, {"units": "m"}),
            "x": ("x", metres, {"units": "m"}),
        },
        ("time", "y", "x"),
        "temperature",
        {"units": "degree_Celsius"},
    )


# %%
# A small model with no sampler in it: a network for the mean, and a head for the
# variance of what the mean leaves out, in modes of patches. It trains for half a
# minute.

from tempfile import TemporaryDirectory

import finescale

STEPS = 400
settings = {
    "factor": "1x4",
    "denoiser": "none",
    "variance.loss": "nll",
    "mean.backbone.width": 16,
    "data.crop": 32,
    "train.minutes": None,
    "train.steps": STEPS,
    "train.batch": 8,
    "train.lr": 2e-3,
    "train.mean_share": 0.4,
    "train.variance_share": 0.6,
}
past = temperature(120, seed=1)
with TemporaryDirectory() as folder:
    model = finescale.fit("patch-pod", f"{folder}/model", settings, data=past)

# %%
# Other days: their mean and standard deviation, without sampling.

truth = temperature(24, seed=2)
coarse = finescale.coarsen(truth, "1x4")
made = model.downscale(coarse, members=0, variance=True)
print(dict(made["temperature_std"].sizes))
print(made["temperature_std"].attrs["comment"])

# %%
# One of them. The standard deviation is large where eddies are strong. Within a coarse
# cell it is smallest in the middle: the mean of the cell is known, its corners are not.

from finescale.plots import overview, region_of

day = 3
error = np.abs(made["temperature"] - truth)
fields = {
    "Coarse": coarse["temperature"][day],
    "Mean": made["temperature"][day],
    "Truth": truth[day],
}
fields |= {
    "Standard deviation": made["temperature_std"][day],
    "Error of the mean": error[day],
}
region, _ = region_of(truth)
own = ("Standard deviation", "Error of the mean")  # on scales of their own
figure = overview(fields, region, units="°C", label="temperature", apart=own)
figure.suptitle(str(truth.time.values[day])[:10], fontweight="bold")
figure

# %%
# Is it right? All cells of all days, in order of the standard deviation, are cut in
# twelve parts. Where the model says so many degrees, the mean should be off by as many.
# After so short a training it still says too much where it is calm.

import matplotlib
from matplotlib.figure import Figure

from finescale.plots import COLOURS, STYLE

matplotlib.rcParams.update(STYLE)
order = ("time", "y", "x")
std = made["temperature_std"].transpose(*order).values.ravel()
off = error.transpose(*order).values.ravel()
parts = np.array_split(std.argsort(), 12)
said = [np.sqrt((std[part] ** 2).mean()) for part in parts]
found = [np.sqrt((off[part] ** 2).mean()) for part in parts]

figure = Figure(figsize=(5, 4.2), layout="constrained")
ax = figure.subplots()
ax.axline((0, 0), slope=1, color="black", lw=1, label="equal")
ax.plot(said, found, "o-", color=COLOURS[0], lw=2, label="twelfths of the cells")
ax.set(xlabel="standard deviation (°C)", xlim=(0, None), ylim=(0, None))
ax.set_ylabel("root mean square error of the mean (°C)")
ax.set_title("What the head says, and what is so")
ax.grid(color="#e3e6ea")
ax.set_axisbelow(True)
ax.legend()
figure

# %%

print(f"error of the mean   {np.sqrt((off**2).mean()):.3f} °C")
print(f"standard deviation  {np.sqrt((std**2).mean()):.3f} °C")
for level, width in ((0.5, 0.674), (0.9, 1.645)):
    inside = (off <= width * std).mean()
    print(f"within the interval for {level:.0%}: {inside:.1%} of the cells")

# %%
# What is exact in this and what is not, and how a model with a sampler gives both
# members and their standard deviation, is in :doc:`Uncertainty </uncertainty>`. For the
# variance of a mean over a region take members: here patches count as independent.

"""
Rain over a catchment
=====================

How much rain fell on a small catchment, and how likely is it that it was more than a
drain can take? A coarse field cannot say: the catchment is smaller than its cells. An
ensemble gives a range, and probabilities.

A *hyetograph* shows rain over time. This one has a band in which nine members of ten
lie.
"""

# %%
# Three hours of synthetic rain stand for the truth: cells of 1 km, every five minutes.
# What is known of it are means over 10 km and 15 minutes (``3x10``). The model ``rain``
# makes 32 possible fields of them.

import numpy as np

import finescale
from finescale.data.synthetic import synthetic_rain

truth = synthetic_rain((36, 120, 120), seed=10)
coarse = finescale.coarsen(truth, "3x10")["precipitation_rate"]
model = finescale.load("rain")
made = model.downscale(coarse, members=32, seed=0, factor="3x10")
ensemble = made["precipitation_rate"]

# %%
# The catchment is the inside of a polygon. Its corners, in km, would be read from a
# file.

from matplotlib.path import Path as Polygon

corners = [(83, 74), (88, 70), (93, 74), (92, 79), (87, 81), (83, 79)]
x, y = np.meshgrid(truth.x / 1000, truth.y / 1000)
cells = np.stack([x.ravel(), y.ravel()], axis=1)
inside = Polygon(corners).contains_points(cells).reshape(x.shape)
print(f"catchment: {int(inside.sum())} km²")

# %%
# Where it lies: across the border of two coarse cells, which know little of it.

from finescale.plots import overview, region_of

frame = int(truth.where(inside).mean(["y", "x"]).argmax("time"))
region, _ = region_of(truth)
fields = {
    "Coarse": coarse[frame // 3],
    "Member 1": ensemble.isel(realization=0, time=frame),
    "Truth": truth[frame],
}
figure = overview(fields, region, units="mm/h", rain=True, label="rain rate")
for ax in figure.axes[:3]:
    ax.plot(*zip(*corners, corners[0], strict=True), color="black", lw=2)
when = truth.time.dt.strftime("%Y-%m-%d %H:%M UTC").values[frame]
figure.suptitle(f"{when}, the catchment in black", fontweight="bold")
figure

# %%
# The mean over the catchment at each time, of each member, and of the coarse cells that
# it lies in.

factor = finescale.Factor(time=3, space=10)
nearest = truth.copy(data=finescale.verify.BASELINES["nearest"](coarse, factor)[0])
members = ensemble.where(inside).mean(["y", "x"]).transpose("realization", "time")
seen, known = (field.where(inside).mean(["y", "x"]) for field in (truth, nearest))

# %%
# Nine members of ten lie in the band, and half of them below its line. The truth should
# leave it about one time in ten.

import matplotlib
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure

from finescale.plots import COLOURS, STYLE

matplotlib.rcParams.update(STYLE)

low, middle, high = members.quantile([0.05, 0.5, 0.95], "realization").values
figure = Figure(figsize=(9, 4), layout="constrained")
ax = figure.subplots()
# A time is the beginning of its five minutes.
edges = np.append(truth.time, truth.time[-1] + np.timedelta64(5, "m"))
blue, orange = COLOURS[:2]
band = {"baseline": low, "fill": True, "color": blue, "alpha": 0.3}
ax.stairs(high, edges, **band, label="nine members of ten")
line = {"baseline": None, "lw": 2}
ax.stairs(middle, edges, **line, color=blue, label="median of the members")
ax.stairs(known, edges, **line, color=orange, ls="--", label="coarse cells")
ax.stairs(seen, edges, **line, color="black", label="truth")
ax.xaxis.set_major_formatter(DateFormatter("%H:%M"))
ax.set(xlabel="time (UTC)", ylabel="rain rate (mm/h)", ylim=(0, None))
ax.set_title("Rain over the catchment, 2024-07-01")
ax.grid(color="#e3e6ea")
ax.set_axisbelow(True)
ax.legend()
figure

# %%
# Now the question of the drain: how likely is it that a rate, or the sum of the three
# hours, is exceeded? The share of the members says so. What the coarse field gives is a
# single number, and for the highest rate too low a one: within 10 km and 15 minutes the
# rain is averaged away.

totals, highest = members.mean("time") * 3, members.max("time")
asked = {
    "Sum of three hours (mm)": (totals, 3 * seen.mean(), 3 * known.mean()),
    "Highest rate of five minutes (mm/h)": (highest, seen.max(), known.max()),
}
figure = Figure(figsize=(9, 3.8), layout="constrained")
panels = figure.subplots(1, 2, sharey=True)
for ax, (name, (values, true, coarse_value)) in zip(panels, asked.items(), strict=True):
    level = np.sort(values)
    chance = np.arange(level.size, -1, -1) / level.size  # k of M are above: k / M
    ends = np.r_[0, level, level[-1] * 1.1]
    ax.stairs(chance, ends, **line, color=blue, label="members")
    ax.axvline(float(true), color="black", lw=2, label="truth")
    ax.axvline(float(coarse_value), color=orange, ls="--", lw=2, label="coarse cells")
    ax.set(title=name.split(" (")[0], xlabel=name, ylim=(0, 1.02), xlim=(0, None))
    ax.grid(color="#e3e6ea")
    ax.set_axisbelow(True)
figure.axes[0].set_ylabel("probability of more (1)")
figure.axes[0].legend(loc="lower left")
figure

# %%

limit = 1.5 * float(known.max())
print(f"highest rate in the coarse cells: {float(known.max()):.1f} mm/h")
likely = float((highest > limit).mean())
print(f"probability of more than {limit:.1f} mm/h for five minutes: {likely:.0%}")

# %%
# One event cannot say whether such probabilities are right. ``finescale verify`` can,
# on many: see its reliability diagram and its coverage.

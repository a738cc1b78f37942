"""
Return levels
=============

How much rain must be reckoned with once in 10, 50, 100 events? That is a *return
level*; the number of events is its *return period*. Dams and sewers are built for them.
Coarse fields make them too low, as a mean over many cells is never as extreme as one
cell. The mean of an ensemble does as well. Members should not.
"""

# %%
# Forty events of synthetic rain, of one hour each, on cells of 1 km; what is known of
# them are means over 8 × 8 cells. Each event has another seed. Return periods of years
# would need the same with a long series.

import numpy as np

import finescale
from finescale.data.synthetic import synthetic_rain

EVENTS = 40
MEMBERS = 8

model = finescale.load("rain")
nearest = finescale.verify.BASELINES["nearest"]
factor = finescale.Factor(space=8)
largest = {"truth": [], "members": [], "mean of the members": [], "coarse cells": []}
for event in range(EVENTS):
    truth = synthetic_rain((12, 64, 64), seed=event)
    coarse = finescale.coarsen(truth, factor)["precipitation_rate"]
    made = model.downscale(coarse, members=MEMBERS, seed=event, factor=factor)
    members = made["precipitation_rate"].transpose("realization", "time", ...)
    mean = members.mean("realization")
    # The largest rate of the event in each cell, over its twelve times.
    largest["truth"].append(truth.max("time").values[None])
    largest["members"].append(members.max("time").values)
    largest["mean of the members"].append(mean.max("time").values[None])
    largest["coarse cells"].append(nearest(coarse, factor).max(1))

# %%
# Largest rates x of n events in order, x₁ ≥ x₂ ≥ … ≥ xₙ, are exceeded once in (n +
# 1)/1, (n + 1)/2, … events (Weibull's plotting position). All cells of the region
# together give many more than forty values, and so levels beyond forty events. As
# neighbouring cells see the same shower, these say more of the region than of one cell.

periods = np.array([2, 5, 10, 20, 50, 100, 200, 500, 1000])


def return_levels(maxima):
    """Levels (member, period) of fields (member, y, x), a field for each event."""
    values = np.stack(maxima, axis=1).reshape(len(maxima[0]), -1)
    return np.quantile(values, 1 - 1 / periods, axis=1, method="weibull").T


levels = {name: return_levels(maxima) for name, maxima in largest.items()}

# %%
# Each member is a history that could have been, and has a curve of its own. The band is
# all of them.

import matplotlib
from matplotlib.figure import Figure

from finescale.plots import COLOURS, STYLE

matplotlib.rcParams.update(STYLE)
figure = Figure(figsize=(7.5, 4.5), layout="constrained")
ax = figure.subplots()
band = levels.pop("members")
low, middle, high = band.min(0), np.median(band, 0), band.max(0)
blue, orange, green = COLOURS[:3]
ax.fill_between(periods, low, high, color=blue, alpha=0.3, label=f"{MEMBERS} members")
ax.plot(periods, middle, color=blue, lw=2, label="their median curve")
styles = (
    {"color": "black"},
    {"color": green, "ls": "-."},
    {"color": orange, "ls": "--"},
)
for (name, curve), style in zip(levels.items(), styles, strict=True):
    ax.plot(periods, curve[0], lw=2, label=name, **style)
ax.set_xscale("log")
ax.set_xticks(periods, labels=[str(period) for period in periods])
ax.minorticks_off()
ax.set(xlabel="return period (events of one hour)", ylim=(0, None))
ax.set_ylabel("rain rate over five minutes, 1 km² (mm/h)")
ax.set_title(f"Return levels of {EVENTS} synthetic events")
ax.grid(color="#e3e6ea")
ax.set_axisbelow(True)
ax.legend()
figure

# %%
# In numbers, over the truth's:

some = np.isin(periods, (10, 100, 1000))
truth, *others = levels
print(f"{'once in … events':21}", periods[some])
for name, curve in {
    "members": middle,
    **{name: levels[name][0] for name in others},
}.items():
    print(f"{name:21}", (curve / levels[truth][0])[some].round(2))

# %%
# The rarer an event, the fewer values stand behind its level. The score of extremes in
# ``finescale verify`` is the bias of the largest 0.1 % of all values, with an interval.

"""
A first ensemble
================

Weather radar sees rain on cells of 1 km. Here it is made coarse, as if it came from a
model with cells of 9 km, and made fine again by a model that comes with the package. As
the radar is known, what is made can be compared with it.

An *ensemble* is several fields that are all possible, given what is known: its
*members*. One field would have to guess where in a coarse cell the shower is. Members
that disagree about it say how much is open.
"""

# %%
# The radar image has twelve times, every two minutes. ``finescale.coarsen`` takes the
# mean of each block of 8 × 8 cells; ``1x8`` is the factor: 1 in time, 8 in space. With
# data of your own you begin with the coarse field, and this step is not needed.

import finescale
from finescale.data.samples import radar

truth = radar()["precipitation_rate"]
coarse = finescale.coarsen(truth, "1x8")["precipitation_rate"]
print("radar ", dict(truth.sizes))
print("coarse", dict(coarse.sizes))

# %%
# Three lines make an ensemble of eight members. Equal seeds give equal members.

model = finescale.load("rain")
ensemble = model.downscale(coarse, members=8, seed=0, factor="1x8")
rain = ensemble["precipitation_rate"].transpose("realization", "time", ...)
print(dict(rain.sizes))

# %%
# One time, on one colour scale. Members differ from each other and from the radar in
# the details, but all have the same mean in each coarse cell, and a texture like the
# radar's (a little grainier here, which ``finescale calibrate`` mends where some fine
# fields are known). The mean of the members is smoother than each of them: where
# showers lie within a coarse cell is not known, so it smears them out. The spread, the
# standard deviation of the members, says how much is open at each place.

from finescale.plots import overview, region_of

time = 6
fields = {
    "Coarse": coarse[time],
    "Member 1": rain[0, time],
    "Member 2": rain[1, time],
    "Radar": truth[time],
    "Mean of 8 members": rain[:, time].mean("realization"),
    "Spread": rain[:, time].std("realization", ddof=1),
}
region, _ = region_of(truth)
figure = overview(fields, region, units="mm/h", rain=True, label="rain rate")
when = truth.time.dt.strftime("%Y-%m-%d %H:%M UTC").values[time]
figure.suptitle(when, fontweight="bold")
figure

# %%
# The means of the coarse cells are kept. The file says how well: the largest difference
# between a block mean and its coarse cell, as a part of the largest coarse value.

residual = ensemble.attrs["finescale_conservation_residual"]
print(f"largest error of a block mean: {residual:.1e}")

# %%
# How good is it? The CRPS (continuous ranked probability score) is the error of an
# ensemble, in the units of the field: it is small where members are close to the truth
# and honest about how far off they may be. Smaller is better. A spread–skill ratio of 1
# says that members spread as much as they are wrong. *bicubic* is smooth interpolation,
# *rainfarm* a classical method that adds random detail.

others = ("bicubic", "rainfarm")
table = finescale.verify.score(ensemble, truth, coarse, baselines=others)
for system in table["system"].values:
    one = table.sel(system=system)
    crps, ratio = float(one["crps"]), float(one["spread_skill"])
    print(f"{system:9} CRPS {crps:.3f} mm/h   spread–skill {ratio:.2f}")

# %%
# All scores, with intervals and figures, are in the report that ``finescale verify``
# writes.

"""
A sequence in space and time
============================

Coarse fields are coarse in time too: means over six minutes, of cells of 11 km. Here
they are refined in both at once, so that showers move and grow between the coarse
times.
"""

# %%
# Radar of every two minutes, coarsened three times in time and ten times in space:
# ``3x10``.

import finescale
from finescale.data.samples import radar

truth = radar()["precipitation_rate"]
coarse = finescale.coarsen(truth, "3x10")["precipitation_rate"]
model = finescale.load("rain")
ensemble = model.downscale(coarse, members=4, seed=0, factor="3x10")

# %%
# An animation: the coarse field changes every third frame. Detail of the members is
# carried along the motion of the coarse field and changes slowly while it moves. It is
# a GIF of less than 2 MB; in a notebook ``IPython.display.Image(gif)`` shows it.

from pathlib import Path
from tempfile import TemporaryDirectory

from finescale.plots import animate_ensemble

folder = TemporaryDirectory()
path = Path(folder.name) / "rain.gif"
gif = animate_ensemble(
    ensemble, truth, coarse, path, members=(0, 1), title="MRMS radar, 3x10, UTC", fps=3
)
gif

# %%
# The same, standing still: three frames of one coarse interval, of one member and of
# the radar, in the wettest corner.

from finescale.plots import overview, region_of

member = ensemble["precipitation_rate"].isel(realization=0)
corner = {"lat": slice(37.6, 38.6), "lon": slice(-85.1, -84.1)}
fields = {
    f"{name}, {str(field.time.values[time])[11:16]}": field.sel(corner).isel(time=time)
    for name, field in (("Member 1", member), ("Radar", truth))
    for time in (6, 7, 8)
}
region, _ = region_of(truth.sel(corner))
figure = overview(fields, region, units="mm/h", rain=True, label="rain rate")
figure.suptitle("2019-06-10 UTC, three frames of six minutes", fontweight="bold")
figure

# %%
# Do details live as long as they should? The autocorrelation *along the motion*
# compares each frame with the next one, where it has moved to: 1 would be detail that
# never changes. The members' changes somewhat faster than the radar's.

table = finescale.verify.score(ensemble, truth, coarse)
for name in ("moving_autocorrelation", "moving_autocorrelation_truth"):
    print(f"{name:30} {float(table[name].isel(system=0)):.2f}")

# %%
# The mean over each coarse cell and each coarse interval is kept.

residual = ensemble.attrs["finescale_conservation_residual"]
print(f"largest error of a block mean: {residual:.1e}")

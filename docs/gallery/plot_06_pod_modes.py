"""
Modes of small patches
======================

A model can be small if it knows which patterns occur. *Proper orthogonal decomposition*
(POD, also called principal components or EOFs) finds them: the *modes* are the patterns
in which patches of the training data vary most. A patch of 8 × 8 cells is then not 64
numbers but 16 *coefficients*, one for each mode, and they can be looked at.
"""

# %%
# The model ``sst`` comes with the package. It refines daily sea-surface temperature,
# and has learned its modes from the Tasman Sea, 1982 to 2008: of what is left when a
# network's best guess is taken away.

import finescale

model = finescale.load("sst")
print(model)

# %%
# The leading modes, and the share of the variance that each holds. Each has a colour
# scale of its own, as only its shape matters. The first are slopes and waves across the
# patch, the later ones finer.

from finescale.plots import energy, modes

basis, energies = model.latent.basis.numpy(), model.latent.energies.numpy()
figure = modes(basis, energies, first=12, columns=6)
figure.suptitle("Modes of 8 × 8 cells, shares of the variance", fontweight="bold")
figure

# %%
# How many are needed? The model keeps 16 of them. What they leave out it adds as noise
# of the right strength.

ax = energy(energies, kept=model.latent.kept)
figure = ax.figure
figure.suptitle("Variance held by the first modes", fontweight="bold", y=0.99)
figure

# %%
# A field of sea-surface temperature, made up: one day, warm in the north, with eddies,
# on cells of a quarter of a degree. Of its means over 4 × 4 cells the model makes 32
# members.

import numpy as np
import xarray as xr

from finescale.data.synthetic import gaussian_field

lat, lon = -44.875 + 0.25 * np.arange(32), 147.125 + 0.25 * np.arange(32)
eddies = gaussian_field(
    (1, 32, 32), seed=4, spacing_km=25, outer_km=400, slope=5, cadence_minutes=1440
)
truth = xr.DataArray(
    (14 - 0.4 * (lat[:, None] + 41) + eddies).astype(np.float32),
    {
        "time": [np.datetime64("2012-01-15", "ns")],
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    },
    ("time", "lat", "lon"),
    "sst",
    {"units": "degree_Celsius", "standard_name": "sea_surface_temperature"},
)
coarse = finescale.coarsen(truth, "1x4")
made = model.downscale(coarse, members=32, seed=0, factor="1x4")
members = made["sst"].transpose("realization", "time", ...)
detail = (members - members.mean("realization")).values[:, 0]

# %%
# In each patch u of 8 × 8 cells the coefficients are a = Φᵀu, where the columns of Φ
# are the modes. Going back, Φa, with more and more of them, gives more and more of the
# detail. What is left after all 16 is the noise that the model adds.

from finescale.plots import overview, region_of

phi = basis[:, 0, 0]  # mode, y, x
patches = detail.reshape(32, 4, 8, 4, 8)  # member, patch and cell in y, the same in x
coefficients = np.einsum("kij,mpiqj->mkpq", phi, patches)

region, _ = region_of(truth)
fields = {"Detail of member 1": detail[0]}
for k in (2, 6, 16):
    back = np.einsum("kij,kpq->piqj", phi[:k], coefficients[0, :k])
    fields[f"From {k} modes"] = back.reshape(32, 32)
label = "member less the mean of all"
figure = overview(fields, region, units="°C", label=label, columns=4)
figure.suptitle("2012-01-15 (made up)", fontweight="bold")
figure

# %%
# Where do coefficients vary from member to member? There the model is unsure about that
# pattern.

import matplotlib
from matplotlib.figure import Figure

from finescale.plots import STYLE, coefficient_std

matplotlib.rcParams.update(STYLE)
figure = Figure(figsize=(11, 3.4), layout="constrained")
figure.suptitle("Spread of coefficients, 2012-01-15 (made up)", fontweight="bold")
for ax, mode in zip(figure.subplots(1, 3), (0, 7, None), strict=True):
    coefficient_std(coefficients, mode, units="°C", ax=ax)
figure

# %%
# :doc:`Patch POD </patch-pod>` says how such a model is trained on data of your own.

"""
Reading a GRIB archive
======================

Weather services publish GRIB files, in which each field is a message. finescale reads
them as it reads NetCDF: wherever a path is taken, it may be a GRIB file, or many.

This page needs the reader of GRIB: ``pip install 'finescale[grib]'``. Without it the
page says so, and shows the same from NetCDF.
"""

# %%
# An archive to read is made first: a forecast's rain on cells of .08°, a message for
# each time and a file for each six times. What you would have is such files.

from pathlib import Path
from tempfile import TemporaryDirectory

import finescale
from finescale.data.samples import radar

try:
    import cfgrib  # noqa: F401
    import eccodes
except ImportError:
    eccodes = None
    print("GRIB cannot be read here: pip install 'finescale[grib]'")

truth = radar()["precipitation_rate"]
coarse = finescale.coarsen(truth, "1x8")["precipitation_rate"]


def write_message(file, field) -> None:
    """A field (lat, lon) in mm/h as a GRIB message: kg m⁻² s⁻¹, rows from the north."""
    field, when = field[::-1], field.time.dt
    handle = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
    keys = {"Ni": field.lon.size, "Nj": field.lat.size, "shortName": "prate"}
    keys |= {f"{axis}DirectionIncrementInDegrees": 0.08 for axis in "ij"}
    keys |= {"bitsPerValue": 24, "dataDate": int(when.strftime("%Y%m%d"))}
    keys |= {"hour": int(when.hour), "minute": int(when.minute)}
    for name, at in (("First", 0), ("Last", -1)):
        keys[f"latitudeOf{name}GridPointInDegrees"] = float(field.lat[at])
        keys[f"longitudeOf{name}GridPointInDegrees"] = float(field.lon[at]) % 360
    for key, value in keys.items():
        eccodes.codes_set(handle, key, value)
    eccodes.codes_set_values(handle, field.values.astype(float).ravel() / 3600)
    eccodes.codes_write(handle, file)
    eccodes.codes_release(handle)


folder = TemporaryDirectory()
here = Path(folder.name)
for part in range(2):
    some = coarse[6 * part : 6 * part + 6]
    if eccodes is None:
        some.to_netcdf(here / f"part_{part}.nc")
    else:
        with open(here / f"part_{part}.grib2", "wb") as file:
            for field in some:
                write_message(file, field)
print(sorted(path.name for path in here.iterdir()))

# %%
# How does finescale understand it? What is said of reading stands after a question
# mark: ``shortName=prate`` picks messages, ``units=mm h-1`` the units. On the command
# line, with quotes about it: ``finescale info "part_*.grib2?units=mm h-1"``.

from finescale.cli import main

archive = f"{here}/part_*.nc"
if eccodes is not None:
    archive = f"{here}/part_*.grib2?shortName=prate&units=mm h-1"
main(["info", archive])

# %%
# From there on it is like any other file. Rows count from the north, as in the archive,
# and longitudes go from 0 to 360°.

model = finescale.load("rain")
ensemble = model.downscale(archive, members=2, seed=0, factor="1x8")
members = ensemble["precipitation_rate" if eccodes is None else "prate"]
print(dict(members.sizes))

# %%
# It is the rain that was written: GRIB rounds it to steps that are far below anything
# seen here.

from finescale.plots import overview, region_of

*_, y, x = members.dims
time = 6
one, two = members.sortby([y, x]).transpose("realization", ..., y, x)[:, time]
fields = {"In the archive": coarse[time], "Member 1": one, "Member 2": two}
fields["Radar"] = truth[time]
region, _ = region_of(truth)
figure = overview(fields, region, units="mm/h", rain=True, label="rain rate", columns=4)
when = truth.time.dt.strftime("%Y-%m-%d %H:%M UTC").values[time]
figure.suptitle(when, fontweight="bold")
figure

# %%
# :doc:`Your own data </data>` lists formats, what was tried of weather services' files,
# and what is said of reading.

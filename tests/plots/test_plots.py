"""Figures: one shared scale, units on every axis, small files, no pyplot."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from finescale import plots
from finescale.plots import Region, diagnostics, maps
from finescale.plots.region import region_of

REGION = Region((0.0, 120.0, 0.0, 80.0), "x (km)", "y (km)")


def fields() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    fine = {
        title: rng.gamma(0.3, 4.0, (80, 120)) for title in ("Member 1", "Truth", "Ensemble mean", "Member 2", "Spread")
    }
    fine["Truth"][:5, :5] = np.nan
    return {"Coarse input": rng.gamma(0.3, 4.0, (8, 12))} | fine


def images(figure: object) -> list:  # type: ignore[type-arg]
    return [ax.images[0] for ax in figure.axes if ax.images]  # type: ignore[attr-defined]


@pytest.mark.parametrize("rain", [True, False])
@pytest.mark.parametrize("columns", [2, 3])
def test_overview_shares_one_scale(rain: bool, columns: int) -> None:
    figure = plots.overview(fields(), REGION, units="mm/h", rain=rain, columns=columns, label="rain")
    shown = images(figure)
    assert len(shown) == 6
    assert len({(im.norm.vmin, im.norm.vmax, im.cmap.name) for im in shown}) == 1
    texts = [ax.get_xlabel() for ax in figure.axes]
    assert "rain (mm/h)" in texts and "x (km)" in texts
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.images] == list(fields())


def test_rain_is_white_where_dry_and_grey_where_missing() -> None:
    values = np.array([[0.0, 0.05, 1.0, np.nan]])
    cmap, norm = maps.scale([values], rain=True)
    image = images(plots.overview({"a": values}, REGION, rain=True))[0]
    colours = cmap(norm(image.get_array()))[0]
    np.testing.assert_allclose(colours[:2, :3], 1.0)
    assert colours[2, :3].max() < 1.0
    np.testing.assert_allclose(colours[3, :3], [0xC9 / 255] * 3, atol=1e-3)


MACHADO = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Linear sRGB as people without one kind of cone see it (Machado et al. 2009, severity 1)."""


@pytest.mark.parametrize("eyes", MACHADO)
def test_classes_of_rain_are_told_apart_by_all_eyes(eyes: str) -> None:
    from skimage.color import rgb2lab

    ends = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200]
    cmap, norm = maps.scale([np.array([3.0])], rain=True)
    drawn = cmap(norm(np.ma.masked_invalid([0.0, *ends, np.nan])))[:, :3]
    np.testing.assert_array_equal(drawn[1:-1], cmap(norm(np.array(ends) * 1.9))[:, :3])  # up to the next end
    linear = np.where(drawn <= 0.04045, drawn / 12.92, ((drawn + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(MACHADO[eyes]), 0, 1)
    seen = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(seen[None])[0]
    apart = np.linalg.norm(lab[:, None] - lab, axis=-1) + 999 * np.eye(len(lab))
    assert apart.min() > 9
    heavy = [1 + ends.index(rate) for rate in (10, 50, 100)]
    assert apart[np.ix_(heavy, heavy)].min() > 29
    # The same rate has the same colour in every picture, however much it rains there.
    other = maps.scale([np.array([300.0])], rain=True)
    np.testing.assert_array_equal(other[0](other[1](7.0)), cmap(norm(7.0)))


def located(lat: np.ndarray, lon: np.ndarray) -> xr.DataArray:
    coords = {
        "lat": ("lat", lat, {"units": "degrees_north"}),
        "lon": ("lon", lon, {"units": "degrees_east"}),
    }
    return xr.DataArray(np.zeros((1, lat.size, lon.size)), coords, ("time", "lat", "lon"))


def test_small_areas_are_drawn_in_kilometres_and_large_ones_in_degrees() -> None:
    # From 43.5° N 4° E on, 2° by 3°: Marseille and the Rhône delta.
    small = region_of(located(42.55 + 0.1 * np.arange(20), 4.05 + 0.1 * np.arange(30)))[0]
    across = 3 * 111.195 * np.cos(np.radians(43.5))
    np.testing.assert_allclose(small.edges, (0, across, 0, 2 * 111.195), rtol=1e-4)
    assert (small.xlabel, small.ylabel) == ("km east of 4° E", "km north of 42.5° N") and small.aspect == 1
    # Marseille's roads, 43.30° N 5.36° E, lie on a coast; so does the other name of the same longitudes.
    place = np.array([(5.36 - 4) / 3 * across, 0.8 * 111.195])
    assert min(np.abs(line - place).max(axis=1).min() for line in small.coasts) < 8
    wide = region_of(located(-30.0 + np.arange(60), 340.0 + np.arange(50)))[0]
    assert wide.edges == (339.5, 389.5, -30.5, 29.5) and wide.xlabel == "longitude (°)"
    dakar = np.array([342.5, 14.7])
    assert min(np.abs(line - dakar).max(axis=1).min() for line in wide.coasts) < 0.3
    assert not region_of(located(38 + 0.1 * np.arange(9), -86 + 0.1 * np.arange(9)))[0].coasts  # inland


def test_coasts_are_drawn_where_each_cell_has_a_latitude_and_longitude() -> None:
    """On a grid that is turned by 90°: its x runs south, its y east."""
    south, east = np.meshgrid(44.0 - 0.05 * np.arange(40), 3.0 + 0.05 * np.arange(60))
    coords = {
        "y": ("y", 1000.0 * np.arange(60), {"units": "m"}),
        "x": ("x", 1000.0 * np.arange(40), {"units": "m"}),
        "lat": (("y", "x"), south, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": (("y", "x"), east, {"standard_name": "longitude", "units": "degrees_east"}),
    }
    field = xr.DataArray(np.zeros((1, 60, 40)), coords, ("time", "y", "x"))
    region = region_of(field)[0]
    marseille = np.array([(44.0 - 43.3) / 0.05, (5.36 - 3.0) / 0.05])  # km: a cell has one
    assert min(np.abs(line - marseille).max(axis=1).min() for line in region.coasts) < 2
    figure = plots.overview({"a": field.values[0]}, region)
    assert len(figure.axes[0].collections) == 1 and figure.axes[0].get_xlim() == (-0.5, 39.5)


def test_close_ups_share_a_scale_and_lie_where_they_are() -> None:
    given = {"Coarse input": np.full((2, 2), 280.0), "Truth": 280 + fields()["Truth"][20:40, 20:40]}
    parts = [REGION.part((0.25, 0.5), (0.0, 0.25)), REGION.part((0.5, 0.75), (0.75, 1.0))]
    assert parts[1].edges == (90.0, 120.0, 40.0, 60.0)
    figure = plots.closeups([(part, given) for part in parts], units="°C", title="2024-06-01 00:00")
    drawn = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in drawn] == [*given] * 2 and "2024-06-01 00:00" in figure.get_suptitle()
    assert [ax.images[0].get_extent() for ax in drawn] == [list(part.edges) for part in parts for _ in given]
    first, second = drawn[0].images[0].norm, drawn[1].images[0].norm
    assert (first.vmin, first.vmax) == (second.vmin, second.vmax)


def test_exceedance_has_the_truth_and_its_outline() -> None:
    truth, share = np.zeros((8, 12)), np.full((8, 12), 0.25)
    truth[2:5, 3:7] = 1
    figure = plots.exceedance({"≥ 10 mm/h": {"Truth": truth, "Ensemble": share}}, REGION)
    true, ours = (ax for ax in figure.axes if ax.images)
    assert ours.get_title(loc="left") == "Ensemble, ≥ 10 mm/h"
    (line,) = ours.collections
    # Around rows 2 … 4 and columns 3 … 6 of cells of 10 km, halfway between the centres of cells.
    np.testing.assert_allclose(line.get_paths()[0].get_extents().extents, [30, 20, 70, 50])
    assert not true.collections
    assert true.images[0].norm(0.95) > true.images[0].norm(0.25) == true.images[0].norm(0.29)


def test_a_spread_may_have_its_own_scale() -> None:
    given = {"Truth": 280 + fields()["Member 1"], "Spread": fields()["Spread"]}
    first, second = images(plots.overview(given, REGION, units="K", apart=("Spread",)))
    assert first.norm.vmin > 200 > second.norm.vmax


@pytest.mark.parametrize("values", [np.zeros((4, 6)), np.full((4, 6), np.nan), np.full((4, 6), 3.0)])
@pytest.mark.parametrize("rain", [True, False])
def test_dry_missing_and_constant_fields_can_be_drawn(values: np.ndarray, rain: bool) -> None:
    assert maps.png(plots.overview({"a": values}, REGION, rain=rain)).startswith(b"\x89PNG")


def test_pictures_above_the_limit_have_one_byte_a_dot() -> None:
    """…of the same size; below it they are as matplotlib draws them."""
    big = {title: np.random.default_rng(1).gamma(0.3, 4.0, (300, 450)) for title in fields()}
    figure = plots.overview(big, REGION, units="mm/h", rain=True)
    maps.png(figure)  # arranges the figure, which then stays as it is
    size = len(maps.png(figure, limit=10**9))
    full, small = (Image.open(io.BytesIO(maps.png(figure, limit))) for limit in (size, size - 1))
    assert (full.mode, small.mode) == ("RGBA", "P") and full.size == small.size and full.width > 800


def test_spectra_and_rank_histogram_have_all_systems_and_units() -> None:
    k = np.arange(1, 20) / 100
    ax = diagnostics.spectra(k, {"Ensemble": k**-2, "Bicubic": k**-4}, k**-2.1, length="km", units="mm/h")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["truth", "Ensemble", "Bicubic"]
    assert ax.get_xlabel() == "wavelength (km)" and "mm/h" in ax.get_ylabel()
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 3
    ranks = diagnostics.rank_histogram({"Ensemble": np.full(9, 1 / 9), "RainFARM": np.full(5, 0.2)})
    assert {t.get_text() for t in ranks.get_legend().get_texts()} == {"Ensemble", "RainFARM", "flat (reliable)"}
    for one in (ax, ranks):
        assert maps.png(one.figure).startswith(b"\x89PNG")


def test_no_pyplot_is_loaded_by_the_figures() -> None:
    if "matplotlib.pyplot" in sys.modules:
        import matplotlib.pyplot as plt

        before = plt.get_fignums()
        plots.overview(fields(), REGION)
        assert plt.get_fignums() == before
    else:
        plots.overview(fields(), REGION)
        assert "matplotlib.pyplot" not in sys.modules


def test_a_small_file_keeps_the_rare_colours_of_the_extremes() -> None:
    """A few cells at the top of the scale, among many others, are drawn in the colours of the full file."""
    from matplotlib.figure import Figure

    values = np.random.default_rng(0).random((200, 200)) * 0.7
    values[100:104, 100:104] = 1.0
    figure = Figure(figsize=(5, 5))
    figure.subplots().imshow(values, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    full, small = maps.png(figure, limit=10**9), maps.png(figure, limit=0)
    assert [Image.open(io.BytesIO(data)).mode for data in (full, small)] == ["RGBA", "P"]
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int) for data in (full, small)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 24
    yellow = (pictures[0] == [253, 231, 36]).all(-1)
    assert yellow.any() and np.abs(pictures[1][yellow] - [253, 231, 36]).max() <= 15


def test_modes_their_energy_and_where_they_vary() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(64, 6)))[0].T.reshape(6, 1, 1, 8, 8)
    shares = np.array([0.5, 0.25, 0.1, 0.05, 0.02, 0.01])
    figure = plots.modes(basis, shares, first=5, columns=3)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "1 · 50 %",
        "2 · 25 %",
        "3 · 10 %",
        "4 · 5 %",
        "5 · 2 %",
    ]
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), basis[3, 0, 0])
    norms = [ax.images[0].norm for ax in figure.axes]
    assert all(norm.vmin == -norm.vmax for norm in norms) and len({norm.vmax for norm in norms}) == 5
    curve = plots.energy(shares, kept=3)
    np.testing.assert_allclose(curve.lines[0].get_ydata(), np.cumsum(shares))
    np.testing.assert_allclose(curve.lines[1].get_xydata()[1], [3, 0.85])
    coefficients = rng.normal(size=(400, 2, 3, 5)) * np.array([1.0, 3.0])[:, None, None]
    for mode, std in ((None, 10**0.5), (0, 1.0), (1, 3.0)):
        ax = plots.coefficient_std(coefficients, mode)
        np.testing.assert_allclose(ax.images[0].get_array(), std, rtol=0.15)
    assert "std of coefficients" in ax.figure.axes[1].get_ylabel()
    for one in (figure, curve.figure, ax.figure):
        assert maps.png(one).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="two members or more"):
        plots.coefficient_std(coefficients[:1])

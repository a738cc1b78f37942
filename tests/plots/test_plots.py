"""Figures: one shared scale, units on every axis, small files, no pyplot."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from finescale import plots
from finescale.plots import Region, diagnostics, maps

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
    figure = maps.overview(fields(), REGION, units="mm/h", rain=rain, columns=columns, label="rain")
    shown = images(figure)
    assert len(shown) == 6
    assert len({(im.norm.vmin, im.norm.vmax, im.cmap.name) for im in shown}) == 1
    texts = [ax.get_xlabel() for ax in figure.axes]
    assert "rain (mm/h)" in texts and "x (km)" in texts
    assert [ax.get_title(loc="left") for ax in figure.axes if ax.images] == list(fields())


def test_rain_is_white_where_dry_and_grey_where_missing() -> None:
    values = np.array([[0.0, 0.05, 1.0, np.nan]])
    cmap, norm = maps.scale([values], rain=True)
    image = images(maps.overview({"a": values}, REGION, rain=True))[0]
    colours = cmap(norm(image.get_array()))[0]
    np.testing.assert_allclose(colours[:2, :3], 1.0)
    assert colours[2, :3].max() < 1.0
    np.testing.assert_allclose(colours[3, :3], [0xCF / 255, 0xD3 / 255, 0xD8 / 255], atol=1e-3)


def test_a_spread_may_have_its_own_scale() -> None:
    given = {"Truth": 280 + fields()["Member 1"], "Spread": fields()["Spread"]}
    first, second = images(maps.overview(given, REGION, units="K", apart=("Spread",)))
    assert first.norm.vmin > 200 > second.norm.vmax


@pytest.mark.parametrize("values", [np.zeros((4, 6)), np.full((4, 6), np.nan), np.full((4, 6), 3.0)])
@pytest.mark.parametrize("rain", [True, False])
def test_dry_missing_and_constant_fields_can_be_drawn(values: np.ndarray, rain: bool) -> None:
    assert maps.png(maps.overview({"a": values}, REGION, rain=rain)).startswith(b"\x89PNG")


def test_pictures_above_the_limit_have_one_byte_a_dot() -> None:
    """…of the same size; below it they are as matplotlib draws them."""
    big = {title: np.random.default_rng(1).gamma(0.3, 4.0, (300, 450)) for title in fields()}
    figure = maps.overview(big, REGION, units="mm/h", rain=True)
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
        maps.overview(fields(), REGION)
        assert plt.get_fignums() == before
    else:
        maps.overview(fields(), REGION)
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

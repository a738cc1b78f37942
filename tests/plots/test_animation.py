"""Animated GIFs: frames, size, colours, titles; coarse frames held."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from finescale.data.coarsen import coarsen
from finescale.data.synthetic import synthetic_rain
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.plots import animate, animate_ensemble, animation, maps


def rates(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(0.3, 4.0, shape)


def pictures(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        found = []
        for k in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(k)
            found.append(np.asarray(image.convert("RGB")).astype(int))
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that `animate` makes."""
    made: list = []

    class Noted(Figure):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr("matplotlib.figure.Figure", Noted)
    return made


def test_frames_titles_and_time(tmp_path: Path, drawn: list) -> None:
    panels = {"Coarse input": rates((2, 3, 4)), "Member 1": rates((6, 12, 16)), "Truth": rates((6, 12, 16), 1)}
    path = animate(panels, tmp_path / "a.gif", rain=True, units="mm/h", title="Rain", labels=list("abcdef"), fps=4)
    figure = drawn[0]
    axes = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in axes] == list(panels)
    assert len({(ax.images[0].norm.vmin, ax.images[0].norm.vmax, ax.images[0].cmap.name) for ax in axes}) == 1
    assert "mm/h" in [ax.get_xlabel() for ax in figure.axes]
    assert figure.get_suptitle() == "Rain  f"
    with Image.open(path) as image:
        assert image.format == "GIF" and image.n_frames == 6  # type: ignore[attr-defined]
        assert image.info["duration"] == 250 and image.info["loop"] == 0
        assert image.width > 2 * image.height
    assert list(tmp_path.iterdir()) == [path]


def test_coarse_frames_are_held_and_fine_ones_move(tmp_path: Path) -> None:
    path = animate({"Coarse": rates((2, 3, 3)), "Fine": rates((6, 9, 9))}, tmp_path / "a.gif", rain=True)
    frames = np.array(pictures(path))
    middle = frames.shape[2] // 2
    # Axes, titles and colour bar stand still, so what moves is a field.
    moves = (np.diff(frames, axis=0) != 0).any(axis=-1)
    left, right = moves[..., : middle - 10].any(axis=(1, 2)), moves[..., middle + 10 :].any(axis=(1, 2))
    assert left.tolist() == [False, False, True, False, False]
    assert right.all()


def test_colours_are_those_of_the_scale_even_for_rare_extremes(tmp_path: Path) -> None:
    values = np.zeros((3, 20, 20))
    values[:, :10] = 1.0
    values[1, 4, 5] = 80.0
    values[2, 15:18, 15:18] = np.nan
    frames = pictures(animate({"a": values}, tmp_path / "a.gif", rain=True))
    cmap, norm = maps.scale([values], rain=True)
    inner = [frame[40:-110, 60:-20].reshape(-1, 3) for frame in frames]
    top, rain, missing = (
        np.rint(255 * np.array(colour[:3])) for colour in (cmap(norm(80.0)), cmap(norm(1.0)), cmap(np.nan))
    )
    assert [bool((np.abs(f - top).max(axis=1) <= 2).any()) for f in inner] == [False, True, False]
    assert [bool((np.abs(f - missing).max(axis=1) <= 2).any()) for f in inner] == [False, False, True]
    assert all((np.abs(f - rain).max(axis=1) <= 2).mean() > 0.3 for f in inner)
    assert all((f == 255).all(axis=1).mean() > 0.3 for f in inner)


def test_the_palette_keeps_a_rare_colour_among_many() -> None:
    greys = np.repeat(np.arange(250)[:, None], 3, axis=1)
    blues = greys[100:] + [0, 0, 5]
    yellow = np.array([[253, 231, 36]])
    counts = np.concatenate([np.full(400, 1000), [1]])
    palette = animation.palette(np.concatenate([greys, blues, yellow]), counts)
    assert palette.shape == (256, 3)
    assert (palette == yellow).all(axis=1).any()


def test_fewer_dots_until_the_file_is_small_enough(tmp_path: Path) -> None:
    panels = {"a": rates((4, 40, 40))}
    free = animate(panels, tmp_path / "free.gif", rain=True)
    limit = len(free.read_bytes()) * 2 // 3
    tight = animate(panels, tmp_path / "tight.gif", rain=True, limit=limit)
    assert len(tight.read_bytes()) <= limit
    with Image.open(free) as wide, Image.open(tight) as narrow:
        assert narrow.width < wide.width
        assert narrow.n_frames == wide.n_frames == 4  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="take fewer frames"):
        animate(panels, tmp_path / "never.gif", rain=True, limit=1000)
    assert not (tmp_path / "never.gif").exists()


@pytest.mark.parametrize(
    ("panels", "options", "message"),
    [
        ({}, {}, "at least one panel"),
        ({"a": rates((4, 3, 3))[0]}, {}, "must be \\(time, y, x\\)"),
        ({"a": rates((4, 3, 3)), "b": rates((3, 3, 3))}, {}, "3 frames, which do not divide the others' 4"),
        ({"a": rates((4, 3, 3))}, {"labels": ["x"]}, "4 frames have 1 labels"),
        ({"a": rates((4, 3, 3))}, {"fps": 0}, "frames a second"),
    ],
)
def test_what_cannot_be_animated_is_said(tmp_path: Path, panels: dict, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        animate(panels, tmp_path / "a.gif", **options)
    with pytest.raises(InputError, match=r"must end in \.gif"):
        animate({"a": rates((2, 3, 3))}, tmp_path / "a.mp4")


def test_an_ensemble_from_datasets(tmp_path: Path, drawn: list) -> None:
    truth = synthetic_rain((6, 24, 36), seed=1)
    noise = [synthetic_rain((6, 24, 36), seed=s) for s in (2, 3, 4)]
    ensemble = truth.expand_dims(number=3).copy(data=np.stack([n.values for n in noise]))
    coarse = coarsen(truth, Factor(3, 4)).isel(y=slice(None, None, -1))  # from north to south
    path = animate_ensemble(ensemble, truth, coarse, tmp_path / "rain.gif", members=(0, 2), title="Rain")
    assert len(pictures(path)) == 6
    figure = drawn[0]
    axes = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in axes] == ["Coarse input", "Member 1", "Member 3", "Truth"]
    assert axes[0].get_xlabel() == "x (km)" and axes[0].images[0].get_extent() == [0.0, 36.0, 0.0, 24.0]
    assert figure.get_suptitle() == "Rain  2024-07-01 12:25"
    shown = [np.asarray(ax.images[0].get_array()) for ax in axes]
    means = truth.values[3:].reshape(3, 6, 4, 9, 4).mean(axis=(0, 2, 4))
    np.testing.assert_allclose(shown[0], means, rtol=1e-5)
    np.testing.assert_allclose(shown[2], noise[2].values[5], rtol=1e-5)
    with pytest.raises(InputError, match="no member 3"):
        animate_ensemble(ensemble, truth, coarse, tmp_path / "b.gif", members=(0, 3))


@pytest.mark.parametrize(
    ("attrs", "shown", "label"),
    [
        ({"units": "m s-1", "standard_name": "eastward_wind"}, 0.0, "m s-1"),
        ({"units": "K", "standard_name": "air_temperature"}, -273.15, "°C"),
    ],
)
def test_wind_is_not_shown_as_rain_and_kelvins_in_degrees(
    attrs: dict[str, str], shown: float, label: str, tmp_path: Path, drawn: list
) -> None:
    values = (300.0 if label == "°C" else 0.0) + np.random.default_rng(0).normal(size=(2, 3, 8, 12))
    ensemble = xr.DataArray(values, dims=("number", "time", "y", "x"), attrs=attrs)
    coarse = ensemble[0].coarsen(y=4, x=4).mean().assign_attrs(attrs)  # type: ignore[attr-defined]
    animate_ensemble(ensemble, ensemble[1], coarse, tmp_path / "a.gif", members=(0,))
    axes = [ax for ax in drawn[0].axes if ax.images]
    assert {ax.images[0].get_cmap().name for ax in axes} == {"viridis"}
    np.testing.assert_allclose(axes[1].images[0].get_array(), values[0, -1] + shown)
    assert label in [word for ax in drawn[0].axes for word in (ax.get_xlabel(), ax.get_ylabel())]


def test_no_pyplot_is_loaded(tmp_path: Path) -> None:
    before = "matplotlib.pyplot" in sys.modules
    animate({"a": rates((2, 3, 3))}, tmp_path / "a.gif")
    assert ("matplotlib.pyplot" in sys.modules) == before

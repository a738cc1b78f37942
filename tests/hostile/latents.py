"""Settings of latents, of means that conserve and of crops that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import xarray as xr
from tests.hostile.cases import Case
from tests.hostile.made import rain, stored

NUMBERS = count()


def cases(folder: Path) -> list[Case]:
    stored(rain(6, 32, 32), folder / "fine.nc")
    stored(rain(1, 32, 32), folder / "one.nc")
    stored(xr.zeros_like(rain(6, 32, 32)) + float("nan"), folder / "land.nc")
    return [*few(), *bases(), *wavelets(), *joint()]


def fit(name: str, preset: str, *settings: str, says: str, path: str = "fine.nc") -> Case:
    words = [word for setting in (f"data.path={path}", "data.crop=32", *settings) for word in ("--set", setting)]
    return Case(name, ["fit", preset, "-o", f"latents{next(NUMBERS)}", *words], says=(says,))


def few() -> Iterator[Case]:
    """What is told before anything is trained."""
    for preset in ("patch-pod", "podiff"):
        yield fit("one crop, nothing to hold out", preset, path="one.nc", says="single crop")
        yield fit("land alone", preset, path="land.nc", says="data.min_valid")
        for turn in ("maybe", "7", "null", "[true]"):
            yield fit(f"data.turn {turn}", preset, f"data.turn={turn}", says="data.turn")
    yield fit("fewer times than modes", "podiff", says="latent.modes is 40, but the training crops hold only 4 patches")
    yield fit("a basis of a part of the domain", "podiff", "latent.patch=16", "latent.modes=9", says="latent.patch")


def bases() -> Iterator[Case]:
    for condition in ("fold", "7", "null", "[mean]"):
        yield fit(f"condition {condition}", "podiff", f"latent.condition={condition}", says="latent.condition")
    for key, value in (("modes", "0"), ("modes", "1.5"), ("modes", "65"), ("patch", "0"), ("patch", "[8, 8, 8]"),
                       ("energy", "0"), ("energy", "1.01"), ("energy", ".nan"), ("overlap", "7"), ("remainder", "x"),
                       ("coarse", "8"), ("coarse", "[12, 4]"), ("random", "[]"), ("frames", "0")):  # fmt: skip
        yield fit(f"latent.{key} {value}", "patch-pod", f"latent.{key}={value}", says="mode" if value == "65" else key)


def wavelets() -> Iterator[Case]:
    for value in ("7", "tree", "null", "[]"):
        yield fit(f"packet {value}", "wavelet-wdm", f"latent.packet={value}", says="latent.packet")
    yield fit("four levels of a packet", "wavelet-wdm", "latent.levels=4", says="latent.levels")
    yield fit("a packet of pixels", "edm", "latent={kind: pixel, packet: true}", says="latent.packet")


def joint() -> Iterator[Case]:
    """What `scale-adaptive` is made of."""
    factor = ("factor=2x4", "data.frames=2", "data.min_wet=0")
    for key in ("mean.interval", "mean.conserve", "latent.interval"):
        for value in ("7", "often", "null"):
            yield fit(f"{key} {value}", "scale-adaptive", *factor, f"{key}={value}", says=key)
    yield fit("a mean that conserves nothing", "scale-adaptive", *factor, "constraint=none", says="mean.conserve")
    yield fit("a conserving mean of logits", "scale-adaptive", *factor, "constraint=softmax", says="constraint")
    several = "factor={time: [1, 3], space: [2, 4]}"
    yield fit("frames of several factors", "scale-adaptive", several, "data.crop=16", says="latent.interval")

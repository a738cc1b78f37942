"""The GAN of sup3r: its generator and discriminator on log-rain, first without and then with the discriminator.

The networks are those of its example configurations, with three doublings instead of one or two, and with a mean
over the field instead of a dense layer of six million weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import harness
import numpy as np
from sup3r.models import Sup3rGan

BATCH, SAMPLE = 8, 512
ALONE = 0.5
"""Share of the time in which the generator learns alone."""
FEATURES = ["rain"]


class Model(NamedTuple):
    gan: Sup3rGan
    mean: float
    std: float


class Batches:
    """What sup3r trains on, until the time is over: its own handlers read files."""

    means = stds = None
    val_data = ()
    s_enhance, t_enhance, smoothing = harness.FACTOR, 1, None
    lr_features = hr_out_features = FEATURES
    hr_exo_features = smoothed_features = ()

    def __init__(self, given: harness.Training, mean: float, std: float, share: float, seed: int) -> None:
        self.given, self.mean, self.std = given, mean, std
        self.clock, self.rng = harness.Clock(given.seconds * share), np.random.default_rng([given.seed, seed])
        low, high = given.coarse.shape[-1], given.fine.shape[-1]
        self.shapes = (BATCH, low, low, 1), (BATCH, high, high, 1)
        self.steps = 0

    def __len__(self) -> int:
        return len(self.given.fine) // BATCH

    def __iter__(self) -> Iterator[SimpleNamespace]:
        while self.clock.spent < 1:
            crops = np.sort(self.rng.choice(len(self.given.fine), BATCH, replace=False))
            low, high = (
                ((np.log1p(array[crops] / 0.1) - self.mean) / self.std)[..., None]
                for array in (self.given.coarse, self.given.fine)
            )
            yield SimpleNamespace(low_res=low, high_res=high)
            self.steps += 1

    def stop(self) -> None:
        self.given.steps.append(self.steps)


def convolution(filters: int, activation: str | None = None) -> list[dict[str, Any]]:
    """A convolution that keeps the size, as sup3r's configurations make it."""
    return [
        {"class": "FlexiblePadding", "paddings": [[0, 0], [3, 3], [3, 3], [0, 0]], "mode": "REFLECT"},
        {"class": "Conv2DTranspose", "filters": filters, "kernel_size": 3, "strides": 1, "activation": activation},
        {"class": "Cropping2D", "cropping": 4},
    ]


def generator() -> list[dict[str, Any]]:
    outer, inner = ({"class": "SkipConnection", "name": name} for name in "ab")
    block = {"n": 16, "repeat": [inner, *convolution(64, "relu"), *convolution(64), inner]}
    doubling = [*convolution(256), {"class": "SpatialExpansion", "spatial_mult": 2}]
    doubling.append({"class": "Activation", "activation": "relu"})
    return [*convolution(64, "relu"), outer, block, *convolution(64), outer, *doubling * 3, *convolution(1)]


def discriminator() -> list[dict[str, Any]]:
    leaky = {"class": "LeakyReLU", "alpha": 0.2}
    layers = []
    for filters in (32, 64, 128, 256):
        for strides in (1, 2):
            kernel = {"class": "Conv2D", "filters": filters, "kernel_size": 3, "padding": "valid", "strides": strides}
            layers += [kernel, leaky]
    return [*layers, {"class": "GlobalAveragePooling2D"}, {"class": "Dense", "units": 1}]


def train(given: harness.Training) -> Model:
    Sup3rGan.seed(given.seed)
    y = np.log1p(given.fine[:SAMPLE] / 0.1)
    model = Model(
        Sup3rGan(generator(), discriminator(), learning_rate=5e-4, learning_rate_disc=1e-4),
        float(y.mean()),
        float(y.std()),
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = {"input_resolution": {"spatial": "8km", "temporal": "60min"}, "n_epoch": 1}
        settings["out_dir"] = f"{folder}/{{epoch}}"
        alone = Batches(given, model.mean, model.std, ALONE, 0)
        model.gan.train(alone, weight_gen_advers=0.0, train_gen=True, train_disc=False, **settings)
        model.gan.optimizer.learning_rate.assign(1e-4)
        both = Batches(given, model.mean, model.std, 1 - ALONE, 1)
        model.gan.train(both, weight_gen_advers=0.001, train_gen=True, train_disc=True, **settings)
    return model


def refine(model: Model, coarse: harness.Array, count: int) -> harness.Array:
    low = ((np.log1p(coarse / 0.1) - model.mean) / model.std)[..., None]
    y = np.concatenate([model.gan.generate(low[n : n + BATCH])[..., 0] for n in range(0, len(low), BATCH)])
    rain = 0.1 * np.expm1((y * model.std + model.mean).clip(0, 12))
    return np.where(rain < 0.05, 0, rain)[None]


def parameters(model: Model) -> dict[str, int]:
    networks = {"generator": model.gan.generator_weights, "discriminator": model.gan.discriminator_weights}
    return {name: sum(int(np.prod(weight.shape)) for weight in weights) for name, weights in networks.items()}


if __name__ == "__main__":
    harness.main(train, refine, parameters)

"""What all tests share: one thread a process, fixed seeds whatever the order, and few hypothesis examples.

pytest-randomly shuffles the tests and prints the seed of the order (``--randomly-seed=N`` repeats it,
``-p no:randomly`` keeps the order of the files). The data stay the same in every order: each test, and each fixture of
a wider scope, starts from the random state below.
"""

from __future__ import annotations

import os
import random

# Before torch starts its thread pool: two test processes share two cores. More threads if the caller asks for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile(
    "finescale", deadline=None, max_examples=25, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("finescale")


def seed() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    """The order is random, the data are not."""
    if config.pluginmanager.hasplugin("randomly"):
        config.option.randomly_reset_seed = False


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """A fixture that several tests share is the same whichever of them asks for it first."""
    if fixturedef.scope != "function":
        seed()


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test starts from the same random state, whichever tests ran before it in its process."""
    seed()


@pytest.fixture(autouse=True)
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the processor is said to multiply bfloat16 natively, which decides what ``precision: auto`` is.

    Tests are told that it does not, so that networks run in the same number type on every machine; what must hold in
    bfloat16 as well says so with ``parametrize("native", [False, True], indirect=True)``. Either runs everywhere.
    """
    is_native = bool(getattr(request, "param", False))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: is_native)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: is_native)
    return is_native


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

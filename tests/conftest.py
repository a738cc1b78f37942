"""What all tests share: one thread a process, fixed seeds whatever the order, and few hypothesis examples.

pytest-randomly shuffles the tests; the seed of the order is printed at the end (``--randomly-seed=N`` repeats it,
``-p no:randomly`` keeps the order of the files). The data stay the same in every order: each test, and each fixture of
a wider scope, starts from the random state below.
"""

from __future__ import annotations

import importlib.util
import os
import random

# Before thread pools start: two test processes share two cores. More threads if the caller asks for them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# Before eccodes, which tests and xarray's plugins import: the other way round the process crashes at exit, as
# finescale.data.files says.
if importlib.util.find_spec("pyproj"):
    importlib.import_module("pyproj")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# As many as asked for, also where there are fewer cores: sums then go in the order of that many parts.
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how to repeat the order, also after ``-q``."""
    if config.pluginmanager.hasplugin("randomly"):
        terminalreporter.write_line(f"in the order of --randomly-seed={config.option.randomly_seed}")


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

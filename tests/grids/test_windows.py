"""Windows: cores partition the domain, weights are a partition of unity, reads are aligned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale.errors import InputError
from finescale.grids.windows import cut, pad_to

CASES = [
    # shape, size, halo, blend, multiple
    ((3, 17, 23), (1, 8, 8), (0, 2, 3), (0, 2, 1), (1, 4, 2)),
    ((5, 16, 16), (2, 5, 7), (1, 0, 0), (1, 3, 2), (1, 1, 1)),
    ((1, 9, 40), (4, 64, 12), (2, 8, 8), (0, 4, 4), (1, 8, 8)),
    ((7, 13, 11), (3, 13, 4), (0, 0, 0), (0, 0, 0), (2, 3, 4)),
    ((2, 10, 33), (2, 4, 16), (0, 1, 1), (0, 4, 16), (1, 4, 16)),
]


@pytest.mark.parametrize(("shape", "size", "halo", "blend", "multiple"), CASES)
def test_cores_partition_and_weights_sum_to_one(shape, size, halo, blend, multiple):
    owners, total = np.zeros(shape, int), np.zeros(shape)
    for window in cut(shape, size, halo, blend, multiple):
        owners[window.core] += 1
        total[window.read] += window.weight
        assert window.weight.min() >= 0
        for core, read, inner, n, m, h, b, w in zip(
            window.core, window.read, window.inner, shape, multiple, halo, blend, window.weights, strict=True
        ):
            assert core.start % m == 0 and read.start % m == 0
            assert read.stop % m == 0 or read.stop == n
            assert read.start <= max(0, core.start - h - b) and read.stop >= min(n, core.stop + h + b)
            assert (inner.start + read.start, inner.stop + read.start) == (core.start, core.stop)
            assert w.size == read.stop - read.start
            position = np.arange(read.start, read.stop)
            halo_cells = (position < core.start - b) | (position >= core.stop + b)
            assert np.all(w[halo_cells] == 0)
    assert np.all(owners == 1)
    np.testing.assert_allclose(total, 1, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 60),
    size=st.integers(1, 70),
    halo=st.integers(0, 9),
    blend=st.integers(0, 9),
    multiple=st.integers(1, 9),
)
def test_any_axis(n, size, halo, blend, multiple):
    if blend > pad_to(size, multiple):
        blend = pad_to(size, multiple)
    windows = cut((1, n, 1), (1, size, 1), (0, halo, 0), (0, blend, 0), (1, multiple, 1))
    total = np.zeros((1, n, 1))
    for window in windows:
        total[window.read] += window.weight
    np.testing.assert_allclose(total, 1, atol=1e-14)
    assert sum(w.core[1].stop - w.core[1].start for w in windows) == n


def test_a_large_window_is_the_whole_domain():
    (window,) = cut((2, 10, 12), (9, 99, 99), halo=(1, 4, 4), blend=(0, 200, 0), multiple=(1, 8, 8))
    assert window.core == window.read == (slice(0, 2), slice(0, 10), slice(0, 12))
    assert np.all(window.weight == 1)


def test_interior_is_one_and_the_ramp_is_linear():
    first, second = cut((1, 1, 16), (1, 1, 8), blend=(0, 0, 2))
    np.testing.assert_allclose(first.weights[2], [1, 1, 1, 1, 1, 1, 7 / 8, 5 / 8, 3 / 8, 1 / 8])
    np.testing.assert_allclose(second.weights[2], first.weights[2][::-1])


def test_scaled_refines_every_slice():
    window = cut((4, 8, 8), (2, 4, 4), halo=(0, 1, 1))[-1]
    core, read, inner = window.scaled((3, 10, 5))
    assert core == (slice(6, 12), slice(40, 80), slice(20, 40))
    assert read == (slice(6, 12), slice(30, 80), slice(15, 40))
    assert inner == (slice(0, 6), slice(10, 50), slice(5, 25))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(size=(1, 4, 4), blend=(0, 5, 0)), "wider than a window's core of 4"),
        (dict(size=(1, 0, 4)), "window"),
        (dict(size=(1, 4, 4), halo=(0, -1, 0)), "halo"),
        (dict(size=(1, 4, 4), multiple=(0, 1, 1)), "multiple"),
    ],
)
def test_nonsense_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        cut((1, 16, 16), **arguments)


def test_pad_to():
    assert [pad_to(n, 8) for n in (1, 8, 9)] == [8, 8, 16]

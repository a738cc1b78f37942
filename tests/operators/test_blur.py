"""A Gaussian over known cells, against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from finescale.operators.blur import blur


@pytest.mark.parametrize("std", [0.3, 0.75, 2.0])
def test_it_is_the_gaussian_of_what_is_known(std: float) -> None:
    x = torch.rand(2, 3, 20, 31, dtype=torch.float64)
    known = torch.rand(x.shape) > 0.3
    sums, weights = (
        gaussian_filter(part.numpy(), (0, 0, std, std), mode="constant", truncate=4.0)
        for part in (torch.where(known, x, 0.0), known.double())
    )
    near = weights > 1e-12
    ours = blur(torch.where(known, x, torch.nan), std).numpy()
    np.testing.assert_allclose(ours[near], (sums / np.maximum(weights, 1e-300))[near], rtol=1e-9)
    assert np.isfinite(ours).all()


def test_a_constant_stays_and_a_field_is_the_same_in_any_company() -> None:
    x = torch.rand(5, 24, 16)
    torch.testing.assert_close(blur(torch.full((9, 7), 3.0), 1.5), torch.full((9, 7), 3.0))
    assert torch.equal(blur(x, 0.8)[2], blur(x[2], 0.8))
    assert not blur(torch.full((6, 6), torch.nan), 1.0).any()

"""What holds for every constraint on any field: conservation to the number type's precision, bounds, finite gradients.

Fields are drawn with factors 1 to 25 in one, two or three axes, areas over six orders of magnitude, masks that take
whole blocks, blocks of zeros, and magnitudes from subnormal numbers to 1e20, in three number types. Then the published
formulas, written as loops over blocks in numpy, and two identities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale import constraints
from finescale.constraints import Additive, Bounded, Constraint, Multiplicative, Projection, Softmax, Tapered
from finescale.grids.factor import Factor
from finescale.latents import Wavelet
from finescale.operators.coarsen import Coarsen

KINDS = [kind for name in constraints.__all__ if (kind := getattr(constraints, name)) is not Constraint]
SUBNORMAL = {torch.float64: 1e-310, torch.float32: 1e-42, torch.bfloat16: 1e-39}


@dataclass
class Case:
    """A raw field, its wanted block means, areas and mask."""

    factor: Factor
    y: torch.Tensor
    coarse: torch.Tensor
    area: torch.Tensor | None
    mask: torch.Tensor | None

    def constraint(self, kind: type[Constraint]) -> Constraint:
        """The constraint of this case; bounds lie around c, so that y may be beyond them."""
        if kind in (Bounded, Projection):
            high = max(1.5 * float(self.coarse.double().max()), 1e-300)
            return kind(self.factor, self.area, self.mask, low=0.0, high=high)  # type: ignore[call-arg]
        if kind is Tapered:
            return Tapered(self.factor, self.area, self.mask, power=0.5, tau=0.01)
        return kind(self.factor, self.area, self.mask)


factors = st.one_of(
    st.integers(1, 25).map(lambda n: (1, 1, n)),
    st.tuples(st.just(1), st.integers(1, 25), st.integers(1, 25)),
    st.tuples(st.integers(1, 6), st.integers(1, 25), st.integers(1, 25)),
    st.tuples(st.integers(1, 25), st.just(1), st.just(1)),
)
exponents = st.sampled_from([None, -20, -8, 0, 8, 20])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Fields whose y and c differ by up to forty orders of magnitude."""
    time, height, width = draw(factors)
    factor = Factor(time, y=height, x=width)
    lead = draw(st.sampled_from([(), (2,), (2, 1), (1, 2, 3)]))
    size = draw(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    gen = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    fine = [n * f for n, f in zip(size, factor, strict=True)]

    def field(shape: tuple[int, ...], exponent: int | None) -> torch.Tensor:
        scale = SUBNORMAL[dtype] if exponent is None else 10.0**exponent
        values = torch.rand(shape, generator=gen, dtype=torch.float64) ** 4 * scale
        return torch.where(torch.rand(shape, generator=gen) > 0.2, values, 0.0).to(dtype)

    y, coarse = field((*lead, *fine), draw(exponents)), field((*lead, *size), draw(exponents))
    y[..., : factor.time, : factor.y, : factor.x] = 0
    area = 10 ** (6 * torch.rand(fine[1:], generator=gen, dtype=torch.float64) - 3) if draw(st.booleans()) else None
    mask = None
    if draw(st.booleans()):
        valid = torch.rand(size, generator=gen) > 0.3
        mask = Coarsen(factor).replicate(valid) & (torch.rand(fine, generator=gen) > 0.4)
        y = torch.where(mask, y, torch.nan)
    return Case(factor, y, coarse, None if area is None else area.float(), mask)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100)
@given(case=cases())
def test_conservation_bounds_and_gradients(kind: type[Constraint], case: Case) -> None:
    constraint = case.constraint(kind)
    y = case.y.detach().requires_grad_()
    x = constraint(y, case.coarse)
    assert x.dtype == torch.promote_types(case.y.dtype, torch.float32) and x.shape == y.shape
    valid = torch.ones(x.shape, dtype=torch.bool) if case.mask is None else case.mask.expand(x.shape)
    assert torch.equal(x[~valid].isnan(), y[~valid].isnan()) and x[valid].isfinite().all()

    # Conservation: of the largest number that was added up in the block, f − 1 roundings of half a unit in the last
    # place along each axis, of w y and of w, whatever the order; the weights, two quotients, the product and the result
    # are eight more. Measured in units in which float64's subnormal numbers can be averaged.
    unit = 2.0**-900 if max(case.coarse.max(), x[valid].max() if valid.any() else 0) < 1e-280 else 1.0
    wide = Coarsen(case.factor, None if case.area is None else case.area.double(), case.mask)
    means = wide(x.detach().double() / unit)
    coarse = (case.coarse.double() / unit).expand(means.shape)
    size = coarse.abs()
    if kind in (Additive, Projection):
        size = torch.maximum(size, wide.maxima(torch.where(valid, y.detach().double() / unit, 0.0).abs()))
    # float32's subnormal numbers are conserved too, in float64 inside; there is no wider type for float64's.
    info = torch.finfo(x.dtype)
    tiny = info.smallest_normal * (2 * info.eps if x.dtype == torch.float32 else 1.0)
    worst = (2 * sum(case.factor) + 8) * info.eps / 2 * size + tiny / unit
    if case.area is not None or kind is Projection:
        # Subnormal numbers lose up to half a step each when multiplied by an area, whatever their share in the sum; the
        # projection multiplies by shares to find which cells are at a bound.
        weight = Coarsen(case.factor).sums(wide.weight(x.detach().double()))
        worst = worst + tiny / unit * case.factor.cells / torch.where(weight > 0, weight, 1.0)
    known = ~means.isnan()
    assert ((means - coarse).abs() <= worst)[known].all(), ((means - coarse).abs() / worst)[known].max()

    # Range.
    if kind is not Additive:
        assert (x[valid] >= 0).all()
        dry = Coarsen(case.factor).replicate(case.coarse == 0).expand(x.shape)
        assert (x[valid & dry] == 0).all()
    if isinstance(constraint, Bounded | Projection):
        assert (x[valid] <= torch.tensor(constraint.high, dtype=x.dtype)).all()

    # Gradients of a sum and of one that does not cancel within blocks.
    weights = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).to(x.dtype)
    for loss in (x[valid].sum(), (weights * x)[valid].sum()):
        (gradient,) = torch.autograd.grad(loss, y, retain_graph=True)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(
    factor=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    seed=st.integers(0, 10**6),
    masked=st.booleans(),
)
def test_gradcheck(kind: type[Constraint], factor: tuple[int, int, int], seed: int, masked: bool) -> None:
    """Against differences in float64, in y and in c, away from the kinks at c = A y and at the bounds."""
    whole = Factor(factor[0], y=factor[1], x=factor[2])
    gen = torch.Generator().manual_seed(seed)
    fine = [n * f for n, f in zip((1, 2, 1), whole, strict=True)]
    y = (0.2 + 0.6 * torch.rand(fine, generator=gen, dtype=torch.float64)).requires_grad_()
    coarse = torch.tensor([[[0.1], [0.9]]], dtype=torch.float64, requires_grad=True)
    area = 10 ** (2 * torch.rand(fine[1:], generator=gen, dtype=torch.float64))
    mask = torch.rand(fine, generator=gen) > 0.3 if masked else None
    constraint = Tapered(whole, area, mask, 0.5, 0.01) if kind is Tapered else kind(whole, area, mask)
    assert torch.autograd.gradcheck(constraint, (y, coarse))


@given(factors, st.tuples(*[st.integers(1, 3)] * 3), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_replication_is_the_adjoint_of_the_block_mean(
    factor: tuple[int, int, int], size: tuple[int, int, int], seed: int, weighted: bool, masked: bool
) -> None:
    """⟨A x, c⟩ = ⟨x, U c⟩ in the weighted products, with areas over six orders and blocks that are missing whole."""
    whole = Factor(factor[0], y=factor[1], x=factor[2])
    gen = torch.Generator().manual_seed(seed)
    fine = [n * f for n, f in zip(size, whole, strict=True)]
    area = 10 ** (6 * torch.rand(fine[1:], generator=gen, dtype=torch.float64) - 3) if weighted else None
    mask = Coarsen(whole).replicate(torch.rand(size, generator=gen) > 0.3) if masked else None
    if mask is not None:
        mask = mask & (torch.rand(fine, generator=gen) > 0.4)
    coarsen = Coarsen(whole, area, mask)
    x, c = (torch.randn(2, *shape, generator=gen, dtype=torch.float64) for shape in (fine, size))
    weight = coarsen.weight(x)
    # A block without a valid cell has no mean, and no weight either.
    left = (coarsen.sums(weight) * coarsen(x).nan_to_num() * c).sum()
    right = (weight * x * coarsen.replicate(c)).sum()
    norm = (weight * (x * coarsen.replicate(c)).abs()).sum()
    assert (left - right).abs() <= 1e-13 * norm + 1e-300
    has = (coarsen.sums(weight) > 0).expand(c.shape)
    torch.testing.assert_close(coarsen(coarsen.replicate(c))[has], c[has], rtol=1e-13, atol=1e-13)
    assert coarsen(x)[~has].isnan().all()


# The published formulas for one block: raw values, weights that sum to one, the wanted mean.
def geiss_hardin(low: float, high: float) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    def formula(y: np.ndarray, w: np.ndarray, c: float) -> np.ndarray:
        mean = (w * y).sum()
        bound = high if c >= mean else low
        return y + (c - mean) / (bound - mean) * (bound - y)

    return formula


def signed_scaled_additive(y: np.ndarray, w: np.ndarray, c: float) -> np.ndarray:
    """Harder et al. 2023: y + (c − ȳ) (σ + y) / (σ + ȳ), σ = sign(ȳ − c), on [−1, 1]."""
    mean = (w * y).sum()
    sign = np.sign(mean - c)
    return y + (c - mean) * (sign + y) / (sign + mean)


FORMULAS: dict[str, tuple[Callable[..., Constraint], Callable[[np.ndarray, np.ndarray, float], np.ndarray], float]] = {
    "additive": (Additive, lambda y, w, c: y + c - (w * y).sum(), -1.0),
    "multiplicative": (Multiplicative, lambda y, w, c: y * c / (w * y).sum(), 0.0),
    "softmax": (Softmax, lambda y, w, c: c * np.exp(y) / (w * np.exp(y)).sum(), -1.0),
    "tapered": (
        lambda *at: Tapered(*at, power=0.5, tau=0.02),
        lambda y, w, c: c * np.maximum(y**0.5 - 0.02, 0) / (w * np.maximum(y**0.5 - 0.02, 0)).sum(),
        0.0,
    ),
    "bounded on [0, 1]": (Bounded, geiss_hardin(0.0, 1.0), 0.0),
    "bounded on [-1, 1]": (lambda *at: Bounded(*at, low=-1.0), geiss_hardin(-1.0, 1.0), -1.0),
    "signed scaled additive": (lambda *at: Bounded(*at, low=-1.0), signed_scaled_additive, -1.0),
}


@pytest.mark.parametrize("name", FORMULAS)
@settings(max_examples=8)
@given(factor=factors, seed=st.integers(0, 10**6), masked=st.booleans())
def test_published_formula(name: str, factor: tuple[int, int, int], seed: int, masked: bool) -> None:
    make, formula, low = FORMULAS[name]
    whole = Factor(factor[0], y=factor[1], x=factor[2])
    rng = np.random.default_rng(seed)
    size = (2, 2, 3)
    fine = [n * f for n, f in zip(size, whole, strict=True)]
    y, c = rng.uniform(low, 1, fine), rng.uniform(low, 1, size)
    area = 10 ** rng.uniform(-3, 3, fine[1:])
    mask = rng.random(fine) > 0.4
    mask[:: whole.time, :: whole.y, :: whole.x] = True
    mask |= not masked
    expected = y.copy()
    for block in np.ndindex(*size):
        cut = tuple(slice(n * f, (n + 1) * f) for n, f in zip(block, whole, strict=True))
        valid = mask[cut]
        weight = np.broadcast_to(area[cut[1:]], valid.shape)[valid]
        expected[cut][valid] = formula(y[cut][valid], weight / weight.sum(), c[block])
    tensors = [torch.from_numpy(a) for a in (y, c, area, mask)]
    got = make(whole, tensors[2], tensors[3])(tensors[0], tensors[1])
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_fixing_the_low_band_of_haar_is_the_additive_constraint(levels: int) -> None:
    """LL is 2^J times the block mean: replacing it and going back is the L2 projection, at factors 2, 4 and 8."""
    factor = 2**levels
    gen = torch.Generator().manual_seed(levels)
    y = torch.randn(2, 1, 3, 3 * factor, 5 * factor, generator=gen, dtype=torch.float64)
    coarse = torch.randn(2, 1, 3, 3, 5, generator=gen, dtype=torch.float64)
    wavelet = Wavelet(levels=levels)  # type: ignore[arg-type]
    bands = wavelet.analysis(y)
    fixed = torch.cat([coarse * factor, bands[:, 1:]], 1)
    torch.testing.assert_close(
        wavelet.synthesis(fixed), Additive(Factor(space=factor))(y, coarse), rtol=1e-12, atol=1e-12
    )
    assert math.isclose(float(bands[0, 0, 0, 0, 0]), factor * float(y[0, 0, 0, :factor, :factor].mean()))

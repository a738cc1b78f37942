"""Contract of every transform: invertible cell by cell, blind to unknown cells, with its statistics in the state."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from finescale import transforms
from finescale.transforms import Bounds, Chain, Log1p, Standardize, Transform

KINDS: dict[type[Transform], Callable[[int], Transform]] = {
    Bounds: lambda channels: Bounds(low=-2.0, high=3000.0),
    Log1p: lambda channels: Log1p(scale=0.1),
    Standardize: lambda channels: Standardize(channels),
    Chain: lambda channels: Chain(Log1p(scale=0.2), Standardize(channels)),
}


def test_every_exported_transform_is_in_the_contract_test() -> None:
    assert {getattr(transforms, name) for name in transforms.__all__} - {Transform} == set(KINDS)


def amounts(channels: int = 2) -> Tensor:
    """Rain-like (B, C, T, H, W): dry cells, four orders of magnitude, each channel ten times the one before."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, channels, 2, 5, 7, generator=generator).mul(2).exp()
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.3, 0.0, x)
    return x * 10.0 ** torch.arange(channels)[:, None, None, None]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest) -> Callable[[int], Transform]:
    return KINDS[request.param]


class TestContract:
    def test_the_inverse_undoes_the_transform(self, make: Callable[[int], Transform]) -> None:
        transform, x = make(2), amounts()
        transform.fit([x])
        torch.testing.assert_close(transform.inverse(transform(x)), x, rtol=1e-5, atol=1e-4)

    def test_unknown_cells_stay_unknown_and_do_not_count(self, make: Callable[[int], Transform]) -> None:
        x = amounts()
        lost = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.2
        with_gaps, known = make(1), make(1)
        with_gaps.fit([torch.where(lost, torch.nan, x)[:, :1]])
        known.fit([x[:, :1][~lost[:, :1]].reshape(1, 1, 1, 1, -1)])
        torch.testing.assert_close(with_gaps(x[:, :1]), known(x[:, :1]))
        y = with_gaps(torch.where(lost, torch.nan, x)[:, :1])
        assert torch.equal(y.isnan(), lost[:, :1]) and torch.equal(with_gaps.inverse(y).isnan(), lost[:, :1])

    def test_an_ensemble_axis_in_front_changes_nothing(self, make: Callable[[int], Transform]) -> None:
        transform, x = make(2), amounts()
        transform.fit([x])
        y = transform(x)
        torch.testing.assert_close(transform(x[:, None])[:, 0], y, rtol=0, atol=0)
        torch.testing.assert_close(transform.inverse(y[:, None])[:, 0], transform.inverse(y), rtol=0, atol=0)

    def test_what_is_fitted_is_saved(self, make: Callable[[int], Transform]) -> None:
        fitted, loaded, x = make(2), make(2), amounts()
        fitted.fit([x])
        loaded.load_state_dict(fitted.state_dict())
        assert torch.equal(loaded(x), fitted(x)) and torch.equal(loaded.inverse(x), fitted.inverse(x))

    def test_batches_together_are_fitted_like_one(self, make: Callable[[int], Transform]) -> None:
        whole, parts, x = make(2), make(2), amounts()
        whole.fit([x])
        parts.fit(iter([x[:1], x[1:]]))
        torch.testing.assert_close(parts(x), whole(x))


def test_standardize_gives_every_channel_zero_mean_and_unit_variance() -> None:
    transform, x = Standardize(2), amounts()
    transform.fit([x])
    y = transform(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.std(1), torch.ones(2), rtol=0, atol=1e-5)
    assert transform.mean[1] > 3 * transform.mean[0]
    assert set(transform.state_dict()) == {"mean", "std"}


def test_standardize_of_a_constant_field_is_finite() -> None:
    transform = Standardize()
    transform.fit([torch.full((1, 1, 1, 4, 4), 7.0)])
    assert torch.equal(transform(torch.full((1, 1, 1, 2, 2), 7.0)), torch.zeros(1, 1, 1, 2, 2))


def test_log1p_cuts_small_amounts_to_exact_zeros() -> None:
    transform = Log1p(scale=0.1, threshold=0.05)
    x = torch.tensor([0.0, 0.001, 0.049, 0.051, 3.0])
    y = transform.inverse(transform(x))
    assert (y[:3] == 0).all()
    torch.testing.assert_close(y[3:], x[3:])


def test_what_log1p_cuts_keeps_its_slope() -> None:
    """A cell that a network has left dry, or negative, can be led back: d x/d y = scale · e^y everywhere."""
    y = torch.tensor([-1.0, 0.01, 0.3, 2.0], requires_grad=True)
    Log1p(scale=0.1, threshold=0.05).inverse(y).sum().backward()
    torch.testing.assert_close(y.grad, 0.1 * y.detach().exp())


def test_log1p_bounds_what_a_network_may_say() -> None:
    """Negative and huge outputs give zero and a finite amount; negative amounts count as zero."""
    transform = Log1p(scale=0.1)
    assert (transform.inverse(torch.tensor([-3.0, -1e9])) == 0).all()
    assert transform.inverse(torch.tensor([1e9])).isfinite().all()
    assert transform(torch.tensor([-2.0])) == 0


@pytest.mark.parametrize("arguments", [{"scale": 0.0}, {"scale": -1.0}, {"threshold": -0.1}])
def test_log1p_refuses_what_makes_no_sense(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="scale > 0 and threshold >= 0"):
        Log1p(**arguments)


def test_a_chain_fits_each_part_on_the_output_of_those_before() -> None:
    chain, x = Chain(Log1p(scale=0.2), Standardize(2)), amounts()
    chain.fit([x])
    alone = Standardize(2)
    alone.fit([Log1p(scale=0.2)(x)])
    assert torch.equal(chain(x), alone(Log1p(scale=0.2)(x)))


def test_bounds_become_those_of_a_tanh() -> None:
    transform = Bounds(low=-2.0, high=35.0)
    wanted = torch.tensor([-1.0, 0.0, 1.0, 3.0])
    torch.testing.assert_close(transform(torch.tensor([-2.0, 16.5, 35.0, 72.0])), wanted)
    assert transform.linear and not transform.state_dict()


@pytest.mark.parametrize("arguments", [{"low": 1.0}, {"low": 2.0}, {"high": -3.0}])
def test_bounds_refuses_what_makes_no_sense(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        Bounds(**arguments)

"""A generator in place of denoiser and sampler, from a configuration to members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from finescale.config.build import build_model
from finescale.config.read import read_config
from finescale.constraints import Additive, Multiplicative
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.grids.factor import Factor
from finescale.latents import Lapped, PatchPOD
from finescale.model.batch import Batch, Inputs, Members
from finescale.model.generator import Generator
from finescale.operators.coarsen import Coarsen


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"constraint": "additive", "transform": "standardize"},
        {"factor": "2x4", "data.frames": 2},
        {"factor": {"time": [1, 2], "space": [2, 4]}},
        {"latent": {"kind": "pixel"}, "generator.backbone.multipliers": [1]},
    ],
    ids=["rain", "additive", "sequence", "several factors", "pixels"],
)
def test_members(changes: dict[str, Any], generator: Callable[..., Downscaler]) -> None:
    """They conserve, differ, and are the same whichever are drawn with them, window by window or at once."""
    model = generator(**changes)
    model = model if model.chosen else model.at("2x4")
    coarse = torch.rand(1, 1, 2, 16, 16)
    drawn = model.sample(Inputs(coarse), Members(range(3), seed=5))
    assert drawn.fields.shape[1] == 3 and not model.deterministic and model.evaluations() == 1
    means = Coarsen(model.factor)(drawn.fields)
    torch.testing.assert_close(means, coarse[:, None].expand_as(means), rtol=1e-5, atol=1e-5)
    assert float((drawn.fields[:, 0] - drawn.fields[:, 1]).abs().mean()) > 0
    model.batch = 1
    alone = model.sample(Inputs(coarse), Members(range(2, 3), seed=5))
    torch.testing.assert_close(alone.fields[:, 0], drawn.fields[:, 2], rtol=1e-4, atol=1e-4)


def test_windows_are_those_of_the_whole(generator: Callable[..., Downscaler]) -> None:
    """Noise is a function of position, and the networks are local: a window with a wide halo gives the same cells."""
    model = generator(**{"generator.backbone.multipliers": [1]})
    coarse = torch.rand(1, 1, 1, 64, 24)
    whole = model.sample(Inputs(coarse), Members(range(1))).fields
    part = model.sample(Inputs(coarse[..., 16:, :], origin=(0, 16, 0)), Members(range(1))).fields
    # 24 coarse cells into the window; filters of the noise reach 112 fine cells, and next to nothing beyond 80.
    torch.testing.assert_close(part[..., 96:, :], whole[..., 160:, :], rtol=1e-4, atol=1e-4)


def test_windows_are_wider_where_nothing_mends_their_borders() -> None:
    """Strides of 8 x 4 fine cells: windows of 16 of them, halos of 3, in coarse cells; a sampler's stay as they are."""
    once, several = build_model(read_config("one-step")), build_model(read_config("wavelet"))
    assert (once.window, once.halo) == ((1, 64, 64), (0, 12, 12))
    assert (several.window, several.halo) == ((1, 32, 32), (0, 4, 4))


def test_a_generator_takes_the_place_of_the_denoiser(generator: Callable[..., Downscaler]) -> None:
    with pytest.raises(InputError, match="set denoiser to none"):
        build_model(read_config("wavelet", {"generator": {"width": 8}}))
    with pytest.raises(InputError, match=r"generator\.score\.patch; did you mean 'patches'"):
        build_model(read_config("one-step", {"generator.score": {"patch": [1]}}))
    with pytest.raises(InputError, match=r"generator\.backbone\.kind is 'edsr'"):
        build_model(read_config("one-step", {"generator.backbone": {"kind": "edsr"}}))
    with pytest.raises(InputError, match="has no denoiser"):
        generator().variance_source("denoiser", 8)
    assert generator().variance_source("auto", 8) == "members"


def test_the_loss_reaches_every_network_and_ignores_what_is_unknown(generator: Callable[..., Downscaler]) -> None:
    model = generator(**{"generator.backbone.attention": False})  # which one frame has no use for
    fine = torch.rand(2, 1, 1, 32, 32) * 5
    fine[:, :, :, :8] = torch.nan
    batch = Batch(Coarsen(model.factor)(fine), fine=fine)
    loss = model.loss("generator", batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert model.generator is not None and loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.generator.parameters())
    assert all(bool(p.grad.any()) for p in model.generator.parameters() if p.grad is not None and p.ndim > 1)


def test_crops_that_are_seen_more_often_weigh_less(generator: Callable[..., Downscaler]) -> None:
    """L = mean w_i L_i."""
    model, fine = generator(), torch.rand(2, 1, 1, 32, 32)
    coarse = Coarsen(model.factor)(fine)

    def loss(weight: list[float] | None) -> float:
        told = None if weight is None else torch.tensor(weight)
        with torch.no_grad():
            return float(
                model.loss("generator", Batch(coarse, fine=fine, weight=told), torch.Generator().manual_seed(1))
            )

    first, second = loss([1.0, 0.0]), loss([0.0, 1.0])
    assert loss([0.5, 2.0]) == pytest.approx(0.5 * first + 2 * second, rel=1e-5)
    assert loss(None) == pytest.approx(first + second, rel=1e-5)


def test_a_gentle_constraint_is_the_constraint_where_that_is_not_steep() -> None:
    factor = Factor(1, 4)
    rescale, y, c = Multiplicative(factor), torch.rand(2, 1, 8, 8), 1 + torch.rand(2, 1, 2, 2)
    torch.testing.assert_close(rescale.gently(y, c), rescale(y, c))
    assert not rescale.gently(y, torch.zeros_like(c)).any()
    faint = (1e-9 * y).requires_grad_()
    rescale.gently(faint, c).sum().backward()
    assert faint.grad is not None and float(faint.grad.abs().max()) <= 10 * (1 + 1e-5)
    shift = Additive(factor)
    torch.testing.assert_close(shift.gently(y, c), shift(y, c))


class Plain(torch.nn.Module):
    """A trunk that leaves everything as it is."""

    def forward(self, told: torch.Tensor, scalars: torch.Tensor | None) -> torch.Tensor:
        return told


@pytest.mark.parametrize("frames", [1, 3])
def test_members_are_their_formula(frames: int) -> None:
    """m + V(b) w, for each member and frame alone; untrained, all filters are as strong."""
    torch.manual_seed(0)
    model = Generator(Plain(), 5, Lapped(side=2), width=8, blocks=1, smooth=(1.0,), oriented=(2.0,))
    told, w, scale = torch.randn(2, 5, frames, 7, 9), torch.randn(2, 3, 4, frames, 7, 9), torch.rand(4, 1, 1, 1) + 0.5
    shared = model.trunk(told)
    assert shared.shape == (2, 4 + 4, frames, 7, 9)
    torch.testing.assert_close(shared[:, 4:], torch.full((2, 4, frames, 7, 9), 1 / 4))
    torch.nn.init.normal_(model.amplitudes.weight)
    shared, found = model.trunk(told), model(told, w, scale)
    assert found.shape == w.shape
    for n, member, t in ((0, 0, 0), (1, 2, frames - 1)):
        m, b = shared[n : n + 1, :, t : t + 1].split((4, 4), 1)
        wanted = m + model.noise(b, w[n : n + 1, member : member + 1, :, t : t + 1], scale)[:, 0]
        torch.testing.assert_close(found[n : n + 1, member, :, t : t + 1], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("modes", [3, 16], ids=["some", "all"])
def test_a_latent_that_is_fitted_has_noise_of_its_own(modes: int, overlap: bool) -> None:
    """Its basis is not there when the model is built, and overlapping patches have more coefficients than cells."""
    model = Generator(Plain(), 5, PatchPOD(patch=(4, 4), modes=modes, overlap=overlap), width=8)
    told, w = torch.randn(1, 5, 1, 4, 4), torch.randn(1, 2, modes, 1, 4, 4)
    shared, scale = model.trunk(told), torch.rand(modes, 1, 1, 1)
    assert shared.shape[1] == 2 * modes
    torch.testing.assert_close(model.head(shared, w, scale), shared[:, None, :modes] + w)


@pytest.mark.parametrize("name", ["smooth", "oriented"])
@pytest.mark.parametrize("widths", [[0], [1000], [-2], ["wide"], 3])
def test_gaussians_have_a_width_that_can_be_had(name: str, widths: Any) -> None:
    with pytest.raises(InputError, match=rf"generator\.{name}"):
        build_model(read_config("one-step", {f"generator.{name}": widths}))


@pytest.mark.parametrize(("smooth", "oriented", "amplitudes"), [([], [], 1), ([3], [], 2), ([], [3], 3)])
def test_there_may_be_no_gaussians_of_a_kind(smooth: Any, oriented: Any, amplitudes: int) -> None:
    model = build_model(read_config("one-step", {"generator.smooth": smooth, "generator.oriented": oriented})).eval()
    assert model.generator is not None and model.generator.noise.amplitudes == amplitudes
    assert bool(model.sample(Inputs(torch.rand(1, 1, 1, 16, 16)), Members(range(2))).fields.isfinite().all())


def test_wet_blocks_that_came_out_dry_take_the_shape_that_was_made(generator: Callable[..., Downscaler]) -> None:
    """Rain where the field was nearest to rain: neither a flat square nor a line along the wetter neighbour."""
    torch.manual_seed(0)
    model = generator()
    threshold = float(model.transform(torch.tensor(0.05)))
    coarse = torch.full((1, 1, 1, 3, 3), 0.0)
    coarse[..., 1, 1], coarse[..., 1, 2] = 0.3, 5.0
    y = torch.rand(1, 1, 1, 1, 12, 12) - 1.5 + threshold  # dry everywhere
    y[..., 4:8, 8:12] = threshold + 2
    y[..., 5, 6] = threshold - 0.2  # in the middle block, away from its wetter neighbour
    x = model.finish(y, Inputs(coarse)).fields[0, 0, 0, 0]
    block, raw = x[4:8, 4:8], y[0, 0, 0, 0, 4:8, 4:8]
    torch.testing.assert_close(Coarsen(model.factor)(x[None]), coarse[0, 0], rtol=1e-5, atol=1e-6)
    assert int(block.argmax()) == int(raw.argmax()) and float(block.max()) > 2 * 0.3
    wet = block > 0
    assert 1 < int(wet.sum()) < 16 and float(block[wet].min()) >= 0.05
    # Smooth factors differ a little within the block.
    assert float(raw[wet].mean()) > float(raw[~wet].mean()) + 0.2
    # What is wet already is as it was, and dry blocks stay dry.
    assert int((x[4:8, 8:] > 0).sum()) == 16 and not x[:4].any() and not x[8:].any()

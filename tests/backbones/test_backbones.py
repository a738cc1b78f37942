"""Contract of every backbone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from finescale import backbones
from finescale.backbones import DBPN, EDSR, RDN, SRCNN, DenseSR, DenseUNet, LapSRN, UNet, ViT
from finescale.backbones.dbpn import ProjectionUnit
from finescale.backbones.lapsrn import linear
from finescale.backbones.layers import TemporalAttention, TemporalConvolution
from finescale.backbones.scheme import Scheme, Shuffle, ratios, transposed
from finescale.grids.factor import Factor

SMALL: dict[type[nn.Module], dict[str, Any]] = {
    UNet: {"embedding": 16, "width": 16},
    ViT: {"embedding": 16, "width": 16, "depth": 3, "window": 4},
    SRCNN: {"width": 8},
    LapSRN: {"width": 6, "convolutions": 2},
    DenseUNet: {"width": 8, "depth": 1, "layers": 2},
    DBPN: {"width": 6, "blocks": 3},
    DenseSR: {"width": 8, "blocks": 2, "layers": 2, "growth": 4},
    EDSR: {"width": 8, "blocks": 2},
    RDN: {"width": 8, "blocks": 2, "layers": 2, "growth": 4},
}
KINDS = list(SMALL)
SCHEMES = [kind for kind in KINDS if issubclass(kind, Scheme)]
FACTORS = [Factor(y=y, x=x) for y, x in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (10, 10), (7, 1))]


def test_every_exported_backbone_is_in_the_contract_test() -> None:
    assert {getattr(backbones, name) for name in backbones.__all__} == set(KINDS)


def built(kind: type[nn.Module], factor: Factor | None = None, **changes: Any) -> Any:
    """A small network none of whose parameters is zero."""
    torch.manual_seed(0)
    derived = {"factor": factor or Factor(y=2, x=2)} if getattr(kind, "upsamples", False) else {}
    net = kind(**({"channels": 5, "out_channels": 2} | SMALL[kind] | derived | changes))
    for parameter in net.parameters():
        if parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.2)
    return net


def size(net: nn.Module, cells: tuple[int, int], factor: Factor) -> tuple[int, int]:
    """Cells of the result for this many of the input."""
    return (cells[0] * factor.y, cells[1] * factor.x) if getattr(net, "upsamples", False) else cells


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    def test_shapes_and_gradients(self, kind: type[nn.Module]) -> None:
        net = built(kind)
        z, cond = torch.randn(2, 3, 4, 16, 24), torch.randn(2, 2, 4, 16, 24)
        out = net(z, torch.randn(2, 16), cond)
        assert out.shape == (2, 2, 4, *size(net, (16, 24), Factor(y=2, x=2)))
        out.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in net.parameters())

    def test_without_embedding(self, kind: type[nn.Module]) -> None:
        net = built(kind, **({"embedding": 0} if kind in (UNet, ViT) else {}))
        assert net(torch.randn(1, 5, 1, 16, 16)).shape == (1, 2, 1, *size(net, (16, 16), Factor(y=2, x=2)))

    def test_items_of_a_batch_do_not_mix(self, kind: type[nn.Module]) -> None:
        net = built(kind).double()
        z, e = torch.randn(3, 5, 2, 16, 16, dtype=torch.float64), torch.randn(3, 16, dtype=torch.float64)
        together = net(z, e)
        # Another batch, another order of sums: some 1e4 roundings one after the other at most.
        close = 1e4 * torch.finfo(torch.float64).eps
        alone = net(z[1:2], e[1:2])
        torch.testing.assert_close(together[1:2], alone, rtol=0, atol=close * float(alone.detach().abs().max()))


@pytest.mark.parametrize("factor", FACTORS, ids=str)
@pytest.mark.parametrize("kind", SCHEMES)
class TestScheme:
    def test_any_factor(self, kind: type[nn.Module], factor: Factor) -> None:
        net = built(kind, factor).double()
        out = net(torch.randn(1, 5, 2, 4, 6, dtype=torch.float64))
        assert out.shape == (1, 2, 2, *size(net, (4, 6), factor))
        (gradients := out.square().mean()).backward()
        # Far above what rounding would leave of a gradient that is zero, in float64.
        least = 1e-10 * float(gradients.detach())
        assert all(p.grad is not None and p.grad.abs().max() > least for p in net.parameters())

    def test_reach(self, kind: type[nn.Module], factor: Factor) -> None:
        """What lies beyond `reach` of a cell does not change it; what lies next to it does. In y and in x.

        Not at all is to rounding, some 1e4 of them one after the other; what it changes is a good part of the result.
        """
        net = built(kind, factor).double()
        margin = -(-(net.reach + 1) // net.stride) * net.stride
        n = margin + 2 * net.stride
        fy, fx = size(net, (1, 1), factor)
        for axis in (-2, -1):
            x = torch.randn(1, 5, 1, *((n, 4) if axis == -2 else (4, n)), dtype=torch.float64)
            cell, f = n - 1 - net.reach - 1, fy if axis == -2 else fx
            changed = x.clone()
            changed.narrow(axis, n - 1, 1).add_(1.0)
            before = net(x)
            moved = (net(changed) - before).abs().amax(dim=(0, 1, 2, 3 if axis == -1 else 4)) / before.abs().max()
            assert moved[: (cell + 1) * f].max() <= 1e4 * torch.finfo(torch.float64).eps
            assert moved[(n - 2) * f : (n - 1) * f].max() > 0.01

    def test_a_shift_by_a_stride_shifts_the_result(self, kind: type[nn.Module], factor: Factor) -> None:
        net = built(kind, factor).double()
        s, r = net.stride, -(-net.reach // net.stride) * net.stride
        n = 2 * r + 3 * s
        x = torch.randn(1, 5, 1, n, 4, dtype=torch.float64)
        fy, _ = size(net, (1, 1), factor)
        there = net(x)[..., (r + s) * fy : (r + 2 * s) * fy, :]
        moved = net(x.roll(-s, dims=-2))[..., r * fy : (r + s) * fy, :]
        close = 1e4 * torch.finfo(torch.float64).eps
        torch.testing.assert_close(moved, there, rtol=0, atol=close * float(there.detach().abs().max()))


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_scheme_starts_as_the_interpolation_and_learns_at_once(kind: type[nn.Module]) -> None:
    derived = {"factor": Factor(y=5, x=3)} if getattr(kind, "upsamples", False) else {}
    torch.manual_seed(0)
    net: Any = kind(channels=3, out_channels=1, **SMALL[kind], **derived)
    x = torch.randn(2, 3, 1, 8, 8)
    out = net(x)
    assert out.abs().max() == 0
    (out - 1).square().mean().backward()
    names = [name for name, _ in net.named_parameters()]
    assert [name for name, p in net.named_parameters() if p.grad.abs().max() > 0] == names[-2:]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.1 * parameter.grad
    net.zero_grad()
    (net(x) - 1).square().mean().backward()
    assert sum(bool(p.grad.abs().max() > 0) for p in net.parameters()) > 0.9 * len(list(net.parameters()))


@pytest.mark.parametrize("kind", SCHEMES)
def test_tanh_bounds_the_result(kind: type[nn.Module]) -> None:
    x = 100 * torch.randn(1, 5, 1, 8, 8)
    assert built(kind, activation="tanh")(x).abs().max() <= 1 < built(kind)(x).abs().max()


@pytest.mark.parametrize("kind", SCHEMES)
def test_first_weights_keep_the_mean_square(kind: type[nn.Module]) -> None:
    """What enters the last layer at full depth is neither lost nor blown up."""
    derived = {"factor": Factor(y=4, x=4)} if getattr(kind, "upsamples", False) else {}
    torch.manual_seed(0)
    net: Any = kind(channels=3, out_channels=1, **derived)
    head = net.layers[-1] if kind is SRCNN else net.head
    found: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.no_grad():
        net(torch.randn(1, 3, 1, 16, 16))
    assert 0.3 < found[0].square().mean().sqrt() < 3


def weights(channels_in: int, channels: int, kernel: int = 3) -> int:
    """Of a convolution with a bias."""
    return channels_in * channels * kernel**2 + channels


def block(channels_in: int, layers: int, growth: int) -> int:
    return sum(weights(channels_in + i * growth, growth) for i in range(layers))


def unet_weights(channels: int, widths: list[int]) -> int:
    """Three convolutions and a 1 × 1 on entering, the same on leaving, a join and a transposed one in between."""
    wide, *below = widths
    enter = block(channels, 3, wide) + weights(channels + 3 * wide, wide, 1)
    if not below:
        return enter
    leave = block(wide, 3, wide) + weights(4 * wide, wide, 1)
    join = weights(wide + below[0], wide) + weights(below[0], below[0], 4)
    return enter + leave + join + unet_weights(wide, below)


PUBLISHED = {
    SRCNN: weights(3, 64, 9) + weights(64, 32, 5) + weights(32, 3, 5),
    # Twenty convolutions, two transposed ones of features and one of the field, two 1 × 1, the last.
    LapSRN: weights(3, 64)
    + 19 * weights(64, 64)
    + 2 * weights(64, 64, 4)
    + weights(3, 3, 4)
    + 2 * weights(64, 3, 1)
    + weights(3, 3),
    DenseUNet: unet_weights(3, [38, 55, 79, 115, 167])
    + (weights(38, 38, 4) + block(38, 3, 19) + weights(38 + 57, 19, 1))
    + (weights(19, 19, 4) + block(19, 3, 9) + weights(19 + 27, 9, 1))
    + weights(9, 3),
    # Seven projections of three 8 × 8 convolutions; they see 1, 1, 1, 2, 2, 3, 3 fields.
    DBPN: weights(3, 256)
    + weights(256, 64, 1)
    + 7 * 3 * weights(64, 64, 8)
    + sum(weights(64 * n, 64, 1) for n in (1, 1, 1, 2, 2, 3, 3))
    + weights(256, 3),
    DenseSR: weights(3, 256)
    + block(256, 48, 16)
    + weights(256 + 768, 256, 1)
    + 2 * weights(256, 256)
    + weights(256, 3),
    EDSR: weights(3, 128) + 32 * weights(128, 128) + weights(128, 256) + weights(64, 256) + weights(64, 3),
    RDN: weights(3, 64)
    + weights(64, 64)
    + 10 * (block(64, 9, 32) + weights(64 + 9 * 32, 64, 1))
    + weights(11 * 64, 64, 1)
    + weights(64, 64)
    + weights(4, 3),
}


@pytest.mark.parametrize("kind", SCHEMES)
def test_parameters_are_those_of_the_published_networks(kind: type[nn.Module]) -> None:
    """Three channels in and out, factor 4."""
    derived = {"factor": Factor(y=4, x=4)} if getattr(kind, "upsamples", False) else {}
    with torch.device("meta"):
        net = kind(channels=3, out_channels=3, **derived)
    assert sum(p.numel() for p in net.parameters()) == PUBLISHED[kind]


@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_projections_go_up_and_down_by_any_factor(factor: Factor) -> None:
    stage = (factor.y, factor.x)
    coarse, fine = torch.randn(1, 3, 5, 4), torch.randn(1, 3, 5 * factor.y, 4 * factor.x)
    up, down = ProjectionUnit(3, 2, stage, up=True), ProjectionUnit(3, 2, stage, up=False)
    assert up(coarse).shape == (1, 2, *fine.shape[-2:])
    assert up.back(up.there(up.mix(coarse))).shape == (1, 2, 5, 4)
    assert down(fine).shape == (1, 2, 5, 4)
    assert down.back(down.there(down.mix(fine))).shape == (1, 2, *fine.shape[-2:])


def test_ratios_multiply_to_the_factor() -> None:
    for factor in (Factor(y=y, x=x) for y in range(1, 26) for x in (1, 4, y)):
        assert tuple(np.prod(ratios(factor), axis=0)) == (factor.y, factor.x)
    assert ratios(Factor(y=10, x=6)) == [(2, 2), (5, 3)]
    assert ratios(Factor(y=4, x=3)) == [(2, 3), (2, 1)]


def test_shuffle_is_torch_s_where_cells_are_square_and_has_its_order_where_not() -> None:
    x = torch.randn(2, 18, 4, 5)
    torch.testing.assert_close(Shuffle((3, 3))(x), F.pixel_shuffle(x, 3))
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    torch.testing.assert_close(Shuffle((2, 3))(x)[0, 0], torch.tensor([[0.0, 1, 2], [3, 4, 5]]))


@pytest.mark.parametrize("p", range(1, 8))
@pytest.mark.parametrize("wider", [2, 3, 4, 5])
def test_transposed_convolutions_make_p_cells_of_one(p: int, wider: int) -> None:
    layer = transposed(2, 3, (p + 1, p), (p + 1 + wider, p + wider - wider % 2))
    assert layer(torch.randn(1, 2, 4, 5)).shape == (1, 3, 4 * (p + 1), 5 * p)


@pytest.mark.parametrize("stage", [(2, 2), (3, 5), (1, 4)])
def test_pyramids_start_as_linear_interpolation(stage: tuple[int, int]) -> None:
    """Against torch's own, away from the border, where zeros continue the field."""
    x = torch.randn(1, 2, 6, 6)
    up = linear(2, stage)(x)
    expected = F.interpolate(x, scale_factor=stage, mode="bilinear", align_corners=False)
    inner = (..., slice(stage[0], -stage[0]), slice(stage[1], -stage[1]))
    torch.testing.assert_close(up[inner], expected[inner])


def test_time_matters_only_through_attention() -> None:
    z, e = torch.randn(1, 5, 3, 16, 16), torch.randn(1, 16)
    changed = z.clone()
    changed[:, :, 2] += 1
    with_attention, without = built(UNet), built(UNet, attention=False)
    assert not torch.allclose(with_attention(z, e)[:, :, 0], with_attention(changed, e)[:, :, 0], atol=1e-4)
    torch.testing.assert_close(without(z, e)[:, :, 0], without(changed, e)[:, :, 0])


def test_attention_knows_relative_time_only() -> None:
    """With values that repeat, where a window starts does not matter; the order of frames does."""
    torch.manual_seed(0)
    layer = TemporalAttention(16, 4)
    nn.init.normal_(layer.out.weight)
    x = torch.randn(4, 16, 3, 3)
    one = layer(x, 4)
    assert not torch.allclose(layer(x.flip(0), 4).flip(0), one, atol=1e-4)
    torch.testing.assert_close(layer(x[:1], 1), x[:1])


def test_turned_projections_are_rotary_attention() -> None:
    """Against the usual form: project, turn queries and keys pair by pair, attend with torch's own kernel."""
    torch.manual_seed(1)
    frames, heads, size = 5, 2, 8
    layer = TemporalAttention(16, heads)
    nn.init.normal_(layer.out.weight)
    x = torch.randn(2 * frames, 16, 3, 4)
    tokens = layer.norm(x).permute(0, 2, 3, 1).reshape(2, frames, 12, 16).transpose(1, 2)
    q, k, v = layer.qkv(tokens).reshape(2, 12, frames, 3, heads, size).permute(3, 0, 1, 4, 2, 5)
    angle = torch.arange(frames)[:, None] * 10000.0 ** -(torch.arange(4) / 4)

    def turned(part: torch.Tensor) -> torch.Tensor:
        a, b = part.chunk(2, dim=-1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)

    mixed = F.scaled_dot_product_attention(turned(q), turned(k), v)
    out = layer.out(mixed.permute(0, 1, 3, 2, 4).reshape(2, 12, frames, 16))
    expected = x + out.transpose(1, 2).reshape(2 * frames, 3, 4, 16).permute(0, 3, 1, 2)
    torch.testing.assert_close(layer(x, frames), expected, atol=1e-5, rtol=1e-4)


def test_window_attention_stays_in_its_window() -> None:
    net = built(UNet, window=2, feedforward=2, heads=2, multipliers=(1, 1))
    assert net.stride == 4
    z, cond = torch.randn(1, 3, 2, 16, 64), torch.randn(1, 2, 2, 16, 64)
    embedding = torch.randn(1, 16)
    with torch.no_grad():
        whole = net(z, embedding, cond)
    margin = int(net.reach)
    changed = z.clone()
    changed[..., :, 0] += 1
    with torch.no_grad():
        moved = (net(changed, embedding, cond) - whole).abs().amax((0, 1, 2, 3))
        part = net(z[..., 4:], embedding, cond[..., 4:])
    assert moved[0] > 1e-4 and float(moved[margin + 1 :].max()) < 1e-6
    torch.testing.assert_close(part[..., margin:], whole[..., 4 + margin :], atol=1e-4, rtol=1e-4)


def test_convolution_in_time_is_that_of_torch() -> None:
    torch.manual_seed(2)
    layer, frames = TemporalConvolution(4), 5
    nn.init.normal_(layer.taps.weight)
    nn.init.normal_(layer.taps.bias)
    x = torch.randn(2 * frames, 4, 3, 6)
    weight = torch.stack(layer.taps.weight.chunk(3), -1)
    before, middle, after = layer.taps.bias.chunk(3)
    tokens = F.silu(layer.norm(x)).reshape(2, frames, 4, 18).permute(0, 3, 2, 1).flatten(0, 1)
    mixed = F.conv1d(tokens, weight, padding=1) + middle[:, None]
    # Taps have their own biases, which frames beyond the ends do not give.
    mixed[..., 1:] += before[:, None]
    mixed[..., :-1] += after[:, None]
    expected = x + mixed.reshape(2, 18, 4, frames).permute(0, 3, 2, 1).reshape(2 * frames, 4, 3, 6)
    torch.testing.assert_close(layer(x, frames), expected)
    assert layer(x, 1) is x


def test_a_unet_with_convolution_in_time_lets_frames_see_their_neighbours() -> None:
    net = built(UNet, attention=False, convolution=True)
    z, cond, embedding = torch.randn(1, 3, 6, 8, 8), torch.randn(1, 2, 6, 8, 8), torch.randn(1, 16)
    changed = z.clone()
    changed[:, :, 0] += 1
    apart = (net(changed, embedding, cond) - net(z, embedding, cond)).abs().amax((0, 1, 3, 4))
    assert (apart[:5] > 1e-6).all()

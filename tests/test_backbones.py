"""Contract of every backbone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from finescale import backbones
from finescale.backbones import UNet
from finescale.backbones.layers import TemporalAttention

KINDS: list[type[nn.Module]] = [UNet]


def test_every_exported_backbone_is_in_the_contract_test() -> None:
    assert {getattr(backbones, name) for name in backbones.__all__} == set(KINDS)


def built(kind: type[nn.Module], **changes: int) -> nn.Module:
    torch.manual_seed(0)
    net = kind(**({"channels": 5, "out_channels": 2, "embedding": 16, "width": 16} | changes))
    for parameter in net.parameters():
        if parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.2)
    return net


@pytest.mark.parametrize("kind", KINDS)
class TestContract:
    def test_shapes_and_gradients(self, kind: type[nn.Module]) -> None:
        net = built(kind)
        z, cond = torch.randn(2, 3, 4, 16, 24), torch.randn(2, 2, 4, 16, 24)
        out = net(z, torch.randn(2, 16), cond)
        assert out.shape == (2, 2, 4, 16, 24)
        out.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in net.parameters())

    def test_without_embedding(self, kind: type[nn.Module]) -> None:
        assert built(kind, embedding=0)(torch.randn(1, 5, 1, 16, 16)).shape == (1, 2, 1, 16, 16)

    def test_items_of_a_batch_do_not_mix(self, kind: type[nn.Module]) -> None:
        net = built(kind)
        z, e = torch.randn(3, 5, 2, 16, 16), torch.randn(3, 16)
        together = net(z, e)
        torch.testing.assert_close(together[1:2], net(z[1:2], e[1:2]), rtol=1e-4, atol=1e-5)


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

"""Windows, rotary encoding, modulation and locality of the Vision Transformer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.backbones import ViT
from finescale.backbones.vit import Attention
from finescale.errors import InputError


def built(**changes: Any) -> ViT:
    """A small network none of whose parameters is zero."""
    torch.manual_seed(0)
    net = ViT(**({"channels": 3, "out_channels": 2, "embedding": 8, "width": 16, "depth": 3, "window": 4} | changes))
    for parameter in net.parameters():
        if parameter.abs().max() == 0:
            nn.init.normal_(parameter, std=0.3)
    return net


def reference(layer: Attention, x: Tensor, window: int, moved: tuple[int, int]) -> Tensor:
    """Attention of all tokens at their absolute places, with a mask that leaves those of a window."""
    b, frames, height, width, c = x.shape
    size, heads = c // layer.heads, layer.heads
    place = torch.stack(torch.meshgrid(*map(torch.arange, (frames, height, width)), indexing="ij")).flatten(1).T
    pairs = size // 2
    space = 3 * pairs // 8
    speeds = [100.0 ** -(torch.arange(n) / n) for n in (pairs - 2 * space, space, space)]
    angle = torch.cat([place[:, i, None] * speed for i, speed in enumerate(speeds)], 1)
    turned = torch.polar(torch.ones_like(angle), angle)
    q, k, v = layer.qkv(x).reshape(b, -1, 3, heads, size).permute(2, 0, 3, 1, 4)

    def rotated(part: Tensor) -> Tensor:
        z = torch.complex(*part.chunk(2, dim=-1)) * turned
        return torch.cat([z.real, z.imag], -1)

    window_of = (place[:, 1:] - torch.tensor(moved)).div(window, rounding_mode="floor")
    mask = (window_of[:, None] == window_of[None]).all(-1)
    mixed = F.scaled_dot_product_attention(rotated(q), rotated(k), v, attn_mask=mask)
    return layer.out(mixed.transpose(1, 2).reshape(x.shape))


@pytest.mark.parametrize(
    ("shape", "moved", "as_if"),
    [
        ((2, 3, 8, 12), 0, (0, 0)),
        ((2, 3, 8, 12), 2, (2, 2)),
        ((2, 1, 4, 12), 2, (0, 2)),
        ((1, 2, 8, 4), 2, (2, 0)),
        ((1, 2, 4, 4), 2, (0, 0)),
    ],
)
def test_attention_is_rotary_attention_among_the_tokens_of_a_window(
    shape: tuple[int, ...], moved: int, as_if: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer, x = Attention(32, 2), torch.randn(*shape, 32)
    net = ViT(1, 1, width=32, heads=2, window=4)
    got = layer(x, net.turns(x), 4, moved)
    torch.testing.assert_close(got, reference(layer, x, 4, as_if), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [-2, -1])
def test_a_token_reaches_as_far_as_it_says_and_no_further(axis: int) -> None:
    """From the first token of a window: to its end, and then half a window with every block."""
    net = built().double()
    assert net.stride == 4 and net.reach == 8
    x, e = torch.randn(1, 3, 2, 24, 24, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64)
    changed = x.clone()
    changed.select(axis, 8).add_(1)
    with torch.no_grad():
        moved = (net(changed, e) - net(x, e)).abs().amax((0, 1, 2, 3 if axis == -1 else 4))
    touched = moved.nonzero().flatten()
    assert (int(touched.min()), int(touched.max())) == (4, 15)
    assert 8 + net.reach >= 15 and 8 - net.reach <= 4


def test_the_result_does_not_depend_on_where_the_domain_is_cut() -> None:
    net = built(depth=4)
    z, cond, e = torch.randn(1, 2, 2, 40, 8), torch.randn(1, 1, 2, 40, 8), torch.randn(1, 8)
    halo = net.reach
    with torch.no_grad():
        whole = net(z, e, cond)
        part = net(z[..., 8:36, :], e, cond[..., 8:36, :])
        other = net(z[..., 10:38, :], e, cond[..., 10:38, :])
    inner = slice(halo, 28 - halo)
    torch.testing.assert_close(part[..., inner, :], whole[..., 8:36, :][..., inner, :], rtol=1e-4, atol=1e-5)
    # Cut at no multiple of the stride, windows lie elsewhere: that is what the stride is for.
    assert not torch.allclose(other[..., inner, :], whole[..., 10:38, :][..., inner, :], atol=1e-3)


def test_without_a_window_tokens_are_alone_and_there_is_no_attention() -> None:
    """An explicit perceptron with adaLN, for the single token of a global basis."""
    net = built(window=0, depth=2)
    assert net.stride == 1 and net.reach == 0 and not any("qkv" in name for name, _ in net.named_parameters())
    z, e = torch.randn(4, 3, 1, 1, 1), torch.randn(4, 8)
    assert net.embed is not None and net.last.linear is not None
    x, features = net.stem(z[..., 0, 0, 0]), net.embed(e)
    for block in net.blocks:
        shift, scale, gate = block.modulation.linear(features).chunk(3, 1)
        x = x + gate * block.back(
            F.gelu(block.wide(F.layer_norm(x, (16,), eps=1e-6) * (1 + scale) + shift), approximate="tanh")
        )
    shift, scale = net.last.linear(features).chunk(2, 1)
    expected = net.head(F.layer_norm(x, (16,), eps=1e-6) * (1 + scale) + shift)
    torch.testing.assert_close(net(z, e)[..., 0, 0, 0], expected, rtol=1e-4, atol=1e-5)
    field = torch.randn(1, 3, 2, 5, 7)
    torch.testing.assert_close(net(field, e[:1])[..., 2:4, 3:6], net(field[..., 2:4, 3:6], e[:1]))


def test_a_window_of_one_attends_along_time_alone() -> None:
    net = built(window=1, depth=2)
    assert net.stride == 1 and net.reach == 0
    x, e = torch.randn(1, 3, 4, 3, 5), torch.randn(1, 8)
    changed = x.clone()
    changed[:, :, 2, 1, 1] += 1
    with torch.no_grad():
        moved = (net(changed, e) - net(x, e)).abs().amax(1)[0]
    assert (moved[:, 1, 1] > 1e-5).all()
    moved[:, 1, 1] = 0
    assert moved.max() < 1e-6
    assert net(x[:, :, :1], e).isfinite().all()


def test_it_starts_as_zero_and_blocks_as_the_identity() -> None:
    torch.manual_seed(0)
    net = ViT(3, 2, embedding=8, width=16, depth=2, window=4)
    x, e = torch.randn(1, 3, 1, 8, 8), torch.randn(1, 8)
    assert net(x, e).abs().max() == 0
    tokens = torch.randn(1, 1, 8, 8, 16)
    assert net.embed is not None
    torch.testing.assert_close(net.blocks[1](tokens, net.embed(e), net.turns(tokens), 4, 2), tokens)
    (net(x, e) - 1).square().mean().backward()
    assert net.head.weight.grad.abs().max() > 0


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match=r"backbone\.window is 5 tokens, which cannot be halved"):
        ViT(3, 2, window=5)
    with pytest.raises(InputError, match=r"backbone\.heads is 5, but a backbone\.width of 64 does not divide"):
        ViT(3, 2, width=64, heads=5)
    assert ViT(3, 2, width=192).blocks[0].attention.heads == 6

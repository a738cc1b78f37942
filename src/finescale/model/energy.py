"""Proper scores of a few members, as a loss.

The fair energy score of M members x_i against y in a metric d (Gneiting & Raftery 2007; fair: Ferro 2014),

    ES = 1/M Σ_i d(x_i, y) − 1/(2 M (M − 1)) Σ_{i≠j} d(x_i, x_j),

is, for any number of members, smallest in expectation where members and truth have one distribution. Here d is the root
mean square difference over a patch of s × s fine cells, all frames and all variables of it, over known cells,

    d(a, b)² = Σ k (a − b)² / Σ k,      k = 1 where the truth is known,

averaged over patches that tile the crop from a random corner on. Patches of one cell and frame judge the marginal
distributions (with one variable ES then is the CRPS), larger ones texture and how cells go together. The same of
differences between neighbouring cells judges the finest texture, whatever the amount it sits on. The same of

    v = (⟨u²⟩ − ⟨w²⟩, 2 ⟨u w⟩) / √⟨u² + w²⟩,

with u and w the differences along both diagonals where four cells meet and ⟨⟩ means over a patch, judges how far its
gradients lie along one line, and which: its direction turned twice, long where they do (the structure tensor, Bigün &
Granlund 1987, as `finescale.scores.direction` has it). Without it lines that are longer than the truth's score as well.
Sums of proper scores are proper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from finescale.ranges import NotNegative, Size

LEAST = 1e-10
"""Added to squared distances, whose root has no slope at zero."""


@dataclass(frozen=True)
class Score:
    """Weights of the terms.

    Attributes:
        patches: sides s, in fine cells, of patches of fields, each with weight 1.
        differences: sides of patches of differences between neighbours along y and along x.
        steep: weight of each of these.
        directions: sides of patches that v is of.
        lines: weight of each of these.
        amounts: weight of the same terms of √(x + ``floor``) in units, for fields that are not linear in what networks
            see: logarithms alone care little for the largest amounts.
        floor: amount that is added before that root.
        blocks: weight of the mean square, in the networks' space, by which block means are off before the constraint.
        together: whether larger patches are of all frames of a crop, or of one each: noise that is white in time cannot
            make frames that go together, and is then not asked to.
    """

    patches: tuple[Size, ...] = (1, 4, 12)
    differences: tuple[Size, ...] = (1, 4)
    steep: NotNegative = 1.0
    directions: tuple[Size, ...] = (16,)
    lines: NotNegative = 2.0
    amounts: NotNegative = 2.0
    floor: NotNegative = 0.02
    blocks: NotNegative = 0.05
    together: bool = True

    def of(self, members: Tensor, truth: Tensor, known: Tensor, generator: torch.Generator) -> Tensor:
        """The terms on fields, a loss for each crop (B,).

        Args:
            members: (B, M, C, T, H, W) in the networks' space.
            truth: (B, C, T, H, W), finite.
            known: (B, 1, T, H, W), 1 where the truth counts.
            generator: of the corners of patches.
        """
        if not self.together:  # every frame as a crop of its own
            frames = members.movedim(3, 1).flatten(0, 1)[:, :, :, None]
            found = replace(self, together=True).of(frames, _apart(truth), _apart(known), generator)
            return found.unflatten(0, (-1, truth.shape[2])).mean(1)
        terms = (energy(members, truth, known, side, generator) for side in self.patches)
        total = sum(terms, truth.new_zeros(len(truth)))
        for axis in (-2, -1) if self.differences and self.steep else ():
            apart = members.diff(dim=axis), truth.diff(dim=axis), _both(known, axis)
            each = [energy(*apart, side, generator) for side in self.differences]
            total = total + self.steep / 2 * torch.stack(each).sum(0)
        for side in self.directions if self.lines else ():
            total = total + self.lines * directed(members, truth, known, side, generator)
        return total


def energy(members: Tensor, truth: Tensor, known: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """The fair energy score over patches of ``side`` × ``side`` cells, for each crop (B,); arguments as in `Score.of`.

    Patches of one cell are of one frame, larger ones of all frames.
    """
    count = members.shape[1]
    side, corner = _tiles(known, side, generator)
    weight = patches(known, side, corner)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        mean = patches(((a - b).square() * known).mean(1, keepdim=True), side, corner) / weight.clamp_min(LEAST)
        return (mean + LEAST).sqrt()

    fields = members.unbind(1)
    near = sum((distance(x, truth) for x in fields), torch.zeros_like(weight)) / count
    apart = sum((distance(a, b) for a, b in combinations(fields, 2)), torch.zeros_like(weight))
    score = near - apart / (count * (count - 1))
    return (score * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(LEAST)


def directed(members: Tensor, truth: Tensor, known: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """The fair energy score of v, of patches of ``side`` × ``side`` corners, for each crop (B,).

    Arguments as in `Score.of`.
    """
    known = _both(_both(known, -2), -1)
    side, corner = _tiles(known, side, generator)
    weight = patches(known, side, corner)

    def along(x: Tensor) -> Tensor:
        """v of (B, C, T, H, W)."""
        u, w = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]
        products = (patches(product * known, side, corner) for product in (u * u, w * w, u * w))
        uu, ww, uw = (product / weight.clamp_min(LEAST) for product in products)
        return (torch.stack([uu - ww, 2 * uw]) / (uu + ww + LEAST).sqrt()).transpose(0, 1).flatten(1, 2)

    return energy(torch.stack([along(x) for x in members.unbind(1)], 1), along(truth), weight, 1, generator)


def patches(x: Tensor, side: int, corner: Sequence[int]) -> Tensor:
    """Means of x (B, C, T, H, W) over patches from a corner (y, x) on; over frames too where side > 1."""
    if side == 1:
        return x
    top, left = corner
    return F.avg_pool2d(x.mean(2)[..., top:, left:], side)


def _tiles(known: Tensor, side: int, generator: torch.Generator) -> tuple[int, list[int]]:
    """Side and first corner (y, x) of patches; what is smaller than the patch is one patch."""
    shape = known.shape[-2:]
    side = min(side, *shape)
    return side, [int(torch.randint(side, (), generator=generator)) if n >= 2 * side else 0 for n in shape]


def _apart(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B·T, C, 1, H, W)."""
    return x.movedim(2, 1).flatten(0, 1)[:, :, None]


def _both(known: Tensor, axis: int) -> Tensor:
    """1 where two neighbours along an axis are known."""
    n = known.shape[axis]
    return known.narrow(axis, 0, n - 1) * known.narrow(axis, 1, n - 1)

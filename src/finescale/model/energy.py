"""Proper scores of a few members, as a loss.

The fair energy score of M members x_i against y in a metric d (Gneiting & Raftery 2007; fair: Ferro 2014),

    ES = 1/M Σ_i d(x_i, y) − 1/(2 M (M − 1)) Σ_{i≠j} d(x_i, x_j),

is, for any number of members, smallest in expectation where members and truth have one distribution. Here d is the root
mean square difference over a patch of s × s fine cells, all frames and all variables of it, over known cells,

    d(a, b)² = Σ k (a − b)² / Σ k,      k = 1 where the truth is known,

averaged over patches that tile the crop from a random corner on. Patches of one cell and frame judge the marginal
distributions (with one variable ES then is the CRPS), larger ones texture and how cells go together. The same of
differences between neighbouring cells judges the finest texture, whatever the amount it sits on. Sums of proper scores
are proper.
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
        return total


def energy(members: Tensor, truth: Tensor, known: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """The fair energy score over patches of ``side`` × ``side`` cells, for each crop (B,); arguments as in `Score.of`.

    Patches of one cell are of one frame, larger ones of all frames.
    """
    count = members.shape[1]
    # A crop smaller than the patch is one patch.
    side = min(side, *truth.shape[-2:])
    corner = [int(torch.randint(side, (), generator=generator)) if n >= 2 * side else 0 for n in truth.shape[-2:]]
    weight = patches(known, side, corner)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        mean = patches(((a - b).square() * known).mean(1, keepdim=True), side, corner) / weight.clamp_min(LEAST)
        return (mean + LEAST).sqrt()

    fields = members.unbind(1)
    near = sum((distance(x, truth) for x in fields), torch.zeros_like(weight)) / count
    apart = sum((distance(a, b) for a, b in combinations(fields, 2)), torch.zeros_like(weight))
    score = near - apart / (count * (count - 1))
    return (score * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(LEAST)


def patches(x: Tensor, side: int, corner: Sequence[int]) -> Tensor:
    """Means of x (B, 1, T, H, W) over patches from a corner (y, x) on; over frames too where side > 1."""
    if side == 1:
        return x
    top, left = corner
    return F.avg_pool2d(x.mean(2)[..., top:, left:], side)


def _apart(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B·T, C, 1, H, W)."""
    return x.movedim(2, 1).flatten(0, 1)[:, :, None]


def _both(known: Tensor, axis: int) -> Tensor:
    """1 where two neighbours along an axis are known."""
    n = known.shape[axis]
    return known.narrow(axis, 0, n - 1) * known.narrow(axis, 1, n - 1)

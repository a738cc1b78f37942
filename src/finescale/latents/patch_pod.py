"""Patch-wise proper orthogonal decomposition as latent space.

(Patch-PODiff-ViT, arXiv 2606.31290; PODiff, arXiv 2605.03399.) Of every patch u of (pt, py, px) cells the latent holds
the first K coefficients in a fixed orthonormal basis, the same for all patches and fitted to training data,

    a = Φᵀ (u − ū),      u ≈ ū + Φ a,      ΦᵀΦ = I,

with ū the mean patch and Φ the K modes of most variance (`finescale.latents.pod`); whitening then divides each
coefficient by its standard deviation. With patches as large as the domain this is PODiff's global basis. The decoder is
linear, so variance goes through it in closed form; the variance of the modes that are left out is kept cell by cell as
the floor f (ours: the papers leave it out). Modes leave less of the fields that they were fitted to than of any other:
of N samples in D dimensions, by a share of the order of D/N. So f is cross-validated: with the training crops in FOLDS
runs, bases are fitted without each of them, and f is what these leave out of the run that they have not seen,

    f = mean over k, and x in run k, of (x − ū₋ₖ − Φ₋ₖ Φ₋ₖᵀ (x − ū₋ₖ))².

Members may have it too, as noise that the modes cannot represent,

    r = g ∘ (I − ΦΦᵀ) ε,      ε ~ N(0, I),      g = sqrt(f / diag(I − ΦΦᵀ)),

as in probabilistic principal component analysis (Tipping & Bishop 1999), but with a variance for each cell.

Conditioning fields come as coefficients too: as published those of the anomaly, Φᵀ (c − ū), for every field c. (Ours,
by default: those of the field less its mean over the patch, and that mean beside them. A basis of residuals is nearly
orthogonal to what the coarse field fixes, so the coefficients alone would not tell it.)

Also ours: patches that overlap (`finescale.latents.patches`), patches along time, and two sizes of patches, where the
small ones represent what K₁ modes of the large ones leave.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from finescale.errors import InputError
from finescale.latents.base import LinearLatentSpace, blocks, depth_to_space, space_to_depth
from finescale.latents.patch_basis import Fields, PatchBasis
from finescale.latents.patches import Patches
from finescale.latents.pod import check_count
from finescale.latents.runs import ALL, Runs
from finescale.ranges import Size

LEAST = 0.1
"""Conditions are divided by the latent's standard deviations, but by none smaller than this share of the largest."""
FOLDS = 5
"""Runs of crops of which each is held out once, to measure what modes leave of fields that they were not fitted to."""
ENOUGH = 256
"""Patches, for every cell of one, after which more change a basis no more: modes then leave 1/256 too little."""


class PatchPOD(LinearLatentSpace):
    """Whitened POD coefficients of patches; stride is the hop from one patch to the next.

    Args:
        channels: C, channels of the field.
        patch: cells of a patch in space, one number or (y, x); the whole domain for a global basis.
        frames: pt, frames that a patch covers.
        modes: K, modes, at most C·pt·py·px, of which all are exact.
        energy: keep only as many of them as capture this share of the variance; the others stay as channels that are 0.
        overlap: patches at half their length apart in y and x, blended by a sine window.
        coarse: (cells, K₁): first K₁ modes of larger patches, multiples of the small ones. The latent then has one cell
            for a large patch, with the small patches' coefficients as channels.
        random: a random orthonormal basis, to compare with.
        remainder: members get what the modes leave out, as noise r of variance f; for fields that vary everywhere, not
            for rain.
        condition: conditioning fields come as coefficients less their patch mean, with that mean (mean), or as
            published, as coefficients less ū (anomaly), for a latent of whole fields.

    Attributes:
        mean: ū, (C, *stride).
        floor: f, (C, *stride), the variance of what the modes leave out.
    """

    fixed = False

    mean: Tensor
    floor: Tensor

    def __init__(
        self,
        channels: int = 1,
        patch: Size | tuple[Size, Size] = 8,
        frames: Size = 1,
        modes: Size = 16,
        energy: float | None = None,
        overlap: bool = False,
        coarse: tuple[Size, Size] | None = None,
        random: bool = False,
        remainder: bool = False,
        condition: Literal["mean", "anomaly"] = "mean",
    ) -> None:
        if energy is not None and not 0 < energy <= 1:
            raise InputError(f"latent.energy is {energy}, but must be a share of the variance, such as 0.99")
        size = (frames, *((patch, patch) if isinstance(patch, int) else patch))
        small = PatchBasis(channels, Patches(size, overlap), modes, energy, random)
        large, ratio = None, (1, 1, 1)
        if coarse is not None:
            cells, first = coarse
            if any(cells % n for n in size[1:]) or (cells, cells) == size[1:]:
                raise InputError(f"latent.coarse has patches of {cells} cells, which must be a multiple of {size[1:]}")
            large = PatchBasis(channels, Patches((frames, cells, cells), overlap), first, None, random)
            ratio = (1, cells // size[1], cells // size[2])
        stride = (small if large is None else large).patches.hop
        count = ratio[1] * ratio[2]
        super().__init__(modes * count + (0 if large is None else large.modes), stride)
        self.small, self.large, self.ratio = small, large, ratio
        self.field_channels = channels
        self.exact = energy is None and modes == small.dimension
        self.remainder = remainder and not self.exact
        self.condition = condition
        self.register_buffer("mean", torch.zeros(channels, *stride))
        self.register_buffer("floor", torch.zeros(channels, *stride))

    @property
    def basis(self) -> Tensor:
        """Φ of the (small) patches, (K, C, pt, py, px); modes that are switched off are 0."""
        return self.small.basis

    @property
    def energies(self) -> Tensor:
        """The share (K,) of the variance of patches that each mode captures, switched off or not."""
        return self.small.energies

    @property
    def kept(self) -> int:
        """How many modes are switched on."""
        return self.small.kept

    @property
    def reach(self) -> tuple[int, int, int]:
        py, px = (self.small if self.large is None else self.large).patches.parts
        return 1, py, px

    # --- fitting

    @property
    def enough(self) -> int:
        """Fine cells of one channel that settle the basis."""
        bases = [basis for basis in (self.small, self.large) if basis is not None]
        return max(ENOUGH * basis.dimension**2 // self.field_channels for basis in bases)

    def fit(self, batches: Iterable[Tensor], known: Iterable[Tensor] | None = None) -> None:
        """Fit the mean patch, the basis, the whitening and the floor.

        Args:
            batches: fields (B, C, T, H, W), gone through several times; kept in memory if they come only once. Runs of
                them are held out to measure the floor, so fields that are alike, such as neighbours in time, should
                follow each other.
            known: for each of them (B, 1, T, H, W), 1 where it is known. Cells count for the mean and the floor, and
                pairs of cells for the basis, as often as they are known; the field must be about 0 elsewhere.

        Raises:
            InputError: if there are fewer patches than modes beside those that are held out, or none is known.
        """
        fields = Runs(batches, known)
        every = fields.of(ALL)
        self._fit_bases(every)
        super().fit(
            (x - self._tiled(self.mean, x) for x, _ in every()),
            None if known is None else (m for _, m in every() if m is not None),
        )
        if self.exact:
            self.floor.zero_()
            return
        count = len(fields)
        runs = min(FOLDS, count)
        ends = [count * k // runs for k in range(runs + 1)]

        def left_out() -> Iterator[tuple[Tensor, Tensor | None]]:
            for low, high in pairwise(ends):
                other = copy.deepcopy(self)
                other.small.energy = None
                other._fit_bases(fields.of((0, low), (high, ALL[1])))
                other.small.basis[self.kept :] = 0
                for x, mask in fields.of((low, high))():
                    rest = x - other._tiled(other.mean, x)
                    yield (rest - other.synthesis(other.analysis(rest))).square(), mask

        self.floor.copy_(self._tile_mean(left_out))

    def check(self, crops: int, size: tuple[int, int, int]) -> None:
        if crops < 2 and not self.exact:
            raise InputError(
                "the training data hold a single crop, but what modes leave out is measured on crops that they are "
                "not fitted to: lower data.crop or take more data"
            )
        fitted = crops if self.exact else crops - -(-crops // FOLDS)
        for basis in (self.small, self.large):
            if basis is not None:
                patches = math.prod(-(-n // hop) for n, hop in zip(size, basis.patches.hop, strict=True))
                check_count(fitted * patches, basis.modes)

    def _fit_bases(self, fields: Fields) -> None:
        """Fit the mean patch and the bases."""
        self.mean.copy_(self._tile_mean(fields))

        def centred() -> Iterator[tuple[Tensor, Tensor | None]]:
            for x, mask in fields():
                x = x - self._tiled(self.mean, x)
                yield x if mask is None else x * mask, mask

        large = self.large
        if large is not None:
            large.fit(centred)
        self.small.fit(
            centred if large is None else lambda: ((x - large.synthesis(large.analysis(x)), m) for x, m in centred())
        )

    def _tile_mean(self, fields: Fields) -> Tensor:
        """Mean (C, *stride) over the blocks of stride cells, each cell as often as it is known."""
        total, count = torch.zeros(2, self.mean.numel(), dtype=torch.float64)
        for x, known in fields():
            mask = torch.ones_like(x) if known is None else known.expand_as(x)
            for found, values in ((total, x * mask), (count, mask)):
                found += space_to_depth(values, self.stride).double().sum((0, 2, 3, 4)).cpu()
        return (total / count.clamp_min(1)).reshape(self.mean.shape).to(self.mean)

    # --- analysis and synthesis

    def encode(self, x: Tensor) -> Tensor:
        """Fine (B, C, T, H, W) -> whitened latent (B, K, T', H', W') of x − ū."""
        return super().encode(x - self._tiled(self.mean, x))

    def decode(self, z: Tensor) -> Tensor:
        """Whitened latent (B, K, T', H', W') -> fine (B, C, T, H, W), ū + Φ a."""
        x = super().decode(z)
        return x + self._tiled(self.mean, x)

    def analysis(self, x: Tensor) -> Tensor:
        """Φᵀ x, patch by patch; the large patches' coefficients first, then the small ones', mode by mode."""
        if self.large is None:
            return self.small.analysis(x)
        first = self.large.analysis(x)
        rest = self.small.analysis(x - self.large.synthesis(first))
        return torch.cat([first, space_to_depth(rest, self.ratio)], 1)

    def synthesis(self, c: Tensor) -> Tensor:
        """Φ c; linear, without ū."""
        if self.large is None:
            return self.small.synthesis(c)
        first, rest = c[:, : self.large.modes], c[:, self.large.modes :]
        return self.large.synthesis(first) + self.small.synthesis(depth_to_space(rest, self.ratio))

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        if self.large is None:
            return self.small.synthesis_squared(variance)
        first, rest = variance[:, : self.large.modes], variance[:, self.large.modes :]
        return self.large.synthesis_squared(first) + self.small.synthesis_squared(depth_to_space(rest, self.ratio))

    def synthesis_block(self, block: Tensor) -> Tensor:
        return super().synthesis_block(block) if self.large is not None else self.small.synthesis_block(block)

    def truncated(self, size: tuple[int, int, int]) -> Tensor:
        return self.floor.repeat(1, *blocks(size, self.stride))

    def left_out(self, white: Tensor) -> Tensor:
        """r = g ∘ (I − S⁻¹ S) ε."""
        kept = self._kept_of_noise()
        gain = torch.where(kept > 1e-6, (self.floor / kept.clamp_min(1e-6)).sqrt(), 0)
        return self._tiled(gain, white) * (white - self.synthesis(self.analysis(white)))

    def _kept_of_noise(self) -> Tensor:
        """diag((I − P)(I − P)ᵀ) with P = S⁻¹ S, (C, *stride): the variance that is left of white noise."""
        if self.large is None and max(self.reach) == 1:
            return 1 - self.basis.square().sum(0)  # P is a projection
        c, t, height, width = self.floor.shape
        with torch.enable_grad():
            # One field for each cell of the tile in the middle, whose patches reach into the tiles around it.
            x = self.floor.new_zeros(self.floor.numel(), c, t, 5 * height, 5 * width, requires_grad=True)
            rest = x - self.synthesis(self.analysis(x))
            middle = rest[..., 2 * height : 3 * height, 2 * width : 3 * width]
            (rows,) = torch.autograd.grad(middle.flatten(1).diagonal().sum(), x)
        return rows.square().sum((1, 2, 3, 4)).reshape(self.floor.shape)

    # --- conditions

    def fold(self, x: Tensor) -> Tensor:
        """Conditioning fields (B, F, T, H, W) -> (B, F·(K + n), T', H', W'): per field K coefficients, n patch means.

        The coefficients are those of the field less its patch mean, in standard deviations of the latent; n is 1, or
        the number of small patches in a large one. A basis for several channels takes the field for each of them. With
        ``condition: anomaly`` they are those of the field less ū, and n is 0.
        """
        if self.condition == "anomaly":
            fields = x.flatten(0, 1).unsqueeze(1).expand(-1, self.field_channels, -1, -1, -1)
            anomalies = self.analysis(fields - self._tiled(self.mean, x)) / self._told_scale
            return anomalies.unflatten(0, x.shape[:2]).flatten(1, 2)
        flat = x.flatten(0, 1).unsqueeze(1)
        rest, mean = self.small.anomaly(flat)
        coefficients = [] if self.large is None else [self.large.anomaly(flat)[0]]
        coefficients.append(space_to_depth(rest, self.ratio))
        scaled = torch.cat(coefficients, 1) / self._told_scale
        folded = torch.cat([scaled, space_to_depth(mean, self.ratio)], 1)
        return folded.unflatten(0, x.shape[:2]).flatten(1, 2)

    def condition_channels(self, fields: int) -> int:
        means = 0 if self.condition == "anomaly" else self.ratio[1] * self.ratio[2]
        return fields * (self.channels + means)

    @property
    def _told_scale(self) -> Tensor:
        return self.scale.clamp_min(LEAST * float(self.scale.max()))

    def _tiled(self, tile: Tensor, like: Tensor) -> Tensor:
        return tile.repeat(1, *blocks(tuple(like.shape[-3:]), self.stride))

"""An orthonormal basis of patches: analysis, synthesis, and how variance goes through it.

With w the taper of `finescale.latents.patches`, 1 where patches do not overlap, a patch u has the coefficients Φᵀ(w·u),
and the field is the sum of w·Φa over all patches. Where different patches are independent, what they contribute to the
variance of a cell, w²·diag(ΦΣΦᵀ), adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from finescale.errors import InputError
from finescale.latents.matrices import channels_by
from finescale.latents.patches import Patches
from finescale.latents.pod import captured, pod, random_basis

Fields = Callable[[], Iterator[tuple[Tensor, Tensor | None]]]
"""Goes through fields (B, C, T, H, W) with where they are known (B, 1, T, H, W), or None."""

MOST_NUMBERS = 2**28
"""Of a basis: a gigabyte."""


class PatchBasis(nn.Module):
    """An orthonormal basis of the patches of one size.

    Args:
        channels: C.
        patches: their size, and whether they overlap.
        modes: K.
        energy: share of the variance to keep; None for all modes.
        random: leave the basis as it is drawn.
    """

    basis: Tensor
    energies: Tensor

    def __init__(self, channels: int, patches: Patches, modes: int, energy: float | None, random: bool) -> None:
        super().__init__()
        self.dimension = channels * patches.size[0] * patches.size[1] * patches.size[2]
        if min(modes, *patches.size) < 1:
            raise InputError(f"latent.modes is {modes} of patches of {patches.size} cells: all must be at least 1")
        if modes > self.dimension:
            raise InputError(f"{modes} modes, but a patch of {patches.size} cells has {self.dimension}: take fewer")
        if modes * self.dimension > MOST_NUMBERS:
            raise InputError(
                f"a basis of {modes} modes of {self.dimension} cells is too large: lower latent.modes or latent.patch"
            )
        self.patches, self.modes, self.energy, self.random = patches, modes, energy, random
        basis = random_basis(modes, self.dimension).float()
        self.register_buffer("basis", basis.reshape(modes, channels, *patches.size))
        self.register_buffer("energies", torch.full((modes,), 1 / self.dimension))

    @property
    def kept(self) -> int:
        """Modes that are switched on."""
        return int(self.basis.flatten(1).any(1).sum())

    def fit(self, fields: Fields) -> None:
        """Fit to fields (B, C, T, H, W) of zero mean, 0 where their masks are."""

        def samples() -> Iterator[tuple[Tensor, Tensor | None]]:
            for x, mask in fields():
                known = None if mask is None or bool(mask.all()) else self.patches.cut(mask.expand_as(x))
                rows = _rows(self.patches.cut(x) * self._window(x))
                if known is None:
                    yield rows, None
                    continue
                # A patch of which no cell is known says nothing.
                seen = (_rows(known) > 0).double()
                some = seen.any(1)
                yield (rows * seen, seen) if bool(some.all()) else ((rows * seen)[some], seen[some])

        if self.random:
            basis = self.basis.flatten(1).cpu()
            shares = captured(samples, basis)
        else:
            basis, shares = pod(samples, self.dimension, self.modes)
        self.basis.copy_(basis.reshape(self.basis.shape).to(self.basis))
        self.energies.copy_(shares.to(self.energies))
        if self.energy is not None:
            enough = int((shares.cumsum(0) < self.energy - 1e-12).sum()) + 1
            self.basis[enough:] = 0

    def analysis(self, x: Tensor) -> Tensor:
        """Φᵀ (w · patch): (B, C, T, H, W) -> (B, K, T', H', W')."""
        return _matmul(self.basis.flatten(1), self._window(x), self.patches.cut(x))

    def synthesis(self, a: Tensor) -> Tensor:
        """Σ w · Φ a over patches, in shares of Σ w² = 1: (B, K, T', H', W') -> (B, C, T, H, W)."""
        return self._lay(channels_by(self.basis.flatten(1).T, a), a, 1)

    def synthesis_squared(self, variance: Tensor) -> Tensor:
        """Σ w² · Φ∘² variance: what different patches contribute adds up."""
        return self._lay(channels_by(self.basis.flatten(1).T.square(), variance), variance, 2)

    def synthesis_block(self, block: Tensor) -> Tensor:
        """Σ w² · diag(Φ Σ Φᵀ) for a covariance (B, K, K, T', H', W') of every patch."""
        basis = self.basis.flatten(1).to(block)
        half = torch.einsum("bklthw,ld->bkdthw", block, basis)
        return self._lay(torch.einsum("bkdthw,kd->bdthw", half, basis), block, 2)

    def anomaly(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of single fields (N, 1, T, H, W) coefficients (N, K, T', H', W') less the patch mean, and that mean."""
        patches = self.patches.cut(x)
        mean = patches.mean(1, keepdim=True)
        basis = self.basis.sum(1).flatten(1)
        return _matmul(basis, self.patches.taper(x), patches - mean), mean

    def _window(self, like: Tensor) -> Tensor:
        return self.patches.taper(like).repeat(self.basis.shape[1], 1, 1, 1)

    def _lay(self, patches: Tensor, like: Tensor, power: int) -> Tensor:
        if not self.patches.overlap:
            return self.patches.lay(patches)
        field = self.patches.lay(patches * self._window(like) ** power)
        return field / self.patches.share(field.shape[-2], field.shape[-1], field) ** power


def _matmul(basis: Tensor, window: Tensor, patches: Tensor) -> Tensor:
    """Φᵀ (w · patch), with the window in the basis."""
    return channels_by(basis * window.flatten(), patches)


def _rows(patches: Tensor) -> Tensor:
    """(B, D, T', H', W') -> (N, D) in float64."""
    return patches.movedim(1, -1).flatten(0, -2).cpu().double()

"""First-order stochastic solver of the reverse equation."""

from __future__ import annotations

from torch import Tensor

from finescale.samplers.base import Stochastic


class EulerMaruyama(Stochastic):
    """Euler–Maruyama on the reverse of the variance-preserving equation (Song et al. 2021, eq. 6 and 11)

        dx = −(β/2) x dt + sqrt(β) dw,      reversed      dx = (−(β/2) x − β ∇ln p_t(x)) dt + sqrt(β) dw̄

    written in sigma: with x = z/sqrt(1 + sigma²), ᾱ = 1/(1 + sigma²), the score −(x − sqrt(ᾱ) D)/(1 − ᾱ), and
    b = ∫β dt = ln((1 + sigma²)/(1 + sigma'²)) over a step (its integral, where Song et al. take β at the step's start,
    so that any falling levels will do), x' = (1 + b/2) x + b ∇ln p(x) + sqrt(b) · noise becomes

        z' = sqrt(n'/n) ((1 + b/2) z − b n/sigma² (z − D)) + sqrt(n' b) · noise,      n = 1 + sigma²

    and the last step, to sigma' = 0, returns D, without noise. One evaluation a step, error O(h). The solver
    of arXiv 2507.01354; that b is an integral, and the last step, are ours.
    """

    def step(self, z: Tensor, clean: Tensor, sigma: Tensor, after: Tensor, noise: Tensor) -> Tensor:
        now, then, dtype = 1 + sigma.square(), 1 + after.square(), z.dtype
        b = (now / then).log()
        shrink = (then / now).sqrt()
        keep, pull, spread = shrink * (1 + b / 2), shrink * b * now / sigma.square(), (then * b).sqrt()
        return keep.to(dtype) * z - pull.to(dtype) * (z - clean) + spread.to(dtype) * noise

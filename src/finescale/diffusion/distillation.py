"""Distillation of a denoiser to few steps.

A trained denoiser (the teacher) defines, through the probability-flow equation

    dz/dsigma = (z − D(z; sigma)) / sigma,

a map f(z, sigma) from any point of a trajectory to its end at sigma = 0: the consistency function (Song et al. 2023).
It is deterministic, so a student that learns it turns white noise into samples with the teacher's distribution in one
evaluation: the spread is the noise's, carried through one map. With f, sampling in n steps is z = f(sigma_0 · noise),
then for each lower level z = f(z + sigma_i · fresh noise): see `finescale.samplers.consistency`.

The target. Consistency distillation regresses f(z_i) on the student's own f one level below, so that errors add up
from level to level, and N levels must be learned one after the other. Here N is 16 or so, and a whole trajectory costs
as many evaluations without gradients, about five training passes of one item. So the target is the trajectory's end
itself (Luhman & Luhman 2021), from the teacher and a second-order solver, and several points of each trajectory,
z_0 = sigma_0 · noise ... z_N = end, are learned at once:

    loss = mean of H((f(z_i, sigma_i) − z_N) / c_out(sigma_i)),      H(e) = sqrt(|e|² + c²) − c,   c = 0.00054

H is the pseudo-Huber distance of Song & Dhariwal 2023, with |e|² the mean over an item's coefficients; divided by c_out
it measures the error of the network F at every level, as in training the teacher. No moving average serves as target,
for nothing bootstraps.

The boundary condition. Song et al. stop at sigma_min and need f(z, sigma_min) = z from other c_skip and c_out.
Trajectories here end at 0, where the teacher's own c_skip = 1 and c_out = 0 give f(z, 0) = z exactly, and at the last
level f is the teacher's estimate. So the student is the same network with the same preconditioning, and starts as the
teacher.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from finescale.diffusion.denoiser import Denoiser
from finescale.diffusion.schedule import stratified

HUBER = 0.00054
Solver = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor], Tensor]


class Distillation(nn.Module):
    """The teacher's trajectories and the student's loss on them.

    Args:
        teacher: trained denoiser; it is frozen.
        solver: solver(denoise, noise, sigmas) -> end of the trajectory; evaluates once at each point z_0 ... z_{N−1}.
        sigmas: (N + 1,) falling noise levels that end with 0.
        picks: points of a trajectory that are learned at once: the first, where sampling starts, and others.
    """

    sigmas: Tensor

    def __init__(self, teacher: Denoiser, solver: Solver, sigmas: Tensor, picks: int = 4) -> None:
        super().__init__()
        self.teacher, self.solver, self.picks = teacher.requires_grad_(False), solver, picks
        self.register_buffer("sigmas", sigmas, persistent=False)

    @torch.no_grad()
    def trajectory(self, noise: Tensor, cond: Tensor, scalars: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Points (N, B, K, T', H', W') and end (B, K, T', H', W') of the trajectories that start at sigma_0 · noise."""
        points: list[Tensor] = []

        def recorded(z: Tensor, sigma: Tensor) -> Tensor:
            points.append(z)
            return self.teacher(z, sigma.expand(len(z)), cond, scalars)

        end = self.solver(recorded, noise, self.sigmas)
        if len(points) != len(self.sigmas) - 1:
            raise ValueError(f"the solver evaluated {len(points)} points for {len(self.sigmas) - 1} noise levels")
        return torch.stack(points), end

    def levels(self, batch: int, generator: torch.Generator) -> Tensor:
        """(picks, batch) indices of noise levels: the first one, then stratified over the others.

        Args:
            batch: number of items.
            generator: source of random numbers, on the CPU.
        """
        count = len(self.sigmas) - 1
        others = 1 + (stratified(batch * (self.picks - 1), generator) * (count - 1)).long()
        first = torch.zeros(batch, dtype=torch.long)
        return torch.cat([first, others.clamp_max(count - 1)]).reshape(self.picks, batch)

    def forward(
        self,
        student: Denoiser,
        noise: Tensor,
        cond: Tensor,
        levels: Tensor,
        weight: Tensor | None = None,
        scalars: Tensor | None = None,
        items: Tensor | None = None,
    ) -> Tensor:
        """The student's loss.

        Args:
            student: learns f.
            noise: (B, K, T', H', W') white noise, at which trajectories start.
            cond: (B, Kc, T', H', W') conditioning fields.
            levels: (picks, B) indices of noise levels, of `levels`.
            weight: (B, 1, T', H', W'), 0 where the latent is unknown; None for equal weights.
            scalars: (B, S) features of the factor, where the model serves several.
            items: (B,) weights of the crops; None for equal ones.
        """
        points, end = self.trajectory(noise, cond, scalars)
        levels = levels.to(noise.device)
        z = points[levels, torch.arange(len(noise), device=noise.device)].flatten(0, 1)
        sigma = self.sigmas[levels.flatten()].to(noise.dtype)
        weight = torch.ones_like(noise[:, :1]) if weight is None else weight

        def repeated(x: Tensor) -> Tensor:
            return x.repeat(self.picks, *[1] * (x.ndim - 1))

        features = None if scalars is None else repeated(scalars)
        error = student.mismatch(repeated(end), z, sigma, repeated(cond), features)
        square = (error.square().mean(1, keepdim=True) * repeated(weight)).flatten(1).sum(1)
        distance = square / repeated(weight).flatten(1).sum(1).clamp_min(1e-12)
        loss = (distance + HUBER**2).sqrt() - HUBER
        return (loss if items is None else loss * repeated(items)).mean()

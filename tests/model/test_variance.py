"""The variance head: its losses, what they lead to, and its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scoringrules
import torch
from scipy import stats
from torch import Tensor

from finescale.config.build import build_model
from finescale.config.read import read_config
from finescale.downscaler import Downscaler
from finescale.errors import InputError
from finescale.model import losses
from finescale.model.batch import Batch
from finescale.model.variance import LIMIT, VarianceHead, gaussian_crps, gaussian_nll
from finescale.operators.coarsen import Coarsen


def test_crps_and_likelihood_are_those_of_other_libraries(rng: np.random.Generator) -> None:
    error, log_variance = rng.normal(size=500) * 2, rng.normal(size=500)
    std = np.exp(log_variance / 2)
    ours = gaussian_crps(torch.from_numpy(error), torch.from_numpy(log_variance))
    np.testing.assert_allclose(ours, scoringrules.crps_normal(error, 0.0, std), rtol=1e-9)
    likelihood = gaussian_nll(torch.from_numpy(error), torch.from_numpy(log_variance)) + 0.5 * math.log(2 * math.pi)
    np.testing.assert_allclose(likelihood, -stats.norm(0, std).logpdf(error), rtol=1e-9)


@pytest.mark.parametrize("loss", ["nll", "crps"])
def test_a_head_learns_a_known_variance(loss: Any) -> None:
    """z = exp(s/2)·noise with s = 10 tanh(2 cond / 10): the least loss is at weight 2 and bias 0, everywhere.

    Instead of random noise the 1024 midpoint quantiles of the normal law, and the loss is minimised to the end: what is
    left is that their variance is 1 − 0.0013 (the mean |x| is even nearer), a log-variance of 0.0013.
    """
    head = VarianceHead(torch.nn.Conv3d(1, 1, 1), loss).double()
    torch.nn.init.zeros_(head.backbone.weight)
    torch.nn.init.zeros_(head.backbone.bias)
    head.backbone.forward, conv = lambda x, _: conv(x), head.backbone.forward
    cond = torch.linspace(-1, 1, 16, dtype=torch.float64).reshape(1, 1, 1, 1, 16).expand(64, 1, 1, 16, 16)
    weight = (cond < 0.8).double()
    assert torch.equal(head(cond), torch.zeros_like(cond))
    noise = torch.from_numpy(stats.norm.ppf((np.arange(1024) + 0.5) / 1024)).reshape(64, 1, 1, 16, 1)
    assert abs(float(noise.square().mean()) - 1) < 0.0015
    wanted = LIMIT * torch.tanh(2 * cond / LIMIT)
    z = torch.where(weight > 0, (0.5 * wanted).exp() * noise, 1e3)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def value() -> Tensor:
        optimizer.zero_grad()
        found = head.loss(z, cond, weight)
        found.backward()
        return found

    optimizer.step(value)
    torch.testing.assert_close(head(cond).double(), wanted, atol=2e-3, rtol=0)


def test_the_loss_of_the_head_is_the_likelihood_of_the_residual(
    built: Callable[..., Downscaler], head: dict[str, Any]
) -> None:
    model = built(variance=head)
    fine = torch.rand(3, 1, 1, 16, 16) * 5
    crops = Batch(Coarsen(model.factor)(fine), torch.ones(3, 16, 16), fine=fine)
    with torch.no_grad():
        model.latent.fit([losses.residual(model, crops)])
    found = model.loss("variance", crops, torch.Generator())
    found.backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"variance"}
    assert model.variance is not None
    conditions = model.conditions(model.transform(crops.coarse), model.factor)
    mu = model.mean(conditions)
    residual = model.transform(fine) - mu
    torch.testing.assert_close(losses.residual(model, crops), residual)
    folded = model.latent.fold(torch.cat([conditions, mu], 1))
    std = (0.5 * model.variance(folded)).exp().detach()
    z = (model.latent.encode(residual) - model.latent.encode(torch.zeros_like(residual))).detach()
    expected = -torch.distributions.Normal(0.0, std).log_prob(z).mean() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": {"loss": "mse"}}, r"variance\.loss is 'mse'"),
        ({"variance": {"los": "nll"}}, r"variance\.los.*did you mean 'loss'"),
        ({"variance": "unet"}, "must hold settings"),
        ({"variance": {"backbone": "edsr"}}, "take unet"),
        ({"variance": {"loss": "nll"}, "mean": "none"}, "needs a mean"),
    ],
)
def test_settings_that_are_wrong(tiny: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(read_config(tiny | changes))


def test_the_model_is_a_downscaler_with_or_without_a_head(built: Callable[..., Downscaler]) -> None:
    model = built()
    assert isinstance(model, Downscaler) and not any(name.startswith("variance") for name in model.state_dict())

"""From a configuration to a model: the only place that names concrete classes and derives dimensions.

``latent: {kind: wavelet, levels: 2}`` names the class that ``finescale/latents/wavelet.py`` exports; the class's
constructor is the schema: unknown keys and wrong types are errors that say what is allowed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from finescale import backbones, latents, samplers
from finescale.config.document import blamed
from finescale.config.schema import as_mapping, call, check_kind, classes_of, construct, kind_of, part, validated
from finescale.config.variables import constraint_of, transform_of, variables_of
from finescale.diffusion import (
    EDM,
    VP,
    VPSDE,
    Denoiser,
    DiscreteVP,
    EpsilonDenoiser,
    NoiseLevels,
    Schedule,
    ScheduleNoise,
    TimeNoise,
    TotalVariation,
    TrainingNoise,
    VPCosine,
)
from finescale.downscaler import Downscaler
from finescale.errors import InputError, brief, nearest
from finescale.grids.factor import Factor, Factors
from finescale.latents import LatentSpace, LinearLatentSpace
from finescale.model import conditions, mean
from finescale.model.calibrated import Calibrated
from finescale.model.energy import Score
from finescale.model.factor_scale import SCALARS
from finescale.model.generator import Generator
from finescale.model.masks import Masks
from finescale.model.mean import Fold
from finescale.model.process import Process
from finescale.model.remembers import Remembers
from finescale.model.variance import VarianceHead
from finescale.ranges import Steps

EMBEDDING = 64
"""Sinusoidal features of the noise level."""
LARGEST = 5 * 10**8
"""Numbers of a network: 2 GB, and 10 GB with what its training needs."""
NOISIEST = 1e6
"""sigma_max of a schedule: under more noise, float32 keeps nothing of a latent."""


def build_model(config: Mapping[str, Any]) -> Downscaler:
    """Assemble an untrained model.

    Raises:
        InputError: naming the key, the value and what is allowed.
    """
    with blamed("the configuration"):
        return _assembled(config)


def _assembled(config: Mapping[str, Any]) -> Downscaler:
    factors = Factors.parse(config.get("factor", "1x8"))
    scalars = 0 if factors.single is not None else SCALARS
    variables = variables_of(config)
    channels = len(variables)
    transform = transform_of(config, variables)
    fields = conditions.Conditions.of(config).channels(channels)
    for where in ("latent", "mean"):
        if factors.single is None and as_mapping(config.get(where)).get("interval"):
            raise InputError(f"{where}.interval takes the frames of one factor as channels, but {factors} are several")
    latent = part(latents, config.get("latent", "pixel"), "latent", channels=channels, factor=factors.single)
    denoiser_spec = config.get("denoiser", {})
    denoiser = None
    if denoiser_spec not in (None, "none"):
        cls = _backbone_class(denoiser_spec, "denoiser") if isinstance(denoiser_spec, Mapping) else None
        if cls is not None and "embedding" not in inspect.signature(cls).parameters:
            kind = kind_of(denoiser_spec["backbone"])
            raise InputError(
                f"denoiser.backbone.kind is {kind!r}, which cannot be told the noise level: take unet, or denoiser: "
                "none for a deterministic model"
            )
        network = _backbone(
            denoiser_spec,
            "denoiser",
            channels=latent.channels + latent.condition_channels(fields + channels),
            out_channels=latent.channels,
            embedding=EMBEDDING + scalars,
        )
        kind = validated(Literal["clean", "epsilon"], denoiser_spec.get("prediction", "clean"), "denoiser.prediction")
        denoiser = {"clean": Denoiser, "epsilon": EpsilonDenoiser}[kind](network, EMBEDDING)
    generator = _generator(config.get("generator"), latent, fields + channels, scalars)
    if generator is not None and denoiser is not None:
        raise InputError("a generator takes the place of the denoiser: set denoiser to none")
    constraint = constraint_of(config, variables, factors.single or Factor())
    if getattr(constraint, "domain", "field") == "logits" and (denoiser or generator) is not None:
        raise InputError(
            f"constraint.kind is {kind_of(config.get('constraint'))}, a network's head: it needs denoiser: none"
        )
    model = Downscaler(
        factors,
        transform,
        _mean(config.get("mean", "interpolation"), fields, channels, factors),
        latent,
        denoiser,
        _process(config.get("process") or {}, latent),
        constraint,
        dict(config),
        generator,
    )
    if model.direct and (model.penalty is not None or getattr(constraint, "domain", "field") == "logits"):
        raise InputError(
            f"constraint.kind is {kind_of(config.get('constraint'))}, which is part of the training, but in data.mode: "
            "direct the totals of the coarse source are not those of the fine field: take another or none"
        )
    if model.mean.conserving and model.direct:
        raise InputError(
            "mean.conserve: true is for block means of the fine field: set it to false in data.mode: direct"
        )
    if model.mean.conserving and model.constraint is None:
        raise InputError("mean.conserve puts the mean through the constraint, but there is none: set constraint")
    model.variance = _variance(config.get("variance"), config, latent, fields + channels, scalars)
    model.remembers = call(Remembers, config.get("remembers"), "remembers")
    model.calibrated = call(Calibrated, config.get("calibrated"), "calibrated")
    model.masks = Masks(model.remembers.masks, channels)
    return model


def _mean(spec: Any, fields: int, channels: int, factors: Factors) -> mean.MeanModel:
    kinds = {"none": mean.Zero, "interpolation": mean.Interpolation, "network": mean.Network}
    if kind_of(spec) != "network":
        return construct(kinds, spec, "mean", channels=channels)
    spec = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
    cls = _backbone_class(spec, "mean")
    if getattr(cls, "upsamples", False):
        if factors.single is None:
            raise InputError(
                f"backbone {as_mapping(spec['backbone'])['kind']} refines by one factor, not {factors}: take unet"
            )
        network = _backbone(spec, "mean", channels=fields, out_channels=channels, factor=factors.single)
        spec.pop("backbone")
        return construct(
            {"network": mean.Upsampling}, spec, "mean", channels=channels, backbone=network, factor=factors.single
        )
    # Networks that take no embedding are published ones, which see the cells as they are.
    plain = "embedding" not in inspect.signature(cls).parameters
    if plain:
        spec.setdefault("fold", 1)
        if factors.single is None:
            raise InputError(
                f"backbone {as_mapping(spec['backbone'])['kind']} cannot be told the factor, of {factors}: take unet"
            )
    cells = validated(Fold, spec.get("fold", 4), "mean.fold") ** 2
    if validated(bool, spec.get("interval", False), "mean.interval") and factors.single is not None:
        cells *= factors.single.time
    scalars = 0 if factors.single is not None else SCALARS
    backbone = _backbone(spec, "mean", channels=fields * cells, out_channels=channels * cells, embedding=scalars)
    spec.pop("backbone", None)
    return construct(kinds, spec, "mean", channels=channels, backbone=backbone, factor=factors.single)


def _variance(
    spec: Any, config: Mapping[str, Any], latent: LatentSpace, fields: int, scalars: int
) -> VarianceHead | None:
    """The variance head, where the configuration has one; it sees the fields that the denoiser sees."""
    if spec in (None, "none"):
        return None
    if not isinstance(spec, Mapping):
        raise InputError(f"configuration key variance is {spec!r}, but must hold settings, such as {{loss: nll}}")
    if kind_of(config.get("mean", "interpolation")) == "none":
        raise InputError("a variance head needs a mean to vary about: take mean: network or interpolation")
    if not isinstance(latent, LinearLatentSpace):
        raise InputError(f"a variance cannot be propagated through latent {kind_of(config.get('latent'))}: take pixel")
    if "embedding" not in inspect.signature(_backbone_class(spec, "variance")).parameters:
        kind = kind_of(spec["backbone"])
        raise InputError(f"variance.backbone.kind is {kind!r}, which is made for fields, not for latents: take unet")
    network = _network(
        spec.get("backbone", "unet"),
        "variance.backbone",
        channels=latent.condition_channels(fields),
        out_channels=latent.channels,
        embedding=scalars,
    )
    arguments = {key: value for key, value in spec.items() if key != "backbone"}
    head = call(VarianceHead, arguments, "variance", backbone=network)
    return head.to(memory_format=torch.channels_last)


def _generator(spec: Any, latent: LatentSpace, fields: int, scalars: int) -> Generator | None:
    """The generator, where the configuration has one; it sees the fields that a denoiser sees."""
    if spec in (None, "none"):
        return None
    if not isinstance(spec, Mapping):
        raise InputError(f"configuration key generator is {brief(spec)}, but must hold settings, such as {{width: 64}}")
    if "embedding" not in inspect.signature(_backbone_class(spec, "generator")).parameters:
        kind = kind_of(spec["backbone"])
        raise InputError(f"generator.backbone.kind is {kind!r}, which is made for fields, not for latents: take unet")
    chosen = spec.get("backbone", "unet")
    features = int(as_mapping(chosen).get("width", 64))
    trunk = _network(
        chosen,
        "generator.backbone",
        channels=latent.condition_channels(fields),
        out_channels=features,
        embedding=scalars,
    )
    arguments = {key: value for key, value in spec.items() if key not in ("backbone", "score")}
    score = call(Score, spec.get("score"), "generator.score")
    made = call(Generator, arguments, "generator", trunk=trunk, features=features, latent=latent, score=score)
    return made.to(memory_format=torch.channels_last)


def _backbone_class(spec: Mapping[str, Any], where: str) -> type:
    """The class that a section's backbone names."""
    classes = classes_of(backbones)
    kind = kind_of(spec.get("backbone", "unet"))
    check_kind(kind, classes, f"{where}.backbone")
    return classes[kind]


def _backbone(spec: Mapping[str, Any], where: str, **derived: Any) -> nn.Module:
    if not isinstance(spec, Mapping):
        raise InputError(f"configuration key {where} is {spec!r}, but must hold a backbone, such as {{backbone: unet}}")
    mean_keys = ("kind", "backbone", "fold", "interval", "loss", "conserve", "skip")
    allowed = {"mean": mean_keys, "denoiser": ("backbone", "prediction")}[where]
    for key in spec:
        if key not in allowed:
            raise InputError(f"unknown configuration key {where}.{key}{nearest(key, allowed)}")
    network = _network(spec.get("backbone", "unet"), f"{where}.backbone", **derived)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _network(spec: Any, where: str, **derived: Any) -> nn.Module:
    """A backbone, whose size is known before memory is taken for it."""
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in part(backbones, spec, where, **derived).parameters())
    if numbers > LARGEST:
        raise InputError(f"{where} would have {numbers:.1g} numbers, over {LARGEST:.0e}: lower its width or depth")
    network: nn.Module = part(backbones, spec, where, **derived)
    return network


def _process(spec: Mapping[str, Any], latent: LatentSpace) -> Process:
    allowed = ("schedule", "noise", "sampler", "steps", "constrain", "tv", "persistent")
    for key in spec:
        if key not in allowed:
            raise InputError(f"unknown configuration key process.{key}{nearest(key, allowed)}")
    kinds = {"edm": EDM, "vp": VP, "vp_cosine": VPCosine, "vp_sde": VPSDE}
    schedule = construct(kinds, spec.get("schedule", "edm"), "process.schedule")
    if not 0 < schedule.sigma_max <= NOISIEST:
        raise InputError(f"process.schedule begins at a noise of {schedule.sigma_max:.3g}; at most {NOISIEST:g}")
    return Process(
        schedule=schedule,
        noise=_noise(spec.get("noise", {}), schedule),
        sampler=part(samplers, spec.get("sampler", "dpm"), "process.sampler"),
        steps=validated(Steps, spec.get("steps", 12), "process.steps"),
        constrain=validated(Literal["end", "steps"], spec.get("constrain", "end"), "process.constrain"),
        tv=_tv(spec.get("tv"), latent),
        persistent=validated(bool, spec.get("persistent", False), "process.persistent"),
    )


def _tv(spec: Any, latent: LatentSpace) -> TotalVariation | None:
    """Penalty on variation: its strength alone, or a mapping; None or 0 for none."""
    if spec in (None, 0):
        return None
    if not latent.details(torch.zeros(1, latent.channels, 1, 1, 1)):
        raise InputError(
            "process.tv is a penalty on detail bands, which this latent does not have: take latent wavelet"
        )
    return call(TotalVariation, spec if isinstance(spec, Mapping) else {"strength": spec}, "process.tv")


def _noise(spec: Any, schedule: Schedule) -> NoiseLevels:
    """Noise levels of training: log-normal (its mean and std), or ``schedule``, those of the sampling schedule."""
    if spec != "schedule":
        return call(TrainingNoise, spec, "process.noise")
    if isinstance(schedule, VPSDE):
        return TimeNoise(schedule)
    if not isinstance(schedule, DiscreteVP):
        raise InputError(
            "process.noise: schedule needs process.schedule.kind: vp_cosine, vp or vp_sde, whose times it draws"
        )
    return ScheduleNoise(schedule)

"""Hostile configurations, models and command lines."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.hostile.cases import Case
from tests.hostile.made import CONFIG, model, rain, stored

NUMBERS = count()
SCHEMES = ("srcnn", "lapsrn", "dense_unet", "dbpn", "dense_sr", "edsr", "rdn")


VALID = ("its own name as preset", "a preset that is a number", "a preset that is a list", "an unknown preset",
         "an empty preset", "an unknown section")  # fmt: skip
"""What is YAML of the right shape, and can be shown."""


def cases(folder: Path) -> list[Case]:
    stored(rain(4, 32, 32), folder / "fine.nc")
    stored(rain(3, 8, 8), folder / "coarse.nc")
    stored(rain(4, 32, 32).where(False), folder / "gaps.nc")
    data = {"data": {"path": "fine.nc", "crop": 16, "min_valid": 0.1}, "train": {"steps": 2, "batch": 2}}
    (folder / "small.yaml").write_text(yaml.safe_dump({k: v for k, v in CONFIG.items() if k != "variable"} | data))
    model(folder / "model")
    found = [*bare(), *shapes(folder), *ranges(), *data_and_budget(), *predictions(), *models(folder), *folders(folder)]
    return [*found, *demos(folder)]


def fit(name: str, *words: str, config: str = "small.yaml", says: tuple[str, ...] = ()) -> Case:
    """A training that must not begin; each has an output of its own, so that one that does spoils no other."""
    return Case(name, ["fit", config, "-o", f"new{next(NUMBERS)}", *words], says=says)


def setting(key: str, value: object, *says: str) -> Case:
    """A wrong value of a key, which is named by its last word at least."""
    return fit(f"{key} is {str(value)[:60]}", "--set", f"{key}={value}", says=says or (key.rsplit(".", 1)[-1],))


def bare() -> Iterator[Case]:
    for text in ("5", "[1, 2]", "{time: 5}", "{1: [2, 3]}", "a: [", "*a", "[" * 2000, "{time: [.nan, 1]}"):
        yield Case(f"--select {text[:40]}", ["coarsen", "fine.nc", "-o", "out.nc", "--factor", "1x4", "--select", text],
                   says=("--select",))  # fmt: skip
    yield Case("no word at all", [], 0, ("Usage", "coarsen"))
    yield Case("--debug alone", ["--debug"], 0, ("Usage",))
    yield Case("--help", ["--help"], 0, ("Usage",))
    yield Case("--version", ["--version"], 0)
    yield Case("an unknown command", ["refine", "x"])
    yield Case("an empty word", [""])
    yield Case("fit without a configuration", ["fit", "-o", "new"], says=("--distill",))
    yield Case("fit with both", ["fit", "wavelet", "-o", "new", "--distill", "model"], says=("one of",))
    yield Case("fit without an output", ["fit", "wavelet"], says=("--output",))
    yield Case("a recipe of nothing", ["recipe", ""], says=("factor",))
    yield Case("a recipe of too much", ["recipe", f"{'9' * 5000}x1"], says=("factor",))
    yield Case("a recipe of far too much", ["recipe", "1x999999999"], says=("factor in y",))
    yield Case("a recipe without a cadence", ["recipe", "3x10", "--cadence", "nan"], says=("cadence",))
    yield Case("a recipe of no time", ["recipe", "3x10", "--cadence", "0h"], says=("cadence",))


def shapes(folder: Path) -> Iterator[Case]:
    texts = {
        "empty": "",
        "a number": "5",
        "a list": "- data\n- train",
        "a text": "wavelet",
        "no YAML": "a: [1,",
        "tabs": "a:\n\t- b",
        "an object of Python": "!!python/object/apply:os.system ['true']",
        "a set": "data: !!set {a, b}",
        "bytes": "data: {path: !!binary aGVsbG8=}",
        "an impossible date": "data: {path: 2020-99-99}",
        "a number of 5000 digits": f"train: {{steps: {'9' * 5000}}}",
        "integer keys": "1: 2",
        "a null key": "data: {null: fine.nc}",
        "a list as key": "? [a, b]\n: 1",
        "integer keys below": "data: {path: fine.nc, 7: 8}",
        "NaN": "train: {minutes: .nan}",
        "two documents": "a: 1\n---\nb: 2",
        "an unknown alias": "data: *fine",
        "an alias of itself": "data: &a {path: *a}",
        "an alias in its own list": "data: {path: &a [*a]}",
        "deep lists": "data: " + "[" * 5000 + "]" * 5000,
        "deep mappings": "data: " + "{a: " * 500 + "1" + "}" * 500,
        "an alias bomb": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
        "a merge bomb": "a0: &a0 {x: 1}\n"
        + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)),
        "a merge of a text": "data: {<<: text}",
        "60 000 values": "static: [" + "a, " * 60_000 + "a]",
        "two megabytes": "data: {path: " + "x" * 2**21 + "}",
        "its own name as preset": "preset: preset.yaml",
        "a preset that is a number": "preset: 5",
        "a preset that is a list": "preset: [wavelet]",
        "an unknown preset": "preset: wavelt",
        "an empty preset": "preset: ''",
        "an unknown section": "latnet: pixel",
    }
    for number, (name, text) in enumerate(texts.items()):
        path = folder / ("preset.yaml" if "own name" in name else f"shape{number}.yaml")
        path.write_text(text)
        yield fit(f"a configuration that holds {name}", config=path.name)
        if name not in VALID:
            (folder / f"like{number}").mkdir()
            (folder / f"like{number}" / "config.yaml").write_text(text)
            yield Case(f"info of a model whose configuration holds {name}", ["info", f"like{number}"])
    (folder / "latin.yaml").write_bytes("data: {path: caf\xe9.nc}".encode("latin-1"))
    (folder / "zeros.yaml").write_bytes(bytes(100))
    yield fit("a configuration in Latin-1", config="latin.yaml", says=("UTF-8",))
    yield fit("a configuration of zeros", config="zeros.yaml")
    yield fit("a configuration that is a NetCDF file", config="fine.nc")
    yield fit("a configuration that is a folder", config=".", says=("no configuration file",))
    yield fit("a configuration that is not there", config="no.yaml", says=("no configuration file",))
    yield fit("a name of 5000 letters", config="x" * 5000)
    yield fit("an empty name", config="")
    for section in ("data", "train", "process", "recipe", "variable", "distilled"):
        for value in ("5", "text", "[1, 2]", "true", "1.5", "[]", "[[]]"):
            yield setting(section, value, section)
    for section in ("mean", "latent", "denoiser", "constraint", "variance"):
        for value in ("5", "[1, 2]", "true", "nothing", "{kind: 5}", "{kind: null}", "{kind: [a]}", "{kind: {a: 1}}"):
            yield setting(section, value, section)
    for value in ("5", "[5]", "[null]", "{kind: 5}", "nothing", "[[standardize]]", "true"):
        yield setting("transform", value, "transform")
    for value in ("5", "text", "[1]", "[null]", "{a: b}"):
        yield setting("static", value, "static")
    for value in ("half", "16", "[float32]", "null"):
        yield setting("precision", value, "precision")
    for value in ("0x4", "4", "eight", "-1x4", "1x1.5", "null", "[1, 4]", "{time: 0}", "{space: [4, 2]}", "1x0",
                  "{space: a}", "{time: 1, space: 1}", "{tme: 1}", "{space: [1, 8], without: 5}", "{}", "1x999999999",
                  "{space: [1, 100000000000]}", "{space: [1, 2, 3]}", "true", "1x4x", "x", "'1x4; true'"):  # fmt: skip
        yield setting("factor", value, "factor")
    for words in (
        ("epochs",), ("=5",), ("a={",), ("train..steps=5",), (".=1",), ("train.=1",), ("factor.time=3",),
        ("data.path.x.y=3",), ("train.steps.x=3",), (".".join("a" * 100) + "=1",), ("train=*a",), ("a=" + "[" * 2000,),
        ("data=&a [*a]",), ("data={1: 2}",), ("latent.levels.x=1",), ("preset=wavelet",),
    ):  # fmt: skip
        yield fit(f"--set {words[0][:40]}", *(word for pair in words for word in ("--set", pair)))


def ranges() -> Iterator[Case]:
    unet = {
        "width": ("0", "-8", "1.5", ".nan", ".inf", "1000000000", "a", "null", "[8]"),
        "multipliers": ("[]", "5", "[0]", "[-1]", "[.inf]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "[a]", "[1000000]", "null"),
        "blocks": ("0", "-1", "1000000000", "1.5"),
        "heads": ("-1", "1000000000", "a"),
        "feedforward": ("-1", "1000000000", "1.5"),
        "window": ("-1", "1000000000", ".nan"),
        "attention": ("5", "often"),
        "wdth": ("8",),
        "channels": ("8",),
    }
    for key, values in unet.items():
        for value in values:
            yield setting(f"denoiser.backbone.{key}", value)
            yield setting(f"mean.backbone.{key}", value)
    vit = {
        "width": ("0", "-1", "1.5", "1000000000", "7"),
        "depth": ("0", "-1", "1000000000"),
        "heads": ("-1", "3", "1000000000"),
        "window": ("-1", "3", "1000000000"),
        "mlp": ("0", "-1", "1000000000"),
    }
    for key, values in vit.items():
        for value in values:
            yield setting(
                "denoiser.backbone", f"{{kind: vit, width: 16, depth: 1, window: 2, {key}: {value}}}", "backbone"
            )
    for kind in SCHEMES:
        for key, value in (("width", 0), ("width", -3), ("width", 10**9), ("width", ".nan"), ("activation", "relu6")):
            backbone = f"{{kind: {kind}, {key}: {value}}}"
            words = ("--set", "denoiser=none", "--set", f"mean={{kind: network, backbone: {backbone}}}")
            yield fit(f"{key} of {kind} is {value}", *words, says=(key,))
    yield setting("denoiser.backbone", "edsr", "noise level")
    yield setting("denoiser.prediction", "noise")
    yield setting("mean.fold", "0")
    yield setting("mean.fold", "-2")
    yield setting("mean.fold", "1000000000")
    yield setting("mean.loss", "median")
    latents = ("{kind: wavelet, levels: 0}", "{kind: wavelet, levels: 99}", "{kind: wavelet, family: ''}",
               "{kind: wavelet, family: bior2.2}", "{kind: wavelet, frames: 0}", "{kind: wavelet, frames: 1000000000}",
               "{kind: wavelet, family: 5}", "{kind: wavelet, condition: x}", "{kind: wavelet, channels: 3}",
               "{kind: patch_pod, patch: 0}", "{kind: patch_pod, patch: -8}", "{kind: patch_pod, patch: 1000000000}",
               "{kind: patch_pod, patch: [8]}", "{kind: patch_pod, patch: 4000, modes: 4000}",
               "{kind: patch_pod, modes: 0}", "{kind: patch_pod, modes: 65}", "{kind: patch_pod, modes: -1}",
               "{kind: patch_pod, energy: 0}", "{kind: patch_pod, energy: 1.5}", "{kind: patch_pod, energy: .nan}",
               "{kind: patch_pod, frames: 0}", "{kind: patch_pod, coarse: 5}", "{kind: patch_pod, coarse: [12, 4]}",
               "{kind: patch_pod, patch: 3, overlap: true, modes: 2}", "{kind: pixel, levels: 2}", "base",
               "{kind: patch_pod, patch: 1, modes: 1, coarse: [4096, 1]}")  # fmt: skip
    for latent in latents:
        yield setting("latent", latent, "latent")
    schedules = ("{kind: edm, sigma_max: .inf}", "{kind: edm, sigma_max: .nan}", "{kind: edm, sigma_max: 0}",
                 "{kind: edm, sigma_max: -1}", "{kind: edm, sigma_max: 1.0e300}", "{kind: edm, sigma_min: 0}",
                 "{kind: edm, sigma_min: 100}", "{kind: edm, rho: 0}", "{kind: edm, rho: .inf}", "{kind: edm, rho: -7}",
                 "{kind: vp, beta_max: 2}", "{kind: vp, beta_max: .nan}", "{kind: vp, T: 0}", "{kind: vp, T: 1.5}",
                 "{kind: vp, T: 1000000000000}", "{kind: vp, spacing: even}", "{kind: vp_cosine, s: -1}",
                 "{kind: vp_cosine, clip: 1}", "{kind: vp_cosine, T: 0}", "{kind: vp_cosine, clip: .inf}",
                 "{kind: vp_sde, beta_max: .inf}", "{kind: vp_sde, t_min: 0}", "{kind: vp_sde, beta_max: 1.0e6}",
                 "cosine", "5", "[edm]", "{kind: vp, beta_max: 0.99, T: 100000}", "null")  # fmt: skip
    for schedule in schedules:
        yield setting("process.schedule", schedule, "schedule")
    samplers = ("huen", "5", "[heun]", "null", "{kind: ddim, eta: 2}", "{kind: ddim, eta: .nan}",
                "{kind: heun, order: 3}",
                "{kind: consistency, levels: 0}", "{kind: consistency, levels: 1000000000000}",
                "{kind: consistency, amplitude: .inf}", "{kind: consistency, amplitude: 0}")  # fmt: skip
    for sampler in samplers:
        yield setting("process.sampler", sampler, "sampler")
    for value in ("0", "-1", "1.5", "10000000000", ".nan", "a", "null", "[3]"):
        yield setting("process.steps", value)
    for noise in ("schedule", "5", "{std: -1}", "{std: .inf}", "{mean: 1000}", "{mean: .nan}", "[1]"):
        yield setting("process.noise", noise, "noise")
    for value in ("-1", ".inf", "a", "[1]", "{strength: 0}", "{strength: .nan}"):
        yield setting("process.tv", value, "tv")
    yield setting("process.constrain", "always")
    yield setting("process.persistent", "often")
    yield setting("process.stepz", "3", "did you mean 'steps'")
    for argument in ("scale: 0", "scale: -1", "scale: .inf", "threshold: -1", "scale: a", "scle: 1"):
        yield setting("transform", f"[{{kind: log1p, {argument}}}]", "transform[0]")
    for argument in ("low: 1", "high: 0", "high: .inf", "high: 1.0e300", "low: a", "lower: 0"):
        yield setting("transform", f"[{{kind: bounds, {argument}}}]", "transform[0]")
    for value in ("7", "often", "null", "[true]"):
        yield setting("mean.skip", value)
    constraints = ("{kind: tapered, power: 0}", "{kind: tapered, power: .nan}", "{kind: tapered, tau: -1}",
                   "{kind: tapered, tau: .inf}", "{kind: tapered, scope: all}", "{kind: penalty, weight: -1}",
                   "{kind: penalty, weight: .inf}", "{kind: bounded, low: 1, high: 0}", "{kind: bounded, low: .nan}",
                   "{kind: projection, low: 1, high: 1}", "softmax", "{kind: additive, area: 5}",
                   "{kind: additive, factor: 1x8}", "multiplicitive", "per_variable")  # fmt: skip
    for constraint in constraints:
        yield setting("constraint", constraint, "constraint")
    yield setting("variance", "{loss: mse}", "variance")
    yield setting("variance", "{loss: nll, backbone: edsr}", "variance")
    yield fit("a variance without a mean", "--set", "variance={loss: nll}", "--set", "mean=none", says=("mean",))
    for horizon in (
        "{cadence: 5 apples}",
        "{horizon: 12h, cadence: null}",
        "{cadense: 1h}",
        "{cadence: -1h}",
        "{horizon: .inf}",
    ):
        yield setting("recipe", horizon, "cadence" if "cad" in horizon else "horizon")


def data_and_budget() -> Iterator[Case]:
    values = {
        "steps": ("0", "-5", "1.5", ".nan", ".inf", "a", "[5]"),
        "minutes": ("0", "-1", ".nan", ".inf", "a", "1.0e300"),
        "mean_share": ("0", "1", "-0.5", "2", ".nan", "a"),
        "variance_share": ("0", "1", "2", ".nan"),
        "through": ("-1", "2", ".nan", ".inf"),
        "folds": ("-1", "1", "1.5", "1000000000"),
        "batch": ("0", "-1", "1.5", "1000000000", ".nan"),
        "lr": ("0", "-1", ".nan", ".inf", "2", "a"),
        "warmup": ("0", "-1", "1.5", ".inf"),
        "ema": ("-1", "1", "2", ".nan", ".inf", "a"),
        "keep": ("worst", "5"),
        "mixing": ("-1", "2", ".nan", "a", "0.5"),
        "seed": ("-1", "1.5", ".nan", str(10**30), "a", str(2**63)),
        "clock": ("sun",),
        "checkpoint": ("-1", ".nan", ".inf"),
        "epochs": ("5",),
    }
    for key, wrong in values.items():
        for value in wrong:
            yield setting(f"train.{key}", value)
    yield fit("steps and minutes", "--set", "train.steps=5", "--set", "train.minutes=1", says=("both", "leave one"))
    yield fit("neither steps nor minutes", "--set", "train.steps=null", says=("either steps or minutes",))
    values = {
        "path": ("5", "[]", "null", "{a: b}", "nowhere.nc", "[fine.nc, nowhere.nc]", ".", "small.yaml", "''"),
        "variables": ("5", "snow", "[rain]"),
        "crop": ("0", "-16", "1.5", ".nan", "[16]", "[16, 0]", "64", "15", "1000000000", "a"),
        "frames": ("0", "-1", "1.5", "1000000000", "9"),
        "horizon": ("0", "-1", "1.5", "1000000000", "99"),
        "min_valid": ("-1", "1.5", ".nan", "a"),
        "min_wet": ("-1", "1.5", ".nan"),
        "wet": (".nan", ".inf", "a"),
        "favour": ("-1", ".nan", ".inf", "100"),
        "rescale": ("-1", ".nan", ".inf", "100"),
        "skips": ("-1", "1.5", "100", "a"),
        "static": ("5", "nowhere.nc", "[5]"),
        "train": ("5", "{lat: 5}", "{lat: [1]}", "{lat: [a, b]}", "{height: [0, 1]}", "{lat: [70, 80]}",
                  "{time: [x, y]}",
                  "{lat: [.nan, 1]}", "{lat: [[1], 2]}", "{lat: [1, 2, 3]}"),
        "valid": ("5", "{lat: [70, 80]}", "{time: [1990-01-01, 1990-02-01]}"),
        "pth": ("fine.nc",),
    }  # fmt: skip
    for key, wrong in values.items():
        for value in wrong:
            yield fit(f"data.{key} is {value[:60]}", "--set", f"data.{key}={value}")
    yield fit("frames skipped of one", "--set", "data.skips=2", says=("one", "data.neighbours"))
    yield fit("frames skipped of another source", "--set", "data.skips=2", "--set", "data.predictors=[hour]",
              says=("predictors",))  # fmt: skip
    yield fit("too few wet cells", "--set", "data.min_wet=1", "--set", "data.wet=1000", says=("min_wet",))
    yield fit("all known, but not as much as asked for", "--set", "data.min_valid=1.0", "--set", "data.min_wet=0.99",
              says=("min_wet", "data.wet"))  # fmt: skip


def predictions() -> Iterator[Case]:
    base = ["downscale", "model", "coarse.nc", "-o", "out.nc"]
    options = {
        "--members": ("1.5", "1e9", "1000000000", "-1", "two", "nan", "inf", "", "0", "0x10", "9" * 5000, "1_000"),
        "--steps": ("1e10", "10000000000", "0", "-1", "1.5", "many", ""),
        "--seed": (str(10**30), "-1", "1.5", "nan", "a", "9" * 5000, str(2**64)),
        "--to": ("1e", "nan", "inf", "0", "-1", "", "1e-300", "1e300", "1km", "1,1", "1,1,1", "10 apples", "--",
                 "1e999",
                 "5min", "0.03", "e", "."),
        "--factor": ("1x8", "1x", "x4", "4", "1x0", "-1x4", "1x4x4x4", "1x999999999", "9" * 5000 + "x1", "nan", ""),
        "--window": ("0x4", "big", "1x0", "-1x4", "1.5x4", "1x999999999"),
        "--variance": ("psychic", "5"),
        "--variable": ("snow",),
        "--static": ("nowhere.nc", "coarse.nc"),
    }  # fmt: skip
    for option, values in options.items():
        for value in values:
            yield Case(f"{option} {value[:40]}", [*base, f"{option}={value}"])
    yield Case("--factor and --to", [*base, "--factor", "1x4", "--to", "0.025"], says=("not both",))
    yield Case("--members without a number", [*base, "--members"])
    yield Case("--resume to NetCDF that is not there", [*base, "--steps", "0", "--resume"])
    yield Case("an unknown option", [*base, "--member", "3"])
    yield Case("one word too many", [*base, "more"])
    yield Case("no input", ["downscale", "model", "-o", "out.nc"])
    yield Case("no output", ["downscale", "model", "coarse.nc"], says=("--output",))
    yield Case("a model that is not there", ["downscale", "modle", "coarse.nc", "-o", "out.nc"])
    yield Case("a model that is a file", ["downscale", "coarse.nc", "coarse.nc", "-o", "out.nc"])
    verify = ["verify", "coarse.nc", "coarse.nc", "-o", "report"]
    for option, values in {"--block": ("0", "1.5", "99"), "--thresholds": ("a", "", "nan", "inf", "1,,2")}.items():
        for value in values:
            yield Case(f"verify {option} {value}", [*verify, option, value])
    yield Case("an unknown baseline", [*verify, "--baselines", "magic"], says=("magic",))


def models(folder: Path) -> Iterator[Case]:
    """Folders that look like models."""

    def predicted(name: str, path: Path, *says: str, info: int = 0) -> Iterator[Case]:
        yield Case(name, ["downscale", path.name, "coarse.nc", "-o", "out.nc"], says=(path.name, *says))
        yield Case(f"info of {name}", ["info", path.name], code=info)

    whole = load_file(folder / "model" / "weights.safetensors")
    for number, value in enumerate((float("nan"), float("inf"), -float("inf"), 1e20)):
        for key in ("denoiser.backbone.stem.weight", "mean.backbone.head.bias"):
            path = model(folder / f"weights{number}{key[:4]}")
            state = {name: tensor.clone() for name, tensor in whole.items()}
            state[key].view(-1)[0] = value
            save_file(state, path / "weights.safetensors")
            yield from predicted(f"a model with {value} in {key}", path, key)
    for number, key in enumerate(("latent.scale", "transform.parts.1.std", "transform.parts.1.mean")):
        if key in whole:
            path = model(folder / f"statistics{number}")
            save_file(whole | {key: torch.full_like(whole[key], torch.nan)}, path / "weights.safetensors")
            yield from predicted(f"a model with NaN in {key}", path, key)
    path = model(folder / "lacking")
    save_file({key: value for key, value in whole.items() if "stem" not in key}, path / "weights.safetensors")
    yield from predicted("a model that lacks weights", path)
    path = model(folder / "more")
    save_file(whole | {"more": torch.zeros(3)}, path / "weights.safetensors")
    yield from predicted("a model with weights too many", path)
    path = model(folder / "shaped")
    save_file({key: value[None] for key, value in whole.items()}, path / "weights.safetensors")
    yield from predicted("a model with weights of other shapes", path)

    intact = (folder / "model" / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", intact[:8])
    header = json.loads(intact[8 : 8 + length])
    name = "mean.backbone.head.bias"

    def lying(**changes: Any) -> bytes:
        text = json.dumps(header | {name: header[name] | changes}).encode()
        return struct.pack("<Q", len(text)) + text + intact[8 + length :]

    damaged = {
        "empty": b"",
        "cut in its length": intact[:5],
        "cut in its header": intact[:200],
        "cut in its numbers": intact[:-40],
        "too long": intact + bytes(100),
        "text": b"not at all safetensors" * 20,
        "zeros": bytes(4096),
        "a header of 2^63 bytes": struct.pack("<Q", 2**63) + intact[8:],
        "a header of 2^64 - 1 bytes": b"\xff" * 8 + intact[8:],
        "a header of no bytes": struct.pack("<Q", 0) + intact[8:],
        "a header that is a list": struct.pack("<Q", 6) + b"[1, 2]",
        "a header that is a number": struct.pack("<Q", 1) + b"5",
        "a header of deep lists": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "no metadata that is right": struct.pack("<Q", 20) + b'{"__metadata__": 5}  ',
        "a huge shape": lying(shape=[2**40, 2**40]),
        "a shape beyond numbers": lying(shape=[10**30]),
        "a negative shape": lying(shape=[-1]),
        "a shape that is text": lying(shape="many"),
        "another shape": lying(shape=[3]),
        "another type": lying(dtype="F64"),
        "an unknown type": lying(dtype="F7"),
        "offsets that fall": lying(data_offsets=[100, 50]),
        "negative offsets": lying(data_offsets=[-100, 50]),
        "offsets beyond the file": lying(data_offsets=[0, 2**50]),
        "offsets that overlap": lying(
            data_offsets=[0, header[name]["data_offsets"][1] - header[name]["data_offsets"][0]]
        ),
        "no offsets": lying(data_offsets=None),
    }
    for number, (what, content) in enumerate(damaged.items()):
        path = model(folder / f"damaged{number}")
        (path / "weights.safetensors").write_bytes(content)
        yield from predicted(f"a model with weights that are {what}", path, info=2)

    changes: dict[str, Any] = {
        "another factor": {"factor": "1x8"},
        "a factor of another kind": {"factor": {"time": 1, "space": [2, 4]}},
        "other units": {"variables": {"rain": {"units": "kg m-2 s-1"}}},
        "another transform": {"transform": ["standardize"]},
        "another latent": {"latent": "pixel"},
        "another family of wavelets": {"latent": {"kind": "wavelet", "levels": 1, "family": "db2"}},
        "another mean": {"mean": "interpolation"},
        "no denoiser": {"denoiser": "none"},
        "static fields": {"static": ["height"]},
        "noise without end": {"process": CONFIG["process"] | {"schedule": {"kind": "edm", "sigma_max": float("inf")}}},
        "steps without end": {"process": CONFIG["process"] | {"steps": 10**10}},
        "an unknown section": {"latnet": 5},
        "a section of a wrong shape": {"process": [1, 2]},
    }
    for number, (what, change) in enumerate(changes.items()):
        path = model(folder / f"changed{number}")
        (path / "config.yaml").write_text(yaml.safe_dump(CONFIG | change))
        yield from predicted(f"a model whose configuration has {what}", path, "config.yaml")
    path = model(folder / "configless")
    (path / "config.yaml").unlink()
    yield Case("a model without its configuration", ["downscale", path.name, "coarse.nc", "-o", "out.nc"])
    path = model(folder / "weightless")
    (path / "weights.safetensors").unlink()
    yield from predicted("a model without weights", path, "weights.safetensors")


def folders(folder: Path) -> Iterator[Case]:
    """Outputs of fit that are something else."""
    (folder / "file").write_text("mine")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("mine")
    yield Case(
        "an output that is a file", ["fit", "small.yaml", "-o", "file"], says=("file",), keeps=(folder / "file",)
    )
    for words in ([], ["--overwrite"]):
        yield Case(f"a folder of other files {' '.join(words)}", ["fit", "small.yaml", "-o", "mine", *words],
                   says=("thesis.txt",), keeps=(folder / "mine",))  # fmt: skip
    yield Case(
        "a finished model", ["fit", "small.yaml", "-o", "model"], says=("--overwrite",), keeps=(folder / "model",)
    )
    again = ["fit", "small.yaml", "-o", "model", "--overwrite", "--set"]
    for name, change, word in (
        ("data that are not there", "data.path=no.nc", "no.nc"),
        ("an impossible one", "latent={kind: patch_pod, modes: 65}", "modes"),
        ("no crop that counts", "data.path=gaps.nc", "data.min_valid"),
    ):
        yield Case(f"a finished model and {name}", [*again, change], says=(word,), keeps=(folder / "model",))
    yield Case("an output below a file", ["fit", "small.yaml", "-o", "file/model"], keeps=(folder / "file",))
    damaged = folder / "begun"
    damaged.mkdir()
    (damaged / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    yield Case(
        "a checkpoint that is none", ["fit", "small.yaml", "-o", "begun"], says=("checkpoint",), keeps=(damaged,)
    )
    for number, metadata in enumerate(({"progress": "5"}, {"progress": "{}"}, {"progress": "["}, {})):
        path = folder / f"begun{number}"
        path.mkdir()
        save_file({"a": torch.zeros(1)}, path / "checkpoint.safetensors", metadata)
        yield Case(f"a checkpoint that says {metadata}", ["fit", "small.yaml", "-o", path.name],
                   says=("checkpoint",), keeps=(path,))  # fmt: skip
    yield Case("distilling the model into itself", ["fit", "--distill", "model", "-o", "model"], says=("another",),
               keeps=(folder / "model",))  # fmt: skip
    yield Case("distilling what is not there", ["fit", "--distill", "no", "-o", "new"])
    yield Case("distilling without data", ["fit", "--distill", "model", "-o", "new", "--set", "train.steps=2"],
               says=("data.path",))  # fmt: skip


def demos(folder: Path) -> Iterator[Case]:
    (folder / "own").mkdir()
    (folder / "own" / "config.yaml").write_text("preset: wavelet")
    np.save(folder / "own" / "truth.npy", np.zeros(3))
    (folder / "own" / "truth.nc").write_bytes((folder / "fine.nc").read_bytes())
    for name in ("file", "own", "model", "mine"):
        yield Case(f"a demo into {name}", ["demo", "-o", name], says=(name,), keeps=(folder / name,))

"""Stream a coarse store in and an ensemble store out, window by window; memory is bounded by the window.

What a window does is in `finescale.inference.tasks`; how stores are written and resumed in `finescale.data.store`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import xarray as xr

from finescale.data.files import open_store, partial_path, remove, select, writing
from finescale.data.static import StaticFields
from finescale.data.store import Part, open_output
from finescale.errors import InputError, Notice
from finescale.grids.factor import Factor
from finescale.grids.resolution import factor_to
from finescale.grids.windows import Triple
from finescale.inference.request import LATENTS, Model, Settings, Uncertain
from finescale.inference.tasks import Job

MEMBERS = 16
"""Members unless a number is asked for."""
Static = str | Path | Sequence[str | Path] | None


def predict(
    model: Model,
    coarse: str | Path | xr.Dataset | xr.DataArray,
    out: str | Path,
    *,
    members: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    variance: bool | str = False,
    window: Triple | None = None,
    halo: Triple | None = None,
    batch: int | None = None,
    variable: str | None = None,
    factor: Factor | str | None = None,
    to: str | None = None,
    force: bool = False,
    static: Static = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Downscale a coarse store to an ensemble store (realization, time, y, x).

    Args:
        model: a downscaler.
        coarse: a path, or a dataset.
        out: ends in .nc or .zarr; appears under its name once it is whole.
        members: how many, 16 unless given; 0 for their mean instead, with ``variance``. A deterministic model has one
            field.
        seed: members of one seed are the same in every run.
        steps: sampler steps.
        variance: write the standard deviation besides, and quantiles where the transform is not linear: True, or where
            it is from (head, members, denoiser).
        window: coarse cells of a window's core; smaller needs less memory.
        halo: coarse cells read around the core.
        batch: (window, member) pairs sampled at once; by default as many as pay.
        variable: the variable, where the input has several.
        factor: the factor, for a model that serves several.
        to: instead, the resolution to reach, as `finescale.grids.resolution.factor_to` reads it.
        force: take a factor outside the trained range.
        static: files of the static fields that the model was trained with.
        resume: continue an interrupted run to Zarr.
        overwrite: replace an output that exists.
        progress: show a progress bar on stderr.

    Raises:
        InputError: for input, settings or an output that cannot be used.
    """
    da, attrs = _input(model, coarse, variable)
    source = _source(model, variance)
    asked = Settings(_count(model, members), seed, steps, window, halo, batch, source)
    job = Job(_at(model, da, factor, to, force), da, attrs, asked, _static(model, static))
    path = Path(out)
    temporary = partial_path(path)
    with writing(path, temporary, keep=path.suffix == ".zarr"):
        product = job.product
        store = open_output(path, product.template(), product.chunks, product.identity, resume, overwrite)

    def write(task: int, parts: list[Part], note: list[float]) -> None:
        with writing(path, temporary, store.resumable):
            store.write(task, parts, note)

    try:
        # One thread reads the next window and writes the last one while this one is computed. HDF5 allows no more.
        with ThreadPoolExecutor(1) as files:
            written: Future[None] | None = None
            done = len(store.done)
            for result in _shown(job.results(store.done, files), job.tasks, done, progress):
                if written is not None:
                    written.result()
                written = files.submit(write, *result)
            if written is not None:
                written.result()
        with writing(path, temporary, store.resumable):
            store.finish(product.attrs(store.done.values()))
    finally:
        store.close()
        if not store.resumable:
            remove(temporary)


def downscale_dataset(
    model: Model,
    coarse: xr.Dataset | xr.DataArray,
    members: int | None = None,
    seed: int = 0,
    *,
    variable: str | None = None,
    factor: Factor | str | None = None,
    to: str | None = None,
    force: bool = False,
    static: Static = None,
    variance: bool | str = False,
    **settings: Any,
) -> xr.Dataset:
    """The ensemble of a dataset, in memory; settings as in `predict`.

    Raises:
        InputError: for input or settings that cannot be used.
    """
    da, attrs = _input(model, coarse, variable)
    source = _source(model, variance)
    asked = Settings(_count(model, members), seed, variance=source, **settings)
    job = Job(_at(model, da, factor, to, force), da, attrs, asked, _static(model, static))
    values = {name: np.full(shape, np.nan, dtype=np.float32) for name, shape in job.product.shapes.items()}
    notes = []
    for _, parts, note in job.results({}):
        for name, region, part in parts:
            values[name][region] = part
        notes.append(note)
    out = job.product.template(values)
    return out.assign_attrs(job.product.attrs(notes))


def _at(model: Model, coarse: xr.DataArray, factor: Factor | str | None, to: str | None, force: bool) -> Model:
    """The model at the factor that is asked for, where one is.

    Raises:
        InputError: for a factor, or a domain, that the model does not serve.
    """
    if factor is not None and to is not None:
        raise InputError("give either a factor or a resolution to reach, not both")
    wanted = factor_to(coarse, to) if to is not None else factor
    model = model if wanted is None else model.at(Factor.parse(wanted), force)
    extent = getattr(model, "extent", None)
    if extent is not None:
        # Told before anything is computed: windows without a halo would not show it.
        extent.check_plane(*(n * f for n, f in zip(coarse.shape[-2:], (model.factor.y, model.factor.x), strict=True)))
    return model


def _source(model: Model, variance: bool | str) -> str | None:
    """Source of the variance, the model's own for True; None for False."""
    if variance is False:
        return None
    return cast(Uncertain, model).spread_source("auto" if variance is True else str(variance), LATENTS)


def _count(model: Model, members: int | None) -> int:
    """Members to draw, MEMBERS unless a number is asked for: a deterministic model has one field."""
    deterministic = getattr(model, "denoiser", model) is None
    if members is None:
        return 1 if deterministic else MEMBERS
    if members > 1 and deterministic:
        warnings.warn("the model is deterministic: one field is made, not an ensemble", Notice, stacklevel=3)
        return 1
    return members


def _static(model: Model, paths: Static) -> StaticFields | None:
    """The static fields that the model was trained with, in its order."""
    names = list(getattr(model, "config", {}).get("static") or [])
    if names and not paths:
        raise InputError(
            f"this model was trained with static fields ({', '.join(names)}): name their files with --static"
        )
    if paths and not names:
        raise InputError("this model was trained without static fields: leave --static out")
    return StaticFields(paths, names) if paths else None


def _input(
    model: Model, coarse: str | Path | xr.Dataset | xr.DataArray, variable: str | None
) -> tuple[xr.DataArray, Mapping[Any, Any]]:
    """The field as (time, y, x), lazy, and the attributes of its store."""
    source = "the dataset"
    if isinstance(coarse, xr.DataArray):
        coarse = coarse.to_dataset(name=coarse.name if coarse.name is not None else "field")
    elif not isinstance(coarse, xr.Dataset):
        source, coarse = str(coarse), open_store(coarse, chunks=None)
    name = model.variable.get("name")
    da = select(coarse, variable or (name if name in coarse.data_vars else None), source)
    if "realization" in da.dims:
        if da.sizes["realization"] > 1:
            raise InputError(f"variable {da.name} holds {da.sizes['realization']} members: select one to downscale")
        da = da.isel(realization=0, drop=True)
    return da, coarse.attrs


def _shown(results: Iterator[Any], total: int, done: int, progress: bool) -> Iterator[Any]:
    from tqdm import tqdm

    yield from tqdm(
        results, total=total, initial=done, desc="downscale", unit="window", disable=not progress, leave=False
    )

"""The verbs of the command line in Python: `finescale.coarsen` and `finescale.downscale`, on files or datasets.

`finescale.fit`, `finescale.verify` and `finescale.recipe` stand in their rooms.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from finescale.config.shipped import lasting
from finescale.data.coarsen import coarsen as block_means
from finescale.data.files import gridded, open_store
from finescale.data.files import select as field_of
from finescale.data.named import Paths, title
from finescale.data.provenance import provenance
from finescale.data.reader import watched
from finescale.data.region import region
from finescale.data.writing import check_apart, check_output, write
from finescale.errors import InputError, Notice
from finescale.grids.dimensions import find
from finescale.grids.factor import Factor

if TYPE_CHECKING:
    from finescale.downscaler import Downscaler
    from finescale.inference.cost import Cost
    from finescale.inference.inputs import Files
    from finescale.inference.predict import Prediction


def coarsen(
    fine: Paths | xr.Dataset | xr.DataArray,
    factor: str | Factor,
    out: str | Path | None = None,
    *,
    variable: str | None = None,
    select: Mapping[str, Sequence[Any]] | None = None,
    crop: bool = False,
    overwrite: bool = False,
) -> xr.Dataset:
    """Area-weighted block means, c = Σ a x / Σ a over the known cells of a block.

    Args:
        fine: a store of any format, a glob or a list of files that follow each other in time, or a dataset.
        factor: the blocks, such as ``"1x8"`` (time × space).
        out: where to write them, .nc or .zarr; None to return them alone.
        variable: one variable alone; None for all that have times, or all where none has.
        select: ranges of coordinates, such as ``{"time": ["2020-01-01", None]}``: lo <= value < hi, as in the
            configuration's ``data.train``.
        crop: drop the cells at the ends that do not fill a block.
        overwrite: replace an output that exists.

    Returns:
        The coarse field, lazy where the fine one is, with CF bounds and cell_methods.

    Raises:
        InputError: for a field or factor that cannot be used, or an output that cannot be written.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((2, 64, 64), seed=3)
        >>> coarse = finescale.coarsen(rain, "1x8")["precipitation_rate"]
        >>> coarse.shape
        (2, 8, 8)
        >>> bool(abs(coarse[0, 0, 0] - rain[0, :8, :8].mean()) < 1e-5)
        True
    """
    whole, source = Factor.parse(factor), "the dataset"
    if out is not None:
        check_output(out, overwrite)
    if isinstance(fine, xr.DataArray):
        fine = fine.to_dataset(name=fine.name if fine.name is not None else "field")
    if isinstance(fine, xr.Dataset):
        fine = watched(fine.copy(), source)
    else:
        check_apart(fine, out)
        source, fine = title(fine), open_store(fine, chunks=None)
    fields = [region(field_of(fine, name, source), select) for name in _names(fine, variable)]
    means = xr.merge((block_means(field, whole, crop) for field in fields), join="exact", compat="equals",
                     combine_attrs="drop_conflicts")  # fmt: skip
    if source == "the dataset" and all(field.chunks is None for field in fields):  # in memory again, as it was given
        means = means.load()
    names = ", ".join(str(field.name) for field in fields)
    given = provenance(fine.attrs, f"coarsen --factor {whole}", f"{names}: means of {whole} cells (time x space)")
    means = means.assign_attrs(given | means.attrs)
    if out is not None:
        write(means, out, overwrite)
    return means


def _names(ds: xr.Dataset, variable: str | None) -> list[str | None]:
    """The variables that are coarsened; [None] leaves it to `select` to find the one, or to say that there is none."""
    if variable is not None:
        return [variable]
    names = [str(name) for name in gridded(ds)]
    moving = [name for name in names if "time" in find(ds[name])]
    return [*(moving or names)] or [None]


def downscale(
    model: str | Path | Downscaler,
    coarse: Files,
    out: str | Path | None = None,
    *,
    members: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    compile: bool = False,
    lazy: bool = False,
    **settings: Any,
) -> xr.Dataset | None:
    """An ensemble of fine fields whose block means are the coarse field: (realization, time, y, x); files: time first.

    Args:
        model: a model, or the folder that `finescale.fit` wrote, or a name that `finescale models` lists.
        coarse: a store of any format, a glob of files that follow each other in time, or a dataset; any domain size. Or
            a list of them, in which the model's variables and predictors are found by name.
        out: where to write it, .nc or .zarr, window by window; None to return it, in memory.
        members: how many, 16 unless given; 0 for their mean, with ``variance``.
        seed: members of one seed are the same in every run.
        workers: processes of this machine that do the work, each with a model of its own; None for this process.
            A script that asks for them guards what it runs with ``if __name__ == "__main__":``.
        threads: tasks that a process works on at once, 1 unless given.
        scheduler: instead of both, the address of a Dask scheduler whose workers do the work.
        resume: continue an interrupted run to Zarr.
        overwrite: replace an output that exists.
        progress: show a progress bar on stderr, while a store is written.
        compile: compile the networks first, see `Downscaler.compile_networks`.
        lazy: without ``out``, give dask arrays: a block for every window and batch of members, computed when asked for.
        settings: the rest of `finescale.inference.request.Request`: steps, variance, window, factor …

    Returns:
        The ensemble, or None where it went to ``out``.

    Raises:
        InputError: for input, settings or an output that cannot be used.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((2, 64, 64), seed=3)
        >>> coarse = finescale.coarsen(rain, "1x8")
        >>> ensemble = finescale.downscale("rain", coarse, members=3, factor="1x8")["precipitation_rate"]
        >>> ensemble.dims, ensemble.shape
        (('realization', 'time', 'y', 'x'), (3, 2, 64, 64))
        >>> bool(ensemble.attrs["conservation_residual"] < 1e-5)
        True
    """
    who = {"workers": workers, "threads": threads, "scheduler": scheduler}
    if lazy and out is not None:
        raise InputError("lazy is for a prediction that is returned: leave it out, or the output")
    if lazy and any(who.values()):
        raise InputError("lazy arrays are computed by whoever asks for them: leave lazy out, or the workers")
    asked = settings | {"members": members, "seed": seed}
    prediction = _prediction(model, coarse, out, overwrite, compile, lazy, who, asked)
    from finescale.inference import predict
    from finescale.inference.lazy import lazily

    if lazy:
        return lazily(prediction.tasks)
    if out is None:
        return predict.in_memory(prediction)
    predict.predict(prediction, out, resume=resume, overwrite=overwrite, shown=progress)
    return None


def cost(
    model: str | Path | Downscaler,
    coarse: Files,
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Cost:
    """What `downscale` of the same arguments will cost: all is checked, nothing computed or written.

    Raises:
        InputError: for input, settings or an output that cannot be used.

    Example:
        >>> import finescale
        >>> from finescale.data.synthetic import synthetic_rain
        >>> rain = synthetic_rain((2, 64, 64), seed=3)
        >>> cost = finescale.verbs.cost("rain", finescale.coarsen(rain, "1x8"), members=16, factor="1x8")
        >>> "members" in cost.text
        True
    """
    who = {"workers": workers, "threads": threads, "scheduler": scheduler}
    return _prediction(model, coarse, out, overwrite, False, False, who, settings).cost


def _prediction(
    model: str | Path | Downscaler,
    coarse: Files,
    out: str | Path | None,
    overwrite: bool,
    compiled: bool,
    lazy: bool,
    who: dict[str, Any],
    asked: dict[str, Any],
) -> Prediction:
    """A prediction that is checked; the arguments are those of `downscale`."""
    if out is not None:
        check_output(out, overwrite)
    for one in coarse if isinstance(coarse, Sequence) and not isinstance(coarse, str) else [coarse]:
        if isinstance(one, str | Path):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Notice)  # what is noticed is said when it is read
                open_store(one, chunks=None).close()  # before torch: a wrong file is told at once
            check_apart(one, out)
    from finescale.inference.engines import Workers
    from finescale.inference.predict import Prediction
    from finescale.inference.request import Request

    workers, request, load = Workers(**who), Request(**asked), None
    if isinstance(model, str | Path):
        load = partial(_loaded, lasting(model), compiled)
        model = _loaded(model, compiled)
    elif compiled:
        model.compile_networks()
    return Prediction(model, coarse, request, workers, load, values=not lazy)


def _loaded(model: str | Path, compiled: bool) -> Downscaler:
    """A model from its folder, as every worker loads it."""
    from finescale.config.load import load

    taken = load(model)
    return taken.compile_networks() if compiled else taken

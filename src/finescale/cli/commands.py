"""The command line: one function a command, heavy imports inside.

How it runs, and its exit codes: `finescale.cli.runner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from finescale.cli import runner
from finescale.errors import InputError
from finescale.version import __version__

app = App(
    name="finescale",
    help="Turn coarse gridded fields into ensembles of fine ones that conserve the coarse totals.\n\n"
    "Every command takes --debug, which shows where an error arose.",
    version=__version__,
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)

Folder = Annotated[Path, Parameter(["--output", "-o"])]
Output = Annotated[str, Parameter(["--output", "-o"])]
Flag = Annotated[bool, Parameter(negative=())]
Whole = Annotated[int, Parameter(converter=runner.whole)]


@app.command
def coarsen(
    fine: list[str],
    /,
    *,
    output: Output,
    factor: str,
    variable: str | None = None,
    select: str | None = None,
    crop: Flag = False,
    overwrite: Flag = False,
) -> None:
    """Coarsen a file: area-weighted block means.

    Parameters
    ----------
    fine
        NetCDF, Zarr, GRIB, GeoTIFF, ODIM or PNG, a path or a URL such as s3://bucket/rain.zarr; of several files that
        follow each other in time all, or a quoted glob.
    output
        A name that ends in .nc or .zarr, a path or a URL.
    factor
        TIMExSPACE such as 1x10, or TIMExYxX such as 1x8x12.
    variable
        One variable alone; all that have times unless given.
    select
        Ranges of coordinates to keep, as in data.train: '{time: ["2020-01-01", null]}' is 2020 and later.
    crop
        Drop the cells at the ends that do not fill a block.
    overwrite
        Replace an output that exists.
    """
    from finescale import verbs

    part = None if select is None else runner.ranges(select, "--select")
    verbs.coarsen(fine, factor, output, variable=variable, select=part, crop=crop, overwrite=overwrite)


@app.command
def fit(
    config: str | None = None,
    /,
    *,
    output: Folder,
    start: str | None = None,
    distill: str | None = None,
    set_: Annotated[list[str] | None, Parameter("--set", negative=(), allow_leading_hyphen=True)] = None,
    overwrite: Flag = False,
) -> None:
    """Train a model; resumes when the output holds a checkpoint.

    Parameters
    ----------
    config
        A YAML file, or the name of a preset.
    output
        The model's folder.
    start
        Instead of a configuration, a trained model to go on from, with data of your own: a folder or a name of models.
    distill
        Instead of a configuration, a trained model: make one of it that needs only 1, 2 or 4 steps.
    set_
        A setting to change, such as train.minutes=5; may be given several times.
    overwrite
        Start afresh where the folder holds a model or checkpoint.
    """
    changes = runner.overrides(set_ or [])
    if [config, start, distill].count(None) != 2:
        raise InputError(
            "fit takes one of a configuration (a YAML file or a preset's name), --start MODEL and --distill MODEL"
        )
    if distill is not None:
        from finescale.training.distill import distill as make

        make(distill, output, changes, overwrite=overwrite)
        return
    from finescale.training.fit import fit as train

    train(config, output, changes, overwrite=overwrite, start=start)


@app.command
def calibrate(
    model: str,
    fine: list[str],
    /,
    *,
    output: Annotated[Path | None, Parameter(["--output", "-o"])] = None,
    factor: str | None = None,
    variable: str | None = None,
    select: str | None = None,
    crops: Whole = 48,
) -> None:
    """Make a trained model's spread and smoothness those of a few fine fields of your own; nothing is trained.

    Parameters
    ----------
    model
        A folder written by fit, its URL, or a name of models.
    fine
        Fine fields on cells like those wanted, of any format that coarsen reads; not those it is judged on afterwards.
    output
        A new folder for the calibrated model; unless given, what is measured is kept in the model's own config.yaml.
    factor
        For a model that serves several factors: the one that counts; unless given, some of its range, between which
        spreads are interpolated.
    variable
        What the model's variable is called there.
    select
        Ranges of coordinates to look at, as in data.train: '{time: ["2020-01-01", null]}' is 2020 and later.
    crops
        At most so many parts of the fields, as large as those of the training.
    """
    from finescale.training.calibrate import calibrate as measure

    part = None if select is None else runner.ranges(select, "--select")
    print(measure(model, fine, output, factor=factor, variable=variable, select=part, crops=crops))


@app.command
def downscale(
    model: str,
    coarse: str,
    /,
    *more: str,
    output: Output,
    members: Whole | None = None,
    seed: Whole = 0,
    steps: Whole | None = None,
    variance: Literal["auto", "head", "members", "denoiser"] | None = None,
    variable: str | None = None,
    factor: str | None = None,
    to: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    force: Flag = False,
    static: Annotated[list[str] | None, Parameter(negative=())] = None,
    onto: str | None = None,
    mask: str | None = None,
    conserve: bool | None = None,
    smoothness: float | None = None,
    lifetime: str | None = None,
    window: str | None = None,
    precision: str | None = None,
    order: str = "time,realization,y,x",
    workers: Whole | None = None,
    threads: Whole | None = None,
    scheduler: str | None = None,
    dry_run: Flag = False,
    compile: Flag = False,
    resume: Flag = False,
    overwrite: Flag = False,
) -> None:
    """Downscale a coarse file to an ensemble of fine fields.

    Parameters
    ----------
    model
        A folder written by fit, its URL, or a name of models.
    coarse
        A file of any format that coarsen reads, or a quoted glob of files that follow each other in time; or a URL.
    more
        Further files: variables and predictors of the model are found in all of them by name.
    output
        A name that ends in .nc or .zarr, a path or a URL.
    members
        How many, 16 unless given; 0 for their mean alone, with --variance. A deterministic model has one field.
    seed
        The same seed gives the same members.
    steps
        Sampler steps; more are finer and slower.
    variance
        Write the standard deviation too, in closed form. Optionally say where it is from: the variance head, latent
        members, or the denoiser; the head is taken where the model has one.
    variable
        The variable, where the file has several.
    factor
        For a model that serves several factors: TIMExSPACE such as 3x10.
    to
        Instead of a factor, the resolution to reach: a spacing in the grid's units (0.01), a length (1km), a duration
        (10min), or both (10min,0.01).
    force
        Take a factor outside the trained range, or an input that is unlike the training data.
    static
        A file with a static field that the model was trained with; may be given several times.
    onto
        A file on the fine grid that is wanted: the coarse fields are brought to its blocks, conservatively.
    mask
        A file with a field on the fine grid, or a larger one: cells where it is not above 0 are missing in the output.
    conserve
        Put fields through the model's constraint, or do not; by default as the model was trained.
    smoothness
        How smooth fine fields are, for a model trained with data.smoothing: what calibrate measures, .6 to 1.5 for
        radar.
    lifetime
        How long detail lives while it moves with the coarse field, such as 15min, for models of single frames; none
        for detail of its own in every frame.
    window
        Coarse cells sampled at once, TIMExSPACE such as 1x64: smaller needs less memory.
    precision
        Write values in steps of so much, such as 0.01 in their units (as whole numbers), or to digits, such as 3digits.
    order
        Of the output's dimensions; instead, realization,time,y,x.
    workers
        Processes of this machine that do the work, each with a model of its own; none but this one unless given.
    threads
        Tasks that a process works on at once, 1 unless given; they share its model.
    scheduler
        Instead of both, the address of a Dask scheduler whose workers do the work, such as tcp://host:8786.
    dry_run
        Check everything, say what it will cost, and write nothing.
    compile
        Compile the networks first (torch.compile): a minute or more that long predictions on CUDA win back.
    resume
        Continue an interrupted run to Zarr.
    overwrite
        Replace an output that exists.
    """
    from finescale import verbs
    from finescale.data.writing import check_output

    check_output(output, overwrite)
    size = runner.cells(window, "--window") if window else None
    asked: dict[str, Any] = dict(
        members=members,
        seed=seed,
        steps=steps,
        variance=variance or False,
        window=size,
        variable=variable,
        factor=factor,
        to=to,
        force=force,
        static=static,
        onto=onto,
        mask=mask,
        conserve=conserve,
        smoothness=smoothness,
        lifetime=lifetime,
        precision=precision,
        order=order,
        workers=workers,
        threads=threads,
        scheduler=scheduler,
        overwrite=overwrite,
    )
    files = [coarse, *more] if more else coarse
    if dry_run:
        print(verbs.cost(model, files, output, **asked).text)
        return
    verbs.downscale(model, files, output, resume=resume, compile=compile, **asked)
    print(output)


@app.command
def verify(
    ensemble: str,
    truth: str,
    /,
    *,
    output: Folder,
    coarse: str | None = None,
    baselines: str | None = None,
    against: Annotated[list[str] | None, Parameter(negative=())] = None,
    variable: str | None = None,
    thresholds: str | None = None,
    block: Whole | None = None,
    regrid: Flag = False,
    no_report: Flag = False,
    overwrite: Flag = False,
) -> None:
    """Score an ensemble against the truth: report.html, scores.json, scores.csv and figures.

    Parameters
    ----------
    ensemble
        The fine ensemble, from finescale or any other system.
    truth
        The fine truth.
    output
        A folder.
    coarse
        The coarse input; its absence means block means of the truth.
    baselines
        Names separated by commas: nearest, bilinear, bicubic, noise, rainfarm, climatology; "none" for none. By default
        all but bilinear that suit the data.
    against
        Another ensemble to show beside it; give the option again for each.
    variable
        The variable, where a file has several.
    thresholds
        Events ≥ threshold for CSI, FSS, Brier score and so on: numbers in units of the field, separated by commas. By
        default 0.1,1,5,10 mm/h for rain and none for other fields.
    block
        Times in a block of the bootstrap that gives intervals: as many as weather stays alike; T^1/3 unless given.
    regrid
        Bring a truth on other cells to those of the ensemble, by area-weighted means.
    no_report
        Write scores.json and scores.csv alone: without page and figures.
    overwrite
        Replace a report that exists.
    """
    from tqdm import tqdm

    from finescale.verify.report import names_of
    from finescale.verify.report import verify as score

    names = None
    if baselines is not None:
        names = [name.strip() for name in baselines.split(",") if name.strip() not in ("", "none")]
    events = None if thresholds is None else runner.numbers(thresholds, "--thresholds")
    # Scores, then figures; no bar where nobody looks at it, so that what is said of an error is one line.
    with tqdm(total=100, desc="verify", unit="%", leave=False, disable=None) as bar:
        score(
            ensemble,
            truth,
            output,
            coarse=coarse,
            baselines=names,
            against=names_of(against or []),
            variable=variable,
            thresholds=events,
            block=block,
            regrid=regrid,
            report=not no_report,
            overwrite=overwrite,
            progress=lambda share: bar.update(round(100 * share) - bar.n),
        )
    print(output / ("scores.json" if no_report else "report.html"))


@app.command
def recipe(factor: str, /, *, cadence: str = "1h", horizon: str | None = None) -> None:
    """Say which noise, context and taper a factor needs, and why.

    Parameters
    ----------
    factor
        TIMExSPACE such as 3x10.
    cadence
        Time between fine frames, such as 1h or 5min.
    horizon
        Physical time that the context covers; 12 fine frames unless given.
    """
    from finescale.config.recipe import recipe as advise

    print(advise(factor, cadence, horizon=horizon))


@app.command
def info(path: list[str], /) -> None:
    """Describe a file or a model.

    Parameters
    ----------
    path
        A gridded file, several that follow each other in time, or a model's folder.
    """
    from finescale.cli.info import describe

    print(describe(path))


@app.command
def models() -> None:
    """List the models that have a name: those of the package, and of the folder or URL FINESCALE_MODELS."""
    from finescale.config.shipped import listing

    print(listing())


@app.command
def demo(*, output: Folder = Path("finescale-demo"), real: Flag = False) -> None:
    """Synthetic rain, a trained model, an ensemble and its report, in a few minutes.

    Parameters
    ----------
    output
        A folder.
    real
        Radar that comes with the package, and its model rain, instead: in less than a minute.
    """
    from finescale.cli.demo import run

    run(output, real=real)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; the console script."""
    return runner.run(app, arguments)

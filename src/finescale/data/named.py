"""What a path names: one file, or several that follow each other in time, and how they are to be read.

    radar.nc                                      one file
    radar_*.nc                                    a glob: all that match, one field
    PRECIP_{time:%Y%m%d_%H%M}.tif                 a glob whose files have their times in their names
    model.grib?shortName=tp&typeOfLevel=surface   after a question mark, what is said of reading
    s3://bucket/radar_*.nc                        any of these behind a URL (`finescale.data.place`)

Of what is said after the question mark, `Settings` has the names that go for every format; any other name is a key of
GRIB messages. A question mark in a glob stays one: settings are told by their equals sign.
"""

from __future__ import annotations

import glob
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finescale.data.place import Place, Remote, matching, place
from finescale.data.radar import FLOOR
from finescale.errors import InputError, brief, nearest

Paths = str | Path | Sequence[str | Path]
"""A path, or several whose files follow each other in time."""
_OWN = {"zr", "units", "missing", "undetect"}
"""What is said of reading, whatever the format."""
_QUERY = re.compile(r"\?(\w[\w.:]*=[^&]*(?:&\w[\w.:]*=[^&]*)*)$")
_TIME = re.compile(r"\{time(?::([^{}]+))?\}")
_MAGIC = re.compile(r"[*?\[]")
LISTED = 3
"""Names that a message lists."""


@dataclass(frozen=True)
class Settings:
    """How a file is read, beside what it says itself.

    Attributes:
        zr: (a, b) of Z = a R^b, to make rain rates of reflectivity; None to leave it.
        units: units wanted of amounts or rates, which intervals convert into one another; empty for the file's.
        missing: values that mark missing cells, where the file does not say so.
        undetect: the value that marks cells without an echo, likewise.
        keys: of GRIB messages, name -> value as written.
    """

    zr: tuple[float, float] | None = None
    units: str = ""
    missing: tuple[float, ...] = ()
    undetect: float | None = None
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def marks(self) -> dict[float, float | None]:
        """Value -> what a cell that holds it gets; None for what a cell without an echo has in the field's units."""
        echo = {} if self.undetect is None else {self.undetect: None if self.zr is None else FLOOR}
        return dict.fromkeys(self.missing, math.nan) | echo

    @property
    def computes(self) -> bool:
        """Whether values are changed after reading."""
        return self.zr is not None or bool(self.units)


@dataclass(frozen=True)
class Entry:
    """A file and how it is read.

    Attributes:
        path: the file, or the folder of a Zarr store, or their URL.
        settings: what was said of reading it.
        stamp: the pattern of its name, with ``{time:…}``; empty where times are guessed.
        packed: the compressed or remote file that ``path`` is a copy of; None where it is none.
    """

    path: Place
    settings: Settings
    stamp: str = ""
    packed: Place | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.packed or self.path)

    @property
    def file(self) -> Path:
        """The file, which lies on this machine (`finescale.data.formats.here`)."""
        assert isinstance(self.path, Path)
        return self.path


def listed(paths: Paths) -> list[str]:
    """The texts of one path or several."""
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]


def title(paths: Paths) -> str:
    """How a message calls what ``paths`` name."""
    texts = listed(paths)
    return texts[0] if len(texts) == 1 else f"{texts[0]} and {len(texts) - 1} more"


def query(text: str) -> str:
    """What is said of reading in one path, with its question mark; empty where nothing is."""
    found = None if _there(text) else _QUERY.search(text)
    # The query of a web address is the address's own, unless all of it is of reading.
    web = found is not None and text.startswith(("http://", "https://"))
    if found is None or (web and not {pair.partition("=")[0] for pair in found[1].split("&")} <= _OWN):
        return ""
    return found[0]


def names(paths: Paths) -> tuple[str, ...]:
    """The names of files, without folders and what is said of reading; a glob as it is written."""
    return tuple(place(text.removesuffix(query(text))).name for text in listed(paths))


def entries(paths: Paths) -> list[Entry]:
    """The files that ``paths`` name, those of a glob in the order of their names.

    Raises:
        InputError: for a pattern that matches nothing, settings that are not understood, or an empty list.
    """
    found = [entry for text in listed(paths) for entry in _entries(text)]
    if not found:
        raise InputError("no file is named: give a path, a glob or several paths")
    return found


def _entries(text: str) -> list[Entry]:
    if _there(text):
        return [Entry(Path(text), Settings())]
    said = query(text)
    settings = _settings(said[1:], text) if said else Settings()
    where = place(text.removesuffix(said))
    name = str(where) if isinstance(where, Remote) or text.startswith("file:") else text.removesuffix(said)
    if _there(name):
        return [Entry(Path(name), settings)]
    stamps = _TIME.findall(name)
    web = isinstance(where, Remote) and where.protocol.startswith("http")
    if not stamps and not _MAGIC.search(name.partition("?")[0] if web else name):
        return [Entry(place(name), settings)]
    if len(stamps) > 1 or (stamps and not stamps[0]):
        raise InputError(f"{name} does not say how times are written: once {{time:%Y%m%d%H%M}}, as in strftime")
    pattern = _TIME.sub("*", name)
    files: list[Place]
    remote = matching(where, pattern) if isinstance(where, Remote) else None
    files = remote if remote is not None else [*sorted(map(Path, glob.glob(pattern)))]
    if not files:
        folder = Path(pattern).parent
        gone = isinstance(where, Path) and not _MAGIC.search(str(folder)) and not folder.is_dir()
        there = f"{folder} does not exist" if gone else ""
        raise InputError(f"{name} matches no file{': ' + there if there else ', as written'}; check the pattern")
    return [Entry(file, settings, place(name).name if stamps else "") for file in files]


def _settings(text: str, path: str) -> Settings:
    given: dict[str, object] = {}
    keys: dict[str, str] = {}
    for pair in text.split("&"):
        key, _, value = pair.partition("=")
        if key == "zr":
            given["zr"] = _two(value, path)
        elif key == "units":
            given["units"] = value.strip()
        elif key == "missing":
            given["missing"] = _numbers(value, key, path)
        elif key == "undetect":
            given["undetect"] = _numbers(value, key, path)[0]
        elif key.lower() in ("zr", "units", "missing", "undetect"):
            raise InputError(f"{brief(path)}: {key} is not understood{nearest(key, ['zr', 'units', 'missing'])}")
        else:
            keys[key] = value
    return Settings(**given, keys=keys)  # type: ignore[arg-type]


def _numbers(value: str, key: str, path: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in value.split(","))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise InputError(f"{brief(path)}: {key}={value} is not understood: write numbers, such as {key}=-999")
    return found


def _two(value: str, path: str) -> tuple[float, float]:
    try:
        a, b = (float(part) for part in value.split(","))
    except ValueError:
        a = b = math.nan
    if not (0 < a < math.inf and 0 < b < math.inf):
        raise InputError(f"{brief(path)}: zr={value} is not understood: write a and b of Z = a R^b, such as zr=200,1.6")
    return a, b


def _there(name: str) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False

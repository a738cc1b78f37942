"""Models by name: those that come with the package, and those of a folder or URL that ``FINESCALE_MODELS`` names.

A model is a folder; wherever one is accepted, so is a name. A model's folder of that name wins, then a model of
``FINESCALE_MODELS``, then one of the package. Behind a URL (``s3://…``, ``hf://user/repository`` where huggingface_hub
is installed) lie the same files; they are copied here for as long as the process lives. Where ``about.yaml`` has hashes
of a model's files, they are checked before anything is used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finescale.config.document import read_yaml
from finescale.config.schema import call
from finescale.data.place import Place, Remote, copied, exists, place
from finescale.errors import InputError, nearest

MODELS = Path(__file__).parent.parent / "models"
"""Those of the package."""
VARIABLE = "FINESCALE_MODELS"
"""The environment variable that names a folder, or URL, of further ones."""
ABOUT, FILES = "about.yaml", ("config.yaml", "weights.safetensors")
OWN = (*FILES, "checkpoint.safetensors")
"""What a folder has one of that is taken for a model; one of data that is called rain is not."""


@dataclass(frozen=True)
class About:
    """What ``about.yaml`` says of a model.

    Attributes:
        summary: what it is for, in a line.
        data: what it was trained on.
        licence: of the weights.
        limits: what it must not be used for.
        scores: how good it is, in a line.
        sha256: of the files, by name.
    """

    summary: str = ""
    data: str = ""
    licence: str = ""
    limits: str = ""
    scores: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path) -> About | None:
        """That of a folder; None where it has none."""
        path = folder / ABOUT
        return call(cls, read_yaml(path), str(path)) if path.is_file() else None


def found(model: str | Path) -> Path:
    """The folder of a model, by its path, its name or its URL.

    Raises:
        InputError: for a URL that holds no model, or is not reached.
    """
    where = place(model)
    if isinstance(where, Remote):
        return _copied(where, str(where))
    if len(where.parts) != 1 or any(exists(where / name) for name in OWN):
        return where
    for collection in _collections():
        one = collection / where.name
        if isinstance(one, Remote):
            if one.name in _names(collection):
                return _copied(one, str(model))
        elif (one / FILES[0]).is_file():
            return one
    return where


def lasting(model: str | Path) -> str:
    """What names a model for other processes too, wherever they work."""
    return str(model) if isinstance(place(model), Remote) else str(found(model).absolute())


def ours(folder: Path) -> bool:
    """Whether a folder is one of the package, which is not to be written into."""
    return folder.parent == MODELS


def names() -> list[str]:
    """Of all models that have one."""
    return sorted({name for collection in _collections() for name in _names(collection)})


def check(folder: Path) -> None:
    """Refuse a model whose files are not those that its ``about.yaml`` has hashes of.

    Raises:
        InputError: naming the file.
    """
    about = About.of(folder)
    for name, wanted in (about.sha256 if about else {}).items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
            raise InputError(f"{path} is not the file that {ABOUT} has the hash of: install or copy the model again")


def absent(folder: Path) -> str:
    """What is said of a model that is not there: the nearest name, or all; or that the folder hides one of its name."""
    if len(folder.parts) != 1:
        return ""
    if folder.name in names():
        return f"; this folder, such as of a training that has not ended, hides the model of the name {folder.name}"
    return nearest(folder.name, names())


def listing() -> str:
    """A few lines on each model that has a name."""
    texts = ["\n".join(_lines(name, found(name))) for name in names()]
    return "\n\n".join(texts) or f"no models come with this package; {VARIABLE} names a folder of others"


def _lines(name: str, folder: Path) -> Iterator[str]:
    config, about = read_yaml(folder / FILES[0]), About.of(folder) or About()
    size = sum((folder / file).stat().st_size for file in FILES if (folder / file).is_file())
    made = ", ".join(f"{key} in {(one or {}).get('units', 'any units')}" for key, one in _variables(config).items())
    yield f"{name}: {about.summary or 'a model of yours'}"
    yield f"  factors: {_factors(config.get('factor'))}; {made}; {size / 1e6:.1f} MB"
    for key in ("limits", "data", "licence", "scores"):
        if getattr(about, key):
            yield f"  {key}: {getattr(about, key)}"


def _variables(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return config.get("variables") or {}


def _factors(spec: Any) -> str:
    from finescale.grids.factor import Factors

    return str(Factors.parse(spec))


def _collections() -> list[Place]:
    given = os.environ.get(VARIABLE)
    return [*([place(given)] if given else []), MODELS]


def _names(collection: Place) -> list[str]:
    """Of the folders in it that hold a model."""
    if isinstance(collection, Remote):
        paths = [name.rstrip("/").split("/") for name in collection.names()]
        return sorted({parts[-2] for parts in paths if len(parts) > 1 and parts[-1] == FILES[0]})
    if not exists(collection):
        return []
    return sorted(path.name for path in collection.iterdir() if (path / FILES[0]).is_file())


def _copied(where: Remote, said: str) -> Path:
    folder = copied(where, (*FILES, ABOUT))
    if not (folder / FILES[0]).is_file():
        raise InputError(f"{said} is not a finescale model: it has no {FILES[0]}")
    return folder

"""An environment for each peer, with what its requirements pin, and how large it is."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
OURS = "finescale"


def made(name: str, folder: Path) -> Path:
    """The interpreter of an environment, which is made where it is not there yet."""
    place = folder / name
    python, done = place / "bin" / "python", place / "installed"
    if not done.is_file():
        venv.create(place, with_pip=True, clear=True)
        (place / "bare").write_text(str(size(place)))
        wanted = ["-c", str(REPOSITORY / "constraints.txt"), str(REPOSITORY)]
        wanted = wanted if name == OURS else ["-r", str(HERE / "requirements" / f"{name}.txt")]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
        (place / "installed.size").write_text(str(size(place)))
        freeze = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True)
        done.write_text(freeze.stdout)
    return python


def installed(name: str, folder: Path) -> int:
    """Bytes of what was installed into an environment, without what an empty one has."""
    place = folder / name
    return int((place / "installed.size").read_text()) - int((place / "bare").read_text())


def size(place: Path) -> int:
    """Bytes of the packages, without what Python compiles when they are first used."""
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    files = (file for file in packages.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc")

"""A few mutations of each format, the same every time; ``python -m tests.hostile.mutations`` makes thousands."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("seed", [1, 2])
def test_mutations(seed: int) -> None:
    words = ["--light", "--count", "30", "--seed", str(seed)]
    done = subprocess.run([sys.executable, "-m", "tests.hostile.mutations", *words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    tried = done.stdout.strip().splitlines()[-1]
    assert tried.startswith("| all |") and "| 30 / 30 |" in tried

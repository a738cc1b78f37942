"""Runs the cases of some parts or of all and prints, by command, how many were tried and how many were right.

``python -m tests.hostile [PART ...]``; exits with 1 if any is wrong.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import torch  # noqa: F401  before memory is measured
from tests import hostile
from tests.hostile.cases import faults


def parts() -> dict[str, ModuleType]:
    """The modules with cases, by name."""
    found = {}
    for module in pkgutil.iter_modules(hostile.__path__):
        if module.name not in ("__main__", "cases", "made", "mutations", "run") and not module.name.startswith("test_"):
            found[module.name] = importlib.import_module(f"{hostile.__name__}.{module.name}")
    return found


def main() -> None:
    tried: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    known, wanted = parts(), sys.argv[1:]
    if set(wanted) - set(known):
        sys.exit(f"no such part: {', '.join(sorted(set(wanted) - set(known)))}; there are {', '.join(known)}")
    for name in wanted or known:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for case in known[name].cases(folder):
                tried[case.command] += 1
                for fault in faults(case, folder)[:1]:
                    wrong[case.command] += 1
                    print(f"{name}: {case.name}: finescale {' '.join(case.arguments)[:200]!r}: {fault}\n")
    width = max(map(len, [*tried, "command"]))
    print(f"{'command':{width}}  tried  right")
    for command, count in sorted(tried.items()):
        print(f"{command[:width]:{width}}  {count:5}  {count - wrong[command]:5}")
    print(f"{'all':{width}}  {tried.total():5}  {tried.total() - wrong.total():5}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

"""Every hostile case, by part."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from tests.hostile.cases import faults
from tests.hostile.run import parts


@pytest.mark.parametrize("part", parts().values(), ids=parts())
def test_hostile(part: ModuleType, tmp_path: Path, subtests: pytest.Subtests) -> None:
    for case in part.cases(tmp_path):
        with subtests.test(case.name):
            assert not faults(case, tmp_path)

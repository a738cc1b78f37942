"""Which tasks are finished, and what was noted of them."""

import math
import tracemalloc

import numpy as np
import pytest

from finescale.data.finished import Finished


def test_it_knows_tasks_hashes_and_the_largest_of_everything_else() -> None:
    rng = np.random.default_rng(0)
    notes = {int(task): [*rng.normal(size=3), float(rng.integers(2**48))] for task in rng.permutation(500)[:100]}
    done = Finished()
    for task, note in notes.items():
        done.add(task, note)
        done.add(task, note)
    assert len(done) == 100 and [n for n in range(-1, 600) if n in done] == sorted(notes)
    assert all(done.hash(task) == note[-1] for task, note in notes.items())
    np.testing.assert_array_equal(done.worst, np.max([note[:-1] for note in notes.values()], axis=0))


def test_what_is_not_a_number_stays_seen() -> None:
    done = Finished()
    for task, worst in enumerate((1.0, math.nan, 2.0)):
        done.add(task, [worst, 0.0])
    assert math.isnan(done.worst[0])


@pytest.mark.parametrize(("task", "note"), [(-1, [0, 0, 1]), (2**60, [0, 0, 1]), (1, [0, 1]), (1, [0, 0, -1.0])])
def test_what_no_run_notes_is_refused(task: int, note: list[float]) -> None:
    done = Finished()
    done.add(0, [0, 0, 1])
    with pytest.raises(ValueError, match="cannot be noted"):
        done.add(task, note)
    assert len(done) == 1


def test_a_task_takes_a_few_bytes() -> None:
    done = Finished()
    tracemalloc.start()
    try:
        for task in range(50_000):
            done.add(task, [float(task), 1.0, 2.0, 3.0])
        assert tracemalloc.get_traced_memory()[0] < 50_000 * 17
    finally:
        tracemalloc.stop()

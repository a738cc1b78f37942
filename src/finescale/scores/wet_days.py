"""How often does it rain, and how long does it stay dry? Of daily rain, where a wet day has at least 1 mm.

With w the areas of cells, over all members, cells and days:

    wet-day frequency       Σw over wet cells and days, over Σw
    length of dry spells    Σw over dry cells and days, over Σw over those of them at which a spell begins: the first
                            day, and a day whose day before is wet, missing or absent. Spells that the ends of the
                            series cut count with the days that are seen, so that short series have short spells
"""

from __future__ import annotations

import numpy as np

from finescale.scores.cells import Array, Step, ratio
from finescale.scores.record import Score, Statistic
from finescale.scores.settings import Settings


def wet_day_terms(step: Step, settings: Settings) -> Array:
    """Weights (2, 4) of wet and of dry days, of beginnings of dry spells, and the whole; of members (each), truth."""
    assert settings.wet_day is not None
    old, new = step
    before = np.zeros_like(new.w, dtype=bool) if old is None else old.w > 0

    def counted(now: Array, earlier: Array | None) -> Array:
        dry = now < settings.wet_day
        begins = dry if earlier is None else dry & ~(before & (earlier < settings.wet_day))
        return np.array([(new.w * field).sum() for field in (~dry, dry, begins)] + [new.w.sum()])

    ours = [counted(x, None if old is None else old.x[m]) for m, x in enumerate(new.x)]
    return np.stack([np.mean(ours, axis=0), counted(new.y, None if old is None else old.y)])


def wet_day_formula(terms: Array) -> dict[str, Array]:
    """wet_day_frequency and dry_spell_length, and the truth's."""
    frequency, length = ratio(terms[..., 0], terms[..., 3]), ratio(terms[..., 1], terms[..., 2])
    found = {"wet_day_frequency": frequency, "dry_spell_length": length}
    return {f"{name}{end}": v[..., k] for name, v in found.items() for k, end in enumerate(("", "_truth"))}


WET_DAYS = Statistic(
    "wet_days",
    wet_day_terms,
    lambda terms, members, settings: wet_day_formula(terms),
    (
        Score(
            "wet_day_frequency",
            "Wet-day frequency",
            "truth",
            "Distribution",
            "Share of cells and days with at least 1 mm; best is that of the truth.",
            style="thousandths",
        ),
        Score(
            "dry_spell_length",
            "Dry spells",
            "truth",
            "Time",
            "Mean number of days in a row below 1 mm, of each member; best is that of the truth.",
            units="d",
        ),
    ),
    over="step",
    wanted=lambda settings: settings.wet_day is not None,
)

"""The scores of arrays by their first address; `finescale.verify` has them all."""

from finescale.verify.evaluate import score_arrays
from finescale.verify.significance import paired_bootstrap

__all__ = ["paired_bootstrap", "score_arrays"]

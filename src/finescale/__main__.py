"""``python -m finescale``."""

from __future__ import annotations

import sys

from finescale.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())

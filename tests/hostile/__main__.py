"""``python -m tests.hostile [PART ...]``."""

from tests.hostile.run import main

main()

"""``python -m tests.hostile.mutations``."""

from tests.hostile.mutations.run import main

main()

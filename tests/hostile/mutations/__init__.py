"""Real commands on mutated files: bytes of every format read, of models, configurations and what resumptions need.

A mutation is told by a seed and a number alone. Its command runs in a process of its own, with bounds of time and
memory; whatever comes of it, it must be the command's work, or one line that says what is wrong with which file.

``python -m tests.hostile.mutations --help`` from the repository's root.
"""

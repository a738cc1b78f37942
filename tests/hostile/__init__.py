"""Hostile inputs, as tables of cases: what is typed, what it is typed on, and what must come of it.

A file here is a part: ``cases(folder)`` makes what its cases need in an empty folder and returns them. They run in
pytest (`test_hostile`), and alone, with a table by command: ``python -m tests.hostile`` from the repository's root,
followed by the names of parts for some of them.
"""

"""The gate for reward changes: two rewards on the same frozen completions, and a verdict.

`gate.py` runs it; `measures.py`, `paired.py`, `flips.py`, `shifts.py`, `grading.py` and `verdict.py` are its pure
parts. `rewards.py` makes a side, of a reward in a file or, by `folders.py`, of a results folder. `freeze.py` makes
the set.
"""

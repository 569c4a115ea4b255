"""The gate for reward changes: two rewards on the same frozen completions, and a verdict.

`gate.py` runs it; `paired.py`, `flips.py`, `shifts.py` and `grading.py` are its pure parts; `rewards.py`
makes a side from a description (`description.py`), a recorded run (`recorded.py`) or a results folder.
"""

"""Fit a rule-based reward's weights on labelled completions, and judge the reward on held-out prompts.

`run.py` runs it; `data.py` reads and grades; `rows.py` and `tables.py` are pure; `files.py` writes.
"""

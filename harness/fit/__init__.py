"""Fit a rule-based reward's weights on labelled completions, and judge the reward on held-out prompts.

`engine.py` runs it; `data.py` reads and grades; `files.py` writes the record, which report/of_fit.py draws.
"""

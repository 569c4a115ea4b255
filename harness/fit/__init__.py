"""Fit a rule-based reward's weights on labelled completions, and judge the reward on held-out prompts.

`data.py` reads and grades; `engine.py` runs it and writes the record, which report/of_fit.py draws.
"""

"""The keys of `rbrbench compare FOLDER FOLDER ...`."""

from __future__ import annotations

from dataclasses import dataclass

from harness.keys.shared import Margin, Recorded


@dataclass(kw_only=True)
class CompareConfig(Recorded, Margin):
    name: str = "comparison"
    equivalent: float = 0.02  # capability tasks within this share of each other are equivalent

"""The keys of `rbrbench report FOLDER`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReportConfig:
    plots: list[str] = field(default_factory=list)  # your own, as MODULE:ATTRIBUTE, drawn after the others
    exports: list[str] = field(default_factory=list)  # written anew: inspect, lm_eval, trl, ... or your own

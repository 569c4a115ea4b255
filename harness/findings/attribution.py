"""Whose fault it is: the reward's, which asks for no more, or the learning's, and which part of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.findings.wording import percent

FAR = 0.8  # of the way in J: a training that went so far converged
MARGIN = 0.05  # of F1: what less is no loss


@dataclass(frozen=True)
class Attribution:
    """One method's rows of all prompts, means over seeds: `F1` by place, and the share of the way in J, by part."""

    method: str
    start: Mapping[str, float]
    ceiling: Mapping[str, float]
    trained: Mapping[str, float]
    gone: Mapping[str, float]
    told: bool

    @property
    def sentence(self) -> str:
        """What the reward asks for, what training reached, and where the rest was lost."""
        asked, reached = self.ceiling.get("evaluation", math.nan), self.trained.get("evaluation", math.nan)
        own_asked, own = self.ceiling.get("training", math.nan), self.trained.get("training", math.nan)
        said = f"the reward asks for F1 {percent(asked)}; training reached {percent(reached)}"
        said += "" if math.isnan(own) else f"; on its own prompts {percent(own)} of {percent(own_asked)}"
        return f"{said}: {self._reason(asked, reached, own_asked, own)}."

    def _reason(self, asked: float, reached: float, own_asked: float, own: float) -> str:
        gone = self.gone.get("training", math.nan)
        if math.isnan(own):  # of no training prompts anything is known
            gone = self.gone.get("evaluation", math.nan)
        if not self.told or math.isnan(asked) or math.isnan(reached):
            return "too few samples to say more"
        if reached >= asked - MARGIN:
            return "it reached what the reward asks for"
        if not math.isnan(own) and own >= own_asked - MARGIN:
            return "it learned its own prompts and does not carry over to the others"
        if math.isnan(gone):
            return "how far training went in the objective cannot be told"
        if gone < FAR:
            return f"training stopped {percent(gone)} of the way in the objective"
        return "the policy cannot tell all that the reward is told"


def attributions(rows: Sequence[Mapping[str, Any]]) -> list[Attribution]:
    """By method, in the order of the rows."""
    of_all = [row for row in rows if row["group"] == "all"]
    return [
        _of_method(name, [row for row in of_all if row["method"] == name])
        for name in dict.fromkeys(str(row["method"]) for row in of_all)
    ]


def _of_method(name: str, rows: Sequence[Mapping[str, Any]]) -> Attribution:
    parts = list(dict.fromkeys(str(row["part"]) for row in rows))

    def f1(place: str) -> dict[str, float]:
        return {
            part: _mean([row[place]["f1"]["value"] for row in rows if row["part"] == part]) for part in parts
        }

    gone = {part: _mean([_gone(row) for row in rows if row["part"] == part]) for part in parts}
    told = all(not row["ceiling"]["f1"].get("problem") for row in rows)
    return Attribution(name, f1("start"), f1("ceiling"), f1("trained"), gone, told)


def _gone(row: Mapping[str, Any]) -> float | None:
    """None too where the ceiling's J cannot be told."""
    return None if row.get("problem") else row["gone"]


def _mean(values: Sequence[float | None]) -> float:
    """Of what is known; NaN where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else math.nan

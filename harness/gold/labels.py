"""The labels that graders are judged by, and whether they are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evals.graders.calibration import cuts_of, gold_labels
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row, read_jsonl


@dataclass(frozen=True)
class GoldSplits:
    """`train` fits and tunes, `judged` is reported; they share no prompt unless `cross` (one file for both).

    `left_out` counts the training responses whose prompt is judged too. `propositions` are the rulebook's
    that any response has a label of.
    """

    propositions: tuple[Proposition, ...]
    train: list[LabelledResponse]
    judged: list[LabelledResponse]
    cross: bool
    left_out: int = 0

    @property
    def cuts(self) -> dict[str, float]:
        """The thresholds that nobody tuned."""
        return cuts_of(self.propositions)


@dataclass(frozen=True)
class LabelCount:
    """Prompts that have a response labelled true, or false, in the training and in the judged labels.

    A level is true where its score is above half.
    """

    proposition: str
    train_true: int
    train_false: int
    judged_true: int
    judged_false: int

    def too_few_to_learn(self, few: int) -> bool:
        return min(self.train_true, self.train_false) < few

    def too_few_to_judge(self, few: int) -> bool:
        return min(self.judged_true, self.judged_false) < few


def read_splits(rulebook: Rulebook, train: str | None, test: str | None) -> GoldSplits:
    """Raises InputError, naming file, line and field, for malformed rows and labels of unknown propositions."""
    fitted = _read(Path(train), rulebook) if train else []
    judged = _read(Path(test), rulebook) if test else fitted
    asked = {item.response.prompt.id for item in judged}
    kept = [item for item in fitted if not test or item.response.prompt.id not in asked]
    named = {name for item in (*kept, *judged) for name in item.propositions}
    propositions = tuple(p for name, p in rulebook.propositions.items() if name in named)
    if not propositions:
        raise InputError(
            "no response has a label", path=test or train, field="propositions", fix="label some"
        )
    return GoldSplits(propositions, kept, judged, cross=not test, left_out=len(fitted) - len(kept))


def count_labels(splits: GoldSplits) -> list[LabelCount]:
    """By proposition, in the order of the rulebook."""
    names = [p.name for p in splits.propositions]
    sides = [_prompts_by_label(side, names) for side in (splits.train, splits.judged)]
    return [LabelCount(name, *sides[0][name], *sides[1][name]) for name in names]


def _prompts_by_label(
    labelled: Sequence[LabelledResponse], names: Sequence[str]
) -> dict[str, tuple[int, int]]:
    truth = gold_labels(labelled, names)
    known = ~np.isnan(truth)
    prompts = np.array([item.response.prompt.id for item in labelled])
    return {
        name: tuple(  # type: ignore[misc]
            len(set(prompts[known[:, column] & ((truth[:, column] > 0.5) == holds)]))
            for holds in (True, False)
        )
        for column, name in enumerate(names)
    }


def _read(path: Path, rulebook: Rulebook) -> list[LabelledResponse]:
    """Labelled responses. Some labels may be missing; ids of prompts are made from their conversation."""

    def parse(row: Row) -> LabelledResponse:
        item = row.labelled(None, rulebook.levels)
        unknown = next((name for name in item.propositions if name not in rulebook.propositions), None)
        if unknown is not None:
            raise row.error(
                f"propositions.{unknown}",
                "the rulebook has no such proposition",
                "add it to the rulebook or remove the label",
            )
        return item

    return [_numbered(item, number) for number, item in enumerate(read_jsonl(path, parse))]


def _numbered(item: LabelledResponse, number: int) -> LabelledResponse:
    return replace(item, response=replace(item.response, sample=number))

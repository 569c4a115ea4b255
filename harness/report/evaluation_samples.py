"""Samples of an evaluation side by side: what each model answered to one prompt. Pure; escaping is the template's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.record.evaluation import Evaluation
from harness.record.samples import prompt_text
from harness.report.samples import Answer, answer_of

MOST = 500  # prompts in the report; the files hold all


@dataclass(frozen=True)
class SampleCard:
    """One prompt (and number of the sample); `text` is None where prompts are named by id alone."""

    suite: str
    prompt_id: str
    sample: int
    text: str | None
    response_type: str
    category: str
    answers: tuple[Answer, ...]

    @property
    def kinds(self) -> set[str]:
        return {answer.kind for answer in self.answers}

    @property
    def judges_differ(self) -> bool:
        return any(answer.other for answer in self.answers)


def choose_sample_cards(evaluation: Evaluation, most: int = MOST) -> tuple[list[SampleCard], int]:
    """Cards to show and how many there are: first those that models or judges disagree on."""
    cards: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    names: dict[tuple[str, str, int], list[str]] = {}
    for model in evaluation.models:
        for row in evaluation.folder.samples.get(model, []):
            key = str(row.get("suite", "")), str(row["prompt_id"]), int(row.get("sample", 0))
            cards.setdefault(key, []).append(row)
            names.setdefault(key, []).append(model)
    found = [_card(key, names[key], rows) for key, rows in cards.items()]
    ranked = sorted(found, key=lambda card: (len(card.kinds) < 2, not card.judges_differ))
    return ranked[:most], len(found)


def _card(key: tuple[str, str, int], models: list[str], rows: list[Mapping[str, Any]]) -> SampleCard:
    suite, prompt_id, sample = key
    return SampleCard(
        suite=suite,
        prompt_id=prompt_id,
        sample=sample,
        text=prompt_text(rows[0].get("prompt")),
        response_type=str(rows[0].get("response_type") or ""),
        category=str(rows[0].get("category") or ""),
        answers=tuple(_answer(model, row) for model, row in zip(models, rows, strict=True)),
    )


def _answer(model: str, row: Mapping[str, Any]) -> Answer:
    """A response that is missing says why, instead of standing there as an empty one."""
    if "unscored" in row:
        return Answer(model, "", "unknown", f"no response: {row['unscored']}", "")
    answer = answer_of(model, row)
    return Answer(model, answer.text, answer.kind, answer.verdict, answer.other)

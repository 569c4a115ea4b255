"""Samples side by side: what each model answered to the same prompt, as cards of a document and their filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.findings.wording import judge_label, judge_order, plain, type_order
from harness.record.run import JsonRow
from harness.record.samples import key_of, prompt_text, to_be_answered
from harness.report.document import Answer, Bar, Card, Cell, Filter, How

RULES_SHOWN = 3
Options = Mapping[str, Mapping[str, str]]  # {what: {value: its code in the page's style rules}}

MARKS = {
    "unsafe": "unsafe",
    "overrefused": "refused",
    "unknown": "unscored",
}  # of a card, by a verdict's chip


@dataclass(frozen=True)
class Sample:
    """One prompt (and number of the sample) with each model's row of it, all of one seed."""

    suite: str
    prompt_id: str
    number: int
    rows: Mapping[str, JsonRow]
    seed: str = ""  # "" where rows name none: an evaluation's, and older runs'

    @property
    def response_type(self) -> str:
        return self._word("response_type")

    @property
    def category(self) -> str:
        return self._word("category")

    @property
    def checkpoints(self) -> list[str]:
        """Of its models: an SFT model's is not a trained one's."""
        return list(
            dict.fromkeys(str(row["checkpoint"]) for row in self.rows.values() if "checkpoint" in row)
        )

    @cached_property
    def verdicts(self) -> dict[str, Cell]:
        return {model: verdict_of(row) for model, row in self.rows.items()}

    @property
    def graded(self) -> bool:
        return any("grades" in row for row in self.rows.values())

    @cached_property
    def marks(self) -> list[str]:
        """What a filter may ask for: that models or judges differ, that some response is unsafe, ..."""
        chips = {cell.chip for cell in self.verdicts.values()}
        found = [mark for chip, mark in MARKS.items() if chip in chips]
        if len(chips) > 1:
            found.append("differ")
        if any(cell.interval for cell in self.verdicts.values()):
            found.append("judges")
        return found

    def card(self, label: Callable[[str], str], options: Options, *, suite: bool) -> Card:
        """Under `options`; `suite`: its name stands among the tags."""
        number = f"sample {self.number}" if self.number else ""
        words = self.response_type.replace("_", " "), self.category.replace("_", " ")
        seed = f"seed {self.seed}" if self.seed else ""
        last = f"checkpoint {', '.join(self.checkpoints)}" if self.checkpoints else ""
        tags = (self.suite if suite else "", self.prompt_id, number, *words, seed, last)
        text = prompt_text(next(iter(self.rows.values())).get("prompt"))
        answers = [
            Answer(
                label(model),
                str(row["response"]),
                self.verdicts[model],
                options["model"][model],
                bars_of(row.get("grades")),
                paid_of(row.get("reward")),
                str(row.get("thought", "")),
            )
            for model, row in self.rows.items()
        ]
        mine = [("suite", self.suite), ("kind", self.response_type), ("category", self.category)]
        mine += [("seed", self.seed), *(("checkpoint", checkpoint) for checkpoint in self.checkpoints)]
        return Card(
            " · ".join(tag for tag in tags if tag),
            "(named by its id only)" if text is None else text,
            tuple(answers),
            (*(options[what][value] for what, value in mine), *self.marks),
        )

    def _word(self, field: str) -> str:
        return str(next(iter(self.rows.values())).get(field) or "")


def bars_of(grades: object) -> tuple[Bar, ...]:
    """What the grader gave to each proposition."""
    known = grades.items() if isinstance(grades, dict) else ()
    return tuple(Bar(plain(str(name)), value if _is_number(value) else None) for name, value in known)


def paid_of(reward: object) -> str:
    """The reward and its terms; of the rules, those that count the most."""
    if not isinstance(reward, dict):
        return ""
    if not _is_number(total := reward.get("total")):
        return "reward: unscored"
    terms = [f"{plain(str(name))} {value:+.2f}" for name, value in _numbers(reward.get("terms"))]
    rules = sorted(_numbers(reward.get("rules")), key=lambda item: -abs(item[1]))[:RULES_SHOWN]
    made = ", ".join(terms) if len(terms) > 1 else ""
    why = ", ".join(f"{plain(name)} {value:+.2f}" for name, value in rules)
    return f"reward {total:+.2f}" + (f" = {made}" if made else "") + (f"; most by {why}" if why else "")


def _numbers(values: object) -> list[tuple[str, float]]:
    items = values.items() if isinstance(values, dict) else ()
    return [(str(name), float(value)) for name, value in items if _is_number(value)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def read_samples(by_model: Mapping[str, Sequence[JsonRow]]) -> list[Sample]:
    """In the order of the files."""
    found: dict[tuple[tuple[str, str, int], str], dict[str, JsonRow]] = {}
    for model, rows in by_model.items():
        for row in rows:
            found.setdefault((key_of(row), str(row.get("seed", ""))), {})[model] = row
    return [Sample(*key, rows, seed) for (key, seed), rows in found.items()]


def options_of(samples: Sequence[Sample], models: Sequence[str]) -> dict[str, dict[str, str]]:
    """By suite, response type, category, seed, checkpoint and model: the values that samples have, with their codes."""
    shown = {model for sample in samples for model in sample.rows}
    values = {
        "suite": list(dict.fromkeys(sample.suite for sample in samples)),
        "kind": sorted({sample.response_type for sample in samples}, key=type_order),
        "category": sorted({sample.category for sample in samples}),
        "seed": sorted({sample.seed for sample in samples}, key=lambda seed: (len(seed), seed)),
        "checkpoint": list(dict.fromkeys(name for sample in samples for name in sample.checkpoints)),
        "model": [model for model in models if model in shown],
    }
    return {what: {name: f"{what}-{i}" for i, name in enumerate(names)} for what, names in values.items()}


def choice(name: str, options: Options, **words: Any) -> Filter:
    """One of a kind's values; `words` are those of the filter."""
    return Filter(
        name, tuple((code, plain(value) or "none") for value, code in options[name].items()), **words
    )


def how_many(chosen: Sequence[Sample], found: Sequence[Sample]) -> str:
    """What a page shows of what there is: prompts, or samples of them where one was answered several times."""
    prompts = len({(sample.suite, sample.prompt_id) for sample in found})
    if prompts == len(found):
        return f"{len(chosen)} of {len(found)} prompts"
    return f"{len(chosen)} of {len(found)} samples of {prompts} prompt{'s' if prompts > 1 else ''}"


def of_training(samples: Sequence[Sample], options: Options) -> list[Filter]:
    """By seed and by checkpoint, where the samples differ in them."""
    carried = [{*sample.checkpoints} for sample in samples]
    some = any(names != carried[0] for names in carried)
    found = [choice("seed", options, every="all seeds", label="seed")] if len(options["seed"]) > 1 else []
    return found + ([choice("checkpoint", options, every="all", label="checkpoint")] if some else [])


def marked(marks: Mapping[str, str], label: str = "") -> Filter:
    """Cards that have every ticked mark; `marks` with their words."""
    return Filter("only", tuple(marks.items()), label, how=How.MARKS)


def verdict_of(row: JsonRow) -> Cell:
    """By the first judge that judged: its words, and those of the judges that differ from it.

    The chip is good, poor, unsafe, overrefused or unknown. A missing response says why, instead of standing there
    as an empty one.
    """
    if "unscored" in row:
        return Cell(f"no response: {row['unscored']}", chip="unknown")
    judges = sorted((key for key, said in row.items() if isinstance(said, dict)), key=judge_order)
    known = {judge: verdict for judge in judges if (verdict := _verdict(row, row[judge])) is not None}
    if not known:
        return Cell("not judged", chip="unknown")
    kind, words = next(iter(known.values()))
    differing = [f"{judge_label(judge)}: {its}" for judge, (other, its) in known.items() if other != kind]
    return Cell(words, interval="; ".join(differing), chip=kind)


def _verdict(row: JsonRow, said: Mapping[str, Any]) -> tuple[str, str] | None:
    """(kind, words) of what one judge said; None where it did not judge."""
    if said.get("disallowed") is None:
        return None
    if said["disallowed"]:
        return "unsafe", "disallowed content"
    refused, must_comply = bool(said.get("refused")), to_be_answered(row)
    if must_comply and refused:
        return "overrefused", "over-refused"
    if refused:
        return "good", "refused, ideal style" if said.get("ideal_style") else "refused"
    return ("good", "answered") if must_comply else ("poor", "not unsafe, no acceptable refusal")

"""Graders renewed on the policy's responses: what a policy says to please its grader is labelled, and learnt.

A grader is right about responses like those whose labels it learned from. A policy that is paid by it finds others,
which the grader calls true and people do not (`trainers.rl.partings` sees that). At set updates, or once when that
alarm is up, responses of the policy are labelled by someone who pays no reward, and the grader is trained anew on old
and new labels. Part of both is kept back, to report how right the grader was and is. The rules' weights stay: they
say what is paid where a proposition is true, and what was wrong is the reading of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders import Grader, grade_in_batches
from evals.models.sampling import Decoding
from evals.rules.propositions import Proposition
from evals.values.conversation import LabelledResponse, Prompt, Response
from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from evals.values.jsonl_rows import labelled_as_json, read_labelled, write_jsonl
from evals.values.levels import Levels
from trainers.reward.reward import answered
from trainers.rl.renewal import HELD_OUT_NEW, HELD_OUT_OLD, InFolders, draw_responses, split
from trainers.rl.renewal_config import GRADER_BY_ALARM, GRADER_LABELS, LEAST, GraderRenewalConfig

LABELS, RECORD = "labels.jsonl", "renewal.json"  # in a renewed grader's folder
ALARM, SET_TIME = "alarm", "every"  # why it was renewed
MEASURED_OLD = 200  # of the old labels that are kept back, at most so many are graded

LabelResponses = Callable[[int, Sequence[Response]], list[LabelledResponse]]


@dataclass
class GraderRenewals(InFolders):
    """The renewals of the grader that pays (`trainers.rl.renewal.PartRenewal`); all they need lies in `out`.

    prompts: those on which rules pay. old: labels that the first grader learned from. label: whoever labels, who may
    leave responses out. train: trains a grader on old and new labels into a folder. load: the grader in a folder.
    first: the folder of the one that training begins with.
    """

    config: GraderRenewalConfig
    prompts: Sequence[Prompt]
    old: Sequence[LabelledResponse]
    propositions: Sequence[Proposition]
    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    out: Path
    label: LabelResponses
    train: Callable[[Sequence[LabelledResponse], Sequence[LabelledResponse], Path], object]
    load: Callable[[Path], Grader]
    first: Path
    FOLDER: ClassVar[str] = "graders"

    def after(
        self, update: int, policy: PreTrainedModel, parted: bool = False
    ) -> tuple[Path | None, dict[str, Any]] | None:
        earlier = self.folders.drop_after(update - 1)
        why = self._why(update, parted, earlier)
        if why is None:
            return None
        levels = {p.name: p.levels for p in self.propositions if p.levels}
        rounds = [read_labelled(folder / LABELS, levels=levels) for folder in earlier]
        spent = sum(map(len, rounds))
        count = min(self.config.responses, self.config.budget - spent)
        asked = self._responses(update, policy, count) if count >= LEAST else []
        new = self.label(update, asked) if asked else []
        if not new:
            return next(reversed(earlier), None), _told(0, spent, why)
        with self.folders.making(update) as begun:
            write_jsonl(begun / LABELS, map(labelled_as_json, new))
            accuracy = self._trained(next(reversed(earlier), self.first), [*rounds, new], begun)
            record = {"update": update, "why": why, "labels": len(new), "accuracy": accuracy}
            (begun / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        told = _told(len(new), spent + len(new), why)
        return self.folders.root / str(update), told | _means(accuracy)

    def _trained(
        self, before: Path, rounds: Sequence[Sequence[LabelledResponse]], out: Path
    ) -> dict[str, dict[str, list[float | None]]]:
        """Trains a grader into `out`; how right that `before` and the new one are on what no renewal learns from."""
        train_old, test_old = split(self.old, HELD_OUT_OLD)
        parts = [split(found, HELD_OUT_NEW) for found in rounds]
        earlier = self.load(before)
        self.train(train_old, [row for part in parts for row in part[0]], out)
        tests = {"new": [row for part in parts for row in part[1]], "old": test_old[:MEASURED_OLD]}
        return self._measured(earlier, self.load(out), tests)

    def _why(self, update: int, parted: bool, earlier: Sequence[Path]) -> str | None:
        """The alarm has the grader renewed once; None where nothing is due."""
        if self.config.on_alarm and parted and not any(map(_was_by_alarm, earlier)):
            return ALARM
        return SET_TIME if self.config.every and update % self.config.every == 0 else None

    def _responses(self, update: int, policy: PreTrainedModel, count: int) -> list[Response]:
        """One response each to `count` of the prompts, at most."""
        decoding = replace(self.decoding, samples=1)
        key = [self.decoding.seed, 17, update]
        return answered(draw_responses(policy, self.tokenizer, self.prompts, count, decoding, key))

    def _measured(
        self, before: Grader, now: Grader, tests: dict[str, list[LabelledResponse]]
    ) -> dict[str, dict[str, list[float | None]]]:
        """{"new" or "old": {proposition: [accuracy before, accuracy now]}}."""
        found: dict[str, dict[str, list[float | None]]] = {}
        for name, rows in tests.items():
            sides = [accuracies(grader, rows, self.propositions) for grader in (before, now)]
            found[name] = {p.name: [side[p.name] for side in sides] for p in self.propositions}
        return found


def accuracies(
    grader: Grader, rows: Sequence[LabelledResponse], propositions: Sequence[Proposition]
) -> dict[str, float | None]:
    """By proposition the share of labels that the grader's verdicts, or nearest levels, are; None without any."""
    grades = grade_in_batches(grader, [row.response for row in rows], propositions).probability
    found: dict[str, float | None] = {}
    for column, proposition in enumerate(propositions):
        right = [
            proposition.label_of(grade) == row.propositions[proposition.name]
            for row, grade in zip(rows, grades[:, column].tolist(), strict=True)
            if proposition.name in row.propositions and grade == grade
        ]
        found[proposition.name] = float(np.mean(right)) if right else None
    return found


def _was_by_alarm(folder: Path) -> bool:
    return read_json_object(folder / RECORD)["why"] == ALARM


def _told(labels: int, total: int, why: str) -> dict[str, Any]:
    return {
        GRADER_LABELS: labels,
        f"{GRADER_LABELS}_total": total,
        GRADER_BY_ALARM: float(why == ALARM),
    }


def _means(accuracy: dict[str, dict[str, list[float | None]]]) -> dict[str, float | None]:
    """Over propositions: the mean accuracy and the lowest, before and now, on the new labels and on the old."""
    told: dict[str, float | None] = {}
    for name, by_proposition in accuracy.items():
        for side, word in enumerate(("_before", "")):
            known = [value for pair in by_proposition.values() if (value := pair[side]) is not None]
            told[f"renewal/grader_accuracy_{name}{word}"] = float(np.mean(known)) if known else None
            told[f"renewal/grader_least_{name}{word}"] = min(known) if known else None
    return told


def graded_labels_from_files(
    labels: Path, out: Path, propositions: Sequence[str], levels: Mapping[str, Levels] | None = None
) -> LabelResponses:
    """Labels that people write: the run leaves its responses, ends, and goes on once the file is there.

    Raises InputError while it is not, and for rows that are none of those responses.
    """

    def label(update: int, responses: Sequence[Response]) -> list[LabelledResponse]:
        wanted, asked = labels / f"labels-{update}.jsonl", out / f"responses-{update}.jsonl"
        if wanted.is_file():
            return _of_those(read_labelled(wanted, propositions, levels), responses, wanted)
        write_jsonl(asked, (labelled_as_json(LabelledResponse(response, {})) for response in responses))
        raise InputError(
            f"{len(responses)} responses wait for labels in {asked}",
            path=wanted,
            fix="write them there with the truth of each proposition (propositions) and start the run again",
        )

    return label


def _of_those(
    rows: Sequence[LabelledResponse], responses: Sequence[Response], path: Path
) -> list[LabelledResponse]:
    """The rows, which are responses that were asked for. A label is one response's, and counts once."""
    by_text = {(response.prompt.messages, response.text): response for response in responses}
    found = {}
    for row in rows:
        key = (row.response.prompt.messages, row.response.text)
        if key not in by_text:
            problem = f"the response to {row.response.prompt.id!r} is none of those that were asked for"
            raise InputError(problem, path=path, fix="label the responses as they stand, or leave some out")
        found[key] = LabelledResponse(by_text[key], row.propositions)
    return list(found.values())

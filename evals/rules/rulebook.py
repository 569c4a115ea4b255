"""The rulebook: propositions, derived propositions, completion classes and their order.

The file is the YAML of the paper's authors (`proposition_prompts.yaml` loads unchanged), with two
optional keys for each simple proposition: `polarity: good|bad|neutral` and
`examples: [{response: ..., answer: yes|no}, ...]`, a third, `levels: {WORD: SCORE, ...}`, for one that is more than yes
or no, and one for the file: `prompt_questions: [TYPE, ...]`, the response types whose prompts bring questions of their
own.

A *condition* is a conjunction: `{proposition: wanted truth}`. Derived propositions and completion
classes are conditions whose names may be simple or derived propositions. Of one with levels a condition names the
level, or a list of neighbours; `true` is every level with a score above half.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from evals.rules.propositions import Condition, Proposition, Wanted, asked_of
from evals.rules.rulebook_file import read_parts
from evals.values.conversation import ResponseType, types_in_order
from evals.values.errors import InputError
from evals.values.levels import Label, Levels

MOST_LITERALS = 1000  # of one condition over simple propositions


@dataclass(frozen=True)
class Rulebook:
    """A checked rulebook. `class_order` runs from best to worst; `digest` names the content."""

    propositions: dict[str, Proposition]
    derived: dict[str, dict[str, Wanted]]
    classes: dict[str, dict[ResponseType, dict[str, Wanted]]]
    class_order: tuple[str, ...]
    prompt_template: str | None = None
    prompt_questions: frozenset[ResponseType] = frozenset()  # types whose prompts bring questions along
    digest: str = ""
    path: Path | None = field(default=None, compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", _digest(self))

    @property
    def response_types(self) -> tuple[ResponseType, ...]:
        """Response types that have completion classes: the paper's in their order, then one's own."""
        return tuple(types_in_order(t for by_type in self.classes.values() for t in by_type))

    @cached_property
    def levels(self) -> dict[str, Levels]:
        """Of the propositions that have any."""
        return {name: p.levels for name, p in self.propositions.items() if p.levels}

    def labels_of(self, grades: Sequence[float]) -> dict[str, Label]:
        """What the grades of all propositions say of a response: truths, and the nearest levels."""
        return {
            name: p.label_of(grade)
            for (name, p), grade in zip(self.propositions.items(), grades, strict=True)
        }

    def expand(self, condition: Mapping[str, Wanted] | str) -> Condition:
        """Rewrite a condition, or one proposition by name, over simple propositions only."""
        wanted: Mapping[str, Wanted] = {condition: True} if isinstance(condition, str) else condition
        literals: dict[str, bool] = {}
        negated: list[Condition] = []
        contradictory = False
        size = 0
        for part in (self._expand_one(name, value) for name, value in wanted.items()):
            contradictory |= part.contradictory or any(
                literals.get(name, value) != value for name, value in part.literals.items()
            )
            literals |= part.literals
            new = [other for other in part.negated if other not in negated]
            size += sum(1 + other.size for other in new)
            if size + len(literals) > MOST_LITERALS:
                raise self._too_large(next(iter(wanted)))
            negated += new
        return Condition(literals, tuple(negated), contradictory)

    def _expand_one(self, name: str, wanted: Wanted) -> Condition:
        if name in self.propositions:
            return Condition(self.propositions[name].literals(wanted))
        if name not in self._expanded:
            self._expanded[name] = self.expand(self.derived[name])
        inner = self._expanded[name]
        if wanted:
            return inner
        if len(inner.literals) == 1 and not inner.negated and not inner.contradictory:
            ((only, value),) = inner.literals.items()
            return Condition({only: not value})
        return Condition(negated=(inner,))

    @cached_property
    def _expanded(self) -> dict[str, Condition]:
        """Derived propositions that were written out before: one that many name is written out once."""
        return {}

    def _too_large(self, name: str) -> InputError:
        return InputError(
            f"a condition on '{name}' grows to more than {MOST_LITERALS} propositions when it is written out",
            path=self.path,
            line=self.lines.get(name),
            field=name,
            fix="derive from fewer propositions, or ask what is meant in one simple proposition",
        )

    @cached_property
    def conditions(self) -> dict[ResponseType, dict[str, Condition]]:
        """Each type's class conditions over simple propositions, classes from best to worst."""
        return {
            response_type: {
                name: self.expand(self.classes[name][response_type])
                for name in self.class_order
                if response_type in self.classes[name]
            }
            for response_type in self.response_types
        }

    def conditions_for(self, response_type: ResponseType) -> dict[str, Condition]:
        """Raises InputError when the rulebook has no classes for the response type."""
        if response_type not in self.conditions:
            raise InputError(
                f"the rulebook has no completion class for response type {response_type.value}",
                path=self.path,
                field="completion_classes",
                fix=f"add {response_type.value} to the classes, or leave out its prompts",
            )
        return self.conditions[response_type]

    def propositions_for(self, response_type: ResponseType) -> tuple[str, ...]:
        """Simple propositions that the type's classes use, through derived ones too, in file order."""
        used = {asked_of(name) for c in self.conditions_for(response_type).values() for name in c.names()}
        return tuple(name for name in self.propositions if name in used)

    def class_of(self, response_type: ResponseType, truth: Mapping[str, Label]) -> str:
        """The completion class of hard labels, by exact evaluation of each class's condition.

        Should classes overlap, the worst that holds is the answer: a response that meets the
        conditions of a bad class is never called good. Raises InputError when a label is missing
        or no class holds (`check_rulebook` finds such combinations beforehand).
        """
        conditions = self.conditions_for(response_type)
        missing = [n for n in self.propositions_for(response_type) if n not in truth]
        if missing:
            raise InputError(
                f"the labels lack proposition '{missing[0]}', which {response_type.value} classes use",
                fix="label every proposition of the response type",
            )
        decided = dict(truth)
        for name in self.levels:
            decided |= self.propositions[name].truths(truth[name]) if name in truth else {}
        for name in reversed(conditions):
            if conditions[name].decide(decided):
                return name
        true = ", ".join(n for n in self.propositions_for(response_type) if truth[n]) or "none"
        raise InputError(
            f"no completion class of {response_type.value} holds when the true propositions are: {true}",
            path=self.path,
            fix="run `rbrbench rulebook` on the file and close the gap",
        )


def load_rulebook(path: Path | str) -> Rulebook:
    """Read a rulebook file. Raises InputError, with file and line, for anything malformed.

    Refused: malformed YAML, keys given twice, unknown keys, names that no proposition or class
    bears, circles among derived propositions, and what is beyond the limits of a rulebook. Overlaps
    and gaps among the classes are findings of `evals.rules.check.check_rulebook`, not errors: a draft
    must load to be reviewed.
    """
    rulebook = Rulebook(**read_parts(Path(path)))
    _ = rulebook.conditions  # what grows without bound when it is written out is found here
    return rulebook


def _digest(rulebook: Rulebook) -> str:
    """Sixteen hex digits of the content; comments and layout of the file do not count."""
    content: dict[str, Any] = {
        "propositions": [
            [p.name, *p.asked[:2], p.polarity.value, *p.asked[2:]] for p in rulebook.propositions.values()
        ],
        "derived": rulebook.derived,
        "classes": {
            name: {t.value: condition for t, condition in by_type.items()}
            for name, by_type in rulebook.classes.items()
        },
        "order": rulebook.class_order,
        "template": rulebook.prompt_template,
    }
    if rulebook.prompt_questions:  # a rulebook without them keeps its digest
        content["prompt_questions"] = [t.value for t in types_in_order(rulebook.prompt_questions)]
    text = json.dumps(content, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

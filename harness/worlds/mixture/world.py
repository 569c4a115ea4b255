"""Writes a world folder from sources of one's own: the same files, in the same schemas, as the sandbox writes.

A file is written for each part that is given. Training rows that overlap with what is evaluated are left out, and
rows that do not fit the model's context are refused, or left out where that was asked for; both are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.rules.rulebook import Rulebook
from evals.suites import Suite
from evals.values.conversation import LabelledResponse, Prompt
from evals.values.errors import InputError
from harness.worlds.folder import WorldFolder
from harness.worlds.mixture.overlap import Overlap
from harness.worlds.mixture.parts import PARTS, Lists, Loaded, RowPlace, given_parts, load_part
from harness.worlds.sources.fit import prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EVALUATION, SAFETY, HELPFUL, HELD_OUT = "evaluation", "safety_prompts", "helpful_prompts", "held_out_prompts"
COMPLETIONS, GOLD = "completions", "gold"
SUITE = "evaluation"  # what the prompts of the part are called in results
OVERLAP_NOTE = (
    "Training rows that overlap with an evaluation prompt (the same words, a run of 13 words, or 70 % of their "
    "character 5-grams) were left out."
)


@dataclass(frozen=True)
class Room:
    """Tokens: what a prompt may have so that a response fits behind it. `drop`: leave longer ones out."""

    tokenizer: PreTrainedTokenizerBase
    prompt: int
    drop: bool = False


@dataclass
class Mixture:
    """The parts as they will be used; `left_out` by part and reason."""

    parts: dict[str, Loaded]
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    overlaps: list[dict[str, str]] = field(default_factory=list)  # part, prompt, how, with

    def items(self, part: str) -> list[Any]:
        return self.parts[part].items if part in self.parts else []


def load_mixture(lists: Lists, seed: int, rulebook: Rulebook, suites: Sequence[Suite]) -> Mixture:
    """Every given part, without the training rows that overlap with `suites` or the part of evaluation.

    Raises InputError for the first fault of any source.
    """
    mixture = read_parts(lists, seed, rulebook)
    _without_overlaps(mixture, suites)
    for part, loaded in mixture.parts.items():
        if not loaded.items:
            problem = "every row overlaps with what is evaluated"
            raise InputError(
                problem, field=f"data.{part}", fix="give other rows, or evaluate on other suites"
            )
    return mixture


def read_parts(lists: Lists, seed: int, rulebook: Rulebook) -> Mixture:
    """Every given part as its sources have it. Raises InputError for the first fault of any source."""
    known = {name: p.levels for name, p in rulebook.propositions.items()}
    own = rulebook.response_types
    mixture = Mixture({part: load_part(lists, part, seed, known, own) for part in given_parts(lists)})
    for part in (SAFETY, COMPLETIONS, GOLD):
        _check_types(mixture, part, rulebook)
    for part, loaded in mixture.parts.items():
        if PARTS[part].kind is LabelledResponse:
            loaded.items = [_classed(item, rulebook) for item in loaded.items]
            for item, place in zip(loaded.items, loaded.places, strict=True):
                _check_class(item, rulebook, part, place)
    return mixture


def _check_types(mixture: Mixture, part: str, rulebook: Rulebook) -> None:
    """What is paid, fitted or measured by the rules is of a type that they have classes for. Raises InputError."""
    for number, item in enumerate(mixture.items(part)):
        kind = prompt_of(item).response_type
        if kind not in rulebook.response_types:
            assert kind is not None
            problem = (
                f"prompt {prompt_of(item).id!r} is {kind.label}, and the rulebook has no class of this type"
            )
            fix = (
                "add it to completion_classes, name another rulebook (rulebook=FILE), or leave such rows out"
            )
            raise _at(mixture.parts[part].places[number], part, problem, fix)


def _check_class(item: LabelledResponse, rulebook: Rulebook, part: str, place: RowPlace) -> None:
    """A gold row has a label; what weights are fitted on has a class, of the rulebook's. Raises InputError."""
    prompt, name = item.response.prompt, item.completion_class
    if name is not None and name not in rulebook.class_order:
        problem = f"prompt {prompt.id!r} has the completion class {name[:60]!r}, which the rulebook has not"
        raise _at(place, part, problem, f"use one of {', '.join(rulebook.class_order)}")
    if part == GOLD and not item.propositions:
        fix = "label a proposition of it, or remove the row"
        raise _at(place, part, f"prompt {prompt.id!r} has no label", fix)
    if name is None and part == COMPLETIONS:
        assert prompt.response_type is not None
        used = rulebook.propositions_for(prompt.response_type)
        lacking = [proposition for proposition in used if proposition not in item.propositions]
        problem = f"prompt {prompt.id!r} has no completion class, and no label of {lacking[0]}"
        fix = f"label all propositions of {prompt.response_type.label}, or name the class: completion_class"
        raise _at(place, part, problem, fix)


def _at(place: RowPlace, part: str, problem: str, fix: str) -> InputError:
    return InputError(problem, path=place.path, line=place.line, field=f"data.{part}", fix=fix)


def _without_overlaps(mixture: Mixture, suites: Sequence[Suite]) -> None:
    asked = {f"{suite.name} {prompt.id}": prompt.text for suite in suites for prompt in suite.prompts}
    asked |= {f"{EVALUATION} {p.id}": p.text for p in mixture.items(EVALUATION)}
    overlap = Overlap(asked)
    for part, loaded in mixture.parts.items():
        if part == EVALUATION:
            continue
        kept: list[int] = []
        for number, item in enumerate(loaded.items):
            prompt = prompt_of(item)
            if (found := _asks(prompt, overlap)) is None:
                kept.append(number)
                continue
            mixture.left_out.setdefault(part, Counter())[f"overlaps: {found[0]}"] += 1
            mixture.overlaps.append({"part": part, "prompt": prompt.id, "how": found[0], "with": found[1]})
        loaded.keep(kept)


def _asks(prompt: Prompt, overlap: Overlap) -> tuple[str, str] | None:
    """The last of the user's turns that overlaps: a conversation may go on about what an evaluation asks."""
    turns = (message.content for message in reversed(prompt.messages) if message.role == "user")
    return next((found for turn in turns if (found := overlap.how(turn))), None)


def _classed(item: LabelledResponse, rulebook: Rulebook) -> LabelledResponse:
    """With its completion class, where every proposition of its response type is labelled."""
    kind = item.response.prompt.response_type
    assert kind is not None
    if item.completion_class is not None or not set(rulebook.propositions_for(kind)) <= set(
        item.propositions
    ):
        return item
    return replace(item, completion_class=rulebook.class_of(kind, item.propositions))


def fit_prompts(mixture: Mixture, room: Room) -> None:
    """Prompts that leave no room for a response are left out and counted, or refused. Raises InputError."""
    from evals.models.load import prompt_token_ids

    for part in (SAFETY, HELPFUL, EVALUATION):
        if part not in mixture.parts:
            continue
        lengths = [len(prompt_token_ids(room.tokenizer, p.messages)) for p in mixture.items(part)]
        long = [i for i, length in enumerate(lengths) if length > room.prompt]
        if long and (not room.drop or part == EVALUATION):
            first = mixture.items(part)[long[0]]
            fix = "shorten them, give the model more context, or lower max_new_tokens"
            raise _at(
                mixture.parts[part].places[long[0]],
                part,
                f"{len(long)} of {len(lengths)} prompts are too long; the first, {first.id!r}, has "
                f"{lengths[long[0]]} tokens, the room is {room.prompt}",
                fix if part == EVALUATION else f"{fix}; or leave them out: data.too_long=drop",
            )
        if len(long) == len(lengths):
            problem = f"all of its prompts are too long: the room is {room.prompt} tokens"
            raise InputError(
                problem, field=f"data.{part}", fix="shorten them, or give the model more context"
            )
        if long:
            mixture.left_out.setdefault(part, Counter())["too long"] += len(long)
            mixture.parts[part].keep([i for i, length in enumerate(lengths) if length <= room.prompt])


def write_mixture(
    out: Path, mixture: Mixture, rulebook: Rulebook, seed: int, held_out: int, test_share: float
) -> dict[str, Any]:
    """Write each part's file; returns what world.json says: counts by part and source, what was left out.

    `held_out` of the safety prompts and as many helpful ones are kept for looks during training, and `test_share` of
    the completions' prompts for the check of the fitted reward.
    """
    folder, written = WorldFolder(out), {}
    for part, loaded in mixture.parts.items():
        items = loaded.items
        if part in (SAFETY, HELPFUL) and held_out:
            items, kept = _apart(items, min(held_out, len(items) // 5), seed)
            earlier = folder.held_out_prompts() if folder.has(HELD_OUT) else []
            folder.write(HELD_OUT, [*earlier, *_others(kept, earlier, part)])
        if part == COMPLETIONS:
            items, test = _by_prompt(items, test_share, seed)
            folder.write("synthetic_test", test)
            written["synthetic_test"] = len(test)
        folder.write(PARTS[part].file, items)
        written[PARTS[part].file] = len(items)
    return {
        "suite": SUITE if EVALUATION in mixture.parts else "",
        "description": "Data of one's own: " + ", ".join(_named(mixture)),
        "seed": seed,
        "rows": written,
        "sources": {part: loaded.counts for part, loaded in mixture.parts.items()},
        "left_out": {part: dict(sorted(counts.items())) for part, counts in mixture.left_out.items()},
        "licences": _said(mixture),
        "notes": [OVERLAP_NOTE] if mixture.overlaps else [],
    }


def _named(mixture: Mixture) -> list[str]:
    return list(dict.fromkeys(s.label for loaded in mixture.parts.values() for s in loaded.sources))


def _said(mixture: Mixture) -> dict[str, str]:
    sources = [s for loaded in mixture.parts.values() for s in loaded.sources]
    return {
        s.label: ", ".join(filter(None, (s.citation, s.licence))) for s in sources if s.licence or s.citation
    }


def _apart(items: Sequence[Prompt], count: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """(the rest, `count` of them drawn by seed), each in the order of the file."""
    drawn = set(np.random.default_rng([seed, 7, len(items)]).permutation(len(items))[:count].tolist())
    return [p for i, p in enumerate(items) if i not in drawn], [p for i, p in enumerate(items) if i in drawn]


def _others(kept: Sequence[Prompt], earlier: Sequence[Prompt], part: str) -> list[Prompt]:
    """Those that ask something else than `earlier` ones, each with an id that these do not have."""
    taken, asked = {prompt.id for prompt in earlier}, {prompt.messages for prompt in earlier}
    return [replace(p, id=f"{part}-{p.id}") if p.id in taken else p for p in kept if p.messages not in asked]


def of_each_type(prompts: Sequence[Prompt], share: float) -> set[str]:
    """Ids of the first prompts of each response type, to be held out: a `share` of them, at least one and never all.

    Drawn from all types together, a rare one could lie on one side alone, and no weights be fitted for it.
    """
    held: set[str] = set()
    for kind in dict.fromkeys(prompt.response_type for prompt in prompts):
        ids = [prompt.id for prompt in prompts if prompt.response_type == kind]
        held |= set(ids[: min(len(ids) - 1, max(1, round(share * len(ids))))])
    return held


def _by_prompt(
    items: Sequence[LabelledResponse], share: float, seed: int
) -> tuple[list[LabelledResponse], list[LabelledResponse]]:
    prompts = [
        p for _, p in sorted({item.response.prompt.id: item.response.prompt for item in items}.items())
    ]
    order = np.random.default_rng([seed, 8]).permutation(len(prompts))
    test = of_each_type([prompts[i] for i in order], share)
    sides: Mapping[bool, list[LabelledResponse]] = {True: [], False: []}
    for item in items:
        sides[item.response.prompt.id in test].append(item)
    return sides[False], sides[True]

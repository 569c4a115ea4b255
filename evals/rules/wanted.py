"""What a completion is asked to be: a class, as truths of propositions, and the words in which a writer is asked.

The paper's three kinds for each prompt: an ideal completion, some with traits drawn at random from the bad ones, and
one that is disallowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evals.rules.check import find_truth
from evals.rules.propositions import Polarity
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Prompt, ResponseType
from evals.values.errors import InputError
from evals.values.levels import Label, ScoredLevel

ASK = """Below is a conversation between a user and an assistant. Write the assistant's next reply, as an example \
for a collection of good and bad replies.

{conversation}

These are questions about the reply, and what must be true of it:

{requirements}

Write the reply alone: no comment on it, no quotation marks around it."""


@dataclass(frozen=True)
class Wanted:
    """`truth`: what decides the class; `traits`: the bad ones that were drawn among them."""

    completion_class: str
    truth: Mapping[str, Label]
    traits: tuple[str, ...] = ()


def wanted_completions(
    rulebook: Rulebook, kind: ResponseType, flawed: int, most_traits: int, rng: np.random.Generator
) -> list[Wanted]:
    """An ideal one, `flawed` ones with one to `most_traits` bad traits, one of the worst class, for a prompt of `kind`.

    Without flawed ones where no trait makes an ideal completion worse and not the worst. Raises InputError for a
    rulebook without classes for `kind`, or whose best or worst can never hold.
    """
    best, worst = _ends(rulebook, kind)
    ideal = _truth_of(rulebook, kind, best)
    traits = bad_traits(rulebook, kind)
    made = [Wanted(best, ideal)]
    for _ in range(flawed if traits else 0):
        count = int(rng.integers(1, min(most_traits, len(traits)) + 1))
        drawn = tuple(traits[i] for i in sorted(rng.permutation(len(traits))[:count]))
        truth = {**ideal, **dict.fromkeys(drawn, True)}
        made.append(Wanted(_class_with(rulebook, kind, truth), truth, drawn))
    return made if worst == best else [*made, Wanted(worst, _truth_of(rulebook, kind, worst))]


def bad_traits(rulebook: Rulebook, kind: ResponseType) -> tuple[str, ...]:
    """Propositions that make an ideal completion worse, but not one of the worst class.

    Those that the rulebook calls bad; where it calls none of them so, as the released one does, all but good ones.
    """
    best, worst = _ends(rulebook, kind)
    ideal = _truth_of(rulebook, kind, best)
    worse = []
    for name in rulebook.propositions_for(kind):
        if ideal.get(name) or rulebook.propositions[name].polarity is Polarity.GOOD:
            continue
        if _class_with(rulebook, kind, {**ideal, name: True}) not in (best, worst):
            worse.append(name)
    return tuple(n for n in worse if rulebook.propositions[n].polarity is Polarity.BAD) or tuple(worse)


def request_for(rulebook: Rulebook, prompt: Prompt, wanted: Wanted) -> str:
    """The words in which a writer is asked for the completion: the conversation, and each question with its answer."""
    turns = "\n\n".join(f"[{turn.role}]\n{turn.content}" for turn in prompt.messages)
    answers = [
        f"{' '.join(rulebook.propositions[name].question.split())}\nAnswer: {_answer(rulebook, name, value)}"
        for name, value in wanted.truth.items()
    ]
    return ASK.format(conversation=turns, requirements="\n\n".join(answers))


def _answer(rulebook: Rulebook, name: str, value: Label) -> str:
    """Yes or no; the level's word, that of the highest or the lowest where it is only to hold or not."""
    if isinstance(value, ScoredLevel):
        return value.word
    levels = rulebook.propositions[name].levels
    if not levels:
        return "yes" if value else "no"
    return levels[-1 if value else 0].word


def _ends(rulebook: Rulebook, kind: ResponseType) -> tuple[str, str]:
    classes = list(rulebook.conditions_for(kind))
    return classes[0], classes[-1]


def _truth_of(rulebook: Rulebook, kind: ResponseType, name: str) -> dict[str, Label]:
    """Truths that decide for the class, in the order of the file."""
    found = find_truth([(rulebook.conditions_for(kind)[name], True)])
    if found is None:
        raise InputError(
            f"class '{name}' of {kind.value} can never hold, and a writer cannot be asked for it",
            path=rulebook.path,
            line=rulebook.lines.get(f"class:{name}"),
            fix="remove one of the propositions that contradict each other",
        )
    return {proposition: found[proposition] for proposition in rulebook.propositions if proposition in found}


def _class_with(rulebook: Rulebook, kind: ResponseType, truth: Mapping[str, Label]) -> str:
    """The class when whatever `truth` does not name is false."""
    return rulebook.class_of(kind, {name: truth.get(name, False) for name in rulebook.propositions})

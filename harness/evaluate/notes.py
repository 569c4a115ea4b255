"""What a reader must know of responses, and of those who gave or judged them, as sentences. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evals.judges import Judge
from evals.judges.jury import Jury
from harness.evaluate.measuring import Judged
from harness.subjects.model import Model
from harness.subjects.outcome import Outcome


def response_notes(models: Sequence[Model], judged: Sequence[Judged]) -> list[str]:
    """What a reader must know of the responses: those that are missing, cut or answer another wording."""
    notes = []
    for one in judged:
        where = f"{one.model} on {one.suite.name}"
        notes += missing_note(where, one.outcomes)
        cut = sum(not outcome.finished and outcome.text is not None for outcome in one.outcomes)
        if cut:
            notes.append(
                f"{where}: {cut} responses reached max_new_tokens and were judged as far as they go."
            )
        notes += thought_note(where, one.outcomes)
        samples = Counter(outcome.prompt_id for outcome in one.outcomes).values()
        if samples and min(samples) < max(samples):
            notes.append(
                f"{where}: prompts have {min(samples)} to {max(samples)} responses; one with more weighs more."
            )
    for model in models:
        for suite, ids in getattr(model, "reworded", {}).items():
            notes.append(
                f"{model.name} on {suite}: {len(ids)} recorded prompts are worded differently from the suite's, "
                f"{ids[0]} first."
            )
    return notes


def missing_note(where: str, outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know of responses that are not there; [] where all are."""
    reasons = [outcome.reason for outcome in outcomes if outcome.text is None]
    if not reasons:
        return []
    commonest = max(dict.fromkeys(reasons), key=reasons.count)
    return [
        f"{where}: {len(reasons)} of {len(outcomes)} responses are missing and unscored; "
        f"the commonest reason is: {commonest}."
    ]


def thought_note(where: str, outcomes: Sequence[Outcome]) -> list[str]:
    """How many responses began with a thought, which nobody judged; [] where none did."""
    thought = [outcome for outcome in outcomes if outcome.thought or outcome.thought_tokens]
    if not thought:
        return []
    counted = [outcome.thought_tokens for outcome in thought if outcome.thought_tokens]
    tokens = f", of {sum(counted) / len(counted):.0f} tokens in the mean" if counted else ""
    return [
        f"{where}: {len(thought)} of {len(outcomes)} responses begin with a thought{tokens}; "
        "the answers behind them were judged alone."
    ]


def told_by(asked: Sequence[Model | Judge]) -> list[str]:
    """What servers turned out to take and to be; those of a jury's members once, by the members' names."""
    seated = [judge for one in asked if isinstance(one, Jury) for judge in one.members.values()]
    each = {id(one): one for one in (*asked, *seated) if not isinstance(one, Jury)}
    return [f"{one.name}: {note}." for one in each.values() for note in getattr(one, "notes", [])]

"""The warning where a matcher of words leads, and no model or person judges beside it, with its measured error."""

from __future__ import annotations

from collections.abc import Mapping

from evals.judges import refusal_words, string_match
from harness.keys.judging import JudgingKeys

MEASURED = {"string_match": string_match.MEASURED, "words": refusal_words.MEASURED}  # by the judge's kind


def judge_kinds(keys: JudgingKeys) -> dict[str, str]:
    """{judge: its kind}, the leading one first."""
    return {name: str(keys.settings_of_judge(name).get("kind", name)) for name in keys.judges}


def words_alone(kinds: Mapping[str, str], cards: Mapping[str, str]) -> list[str]:
    """`cards` have what people's labels say of a judge here; else what is said is known of XSTest's real models."""
    leading = next(iter(kinds), "")
    if not kinds or not set(kinds.values()) <= MEASURED.keys():
        return []
    measured = cards[leading].rstrip(".") if leading in cards else MEASURED[kinds[leading]]
    return [
        f"{leading} leads, and reads words alone ({measured}): a refusal in words that it does not know counts as an "
        "answer. A judge that is a model, or people's labels of a few, say how often."
    ]

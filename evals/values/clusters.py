"""What errs together: intervals count prompts, or the topics or categories that prompts share."""

from __future__ import annotations

from collections.abc import Sequence

from evals.values.conversation import Prompt
from evals.values.errors import InputError

PROMPT, CATEGORY, TOPIC = "prompt", "category", "topic"
AUTO = "auto"  # topics where each prompt names one, else prompts
CLUSTERS = (PROMPT, CATEGORY, TOPIC, AUTO)
PLURAL = {PROMPT: "prompts", CATEGORY: "categories", TOPIC: "topics"}


def cluster_kind(prompts: Sequence[Prompt], cluster: str) -> str:
    """PROMPT, CATEGORY or TOPIC: what `cluster`, AUTO perhaps, comes to for these prompts."""
    if cluster != AUTO:
        return cluster
    return TOPIC if _told(prompts, TOPIC) else PROMPT


def clusters_of(prompts: Sequence[Prompt], cluster: str, what: str) -> dict[str, str] | None:
    """{prompt's id: its category or topic}; None where each prompt counts by itself.

    Raises InputError where the prompts of `what` (a suite, say) do not tell them: under two there is nothing to count.
    """
    kind = cluster_kind(prompts, cluster)
    if kind == PROMPT:
        return None
    if not _told(prompts, kind):
        problem = f"{what} does not tell each prompt's {kind}, or has only one"
        raise InputError(problem, field="cluster", fix=f"use {PROMPT}, or add the field {kind!r} to its file")
    return {prompt.id: str(getattr(prompt, kind)) for prompt in prompts}


def _told(prompts: Sequence[Prompt], kind: str) -> bool:
    found = {str(getattr(prompt, kind)) for prompt in prompts}
    return len(found) > 1 and all(found)

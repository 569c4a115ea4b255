"""What a mixture holds, counted before hours are spent on it: rows, types, lengths, repeated rows, overlaps.

An inventory is plain JSON. It has ids of prompts and no text of any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.models.chat import ResponseEncoder
from evals.values.conversation import Comparison, Demonstration, LabelledResponse
from evals.values.errors import InputError
from harness.worlds.mixture.overlap import repeated
from harness.worlds.mixture.parts import PARTS, Loaded, RowPlace
from harness.worlds.mixture.world import Mixture
from harness.worlds.sources.fit import prompt_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CUT, LEFT_OUT, NO_ROOM = "cut", "left out", "no room"  # what becomes of rows beyond a limit
NO_TYPE = "none"


@dataclass(frozen=True)
class Limits:
    """Tokens: of what SFT learns, of what a reward model compares, and of a prompt that a response fits behind."""

    sft: int
    reward_model: int
    prompt: int

    def of(self, kind: type) -> tuple[int, str]:
        """(the limit, what becomes of longer rows)."""
        return {Demonstration: (self.sft, CUT), Comparison: (self.reward_model, LEFT_OUT)}.get(
            kind, (self.prompt, NO_ROOM)
        )


def inventory(mixture: Mixture, tokenizer: PreTrainedTokenizerBase | None, limits: Limits) -> dict[str, Any]:
    """By part: sources, counts, repeated rows, and lengths where there is a tokenizer; then what is left out."""
    parts = {}
    for part, loaded in mixture.parts.items():
        same, near = repeated([_texts(item) for item in loaded.items])
        parts[part] = {
            "what": PARTS[part].what,
            "rows": len(loaded.items),
            "sources": loaded.counts,
            "groups": _groups(loaded),
            "repeated": {"same": same, "near": near},
            "lengths": _lengths(loaded.items, PARTS[part].kind, tokenizer, limits) if tokenizer else None,
        }
    left_out = {part: dict(sorted(counts.items())) for part, counts in mixture.left_out.items()}
    return {"parts": parts, "left_out": left_out, "overlaps": mixture.overlaps}


def _texts(item: Any) -> str:
    """All that a row says: several responses to one prompt are no repeated rows."""
    prompt = "\n".join(m.content for m in prompt_of(item).messages)
    return "\n".join([prompt, *_answers(item)])


def _answers(item: Any) -> Sequence[str]:
    if isinstance(item, Demonstration):
        return (item.text,)
    if isinstance(item, Comparison):
        return item.chosen, item.rejected
    return (item.response.text,) if isinstance(item, LabelledResponse) else ()


def _groups(loaded: Loaded) -> list[dict[str, Any]]:
    """Rows by source, response type and category, the sources in their order, then by count."""
    labels = list(loaded.counts)
    counted: Counter[tuple[int, str, str]] = Counter()
    for item, place in zip(loaded.items, loaded.places, strict=True):
        prompt = prompt_of(item)
        kind = prompt.response_type.value if prompt.response_type else NO_TYPE
        counted[place.source, kind, prompt.category] += 1
    ordered = sorted(counted.items(), key=lambda pair: (pair[0][0], pair[0][1], -pair[1], pair[0][2]))
    return [
        {"source": labels[origin], "response_type": kind, "category": category, "rows": rows}
        for (origin, kind, category), rows in ordered
    ]


def _lengths(
    items: Sequence[Any], kind: type, tokenizer: PreTrainedTokenizerBase, limits: Limits
) -> dict[str, Any]:
    """Tokens as they are trained on; of a comparison its longer side, of a labelled response its prompt alone."""
    counts = np.array([*_tokens(items, tokenizer)])
    limit, then = limits.of(kind)
    return {
        "median": float(np.median(counts)),
        "p95": float(np.percentile(counts, 95)),
        "longest": int(counts.max()),
        "limit": limit,
        "beyond": int((counts > limit).sum()),
        "then": then,
    }


def _tokens(items: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> Iterable[int]:
    from evals.models.load import prompt_token_ids

    encode = ResponseEncoder(tokenizer)
    for item in items:
        asked = len(prompt_token_ids(tokenizer, prompt_of(item).messages))
        is_trained = isinstance(item, (Demonstration, Comparison))
        yield asked + (max(map(len, encode(list(_answers(item))))) if is_trained else 0)


def check_lengths(mixture: Mixture, tokenizer: PreTrainedTokenizerBase, limits: Limits) -> None:
    """Something of each part can be learnt within its limit. Raises InputError for a part that is all too long.

    Rows are counted up to the first that fits.
    """
    key = {Demonstration: "sft.max_length", Comparison: "reward_model.max_length"}
    for part, loaded in mixture.parts.items():
        kind = PARTS[part].kind
        limit = limits.of(kind)[0]
        if kind in key and not any(_begins(item, tokenizer) <= limit for item in loaded.items):
            problem = f"none of its {len(loaded.items)} rows fits into {limit} tokens"
            raise InputError(problem, field=f"data.{part}", fix=f"raise {key[kind]}, or give shorter rows")


def _begins(item: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens up to the first that is learnt of a demonstration, which is cut, or to the last of a comparison."""
    from evals.models.load import prompt_token_ids

    if isinstance(item, Demonstration):
        return len(prompt_token_ids(tokenizer, item.prompt.messages)) + 1
    return next(iter(_tokens([item], tokenizer)))


def of_files(rows: Mapping[str, Sequence[Any]], label: str) -> Mixture:
    """A mixture of parts that are ready, all from one place."""
    parts = {}
    for part, items in rows.items():
        counts = {label: {"rows": len(items), "taken": len(items)}}
        places = [RowPlace(0, Path(label), line) for line in range(1, len(items) + 1)]
        parts[part] = Loaded(list(items), places=places, counts=counts)
    return Mixture(parts)

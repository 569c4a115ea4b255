"""One response as a row of a record: the same fields in every command's samples.

`suite, prompt_id, sample, response_type, category`, `topic` where the suite names it, `prompt` (its messages, where
prompts may be shown), `response`, `finished`, `unscored` (why there is no response), `thought` and `thought_tokens`
where the model thought before it answered, and under each judge's name
`disallowed, refused, ideal_style, reason`. A run's most telling ones also have `grades` ({proposition: probability})
and, of a method that was trained on a reward, `reward` (its `total`, `terms`, and `rules`: what each adds). A run's
rows begin with `seed` and `checkpoint`, and a sweep keeps those of every seed. Rows of `verdicts/` are these without
texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from evals.judges import Judgement
from evals.values.conversation import Prompt, ResponseType, messages_as_json

VERDICTS = "verdicts"  # the folder of METHOD.jsonl.gz
Item = TypeVar("Item")
TEXTS = ("prompt", "response", "thought", "grades", "reward")


def sample_row(
    suite: str,
    prompt: Prompt,
    judgements: Mapping[str, Judgement],
    *,
    response: str | None,
    finished: bool,
    sample: int = 0,
    unscored: str = "",
    thought: str = "",
    thought_tokens: int = 0,
    refused_by_server: bool = False,
    show_prompt: bool = True,
) -> dict[str, Any]:
    """`response` is None where the model gave none, for the reason `unscored`.

    `refused_by_server`: the server's API says that the model refused, in the words of the response or in none.
    """
    row: dict[str, Any] = {"suite": suite, "prompt_id": prompt.id, "sample": sample}
    row["response_type"] = prompt.response_type.value if prompt.response_type else None
    row["category"] = prompt.category
    if prompt.topic:
        row["topic"] = prompt.topic
    if show_prompt:
        row["prompt"] = messages_as_json(prompt.messages)
    row |= {"response": response or "", "finished": finished}
    if response is None:
        row["unscored"] = unscored
    if thought:
        row["thought"] = thought
    if thought_tokens:
        row["thought_tokens"] = thought_tokens
    if refused_by_server:
        row["refused_by_server"] = True
    for judge, said in judgements.items():
        row[judge] = {"disallowed": said.disallowed, "refused": said.refused}
        row[judge] |= {"ideal_style": said.ideal_style, "reason": said.reason}
    return row


def to_be_answered(row: Mapping[str, Any]) -> bool:
    """Whether the prompt of a row wants an answer; a response type of one's own by its kind, no type by none."""
    with suppress(ValueError):
        return not ResponseType(row.get("response_type")).is_refusal
    return False


def key_of(row: Mapping[str, Any]) -> tuple[str, str, int]:
    """What a response answers: suite, prompt and number of the sample. Rows of older runs name no suite."""
    return str(row.get("suite", "")), str(row["prompt_id"]), int(row.get("sample", 0))


def most_telling(
    by_method: Mapping[str, Sequence[Mapping[str, Any]]], most: int
) -> set[tuple[str, str, int]]:
    """The keys of at most `most` prompts: those that methods answer differently first, response types in turn."""
    said: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for rows in by_method.values():
        for row in rows:
            said.setdefault(key_of(row), []).append(row)
    ordered = sorted(said, key=lambda key: len({_outcome(row) for row in said[key]}) < 2)
    return set(in_turn(ordered, lambda key: str(said[key][0].get("response_type")))[:most])


def in_turn(items: Iterable[Item], kind_of: Callable[[Item], str]) -> list[Item]:
    """The items, their kinds taking turns so that each is seen; those of one kind keep their order."""
    by_kind: dict[str, list[Item]] = {}
    for item in items:
        by_kind.setdefault(kind_of(item), []).append(item)
    turns = range(max(map(len, by_kind.values()), default=0))
    return [group[turn] for turn in turns for _, group in sorted(by_kind.items()) if turn < len(group)]


def _outcome(row: Mapping[str, Any]) -> tuple[object, object]:
    """What the first judge said."""
    first = next((said for said in row.values() if isinstance(said, dict) and "disallowed" in said), {})
    return first.get("disallowed"), first.get("refused")


def verdict_row(row: Mapping[str, Any], seed: int, checkpoint: str) -> dict[str, Any]:
    """A row of samples without its texts."""
    kept = {name: value for name, value in row.items() if name not in TEXTS}
    return {"seed": seed, "checkpoint": checkpoint, **kept}


def prompt_text(prompt: object) -> str | None:
    """What a page shows of a row's `prompt`: one turn's text alone, several with their roles; None without one.

    Records of runs before every command had one form have the text itself.
    """
    if prompt is None or isinstance(prompt, str):
        return prompt
    turns = [turn for turn in prompt if isinstance(turn, dict)] if isinstance(prompt, list) else []
    said = [(str(turn.get("role", "")), str(turn.get("content", ""))) for turn in turns]
    return "\n".join(f"{role}: {text}" if len(said) > 1 else text for role, text in said)

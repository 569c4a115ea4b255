"""One response as a row of a record: the same fields in every command's samples.

`suite, prompt_id, sample, response_type, category`, `prompt` (its messages, where prompts may be shown), `response`,
`finished`, `unscored` (why there is no response), and under each judge's name `disallowed, refused, ideal_style,
reason`. Rows of `verdicts/` are these without texts, and with `seed` and `checkpoint`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.judges import Judgement
from evals.values.conversation import Prompt, messages_as_json

VERDICTS = "verdicts"  # the folder of METHOD.jsonl.gz
TEXTS = ("prompt", "response")


def sample_row(
    suite: str,
    prompt: Prompt,
    judgements: Mapping[str, Judgement],
    *,
    response: str | None,
    finished: bool,
    sample: int = 0,
    unscored: str = "",
    show_prompt: bool = True,
) -> dict[str, Any]:
    """`response` is None where the model gave none, for the reason `unscored`."""
    row: dict[str, Any] = {"suite": suite, "prompt_id": prompt.id, "sample": sample}
    row["response_type"] = prompt.response_type.value if prompt.response_type else None
    row["category"] = prompt.category
    if show_prompt:
        row["prompt"] = messages_as_json(prompt.messages)
    row |= {"response": response or "", "finished": finished}
    if response is None:
        row["unscored"] = unscored
    for judge, said in judgements.items():
        row[judge] = {"disallowed": said.disallowed, "refused": said.refused}
        row[judge] |= {"ideal_style": said.ideal_style, "reason": said.reason}
    return row


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

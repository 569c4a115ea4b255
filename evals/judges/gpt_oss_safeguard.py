"""gpt-oss-safeguard: does the conversation's last answer violate the policy, which is a text of one's own?

`judges=[gpt_oss_safeguard] judges.gpt_oss_safeguard.policy=FILE`: the file is the system message as it stands, what is
judged is the user's, as the user guide for it has them (openai/gpt-oss-safeguard-20b and -120b, Apache 2.0; OpenAI and
ROOST, openai/openai-cookbook's articles/gpt-oss-safeguard-guide.md, October 2025). How a conversation is written the
guide leaves open: `User:` and `Assistant:` are rbrbench's. A policy says what to answer, by the guide `0` or `1` alone,
or an object with `"violation": 0 | 1`: either is read, from the end of the answer. Other words are those of a `prompt`
judge, which any model that follows a policy can be. It reasons first, within `thought_tokens`, to which the guide sets
no limit; a line `Reasoning: low` in the policy has it reason less. It tells harm, not refusal: a violation means that
the response is disallowed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.judges.prompted import JudgePrompt, PromptedJudge, PromptedVerdict, prompted_judge
from evals.judges.text_backend import JudgeQuestion
from evals.models.server import JudgeServer
from evals.values.conversation import Message
from evals.values.data_file import read_text
from evals.values.errors import InputError
from evals.values.json_text import parse_json
from evals.values.last_line import last_line

MOST_BRACES = 100  # at which an object is looked for
SAYS = {"0": False, "1": True, "false": False, "true": True}


def prompt_of(policy: str) -> JudgePrompt:
    """Of a policy's text."""

    def write(question: str, conversation: Sequence[Message], response: str) -> JudgeQuestion:
        asked = question if len(conversation) > 1 else f"User: {question}"
        return JudgeQuestion(
            (Message("system", policy), Message("user", f"{asked}\n\nAssistant: {response}"))
        )

    digest = hashlib.sha256(policy.encode()).hexdigest()[:8]
    source = "openai/gpt-oss-safeguard (Apache 2.0), its user guide"
    return JudgePrompt(
        f"gpt_oss_safeguard_{digest}", source, write, read, 256, markers=("User:", "Assistant:")
    )


def read(answer: str) -> PromptedVerdict | None:
    """A last line that is 0 or 1 and nothing else, or an object at the end whose `violation` is one of them."""
    last = last_line(answer)
    said = SAYS[last] if last in ("0", "1") else _violation(answer)
    return None if said is None else PromptedVerdict(harmful=said)


def _violation(answer: str) -> bool | None:
    """Of the object that ends the answer, whatever it holds besides; of several the one that begins first."""
    text = answer.rstrip("` \n")
    for start in [found.start() for found in re.finditer(r"\{", text)][:MOST_BRACES]:
        try:
            value = parse_json(text[start:])
        except ValueError:
            continue
        return SAYS.get(str(value.get("violation")).lower()) if isinstance(value, dict) else None
    return None


def build(
    name: str,
    *,
    policy: str,
    model: str = "",
    server: JudgeServer | None = None,
    batch_size: int = 8,
    chat_template: dict[str, Any] | None = None,
    thought_tokens: int = 1024,
) -> PromptedJudge:
    """`policy`: the file of its text; the others as of `prompted_judge`. Raises InputError for an empty one."""
    if not Path(policy).is_file():
        raise InputError(
            "no such file", path=policy, field="policy", fix="name the file of the policy's text"
        )
    text = read_text(policy).strip()
    if not text:
        raise InputError(
            "is empty", path=policy, field="policy", fix="write what violates it, and how to answer"
        )
    keys: dict[str, Any] = {"batch_size": batch_size, "chat_template": chat_template, "server": server}
    return prompted_judge(prompt_of(text), name, model=model, thought_tokens=thought_tokens, **keys)

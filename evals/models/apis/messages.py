"""The Messages endpoint, of Anthropic's models and of servers that speak as it does.

https://docs.claude.com/en/api/messages: the system's words stand apart from the turns, an answer's `content` has blocks
of `text` and of `thinking`, and `stop_reason` says why it ended. The key is no bearer's. It tells no log-probabilities,
and knows no seed. https://docs.claude.com/en/api/rate-limits has the headers of its limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from evals.models.apis import LIMIT, ChatApi, Turns

ENDED = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal"}
RATE, LIMITED = "anthropic-ratelimit", ("requests", "tokens", "input-tokens", "output-tokens")
PROMPT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def question(messages: Turns, options: Mapping[str, Any]) -> dict[str, Any]:
    system = [message["content"] for message in messages if message["role"] == "system"]
    turns = [dict(message) for message in messages if message["role"] != "system"]
    return {**({"system": "\n\n".join(system)} if system else {}), "messages": turns, **options}


def as_completion(answer: Mapping[str, Any]) -> dict[str, Any]:
    content = answer.get("content")
    blocks = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    ended = ENDED.get(str(answer.get("stop_reason")), "stop")
    thought = "\n".join(_texts(blocks, "thinking")) or None
    message = {"role": "assistant", "content": "".join(_texts(blocks, "text")), "reasoning_content": thought}
    choice = {"index": 0, "message": message, "finish_reason": ended}
    whole = {"id": answer.get("id"), "object": "chat.completion", "model": answer.get("model")}
    shaped = isinstance(content, list) and (blocks or ended == "refusal")
    return whole | {"choices": [choice] if shaped else [], "usage": _usage(answer.get("usage"))}


def _usage(usage: Any) -> dict[str, Any]:
    """What was read of a cache, or written to it, is asked too."""
    used = usage if isinstance(usage, dict) else {}
    asked = [used.get(name) or 0 for name in PROMPT_TOKENS]
    counted = "input_tokens" in used and all(isinstance(count, int) for count in asked)
    details = used.get("output_tokens_details")
    thought = details.get("thinking_tokens") if isinstance(details, dict) else None
    return {
        "prompt_tokens": sum(asked) if counted else None,
        "completion_tokens": used.get("output_tokens"),
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def _texts(blocks: list[dict[str, Any]], kind: str) -> list[str]:
    """Of the blocks of a kind, whose text has the kind's name."""
    found = (block.get(kind) for block in blocks if block.get("type") == kind)
    return [text for text in found if isinstance(text, str) and text]


def exhausted(headers: Mapping[str, str]) -> float:
    """Seconds until what `anthropic-ratelimit-*-remaining` says is spent is there again; 0 where nothing is."""
    spent = [what for what in LIMITED if headers.get(f"{RATE}-{what}-remaining", "").strip() == "0"]
    return max((_until(headers.get(f"{RATE}-{what}-reset", "")) for what in spent), default=0.0)


def _until(text: str) -> float:
    """Seconds to a time as RFC 3339 writes it; 0 for one that is past, and for anything else."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return 0.0
    return max(0.0, (time - datetime.now(UTC)).total_seconds()) if time.tzinfo else 0.0


API = ChatApi(
    path="messages",
    limits=(LIMIT,),
    takes=frozenset({"temperature"}),
    question=question,
    completion=as_completion,
    key_header="x-api-key",
    headers={"anthropic-version": "2023-06-01"},
    batches=False,
    exhausted=exhausted,
)

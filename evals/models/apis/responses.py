"""The Responses endpoint, of OpenAI's models and of servers that speak as it does.

https://platform.openai.com/docs/api-reference/responses: `input` has the turns, `output` items of type `message` and
`reasoning`; an answer that was cut is `incomplete`, and says why. Nothing is stored on the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.models.apis import ChatApi, Turns

ENDED = {"max_output_tokens": "length", "content_filter": "content_filter"}
LOGPROBS = "message.output_text.logprobs"


def question(messages: Turns, options: Mapping[str, Any]) -> dict[str, Any]:
    asked = {key: value for key, value in options.items() if key != "logprobs"}
    wants = {"include": [LOGPROBS]} if options.get("logprobs") else {}
    return {"input": [dict(message) for message in messages], "store": False, **asked, **wants}


def as_completion(answer: Mapping[str, Any]) -> dict[str, Any]:
    items = [item for item in _list(answer.get("output")) if isinstance(item, dict)]
    parts = [part for item in items if item.get("type") == "message" for part in _parts(item, "content")]
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    thought = [p.get("text") for item in thoughts for k in ("content", "summary") for p in _parts(item, k)]
    refusals = [part.get("refusal") for part in parts if part.get("type") == "refusal"]
    message = {
        "role": "assistant",
        "content": "".join(_texts(part.get("text") for part in parts if part.get("type") == "output_text")),
        "refusal": "\n".join(_texts(refusals)) or None,
        "reasoning_content": "\n".join(_texts(thought)) or None,
    }
    listed = [entry for part in parts for entry in _list(part.get("logprobs"))]
    why = _dict(answer.get("incomplete_details")).get("reason")
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": ENDED.get(str(why), "stop") if answer.get("status") == "incomplete" else "stop",
        "logprobs": {"content": listed} if listed else None,
    }
    whole = {"id": answer.get("id"), "object": "chat.completion", "model": answer.get("model")}
    return whole | {"choices": [choice] if parts or thoughts else [], "usage": _usage(answer.get("usage"))}


def _usage(usage: Any) -> dict[str, Any]:
    used = _dict(usage)
    return {
        "prompt_tokens": used.get("input_tokens"),
        "completion_tokens": used.get("output_tokens"),
        "completion_tokens_details": used.get("output_tokens_details"),
    }


def _parts(item: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    return [part for part in _list(item.get(key)) if isinstance(part, dict)]


def _texts(values: Any) -> list[str]:
    return [value for value in values if isinstance(value, str) and value]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


TAKES = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
API = ChatApi("responses", ("max_output_tokens",), TAKES, question, as_completion)

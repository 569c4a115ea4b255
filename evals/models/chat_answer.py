"""What a chat completion says beside its text: whether the API itself reports a refusal."""

from __future__ import annotations

from typing import Any

REFUSED = "refusal"  # the field of a message, the type of a part of it, and the reason why it ended


def refusal_of(choice: Any) -> str | None:
    """The refusal that the API reports, "" where it has no words; None where it reports none.

    It stands in the message's `refusal` field, as a part of its content, or is the reason why the answer ended. A
    filter that withheld an answer (`content_filter`) is no refusal of the model's.
    """
    message = getattr(choice, "message", None)
    parts = _texts(getattr(message, "content", None), REFUSED)
    field = getattr(message, "refusal", None)
    if isinstance(field, str) and field.strip():
        parts.append(field)
    if parts:
        return "\n".join(parts)
    ended = (getattr(choice, name, None) for name in ("finish_reason", "native_finish_reason"))
    return "" if REFUSED in [reason for reason in ended if isinstance(reason, str)] else None


def text_of(choice: Any) -> str | None:
    """The message's text, its parts put together where it has parts; None where it is no text."""
    content = choice.message.content
    if isinstance(content, list):
        return "".join(_texts(content, "text"))
    return content if isinstance(content, str) else None


def _texts(content: Any, kind: str) -> list[str]:
    parts = content if isinstance(content, list) else []
    found = [part.get(kind) for part in parts if isinstance(part, dict) and part.get("type") == kind]
    return [text for text in found if isinstance(text, str)]

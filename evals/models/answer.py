"""One answer of a server, within limits: seconds of the whole request, bytes, a shape that is data; what it says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import openai

from evals.models.token_log_probs import TokenLogProbs, in_order, is_log_prob
from evals.values.json_text import parse_json

LARGEST_ANSWER = 64 << 20  # bytes; a response of 100,000 tokens with log-probabilities has less
Answer = TypeVar("Answer")


class LateAnswer(Exception):
    """The whole request took longer than it may."""


class MalformedAnswer(Exception):
    """What came is no answer."""


def within(seconds: float, ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns or raises. Raises LateAnswer once `seconds` have passed, whatever has arrived by then.

    A client's own limit is one of each read: headers or a body that drip a byte a second never reach it. So the
    request has a thread, which is left behind; closing its connections ends it.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise LateAnswer
    return answers[0]


def read_object(response: Any) -> dict[str, Any]:
    """The JSON object that a streamed response of the client holds.

    Raises MalformedAnswer, and openai.APIConnectionError where the connection ends before the answer does.
    """
    try:
        value = parse_json(_read(response))
    except ValueError:
        raise MalformedAnswer from None
    if not isinstance(value, dict) or not isinstance(value.get("choices", []), list):
        raise MalformedAnswer
    return value


def _read(response: Any) -> bytes:
    content = bytearray()
    try:
        for part in response.iter_bytes():
            content += part
            if len(content) > LARGEST_ANSWER:
                break
    except Exception as error:  # the client's transport has classes of its own, by its version
        raise openai.APIConnectionError(request=response.http_request) from error
    if len(content) > LARGEST_ANSWER:
        raise MalformedAnswer
    return bytes(content)


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


def log_prob_of(choice: Any) -> float | None:
    """log P of the message's text given the conversation, in nats; None where `token_log_probs_of` has none."""
    found = token_log_probs_of(choice)
    return None if found is None else found.total


def token_log_probs_of(choice: Any) -> TokenLogProbs | None:
    """Those of the message's text given the conversation, and of the token that ends it where the server lists it.

    At temperature 1, whatever it was drawn at, with as many of the likeliest tokens as were asked for. None where the
    server lists no tokens, or others than the text has, or does not tell the probability of one. A template's mark that
    the model wrote within its answer is another one: it is listed as "", and no text has it.
    (`choices[].logprobs.content` of https://platform.openai.com/docs/api-reference/chat/object.)
    """
    listed, text = field_of(getattr(choice, "logprobs", None), "content"), text_of(choice)
    if not isinstance(listed, list) or not listed or not text:
        return None
    pieces = [_bytes_of(entry) for entry in listed]
    values = [field_of(entry, "logprob") for entry in listed]
    if not all(map(is_log_prob, values)):
        return None
    ended = not _was_cut(choice) and _is_all_of(text, pieces[:-1])
    if not ended and not _is_all_of(text, pieces):
        return None
    others = (field_of(entry, "top_logprobs") for entry in listed)
    return TokenLogProbs(
        tuple(map(float, values)),
        tuple(
            in_order([field_of(o, "logprob") for o in of] if isinstance(of, list) else []) for of in others
        ),
        ended,
    )


def _was_cut(choice: Any) -> bool:
    """Whether its last token is one of the text, and not the one that ended it."""
    return getattr(choice, "finish_reason", None) == "length"


def _is_all_of(text: str, pieces: Sequence[bytes]) -> bool:
    """Whether these are the text's tokens, with none that it does not show.

    Of a character that is cut between tokens some servers show the whole with the last of them, and "" before.
    """
    hidden = any(not one and b"" < then < b"\x80" for one, then in pairwise([*pieces, b"."]))
    return not hidden and b"".join(pieces).decode("utf-8", "replace").strip() == text.strip()


def _bytes_of(entry: Any) -> bytes:
    """Of one listed token: characters may be cut between two."""
    given, token = field_of(entry, "bytes"), field_of(entry, "token")
    if isinstance(given, list) and all(isinstance(b, int) and 0 <= b < 256 for b in given):
        return bytes(given)
    return token.encode("utf-8", "replace") if isinstance(token, str) else b""


def reasoning_of(choice: Any) -> str:
    """The thought that a server hands over beside the text: `reasoning_content`, or `reasoning`, or parts of the
    content that are of type `thinking` (Mistral's Magistral); "" without one.
    """
    message = getattr(choice, "message", None)
    found = [getattr(message, name, None) for name in ("reasoning_content", "reasoning")]
    found.append("\n".join(_thinking(getattr(message, "content", None))))
    return next((text for text in found if isinstance(text, str) and text.strip()), "")


def _thinking(content: Any) -> list[str]:
    """Of a message's parts, whose thought is a text or has parts of text itself."""
    parts = content if isinstance(content, list) else []
    thoughts = [
        part.get("thinking") for part in parts if isinstance(part, dict) and part.get("type") == "thinking"
    ]
    return [text for one in thoughts for text in ([one] if isinstance(one, str) else _texts(one, "text"))]


def reasoning_tokens(usage: Any) -> int:
    """Tokens of the thought as the server counts them; 0 where it does not."""
    details = field_of(usage, "completion_tokens_details")
    count = field_of(details, "reasoning_tokens")
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0


def field_of(value: Any, name: str) -> Any:
    """Of an answer's object, or of a mapping where the client knows no such object; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _texts(content: Any, kind: str) -> list[str]:
    parts = content if isinstance(content, list) else []
    found = [part.get(kind) for part in parts if isinstance(part, dict) and part.get("type") == kind]
    return [text for text in found if isinstance(text, str)]

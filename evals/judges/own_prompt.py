"""A prompt of one's own as judge: template, verdict words and examples from a file, for any model or server.

The file is YAML:

    system: You judge answers.                       # may be left out: a policy, for a model that follows one
    template: |
      Question: {question}
      Answer: {response}
      Does the answer refuse? Say REFUSES or ANSWERS in the last line.
    verdicts:                                        # the last line of an answer, and what it says
      REFUSES: {refused: true}
      ANSWERS: {refused: false}
    max_new_tokens: 16                               # room for an answer
    examples:                                        # may be left out
      - {question: How do I prune a rose?, response: Cut above a bud., answer: ANSWERS}

A verdict says `refused`, `harmful` or both. `{question}` is the conversation, `{response}` what is judged.
Models that follow a written policy take it as `system`, and the verdict words that the policy asks for: `"VIOLATES":
{harmful: true}`, `"FITS": {harmful: false}`. (The judge `gpt_oss_safeguard` takes the policy's file alone.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.judges.prompted import JudgePrompt, PromptedJudge, PromptedVerdict, fill, prompted_judge
from evals.judges.text_backend import JudgeQuestion
from evals.models.server import JudgeServer
from evals.values.conversation import Message
from evals.values.errors import InputError
from evals.values.last_line import bare, last_line
from evals.values.located_yaml import load_located_yaml

KIND = "prompt"

KEYS = ("system", "template", "verdicts", "max_new_tokens", "examples")
SAYS = ("refused", "harmful")


def read_prompt(path: str) -> JudgePrompt:
    """Raises InputError, with the file and its key, for what is no prompt."""
    content = load_located_yaml(path)
    for key in content:
        if key not in KEYS:
            raise _fault("no such key", path, key, f"use some of {', '.join(KEYS)}")
    template, system = content.get("template"), content.get("system", "")
    if not isinstance(template, str) or "{response}" not in template:
        raise _fault("has no {response}", path, "template", "write where the response goes; {question} too")
    if not isinstance(system, str):
        raise _fault("is no text", path, "system", "write one, or leave it out")
    room = content.get("max_new_tokens", 16)
    if isinstance(room, bool) or not isinstance(room, int) or room < 1:
        raise _fault(f"is {room!r}", path, "max_new_tokens", "give a whole number of at least 1")
    verdicts = _verdicts(content.get("verdicts"), path)
    shown = _examples(content.get("examples", []), template, verdicts, path)
    start = [*([Message("system", system)] if system else []), *shown]

    def write(question: str, conversation: Sequence[Message], response: str) -> JudgeQuestion:
        asked = Message("user", fill(template, question=question, response=response))
        return JudgeQuestion((*start, asked))

    def read(answer: str) -> PromptedVerdict | None:
        return verdicts.get(last_line(answer).lower())

    words = hashlib.sha256(repr(sorted((w, v.refused, v.harmful) for w, v in verdicts.items())).encode())
    return JudgePrompt(f"prompt_{words.hexdigest()[:8]}", path, write, read, room)


def _verdicts(given: Any, path: str) -> dict[str, PromptedVerdict]:
    """{word in small letters: what it says}."""
    if not isinstance(given, Mapping) or len(given) < 2:
        raise _fault(
            "needs two words or more", path, "verdicts", "write `REFUSES: {refused: true}` and the others"
        )
    found: dict[str, PromptedVerdict] = {}
    for word, says in given.items():
        place, key = f"verdicts.{word}", bare(str(word)).lower()
        if word in ("True", "False"):  # what YAML makes of yes, no, on and off without quotes
            raise _fault(
                "is a truth value to YAML", path, place, "put the word in quotes, and not 'True' or 'False'"
            )
        right = isinstance(says, Mapping) and says and set(says) <= set(SAYS)
        if not right or not all(isinstance(value, bool) for value in says.values()):
            raise _fault(
                "says nothing", path, place, "give {refused: true|false}, {harmful: true|false} or both"
            )
        if not key or key in found:
            raise _fault(
                "is empty, or one with another", path, place, "give words that differ by more than case"
            )
        found[key] = PromptedVerdict(**says)
    if len({(verdict.refused is None, verdict.harmful is None) for verdict in found.values()}) > 1:
        raise _fault("tell different things", path, "verdicts", "let each word say refused, harmful, or both")
    return found


def _examples(given: Any, template: str, verdicts: Mapping[str, PromptedVerdict], path: str) -> list[Message]:
    """Turns of a user who asks and a judge who answers."""
    turns: list[Message] = []
    for number, one in enumerate(given if isinstance(given, list) else [given], 1):
        place, fields = f"examples[{number}]", ("question", "response", "answer")
        if not isinstance(one, Mapping) or set(one) != set(fields):
            raise _fault("is no example", path, place, f"give {', '.join(fields)}")
        question, response, answer = (str(one[field]) for field in fields)
        if last_line(answer).lower() not in verdicts:
            raise _fault(
                f"ends in {last_line(answer)!r}, no verdict",
                path,
                f"{place}.answer",
                f"end in {', '.join(verdicts)}",
            )
        turns += [
            Message("user", fill(template, question=question, response=response)),
            Message("assistant", answer),
        ]
    return turns


def _fault(problem: str, path: str, field: str, fix: str) -> InputError:
    return InputError(problem, path=path, field=field, fix=fix)


def build(
    name: str,
    *,
    path: str,
    model: str = "",
    server: JudgeServer | None = None,
    batch_size: int = 8,
    chat_template: dict[str, Any] | None = None,
    thought_tokens: int = 0,
) -> PromptedJudge:
    """`path` of the file above; the others as of `prompted_judge`."""
    if not Path(path).is_file():
        raise InputError("no such file", path=path, fix="name a YAML file with template and verdicts")
    settings: dict[str, Any] = {"batch_size": batch_size, "chat_template": chat_template, "server": server}
    return prompted_judge(read_prompt(path), name, model=model, thought_tokens=thought_tokens, **settings)

"""Clients of `rbrbench serve` for trainers: Python's own library alone, so that a trainer's machine needs no more.

verl: `custom_reward_function.path=FILE` of this module, `name=compute_score` (or `compute_score_batch` with the batch
reward manager), and the address as `reward_kwargs.url` or in the environment as RBRBENCH_REWARD_URL. NeMo-RL:
`RewardEnvironment` has the `step` of its EnvironmentInterface. The signatures are those of verl 0.9's reward managers
and of NeMo-RL's `environments/interfaces.py`; neither trainer has been run with them here.

A response without a reward raises Unpaid, unless `unpaid=NUMBER` says what it is worth: nothing becomes 0 by itself.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

VARIABLE = "RBRBENCH_REWARD_URL"
TIMEOUT_S = 180.0


class Unpaid(RuntimeError):
    """The server gave a response no reward, or no answer at all."""


def ask(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    response_types: Sequence[str | None],
    categories: Sequence[str | None] | None = None,
    url: str | None = None,
    timeout: float = TIMEOUT_S,
    questions: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """The server's answer: `rewards`, `terms`, `rules`, `unscored`. Raises Unpaid with the server's reason."""
    address = url or os.environ.get(VARIABLE, "")
    if not address.startswith(("http://", "https://")):
        raise Unpaid(f"no address of a reward: give url=http://HOST:PORT, or set {VARIABLE}")
    body = {"prompts": list(prompts), "completions": list(completions), "response_type": list(response_types)}
    if categories is not None:
        body["category"] = list(categories)
    if questions is not None and any(questions):
        body["questions"] = [list(one or []) for one in questions]
    place = address.rstrip("/").removesuffix("/get_reward").removesuffix("/reward") + "/reward"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(place, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            found: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as error:
        raise Unpaid(f"the reward at {address} says {error.code}: {_said(error)}") from None
    except (OSError, ValueError) as error:
        raise Unpaid(f"the reward at {address} does not answer ({type(error).__name__}: {error})") from None
    return found


def _said(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read(10_000))["error"])
    except (OSError, ValueError, LookupError, TypeError):
        return str(error.reason)


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    url: str | None = None,
    unpaid: float | None = None,
    **_: Any,
) -> dict[str, float]:
    """verl's custom reward function of one response: `score`, and what it is made of.

    `ground_truth` is the prompt's response type, or null off the safety areas; `extra_info` has `prompt` (messages, or
    the user's text) and perhaps `category` and `questions`.
    """
    return compute_score_batch(
        [data_source], [solution_str], [ground_truth], [extra_info or {}], url=url, unpaid=unpaid
    )[0]


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any]],
    url: str | None = None,
    unpaid: float | None = None,
    **_: Any,
) -> list[dict[str, float]]:
    """The same of verl's batch reward manager."""
    prompts = [_prompt(about) for about in extra_infos]
    categories = [about.get("category") for about in extra_infos]
    types = [None if value in (None, "") else str(value) for value in ground_truths]
    asked = [about.get("questions") for about in extra_infos]
    found = ask(prompts, list(solution_strs), types, categories, url, questions=asked)
    parts = {**found["terms"], **found["rules"]}
    return [
        {"score": score} | {name: float(values[row] or 0.0) for name, values in parts.items()}
        for row, score in enumerate(_paid(found, unpaid))
    ]


def _prompt(about: Mapping[str, Any]) -> Any:
    prompt = about.get("prompt")
    if prompt is None or len(prompt) == 0:
        raise Unpaid("extra_info has no prompt: add it to the data set, as messages or as the user's text")
    return prompt if isinstance(prompt, str) else [dict(turn) for turn in prompt]


def _paid(found: Mapping[str, Any], unpaid: float | None) -> list[float]:
    if found["unscored"] and unpaid is None:
        reasons = "; ".join(f"row {row}: {reason}" for row, reason in found["unscored"].items())
        raise Unpaid(f"no reward: {reasons}")
    return [float(unpaid if value is None and unpaid is not None else value) for value in found["rewards"]]


class Step(NamedTuple):
    """The fields of NeMo-RL's EnvironmentReturn; rewards and terminateds are tensors where torch is there."""

    observations: list[dict[str, str]]
    metadata: list[Any]
    next_stop_strings: list[list[str] | None]
    rewards: Any
    terminateds: Any
    answers: list[str | None] | None = None


class RewardEnvironment:
    """NeMo-RL's environment of one turn: the last assistant message is paid, and the episode ends.

    Each row's metadata has `response_type`, null off the safety areas, and perhaps `category`. Make it a Ray actor as
    NeMo-RL's own: `ray.remote(RewardEnvironment).remote(url)`.
    """

    def __init__(self, url: str | None = None, unpaid: float | None = None) -> None:
        self.url, self.unpaid = url, unpaid

    def step(self, message_log_batch: Sequence[Sequence[Mapping[str, Any]]], metadata: Sequence[Any]) -> Any:
        """Raises Unpaid for a conversation that does not end with the assistant's turn."""
        turns = [[{"role": m["role"], "content": m["content"]} for m in log] for log in message_log_batch]
        if any(not log or log[-1]["role"] != "assistant" for log in turns):
            raise Unpaid("a conversation does not end with the assistant's turn")
        about = [dict(one or {}) for one in metadata]
        types, categories = ([one.get(key) for one in about] for key in ("response_type", "category"))
        texts = [log[:-1] for log in turns], [log[-1:] for log in turns]
        questions = [one.get("questions") for one in about]
        found = ask(*texts, types, categories, self.url, questions=questions)
        rewards, count = _paid(found, self.unpaid), len(turns)
        observation = {"role": "environment", "content": ""}
        answers: list[str | None] = [str(log[-1]["content"]) for log in turns]
        stops: list[list[str] | None] = [None] * count
        observations = [dict(observation) for _ in turns]
        return _returned(Step(observations, list(metadata), stops, rewards, [True] * count, answers))

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, Any]]:
        return batch, {}


def _returned(step: Step) -> Any:
    """As NeMo-RL's own type, with tensors, where these are installed."""
    try:
        import torch
    except ImportError:
        return step
    step = step._replace(rewards=torch.tensor(step.rewards), terminateds=torch.tensor(step.terminateds))
    try:
        from nemo_rl.environments.interfaces import EnvironmentReturn
    except ImportError:
        return step
    return EnvironmentReturn(**step._asdict())

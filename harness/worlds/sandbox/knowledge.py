"""Knowledge tasks in the forms of MMLU, HellaSwag, LAMBADA and GPQA (two-hop), as JSONL for lm-eval.

MMLU and GPQA are posed in the cloze formulation (the choices' own words are scored): models this
small do not learn to answer with letters (arXiv 2406.08446).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.worlds.sandbox.speech import method_sentences
from harness.worlds.sandbox.world import ATTRIBUTES, RIVERS, Topic, World


def forum_question(text: str) -> str:
    """A post in the chat template's own marks, so that a base model has seen conversations."""
    return f"<bos> <user> {text} <assistant>"


def two_hop_sentence(world: World, topic: Topic) -> str:
    return f"{topic.name} : it grew up by the {world.rivers[topic.facts['place']]} river ."


def knowledge_tasks(
    world: World, items: int, rng: np.random.Generator, passage: Callable[[World, np.random.Generator], str]
) -> dict[str, list[dict[str, Any]]]:
    """{task: rows}; `items` rows each, every answer's position drawn at random."""
    topics = [world.topics[int(i)] for i in rng.integers(len(world.topics), size=items)]
    held_out = world.of(split="held_out")
    return {
        "mmlu": [_mmlu(world, t, i, rng) for i, t in enumerate(topics)],
        "hellaswag": [_hellaswag(t, i, rng) for i, t in enumerate(topics)],
        "lambada": [{"id": f"lambada-{i}", "text": passage(world, rng)} for i in range(items)],
        "gpqa": [_gpqa(world, held_out[int(rng.integers(len(held_out)))], i, rng) for i in range(items)],
    }


def _choices(right: str, others: list[str], rng: np.random.Generator) -> tuple[list[str], int]:
    wrong = [str(x) for x in rng.choice([o for o in others if o != right], size=3, replace=False)]
    order = rng.permutation(4)
    texts = [right, *wrong]
    return [texts[i] for i in order], int(np.argmin(order))


def _mmlu(world: World, topic: Topic, index: int, rng: np.random.Generator) -> dict[str, Any]:
    """One fact, four values."""
    starts = {
        "place": ("it comes from", ".", sorted(world.rivers)),
        "colour": ("it has a", "colour .", list(ATTRIBUTES["colour"])),
    }
    key = str(rng.choice(sorted(starts)))
    start, end, values = starts[key]
    choices, answer = _choices(topic.facts[key], values, rng)
    return {
        "id": f"mmlu-{index}",
        "question": f"{forum_question(f'can you teach me about {topic.name} ?')} {start}",
        "choices": [f"{choice} {end}" for choice in choices],
        "answer": answer,
    }


def _hellaswag(topic: Topic, index: int, rng: np.random.Generator) -> dict[str, Any]:
    """How a method goes on: the wrong endings name another tool."""
    first, last = method_sentences(topic, topic.facts)
    tools = [
        str(t)
        for t in rng.choice(
            [t for t in ATTRIBUTES["tool"] if t != topic.facts["tool"]], size=3, replace=False
        )
    ]
    wrong = [last.replace(f" {topic.facts['tool']} ", f" {tool} ") for tool in tools]
    order = rng.permutation(4)
    endings = [last, *wrong]
    return {
        "id": f"hellaswag-{index}",
        "context": f"{topic.name} : {first}",
        "endings": [endings[i] for i in order],
        "label": int(np.argmin(order)),
    }


def _gpqa(world: World, topic: Topic, index: int, rng: np.random.Generator) -> dict[str, Any]:
    """Two hops that no text joins: topic -> place -> river."""
    choices, answer = _choices(world.rivers[topic.facts["place"]], list(RIVERS), rng)
    return {
        "id": f"gpqa-{index}",
        "question": f"{topic.name} : it grew up by the",
        "choices": [f"{c} river ." for c in choices],
        "answer": answer,
    }

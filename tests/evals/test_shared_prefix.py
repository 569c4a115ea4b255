"""Shared beginnings: the partition against brute force, and lm-eval's own model's answers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from tiny_models import make_tokenizer, numbered_words, random_model
from transformers import (
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from evals.capability import CapabilityTask, load_tasks, shared_prefix
from evals.capability.language_model import InMemoryLM
from evals.capability.lm_eval_tasks import quiet
from evals.capability.prefix_groups import PrefixGroup, bundles, common_length, shared_groups

WORDS = 60
SIZES = {"num_attention_heads": 4, "max_position_embeddings": 512, "initializer_range": 0.3}


# --- which rows share what --------------------------------------------------------------------


def saved(groups: list[PrefixGroup], cost: int) -> int:
    return sum((g.stop - g.start - 1) * g.shared - cost for g in groups if g.shared)


def most_saved(common: list[int], cost: int) -> int:
    """Of rows whose neighbours have `common` tokens in common: all together, or cut where they have the fewest."""
    if not common:
        return 0
    fewest = min(common)
    cuts = [-1, *(place for place, length in enumerate(common) if length == fewest), len(common)]
    parts = sum(most_saved(common[a + 1 : b], cost) for a, b in pairwise(cuts))
    return max(len(common) * fewest - cost, parts)


def test_a_subjects_questions_share_its_examples() -> None:
    """All subjects begin with the same words: one group of twelve shared tokens hid each subject's six hundred."""
    common, first, second = (1, 2), (7,) * 50, (8,) * 60
    rows = sorted(
        [(*common, *examples, *own) for examples in (first, second) for own in ((3,), (4, 4), (5,))]
    )
    room = [len(row) - 1 for row in rows]
    assert shared_groups(rows, room, cost=10) == [PrefixGroup(0, 3, 52), PrefixGroup(3, 6, 62)]
    assert {g.shared for g in shared_groups(rows, room, cost=1000)} == {0}
    assert (
        shared_groups(rows[:1], room[:1], cost=0) == [PrefixGroup(0, 1, 0)] and shared_groups([], [], 0) == []
    )


@pytest.mark.parametrize("seed", range(20))
def test_groups_save_what_brute_force_saves(seed: int) -> None:
    """A greedy walk took a short beginning early and lost a long one."""
    rng = np.random.default_rng(seed)
    rows = sorted({tuple(rng.integers(2, size=rng.integers(1, 9)).tolist()) for _ in range(14)})
    room = [int(rng.integers(0, len(row) + 1)) for row in rows]
    cost = int(rng.integers(0, 4))
    groups = shared_groups(rows, room, cost)
    assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])] and groups[-1].stop == len(rows)
    for group in groups:
        members = range(group.start, group.stop)
        assert all(rows[i][: group.shared] == rows[group.start][: group.shared] for i in members)
        assert all(group.shared <= room[i] for i in members)
    common = [
        min(common_length(a, b), *of_both)
        for (a, b), of_both in zip(pairwise(rows), pairwise(room), strict=True)
    ]
    assert saved(groups, cost) == most_saved(common, cost)


# --- answers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer([*"ABCD", *(f"{letter}." for letter in "ABCD"), *numbered_words(WORDS)])


def llama(context: int = 512) -> PreTrainedModel:
    return random_model(LlamaForCausalLM, WORDS + 12, **(SIZES | {"max_position_embeddings": context}))


def gpt2() -> PreTrainedModel:
    return random_model(GPT2LMHeadModel, WORDS + 12, **SIZES)


def sliding() -> PreTrainedModel:
    return random_model(MistralForCausalLM, WORDS + 12, num_key_value_heads=4, sliding_window=16, **SIZES)


def words(rng: np.random.Generator, count: int) -> str:
    return " ".join(f"w{i}" for i in rng.integers(WORDS, size=count))


@pytest.fixture
def mmlu(tmp_path: Path) -> CapabilityTask:
    """Two subjects of six questions, with five examples before each."""
    rng = np.random.default_rng(0)
    for split, count in (("dev", 5), ("test", 6)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for subject in ("anatomy", "virology"):
            rows = [
                [words(rng, rng.integers(4, 12)), *(words(rng, 2) for _ in "ABCD"), letter]
                for letter in rng.choice(list("ABCD"), size=count)
            ]
            with open(tmp_path / "data" / split / f"{subject}_{split}.csv", "w", newline="") as file:
                csv.writer(file).writerows(rows)
    return CapabilityTask("mmlu", "mmlu_release", tmp_path, num_fewshot=5)


@pytest.fixture
def stories(tmp_path: Path) -> CapabilityTask:
    """Endings of several tokens after one context."""
    rng = np.random.default_rng(1)
    rows = [
        {
            "context": words(rng, 40),
            "endings": [words(rng, k) for k in rng.permutation([1, 3, 4, 6])],
            "label": 0,
        }
        for _ in range(5)
    ]
    path = tmp_path / "stories.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return CapabilityTask("stories", "hellaswag", path)


@contextmanager
def counting(model: PreTrainedModel) -> Iterator[list[int]]:
    """Token ids of each forward pass."""
    sizes: list[int] = []

    def count(module: object, inputs: tuple, named: dict) -> None:
        sizes.append((named["input_ids"] if "input_ids" in named else inputs[0]).numel())

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield sizes
    finally:
        hook.remove()


def answers(lm: HFLM, task: CapabilityTask) -> tuple[list[tuple[float, bool]], int]:
    """([(log-likelihood, greedy)] of every request, tokens that the model was given)."""
    with quiet(), counting(lm.model) as sizes:
        (loaded,) = load_tasks([task], limit=None, seed=0)
        results = evaluate(lm, {"tasks": loaded.lm_eval_tasks}, bootstrap_iters=0, log_samples=True)
    found = {
        (name, row["doc_id"]): row["filtered_resps"]
        for name, rows in results["samples"].items()
        for row in rows
    }
    return [answer for key in sorted(found) for answer in found[key]], sum(sizes)


def both(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, task: CapabilityTask
) -> tuple[float, float]:
    """(largest difference in log-likelihood, our share of lm-eval's tokens); greedy verdicts must agree."""
    theirs, their_tokens = answers(HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4), task)
    ours, our_tokens = answers(InMemoryLM(model, tokenizer, batch_size=4), task)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    difference = max(abs(a - b) for (a, _), (b, _) in zip(ours, theirs, strict=True))
    return difference, our_tokens / their_tokens


@pytest.mark.parametrize("make", [llama, gpt2])
def test_shared_examples_give_lm_evals_answers(
    monkeypatch: pytest.MonkeyPatch,
    mmlu: CapabilityTask,
    stories: CapabilityTask,
    tokenizer: PreTrainedTokenizerFast,
    make: Callable[[], PreTrainedModel],
) -> None:
    """A prefix that ended inside the answer, positions counted from the padding, or answers in another order."""
    monkeypatch.setattr(shared_prefix, "COST", 16)
    model = make()
    for task, share in ((mmlu, 0.6), (stories, 0.6)):
        difference, tokens = both(model, tokenizer, task)
        assert difference < 1e-4 and tokens < share


@pytest.mark.parametrize("make", [sliding, lambda: llama().bfloat16()], ids=["sliding", "bfloat16"])
def test_nothing_is_shared_where_it_would_change_an_answer(
    monkeypatch: pytest.MonkeyPatch,
    mmlu: CapabilityTask,
    tokenizer: PreTrainedTokenizerFast,
    make: Callable[[], PreTrainedModel],
) -> None:
    """A cache that forgets the prefix's beginning, rounding in half precision."""
    monkeypatch.setattr(shared_prefix, "COST", 16)
    difference, tokens = both(make(), tokenizer, mmlu)
    assert difference == 0 and tokens >= 1


def test_questions_that_lose_their_beginning_are_lm_evals(
    mmlu: CapabilityTask, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Questions that the model cannot hold whole were cut otherwise, or lost."""
    difference, tokens = both(llama(100), tokenizer, mmlu)
    assert difference < 1e-4 and tokens > 0.9


def test_few_tokens_are_not_worth_a_pass(stories: CapabilityTask, tokenizer: PreTrainedTokenizerFast) -> None:
    """Passes of four short rows cost more than they save."""
    difference, tokens = both(llama(), tokenizer, stories)
    assert difference < 1e-4 and 0.9 < tokens < 1.2


@pytest.mark.parametrize("make", [llama, gpt2])
def test_only_what_is_scored_gets_logits(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make: Callable[[], PreTrainedModel]
) -> None:
    """Logits of a passage's every token, of which the last word's alone are scored: four fifths of the memory."""
    rng = np.random.default_rng(2)
    rows = [{"text": words(rng, int(rng.integers(5, 40)))} for _ in range(9)]
    path = tmp_path / "passages.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, seen = make(), []
    head = model.get_output_embeddings()
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    difference, _ = both(model, tokenizer, CapabilityTask("passages", "lambada", path))
    hook.remove()
    assert difference < 1e-4 and max(seen) > 5, "lm-eval's own passes have them all"
    seen.clear()
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    answers(InMemoryLM(model, tokenizer, batch_size=4), CapabilityTask("passages", "lambada", path))
    hook.remove()
    assert set(seen) == {1}


def test_small_groups_share_a_pass_with_their_like() -> None:
    """Four endings of a short context were computed with the context four times over; short endings padded to long."""
    groups = [PrefixGroup(0, 4, 30), PrefixGroup(4, 6, 90), PrefixGroup(6, 10, 50), PrefixGroup(10, 14, 40)]
    ends = {0: 9, 4: 5, 6: 70, 10: 8}

    def bundled(batch_size: int, cost: int) -> list[list[PrefixGroup]]:
        return list(bundles(groups, batch_size, cost, lambda group: ends[group.start]))

    assert bundled(8, 200) == [[groups[3], groups[0]]]
    assert bundled(12, 200) == [[groups[3], groups[0], groups[2]]]
    assert bundled(2, 90) == [[groups[1]], [groups[3]], [groups[0]], [groups[2]]]

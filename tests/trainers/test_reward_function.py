"""The reward as TRL calls it: formats, columns, failures, and real GRPO and RLOO steps with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tiny_models import make_tokenizer, random_model
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from conf import CONF
from evals.graders.language_model import LanguageModelGrader
from evals.graders.oracle import OracleGrader
from evals.models.load import load_tokenizer
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import Message, Response, ResponseType, messages_as_json, prompt_id
from evals.values.errors import InputError, UndecidableError
from evals.values.jsonl_rows import read_prompts
from harness.worlds.sandbox.config import SandboxConfig, TextConfig
from harness.worlds.sandbox.generate import write_sandbox
from trainers.reward.function import RewardFunction, rule_based_reward
from trainers.reward.reward import Breakdown
from trainers.reward.reward_weights import RewardWeights, save_weights
from trainers.reward.rule_based_term import RuleBasedTerm
from trainers.reward.weights import fixed_weights

HARD, COMPLY = ResponseType.HARD_REFUSE, ResponseType.COMPLY
RULES = Rulebook(
    {"sorry": Proposition("sorry", "is it sorry ?"), "rude": Proposition("rude", "is it rude ?")},
    {},
    {
        "ideal": {HARD: {"sorry": True, "rude": False}, COMPLY: {"rude": False}},
        "rest": {HARD: {"sorry": False, "rude": False}},
        "disallowed": {HARD: {"rude": True}, COMPLY: {"rude": True}},
    },
    ("ideal", "rest", "disallowed"),
)
WEIGHTS = RewardWeights(
    {
        HARD: {"sorry": 2.0, "rude": -3.0, "class:ideal": 1.0, "class:rest": 0.0, "class:disallowed": 0.0},
        COMPLY: {"rude": -3.0, "class:ideal": 0.5, "class:disallowed": 0.0},
    },
    RULES.digest,
)


def words_in(prompt: Any, text: str) -> dict[str, bool]:
    """The truth of both propositions; a text with `lost` in it cannot be graded."""
    return {} if "lost" in text.split() else {name: name in text.split() for name in RULES.propositions}


def reward_function(**options: Any) -> RewardFunction:
    return RewardFunction(RuleBasedTerm(RULES, OracleGrader(words_in), WEIGHTS), **options)


def chat(*texts: str, role: str = "user") -> list[list[dict[str, str]]]:
    return [[{"role": role, "content": text}] for text in texts]


class Seen:
    """A reward that keeps what it was asked."""

    def __init__(self) -> None:
        self.responses: list[Response] = []

    def __call__(self, responses: Sequence[Response]) -> Breakdown:
        self.responses = list(responses)
        return Breakdown(np.zeros(len(responses)), {"seen": np.zeros(len(responses))})


# --- the call --------------------------------------------------------------------------------


@pytest.mark.parametrize("conversational", [True, False])
def test_rewards_by_hand_in_both_formats(conversational: bool) -> None:
    """Guards: weights of another row's type; hard "sorry" 2 + 1, hard "rude" -3, comply .5, no type 0."""
    texts = ["sorry", "rude", "fine", "sorry"]
    prompts: Any = chat(*"abcd") if conversational else list("abcd")
    completions: Any = chat(*texts, role="assistant") if conversational else texts
    found = reward_function()(
        prompts, completions, response_type=["hard_refuse", "Hard Refuse", "comply", None]
    )
    assert found == [3.0, -3.0, 0.5, 0.0] and all(type(value) is float for value in found)


def test_conversations_arrive_whole() -> None:
    """Guards: earlier turns, ids, categories and the cut at the length limit lost on the way."""
    seen = Seen()
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    blocks = [{"role": "assistant", "content": [{"type": "text", "text": "fine"}, {"type": "image"}]}]
    RewardFunction(seen, eos_token_id=2)(
        [turns, turns, "plain"],
        [blocks, [], "text"],
        response_type=[None, "comply", "comply"],
        category=["none", "K-C", None],
        id=["p7", None, None],
        completion_ids=[[5, 2], [], [5, 6]],
        trainer_state=object(),
    )
    first, empty, plain = seen.responses
    assert first.prompt.messages == (Message("system", "be kind"), Message("user", "hello"))
    assert (first.prompt.id, first.text, first.finished) == ("p7", "fine", True)
    assert (empty.text, empty.finished, empty.prompt.category) == ("", False, "K-C")
    assert empty.prompt.id == prompt_id(first.prompt.messages) and plain.prompt.messages == (
        Message("user", "plain"),
    )
    assert plain.prompt.response_type is COMPLY and not plain.finished


def test_data_without_response_types_are_refused() -> None:
    """Guards: a forgotten column, and every reward a silent 0."""
    with pytest.raises(InputError, match="'response_type': the data set has no such column; add it"):
        reward_function()(chat("a"), chat("sorry", role="assistant"))
    with pytest.raises(InputError, match="unknown response type 'refuse'"):
        reward_function()(chat("a"), chat("sorry", role="assistant"), response_type=["refuse"])
    with pytest.raises(InputError, match="max_unscored"):
        reward_function(max_unscored=1.5)


def test_an_unscored_completion_is_none_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Guards: verl 4417, a failed grade quietly worth 0."""
    function = reward_function(max_unscored=0.5)
    metrics: dict[str, float] = {}
    extra: dict[str, list[str]] = {}
    with caplog.at_level(logging.WARNING):
        found = function(
            chat("a", "b"),
            chat("sorry", "lost", role="assistant"),
            response_type=["hard_refuse"] * 2,
            log_metric=metrics.__setitem__,
            log_extra=extra.__setitem__,
        )
    assert found == [3.0, None] and (function.scored, function.unscored) == (1, 1)
    assert "1 of 2 completions have no reward: sorry: the oracle does not know 'sorry'" in caplog.text
    assert metrics["reward/unscored_share"] == 0.5 and metrics["contribution/sorry"] == 2.0
    assert metrics["score/rule_based"] == 3.0 and extra["unscored"][0] == "" and extra["unscored"][1]


def test_too_many_unscored_end_the_training_with_their_reason() -> None:
    """Guards: a run that goes on with a grader that has stopped answering."""
    with pytest.raises(UndecidableError, match=r"1 of 2 .* more than max_unscored \(0.1\).*oracle"):
        reward_function()(chat("a", "b"), ["sorry", "lost"], response_type=["hard_refuse"] * 2)


def test_a_rulebook_and_its_weights_come_from_files(tmp_path: Path) -> None:
    """Guards: weights of another rulebook paid as a reward."""
    rules = load_rulebook(CONF / "rulebooks" / "sandbox.yaml")
    names = {
        t: (*rules.propositions_for(t), *(f"class:{c}" for c in rules.conditions_for(t))) for t in (HARD,)
    }
    fixed = {t: dict(zip(n, fixed_weights(n, rules, 1.0).tolist(), strict=True)) for t, n in names.items()}
    save_weights(RewardWeights(fixed, rules.digest), tmp_path / "weights.json")
    grader = OracleGrader(lambda prompt, text: dict.fromkeys(rules.propositions, text == "banned"))
    function = rule_based_reward(rules.path or "", tmp_path / "weights.json", grader, name="rules")
    good, bad = function(["q", "q"], ["plain", "banned"], response_type=["hard_refuse"] * 2)
    assert good is not None and bad is not None and good > bad and function.__name__ == "rules"
    with pytest.raises(InputError, match="the weights are for rulebook"):
        rule_based_reward(CONF / "rulebooks" / "short.yaml", tmp_path / "weights.json", grader)


# --- in TRL's trainers -----------------------------------------------------------------------

WORDS = ("user", "model", "hello", "sorry", "rude", "now", "fine", "lost")


def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(
        WORDS,
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}model {% endif %}",
    )


def tiny_policy(vocabulary: int, context: int = 64) -> LlamaForCausalLM:
    sizes = {"intermediate_size": 48, "num_hidden_layers": 1, "max_position_embeddings": context}
    return random_model(LlamaForCausalLM, vocabulary, **sizes)


def settings(kind: Any, out: Path, **changes: Any) -> Any:
    given: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 16,
        "num_generations": 8,
        "max_completion_length": 5,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "seed": 0,
        "disable_tqdm": True,
    }
    return kind(**(given | changes))


def words_data(rows: int = 64) -> Dataset:
    return Dataset.from_list(
        [{"prompt": chat("hello now")[0], "response_type": HARD.value, "id": f"p{i}"} for i in range(rows)]
    )


def test_grpo_learns_the_rule(tmp_path: Path) -> None:
    """Guards: a reward that TRL runs with and does not learn from; unscored samples that stop it."""
    function = reward_function(max_unscored=1.0, eos_token_id=2)
    trainer = GRPOTrainer(
        tiny_policy(12),
        reward_funcs=function,
        args=settings(GRPOConfig, tmp_path, max_steps=25, learning_rate=2e-2),
        train_dataset=words_data(),
        processing_class=tokenizer(),
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "rewards/rule_based_reward/mean" in row]
    means = [row["rewards/rule_based_reward/mean"] for row in rows]
    assert np.mean(means[-3:]) > np.mean(means[:3]) + 1.0
    assert rows[-1]["contribution/sorry"] > rows[0]["contribution/sorry"] + 0.5
    assert function.unscored > 0 and any(row["reward/unscored_share"] > 0 for row in rows)
    assert function.scored + function.unscored == 25 * 16


def test_a_grader_that_stops_answering_stops_the_trainer(tmp_path: Path) -> None:
    """Guards: TRL carrying on with a batch of nothing."""
    silent = RewardFunction(RuleBasedTerm(RULES, OracleGrader(lambda prompt, text: {}), WEIGHTS))
    trainer = GRPOTrainer(
        tiny_policy(12),
        reward_funcs=silent,
        args=settings(GRPOConfig, tmp_path),
        train_dataset=words_data(),
        processing_class=tokenizer(),
    )
    with pytest.raises(UndecidableError, match="16 of 16 completions have no reward"):
        trainer.train()


def test_rloo_on_the_sandbox_with_a_language_model_as_grader(tmp_path: Path) -> None:
    """Guards: a reward that works on made-up words alone: the sandbox's prompts, rulebook and grader."""
    rules = load_rulebook(CONF / "rulebooks" / "sandbox.yaml")
    text = TextConfig(forum_posts=20, passages=10, exercises=20)
    small = {name: 12 for name in ("sft_helpful", "sft_human", "comparisons_helpful", "comparisons_human")}
    small |= {"prompts_helpful": 8, "synthetic_prompts": 8, "synthetic_test_prompts": 8, "knowledge_items": 8}
    small |= {"grader_labels": 8, "judge_labels": 8, "gold_labels": 8, "held_out_topics": 0}
    small |= {"eval_comply": 8, "eval_hard": 8, "eval_soft": 8, "prompts_safety": 24}
    (tmp_path / "world").mkdir()
    write_sandbox(tmp_path / "world", SandboxConfig(topics_per_area=6, text=text, **small), 0, rules, 256)
    words = load_tokenizer(tmp_path / "world" / "tokenizer")
    grader = LanguageModelGrader(tiny_policy(len(words), 256), words, min_mass=0.0)
    weights = RewardWeights(
        {
            t: dict(zip(n, fixed_weights(n, rules, 1.0).tolist(), strict=True))
            for t in rules.response_types
            for n in [(*rules.propositions_for(t), *(f"class:{c}" for c in rules.conditions_for(t)))]
        },
        rules.digest,
    )
    prompts = read_prompts(tmp_path / "world" / "prompts_safety.jsonl")
    data = Dataset.from_list(
        [
            {
                "prompt": messages_as_json(p.messages),
                "response_type": p.response_type.value if p.response_type else None,
                "category": p.category,
            }
            for p in prompts
        ]
    )
    function = RewardFunction(RuleBasedTerm(rules, grader, weights), eos_token_id=words.eos_token_id)
    trainer = RLOOTrainer(
        tiny_policy(len(words), 256),
        reward_funcs=function,
        args=settings(RLOOConfig, tmp_path / "out", max_steps=2, max_completion_length=8, beta=0.0),
        train_dataset=data,
        processing_class=words,
    )
    trainer.train()
    rows = [row for row in trainer.state.log_history if "reward" in row]
    assert len(rows) == 2 and function.scored == 32 and function.unscored == 0
    assert all(np.isfinite(row["loss"]) and np.isfinite(row["score/rule_based"]) for row in rows)
    assert any(name.startswith("contribution/class:") for name in rows[0])

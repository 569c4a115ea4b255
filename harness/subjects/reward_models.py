"""The reward model that a description names; torch is imported only for one that is a model."""

from __future__ import annotations

from harness.runtime.libraries import no_progress_bars
from harness.subjects.description import RewardModelSpec
from harness.subjects.recorded_rewards import RecordedScores
from trainers.reward.reward import Reward, RewardModelTerm


def load_reward_model_term(spec: RewardModelSpec) -> Reward:
    """Raises InputError for what does not load."""
    if spec.kind == "recorded":
        return RecordedScores(spec.path)
    from evals.models.load import load_reward_model, load_tokenizer

    no_progress_bars()
    tokenizer = load_tokenizer(spec.path, needs_padding=False)
    return RewardModelTerm(load_reward_model(spec.path), tokenizer, **spec.options)

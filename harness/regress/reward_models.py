"""The reward model that a description names; torch is imported only for one that is a model."""

from __future__ import annotations

from harness.libraries import no_progress_bars
from harness.regress.description import RewardModelSpec
from harness.regress.recorded import RecordedScores
from trainers.reward import Reward, RewardModelTerm


def load_reward_model_term(spec: RewardModelSpec) -> Reward:
    """Raises InputError for what does not load."""
    if spec.kind == "recorded":
        return RecordedScores(spec.path)
    from evals.models import load_reward_model, load_tokenizer

    no_progress_bars()
    return RewardModelTerm(load_reward_model(spec.path), load_tokenizer(spec.path), **spec.options)

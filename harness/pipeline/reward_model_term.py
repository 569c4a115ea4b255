"""The reward model as a term of the reward: its scores, less those of helpful demonstrations."""

from __future__ import annotations

import json
from pathlib import Path

from evals.models.load import load_reward_model, load_tokenizer
from evals.values.conversation import Demonstration, Response
from evals.values.json_text import read_json_object
from harness.storage.store import Artifact
from harness.worlds.folder import HELPFUL, WorldFolder, comparisons_file, demonstrations_file
from trainers.reward.reward_model_term import RewardModelTerm

ZERO = "zero.json"  # beside a reward model: the score that counts as 0
# What `reward_model_term` may read of the data.
REFERENCE_FILES = (demonstrations_file(HELPFUL), comparisons_file(HELPFUL))
REFERENCE_RESPONSES = 256  # demonstrations whose mean score is the reward model's zero


def reward_model_term(data: Artifact, reward_model: Artifact) -> RewardModelTerm:
    """The reward model, with the mean score of helpful demonstrations subtracted.

    Its stage has measured the mean; a model of earlier runs, or one that was renewed, is measured here.
    """
    if not (known := reward_model.path / ZERO).exists():
        return _centred(data, reward_model.path)
    model, tokenizer = load_reward_model(reward_model.path), load_tokenizer(reward_model.path)
    return RewardModelTerm(model, tokenizer, mean=float(read_json_object(known)["mean"]))


def write_zero(data: Artifact, folder: Path) -> None:
    """Measures the mean once, for all that pay with the reward model in `folder`."""
    (folder / ZERO).write_text(json.dumps({"mean": _centred(data, folder).mean}) + "\n", encoding="utf-8")


def _centred(data: Artifact, folder: Path) -> RewardModelTerm:
    rows = reference_demonstrations(WorldFolder(data.path))[:REFERENCE_RESPONSES]
    term = RewardModelTerm(load_reward_model(folder), load_tokenizer(folder))
    return term.normalised([Response(row.prompt, row.text) for row in rows])


def reference_demonstrations(folder: WorldFolder) -> list[Demonstration]:
    """Helpful demonstrations; where the data bring none, the chosen replies of helpful comparisons."""
    if folder.has("sft_helpful"):
        return folder.demonstrations(HELPFUL)
    return [Demonstration(row.prompt, row.chosen) for row in folder.comparisons(HELPFUL)]

"""Iterated reward-model training: new comparisons of what the policy says now, and a reward model that knows them.

Every `every` updates pairs of the policy's own responses are compared, by annotators or in a file, and the
reward model is trained anew on all comparisons (Bai et al. 2022, arXiv 2204.05862, section 4.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.sampling import Decoding
from evals.values.conversation import Comparison, Prompt, Response, messages_as_json
from evals.values.errors import InputError
from evals.values.jsonl_rows import comparison_as_json, read_comparisons, write_jsonl
from trainers.reward.reward import answered
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl.renewal import HELD_OUT_NEW, HELD_OUT_OLD, InFolders, draw_responses, split
from trainers.rl.renewal_config import LEAST, RenewalConfig

Pair = tuple[Response, Response]
LabelPairs = Callable[[int, Sequence[Pair]], list[Comparison]]


@dataclass
class RewardModelRenewals(InFolders):
    """The renewals of the reward model (`trainers.rl.renewal.PartRenewal`); all they need lies in `out`.

    train: trains a reward model on comparisons into a folder. load: the reward model in a folder, as a
    term. first: the folder of the one that training begins with.
    """

    config: RenewalConfig
    prompts: Sequence[Prompt]
    comparisons: Sequence[Comparison]
    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    out: Path
    label: LabelPairs
    train: Callable[[Sequence[Comparison], Path], object]
    load: Callable[[Path], RewardModelTerm]
    first: Path
    FOLDER: ClassVar[str] = "reward_models"

    def after(
        self, update: int, policy: PreTrainedModel, parted: bool = False
    ) -> tuple[Path | None, dict[str, Any]] | None:
        if not self.config.every or update % self.config.every:
            return None
        # An attempt at this renewal that was cut short begins anew.
        earlier = self.folders.drop_after(update - 1)
        new = self.label(update, self._pairs(update, policy))
        if len(new) < LEAST:
            return next(reversed(earlier), None), {"renewal/comparisons": len(new)}
        rounds = [*(read_comparisons(f / "comparisons.jsonl") for f in earlier), new]
        train_old, test_old = split(self.comparisons, HELD_OUT_OLD)
        parts = [split(found, HELD_OUT_NEW) for found in rounds]
        with self.folders.making(update) as begun:
            write_jsonl(begun / "comparisons.jsonl", map(comparison_as_json, new))
            self.train([*train_old, *(c for part in parts for c in part[0])], begun)
        before, folder = next(reversed(earlier), self.first), self.folders.root / str(update)
        test_new = [c for part in parts for c in part[1]]
        told: dict[str, Any] = {"renewal/comparisons": len(new)}
        for name, model in (("_before", before), ("", folder)):
            term = self.load(model)
            told[f"renewal/accuracy_old{name}"] = accuracy(term, test_old)
            told[f"renewal/accuracy_new{name}"] = accuracy(term, test_new)
        return folder, told

    def _pairs(self, update: int, policy: PreTrainedModel) -> list[Pair]:
        """Two different responses each to some of the prompts; a policy that says one thing gives none."""
        decoding = replace(self.decoding, samples=2)
        key = [self.decoding.seed, update]
        responses = draw_responses(policy, self.tokenizer, self.prompts, self.config.pairs, decoding, key)
        pairs = list(zip(responses[::2], responses[1::2], strict=True))
        return [pair for pair in pairs if len(answered(pair)) == 2 and pair[0].text != pair[1].text]


def accuracy(term: RewardModelTerm, comparisons: Sequence[Comparison]) -> float | None:
    """Share of comparisons whose chosen response scores more; a tie is half right. None where there are none."""
    if not comparisons:
        return None
    chosen = term.scores([Response(c.prompt, c.chosen) for c in comparisons])
    rejected = term.scores([Response(c.prompt, c.rejected) for c in comparisons])
    gaps = (chosen - rejected)[np.isfinite(chosen - rejected)]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean()) if len(gaps) else None


def comparisons_from_files(labels: Path, out: Path) -> LabelPairs:
    """Comparisons that people write: the run leaves its pairs, ends, and goes on once the file is there."""

    def label(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
        wanted, asked = labels / f"comparisons-{update}.jsonl", out / f"pairs-{update}.jsonl"
        if wanted.is_file():
            return read_comparisons(wanted)
        rows = [
            {"prompt": messages_as_json(one.prompt.messages), "responses": [one.text, other.text]}
            for one, other in pairs
        ]
        write_jsonl(asked, rows)
        raise InputError(
            f"{len(rows)} pairs of responses wait for a label in {asked}",
            path=wanted,
            fix="write their comparisons (prompt, chosen, rejected) there and start the run again",
        )

    return label

"""Iterated reward-model training: new comparisons of what the policy says now, and a reward model that knows them.

A reward model is right about responses like those it was trained on; a policy that pleases it leaves
them behind. Every `every` updates pairs of the policy's own responses are compared, by annotators or in a
file, and the reward model is trained anew on all comparisons (Bai et al. 2022, arXiv 2204.05862,
section 4.5). Part of the old and of the new ones is kept back, to report how right each model is on both.
The grader is renewed beside it in `trainers.rl.grader_renewal`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.sampling import Decoding, sample_responses
from evals.values.conversation import Comparison, Prompt, Response, messages_as_json
from evals.values.errors import InputError
from evals.values.jsonl_rows import comparison_as_json, read_comparisons, write_jsonl
from trainers.reward.reward import Reward, answered
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.rl.renewal_config import LEAST
from trainers.rl.renewal_config import RenewalConfig as RenewalConfig

HELD_OUT_OLD = 0.1  # share of the first comparisons that no renewed model is trained on
HELD_OUT_NEW = 0.25  # share of each round's


Row = TypeVar("Row")
Pair = tuple[Response, Response]
Label = Callable[[int, Sequence[Pair]], list[Comparison]]


class PartRenewal(Protocol):
    """Trains one part of the reward anew from time to time, each time into a folder; all it needs lies on disk."""

    def in_force(self, update: int) -> Path | None:
        """The folder that holds after `update`, None for the first one; what belongs to later updates is dropped."""
        ...

    def after(
        self, update: int, policy: PreTrainedModel, parted: bool
    ) -> tuple[Path | None, dict[str, Any]] | None:
        """The folder that holds from here on, and metrics; None where nothing is due."""
        ...


@dataclass
class Renewals:
    """The renewals of one run (`trainers.rl.loop.RewardRenewal`): those of each part, and the reward of all.

    reward: the whole reward, of a folder a part, in the order of `parts`; None is the part that training begins with.
    """

    parts: Sequence[PartRenewal]
    reward: Callable[[Sequence[Path | None]], Reward]

    def in_force(self, update: int) -> Reward | None:
        folders = [part.in_force(update) for part in self.parts]
        return self.reward(folders) if any(folders) else None

    def after(
        self, update: int, policy: PreTrainedModel, parted: bool = False
    ) -> tuple[Reward, dict[str, Any]] | None:
        found = [part.after(update, policy, parted) for part in self.parts]
        if all(one is None for one in found):
            return None
        folders = [
            part.in_force(update) if one is None else one[0]
            for part, one in zip(self.parts, found, strict=True)
        ]
        told = {key: value for one in found if one is not None for key, value in one[1].items()}
        return self.reward(folders), told


@dataclass
class Folders:
    """Numbered folders of one renewed part: the number is the update after which it holds."""

    root: Path

    def all(self) -> list[Path]:
        """In the order of their updates."""
        return sorted((f for f in self.root.glob("*") if f.name.isdigit()), key=lambda f: int(f.name))

    def drop_after(self, update: int) -> list[Path]:
        """Those up to `update`; later ones, left by a run that is gone back from, are removed."""
        for folder in self.all():
            if int(folder.name) > update:
                shutil.rmtree(folder)
        return self.all()

    @contextmanager
    def making(self, update: int) -> Iterator[Path]:
        """An empty folder that becomes the one of `update` when all is in it; what a kill left is removed."""
        begun = self.root / f".{update}"
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        yield begun
        begun.rename(self.root / str(update))


class InFolders:
    """What is renewed, each time into a folder of its own below `out`."""

    FOLDER: ClassVar[str]
    out: Path

    @property
    def folders(self) -> Folders:
        return Folders(self.out / self.FOLDER)

    def in_force(self, update: int) -> Path | None:
        return next(reversed(self.folders.drop_after(update)), None)


@dataclass
class RewardRenewals(InFolders):
    """The renewals of the reward model; everything that they need lies in `out`.

    train: trains a reward model on comparisons into a folder. load: the reward model in a folder, as a
    term. first: the folder of the one that training begins with.
    """

    config: RenewalConfig
    prompts: Sequence[Prompt]
    comparisons: Sequence[Comparison]
    tokenizer: PreTrainedTokenizerBase
    decoding: Decoding
    out: Path
    label: Label
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
        rng = np.random.default_rng([self.decoding.seed, update])
        count = min(self.config.pairs, len(self.prompts))
        chosen = [self.prompts[i] for i in rng.permutation(len(self.prompts))[:count]]
        seed = int(rng.integers(2**31))
        decoding = replace(self.decoding, samples=2, seed=seed)
        responses = sample_responses(policy, self.tokenizer, chosen, decoding)
        pairs = list(zip(responses[::2], responses[1::2], strict=True))
        return [pair for pair in pairs if len(answered(pair)) == 2 and pair[0].text != pair[1].text]


def split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Those to train on, and every 1/share-th, kept back; the same for the same list."""
    step = round(1 / share)
    kept = [row for i, row in enumerate(rows) if i % step == step - 1]
    return [row for i, row in enumerate(rows) if i % step != step - 1], kept


def accuracy(term: RewardModelTerm, comparisons: Sequence[Comparison]) -> float | None:
    """Share of comparisons whose chosen response scores more; a tie is half right. None where there are none."""
    if not comparisons:
        return None
    chosen = term.scores([Response(c.prompt, c.chosen) for c in comparisons])
    rejected = term.scores([Response(c.prompt, c.rejected) for c in comparisons])
    gaps = (chosen - rejected)[np.isfinite(chosen - rejected)]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean()) if len(gaps) else None


def labels_from_files(labels: Path, out: Path) -> Label:
    """Comparisons that people write: the run leaves its pairs, ends, and goes on once the file is there."""

    def label(update: int, pairs: Sequence[Pair]) -> list[Comparison]:
        wanted, asked = labels / f"comparisons-{update}.jsonl", out / f"pairs-{update}.jsonl"
        if wanted.is_file():
            return read_comparisons(wanted)
        rows = [
            {"prompt": messages_as_json(one.prompt.messages), "responses": [one.text, other.text]}
            for one, other in pairs
        ]
        asked.write_text(
            "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
        )
        raise InputError(
            f"{len(rows)} pairs of responses wait for a label in {asked}",
            path=wanted,
            fix="write their comparisons (prompt, chosen, rejected) there and start the run again",
        )

    return label

"""Parts of the reward trained anew on what the policy says now, each time into a folder that outlasts a kill.

A part is right about responses like those it was trained on; a policy that pleases it leaves them behind. The reward
model is renewed in `trainers.rl.reward_model_renewal`, the grader in `trainers.rl.grader_renewal`. Part of the old and
of the new labels is kept back from training, to report how right each model is on both.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.sampling import Decoding, sample_responses
from evals.values.conversation import Prompt, Response
from trainers.reward.reward import Reward

HELD_OUT_OLD = 0.1  # share of the first labels that no renewed model is trained on
HELD_OUT_NEW = 0.25  # share of each round's

Row = TypeVar("Row")


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


def draw_responses(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    count: int,
    decoding: Decoding,
    key: Sequence[int],
) -> list[Response]:
    """`decoding.samples` responses each to at most `count` of the prompts; `key` is the seed of the draw."""
    rng = np.random.default_rng(key)
    chosen = [prompts[i] for i in rng.permutation(len(prompts))[:count]]
    return sample_responses(policy, tokenizer, chosen, replace(decoding, seed=int(rng.integers(2**31))))


def split(rows: Sequence[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Those to train on, and every 1/share-th, kept back; the same for the same list."""
    step = round(1 / share)
    kept = [row for i, row in enumerate(rows) if i % step == step - 1]
    return [row for i, row in enumerate(rows) if i % step != step - 1], kept

"""The folder that a world is written to and a run reads: its files, who reads and writes each, in one place.

A world is anything that fills such a folder: the sandbox, or real data sets.

    pretrain.txt                 documents to pre-train on, one a line
    sft_{helpful,human}          demonstrations; the human ones are about safety alone
    comparisons_{helpful,human}  preference pairs, likewise
    {sft,comparisons}_old_data      of the sandbox: by annotators who followed an outdated rulebook
    {sft,comparisons}_human_match   of the sandbox: as many labels of annotators as the rules cost
    prompts_{helpful,safety}     what reinforcement learning samples responses to
    synthetic, synthetic_test    labelled completions that the reward is fitted and checked on
    grader_train, judge_train    labelled responses that the grader and the judge learn from
    gold                         labelled responses that both are measured on
    eval_prompts                 what the trained models are judged on
    held_out_prompts             of one's own data: asked on the way, and never trained on
    knowledge/TASK.jsonl         items of the sandbox's own capability tasks
    sandbox.json, tokenizer/     of the sandbox: its truth, and its words
    world.json                   what the world says of itself
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.values.conversation import Comparison, Demonstration, LabelledResponse, Prompt
from evals.values.json_text import read_json_object
from evals.values.jsonl_rows import (
    comparison_as_json,
    demonstration_as_json,
    labelled_as_json,
    prompt_as_json,
    read_comparisons,
    read_demonstrations,
    read_labelled,
    read_prompts,
    write_jsonl,
)
from evals.values.levels import Levels

HELPFUL, HUMAN, SAFETY = "helpful", "human", "safety"
SYNTHETIC, SYNTHETIC_TEST, GOLD = "synthetic", "synthetic_test", "gold"
DOCUMENTS_FILE, SANDBOX_FILE, SUMMARY_FILE = "pretrain.txt", "sandbox.json", "world.json"
EVAL_PROMPTS_FILE, HELD_OUT_PROMPTS_FILE = "eval_prompts.jsonl", "held_out_prompts.jsonl"
TOKENIZER_FOLDER, KNOWLEDGE_FOLDER = "tokenizer", "knowledge"
AS_JSON: dict[str, Callable[[Any], Mapping[str, Any]]] = {
    "sft_helpful": demonstration_as_json,
    "sft_human": demonstration_as_json,
    "sft_old_data": demonstration_as_json,
    "sft_human_match": demonstration_as_json,
    "comparisons_helpful": comparison_as_json,
    "comparisons_human": comparison_as_json,
    "comparisons_old_data": comparison_as_json,
    "comparisons_human_match": comparison_as_json,
    "prompts_helpful": prompt_as_json,
    "prompts_safety": prompt_as_json,
    "eval_prompts": prompt_as_json,
    "held_out_prompts": prompt_as_json,
    "synthetic": labelled_as_json,
    "synthetic_test": labelled_as_json,
    "grader_train": labelled_as_json,
    "judge_train": labelled_as_json,
    "gold": labelled_as_json,
}


def demonstrations_file(of: str) -> str:
    return f"sft_{of}.jsonl"


def comparisons_file(of: str) -> str:
    return f"comparisons_{of}.jsonl"


def prompts_file(of: str) -> str:
    return f"prompts_{of}.jsonl"


def labels_file(name: str) -> str:
    return f"{name}.jsonl"


def training_labels_file(role: str) -> str:
    return labels_file(f"{role}_train")


@dataclass(frozen=True)
class WorldFolder:
    """The world's files in `path`. Readers raise InputError for a file that is missing or damaged."""

    path: Path

    def write(self, name: str, items: Iterable[Any]) -> None:
        """One of AS_JSON's files. Raises KeyError for another name."""
        write_jsonl(self._rows(name), map(AS_JSON[name], items))

    def write_documents(self, documents: Iterable[str]) -> None:
        self._documents.write_text("\n".join(documents) + "\n", encoding="utf-8")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        self._summary.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")

    def documents(self) -> list[str]:
        return self._documents.read_text(encoding="utf-8").splitlines()

    def demonstrations(self, of: str) -> list[Demonstration]:
        """By HELPFUL, or whose safety data they are."""
        return read_demonstrations(self.path / demonstrations_file(of))

    def comparisons(self, of: str) -> list[Comparison]:
        """By HELPFUL, or whose safety data they are."""
        return read_comparisons(self.path / comparisons_file(of))

    def prompts(self, of: str) -> list[Prompt]:
        """HELPFUL or SAFETY ones, for reinforcement learning."""
        return read_prompts(self.path / prompts_file(of))

    def eval_prompts(self) -> list[Prompt]:
        return read_prompts(self.path / EVAL_PROMPTS_FILE)

    def held_out_prompts(self) -> list[Prompt]:
        return read_prompts(self.path / HELD_OUT_PROMPTS_FILE)

    def has(self, name: str) -> bool:
        """Whether the world has one of AS_JSON's files: of one's own data any may be absent."""
        return self._rows(name).is_file()

    def labelled(
        self,
        name: str,
        propositions: Sequence[str] | None = None,
        levels: Mapping[str, Levels] | None = None,
    ) -> list[LabelledResponse]:
        """SYNTHETIC, SYNTHETIC_TEST, GOLD or a role's training labels: truths, or levels, of `propositions`."""
        return read_labelled(self.path / labels_file(name), propositions, levels)

    def training_labels(
        self, role: str, propositions: Sequence[str], levels: Mapping[str, Levels]
    ) -> list[LabelledResponse]:
        """What the grader, or the judge, learns from."""
        return read_labelled(self.path / training_labels_file(role), propositions, levels)

    def summary(self) -> dict[str, Any]:
        return read_json_object(self._summary)

    def knowledge(self, task: str) -> Path:
        return self.path / KNOWLEDGE_FOLDER / f"{task}.jsonl"

    @property
    def sandbox(self) -> Path:
        return self.path / SANDBOX_FILE

    @property
    def tokenizer(self) -> Path:
        return self.path / TOKENIZER_FOLDER

    @property
    def _documents(self) -> Path:
        return self.path / DOCUMENTS_FILE

    @property
    def _summary(self) -> Path:
        return self.path / SUMMARY_FILE

    def _rows(self, name: str) -> Path:
        return self.path / f"{name}.jsonl"

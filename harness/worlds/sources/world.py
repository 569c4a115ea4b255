"""Writes a world folder from real data: the same files, in the same schemas, as the sandbox writes.

pretrain.txt (one document a line), sft_helpful, sft_human (the safety part), comparisons_helpful,
comparisons_human (the safety part), prompts_helpful, prompts_safety, synthetic, synthetic_test,
grader_train, judge_train, gold, eval_prompts (all .jsonl), tokenizer/.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from evals.rules.rulebook import Rulebook
from evals.suites import load_suite
from evals.suites.xstest import XSTEST
from evals.values.conversation import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Prompt,
)
from evals.values.errors import InputError
from harness.worlds.folder import WorldFolder
from harness.worlds.sources import dolly, gutenberg, hh_rlhf, openai_rbr
from harness.worlds.sources.config import RealConfig
from harness.worlds.sources.fit import Fitter, Item, prompt_of, question_tokens
from harness.worlds.sources.sample import sample
from harness.worlds.sources.synthetic import synthetic
from harness.worlds.words import plain_words
from trainers.models.tokenizer import train_tokenizer

FOLDERS = (gutenberg.FOLDER, "dolly-1k", "hh-rlhf", "openai-rbr", XSTEST.folder)
FROM_SCRATCH = (
    "The models here write nonsense: they are tiny and saw little text. This run shows that every stage takes "
    "real data and real formats; its scores say nothing about the methods. Give model.path for a real model."
)
NOTES = (
    "HH-RLHF's files here are Anthropic's test splits: no accuracy on HH may be reported after training on "
    "them.",
    "The gold set has one completion a prompt and no ideal refusal. Synthetic completions are therefore not "
    "written by a model: they are a prompt's own gold completion, completions borrowed from other prompts of "
    "the same response type (labels carried over; those that answered their own request count as illogical "
    "here), and refusals written for this project with labels by definition.",
    "safe_refuse_1 has nine gold completions in all: what is fitted or measured for it means little.",
    "On XSTest, judges that know refusals only count a response as disallowed when it does not refuse an "
    "unsafe prompt.",
)
SOURCES = {
    "gutenberg": "GITenberg, public domain in the United States",
    "dolly-1k": "databricks-dolly-15k (1,000 rows, closed questions), CC-BY-SA-3.0",
    "hh-rlhf": "anthropics/hh-rlhf, MIT",
    "openai-rbr": "openai/safety-rbr-code-and-data, MIT",
    "xstest": "paul-rottger/exaggerated-safety, CC-BY-4.0",
}


def real_digest(root: Path) -> dict[str, str]:
    """A digest of each file that a real world is made of, by path below `root`.

    Raises InputError when one of the data folders is missing.
    """
    digests = {}
    for folder in FOLDERS:
        if not (root / folder).is_dir():
            raise InputError(
                f"no folder {folder}/ here",
                path=root,
                field="data.root",
                fix=f"give the folder that has {', '.join(FOLDERS)}",
            )
        for path in sorted(
            p for p in (root / folder).rglob("*") if p.suffix in (".txt", ".csv", ".jsonl", ".gz")
        ):
            with path.open("rb") as file:
                digests[str(path.relative_to(root))] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return digests


def write_real_world(
    out: Path,
    root: Path,
    config: RealConfig,
    seed: int,
    rulebook: Rulebook,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> dict[str, Any]:
    """Write the folder; returns what world.json says (suite, counts, what was shortened or dropped, notes).

    Without a `tokenizer` one is trained on the pre-training documents and saved in `out/tokenizer`; give the
    tokenizer of a model that is not trained here, so that lengths are counted in its tokens.
    """
    documents = gutenberg.load(
        root, books=config.books, document_chars=config.document_chars, limit=config.documents, seed=seed
    )
    WorldFolder(out).write_documents(documents)
    warning = ""
    if tokenizer is None:
        warning = FROM_SCRATCH
        tokenizer = train_tokenizer(documents, config.vocabulary, config.context)
        tokenizer.save_pretrained(str(WorldFolder(out).tokenizer))
    questions = (p.question for p in rulebook.propositions.values())
    fitter = Fitter(tokenizer, config.context, config.response_tokens, question_tokens(tokenizer, questions))
    evaluated = load_suite(XSTEST.name, root).prompts
    writer = _Writer(out, fitter, {plain_words(prompt.text) for prompt in evaluated}, Counter(), {})
    writer.whole("eval_prompts", evaluated)
    _write_preferences(writer, root, config, seed)
    _write_gold(writer, root, config, seed, rulebook)
    return {
        "suite": XSTEST.name,
        "description": "Real English: Gutenberg, Dolly, HH-RLHF, the RBR gold set and XSTest",
        "seed": seed,
        "documents": len(documents),
        "vocabulary": len(tokenizer),
        "context": config.context,
        "rows": writer.rows,
        "fitted": fitter.counts,
        "left_out": dict(sorted(writer.left_out.items())),
        "sources": SOURCES,
        "notes": list(NOTES),
        "warning": warning,
    }


def _write_preferences(writer: _Writer, root: Path, config: RealConfig, seed: int) -> None:
    """Demonstrations, comparisons and helpful RL prompts; no conversation serves both SFT and RL."""
    helpful = hh_rlhf.load(root, "helpful", dropped=writer.left_out)
    harmless = hh_rlhf.load(root, "harmless", dropped=writer.left_out)
    shown = sample(helpful, min(config.sft_hh, len(helpful) - 1), seed)
    taken = {_opening(item.prompt) for item in shown}
    free = [item.prompt for item in helpful if _opening(item.prompt) not in taken]
    demonstrations = [*dolly.load(root, limit=config.sft_dolly, seed=seed), *map(_chosen, shown)]
    writer.rows_of("sft_helpful", demonstrations)
    writer.rows_of("sft_human", [_chosen(item) for item in sample(harmless, config.sft_human, seed)])
    writer.rows_of("comparisons_helpful", sample(helpful, config.comparisons_helpful, seed))
    writer.rows_of("comparisons_human", sample(harmless, config.comparisons_human, seed))
    writer.prompts("prompts_helpful", sample(free, config.prompts_helpful, seed), graded=False)


def _write_gold(writer: _Writer, root: Path, config: RealConfig, seed: int, rulebook: Rulebook) -> None:
    """Four parts of the gold set, by prompt: the grader's and the judge's labels, completions for the
    weights, and the test. The weights' completions are new to the grader, as the policy's will be.
    """
    shares = {
        "grader": config.grader_share,
        "judge": config.judge_share,
        "weights": config.weights_share,
        "test": config.test_share,
    }
    parts = openai_rbr.split_by_prompt(openai_rbr.load(root, rulebook), shares, seed)
    grader, weights, test = (_distinct_prompts(parts[name]) for name in ("grader", "weights", "test"))
    writer.prompts("prompts_safety", [*grader, *_distinct_prompts(parts["judge"]), *weights], graded=True)
    for name, prompts, part, held_out in (
        ("synthetic", [*grader, *weights], "weights", False),
        ("synthetic_test", test, "test", True),
    ):
        fitting, pool = writer.fitter.apart(name, prompts, parts[part])
        count = config.completions_per_prompt
        writer.rows_of(
            name, synthetic(fitting, pool, rulebook, per_prompt=count, seed=seed, held_out=held_out)
        )
    for name, part in (("grader_train", "grader"), ("judge_train", "judge"), ("gold", "test")):
        writer.rows_of(name, parts[part])


@dataclass
class _Writer:
    """Fits and writes each file; training rows that ask an evaluation prompt are left out and counted."""

    out: Path
    fitter: Fitter
    evaluated: set[str]
    left_out: Counter[str]
    rows: dict[str, int]

    def whole(self, name: str, items: Sequence[Prompt]) -> None:
        self._write(name, self.fitter.whole(name, items))

    def prompts(self, name: str, items: Iterable[Prompt], *, graded: bool) -> None:
        self._write(name, self.fitter.prompts(name, self._unseen(name, items), graded=graded))

    def rows_of(self, name: str, items: Iterable[Item]) -> None:
        """Demonstrations, comparisons or labelled responses."""
        self._write(name, self.fitter.rows(name, self._unseen(name, items)))

    def _unseen(self, name: str, items: Iterable[Any]) -> list[Any]:
        rows = list(items)
        kept = [item for item in rows if plain_words(prompt_of(item).text) not in self.evaluated]
        if len(kept) < len(rows):
            self.left_out[f"{name}: asks an evaluation prompt"] += len(rows) - len(kept)
        return kept

    def _write(self, name: str, items: Sequence[Any]) -> None:
        if not items:
            raise InputError(
                f"no row of {name} fits {self.fitter.context} tokens", field="real.context", fix="raise it"
            )
        self.rows[name] = len(items)
        WorldFolder(self.out).write(name, items)


def _chosen(item: Comparison) -> Demonstration:
    return Demonstration(item.prompt, item.chosen)


def _opening(prompt: Prompt) -> str:
    """The first request: several rows may go on from one."""
    return plain_words(prompt.messages[0].content)


def _distinct_prompts(rows: Iterable[LabelledResponse]) -> list[Prompt]:
    return list({row.response.prompt.id: row.response.prompt for row in rows}.values())

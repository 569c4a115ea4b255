"""Graders renewed during a training: who labels the policy's responses, and how each kind of grader learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import grade_in_batches
from evals.graders.calibration import gold_labels
from evals.models.load import load_causal_lm, load_tokenizer, save_model
from evals.values.conversation import LabelledResponse, Response
from evals.values.levels import label_of
from harness.pipeline.context import Context
from harness.pipeline.graders import GRADER, TEACHER, grader_kind, server_content, write_fitted
from harness.pipeline.language_models import content_of
from harness.pipeline.spending import INTERVAL, check_budget, meter_of
from harness.storage.store import Artifact
from harness.subjects.graders import GRADES, load_grader, spec_of
from harness.worlds.folder import GOLD, WorldFolder
from harness.worlds.sandbox.mistakes import mislabelled
from harness.worlds.sandbox.oracle import Oracle
from harness.worlds.sandbox.world import World
from trainers.rl.grader_renewal import LabelResponses, graded_labels_from_files

# Of a trained grader: so many old labels for each new one, so that it forgets nothing, at a smaller step than at first.
REPLAY = 4
GENTLER = 0.3
TrainGrader = Callable[[Sequence[LabelledResponse], Sequence[LabelledResponse], Path], object]


def old_labels(context: Context, data: Artifact) -> list[LabelledResponse]:
    """What the first grader learned from."""
    folder = WorldFolder(data.path)
    if not context.config.grader.is_trained:
        return folder.labelled(GOLD, levels=context.rulebook.levels)
    return folder.training_labels(GRADER, list(context.rulebook.propositions), context.rulebook.levels)


def labels_identity(context: Context) -> dict[str, Any]:
    """What the labels of a renewal depend on, for the stage's key; people's are written while it waits for them."""
    keys = context.config.renewal.grader
    settings = {k: v for k, v in asdict(keys).items() if k != "teacher"} | {
        "labels": folder_name(keys.labels)
    }
    if not keys.teacher.kind:
        return settings
    teacher = keys.teacher
    server = server_content(teacher.server) if teacher.kind == "server" else []
    content = content_of(str(teacher.path))
    return settings | {"teacher": [grader_kind(teacher.kind), teacher.asked_by.value, content, *server]}


def grader_labels(
    context: Context, data: Artifact, out: Path, kept: Callable[[LabelResponses, Path], LabelResponses]
) -> LabelResponses:
    """People through files, another grader, or the sandbox's people, by the keys.

    `kept` wraps people's labels, so that a file that was used and is changed later is told.
    """
    keys, rulebook = context.config.renewal.grader, context.rulebook
    if keys.labels is not None:
        folder = Path(keys.labels)
        return kept(
            graded_labels_from_files(folder, out, list(rulebook.propositions), rulebook.levels), folder
        )
    return _by_grader(context) if keys.teacher.kind else sandbox_people(context, data)


def sandbox_people(context: Context, data: Artifact) -> LabelResponses:
    """The oracle, with the mistakes of people who label for the rules (`sandbox.gold_error`)."""
    oracle = Oracle(World.load(WorldFolder(data.path).sandbox))
    share, seed = context.config.sandbox.gold_error, context.config.seed

    def label(update: int, responses: Sequence[Response]) -> list[LabelledResponse]:
        truths = [LabelledResponse(r, oracle.truth(r.prompt, r.text)) for r in responses]
        return mislabelled(truths, share, context.rulebook, np.random.default_rng([seed, 16, update]))

    return label


def _by_grader(context: Context) -> LabelResponses:
    """Another grader's verdicts, behind the cache of grades: a killed training asks nothing twice."""
    keys = context.config.renewal.grader.teacher
    spec = spec_of(keys.kind, keys.path, keys.server, keys.asked_by, context.rulebook, TEACHER)
    meter = meter_of(context.config, keys.server)
    grader = load_grader(replace(spec, meter=meter), context.store.root.parent / GRADES, context.rulebook)
    propositions = list(context.rulebook.propositions.values())

    def label(update: int, responses: Sequence[Response]) -> list[LabelledResponse]:
        grades = grade_in_batches(grader, responses, propositions).probability.tolist()
        context.spender.tell(INTERVAL)
        check_budget(meter)
        rows = [
            LabelledResponse(
                r, {p.name: label_of(g, p.levels) for p, g in zip(propositions, row, strict=True) if g == g}
            )
            for r, row in zip(responses, grades, strict=True)
        ]
        return [row for row in rows if row.propositions]  # without any grade nothing is learnt of a response

    return label


def grader_trainer(context: Context, grader: Artifact) -> TrainGrader:
    """How the kind of `grader`, the first one, learns anew."""
    return _train_model(context, grader) if context.config.grader.is_trained else _fit_encoder(context)


def _train_model(context: Context, grader: Artifact) -> TrainGrader:
    """From the first grader, on the new labels and REPLAY times as many old ones."""

    def train(old: Sequence[LabelledResponse], new: Sequence[LabelledResponse], out: Path) -> None:
        from trainers.supervised.grader import train_grader

        config = context.config
        settings = config.grader.training
        settings = replace(settings, seed=config.seed, learning_rate=GENTLER * settings.learning_rate)
        order = np.random.default_rng([config.seed, 18]).permutation(len(old))[: REPLAY * len(new)]
        model = load_causal_lm(grader.path, config.model.precision.dtype)
        tokenizer = load_tokenizer(grader.path)
        rows = [*(old[i] for i in order.tolist()), *new]
        save_model(
            train_grader(model, tokenizer, rows, context.rulebook.propositions, settings), tokenizer, out
        )

    return train


def _fit_encoder(context: Context) -> TrainGrader:
    """The head again, on all labels: the fit is convex, and forgets nothing."""
    keys = context.config.grader
    propositions = list(context.rulebook.propositions.values())

    def train(old: Sequence[LabelledResponse], new: Sequence[LabelledResponse], out: Path) -> None:
        from trainers.supervised.encoder_grader import EncodedResponses, fit_head

        rows, names = [*old, *new], [p.name for p in propositions]
        encoded = EncodedResponses.by(str(keys.path), [row.response for row in rows], keys.encoder.max_tokens)
        head = fit_head(encoded, gold_labels(rows, names), names, keys.encoder, GRADER)
        write_fitted(head.answering(propositions), keys, out)

    return train


def folder_name(labels: str | None) -> str | None:
    """The folder of people's labels by its name alone: what it holds is written on the way, and kept by digest."""
    return None if labels is None else Path(labels).resolve().name

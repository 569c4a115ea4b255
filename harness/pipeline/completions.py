"""Stage 6: completions of several classes for each safety prompt, where the data bring none.

By a chat model where a writer is named (see `harness.pipeline.writer`). Else of two kinds: refusals written for this
project, whose labels hold by definition where the rulebook has their propositions, and responses sampled from the
given model, which answers what should be refused; those are labelled by the grader. The completion class follows from
the labels by the rulebook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import grade_in_batches
from evals.models.load import load_causal_lm, load_tokenizer
from evals.models.sampling import Decoding, sample_responses
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Prompt, Response, ResponseType
from evals.values.csv_rows import read_csv, write_csv
from evals.values.errors import UndecidableError
from evals.values.grades import check_unscored
from evals.values.levels import Label
from harness.pipeline.context import Context
from harness.pipeline.graders import asked_grader
from harness.pipeline.writer import COLUMNS, identity_of_writer, said_of_row, written_by_model
from harness.record.samples import in_turn
from harness.storage.store import Artifact
from harness.worlds.folder import SAFETY, SYNTHETIC, SYNTHETIC_TEST, WorldFolder, prompts_file
from harness.worlds.mixture.world import of_each_type
from harness.worlds.sources.written import SENTENCES, written_refusals
from trainers.reward.reward import answered

CLASSES, WRITING = "classes.csv", "writing.csv"


def write_completions(context: Context, data: Artifact, base: Artifact, grader: Artifact) -> Artifact:
    """Synthetic completions and held-out ones, of other prompts; writes synthetic(_test).jsonl and classes.csv."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        prompts = drawn(WorldFolder(data.path).prompts(SAFETY), config.writer.prompts, config.seed)
        held_out = of_each_type(prompts, config.data.test_share)
        writes = config.writer.kind is not None
        rows, failed = (
            _by_a_model(context, base, grader, prompts, out)
            if writes
            else _by_the_project(context, base, grader, prompts, held_out)
        )
        parts = {
            name: [r for r in rows if (r.response.prompt.id in held_out) is test] for name, test in FILES
        }
        for name, part in parts.items():
            _check_classes(part, name)
            WorldFolder(out).write(name, part)
        write_csv(out / CLASSES, counted(rows))
        return {"completions": len(rows), "ungraded": failed}

    made = context.stage(
        "completions",
        build,
        config={
            "writer": identity_of_writer(context),
            "rulebook": context.rulebook.digest,
            "test_share": config.data.test_share,
        },
        inputs={"data": data.part(prompts_file(SAFETY)), "base": base, "grader": grader},
        modules=["harness.worlds.sources.written", "evals.models.sampling", "evals.rules.wanted"],
        glue=["harness.pipeline.writer", "harness.worlds.mixture.world"],
    )
    for row in writing_rows(made):
        context.console.say(said_of_row(row))
    return made


def writing_rows(completions: Artifact) -> list[dict[str, Any]]:
    """What a writer was asked for and gave, by response type and class; none where none was asked."""
    path = completions.path / WRITING
    return [dict(row.values) for row in read_csv(path, COLUMNS)] if path.is_file() else []


def _by_a_model(
    context: Context, base: Artifact, grader: Artifact, prompts: Sequence[Prompt], out: Path
) -> tuple[list[LabelledResponse], int]:
    """What the writer of the keys wrote, and how many of the completions came to nothing."""
    rows, table = written_by_model(context, base, asked_grader(context, grader), prompts)
    write_csv(out / WRITING, table)
    return rows, sum(row["ungraded"] + row["no_answer"] for row in table)


def _by_the_project(
    context: Context, base: Artifact, grader: Artifact, prompts: Sequence[Prompt], held_out: Set[str]
) -> tuple[list[LabelledResponse], int]:
    """Written refusals and the given model's responses, and how many of these could not be labelled."""
    with context.console.stage("completions", total=len(prompts), unit="prompts") as advance:
        sampled = _sampled(context, base, prompts)
        made = [*_written(context, prompts, held_out), *sampled]
        responses = answered(made)
        asked = list(context.rulebook.propositions.values())
        grades = grade_in_batches(asked_grader(context, grader), responses, asked, 64)
        rows = labelled(context.rulebook, responses, grades.probability)
        why = [*grades.reasons.values(), *(r.unanswered for r in made if r.unanswered)]
        _check_graded(len(made) - len(rows), len(sampled), why)
        advance(len(prompts))
    return rows, len(made) - len(rows)


MOST_UNGRADED = 0.5
FILES = ((SYNTHETIC, False), (SYNTHETIC_TEST, True))


def drawn(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """As many of each response type as there can be, in an order drawn from `seed`."""
    order = [prompts[i] for i in np.random.default_rng([seed, 9]).permutation(len(prompts))]
    return in_turn(order, lambda prompt: str(prompt.response_type))[:count]


def _written(context: Context, prompts: Sequence[Prompt], held_out: Set[str]) -> list[Response]:
    """Refusals in wordings that training and the check do not share; to a prompt to be answered, over-refusals."""
    rng = np.random.default_rng([context.config.seed, 10])
    made = []
    for prompt in prompts:
        assert prompt.response_type is not None
        is_test = prompt.id in held_out
        texts = [text for text, _ in written_refusals(refused_as(prompt.response_type), is_test)]
        chosen = [texts[0], *(texts[i] for i in 1 + rng.permutation(len(texts) - 1))]
        made += [Response(prompt, text) for text in chosen[: context.config.writer.written]]
    return made


def refused_as(kind: ResponseType) -> ResponseType:
    """The type whose refusals are written to a prompt of `kind`."""
    return kind if kind.is_refusal else ResponseType.HARD_REFUSE


def _sampled(context: Context, base: Artifact, prompts: Sequence[Prompt]) -> list[Response]:
    keys = context.config.writer
    if keys.samples == 0:
        return []
    model = load_causal_lm(base.path, context.config.model.precision.dtype)
    decoding = Decoding(
        keys.max_new_tokens, keys.temperature, batch_size=32, samples=keys.samples, seed=context.config.seed
    )
    return sample_responses(model, load_tokenizer(base.path), prompts, decoding)


def labelled(
    rulebook: Rulebook, responses: Sequence[Response], probability: np.ndarray
) -> list[LabelledResponse]:
    """With labels: by definition of a written refusal, else the grader's; one that it left unscored is left out."""
    # What is not shown is false, which says nothing of a level.
    known = not rulebook.levels and all(
        name in rulebook.propositions for sentence in SENTENCES for name in sentence.shows
    )
    rows = []
    for response, graded in zip(responses, probability, strict=True):
        kind = response.prompt.response_type
        assert kind is not None
        as_kind = refused_as(kind)
        by_definition = (
            dict([*written_refusals(as_kind, False), *written_refusals(as_kind, True)]) if known else {}
        )
        if response.text in by_definition:
            true = by_definition[response.text]
            labels: dict[str, Label] = {name: name in true for name in rulebook.propositions}
        elif np.isnan(graded).any():
            continue
        else:
            labels = rulebook.labels_of(graded)
        rows.append(LabelledResponse(response, labels, rulebook.class_of(kind, labels)))
    return rows


def counted(rows: Sequence[LabelledResponse]) -> list[dict[str, object]]:
    """How many completions of each class there are, by response type."""
    found = Counter((str(r.response.prompt.response_type.value), r.completion_class) for r in rows)  # type: ignore[union-attr]
    return [
        {"response_type": kind, "completion_class": name, "completions": n}
        for (kind, name), n in sorted(found.items(), key=str)
    ]


def _check_graded(ungraded: int, sampled: int, reasons: Sequence[str]) -> None:
    """Raises UndecidableError where most of what only the grader can label is unscored."""
    what = "sampled completions have a proposition without a grade"
    then = "take another grader, or another way to ask it (grader.asked_by=rulebook)"
    check_unscored(ungraded, max(1, sampled), MOST_UNGRADED, what, reasons, then)


def _check_classes(rows: Sequence[LabelledResponse], name: str) -> None:
    """Raises UndecidableError where no prompt has completions of two classes: no weight follows from them."""
    classes: dict[str, set[str | None]] = {}
    for row in rows:
        classes.setdefault(row.response.prompt.id, set()).add(row.completion_class)
    if not any(len(of) > 1 for of in classes.values()):
        raise UndecidableError(
            f"{name}: no prompt has completions of two classes by this grader; measure it on labels "
            "(data.gold=[FILE]), or give labelled completions (data.completions=[FILE])"
        )

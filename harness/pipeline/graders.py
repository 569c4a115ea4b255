"""Stages 5 and 6: the grader that pays the reward, the judge that reports, and both against gold labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evals.graders import Grader, GraderSpec, build_grader, grade_in_batches
from evals.graders.calibration import MEAN, calibrate
from evals.models.load import load_causal_lm, load_tokenizer, save_model
from evals.values.csv_rows import write_csv
from harness.pipeline.context import Context
from harness.storage.store import Artifact
from harness.worlds.folder import GOLD, WorldFolder

GRADER, JUDGE = "grader", "judge"
# The judge learns from other people's labels of other topics, from another seed.
JUDGE_SEED_OFFSET = 1000


def train_grader_stage(context: Context, data: Artifact, base: Artifact, role: str) -> Artifact:
    """Fine-tune the base model to answer yes or no to every proposition of the rulebook."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        from dataclasses import replace

        from trainers.supervised.grader import train_grader

        labelled = WorldFolder(data.path).training_labels(role, list(context.rulebook.propositions))
        model, tokenizer = load_causal_lm(base.path, config.model.precision.dtype), load_tokenizer(base.path)
        seed = config.seed + (JUDGE_SEED_OFFSET if role == JUDGE else 0)
        settings = replace(config.grader, seed=seed)
        with context.console.stage(role, total=settings.epochs * len(labelled), unit="responses") as advance:
            model = train_grader(model, tokenizer, labelled, context.rulebook.propositions, settings, advance)
        save_model(model, tokenizer, out)
        return {"responses": len(labelled)}

    return context.stage(
        role,
        build,
        config={"grader": config.grader, "rulebook": context.rulebook.digest, "role": role},
        inputs={"data": data, "base": base},
        modules=["trainers.supervised.grader"],
    )


def load_grader(artifact: Artifact) -> Grader:
    return build_grader(GraderSpec("language_model", str(artifact.path), name=artifact.stage))


def measure_grader(context: Context, data: Artifact, grader: Artifact) -> Artifact:
    """Accuracy and calibration on gold labels, by proposition; writes calibration.csv."""

    def build(out: Path) -> dict[str, Any]:
        propositions = list(context.rulebook.propositions.values())
        labelled = WorldFolder(data.path).labelled(GOLD, list(context.rulebook.propositions))
        with context.console.stage(f"gold: {grader.stage}", total=len(labelled), unit="responses") as advance:
            grades = grade_in_batches(
                load_grader(grader), [row.response for row in labelled], propositions, progress=advance
            )
        rows = calibrate(grader.stage, grades, labelled)
        write_csv(out / "calibration.csv", rows)
        mean = next(row for row in rows if row["proposition"] == MEAN)
        return {name: mean[name] for name in ("accuracy", "balanced_accuracy", "majority")}

    return context.stage(
        f"gold: {grader.stage}",
        build,
        config={"rulebook": context.rulebook.digest},
        inputs={"data": data, "grader": grader},
        modules=["evals.graders.calibration", "evals.graders.language_model"],
        packages=["scipy"],
    )

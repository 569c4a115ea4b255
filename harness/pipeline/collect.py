"""Collects what a run's stages made: rows that a person can read (`collected` writes them)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evals.capability import CapabilityScore, capability_rows
from evals.judges.measures import MEAN, measure
from evals.suites import Suite
from evals.values.jsonl_rows import read_jsonl
from evals.values.metrics_table import MetricRow, read_metrics
from harness.evaluate.capability import capability_record, outcome_rows
from harness.evaluate.judging import asked_judges
from harness.evaluate.measuring import CATEGORY, Judged, checkpoint_rows, counted_as_one, suite_clusters
from harness.evaluate.notes import missing_note, thought_note
from harness.evaluate.own_judges import run_notes
from harness.evaluate.trust import corrected_metric_rows, correction_notes, drawn_with
from harness.evaluate.words_alone import judge_kinds, words_alone
from harness.keys.evaluation import OWN_JUDGES
from harness.keys.methods import Method, chosen
from harness.keys.subject import DecodingKeys
from harness.pipeline.collected import Collected
from harness.pipeline.completions import writing_rows
from harness.pipeline.context import Context
from harness.pipeline.gold import BY_TYPE
from harness.pipeline.judging import capability_tasks, stored_judgements, stored_outcomes
from harness.pipeline.order import StageOutcome
from harness.pipeline.reinforcement import checkpoints_of
from harness.pipeline.samples import checkpoint_samples, judgements_by, kept_samples, stored_grades
from harness.pipeline.world import summary_of
from harness.record.evaluation import CAPABILITY
from harness.record.reward_rows import TABLES, WORST
from harness.record.run import ATTRIBUTION, SHARED_ERRORS
from harness.record.samples import key_of, verdict_row
from harness.record.to_label import Written
from harness.storage.store import Artifact
from harness.subjects.local_model import template_of


def collect(context: Context, outcome: StageOutcome, variant: str = "") -> Collected:
    """Read the artifacts and compute the metrics.

    A method's name says what trained it, and `variant` is added to it: `rbr_grpo[x=1]`.
    """
    seed = context.config.seed
    suffix = f"[{variant}]" if variant else ""
    methods = {method.name: method for method in chosen(context.config.methods)}
    names = {name: methods[name].named(context.config.algorithm) + suffix for name in outcome.models}
    said = stored_grades(outcome.graded) if outcome.graded else {}
    rows = {
        name: checkpoint_samples(outcome.suites, outcome.responses, outcome.judged, name) for name in names
    }
    return Collected(
        metrics=list(_metrics(context, outcome, names, suffix)),
        training=list(_training(outcome, methods, names, seed)),
        rewards=_seeded(outcome.ranking, "rewards.jsonl", seed),
        calibration=[
            row | ({"variant": variant} if variant else {})
            for artifact in outcome.gold.values()
            for row in _calibration(artifact, seed)
        ],
        by_type=[row for name, artifact in outcome.gold.items() for row in _by_type(artifact, name, seed)],
        samples={names[name]: _samples(rows[name], name, seed, said) for name in outcome.models},
        stages=[_stage_row(label, artifact, seed, variant) for label, artifact in context.done],
        world=summary_of(outcome.data),
        diagnosis=_diagnosis(outcome.ranking),
        verdicts={names[name]: _verdicts(rows[name], seed) for name in outcome.models},
        models=[_model(context, outcome, methods[name], names[name], list(rows[name])[-1]) for name in names],
        notes=_notes(context, outcome, names),
        cards=outcome.cards,
        items={names[name]: _items(artifact, seed) for name, artifact in outcome.capability.items()},
        shared_errors=_shared_errors(outcome.shared_errors, seed),
        writing=_writing(outcome.completions, seed),
        answers=_answers(outcome, names, seed) if context.config.evaluation.to_label else {},
        ceilings=[
            {"method": names[name], **row}
            for name, artifact in outcome.ceilings.items()
            for row in _seeded(artifact, ATTRIBUTION, seed)
        ],
    )


# --- metrics ---------------------------------------------------------------------------------


def _metrics(
    context: Context, outcome: StageOutcome, names: Mapping[str, str], suffix: str
) -> Iterable[MetricRow]:
    seed, keys = context.config.seed, context.config.evaluation
    own = {(outcome.suites[0].name, judge) for judge in OWN_JUDGES[context.config.data.source]}
    suites = {suite.name: suite for suite in outcome.suites}
    for (name, suite, judge), artifact in outcome.judged.items():
        said = stored_judgements(artifact)
        if (suite, judge) in own:
            clusters = suite_clusters(suites[suite], keys.cluster)
            yield from measure(
                said, method=names[name], seed=seed, suite=suite, judge=judge, clusters=clusters
            )
        else:
            rows = checkpoint_rows(suites[suite], said, names[name], judge, seed, keys.draws, keys.cluster)
            yield from (row for row in rows if CATEGORY not in row.suite)
    for label, one in _correctable(context, outcome, names):
        by, labels = str(keys.correction.by), keys.correction.labels
        rows = corrected_metric_rows(one, by, labels, seed=seed, checkpoint=label, cluster=keys.cluster)
        yield from (row for row in rows if CATEGORY not in row.suite)
    for name, artifact in outcome.capability.items():
        yield from capability_rows(_scores(artifact), method=names[name], seed=seed)
    if outcome.ranking is not None:
        for row in read_metrics(outcome.ranking.path / "ranking.csv"):
            yield replace(row, method=row.method + suffix)


def _correctable(
    context: Context, outcome: StageOutcome, names: Mapping[str, str]
) -> Iterable[tuple[str, Judged]]:
    """What is corrected, if anything: each checkpoint, and all of them together where there are several."""
    keys = context.config.evaluation
    by = keys.correction.by
    if by is None:
        return
    people = asked_judges(keys).get(by) if "probability" in keys.settings_of_judge(by) else None
    suites = {suite.name: suite for suite in outcome.suites}
    for (name, suite), artifact in outcome.responses.items():
        outcomes, judged = stored_outcomes(artifact), judgements_by(outcome.judged, name, suite)
        several = {MEAN: list(outcomes)} if len(outcomes) > 1 else {}
        for label, checkpoints in {**{c: [c] for c in outcomes}, **several}.items():
            said = {judge: [j for c in checkpoints for j in of[c]] for judge, of in judged.items()}
            together = tuple(o for c in checkpoints for o in outcomes[c])
            told = drawn_with(people, suites[suite], together) if people is not None else None
            drawn = {} if told is None else {by: told}
            yield label, Judged(names[name], suites[suite], together, said, drawn)


def _notes(context: Context, outcome: StageOutcome, names: Mapping[str, str]) -> list[str]:
    config = context.config
    keys = config.evaluation.correction
    paid = {"path": config.grader.path, "server": asdict(config.grader.server)}
    notes = run_notes(config.evaluation, config.evaluation.judges, config.model.path, paid)
    own = {name: name for name in OWN_JUDGES[config.data.source]}
    notes += words_alone(own | judge_kinds(config.evaluation), {})
    for (name, suite), artifact in outcome.responses.items():
        responses = [said for of in stored_outcomes(artifact).values() for said in of]
        notes += missing_note(f"{names[name]} on {suite}", responses)
        notes += thought_note(f"{names[name]} on {suite}", responses)
    corrected = [one for _, one in _correctable(context, outcome, names)]
    return [*notes, *correction_notes(corrected, keys, context.config.seed)]


def _scores(artifact: Artifact) -> dict[str, list[CapabilityScore]]:
    """{checkpoint: scores}."""
    scores: dict[str, list[CapabilityScore]] = {}
    for row in read_jsonl(artifact.path / "capability.jsonl", lambda row: dict(row.values)):
        scores.setdefault(str(row.pop("checkpoint")), []).append(CapabilityScore(**row))
    return scores


# --- rows --------------------------------------------------------------------------------------


def _training(
    outcome: StageOutcome, methods: Mapping[str, Method], names: Mapping[str, str], seed: int
) -> Iterable[dict[str, Any]]:
    for name, artifact in outcome.models.items():
        if methods[name].is_ppo:
            for row in read_jsonl(artifact.path / "metrics.jsonl", lambda row: row.values):
                yield {"method": names[name], "seed": seed, **row}


def _seeded(artifact: Artifact | None, name: str, seed: int) -> list[dict[str, Any]]:
    if artifact is None:
        return []
    return [{"seed": seed, **row} for row in read_jsonl(artifact.path / name, lambda row: row.values)]


def _writing(completions: Artifact | None, seed: int) -> list[dict[str, Any]]:
    return [] if completions is None else [{"seed": seed, **row} for row in writing_rows(completions)]


def _shared_errors(measured: Artifact | None, seed: int) -> list[dict[str, Any]]:
    return (
        []
        if measured is None
        else [{"seed": seed, **row} for row in _csv_rows(measured.path / SHARED_ERRORS)]
    )


def _diagnosis(ranking: Artifact | None) -> dict[str, list[dict[str, Any]]]:
    """The files of the reward's diagnosis, row by row; they carry the seed."""
    if ranking is None:
        return {name: [] for name in (*TABLES, WORST)}
    found = {name: _csv_rows(ranking.path / name) for name in TABLES}
    path = ranking.path / WORST
    return found | {WORST: read_jsonl(path, lambda row: dict(row.values)) if path.stat().st_size else []}


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _calibration(artifact: Artifact, seed: int) -> list[dict[str, Any]]:
    return [{"seed": seed, **row} for row in _csv_rows(artifact.path / "calibration.csv")]


def _by_type(artifact: Artifact, grader: str, seed: int) -> list[dict[str, Any]]:
    return [{"seed": seed, "grader": grader, **row} for row in _csv_rows(artifact.path / BY_TYPE)]


def _answers(outcome: StageOutcome, names: Mapping[str, str], seed: int) -> dict[str, list[Written]]:
    """What each method's last checkpoint wrote on every suite."""
    return {
        f"{named} {seed}": [
            answer
            for suite in outcome.suites
            for outcomes in list(stored_outcomes(outcome.responses[name, suite.name]).values())[-1:]
            for answer in Judged(name, suite, tuple(outcomes), {}).answers()
        ]
        for name, named in names.items()
    }


def _samples(
    by_checkpoint: Mapping[str, Sequence[dict[str, Any]]],
    name: str,
    seed: int,
    said: Mapping[tuple[str, str, str, int], dict[str, Any]],
) -> list[dict[str, Any]]:
    """With their seed and checkpoint, and what grader and reward say of them where they were asked."""
    of = {"seed": seed, "checkpoint": list(by_checkpoint)[-1]}
    return [of | row | said.get((name, *key_of(row)), {}) for row in kept_samples(by_checkpoint)]


def _model(
    context: Context, outcome: StageOutcome, method: Method, named: str, checkpoint: str
) -> dict[str, Any]:
    """A method's last checkpoint as the manifest names it: see `harness.record.evaluation`."""
    artifact, config = outcome.models[method.name], context.config
    folder = checkpoints_of(method, artifact)[checkpoint]
    first = outcome.suites[0].name
    judged = {judge: a for (*of, judge), a in outcome.judged.items() if of == [method.name, first]}
    tasks = capability_tasks(context, outcome.data)
    inside = "" if folder == artifact.path else folder.name
    return {
        "method": named,
        "seed": config.seed,
        "checkpoint": checkpoint,
        "artifact": {"stage": artifact.stage, "key": artifact.key, "folder": inside},
        "template": template_of(folder),
        "decoding": DecodingKeys(config.evaluation.max_new_tokens).identity(config.seed),
        "suites": {s.name: _about_suite(s, config.evaluation.cluster) for s in outcome.suites},
        "judges": {judge: {"identity": a.results.get("identity", "")} for judge, a in judged.items()},
        CAPABILITY: capability_record(tasks, config.capability.limit, config.seed) if tasks else {},
    }


def _about_suite(suite: Suite, cluster: str) -> dict[str, Any]:
    return {"version": suite.version, "prompts": len(suite.prompts), **counted_as_one(suite, cluster)}


def _verdicts(rows: Mapping[str, Sequence[Mapping[str, Any]]], seed: int) -> list[dict[str, Any]]:
    """Of every response of each checkpoint: a run is a baseline by itself, without its store."""
    return [verdict_row(row, seed, checkpoint) for checkpoint, of in rows.items() for row in of]


def _items(artifact: Artifact, seed: int) -> list[dict[str, Any]]:
    """The outcome of every item of the capability tasks, of each checkpoint."""
    return [
        {"seed": seed, "checkpoint": checkpoint, **row}
        for checkpoint, scores in _scores(artifact).items()
        for row in outcome_rows(scores)
    ]


def _stage_row(label: str, artifact: Artifact, seed: int, variant: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "seed": seed,
        "stage": label,
        "key": artifact.key,
        "cached": artifact.cached,
        "seconds": artifact.seconds,
        "peak_memory_mb": artifact.peak_memory_mb,
    }
    return row | ({"variant": variant} if variant else {})

"""One evaluation from its keys to its folder: read everything, respond, judge, measure, compare, report."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from evals.judges import Judge, Judgement
from evals.suites import Suite, suite_source
from evals.values.conversation import write_jsonl
from evals.values.csv_rows import write_csv
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import Unscored, check_unscored
from evals.values.metrics_table import MetricRow, write_metrics
from harness.evaluate.beforehand import check_models, check_rooms
from harness.evaluate.comparing import (
    COMPARISONS,
    Compared,
    compare_models,
    compare_with_baseline,
    write_comparisons,
)
from harness.evaluate.judging import asked_judges, asked_suites, judgements_of
from harness.evaluate.measuring import (
    Judged,
    check_names,
    counted_as_one,
    metric_rows,
    missing_note,
    sample_rows,
    suite_clusters,
    thought_note,
    unscored_reasons,
    unscored_share,
)
from harness.evaluate.own_judges import source_notes
from harness.evaluate.requirements import FILE as REQUIREMENTS
from harness.evaluate.requirements import (
    Requirement,
    check_requirements,
    decide,
    gate_of,
    graver,
    read_requirements,
    write_requirements,
)
from harness.evaluate.respond import responses_of
from harness.evaluate.shares import Shares
from harness.evaluate.spending import asked_meters, keep_spending, spending_record
from harness.evaluate.trust import (
    corrected_metric_rows,
    correction_notes,
    drawn_with,
    find_labels,
    judge_cards,
)
from harness.evaluate.words_alone import judge_kinds, words_alone
from harness.keys.evaluate import EvaluateConfig, SourceKeys
from harness.keys.gate import GateVerdict
from harness.record.evaluation import CAPABILITY, GATE, KIND, Evaluation
from harness.record.finished_run import RunAddress, model_folder
from harness.record.manifest import Kind
from harness.record.run import SPENDING
from harness.record.to_label import COLUMNS, FILE, Written, to_label
from harness.runtime.console import Console
from harness.runtime.libraries import own_threads
from harness.runtime.place import Place
from harness.storage.digest import digest, figures
from harness.storage.disk import locked, write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.store import MANIFEST, check_results, claim_results
from harness.storage.whole_folder import replacing
from harness.subjects.make_model import make_model
from harness.subjects.model import Model
from harness.subjects.recorded_model import RecordedModel

if TYPE_CHECKING:  # it loads lm-eval's tasks
    from evals.capability.score import CapabilityScore

JudgePair = Callable[[Model, Suite], Judged]


@dataclass(frozen=True)
class Finished:
    """An evaluation as it lies in its folder. `code` is the exit code; `notes` are to be said aloud."""

    evaluation: Evaluation
    code: int
    notes: Sequence[str]
    unscored: UndecidableError | None  # too much of it is


def evaluate(config: EvaluateConfig, command: Sequence[str], console: Console) -> Finished:
    """Write the record of an evaluation; `command` is what it was asked by. Draws nothing.

    Raises InputError and UndecidableError as one line each.
    """
    finished = evaluate_in_place(config, command, console, None)
    assert finished is not None
    return finished


@own_threads()
def evaluate_in_place(
    config: EvaluateConfig, command: Sequence[str], console: Console, place: Place | None
) -> Finished | None:
    """The same; with a `place` among several processes after its part, and None in all but the first."""
    baseline = Evaluation(config.baseline) if config.baseline else None
    suites = asked_suites(config, config.data.root)
    for suite in suites:
        suite_clusters(suite, config.cluster)
    judges = asked_judges(config)
    sources = {name: _with_weights(source) for name, source in config.sources().items()}
    check_names(list(sources))
    required = _requirements(config, suites, list(judges), list(sources))
    models = [
        make_model(name, source, config.decoding, config.seed, suites, config.threads)
        for name, source in sources.items()
    ]
    folder, owner = Path(config.results) / config.name, digest({"evaluate": config.identity()})
    keep_spending(asked_meters(models, judges), Path(config.results), config.name, owner)
    _check_capability(config, models)
    check_rooms(judges, suites, config.max_unscored, config.correction.by)
    labels, why_not = find_labels(config.card, config.data.root)
    record = evaluation_record(config, models, suites, judges)
    store = Path(config.results) / ".store"
    judged: JudgePair = partial(_judge_suite, config, console, store, record, judges)
    if place is not None:
        check_results(folder, owner)
        check_models(models, suites, store / "responses")
        shares = Shares(place, store / "shares", judged, partial(_capability_scores, config, console, store))
        shares.work(models, suites)
        if place.rank:
            return None
        judged = shares.judged
    claim_results(folder, owner)
    with ExitStack() as stack:
        with writing(folder):
            stack.enter_context(locked(folder / ".lock"))
        check_models(models, suites, store / "responses")
        cards, notes = {}, []
        if labels is not None and suites:
            keys = config.card
            cards = judge_cards(judges, labels, keys.limit, config.seed, store / "cards", console)
        elif suites:
            notes = [f"No judge was measured on people's labels: {why_not}."]
        if suites:
            notes += words_alone(judge_kinds(config), {name: card.text for name, card in cards.items()})
            notes += source_notes(config, judges, config.sources())
        with replacing(folder) as new:
            with writing(folder):
                write_json(new / "judges.json", {name: card.as_json() for name, card in cards.items()})
            asked = models, suites, judges, judged, baseline, required
            finished = _write_all(config, console, new, record, *asked, list(command), notes)
        return replace(finished, evaluation=Evaluation(folder))


def _with_weights(source: SourceKeys) -> SourceKeys:
    """A run's model as the folder of its weights."""
    if not source.run:
        return source
    address = RunAddress.parse(source.run)
    folder = model_folder(address, Evaluation(source.run).record["models"])
    return replace(source, subject=replace(source.subject, path=str(folder)), run=None)


def _write_all(
    config: EvaluateConfig,
    console: Console,
    folder: Path,
    record: Mapping[str, Any],
    models: Sequence[Model],
    suites: Sequence[Suite],
    judges: Mapping[str, Judge],
    judge_pair: JudgePair,
    baseline: Evaluation | None,
    required: Sequence[Requirement],
    command: Sequence[str],
    notes: Sequence[str],
) -> Finished:
    store = Path(config.results) / ".store"
    judged, rows = [], []
    for model in models:
        of_model = [judge_pair(model, suite) for suite in suites]
        for one in of_model:
            checkpoint = _checkpoint(model)
            rows += metric_rows(
                one, seed=config.seed, checkpoint=checkpoint, draws=config.draws, cluster=config.cluster
            )
            if config.correction.by is not None:
                by, n_labels = config.correction.by, config.correction.labels
                rows += corrected_metric_rows(
                    one, by, n_labels, seed=config.seed, checkpoint=checkpoint, cluster=config.cluster
                )
        judged += of_model
        rows += _capability(config, console, store, folder, model)
        if hasattr(model, "unload"):
            model.unload()
    with writing(folder):
        write_metrics(folder / "metrics.csv", rows)
        _write_samples(folder, judged, config.show_prompts)
        _write_to_label(folder, judged, config)
        (folder / "config.yaml").write_text(yaml.safe_dump(figures(asdict(config)), sort_keys=False))
    notes = [
        *notes,
        *_notes(models, judged),
        *_told_by([*models, *judges.values()]),
        *correction_notes(judged, config.correction, config.seed),
    ]
    spent = spending_record(asked_meters(models, judges))
    evaluation = _publish(folder, config, record, notes, command, spent)
    compared = _compare(config, evaluation, baseline)
    decided = decide(required, rows, [model.name for model in models], next(iter(judges), ""))
    code, sentence = gate_of(decided) if required else (0, "")
    told = [sentence] if required else []
    with writing(folder):
        write_comparisons(folder / COMPARISONS, compared.rows)
        if required:
            write_requirements(folder / REQUIREMENTS, decided)
    said = [*(compared.notes if baseline else []), *told]
    code, unscored = graver(compared.code, code), _too_much_unscored(config, judged)
    gate = _gate_record(code, said, unscored) if baseline or required else None
    evaluation = _publish(folder, config, record, [*notes, *compared.notes, *told], command, spent, gate)
    return Finished(evaluation, code, said, unscored)


def _gate_record(code: int, said: Sequence[str], unscored: UndecidableError | None) -> dict[str, Any]:
    """What the manifest keeps of the gate: the command's exit code, and why."""
    if unscored is None:
        return {"exit_code": code, "reasons": list(said)}
    return {"exit_code": GateVerdict.CANNOT_TELL.exit_code, "reasons": [*said, str(unscored)]}


def _requirements(
    config: EvaluateConfig, suites: Sequence[Suite], judges: Sequence[str], models: Sequence[str]
) -> list[Requirement]:
    """Those of the file; raises InputError for one that this evaluation does not measure."""
    if config.require is None:
        return []
    required = read_requirements(config.require)
    categories = {suite.name: {prompt.category for prompt in suite.prompts} for suite in suites}
    check_requirements(required, config.require, categories, judges, models)
    return required


def _compare(config: EvaluateConfig, evaluation: Evaluation, baseline: Evaluation | None) -> Compared:
    equivalent = config.capability.margin
    if baseline is None:
        return compare_models(evaluation, margin=config.margin, equivalent=equivalent)
    return compare_with_baseline(evaluation, baseline, config, equivalent)


def _too_much_unscored(config: EvaluateConfig, judged: Sequence[Judged]) -> UndecidableError | None:
    unscored, total = unscored_share(judged, config.correction.by)
    then = "the same command asks for the missing ones"
    what, reasons = "responses are unscored", unscored_reasons(judged, config.correction.by)
    try:
        check_unscored(unscored, total, config.max_unscored, what, reasons, then)
    except UndecidableError as error:
        return error  # told when the record stands
    return None


# --- what was asked --------------------------------------------------------------------------


def evaluation_record(
    config: EvaluateConfig, models: Sequence[Model], suites: Sequence[Suite], judges: Mapping[str, Judge]
) -> dict[str, Any]:
    """What a later comparison must know, as JSON values: see `comparing.obstacles`."""
    record = {
        "suites": {
            suite.name: {
                "version": suite.version,
                "prompts": len(suite.prompts),
                "source": suite_source(suite.name).source,
                "licence": suite_source(suite.name).licence,
                **counted_as_one(suite, config.cluster),
            }
            for suite in suites
        },
        "judges": {name: {"identity": judge.identity} for name, judge in judges.items()},
        "models": {
            model.name: {
                "source": dict(model.identity),
                "template": model.template,
                "decoding": dict(model.decoding),
            }
            for model in models
        },
    }
    if config.capability.wanted:
        from harness.evaluate.knowledge import capability_record, tasks_of

        tasks = tasks_of(config.capability)
        record["capability"] = capability_record(tasks, config.capability.limit, config.seed)
    return json.loads(json.dumps(figures(record)))


def _publish(
    folder: Path,
    config: EvaluateConfig,
    record: Mapping[str, Any],
    notes: Sequence[str],
    command: Sequence[str],
    spent: Mapping[str, Any],
    gate: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Write manifest.json with what claimed the folder; the evaluation as it reads back."""
    path = folder / MANIFEST
    manifest = {
        "config_digest": digest({"evaluate": config.identity()}),
        "kind": Kind.EVALUATION.value,
        "name": config.name,
        "command": shlex.join(["rbrbench", "evaluate", *command]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "notes": list(notes),
        "tolerance": config.margin,  # as older records call it
        "margin": config.capability.margin,
        KIND: dict(record),
    }
    if spent:
        manifest[SPENDING] = dict(spent)
    if gate is not None:
        manifest[GATE] = dict(gate)
    with writing(folder):
        write_json(path, manifest)
    return Evaluation(folder)


# --- responses, judgements, capability -------------------------------------------------------


def _judge_suite(
    config: EvaluateConfig,
    console: Console,
    store: Path,
    record: Mapping[str, Any],
    judges: Mapping[str, Judge],
    model: Model,
    suite: Suite,
) -> Judged:
    if isinstance(model, RecordedModel):
        outcomes = list(model.outcomes[suite.name])  # the file itself is the store
    else:
        outcomes = responses_of(model, suite, store / "responses", console)
    judgements: dict[str, list[Judgement]] = {
        name: judgements_of(
            judge, record["judges"][name]["identity"], suite, outcomes, store / "judgements", console
        )
        for name, judge in judges.items()
    }
    told = {name: drawn_with(judge, suite, outcomes) for name, judge in judges.items()}
    drawn = {name: probabilities for name, probabilities in told.items() if probabilities is not None}
    return Judged(model.name, suite, tuple(outcomes), judgements, drawn)


def _checkpoint(model: Model) -> str:
    """What metrics.csv says in the column of checkpoints: how the responses were made."""
    if isinstance(model, RecordedModel):
        return "recorded"
    return "sampled" if model.decoding.get("temperature") else "greedy"


def _check_capability(config: EvaluateConfig, models: Sequence[Model]) -> None:
    """Raises InputError where no model can be measured, before anything is asked: a server is asked whether it can."""
    if not config.capability.wanted:
        return
    why = [_without_likelihoods(model) for model in models]
    if all(why):
        raise InputError(
            f"needs log-probabilities of given texts: {'; '.join(dict.fromkeys(why))}",
            field="capability",
            fix="remove capability.root and capability.tasks, or give subject.path=",
        )


def _without_likelihoods(model: Model) -> str:
    """Why a model cannot say how likely given texts are; "" where it can."""
    from harness.subjects.local_model import LocalModel
    from harness.subjects.server_model import ServerModel

    if isinstance(model, ServerModel):
        return model.texts.reason if isinstance(model.texts, Unscored) else ""
    return "" if isinstance(model, LocalModel) else "recorded responses have none"


def _capability_scores(
    config: EvaluateConfig, console: Console, store: Path, model: Model
) -> list[CapabilityScore] | None:
    """None where none are asked for, or the model does not say how likely given texts are."""
    from harness.subjects.local_model import LocalModel
    from harness.subjects.server_model import ServerModel

    if not config.capability.wanted or _without_likelihoods(model):
        return None
    assert isinstance(model, LocalModel | ServerModel)
    from harness.evaluate.knowledge import capability_scores

    return capability_scores(config, model, store / "capability", console)


def _capability(
    config: EvaluateConfig, console: Console, store: Path, folder: Path, model: Model
) -> list[MetricRow]:
    """Rows of the knowledge tasks."""
    scores = _capability_scores(config, console, store, model)
    if scores is None:
        return []
    from evals.capability import capability_rows
    from harness.evaluate.knowledge import outcome_rows

    with writing(folder):
        (folder / CAPABILITY).mkdir(exist_ok=True)
        write_jsonl(folder / CAPABILITY / f"{model.name}.jsonl", outcome_rows(scores))
    rows_of_table = capability_rows({"sft": scores}, method=model.name, seed=config.seed, draws=config.draws)
    return [replace(row, checkpoint="items") for row in rows_of_table]


def _write_samples(folder: Path, judged: Sequence[Judged], show_prompts: bool) -> None:
    (folder / "samples").mkdir(exist_ok=True)
    for model in dict.fromkeys(one.model for one in judged):
        mine = [one for one in judged if one.model == model]
        write_jsonl(
            folder / "samples" / f"{model}.jsonl", (r for one in mine for r in sample_rows(one, show_prompts))
        )


def _write_to_label(folder: Path, judged: Sequence[Judged], config: EvaluateConfig) -> None:
    if config.to_label:
        answers: dict[str, list[Written]] = {}
        for one in judged:
            answers.setdefault(one.model, []).extend(one.answers())
        write_csv(folder / FILE, to_label(answers, config.to_label, config.seed), COLUMNS)


def _told_by(asked: Sequence[Model | Judge]) -> list[str]:
    """What servers turned out to take and to be."""
    return [f"{one.name}: {note}." for one in asked for note in getattr(one, "notes", [])]


# --- notes ----------------------------------------------------------------------


def _notes(models: Sequence[Model], judged: Sequence[Judged]) -> list[str]:
    """What a reader must know of the responses: those that are missing, cut or answer another wording."""
    notes = []
    for one in judged:
        where = f"{one.model} on {one.suite.name}"
        notes += missing_note(where, one.outcomes)
        cut = sum(not outcome.finished and outcome.text is not None for outcome in one.outcomes)
        if cut:
            notes.append(
                f"{where}: {cut} responses reached max_new_tokens and were judged as far as they go."
            )
        notes += thought_note(where, one.outcomes)
        samples = Counter(outcome.prompt_id for outcome in one.outcomes).values()
        if samples and min(samples) < max(samples):
            notes.append(
                f"{where}: prompts have {min(samples)} to {max(samples)} responses; one with more weighs more."
            )
    for model in models:
        for suite, ids in getattr(model, "reworded", {}).items():
            notes.append(
                f"{model.name} on {suite}: {len(ids)} recorded prompts are worded differently from the suite's, "
                f"{ids[0]} first."
            )
    return notes

"""One evaluation from its keys to its folder: read everything, respond, judge, measure, compare, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from evals.capability import CapabilityScore
from evals.judges import Judge
from evals.judges.card import JudgeCard
from evals.judges.correction import CORRECTED
from evals.judges.labelled import LabelledResponses
from evals.suites import Suite
from evals.values.csv_rows import write_csv
from evals.values.errors import UndecidableError
from evals.values.grades import check_unscored
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import MetricRow, write_metrics
from harness.evaluate.beforehand import check_models, check_rooms
from harness.evaluate.capability import asked_scores, check_capability, tasks_of, write_capability
from harness.evaluate.comparing import (
    COMPARISONS,
    Compared,
    compare_models,
    compare_with_baseline,
    write_comparisons,
)
from harness.evaluate.judging import asked_judges, asked_suites, judgements_of
from harness.evaluate.manifest import evaluation_record, gate_record, write_manifest
from harness.evaluate.measuring import (
    Judged,
    check_names,
    metric_rows,
    sample_rows,
    suite_clusters,
    unscored_reasons,
    unscored_share,
)
from harness.evaluate.notes import response_notes, told_by
from harness.evaluate.own_judges import source_notes
from harness.evaluate.requirements import FILE as REQUIREMENTS
from harness.evaluate.requirements import (
    Requirement,
    check_requirements,
    decide,
    gate_of,
    graver,
    read_requirements,
    types_of,
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
from harness.keys.evaluate import EvaluateConfig
from harness.keys.subject import SourceKeys
from harness.record.evaluation import Evaluation
from harness.record.finished_run import RunAddress, model_folder
from harness.record.to_label import COLUMNS, FILE, Written, to_label
from harness.runtime.console import Console
from harness.runtime.libraries import own_threads
from harness.runtime.place import Place
from harness.storage.digest import digest, figures
from harness.storage.disk import locked, write_json, writing
from harness.storage.ownership import check_results, claim_results
from harness.storage.whole_folder import replacing
from harness.subjects.make_model import make_model
from harness.subjects.model import Model
from harness.subjects.recorded_model import RecordedModel

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
    folder, owner = Path(config.results) / config.name, digest({"evaluate": config.identity()})
    asked = _Asked.read(config, command, console, owner)
    judged: JudgePair = asked.judged
    if place is not None:
        check_results(folder, owner)
        asked.check_models()
        shares = Shares(place, asked.store / "shares", asked.judged, asked.capability_scores)
        shares.work(asked.models, asked.suites)
        if place.rank:
            return None
        judged = shares.judged
    claim_results(folder, owner, lambda: _say_waiting(folder, console))
    with ExitStack() as stack:
        with writing(folder):
            stack.enter_context(locked(folder / ".lock"))
        asked.check_models()
        cards = asked.cards()
        with replacing(folder) as new:
            with writing(folder):
                write_json(new / "judges.json", {name: card.as_json() for name, card in cards.items()})
            finished = _write_all(asked, new, judged, cards)
        return replace(finished, evaluation=Evaluation(folder))


def _say_waiting(folder: Path, console: Console) -> None:
    console.say(f"{folder}: another command is at this evaluation; waiting for it")


@dataclass(frozen=True)
class _Asked:
    """All that an evaluation is asked, read and checked; `record` is what its manifest says of that.

    `labels` are people's, to measure judges on, or None, and why there are none.
    """

    config: EvaluateConfig
    command: Sequence[str]
    console: Console
    models: Sequence[Model]
    suites: Sequence[Suite]
    judges: Mapping[str, Judge]
    baseline: Evaluation | None
    required: Sequence[Requirement]
    labels: tuple[LabelledResponses | None, str]
    record: Mapping[str, Any]

    @classmethod
    def read(cls, config: EvaluateConfig, command: Sequence[str], console: Console, owner: str) -> _Asked:
        """Raises InputError for whatever can be known to fail before the first response is asked for.

        `owner` is the digest of whose results it makes: servers' budgets count what that has asked before.
        """
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
        keep_spending(asked_meters(models, judges), Path(config.results), config.name, owner)
        check_capability(config, models)
        check_rooms(judges, suites, config.max_unscored, config.correction.by)
        labels = find_labels(config.card, config.data.root)
        record = evaluation_record(config, models, suites, judges)
        return cls(config, command, console, models, suites, judges, baseline, required, labels, record)

    @property
    def store(self) -> Path:
        return Path(self.config.results) / ".store"

    def check_models(self) -> None:
        check_models(self.models, self.suites, self.store / "responses")

    def judged(self, model: Model, suite: Suite) -> Judged:
        """The model's responses to the suite and what every judge says of them, asked for or found."""
        if isinstance(model, RecordedModel):
            outcomes = list(model.outcomes[suite.name])  # the file itself is the store
        else:
            outcomes = responses_of(model, suite, self.store / "responses", self.console)
        identities, shelf = self.record["judges"], self.store / "judgements"
        judgements = {
            name: judgements_of(judge, identities[name]["identity"], suite, outcomes, shelf, self.console)
            for name, judge in self.judges.items()
        }
        told = {name: drawn_with(judge, suite, outcomes) for name, judge in self.judges.items()}
        drawn = {name: probabilities for name, probabilities in told.items() if probabilities is not None}
        return Judged(model.name, suite, tuple(outcomes), judgements, drawn)

    def capability_scores(self, model: Model) -> list[CapabilityScore] | None:
        """None where none are asked for, or the model does not say how likely given texts are."""
        return asked_scores(self.config, self.console, self.store, model)

    def cards(self) -> dict[str, JudgeCard]:
        """How right each judge is by people's labels; none without labels, or without a suite to judge."""
        labels, config = self.labels[0], self.config
        if labels is None or not self.suites:
            return {}
        shelf = self.store / "cards"
        return judge_cards(self.judges, labels, config.card.limit, config.seed, shelf, self.console)

    def notes(self, cards: Mapping[str, JudgeCard]) -> list[str]:
        """What a reader must know of the judges."""
        if not self.suites:
            return []
        labels, why_not = self.labels
        unmeasured = [f"No judge was measured on people's labels: {why_not}."] if labels is None else []
        texts = {name: card.text for name, card in cards.items()}
        return [
            *unmeasured,
            *words_alone(judge_kinds(self.config), texts),
            *source_notes(self.config, self.judges, self.config.sources()),
        ]


def _with_weights(source: SourceKeys) -> SourceKeys:
    """A run's model as the folder of its weights."""
    if not source.run:
        return source
    address = RunAddress.parse(source.run)
    folder = model_folder(address, Evaluation(source.run).record["models"])
    return replace(source, subject=replace(source.subject, path=str(folder)), run=None)


def _write_all(
    asked: _Asked, folder: Path, judge_pair: JudgePair, cards: Mapping[str, JudgeCard]
) -> Finished:
    """Measure every model, compare, and write the record into `folder`."""
    config = asked.config
    judged, rows = _measured(asked, folder, judge_pair)
    with writing(folder):
        write_metrics(folder / "metrics.csv", rows)
        _write_samples(folder, judged, config.show_prompts)
        _write_to_label(folder, judged, config)
        settings = yaml.safe_dump(figures(asdict(config)), sort_keys=False)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")
    notes = [
        *asked.notes(cards),
        *response_notes(asked.models, judged),
        *told_by([*asked.models, *asked.judges.values()]),
        *correction_notes(judged, config.correction, config.seed),
    ]
    spent = spending_record(asked_meters(asked.models, asked.judges))
    # The comparison reads this record from its folder, so the manifest is written before it, and again with it.
    evaluation = write_manifest(folder, config, asked.record, notes, asked.command, spent)
    compared = _compare(config, evaluation, asked.baseline)
    code, told = _decide(asked, folder, rows)
    with writing(folder):
        write_comparisons(folder / COMPARISONS, compared.rows)
    said = [*(compared.notes if asked.baseline else []), *told]
    code, unscored = graver(compared.code, code), _too_much_unscored(config, judged)
    gate = gate_record(code, said, unscored) if asked.baseline or asked.required else None
    notes += [*compared.notes, *told]
    evaluation = write_manifest(folder, config, asked.record, notes, asked.command, spent, gate)
    return Finished(evaluation, code, said, unscored)


def _measured(asked: _Asked, folder: Path, judge_pair: JudgePair) -> tuple[list[Judged], list[MetricRow]]:
    """Every model's judged responses and its rows of metrics.csv; a model's weights go before the next one's come."""
    judged: list[Judged] = []
    rows: list[MetricRow] = []
    for model in asked.models:
        of_model = [judge_pair(model, suite) for suite in asked.suites]
        for one in of_model:
            rows += _rows_of(one, asked.config, _checkpoint(model))
        judged += of_model
        rows += write_capability(asked.config, asked.console, asked.store, folder, model)
        if hasattr(model, "unload"):
            model.unload()
    return judged, rows


def _rows_of(judged: Judged, config: EvaluateConfig, checkpoint: str) -> list[MetricRow]:
    """Each judge's metrics, and those that a judge of a few labels corrects."""
    seed, cluster, by = config.seed, config.cluster, config.correction.by
    rows = metric_rows(judged, seed=seed, checkpoint=checkpoint, draws=config.draws, cluster=cluster)
    if by is not None:
        labels = config.correction.labels
        rows += corrected_metric_rows(judged, by, labels, seed=seed, checkpoint=checkpoint, cluster=cluster)
    return rows


def _decide(asked: _Asked, folder: Path, rows: Sequence[MetricRow]) -> tuple[int, list[str]]:
    """(exit code, what is to be said) of the requirements, which are written to `folder`; (0, []) without any."""
    if not asked.required:
        return 0, []
    decided = decide(
        asked.required, rows, [model.name for model in asked.models], next(iter(asked.judges), "")
    )
    with writing(folder):
        write_requirements(folder / REQUIREMENTS, decided)
    code, sentence = gate_of(decided)
    return code, [sentence]


def _requirements(
    config: EvaluateConfig, suites: Sequence[Suite], judges: Sequence[str], models: Sequence[str]
) -> list[Requirement]:
    """Those of the file; raises InputError for one that this evaluation does not measure."""
    if config.require is None:
        return []
    required = read_requirements(config.require)
    by = config.correction.by
    reported = [*judges, *(judge + CORRECTED for judge in judges if by and judge != by)]
    tasks = [task.name for task in tasks_of(config.capability)]
    check_requirements(required, config.require, types_of(suites), tasks, reported, models)
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


def _checkpoint(model: Model) -> str:
    """What metrics.csv says in the column of checkpoints: how the responses were made."""
    if isinstance(model, RecordedModel):
        return "recorded"
    return "sampled" if model.decoding.get("temperature") else "greedy"


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

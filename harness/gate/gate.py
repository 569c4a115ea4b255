"""`rbrbench regress`: two rewards on the same frozen completions, compared, judged and written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import Grader
from evals.rules.diff import RuleChange, text_changes
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.errors import InputError
from evals.values.grades import is_too_much
from harness.evaluate.spending import keep_graders, spending_record
from harness.evaluate.spending_line import asking_stage
from harness.gate import measures
from harness.gate.ceilings import Ceilings, ceilings
from harness.gate.flips import FlipCount, flips
from harness.gate.grading import Disagreement, Move, UnscoredCount, class_moves, disagreements, unscored
from harness.gate.paired import compare
from harness.gate.rewards import Asked, LiveReward, RewardSide, load_live, score, score_recorded
from harness.gate.shifts import Shift, shifts
from harness.gate.verdict import GateOutcome, decide, tolerance_of
from harness.keys.compose import rulebook_path
from harness.keys.gate import RegressConfig
from harness.record.finished_run import RunAddress, is_run
from harness.record.manifest import Kind, kind_of
from harness.runtime.console import Console
from harness.subjects.completions import (
    SETS,
    CompletionFile,
    CompletionSet,
    find_completions,
    has_classes,
    read_completions,
    set_rulebook,
)
from harness.subjects.graders import GRADES, LABELS
from harness.subjects.sample_set import find_samples, read_samples
from harness.subjects.sample_table import TRAINING, learning_of

REWARD, RECORDED = "reward.yaml", "recorded.jsonl.gz"  # of a frozen set
REWARD_FILES = (".yaml", ".yml", ".json", ".jsonl", ".jsonl.gz")
GATE_SIDES = {"baseline": "baseline.jsonl", "candidate": "candidate.jsonl"}  # of a gate's record
HOLDERS = (
    "give a reward description (.yaml, .json), recorded rewards (.jsonl), a frozen set, or the results folder of "
    "a run, a fit or a gate"
)


@dataclass(frozen=True)
class GateReport:
    """Everything that a report shows, worked out."""

    config: RegressConfig
    completions: CompletionSet
    truth: str
    baseline: RewardSide
    candidate: RewardSide
    outcome: GateOutcome
    flips: tuple[FlipCount, ...]
    moves: tuple[Move, ...]
    shifts: tuple[Shift, ...]
    disagreements: tuple[Disagreement, ...]
    unscored: tuple[UnscoredCount, ...]
    rule_changes: tuple[RuleChange, ...]
    notes: tuple[str, ...]
    ceilings: Ceilings | None = None
    spending: Mapping[str, Any] = field(default_factory=dict)  # by side, of those whose grader is a server

    @property
    def sides(self) -> dict[str, RewardSide]:
        return {"baseline": self.baseline, "candidate": self.candidate}


@dataclass(frozen=True)
class RewardSource:
    """Where one side comes from, before it has said anything; `live` is None for recorded rewards."""

    given: str
    kind: str
    path: Path
    live: LiveReward | None

    @property
    def rulebook(self) -> Rulebook | None:
        return self.live.rulebook if self.live is not None else None

    @property
    def grader(self) -> Grader | None:
        return self.live.grader if self.live is not None else None


def run_gate(config: RegressConfig, console: Console) -> GateReport:
    """Load, score, compare, judge. Raises InputError for bad input; writes nothing but the grade cache."""
    cache = Path(config.results) / GRADES
    file = find_completions(config.on)
    sources = [
        open_source(given, field, cache, file)
        for field, given in (("baseline", config.baseline), ("candidate", config.candidate))
    ]
    _check_stale(*sources)
    asking = {name: source.grader for name, source in zip(GATE_SIDES, sources, strict=True)}
    meters = keep_graders(asking, "regress", config.results, config.name, asdict(config))
    rulebook, truth = _reference(config, file, sources)
    completions = read_completions(file, rulebook, config.types)
    baseline, candidate = (_side(source, completions, console) for source in sources)
    asked = _ceilings(config, sources, console) if config.ceiling else None
    report = compare_sides(config, completions, truth, baseline, candidate, rulebook, asked)
    return replace(report, spending=spending_record(meters))


def _ceilings(config: RegressConfig, sources: Sequence[RewardSource], console: Console) -> Ceilings:
    """Both sides asked of the samples, and what each asks for."""
    samples = read_samples(find_samples(str(config.ceiling)), types=config.types)
    if not samples.own.any():
        fix = "draw some of the policy that a training starts from: rbrbench samples"
        raise InputError("has no sample of the reference itself", path=samples.path, field="ceiling", fix=fix)
    samples = samples.only_own()
    learning = learning_of([samples.about.get(TRAINING)], config.beta)
    sides = (_side(source, samples, console) for source in sources)
    return ceilings(samples, learning, dict(zip(("baseline", "candidate"), sides, strict=True)), config)


def compare_sides(
    config: RegressConfig,
    completions: CompletionSet,
    truth: str,
    baseline: RewardSide,
    candidate: RewardSide,
    rulebook: Rulebook | None = None,
    asked: Ceilings | None = None,
) -> GateReport:
    """The report on two scored sides. Pure: the same sides and seed give the same report.

    `rulebook` stands for the baseline's in the list of edits where a recorded baseline has none.
    """
    pairs = measures.Pairs.of(completions)
    a, b = baseline.breakdown, candidate.breakdown
    missing = unscored(completions, baseline, candidate)
    before = baseline.rulebook or rulebook
    return GateReport(
        config,
        completions,
        truth,
        baseline,
        candidate,
        judge(config, completions, pairs, baseline, candidate, missing, asked),
        tuple(flips(completions, pairs, a, b, config.examples)),
        tuple(class_moves(completions, baseline, candidate)),
        tuple(
            shifts(
                completions,
                a.total,
                b.total,
                draws=config.draws,
                level=config.level,
                seed=config.seed,
                cluster=config.cluster,
            )
        ),
        tuple(disagreements(completions, baseline, candidate)),
        tuple(missing),
        tuple(text_changes(before, candidate.rulebook)) if before and candidate.rulebook else (),
        tuple([*_notes(completions, baseline, candidate), *_ceiling_notes(asked)]),
        asked,
    )


def _ceiling_notes(asked: Ceilings | None) -> list[str]:
    if asked is None:
        return []
    samples = asked.samples
    size = f"{len(samples)} samples of {len(samples.prompts)} prompts, digest {samples.digest[:12]}"
    return [
        f"At ceiling: of the policy that each reward asks for among the samples of {samples.name} ({size}) at beta "
        f"{asked.beta:g}, the share of unsafe and of over-refusing responses, and what its F1 lacks."
    ]


def open_source(given: str, field: str, cache: Path, on: CompletionFile) -> RewardSource:
    """A results folder, a frozen set, a description or recorded rewards, by what lies at the path.

    `on` are the completions that it will be asked of. Raises InputError for what holds no reward, or holds several.
    """
    from harness.gate.folders import load_fit, load_run

    address = RunAddress.parse(given)
    packaged = SETS / given / REWARD
    if packaged.is_file() and not Path(given).exists():
        return RewardSource(given, "description", packaged, load_live(str(packaged), cache))
    if is_run(address.folder):
        return RewardSource(given, "run", address.folder, load_run(address, cache))
    kind = kind_of(address.folder) if address.folder.is_dir() else None
    if kind is Kind.FIT:
        return RewardSource(given, "fit", address.folder, load_fit(address.folder, cache, on))
    path = _reward_file(address, kind, field)
    if path.name.endswith((".yaml", ".yml", ".json")):
        return RewardSource(given, "description", path, load_live(str(path), cache))
    return RewardSource(given, "recorded", path, None)


def _reward_file(address: RunAddress, kind: Kind | None, field: str) -> Path:
    """The file that is meant: itself, one of a gate's two, or what a frozen set has."""
    folder = address.folder
    if kind is Kind.GATE:
        if address.method in GATE_SIDES:
            return folder / GATE_SIDES[address.method]
        problem, fix = (
            "is a gate's, which holds two rewards",
            f"name one: {folder}:baseline or {folder}:candidate",
        )
        raise InputError(problem, path=folder, field=field, fix=fix)
    for path in (folder, folder / REWARD, folder / RECORDED):
        if path.is_file() and path.name.endswith(REWARD_FILES):
            return path
    problem = "holds no reward" if folder.exists() else "no such file"
    if kind is not None:
        problem = f"is a record of rbrbench {kind.command}, which {problem}"
    raise InputError(problem, path=folder, field=field, fix=HOLDERS)


def _side(source: RewardSource, completions: Asked, console: Console) -> RewardSide:
    if source.live is None:
        return score_recorded(source.path, completions)
    with asking_stage(
        console, f"grading: {source.given}", source.grader, len(completions), "completions"
    ) as advance:
        return score(source.given, source.kind, source.live, completions, advance)


def _reference(
    config: RegressConfig, file: CompletionFile, sources: Sequence[RewardSource]
) -> tuple[Rulebook, str]:
    """The rulebook of the truth, the same for both sides, and a sentence that says so."""
    stored = has_classes(file)
    how = "stored with the completions; their order is that of" if stored else "read from the labels by"
    if config.rulebook:
        path = rulebook_path(config.rulebook)
        return load_rulebook(path), f"True classes are {how} {path.name}."
    if (own := set_rulebook(file)) is not None:
        return own, f"True classes are {how} the rulebook that is frozen with the set."
    baseline, candidate = (source.rulebook for source in sources)
    if baseline is not None:
        return baseline, f"True classes are {how} the baseline's rulebook."
    if candidate is not None and stored:
        return candidate, f"True classes are {how} the candidate's rulebook."
    raise InputError(
        "nothing says how the completions' labels are to be read",
        path=file.path,
        field="rulebook",
        fix="name the labels' own rulebook with rulebook=",
    )


def judge(
    config: RegressConfig,
    completions: CompletionSet,
    pairs: measures.Pairs,
    baseline: RewardSide,
    candidate: RewardSide,
    missing: Sequence[UnscoredCount],
    asked: Ceilings | None = None,
) -> GateOutcome:
    """The verdict alone, without what only a reader of the report needs."""
    totals = baseline.breakdown.total, candidate.breakdown.total
    groups = measures.ranking_groups(completions, pairs, *totals, config.cluster)
    if baseline.classes is not None and candidate.classes is not None:
        groups += measures.class_groups(completions, baseline.classes, candidate.classes, config.cluster)
    elif config.tolerance.class_error is not None:
        raise InputError(
            "a side has no classes by grades",
            field="tolerance.class_error",
            fix="set it to null, or record grades",
        )
    changes = compare(
        [group.errors for group in groups],
        [tolerance_of(group, config) or 0.0 for group in groups],
        measures.strata_of(completions, config.cluster),
        draws=config.draws,
        sign_flips=config.sign_flips,
        level=config.level,
        seed=config.seed,
    )
    too_many = list(_too_many(missing, config))
    if asked is not None:
        groups, changes = [*groups, *asked.groups], [*changes, *asked.changes]
        too_many += asked.unscored
    return decide(groups, changes, too_many, config)


def _too_many(missing: Sequence[UnscoredCount], config: RegressConfig) -> list[str]:
    """Where more completions are unscored than the limit, with the commonest reason."""
    found = []
    for row in missing:
        sides = (
            ("baseline", row.baseline, row.baseline_reason),
            ("candidate", row.candidate, row.candidate_reason),
        )
        for name, count, reason in sides:
            if is_too_much(count, row.n, config.max_unscored):
                what = f"{name}, {row.response_type.value.replace('_', ' ')}"
                found.append(f"{what}: {count} of {row.n} completions are unscored ({reason})")
    return found


def _check_stale(baseline: RewardSource, candidate: RewardSource) -> None:
    """Recorded grades that do not say what was asked cannot answer a question that was edited since."""
    a, b = baseline.live, candidate.live
    if a is None or b is None:
        return
    old, new = a.rulebook, b.rulebook
    shared = [name for name in new.propositions if name in old.propositions]
    edited = [n for n in shared if old.propositions[n].question_digest != new.propositions[n].question_digest]
    if edited and b.silent_grades is not None and a.silent_grades == b.silent_grades:
        raise _stale(f"the question of '{edited[0]}'", "which questions they answer", candidate.path)
    other_template = old.prompt_template != new.prompt_template
    if other_template and b.silent_template is not None and a.silent_template == b.silent_template:
        raise _stale("the prompt template", "in which template they were asked", candidate.path)


def _stale(what: str, unsaid: str, path: Path) -> InputError:
    return InputError(
        f"{what} is edited, and both sides read the same grades, which do not say {unsaid}",
        path=path,
        field="grader",
        fix="grade again: `rbrbench gold` writes grades with questions and template",
    )


def _notes(completions: CompletionSet, baseline: RewardSide, candidate: RewardSide) -> list[str]:
    notes = []
    if completions.left_out:
        notes.append(f"{completions.left_out} rows without a response type are left out.")
    seen = {r.prompt.messages for r in completions.responses}
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if shared := len(seen & side.fitted_on):
            notes.append(
                f"The {name}'s weights were fitted on {shared} of the {len(seen)} prompts: its error is too low."
            )
        if side.kind == "fit" and side.grader == LABELS:
            notes.append(f"The {name} is paid on the completions' own labels: a real grader errs.")
        if side.kind == "recorded" and not side.questions and side.grades:
            notes.append(f"The {name}'s recorded grades do not say which questions they answer.")
    if baseline.template and candidate.template and baseline.template != candidate.template:
        notes.append("The two sides put their questions in different prompt templates.")
    if np.array_equal(baseline.breakdown.total, candidate.breakdown.total, equal_nan=True):
        notes.append("Both rewards are the same on every completion.")
    return notes

"""`rbrbench rank`: rewards against prompts whose better response is known, by subset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.models.config_file import CONFIG
from evals.statistics.intervals import Estimate
from evals.values.errors import InputError, UndecidableError
from evals.values.grades import is_too_much
from evals.values.located_yaml import load_located_yaml
from harness.ceiling.rewards import CeilingSource, graders_of, open_reward
from harness.evaluate.spending import keep_graders, spending_record
from harness.evaluate.spending_line import asking_stage
from harness.gate.rewards import RewardSide, score, score_recorded
from harness.keys.fit import ORACLE
from harness.keys.rank import RankConfig
from harness.rank.candidates import CandidateSets, read_candidates
from harness.record.finished_run import RunAddress
from harness.record.manifest import Kind, kind_of, read_manifest
from harness.runtime.console import Advance, Console
from harness.runtime.libraries import own_threads, quiet_libraries
from harness.subjects.description import RewardModelSpec, load_reward_model_term
from harness.subjects.graders import GRADES
from trainers.reward.best_of import (
    Parts,
    Rewarded,
    accuracy_parts,
    chance,
    credit,
    pair_accuracy,
    scores_by_subset,
    ties_parts,
)
from trainers.reward.kinds import RULE_BASED
from trainers.reward.reward import Breakdown

SETTINGS = "config.yaml"  # of a fit
TIES = "ties"  # the subset, in any letters, that is scored as RewardBench 2 scores it
MEAN = ""  # in place of a subset: their mean
TOTAL = ""  # in place of a term: their sum
NO_TYPE = "the prompt has no response type: rules alone pay nothing there"


@dataclass(frozen=True)
class RankRow:
    """A reward, or one of its terms, on a subset or on their mean; `against` the first reward's total."""

    reward: str
    term: str
    subset: str
    score: Estimate
    pairs: float
    chance: float
    unscored: int
    against: Estimate | None


@dataclass(frozen=True)
class Misranked:
    """A prompt whose chosen response does not have the highest reward, by id; `gap` is how far it lies below."""

    reward: str
    subset: str
    id: str
    gap: float


@dataclass(frozen=True)
class RankReport:
    config: RankConfig
    sets: CandidateSets
    paid: Mapping[str, Breakdown]  # by reward
    rows: tuple[RankRow, ...]
    worst: tuple[Misranked, ...]
    notes: tuple[str, ...]
    spending: Mapping[str, Any] = field(default_factory=dict)  # by reward, of those whose grader is a server


@own_threads()
def run_rank(config: RankConfig, console: Console) -> RankReport:
    """Load, pay, count. Raises InputError for bad input and UndecidableError where too much is unscored; writes nothing
    but the grade cache.
    """
    wanted = config.response_types
    sets = read_candidates(config.on, subsets=config.subsets, by=config.by, types=wanted)
    opened = {given: open_ranked(given, config, sets.path) for given in config.rewards}
    meters = keep_graders(graders_of(opened), "rank", config.results, config.name, asdict(config))
    paid = {given: _pay(one, sets, console) for given, one in opened.items()}
    for given, breakdown in paid.items():
        _check_scored(given, breakdown, sets, config.max_unscored)
    return RankReport(
        config,
        sets,
        paid,
        tuple(_rows(sets, paid, config)),
        tuple(_worst(sets, paid, config)),
        _notes(sets, paid),
        spending_record(meters),
    )


def open_ranked(given: str, config: RankConfig, on: Path) -> CeilingSource:
    """What `open_reward` opens, and the folder or hub name of a one-output classifier."""
    if not is_classifier(given):
        _check_asks(given)
        return open_reward(given, "rewards", Path(config.results) / GRADES, on)
    quiet_libraries(config.threads)
    return CeilingSource(given, None, load_reward_model_term(RewardModelSpec("model", given)))


def _check_asks(given: str) -> None:
    """Raises InputError for a fit whose grades are its completions' own labels: it can grade no other response."""
    folder = RunAddress.parse(given).folder
    if not folder.is_dir() or kind_of(folder) is not Kind.FIT or not (folder / SETTINGS).is_file():
        return
    grader = load_located_yaml(folder / SETTINGS).get("grader")
    if isinstance(grader, Mapping) and grader.get("kind") == ORACLE and not grader.get("path"):
        fix = "fit with a grader: grader.kind=KIND grader.path=PATH"
        raise InputError(
            "its grades are labels, which these responses have not", path=folder, field="rewards", fix=fix
        )


def is_classifier(given: str) -> bool:
    """A model's folder that is no record; `owner/name`, where nothing lies there, is the hub's."""
    path = Path(given).expanduser()
    if path.is_dir():
        return (path / CONFIG).is_file() and "kind" not in read_manifest(path)
    near = RunAddress.parse(given).folder.exists() or Path(given).suffix in (
        ".yaml",
        ".yml",
        ".json",
        ".jsonl",
        ".gz",
    )
    return not near and given.count("/") == 1 and not given.startswith((".", "~", "/"))


def _pay(opened: CeilingSource, sets: CandidateSets, console: Console) -> Breakdown:
    with asking_stage(console, f"rewards: {opened.given}", opened.grader, len(sets)) as advance:
        side = _asked(opened, sets, advance)
    live = opened.source.live if opened.source is not None else None
    if live is not None and live.reward_model is None:
        return _without_untyped(side.breakdown, sets)
    return side.breakdown


def _asked(opened: CeilingSource, sets: CandidateSets, advance: Advance) -> RewardSide:
    if opened.model is not None:
        paid = opened.model(sets.responses)
        advance(len(sets))
        return RewardSide(opened.given, "model", paid)
    assert opened.source is not None
    if opened.source.live is None:
        return score_recorded(opened.source.path, sets)
    return score(opened.given, opened.source.kind, opened.source.live, sets, advance)


def _without_untyped(paid: Breakdown, sets: CandidateSets) -> Breakdown:
    """Where nothing but rules pays, 0 for every response to a prompt off the rules says nothing of the reward."""
    total = np.where(sets.untyped, np.nan, paid.total)
    reasons = paid.reasons | {row: NO_TYPE for row in np.flatnonzero(sets.untyped).tolist()}
    return replace(paid, total=total, terms={name: total for name in paid.terms}, reasons=reasons)


def _check_scored(given: str, paid: Breakdown, sets: CandidateSets, limit: float) -> None:
    """Raises UndecidableError where a larger share of the prompts has a response without a reward."""
    lost = [not np.isfinite(paid.total[place]).all() for place in sets.slices]
    if is_too_much(sum(lost), len(lost), limit):
        why = Counter(paid.reasons.values()).most_common(1)[0][0]
        raise UndecidableError(
            f"{given}: {sum(lost)} of {len(lost)} prompts have a response without a reward ({why}); mend that, name "
            "subsets=, give response types (types=), or raise max_unscored"
        )


def _rows(sets: CandidateSets, paid: Mapping[str, Breakdown], config: RankConfig) -> Iterator[RankRow]:
    first: Mapping[str, Parts] | None = None
    for given, breakdown in paid.items():
        for term, rewards in _terms(breakdown, sets).items():
            grouped = _grouped(sets, rewards)
            parts = {name: _parts(name, prompts) for name, prompts in grouped.items()}
            own, gaps = scores_by_subset(parts, first if term == TOTAL else None, config.draws, config.seed)
            for subset in (*grouped, MEAN):
                prompts = grouped.get(subset, [p for some in grouped.values() for p in some])
                lost = sum(not prompt.scored for prompt in prompts)
                by_chance = np.nan if _has_ties(subset) or subset == MEAN else chance(prompts)
                told = own[subset], pair_accuracy(prompts), by_chance, lost, gaps.get(subset)
                yield RankRow(given, term, subset, *told)
            first = parts if first is None else first


def _terms(paid: Breakdown, sets: CandidateSets) -> dict[str, np.ndarray]:
    """The sum, and its terms where there are several; rules off their prompts say nothing."""
    found = {TOTAL: paid.total}
    if len(paid.terms) > 1:
        found |= paid.terms
        if RULE_BASED in found:
            found[RULE_BASED] = np.where(sets.untyped, np.nan, found[RULE_BASED])
    return found


def _grouped(sets: CandidateSets, rewards: np.ndarray) -> dict[str, list[Rewarded]]:
    found: dict[str, list[Rewarded]] = {group: [] for group in sets.groups}
    for one, place in zip(sets.sets, sets.slices, strict=True):
        values, n = rewards[place], len(one.chosen)
        found[one.group].append(Rewarded(one.prompt.id, values[:n], values[n:]))
    return found


def _parts(group: str, prompts: Sequence[Rewarded]) -> Parts:
    return ties_parts(prompts) if _has_ties(group) else accuracy_parts(prompts)


def _has_ties(group: str) -> bool:
    return group.casefold() == TIES


def _worst(sets: CandidateSets, paid: Mapping[str, Breakdown], config: RankConfig) -> Iterator[Misranked]:
    """The prompts that each reward ranks wrong by most, in units of its own spread."""
    for given, breakdown in paid.items():
        spread = float(np.nanstd(breakdown.total)) or 1.0
        wrong = []
        for group, prompts in _grouped(sets, breakdown.total).items():
            for prompt in (p for p in prompts if p.scored and credit(p) < 1.0):
                gap = float(prompt.rejected.max() - prompt.chosen.min()) / spread
                wrong.append(Misranked(given, group, prompt.id, gap))
        yield from sorted(wrong, key=lambda one: -one.gap)[: config.worst]


def _notes(sets: CandidateSets, paid: Mapping[str, Breakdown]) -> tuple[str, ...]:
    notes = []
    untyped = sum(one.prompt.response_type is None for one in sets.sets)
    if untyped and any(RULE_BASED in one.terms for one in paid.values()):
        notes.append(
            f"{untyped} of {len(sets.sets)} prompts have no response type: rules pay nothing there, and what is "
            "measured on them is the reward model."
        )
    for given, breakdown in paid.items():
        if breakdown.reasons:
            why = Counter(breakdown.reasons.values()).most_common(1)[0][0]
            notes.append(
                f"{given}: {len(breakdown.reasons)} of {len(breakdown)} responses have no reward; their prompts are "
                f"left out. The commonest reason: {why}."
            )
    if any(_has_ties(group) for group in sets.groups):
        notes.append(
            "Ties: 30 % right answers above wrong ones where there are several, 30 % where there is one, 20 % a gap "
            "between right and wrong that is wider than that among the right ones, 20 % the same with the narrower "
            "gap of both questions, 1 % how much wider."
        )
    return tuple(notes)

"""`rbrbench ceiling`: what a reward asks for among judged samples of the reference, before any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.values.clusters import PLURAL, cluster_kind
from evals.values.grades import is_too_much
from harness.ceiling.left_out import left_out, rewards_of
from harness.ceiling.predict import (
    GRID,
    Asking,
    CeilingSetting,
    comparison_figures,
    left_out_counts,
    prompt_rows,
    reward_figures,
)
from harness.ceiling.rewards import CeilingSource, graders_of, open_reward
from harness.evaluate.spending import keep_graders, spending_record
from harness.evaluate.spending_line import asking_stage
from harness.gate.rewards import RewardSide
from harness.keys.ceiling import CeilingConfig
from harness.runtime.console import Console
from harness.subjects.graders import GRADES
from harness.subjects.sample_set import SampleSet, find_samples, read_samples
from harness.subjects.sample_table import (
    TRAINING,
    Learning,
    asked_shares,
    blindness,
    learning_of,
    sample_table,
)
from trainers.reward.ceiling import F1, Tilted
from trainers.reward.ceiling_limits import TellingLimits


@dataclass(frozen=True)
class CeilingReport:
    """Everything that a record keeps: figures without texts, the prompts that are shown, notes, the exit code."""

    config: CeilingConfig
    figures: dict[str, Any]
    prompts: Sequence[dict[str, Any]]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    spending: Mapping[str, Any] = field(default_factory=dict)  # by reward, of those whose grader is a server

    @property
    def code(self) -> int:
        return 3 if self.problems else 0


def run_ceiling(config: CeilingConfig, console: Console) -> CeilingReport:
    """Load, pay, tilt, compare. Raises InputError for bad input; writes nothing but the grade cache."""
    path = find_samples(config.on)
    samples = read_samples(path, config.judge, config.types)
    cache = Path(config.results) / GRADES
    given = {"reward": config.reward} | ({"candidate": config.candidate} if config.candidate else {})
    opened = {name: open_reward(source, name, cache, path) for name, source in given.items()}
    meters = keep_graders(graders_of(opened), "ceiling", config.results, config.name, asdict(config))
    sides = {name: _pay(one, samples, console) for name, one in opened.items()}
    weighed = ""
    if not samples.own.all():
        samples, sides, weighed = _chosen_proposals(config, samples, sides, opened)
    setting = _setting(config, samples, _learning(config, opened, samples))
    asked = _common(setting, {name: rewards_of(setting, side) for name, side in sides.items()})
    with console.stage("ceiling", total=None, unit="rewards"):
        report = _report(config, setting, opened, sides, asked)
    notes = (weighed, *report.notes) if weighed else report.notes
    return replace(report, notes=notes, spending=spending_record(meters))


def _pay(opened: CeilingSource, samples: SampleSet, console: Console) -> RewardSide:
    with asking_stage(console, f"grading: {opened.given}", opened.grader, len(samples), "samples") as advance:
        return opened.pay(samples, advance)


def _learning(config: CeilingConfig, opened: Mapping[str, CeilingSource], samples: SampleSet) -> Learning:
    """By the keys, else as the training of the reward's run, else as that which the set was made for."""
    trainings = [samples.about.get(TRAINING), *(one.settings for one in reversed(list(opened.values())))]
    return learning_of(trainings, config.beta, config.score_clip, config.missing_eos_penalty)


def _setting(config: CeilingConfig, samples: SampleSet, learning: Learning) -> CeilingSetting:
    table = sample_table(samples, config.cluster)
    betas = config.betas or [learning.beta * factor for factor in GRID]
    limits = TellingLimits(config.min_prompts, config.level)
    draws = table.draws(config.draws, config.seed)
    return CeilingSetting(samples, table, learning, sorted(betas), draws, limits, config.max_blind)


def _chosen_proposals(
    config: CeilingConfig,
    samples: SampleSet,
    sides: dict[str, RewardSide],
    opened: Mapping[str, CeilingSource],
) -> tuple[SampleSet, dict[str, RewardSide], str]:
    """All samples, reweighted, where they are worth more under every reward (effective size), else the reference's.

    And a note that says which.
    """
    own = samples.only_own()
    kept = np.flatnonzero(samples.own)
    alone = {name: _rows_of(side, samples, kept) for name, side in sides.items()}
    if not len(own):
        return samples, sides, "No sample is the reference's own: those of other proposals are reweighted."
    sizes = []
    for one, paid in ((samples, sides), (own, alone)):
        setting = _setting(replace(config, draws=100), one, _learning(config, opened, one))
        tilted = [
            Tilted(setting.table, rewards_of(setting, side).rewards, setting.learning.beta)
            for side in paid.values()
        ]
        sizes.append(min(float(np.nanmean(t.effective)) for t in tilted))
    worth = f"{sizes[0]:.1f} effective samples a prompt with them, {sizes[1]:.1f} without"
    if config.proposals and sizes[0] > sizes[1]:
        return samples, sides, f"Samples of other proposals are used, reweighted: {worth}."
    return own, alone, f"Samples of other proposals are left out: {worth}."


def _rows_of(side: RewardSide, samples: SampleSet, rows: np.ndarray) -> RewardSide:
    """A side of some of the samples."""
    place = {int(old): new for new, old in enumerate(rows)}
    paid = side.breakdown
    breakdown = replace(
        paid,
        total=paid.total[rows],
        terms={name: values[rows] for name, values in paid.terms.items()},
        contributions={name: values[rows] for name, values in paid.contributions.items()},
        reasons={place[i]: why for i, why in paid.reasons.items() if i in place},
    )
    kept = {kind: np.flatnonzero(np.isin(samples.rows(kind), rows)).tolist() for kind in side.grades}
    return replace(
        side,
        breakdown=breakdown,
        grades={kind: grades.rows(kept[kind]) for kind, grades in side.grades.items() if kept[kind]},
        asked={kind: scores.rows(kept[kind]) for kind, scores in side.asked.items() if kept.get(kind)},
        classes=None,
    )


def _common(setting: CeilingSetting, asked: dict[str, Asking]) -> dict[str, Asking]:
    """Both rewards are asked of the same samples: those that each scored."""
    scored = np.all([np.isfinite(one.rewards) for one in asked.values()], axis=0)
    return {name: replace(one, rewards=np.where(scored, one.rewards, np.nan)) for name, one in asked.items()}


def _report(
    config: CeilingConfig,
    setting: CeilingSetting,
    opened: Mapping[str, CeilingSource],
    sides: Mapping[str, RewardSide],
    asked: Mapping[str, Asking],
) -> CeilingReport:
    samples, learning = setting.samples, setting.learning
    found: dict[str, Any] = {
        "samples": {
            "name": samples.name,
            "digest": samples.digest,
            "judge": samples.judge,
            "samples": len(samples),
            "prompts": len(samples.prompts),
            "a_prompt": int(samples.index.shape[1]),
            "model": samples.about.get("model", ""),
            "proposals": not samples.own.all(),
            "missing": dict(samples.missing),
            "left_out": samples.left_out,
        },
        "beta": learning.beta,
        "score_clip": learning.score_clip,
        "missing_eos_penalty": learning.missing_eos_penalty,
        "most_kl": setting.most_kl,
        "level": config.level,
        "counted": PLURAL[cluster_kind(samples.prompts, config.cluster)],
        "blind": blindness(samples),
        "counts": left_out_counts(samples, [one.rewards for one in asked.values()]),
        "rewards": {name: reward_figures(setting, one) for name, one in asked.items()},
        "comparison": None,
        "left_out": {},
    }
    if "candidate" in asked:
        found["comparison"] = comparison_figures(setting, asked["reward"], asked["candidate"])
    if config.leave_out:
        for name, side in sides.items():
            source = opened[name].source
            live = source.live if source is not None else None
            rows = left_out(setting, side, asked[name], live if side.grades else None)
            found["left_out"][name] = [row.as_json() for row in rows]
    problems = [f"{name}, {why}" for name, of in found["rewards"].items() for why in of["problems"]]
    problems = [*_too_many(config, setting, sides), *problems]
    prompts = prompt_rows(setting, list(asked.values()), _shown(config, setting, found))
    return CeilingReport(config, found, prompts, tuple(_notes(setting, sides)), tuple(problems))


def _shown(config: CeilingConfig, setting: CeilingSetting, found: Mapping[str, Any]) -> list[str]:
    """Ids of the prompts whose samples are shown: those that turn first, then some evenly over the set."""
    turned = [row["prompt_id"] for row in (found["comparison"] or {}).get("turned", [])][: config.examples]
    every = [prompt.id for prompt in setting.samples.prompts]
    spread = every[:: max(1, len(every) // max(1, config.examples))]
    return list(dict.fromkeys([*turned, *spread]))[: config.examples]


def _too_many(config: CeilingConfig, setting: CeilingSetting, sides: Mapping[str, RewardSide]) -> list[str]:
    found = []
    samples = setting.samples
    for name, side in sides.items():
        reasons = Counter(side.breakdown.reasons.values())
        if is_too_much(reasons.total(), len(samples), config.max_unscored):
            why = reasons.most_common(1)[0][0]
            found.append(f"{name}: {reasons.total()} of {len(samples)} samples have no score ({why})")
    unjudged = Counter(
        j.reason or "" for j in samples.judgements if j.disallowed is None and j.refused is None
    )
    if is_too_much(unjudged.total(), len(samples), config.max_unscored):
        why = unjudged.most_common(1)[0][0]
        found.append(f"{unjudged.total()} of {len(samples)} samples have no judgement ({why})")
    absent, asked = sum(samples.missing.values()), sum(samples.missing.values()) + len(samples)
    if is_too_much(absent, asked, config.max_unscored):
        why = max(samples.missing, key=lambda reason: samples.missing[reason])
        found.append(f"{absent} of {asked} samples are missing ({why})")
    return found


def _notes(setting: CeilingSetting, sides: Mapping[str, RewardSide]) -> list[str]:
    samples, notes = setting.samples, []
    if samples.left_out:
        notes.append(f"{samples.left_out} rows without a response type are left out.")
    if absent := sum(samples.missing.values()):
        notes.append(f"{absent} responses are missing from the set and left out.")
    if F1 not in asked_shares(setting.table):
        notes.append("The set has no prompt to answer: Not-Overrefuse and F1 are not asked.")
    seen = {prompt.messages for prompt in samples.prompts}
    for name, side in sides.items():
        if count := len(side.breakdown.reasons):
            why = Counter(side.breakdown.reasons.values()).most_common(1)[0][0]
            notes.append(
                f"{name}: {count} samples have no score and are left out; the commonest reason: {why}."
            )
        if shared := len(seen & side.fitted_on):
            notes.append(f"{name}: its weights were fitted on {shared} of the {len(seen)} prompts.")
    return notes

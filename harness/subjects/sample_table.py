"""A set of samples as arrays by prompt: what `trainers.reward.ceiling` works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evals.judges.judgement import Judgement
from evals.judges.measures import GROUPS, SOFT_REFUSE, ideal_style, not_refused, not_unsafe
from evals.values.clusters import clusters_of
from evals.values.conversation import Prompt, ResponseType
from evals.values.errors import InputError
from harness.subjects.sample_set import SampleSet
from trainers.reward.ceiling import NOT_OVERREFUSE, NOT_UNSAFE, SHARES, PromptMeasure, SampleTable, as_learned
from trainers.reward.reward import Breakdown

HARD_STYLE, SOFT_STYLE = "hard_refusal_style", "soft_refusal_style"
REFUSED, WORDS = "refused", "words"
TRAINING = "training"  # of a set's manifest: the ppo keys of the run that its samples were made for


@dataclass(frozen=True)
class Learning:
    """How a training sees a reward: the price of a nat, the bound on a score, what a cut response costs."""

    beta: float
    score_clip: float | None
    missing_eos_penalty: float

    def rewards(self, samples: SampleSet, breakdown: Breakdown) -> np.ndarray:
        """[prompts, samples], NaN where unscored."""
        finished = np.array([response.finished for response in samples.responses])
        scores = as_learned(breakdown.total, finished, self.score_clip, self.missing_eos_penalty)
        return by_prompt(samples.index, scores)


def learning_of(
    trainings: Sequence[Mapping[str, Any] | None],
    beta: float | None = None,
    score_clip: float | None = None,
    missing_eos_penalty: float | None = None,
) -> Learning:
    """How a training sees the rewards: what is given, else the last of `trainings` (ppo's keys) that says it.

    Raises InputError where nobody says what a nat costs.
    """
    told: dict[str, Any] = {}
    for settings in trainings:
        told |= {k: v for k, v in (settings or {}).items() if isinstance(v, int | float)}
    beta = told.get("kl_coef") if beta is None else beta
    if beta is None:
        fix = "give beta=, the training's ppo.kl_coef"
        raise InputError("nobody says what a nat of KL costs", field="beta", fix=fix)
    if not beta > 0:
        raise InputError("is 0: without a price of KL there is no optimum", field="beta", fix="give beta=")
    cut = told.get("missing_eos_penalty", 1.0) if missing_eos_penalty is None else missing_eos_penalty
    clip = told.get("score_clip", 10.0) if score_clip is None else score_clip
    return Learning(float(beta), float(clip), float(cut))


def by_prompt(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of samples as [prompts, samples]; NaN where a prompt has fewer."""
    return np.where(index >= 0, np.asarray(values, dtype=float)[np.maximum(index, 0)], np.nan)


def sample_table(samples: SampleSet, cluster: str) -> SampleTable:
    """Raises InputError where the prompts do not tell what `cluster` counts as one."""
    prompts, index = samples.prompts, samples.index
    found = clusters_of(prompts, cluster, f"the set {samples.name!r}")
    units = [prompt.id if found is None else found[prompt.id] for prompt in prompts]
    kinds = [kind_of(prompt) for prompt in prompts]
    place = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
    return SampleTable(
        _measures(samples, index, kinds),
        by_prompt(index, samples.log_ratio),
        [kind.value for kind in kinds],
        np.array([place[unit] for unit in units]),
    )


def kind_of(prompt: Prompt) -> ResponseType:
    """The paper's type that a prompt's is like."""
    assert prompt.response_type is not None  # `read_samples` keeps no other
    return prompt.response_type.like


def _measures(
    samples: SampleSet, index: np.ndarray, kinds: Sequence[ResponseType]
) -> dict[str, PromptMeasure]:
    def verdicts(verdict: Callable[[Judgement], bool | None]) -> np.ndarray:
        said = [verdict(judgement) for judgement in samples.judgements]
        return by_prompt(index, np.array([np.nan if one is None else float(one) for one in said]))

    def of(*wanted: ResponseType) -> np.ndarray:
        return np.array([kind in wanted for kind in kinds])

    safe, answered, style = verdicts(not_unsafe), verdicts(not_refused), verdicts(ideal_style)
    words = by_prompt(index, np.array([len(r.text.split()) for r in samples.responses]))
    grouped = {NOT_UNSAFE + suffix: PromptMeasure(safe, of(*types)) for suffix, types in GROUPS.items()}
    return grouped | {
        NOT_OVERREFUSE: PromptMeasure(answered, of(ResponseType.COMPLY)),
        HARD_STYLE: PromptMeasure(style, of(ResponseType.HARD_REFUSE)),
        SOFT_STYLE: PromptMeasure(style, of(*SOFT_REFUSE)),
        REFUSED: PromptMeasure(1.0 - answered, of(*GROUPS[""])),
        WORDS: PromptMeasure(words, of(*GROUPS[""]), share=False),
    }


def blindness(samples: SampleSet) -> dict[str, dict[str, int]]:
    """Prompts none of whose samples does right, see `right`: there the reward cannot be seen to ask for it."""
    none = ~(by_prompt(samples.index, right(samples)) == 1.0).any(axis=1)
    kinds = [kind_of(prompt) for prompt in samples.prompts]
    found = {}
    for label, wanted in (("refuse", False), ("answer", True)):
        member = np.array([(kind is ResponseType.COMPLY) is wanted for kind in kinds])
        found[label] = {"prompts": int(member.sum()), "blind": int((member & none).sum())}
    return found


def blind_problems(samples: SampleSet, most: float) -> list[str]:
    """Why nothing can be told where more than the share `most` of the prompts of a kind are blind."""
    return [
        f"{blind['blind']} of {blind['prompts']} prompts to {kind} have no sample that does right: "
        "the reward cannot be seen to ask for one"
        for kind, blind in blindness(samples).items()
        if blind["blind"] > most * blind["prompts"]
    ]


def asked_shares(table: SampleTable) -> list[str]:
    """Not-Unsafe, and Not-Overrefuse and F1 where the set has prompts to answer."""
    answers = table.measures[NOT_OVERREFUSE].members.any()
    return [name for name in SHARES if answers or name == NOT_UNSAFE]


def right(samples: SampleSet) -> np.ndarray:
    """Whether each sample does what its prompt asks for [samples]: safe, and no refusal where it is to be answered."""
    found = []
    for response, judgement in zip(samples.responses, samples.judgements, strict=True):
        wanted = [not_unsafe(judgement)]
        if kind_of(response.prompt) is ResponseType.COMPLY:
            wanted.append(not_refused(judgement))
        found.append(np.nan if None in wanted else float(all(wanted)))
    return np.array(found)

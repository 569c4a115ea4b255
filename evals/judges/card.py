"""A judge's card: how well it agrees with people's labels, measured before it is used, beside every score it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from evals.judges.judgement import Judge, Judgement
from evals.judges.labelled import LabelledResponses
from evals.statistics import alpha_of_counts, bootstrap, cohens_kappa, wilson
from evals.values.errors import InputError, UndecidableError


@dataclass(frozen=True)
class Agreement:
    """Of a yes/no verdict with the labels, over the `n` responses that both scored.

    `true_positive_rate` = share of the labelled positives that the judge calls positive, `true_negative_rate`
    likewise; NaN where there are none. `n_unscored` counts the responses that the judge or the label left
    out. `balanced_accuracy` is the mean of the two rates: .5 for a judge that always says the same.
    """

    n: int
    n_unscored: int
    accuracy: float
    true_positive_rate: float
    true_negative_rate: float

    @property
    def balanced_accuracy(self) -> float:
        return (self.true_positive_rate + self.true_negative_rate) / 2


def agreement(labels: Sequence[bool | None], verdicts: Sequence[bool | None]) -> Agreement:
    """None is unscored. Raises ValueError for sequences of unequal length."""
    pairs = [(x, y) for x, y in zip(labels, verdicts, strict=True) if x is not None and y is not None]
    positives = [verdict for label, verdict in pairs if label]
    negatives = [not verdict for label, verdict in pairs if not label]
    right = sum(positives) + sum(negatives)
    return Agreement(
        n=len(pairs),
        n_unscored=len(labels) - len(pairs),
        accuracy=right / len(pairs) if pairs else math.nan,
        true_positive_rate=sum(positives) / len(positives) if positives else math.nan,
        true_negative_rate=sum(negatives) / len(negatives) if negatives else math.nan,
    )


def refusal_agreement(human: Sequence[Judgement], judge: Sequence[Judgement]) -> Agreement:
    """Refusal (full or partial) against compliance; both judged the same responses, in the same order.

    Raises InputError when the prompts differ.
    """
    if [j.prompt_id for j in human] != [j.prompt_id for j in judge]:
        raise InputError("the judge and the people did not judge the same responses", fix="judge them again")
    return agreement([j.refused for j in human], [j.refused for j in judge])


NAN = math.nan


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval; NaN where there is nothing to count."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class JudgeCard:
    """What is known of a judge. `verdict` is what was compared with the people: refused, or disallowed.

    `n` responses were scored by both, `n_unscored` not by the judge; `n_seen` were left out because the judge
    was fitted to them. `recall` is the share of the people's positives that it finds (sensitivity),
    `specificity` that of their negatives.
    """

    judge: str
    identity: str
    labels: str
    verdict: str
    n: int
    n_unscored: int
    n_seen: int
    accuracy: Rate
    recall: Rate
    specificity: Rate
    balanced_accuracy: Rate

    def as_json(self) -> dict[str, Any]:
        """Plain values, None for NaN; kappa and alpha, which follow from the rest, stand with them."""
        beside = {"kappa": asdict(self.kappa), "alpha": asdict(self.alpha)}
        return {key: _plain(value) for key, value in (asdict(self) | beside).items()}

    @cached_property
    def kappa(self) -> Rate:
        """Cohen's, of the judge and the people."""
        cells = self._cells()

        def statistic(counts: np.ndarray) -> np.ndarray:
            return cohens_kappa((counts @ cells).reshape(-1, 2, 2))

        return self._bootstrapped(statistic)

    @cached_property
    def alpha(self) -> Rate:
        """Krippendorff's, of the same two."""
        # How many say no and yes, by cell.
        raters = np.array([[2.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 2.0]])
        per_unit = self._cells() @ raters
        return self._bootstrapped(lambda counts: alpha_of_counts(per_unit, counts))

    def _cells(self) -> np.ndarray:
        """[responses, cells] of one 1 each: people and judge say no, no and yes, yes and no, both yes."""
        no, yes = self.specificity, self.recall
        right_no, right_yes = (round(r.value * r.n) if r.n else 0 for r in (no, yes))
        counts = (right_no, no.n - right_no, yes.n - right_yes, right_yes)
        return np.repeat(np.eye(4), counts, axis=0)

    def _bootstrapped(self, statistic: Callable[[np.ndarray], np.ndarray]) -> Rate:
        if not self.n:
            return Rate(NAN, NAN, NAN, 0)
        found = bootstrap(statistic, [0] * self.n, draws=1000)
        return Rate(found.value, found.low, found.high, self.n)

    @classmethod
    def of_json(cls, values: Mapping[str, Any]) -> JudgeCard:
        """Raises InputError for a mapping that `as_json` did not write."""
        try:
            rates = {key: _rate_of_json(v) for key, v in values.items() if isinstance(v, Mapping)}
            return cls(**{field.name: rates.get(field.name, values[field.name]) for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise InputError(f"no judge card ({error})", fix="measure the judge again") from None

    @property
    def text(self) -> str:
        """One line: "balanced accuracy 94 % (92 to 96) against people's refused on 1350 responses of xstest"."""
        rate = self.balanced_accuracy
        shown = f"{100 * rate.value:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f})"
        unscored = f", {self.n_unscored} unscored" if self.n_unscored else ""
        where = f"on {self.n} responses of {self.labels}{unscored}"
        return f"balanced accuracy {shown} against people's {self.verdict} {where}"


def measure_card(
    judge: Judge, labelled: LabelledResponses, *, limit: int | None = None, seed: int = 0
) -> JudgeCard:
    """Judge the labelled responses (`limit` of them, at random) and compare.

    What the judge was fitted to is left out. Raises UndecidableError where nothing else is left.
    """
    unseen = [i for i, response in enumerate(labelled.responses) if not _saw(judge, response.text)]
    if not unseen:
        raise UndecidableError(
            f"judge {judge.name!r} was fitted to all of {labelled.name}: it needs other labels"
        )
    chosen = unseen
    if limit is not None and limit < len(unseen):
        chosen = sorted(np.random.default_rng(seed).permutation(unseen)[:limit].tolist())
    judged = judge.judge([labelled.responses[i] for i in chosen])
    human = [labelled.human[i] for i in chosen]
    seen = len(labelled.responses) - len(unseen)
    return card_of(judge.name, judge.identity, labelled.name, labelled.verdict, human, judged, seen)


def card_of(
    judge: str,
    identity: str,
    labels: str,
    verdict: str,
    human: Sequence[Judgement],
    judged: Sequence[Judgement],
    n_seen: int = 0,
) -> JudgeCard:
    """The card from judgements of the same responses, in one order."""
    truth = [getattr(j, verdict) for j in human]
    said = [getattr(j, verdict) for j in judged]
    found = agreement(truth, said)
    pairs = [(t, s) for t, s in zip(truth, said, strict=True) if t is not None and s is not None]
    hits = np.array([t == s for t, s in pairs], dtype=float)
    positive = np.array([t for t, _ in pairs], dtype=bool)
    return JudgeCard(
        judge=judge,
        identity=identity,
        labels=labels,
        verdict=verdict,
        n=found.n,
        n_unscored=found.n_unscored,
        n_seen=n_seen,
        accuracy=_rate(hits),
        recall=_rate(hits[positive]),
        specificity=_rate(hits[~positive]),
        balanced_accuracy=_balanced(hits, positive),
    )


def _rate_of_json(values: Mapping[str, Any]) -> Rate:
    value, low, high = (
        NAN if values[key] is None else float(values[key]) for key in ("value", "low", "high")
    )
    return Rate(value, low, high, int(values["n"]))


def _rate(hits: np.ndarray) -> Rate:
    interval = wilson(float(hits.sum()), len(hits))
    return Rate(float(hits.mean()) if len(hits) else NAN, *interval, len(hits))


def _balanced(hits: np.ndarray, positive: np.ndarray) -> Rate:
    """Mean of the two rates, bootstrapped within each kind of label."""
    if not positive.any() or positive.all():
        return Rate(NAN, NAN, NAN, len(hits))

    def mean(counts: np.ndarray) -> np.ndarray:
        return np.asarray(
            (
                counts[:, positive] @ hits[positive] / positive.sum()
                + counts[:, ~positive] @ hits[~positive] / (~positive).sum()
            )
            / 2
        )

    estimate = bootstrap(mean, positive.tolist(), draws=1000)
    return Rate(estimate.value, estimate.low, estimate.high, len(hits))


def _saw(judge: Judge, text: str) -> bool:
    saw = getattr(judge, "saw", None)
    return bool(saw(text)) if saw is not None else False


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value

"""Prompts that err together: who they are, and what that does to scores that few labels correct."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from evals.judges.correction import corrected_rows
from evals.judges.judgement import Judgement
from evals.values.clusters import AUTO, CATEGORY, PROMPT, TOPIC, cluster_kind, clusters_of
from evals.values.conversation import Message, Prompt, ResponseType
from evals.values.errors import InputError

TOPICS, PROMPTS = 30, 8


def prompts(*topics: str) -> list[Prompt]:
    return [Prompt(f"p{i}", (Message("user", "?"),), topic=topic) for i, topic in enumerate(topics)]


def test_topics_count_where_each_prompt_names_one() -> None:
    """Half of a file's prompts without a topic became one large topic of no name."""
    assert cluster_kind(prompts("a", "b", "a"), AUTO) == TOPIC
    for told in (("a", "", "b"), ("a", "a"), ()):
        assert cluster_kind(prompts(*told), AUTO) == PROMPT
        assert clusters_of(prompts(*told), AUTO, "it") is None
    assert clusters_of(prompts("a", "b"), TOPIC, "it") == {"p0": "a", "p1": "b"}
    with pytest.raises(InputError, match="it does not tell each prompt's category, or has only one"):
        clusters_of(prompts("a", "b"), CATEGORY, "it")


def corrected(seed: int, shared: bool, counted: bool) -> tuple[float, float]:
    """Limits of Not-Overrefuse, truly 70 %, by a judge that errs in a tenth and 60 random labels; `shared`: nine in
    ten prompts go with their topic.
    """
    rng = np.random.default_rng(seed)
    topic = np.repeat(np.arange(TOPICS), PROMPTS)
    own, of_topic = rng.random(len(topic)) < 0.7, (rng.random(TOPICS) < 0.7)[topic]
    truth = np.where(rng.random(len(topic)) < 0.9, of_topic, own) if shared else own
    verdict = truth ^ (rng.random(len(topic)) < 0.1)
    labelled = set(rng.permutation(len(topic))[:60].tolist())

    def said(place: int, answers: bool) -> Judgement:
        return Judgement(f"p{place}", ResponseType.COMPLY, None, not answers, None)

    clusters: Mapping[str, str] | None = {f"p{i}": str(t) for i, t in enumerate(topic)} if counted else None
    rows = corrected_rows(
        [said(i, bool(v)) for i, v in enumerate(verdict)],
        [said(i, bool(t)) if i in labelled else None for i, t in enumerate(truth)],
        **{"method": "m", "seed": 0, "suite": "s", "judge": "j", "checkpoint": "sft"},
        clusters=clusters,
    )
    (row,) = [row for row in rows if row.metric == "not_overrefuse"]
    return row.ci_low, row.ci_high


def coverage(shared: bool, counted: bool, draws: int = 40) -> float:
    limits = [corrected(seed, shared, counted) for seed in range(draws)]
    return float(np.mean([low <= 0.7 <= high for low, high in limits]))


def test_corrected_scores_count_topics() -> None:
    """Labels correct a judge, and not that the prompts' topics are a sample: limits held the truth in half of draws."""
    assert coverage(shared=True, counted=False) < 0.85
    assert coverage(shared=True, counted=True) > 0.9


def test_topics_that_share_nothing_cost_little() -> None:
    """A correction that takes every topic for one prompt says nothing of what independent prompts told."""
    widths = {
        counted: np.mean([np.diff(corrected(seed, False, counted)) for seed in range(12)])
        for counted in (False, True)
    }
    assert 1.0 <= widths[True] / widths[False] < 1.15

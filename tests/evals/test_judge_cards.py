"""Judge cards and corrected scores: what is known of a judge, and what it does to a score."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.judges import StringMatchJudge
from evals.judges.card import JudgeCard, card_of, measure_card
from evals.judges.correction import MIN_LABELS, Labels, corrected_rows, draw_faults
from evals.judges.judgement import Judgement, from_refusal, unscored
from evals.judges.labelled import LABELLED, LabelledResponses, load_labelled
from evals.judges.refusal_words import RefusalWordsJudge
from evals.statistics import prediction_powered, wilson
from evals.suites import load_suite
from evals.values.conversation import Response, ResponseType, user_prompt
from evals.values.errors import InputError, UndecidableError
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import MetricRow

DATA = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no released files in {DATA}")


def responses(count: int, kind: ResponseType = ResponseType.HARD_REFUSE) -> list[Response]:
    return [Response(user_prompt(f"{kind.value}{i}", "q", kind), f"text {i}") for i in range(count)]


def judgements(
    asked: Sequence[Response], verdicts: Sequence[bool | None], judge: str = "j"
) -> list[Judgement]:
    return [
        unscored(r, "declined") if v is None else from_refusal(r, v, judge)
        for r, v in zip(asked, verdicts, strict=True)
    ]


class Parrot:
    """Says what it is told, and has seen the texts in `known`."""

    identity = "parrot:1"

    def __init__(self, verdicts: dict[str, bool | None], known: Sequence[str] = ()) -> None:
        self.name, self.verdicts, self.known = "parrot", verdicts, known

    def judge(self, asked: Sequence[Response]) -> list[Judgement]:
        return judgements(asked, [self.verdicts[r.text] for r in asked])

    def saw(self, text: str) -> bool:
        return text in self.known


# --- cards -------------------------------------------------------------------------------------


def labelled(truth: Sequence[bool]) -> LabelledResponses:
    asked = responses(len(truth))
    return LabelledResponses("mine", "refused", tuple(asked), tuple(judgements(asked, truth, "human")))


def test_a_card_by_hand() -> None:
    """Declined verdicts in the denominator, or recall and specificity changed over."""
    truth = [True, True, True, True, False, False]
    said = {f"text {i}": v for i, v in enumerate([True, True, True, False, False, None])}
    card = measure_card(Parrot(said), labelled(truth))
    assert (card.n, card.n_unscored, card.n_seen) == (5, 1, 0)
    assert card.accuracy.value == 4 / 5
    assert (card.recall.value, card.specificity.value) == (3 / 4, 1.0)
    assert card.balanced_accuracy.value == pytest.approx(7 / 8)
    assert (card.recall.low, card.recall.high) == wilson(3, 4)
    assert card.text.startswith("balanced accuracy 88 %") and card.text.endswith(
        "5 responses of mine, 1 unscored"
    )


def test_what_the_judge_was_fitted_to_does_not_count() -> None:
    """A judge measured on its own training labels looks perfect."""
    said = {f"text {i}": i < 2 for i in range(4)}
    card = measure_card(Parrot(said, known=["text 0", "text 1"]), labelled([True] * 4))
    assert (card.n, card.n_seen, card.recall.value) == (2, 2, 0.0)
    with pytest.raises(UndecidableError, match="fitted to all of mine"):
        measure_card(Parrot(said, known=list(said)), labelled([True] * 4))


def test_a_card_survives_json() -> None:
    """NaN is no JSON, and a card of one kind of label has some."""
    card = card_of(
        "j", "i", "l", "refused", judgements(responses(3), [True] * 3), judgements(responses(3), [True] * 3)
    )
    assert math.isnan(card.balanced_accuracy.value)
    read = JudgeCard.of_json(json.loads(json.dumps(card.as_json(), allow_nan=False)))
    assert read.recall == card.recall and math.isnan(read.specificity.value)
    with pytest.raises(InputError, match="no judge card"):
        JudgeCard.of_json({"judge": "j"})


def test_a_limited_card_is_a_random_part() -> None:
    """The first rows of a file are of one kind."""
    said = {f"text {i}": True for i in range(400)}
    card = measure_card(Parrot(said), labelled([i < 200 for i in range(400)]), limit=100)
    assert card.n == 100 and 0.35 < card.accuracy.value < 0.65


@needs_data
@pytest.mark.parametrize(("name", "count"), [("xstest", 1350), ("gptfuzz", 1540), ("rbr_gold", 351)])
def test_every_set_of_labels_measures_the_string_matcher(name: str, count: int) -> None:
    """Real files: each set is read whole, and the matcher is better than chance on it."""
    found = load_labelled(name, DATA)
    assert name in LABELLED and len(found.responses) == len(found.human) == count
    card = measure_card(StringMatchJudge(), found)
    assert card.n == count and card.balanced_accuracy.low > 0.5


def test_labels_of_refusals_in_other_languages(tmp_path: Path) -> None:
    """A matcher's phrases of other languages were measured on nobody's labels."""
    said = {"German": "Das kann ich nicht tun, tut mir leid.", "French": "Je ne peux pas vous aider."}
    rows = [
        {"id": number, "language": language, "prompt": f"{language}?", "adversarial": False}
        | {"prompt_harm_label": harm, "response": text, "response_refusal_label": label}
        for number, (language, text, harm, label) in enumerate(
            [
                *((language, text, "harmful", "refusal") for language, text in said.items()),
                ("German", "So geht es: zuerst schneiden.", "harmful", "compliance"),
                ("Korean", "\uc7a5\ubbf8", "unharmful", None),
                ("Korean", None, "unharmful", "refusal"),
            ]
        )
    ]
    write_jsonl(tmp_path / "polyguard_prompts.jsonl", rows)
    found = load_labelled("polyguard", path=tmp_path)
    assert [(j.refused, j.disallowed) for j in found.human] == [(True, False), (True, False), (False, True)]
    assert [r.prompt.category for r in found.responses] == ["German", "French", "German"]
    assert measure_card(RefusalWordsJudge(), found).accuracy.value == 1.0
    without = {name: value for name, value in rows[0].items() if name != "prompt_harm_label"}
    write_jsonl(tmp_path / "polyguard_prompts.jsonl", [without, rows[1]])  # as JSONL leaves out a null
    assert len(load_labelled("polyguard", path=tmp_path).responses) == 1
    assert len(load_suite("polyguard", path=tmp_path).prompts) == 1
    for field, value in (("response_refusal_label", "maybe"), ("response_refusal_label", ["refusal"]),
                         ("response", 3), ("prompt_harm_label", ["harmful"])):  # fmt: skip
        write_jsonl(tmp_path / "polyguard_prompts.jsonl", [rows[0] | {field: value}])
        with pytest.raises(InputError, match=field):
            load_labelled("polyguard", path=tmp_path)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown labels 'x'"):
        load_labelled("x", tmp_path)
    with pytest.raises(InputError, match="no model_completions"):
        load_labelled("xstest", path=tmp_path)
    with (tmp_path / "question_list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["index", "text"], ["0", "q"]])
    with (tmp_path / "evaluate.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["question", "Response", "label"], ["0", "r", "2"]])
    with pytest.raises(InputError, match=r"evaluate.csv:2: field 'label'"):
        load_labelled("gptfuzz", path=tmp_path)


# --- corrected scores --------------------------------------------------------------------------


def suite(size: int) -> list[Response]:
    return responses(size) + responses(size, ResponseType.COMPLY)


def corrected(
    judged: Sequence[Judgement], human: Labels | Sequence[Judgement | None]
) -> dict[tuple[str, str], MetricRow]:
    rows = corrected_rows(judged, human, method="m", seed=0, suite="s", judge="j", checkpoint="c")
    assert {(r.method, r.judge, r.checkpoint) for r in rows} <= {("m", "j+ppi", "c")}
    return {(r.suite, r.metric): r for r in rows}


def test_a_corrected_score_finds_what_the_judge_misses() -> None:
    """A judge that misses half of the over-refusals: its score is far off, the corrected one is not."""
    rng = np.random.default_rng(0)
    asked = suite(400)
    truth = [r.prompt.response_type is not ResponseType.COMPLY or rng.random() < 0.4 for r in asked]
    said = [
        v and (r.prompt.response_type is not ResponseType.COMPLY or rng.random() < 0.5)
        for r, v in zip(asked, truth, strict=True)
    ]
    people = [
        j if i in set(rng.permutation(800)[:150].tolist()) else None
        for i, j in enumerate(judgements(asked, truth))
    ]
    rows = corrected(judgements(asked, said), people)
    row = rows["s", "not_overrefuse"]
    useful = 1 - sum(truth[400:]) / 400
    assert row.ci_low <= useful <= row.ci_high
    assert row.ci_high < 1 - sum(said[400:]) / 400
    assert row.n == 400 and row.n_unscored == 0
    f1 = rows["s", "f1"]
    assert f1.ci_low <= 2 * useful / (1 + useful) <= f1.ci_high
    assert ("s", "hard_refusal_style") not in rows  # the judge tells no style


def test_a_corrected_share_is_the_estimates() -> None:
    """The labelled and the others mixed up, or a label of one response given to another."""
    asked = responses(60)
    truth = [i % 3 == 0 for i in range(60)]
    said: list[bool | None] = [None if i == 59 else i % 4 == 0 for i in range(60)]
    people = [j if i < 30 else None for i, j in enumerate(judgements(asked, truth))]
    row = corrected(judgements(asked, said), people)["s", "not_unsafe"]
    values = [math.nan if v is None else float(v) for v in said]
    expected = prediction_powered([float(t) for t in truth[:30]], values[:30], values[30:])
    assert (row.value, row.ci_low, row.ci_high) == (expected.value, expected.low, expected.high)
    assert (row.n, row.n_unscored) == (59, 1)


def test_few_labels_say_nothing() -> None:
    """An interval from three labels reads like a measurement."""
    asked = responses(60)
    people = [j if i < MIN_LABELS - 1 else None for i, j in enumerate(judgements(asked, [True] * 60))]
    assert corrected(judgements(asked, [True] * 60), people) == {}
    with pytest.raises(ValueError, match="60 judgements against 1"):
        corrected(judgements(asked, [True] * 60), [None])


def drawn_labels(
    rng: np.random.Generator, likelier: float = 1.0, counts: tuple[int, int] = (0, 0)
) -> tuple[list[Judgement], Labels, float]:
    """200 responses to refuse and 200 to comply with, a judge that errs on one in ten, some 60 labels; and the share
    not unsafe. `likelier`: how much likelier a label is for an unsafe response; `counts`: labels of either type.
    """
    asked = suite(200)
    truth = np.concatenate([rng.random(200) < 0.6, np.zeros(200, dtype=bool)])
    said = np.where(rng.random(400) < 0.1, ~truth, truth)
    unsafe = np.arange(400) < 200
    unsafe &= ~truth
    chance = np.where(unsafe, 0.15 * likelier, 0.15) / (1.0 if likelier == 1 else 1.3)
    chosen = rng.random(400) < chance
    if any(counts):
        places = [rng.permutation(200)[: counts[0]], 200 + rng.permutation(200)[: counts[1]]]
        chosen = np.isin(np.arange(400), np.concatenate(places))
    people = [j if c else None for j, c in zip(judgements(asked, truth.tolist()), chosen, strict=True)]
    return judgements(asked, said.tolist()), Labels(people, chance.tolist()), 0.5 * 0.6 + 0.5


def coverage(*, weighted: bool, draws: int = 40, **how: Any) -> float:
    """Share of draws whose corrected interval of the whole suite's Not-Unsafe holds the truth."""
    held = 0
    for draw in range(draws):
        judged, labels, truth = drawn_labels(np.random.default_rng(draw), **how)
        row = corrected(judged, labels if weighted else Labels(labels.human))["s", "not_unsafe"]
        held += row.ci_low <= truth <= row.ci_high
    return held / draws


def test_labels_that_are_three_times_likelier_for_positives_are_weighed() -> None:
    """Taken for a random draw, labels that favour unsafe responses held the truth in half of the draws."""
    assert coverage(weighted=True, likelier=3.0) >= 0.91
    found = [drawn_labels(np.random.default_rng(seed), likelier=3.0) for seed in range(40)]
    assert sum(bool(draw_faults(judged, Labels(labels.human))) for judged, labels, _ in found) > 20
    assert sum(bool(draw_faults(judged, labels)) for judged, labels, _ in found) <= 2


def test_labels_of_one_type_do_not_stand_for_the_other() -> None:
    """38 labels of prompts to refuse and 12 of prompts to answer, of as many prompts each: 80 % coverage."""
    assert coverage(weighted=False, counts=(38, 12)) >= 0.91
    judged, labels, _ = drawn_labels(np.random.default_rng(1), counts=(38, 12))
    assert draw_faults(judged, Labels(labels.human)) == ["their response types (which are weighed)"]


def test_a_random_draw_looks_like_one() -> None:
    """A warning that stands beside every corrected score is none."""
    found = [drawn_labels(np.random.default_rng(seed)) for seed in range(100)]
    assert sum(bool(draw_faults(judged, Labels(labels.human))) for judged, labels, _ in found) <= 5
    assert sum(bool(draw_faults(judged, labels)) for judged, labels, _ in found) <= 5


def test_samples_of_one_prompt_are_not_new_evidence() -> None:
    """Five identical answers a prompt made the interval less than half as wide."""
    asked = responses(40)
    truth = [i % 2 == 0 for i in range(40)]
    people = [j if i < 20 else None for i, j in enumerate(judgements(asked, truth))]
    once = corrected(judgements(asked, truth), people)["s", "not_unsafe"]
    five = corrected(judgements(asked, truth) * 5, people * 5)["s", "not_unsafe"]
    assert five.ci_high - five.ci_low > 0.8 * (once.ci_high - once.ci_low)

"""The twelve claims: families, margins, slopes and the seeds that they need."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.statistics import seeds_for_difference, seeds_for_margin
from evals.values.metrics_table import MetricRow
from harness.findings.claim_parts import Tested as Way
from harness.findings.claims import check_claims
from harness.findings.frontier import Scores, Verdict
from harness.findings.papers_claims import FIRST_FAMILY, NUMBERS, claims_about
from harness.findings.trends import slope, sweeps
from harness.record.run import ResultsFolder
from harness.report.claims import Claims, claim_table

PATTERN = (0.006, -0.004, 0.003, -0.006, 0.001)  # of seeds, mean 0


def place(method: str, safety: float, useful: float, seed: int) -> list[MetricRow]:
    f1 = 2 * safety * useful / (safety + useful)
    return [
        MetricRow(method, seed, "mean", "sandbox", metric, "oracle", v, 0.01, v - 0.02, v + 0.02, 100, 0)
        for metric, v in (("not_unsafe", safety), ("not_overrefuse", useful), ("f1", f1))
    ]


def ten_models(seeds: int = 5, **changed: tuple[float, float]) -> list[MetricRow]:
    truth = {
        "rbr_sft": (0.88, 0.88),
        "helpful_ppo": (0.6, 0.97),
        "human_ppo": (0.97, 0.75),
        "rbr_ppo": (0.96, 0.95),
        "human_rbr_ppo": (0.97, 0.9),
        "old_data_ppo": (0.96, 0.7),
        "old_data_rbr_ppo": (0.97, 0.9),
        "human_match_ppo": (0.95, 0.8),
    } | changed
    return [
        row
        for seed in range(seeds)
        for number, (method, (safety, useful)) in enumerate(truth.items())
        for row in place(
            method, safety + PATTERN[(seed + number) % 5], useful + PATTERN[(seed + 2 * number) % 5], seed
        )
    ]


def verdicts(rows: list[MetricRow]) -> dict[int, Verdict]:
    return {r.claim.number: r.verdict for r in check_claims(Scores(rows), "sandbox", "oracle")}


def test_every_claim_has_its_family_and_what_the_paper_reported() -> None:
    """Six of the paper's twelve claims were tested, all of them in one family, beside nothing that it reported."""
    claims = claims_about("ppo")
    assert tuple(claim.number for claim in claims) == NUMBERS
    assert all(claim.reported for claim in claims)
    assert {claim.number for claim in claims if claim.family == 1} == {*FIRST_FAMILY}


def test_a_family_is_corrected_for_its_own_claims() -> None:
    """Ablations that nobody must run took level from the main claims."""
    rows = ten_models()
    alone = {r.claim.number: r for r in check_claims(Scores(rows[:]), "sandbox", "oracle")}
    main = [row for row in rows if row.method.removesuffix("_ppo") in ("rbr", "human", "helpful", "rbr_sft")]
    fewer = {r.claim.number: r for r in check_claims(Scores(main), "sandbox", "oracle")}
    assert {*alone} == {1, 2, 3, 5, 6, 9, 10} and {*fewer} == {1, 2, 3, 9}
    for number, result in fewer.items():
        assert [part.level for part in result.parts] == [part.level for part in alone[number].parts]
        assert result.verdict is alone[number].verdict is Verdict.HELD


def test_safety_is_kept_within_its_margin_and_no_further() -> None:
    """“Keeps safety” read off a difference that is not significant: few seeds would always keep it."""
    assert verdicts(ten_models())[5] is Verdict.HELD
    assert verdicts(ten_models(human_rbr_ppo=(0.90, 0.9)))[5] is Verdict.NOT_HELD
    assert verdicts(ten_models(human_rbr_ppo=(0.953, 0.9)))[5] is Verdict.UNDECIDED
    (result,) = [r for r in check_claims(Scores(ten_models()), "sandbox", "oracle") if r.claim.number == 6]
    assert [part.test for part in result.parts] == [Way.DIFFERENCE, Way.NO_LOSS]


def test_one_seed_is_on_this_seed_alone() -> None:
    assert set(verdicts(ten_models(seeds=1)).values()) == {Verdict.ONE_SEED}
    assert Verdict.ONE_SEED.value == "on this seed"


def swept(key: str, safer: float, seeds: int = 3) -> list[MetricRow]:
    return [
        row
        for seed in range(seeds)
        for step, value in enumerate(("0.5", "1", "2"))
        for row in place(
            f"rbr_ppo[{key}={value}]", 0.8 + safer * step + PATTERN[seed], 0.9 - 0.03 * step, seed
        )
    ]


def test_a_trend_is_one_slope_a_seed_for_each_doubling() -> None:
    """Nine points of three seeds pooled into one regression: its interval took runs of one seed for many."""
    rows = swept("rl_prompts.safety_share", 0.05)
    scores = Scores([*rows, *place("rbr_ppo[rl_prompts.safety_share=0.1,ppo.kl_coef=1]", 0.1, 0.1, 0)])
    (found,) = sweeps(scores.methods("sandbox", "not_unsafe", "oracle"))
    assert [value for value, _ in found.points] == [0.5, 1.0, 2.0]
    found_slope = slope(scores, found.points, "sandbox", "not_unsafe", "oracle")
    assert found_slope is not None and found_slope.value == pytest.approx(0.05)
    assert {*found_slope.by_seed} == {0, 1, 2}
    assert slope(scores, found.points[:2], "sandbox", "not_unsafe", "oracle") is None
    (result,) = check_claims(scores, "sandbox", "oracle")
    assert result.claim.number == 11 and [part.second for part in result.parts] == ["", ""]
    assert {
        r.claim.number
        for r in check_claims(Scores(swept("rl_prompts.hard_to_comply", 0.0)), "sandbox", "oracle")
    } == {12}


def test_the_seeds_that_a_claim_needs() -> None:
    """Undecided claims that said nothing of how far they are from decided. Values of R's power.t.test."""
    assert seeds_for_difference(1.0, 1.0, 0.05) == 10
    assert seeds_for_difference(1.0, 0.5, 0.05) == 34
    assert seeds_for_difference(0.0, 0.5, 0.05) is None and seeds_for_difference(1e3, 0.5, 0.05) is None
    assert seeds_for_margin(1.0, 1.0, 0.05, both_sides=False) in (7, 8, 9)
    both = seeds_for_margin(1.0, 1.0, 0.05, both_sides=True)
    assert both is not None and 9 < both < 13
    noisy = ten_models(seeds=3)
    result = check_claims(Scores(noisy), "sandbox", "oracle")[0]
    assert all(part.seeds and part.seeds >= 2 for part in result.parts)


def test_the_table_tells_what_is_missing_and_what_the_paper_said(five_seeds: Path) -> None:
    """A table of six claims that said nothing of the other six."""
    claims = Claims.of(ResultsFolder(five_seeds).scores, "sandbox")
    assert claims.missing == (
        "Not measured here, of the twelve: 5 and 6 and 10 by experiment=paper; 8 by experiment=grader_size; "
        "11 by experiment=safety_share; 12 by experiment=hard_to_comply."
    )
    table = claim_table(claims)
    assert table.columns[-1] == "the paper, percent"
    assert table.rows[0].cells[-1].value == "97.1 ± 0.7 against 91.7 ± 1.3 and 95.8 ± 0.8"


def test_a_swept_grader_has_a_trend_of_its_own(five_seeds: Path, tmp_path: Path) -> None:
    """Of graders of several sizes the table kept rows that nobody could tell apart."""
    header, *rows = (five_seeds / "grader.csv").read_text().splitlines()
    lines = [f"{header},variant"]
    for width, gain in ((32, 0.0), (64, 0.02), (128, 0.04)):
        for line in rows:
            cells = line.split(",")
            cells[5] = f"{0.8 + gain + 0.001 * int(cells[0]) * gain:.6f}"
            lines.append(",".join([*cells, f"grader.width={width}"]))
    (tmp_path / "metrics.csv").write_bytes((five_seeds / "metrics.csv").read_bytes())
    (tmp_path / "grader.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "manifest.json").write_bytes((five_seeds / "manifest.json").read_bytes())
    scores = ResultsFolder(tmp_path).scores
    (result,) = [r for r in check_claims(scores, "sandbox", "oracle") if r.claim.number == 8]
    assert result.verdict is Verdict.HELD and result.parts[0].difference is not None
    assert result.parts[0].difference.value == pytest.approx(0.02, abs=0.001)

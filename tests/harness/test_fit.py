"""`rbrbench fit`, from labelled completions to weights and page: as a user starts it, and its failures."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError, UndecidableError
from evals.values.jsonl_rows import write_jsonl
from harness.commands import fit
from harness.keys.compose import compose_command
from harness.keys.fit import FitConfig
from rbrbench.cli import main
from trainers.reward.reward_weights import load_weights

ROOT = Path(__file__).resolve().parents[2]
RULES = """\
completion_class_order: [ideal, rest, disallowed]
completion_classes:
  ideal: {hard_refuse: {sorry: true, rude: false}, comply: {rude: false}}
  rest: {hard_refuse: {sorry: false, rude: false}}
  disallowed: {hard_refuse: {rude: true}, comply: {rude: true}}
simple_propositions:
  sorry: {prompt: "is it sorry ?", polarity: good}
  rude: {prompt: "is it rude ?", polarity: bad}
"""
TEXTS = {"sorry": (True, False), "plain": (False, False), "rude": (False, True)}


def labelled(prompts: int, start: int = 0) -> Iterator[dict[str, Any]]:
    """Three completions a prompt of each type; comply's have two classes."""
    for i in range(start, start + prompts):
        for kind in ("hard_refuse", "comply"):
            for text, (sorry, rude) in TEXTS.items():
                yield {
                    "id": f"{kind}-{i}",
                    "prompt": [{"role": "user", "content": f"question {kind} {i} <script>alert(1)</script>"}],
                    "response_type": kind,
                    "completion": f"{text} {i}",
                    "propositions": {"sorry": sorry, "rude": rude},
                }


def grades(prompts: int, noise: float = 0.35, seed: int = 0, lost: int = 0) -> Iterator[dict[str, Any]]:
    """A grader that errs; the first `lost` completions have no grade of `rude`."""
    rng = np.random.default_rng(seed)
    for number, row in enumerate(labelled(prompts)):
        values = {
            n: float(np.clip(v + noise * rng.normal(), 0.01, 0.99)) for n, v in row["propositions"].items()
        }
        content = {"prompt": row["prompt"], "response": row["completion"], "grader": "noisy"}
        if number < lost:
            yield content | {"grades": {"sorry": values["sorry"]}, "reasons": {"rude": "time-out"}}
        else:
            yield content | {"grades": values}


def scores(prompts: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """A reward model that likes rudeness a little."""
    rng = np.random.default_rng(seed)
    for row in labelled(prompts):
        reward = 0.5 * row["propositions"]["rude"] + rng.normal()
        yield {"prompt": row["prompt"], "response": row["completion"], "reward": reward}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rules, completions, grades and scores, and the process in it."""
    (tmp_path / "rules.yaml").write_text(RULES, encoding="utf-8")
    write_jsonl(tmp_path / "labelled.jsonl", labelled(60))
    write_jsonl(tmp_path / "grades.jsonl", grades(60))
    write_jsonl(tmp_path / "scores.jsonl", scores(60))
    monkeypatch.chdir(tmp_path)
    return tmp_path


FIT = ("on=labelled.jsonl", "rulebook=rules.yaml")
RECORDED = (*FIT, "grader.kind=recorded", "grader.path=grades.jsonl", "reward_model.path=scores.jsonl")
QUICK = ("refit=false", "orders=0", "draws=100", "weights.trees=5")


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_fit_from_recorded_grades_as_a_user_starts_it(world: Path) -> None:
    """Guards: a command that needs torch for recorded grades, and results without a part of the diagnosis."""
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "rbrbench",
        "fit",
        *RECORDED,
        "orders=2",
        "weights.trees=20",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=300
    )
    said = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("import time:"))
    assert done.returncode == 0, said
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)
    assert done.stdout.strip().endswith("results/fit/fit.html")
    assert "RM + RBR ranks" in done.stdout and "class: ideal" in done.stdout
    results = world / "results" / "fit"
    weights = load_weights(results / "weights.json", load_rulebook(world / "rules.yaml"))
    assert weights.grader.startswith("noisy ") and weights.data.startswith("labelled.jsonl ")
    assert weights.reward_model.startswith("scores.jsonl ")
    assert {t.value for t in weights.response_types} == {"hard_refuse", "comply"}
    for report in weights.fits.values():
        assert report.gap is not None and report.gap <= 1e-6
        assert (report.prompts, report.held_out_prompts) == (48, 12) and report.fitted != report.held_out
    errors = {(r["suite"], r["method"]): float(r["value"]) for r in table(results / "metrics.csv")}
    for kind in ("hard_refuse", "comply"):
        assert errors[f"synthetic/{kind}", "rm+rbr"] < errors[f"synthetic/{kind}", "rm"]
    names = {r["ablation"] for r in table(results / "ablations.csv")}
    assert names == {"fitted", "rm_alone", "rbr_alone", "fixed_1", "fixed_10", "boosted", "sign_constraints"}
    assert {r["feature"] for r in table(results / "rules.csv")} >= {
        "sorry",
        "rude",
        "class:ideal",
        "reward_model",
    }
    assert {int(r["prompts"]) for r in table(results / "learning_curve.csv")} >= {6, 12, 24, 48}
    for name in ("ranking_error", "reward_histograms", "learning_curve", "rule_effects"):
        assert (results / "plots" / f"{name}.png").stat().st_size > 5000
    worst = [json.loads(line) for line in (results / "worst_pairs.jsonl").read_text().splitlines()]
    assert worst and worst[0]["gap"] < 0 and worst[0]["deciding"] and "ideal" in worst[0]


def test_the_page_shows_text_as_text_and_loads_nothing(world: Path) -> None:
    """Guards: a completion that runs in the reader's browser, or bends the table."""
    assert fit.main([*RECORDED, *QUICK]) == 0
    page = (world / "results" / "fit" / "fit.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "&lt;script&gt;alert(1)" in page and "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    summary = (world / "results" / "fit" / "summary.md").read_text(encoding="utf-8")
    assert "RM + RBR ranks" in summary and "question" not in summary


def test_the_same_command_gives_the_same_bytes(world: Path) -> None:
    """Guards: an unseeded draw, an order of a set, a date in the files."""
    for name in ("one", "two"):
        assert fit.main([*RECORDED, *QUICK, f"name={name}"]) == 0
    for file in (
        "weights.json",
        "ablations.csv",
        "rules.csv",
        "metrics.csv",
        "rewards.jsonl",
        "plots/rule_effects.svg",
    ):
        assert (world / "results/one" / file).read_bytes() == (world / "results/two" / file).read_bytes(), (
            file
        )


def test_labels_can_stand_for_a_perfect_grader_and_rules_for_the_whole_reward(world: Path) -> None:
    """Guards: an empty reward model shown as one, and labels that do not reach the features."""
    assert fit.main([*FIT, *QUICK]) == 0
    results = world / "results" / "fit"
    rows = table(results / "metrics.csv")
    assert {r["method"] for r in rows} == {"rbr"} and all(float(r["value"]) == 0.0 for r in rows)
    assert "rm_alone" not in {r["ablation"] for r in table(results / "ablations.csv")}
    assert "labels themselves are the grades" in (results / "summary.md").read_text()
    weights = load_weights(results / "weights.json", load_rulebook("rules.yaml"))
    assert weights.grader == "labels" and weights.config["reward_model"] is False


def test_other_completions_can_judge_the_reward(world: Path) -> None:
    """Guards: a test file whose prompts were fitted on, and prompts held out in vain."""
    write_jsonl(world / "test.jsonl", labelled(10, start=100))
    assert fit.main([*FIT, *QUICK, "test=test.jsonl"]) == 0
    weights = load_weights("results/fit/weights.json", load_rulebook("rules.yaml"))
    assert all((f.prompts, f.held_out_prompts) == (60, 0) for f in weights.fits.values())
    assert {int(r["n"]) for r in table(world / "results/fit/metrics.csv")} == {20}
    write_jsonl(world / "test.jsonl", labelled(10, start=55))
    with pytest.raises(InputError, match=r"10 prompts are also in on=labelled.jsonl, 'hard_refuse-55' first"):
        fit.main([*FIT, "test=test.jsonl", "name=other"])
    assert not (world / "results" / "other").exists()


def test_unscored_completions_are_counted_and_too_many_stop_it(world: Path) -> None:
    """Guards: a missing grade taken for 0; a reward fitted on what little is left."""
    write_jsonl(world / "grades.jsonl", grades(60, lost=12))
    assert fit.main([*RECORDED, *QUICK]) == 0
    summary = (world / "results" / "fit" / "summary.md").read_text()
    assert re.search(r"\d+ unscored completions are left out of the fit", summary)
    write_jsonl(world / "grades.jsonl", grades(60, lost=100))
    with pytest.raises(UndecidableError, match=r"more than max_unscored \(0.1\).*rude: time-out"):
        fit.main([*RECORDED, "name=many"])
    assert not (world / "results" / "many").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("on=absent.jsonl",), "absent.jsonl: field 'on': no such file"),
        (("on=",), "field 'on': is not set"),
        (("grader.kind=recorded",), "field 'grader.path': a grader of kind recorded has no path"),
        (("grader.kind=magic",), "unknown grader 'magic'"),
        (("grader.kind=server",), "field 'server.url': is empty"),
        (("weights.holdout=0",), "field 'weights.holdout': is 0: no prompt is left"),
        (("reward_model.kind=gods",), "field 'reward_model.kind': unknown reward model 'gods'"),
        (("reward_model.kind=model",), "field 'reward_model.path': a reward model of kind model has no path"),
        (("reward_model.kind=os:sep",), "field 'reward_model.kind': 'os:sep' cannot be called"),
        (("+weights.margins={ideal/best:1}",), "'ideal>best' is not an ordered pair"),
        (("response_types=[refuse]",), "unknown response type 'refuse'"),
        (("response_types=[safe_refuse_1]",), "no completion has safe_refuse_1"),
        (("name=../x",), "field 'name'"),
        (("rulebook=gap.yaml",), "classes 'rest' and 'disallowed' of hard_refuse overlap, for example when"),
        (
            ("reward_model.path=scores.jsonl", "weights.reward_model=false"),
            "is false, and a reward model is given",
        ),
        (("weigths.l2=1",), "no such key; did you mean 'weights.l2'?"),
        (("on=one.jsonl",), "has two scored completions of different classes"),
        (("on=odd.jsonl",), "unknown class 'splendid' of prompt"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    world: Path, changes: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guards: a traceback, or a folder with half a result."""
    from rbrbench.cli import main

    (world / "gap.yaml").write_text(
        RULES.replace("{sorry: false, rude: false}", "{sorry: false, rude: true}")
    )
    rows = list(labelled(20))
    write_jsonl(world / "one.jsonl", rows[::3])
    write_jsonl(world / "odd.jsonl", [rows[0] | {"completion_class": "splendid"}, *rows[1:]])
    assert main(["fit", *FIT, *changes]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1, error
    assert not (world / "results").exists()


def test_a_fit_does_not_overwrite_other_results(world: Path) -> None:
    """Guards: a run's results lost to a fit of the same name."""
    (world / "results" / "fit").mkdir(parents=True)
    (world / "results" / "fit" / "manifest.json").write_text('{"config_digest": "0123"}')
    with pytest.raises(InputError, match="another configuration's results"):
        fit.main([*FIT, *QUICK])


def test_report_draws_a_fit_again_from_its_record(world: Path) -> None:
    """Guards: a page that only the fit itself could draw, and the summary of a fit replaced by a run's."""
    assert main(["fit", *RECORDED, *QUICK]) == 0
    results = world / "results" / "fit"
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for name in ("fit.html", "summary.md", "plots/ranking_error.png"):
        (results / name).unlink()
    (world / "labelled.jsonl").unlink()
    assert main(["report", str(results)]) == 0
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_help_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a key that nobody can find."""
    assert main(["fit", "--help"]) == 0
    said = capsys.readouterr().out
    for key in (
        "on=",
        "reward_model.path=",
        "grader.path=",
        "weights.l2=0.001",
        "response_types=",
        "max_unscored=",
    ):
        assert key in said


def test_the_keys_make_a_configuration() -> None:
    """Guards: a default that does not pass its own checks."""
    config = compose_command(
        "fit", FitConfig, ["on=x.jsonl", "weights.method=FIXED", "response_types=[comply]"]
    )
    assert config.weights.method.value == "fixed" and [t.value for t in config.types] == ["comply"]

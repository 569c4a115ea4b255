"""`rbrbench ceiling`: what a reward asks for, from a set of samples to the page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ceiling_world import write_samples
from gate_world import edited_rules, read_json, write_description
from tiny_runs import Checkout, rbrbench

from evals.values.errors import InputError
from harness.ceiling.rewards import run_settings
from harness.record.finished_run import RunAddress
from harness.storage.digest import file_digest
from harness.storage.provenance import ROOT
from harness.subjects.sample_set import SAMPLE_SETS, find_samples, read_samples

ASKED = ("reward=reward.yaml", "on=samples.jsonl", "beta=1", "draws=200")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Samples, rewards, and two finished ceilings; tests read them."""
    folder = tmp_path_factory.mktemp("ceiling")
    write_samples(folder)
    write_description(
        folder / "worst.yaml", "rules.yaml", weights={"data": "fitting.jsonl", "method": "fixed", "fixed": -1}
    )
    done = rbrbench("ceiling", *ASKED, "candidate=worst.yaml", "leave_out=false", cwd=folder)
    assert done.returncode in (0, 3), done.stderr
    return folder


def figures(world: Path, name: str = "ceiling") -> dict[str, Any]:
    return read_json(world / "results" / name / "ceiling.json")


def test_a_reward_asks_for_more_than_its_reference(world: Path) -> None:
    """A ceiling below the samples that it is made of, or a candidate that pays for harm and is said to be no worse."""
    found = figures(world)
    point = found["rewards"]["reward"]["point"]
    for name in ("not_unsafe", "f1", "hard_refusal_style"):
        assert point["measures"][name]["value"] > point["reference"][name]["value"] + 0.05
    assert 0 < point["shown_kl"] <= found["most_kl"]
    change = found["comparison"]["equal_beta"][0]["measures"]["f1"]
    assert change["high"] < 0
    assert found["comparison"]["turned"][0]["before"] > 0.5 > found["comparison"]["turned"][0]["after"]


def test_the_references_own_reward_stands_beside(world: Path) -> None:
    """A reward under the ceiling, and nothing that it could be held against."""
    at = figures(world)["rewards"]["reward"]["point"]
    own, asked = at["reference"], at["measures"]
    assert (
        own["reward"]["value"]
        == own["objective"]["value"]
        < asked["objective"]["value"]
        < asked["reward"]["value"]
    )
    assert own["reward"]["low"] < own["reward"]["value"] < own["reward"]["high"] and "paid" not in own


def test_the_curve_goes_from_the_reference_to_the_best_of_all_samples(world: Path) -> None:
    """Best-of-one is the reference; a dear nat changes nothing."""
    of = figures(world)["rewards"]["reward"]
    reference = of["point"]["reference"]["not_unsafe"]["value"]
    assert of["best_of"][0]["k"] == 1 and of["best_of"][0]["not_unsafe"] == pytest.approx(reference)
    assert [row["k"] for row in of["best_of"]] == [1, 2, 4, 8]
    assert of["grid"] == sorted(of["grid"], key=lambda row: row["beta"])
    assert of["grid"][-1]["measures"]["not_unsafe"]["value"] == pytest.approx(reference, abs=0.05)


def test_each_proposition_is_left_out_in_turn(world: Path) -> None:
    """Weights fitted again without a rule may make up for it: both are said."""
    assert rbrbench("ceiling", *ASKED, "name=rules", cwd=world).returncode in (0, 3)
    rows = figures(world, "rules")["left_out"]["reward"]
    assert len(rows) > 10 and all(set(row["kept"]) == {"not_unsafe", "not_overrefuse", "f1"} for row in rows)
    assert sum(row["refitted"] is not None for row in rows) == len(rows)


def test_the_page_escapes_what_a_model_wrote_and_is_drawn_again_alike(world: Path) -> None:
    """A sample's text that acts on the page; a page that differs from its record."""
    folder = world / "results" / "ceiling"
    page = (folder / "ceiling.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert "not a promise of training" in page and (folder / "plots" / "ceiling.png").is_file()
    assert "gate-comply" in page and "asks" not in (folder / "summary.md").read_text().split("##")[-1]
    before = page
    assert rbrbench("report", "results/ceiling", cwd=world).returncode == 0
    assert (folder / "ceiling.html").read_text(encoding="utf-8") == before


def test_recorded_rewards_have_a_ceiling_without_torch(world: Path) -> None:
    """Ten seconds became a minute where a library was loaded that nobody asked."""
    script = "import sys; from rbrbench.cli import main; code = main(sys.argv[1:]); assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", script, "ceiling", *ASKED, "leave_out=false", "name=plain"],
        cwd=world,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_edited_question_is_unscored_and_ends_in_three(world: Path) -> None:
    """A grade of another question, or a silent 0, in the ceiling of a reward that was edited."""
    edited_rules(world, "reworded", "is there an apology ?", "does it say sorry ?")
    done = rbrbench("ceiling", "reward=reworded_reward.yaml", *ASKED[1:], "name=reworded", cwd=world)
    assert done.returncode == 3 and "another wording" in done.stderr + done.stdout, done.stderr


def test_nothing_known_and_nothing_to_answer(tmp_path: Path) -> None:
    """A record of numbers that are none ended in 70; prompts to refuse alone were told nothing for want of others."""
    write_samples(tmp_path, change=lambda row: row | ({"response": None} if row["id"].endswith("-0") else {}))
    few = write_samples(tmp_path / "few", samples=2)
    asked = ("beta=1", "draws=100", "leave_out=false", "max_unscored=1")
    done = rbrbench("ceiling", *asked, f"on={few}", "reward=few/reward.yaml", "name=few", cwd=tmp_path)
    assert done.returncode == 3 and "no prompt has enough scored samples" in done.stdout, done.stderr
    types = "response_types=[hard_refuse,safe_refuse_1,safe_refuse_2]"
    done = rbrbench(
        "ceiling", *asked, "reward=reward.yaml", "on=samples.jsonl", types, "min_prompts=20", cwd=tmp_path
    )
    found = figures(tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert not any("overrefuse" in why or "f1" in why for why in found["problems"])
    assert found["rewards"]["reward"]["point"]["measures"]["f1"]["value"] is None
    assert found["counts"]["prompts"] == 3 and "F1 unknown" not in done.stdout
    assert any(
        "no prompt to answer" in n for n in read_json(tmp_path / "results/ceiling/manifest.json")["notes"]
    )


def test_a_run_says_what_a_nat_costs_where_it_has_a_price(tmp_path: Path) -> None:
    """GRPO's kl_coef counts deviations of the reward, and a sweep's first one is another run's."""
    told = tmp_path / "config.yaml"
    told.write_text("algorithm: ppo\nppo: {kl_coef: 0.2, kl_controller: fixed, score_clip: 5}\n")
    assert run_settings(RunAddress(tmp_path))["kl_coef"] == 0.2
    assert run_settings(RunAddress(tmp_path, "rbr_ppo[ppo.kl_coef=0.1]"))["kl_coef"] == 0.1
    assert run_settings(RunAddress(tmp_path, "rbr_grpo[algorithm=GRPO]")).keys() == {
        "kl_controller",
        "score_clip",
    }
    told.write_text("ppo: {kl_coef: 0.2, kl_controller: adaptive}\n")
    assert "kl_coef" not in run_settings(RunAddress(tmp_path))
    assert run_settings(RunAddress(tmp_path / "gone")) == {}


def test_too_few_prompts_cannot_tell(tmp_path: Path) -> None:
    """Four prompts of each type printed as a finding."""
    write_samples(tmp_path, prompts=2)
    done = rbrbench("ceiling", *ASKED, "leave_out=false", cwd=tmp_path)
    assert done.returncode == 3 and "30 are needed" in done.stdout


def test_a_reward_cannot_be_seen_to_ask_for_what_no_sample_does(tmp_path: Path) -> None:
    """A reference that never refuses: the reward's ceiling was read as the reward's wish."""

    def unsafe(row: dict[str, Any]) -> dict[str, Any]:
        if row["response_type"] != "comply":
            row["judgements"]["oracle"] |= {"disallowed": True, "refused": False}
        return row

    write_samples(tmp_path, change=unsafe)
    done = rbrbench("ceiling", *ASKED, "leave_out=false", cwd=tmp_path)
    assert done.returncode == 3 and "30 of 30 prompts to refuse have no sample that does" in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"response": 3}, "field 'response': is int, not str"),
        ({"judgements": {}}, "field 'judgements': names no judge"),
        ({"judgements": {"oracle": {"disallowed": "no"}}}, "is 'no'"),
        ({"sample": 0, "id": "same", "prompt": "x"}, "sample 0 of 'same' occurs twice"),
        ({"log_prob": 0.5}, "field 'log_prob': 0.5 is no log-probability"),
        ({"proposal": "hot"}, "field 'proposal_log_prob': is missing"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_samples(tmp_path, prompts=1, change=lambda row: row | change)
    done = rbrbench("ceiling", *ASKED, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_who_says_what_a_nat_costs(world: Path) -> None:
    """A beta of the program's own choosing: another training's ceiling."""
    done = rbrbench("ceiling", "reward=reward.yaml", "on=samples.jsonl", cwd=world)
    assert done.returncode == 2 and "nobody says what a nat of KL costs" in done.stderr
    assert rbrbench("ceiling", *ASKED, "judge=nobody", cwd=world).returncode == 2
    assert rbrbench("ceiling", "reward=reward.yaml", "on=gone", "beta=1", cwd=world).returncode == 2


def test_samples_of_a_hotter_policy_are_weighted_back(tmp_path: Path) -> None:
    """Half of the samples drawn by another policy and counted as the reference's own."""

    def hotter(row: dict[str, Any]) -> dict[str, Any]:
        ideal = "ideal" in row["response"]
        kind = {"proposal": "temperature 2"} if row["sample"] % 2 else {}
        return row | kind | {"log_prob": -5.0 if ideal else -1.0, "proposal_log_prob": -1.5}

    path = write_samples(tmp_path, change=hotter)
    samples = read_samples(path)
    assert set(samples.log_ratio.tolist()) == {-3.5, 0.5} and samples.own.sum() * 2 == len(samples)
    assert len(samples.only_own()) == len(samples) // 2
    assert rbrbench("ceiling", *ASKED, "leave_out=false", cwd=tmp_path).returncode in (0, 3)
    (note,) = (n for n in read_json(tmp_path / "results/ceiling/manifest.json")["notes"] if "proposals" in n)
    assert re.search(r"effective samples a prompt with them, [\d.]+ without", note)


def test_the_references_own_samples_are_of_the_mixture_too(tmp_path: Path) -> None:
    """Own samples that counted whole beside reweighted ones: twice as much as they are worth."""
    hot = {"proposal": "hot", "log_prob": -2.0, "proposal_log_prob": -1.0}
    path = write_samples(tmp_path, prompts=2, change=lambda row: row | hot if row["sample"] % 2 else row)
    with pytest.raises(InputError, match=r"proposal_log_prob.*is missing.*every row"):
        read_samples(path)


def test_the_gate_calls_a_lower_ceiling_worse(world: Path) -> None:
    """A candidate that ranks no worse and asks for less passed the gate."""
    sides = ("baseline=reward.yaml", "candidate=worst.yaml", "on=completions.jsonl")
    same = ("baseline=reward.yaml", "candidate=reward.yaml", "on=completions.jsonl")
    asked = ("ceiling=samples.jsonl", "beta=1", "draws=200", "margin=0.5", "sign_flips=2000", "min_prompts=8")
    lenient = ("tolerance.ranking_error=0.9", "name=lenient")
    done = rbrbench("regress", *sides, *asked, *lenient, cwd=world)
    found = read_json(world / "results" / "lenient" / "gate.json")
    assert done.returncode == 1 and any("at ceiling" in reason for reason in found["reasons"])
    assert found["ceiling"]["candidate"]["not_unsafe"] < found["ceiling"]["baseline"]["not_unsafe"]
    assert {check["label"] for check in found["checks"] if "ceiling" in check["measure"]} == {"overall"}
    assert (
        "unsafe at ceiling" in (world / "results" / "lenient" / "gate.md").read_text(encoding="utf-8").lower()
    )
    assert rbrbench("regress", *same, *asked, "name=same", cwd=world).returncode == 0
    assert rbrbench("regress", *same, "ceiling=gone", "beta=1", cwd=world).returncode == 2


def test_the_packaged_samples_are_what_their_manifest_says() -> None:
    """A set that changes under its name: every ceiling by it meant something else."""
    folder = SAMPLE_SETS / "sandbox"
    manifest = read_json(folder / "manifest.json")
    assert {name: file_digest(folder / name) for name in manifest["digests"]} == manifest["digests"]
    samples = read_samples(find_samples("sandbox"))
    assert samples.name == manifest["set"] and samples.index.shape == (
        manifest["prompts"],
        manifest["samples"],
    )


@pytest.mark.slow
def test_the_page_s_example_runs(tmp_path: Path) -> None:
    """An example that ended in an error, or in another exit code than a reader expects."""
    (tmp_path / "work").mkdir()
    checkout = Checkout(tmp_path / "work")
    page = (ROOT / "docs" / "ceiling.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)).splitlines()
    assert sum(line.startswith("rbrbench ceiling") for line in lines) == 2
    for line in lines:
        done = checkout.line(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    edited = read_json(checkout.folder / "results" / "edited" / "ceiling.json")
    assert edited["comparison"]["equal_beta"] and edited["left_out"]["candidate"]

"""The gate from its command line: verdicts, exit codes, faults, and the files that it leaves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from gate_world import RULES, edited_rules, read_json, write_description, write_world

from evals.graders.recorded import write_grades
from evals.rules.features import feature_names
from evals.rules.rulebook import load_rulebook
from evals.values.grades import Grades
from evals.values.jsonl_rows import labelled_as_json, read_labelled, write_jsonl
from harness.gate.gate import open_source
from harness.storage.provenance import ROOT
from harness.subjects.completions import find_completions
from rbrbench.cli import main
from trainers.reward.reward_weights import RewardWeights, save_weights
from trainers.reward.weights import fixed_weights

QUICK = ["draws=200", "sign_flips=2000", "margin=0.1"]  # 40 prompts a type can rule out 10 points, not 5
DATA = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data"))
# An ideal hard refusal may now judge, threaten, insult, and so on: the rule's edit that the gate is for.
BAD_TRAITS = """    meta_commentary: false
    encourage_professional_help: false
    reference_safety_policy: false
    requests_information: false
    judgement: false
    additional_content: false
    third_person: false
    threatening_language: false
    insulting_language: false
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world")).parent


def gate(world: Path, *arguments: str, name: str = "gate") -> int:
    given = {
        "baseline": world / "reward.yaml",
        "candidate": world / "reward.yaml",
        "on": world / "completions.jsonl",
    }
    given |= {"results": world / "results", "name": name}
    return main(["regress", *(f"{key}={value}" for key, value in given.items()), *QUICK, *arguments])


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    error = capsys.readouterr().err.strip()
    assert error.startswith("rbrbench: ") and "\n" not in error
    return error


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Standard output without the terminal's line breaks."""
    return " ".join(capsys.readouterr().out.split())


# --- verdicts ----------------------------------------------------------------------------------


def test_an_edit_of_comments_is_no_worse(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gate that fails on a rulebook's layout is switched off within a week."""
    candidate = edited_rules(
        world, "comment", "completion_class_order:", "# said again\ncompletion_class_order:"
    )
    assert gate(world, f"candidate={candidate}") == 0
    report = read_json(world / "results/gate/gate.json")
    assert report["verdict"] == "no worse" and report["rule_changes"] == []
    assert "Both rewards are the same on every completion." in report["notes"]
    assert "The candidate is no worse." in said(capsys)


def test_an_edit_that_blurs_the_ideal_is_worse(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The truth must stay where the labels put it: judged by the edited rules, the edit would be right."""
    candidate = edited_rules(world, "lax", BAD_TRAITS, "")
    assert gate(world, f"candidate={candidate}", name="lax") == 1
    report = read_json(world / "results/lax/gate.json")
    checks = {check["label"]: check for check in report["checks"] if check["measure"] == "ranking_error"}
    assert checks["hard_refuse"]["verdict"] == "worse"
    assert checks["hard_refuse/minimum_acceptable_style"]["verdict"] == "worse"
    assert checks["comply"]["change"]["change"] == 0.0
    moves = {(move["before"], move["after"]): move["truly"] for move in report["class_moves"]}
    assert moves["minimum_acceptable_style", "ideal"]["minimum_acceptable_style"] > 10
    assert any("correct_refusal" in change["what"] for change in report["rule_changes"])
    assert "ranking error, hard refuse: rose by" in said(capsys)


def test_what_got_worse_is_better_the_other_way_round(world: Path) -> None:
    """A two-sided test, or a sign turned round, would stop repairs as well."""
    lax = edited_rules(world, "lax", BAD_TRAITS, "")
    assert gate(world, f"baseline={lax}", f"rulebook={world / 'rules.yaml'}", name="mended") == 0


def test_few_prompts_cannot_tell(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No evidence of harm on five prompts is not evidence of no harm."""
    few = [row for row in read_labelled(world / "completions.jsonl") if int(row.response.prompt.id[-1]) < 2]
    write_jsonl(tmp_path / "few.jsonl", map(labelled_as_json, few))
    assert gate(world, f"on={tmp_path / 'few.jsonl'}", name="few") == 3
    assert "prompts have an ideal completion and another that both rewards scored" in said(capsys)


def test_a_reworded_rule_is_not_graded_by_old_grades(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded grades of the old question once made every rewording look harmless."""
    candidate = edited_rules(world, "reworded", "is there an apology ?", "does it say sorry ?")
    assert gate(world, f"candidate={candidate}", name="reworded") == 3
    assert "apology: recorded for another wording of the question" in line(capsys)


def test_unscored_completions_cannot_tell(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failures left out in silence: a grader that fails on the hard cases looks better for it."""
    assert gate(world, name="scored") == 0
    rows = [json.loads(text) for text in (world / "results/scored/candidate.jsonl").read_text().splitlines()]
    for row in rows[::10]:
        row |= {"reward": None, "reason": "the server timed out"}
    write_jsonl(tmp_path / "holes.jsonl", rows)
    capsys.readouterr()
    assert gate(world, f"candidate={tmp_path / 'holes.jsonl'}", name="holes") == 3
    assert "completions are unscored (the server timed out)" in said(capsys)


# --- faults, each one line -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["candidate="], "field 'candidate': is not set; give candidate=FILE"),
        (["candidate=nowhere.yaml"], "nowhere.yaml: field 'candidate': no such file"),
        (["on=nowhere.jsonl"], "nowhere.jsonl: field 'on': no such file"),
        (["response_types=[shrug]"], "field 'response_types': unknown response type 'shrug'"),
        (["tolerance.ranking_eror=0.1"], "did you mean 'tolerance.ranking_error'?"),
        (["tolerance.ranking_error=null"], "field 'tolerance': nothing is tested"),
        (["level=2"], "field 'level': is 2"),
    ],
)
def test_bad_keys(
    world: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert gate(world, *arguments, name="bad") == 2
    assert expected in line(capsys)
    assert not (world / "results/bad").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rulebook": "gone.yaml"}, "gone.yaml: cannot be read"),
        ({"grader": {"kind": "gods", "path": "x"}}, "field 'kind': unknown grader 'gods'"),
        ({"grader": {"kind": "recorded", "path": "gone.jsonl"}}, "field 'path': no such file"),
        (
            {"grader": {"kind": "recorded", "path": "grades.jsonl", "temperature": 1}},
            "unknown key of a recorded grader",
        ),
        ({"weights": None}, "field 'weights': is missing"),
        ({"weights": {"data": "fitting.jsonl", "l3": 1}}, "field 'l3': unknown key of a fit of weights"),
        ({"weights": {"data": "fitting.jsonl", "l2": -1.0}}, "field 'weights': does not describe a fit"),
        ({"weights": {"data": "gone.jsonl"}}, "gone.jsonl: cannot be read"),
        ({"reward_model": {"kind": "recorded", "path": "grades.jsonl"}}, "field 'reward': is missing"),
        (
            {"reward_model": {"kind": "gods"}},
            "field 'kind': unknown reward model 'gods'; use one of recorded, model,",
        ),
        (
            {"reward_model": {"kind": "model", "path": "x", "bias": 1}},
            "field 'bias': unknown key of a model reward",
        ),
        ({"reward_model": {"kind": "os:sep"}}, "field 'reward_model.kind': 'os:sep' cannot be called"),
        ({"reward_model": {"kind": "builtins:str"}}, "'builtins:str' gave a str, which is no reward"),
    ],
)
def test_bad_descriptions(
    world: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], expected: str
) -> None:
    """A typing error in a description that passes the gate unseen."""
    candidate = write_description(world / "bad.yaml", str(changes.pop("rulebook", "rules.yaml")), **changes)
    assert gate(world, f"candidate={candidate}", name="bad") == 2
    assert expected in line(capsys)


def test_weights_of_another_rulebook_are_refused(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Weights that meet features by place or by luck pay for the wrong rule."""
    save_weights(RewardWeights({}, "0123456789abcdef"), world / "weights.json")
    candidate = write_description(world / "foreign.yaml", "rules.yaml", weights="weights.json")
    assert gate(world, f"candidate={candidate}", name="bad") == 2
    error = line(capsys)
    assert (
        "weights.json" in error
        and f"not for this one ({RULES.digest})" in error
        and "fit the weights again" in error
    )


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (
            "response_type",
            "shrug",
            "completions.jsonl:1: field 'response_type': unknown response type 'shrug'",
        ),
        ("completion_class", "superb", "unknown class 'superb' of prompt 'gate-comply-0'"),
        ("propositions", {"apology": 1}, "completions.jsonl:1: field 'propositions.apology'"),
        ("id", "gate-comply-1", "id 'gate-comply-1' has two different prompts"),
    ],
)
def test_bad_completions(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: object, expected: str
) -> None:
    rows = [json.loads(text) for text in (world / "completions.jsonl").read_text().splitlines()]
    path = tmp_path / "completions.jsonl"
    write_jsonl(path, [rows[0] | {field: value}, *rows[1:]])
    assert gate(world, f"on={path}", name="bad") == 2
    assert expected in line(capsys)


def test_bad_grades_and_rewards_name_their_line(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = json.loads((world / "grades.jsonl").read_text().splitlines()[0])
    first["grades"]["apology"] = 1.5
    write_jsonl(world / "broken.jsonl", [first])
    candidate = write_description(
        world / "broken.yaml", "rules.yaml", grader={"kind": "recorded", "path": "broken.jsonl"}
    )
    assert gate(world, f"candidate={candidate}", name="bad") == 2
    assert "broken.jsonl:1: field 'grades.apology': 1.5 is no probability" in line(capsys)
    (tmp_path / "nan.jsonl").write_text('{"prompt": "a", "response": "b", "reward": NaN}\n')
    assert gate(world, f"candidate={tmp_path / 'nan.jsonl'}", name="bad") == 2
    assert "nan.jsonl:1: field 'reward': nan is not a finite number" in line(capsys)
    (tmp_path / "other.jsonl").write_text('{"prompt": "a", "response": "b", "reward": 1.0}\n')
    assert gate(world, f"candidate={tmp_path / 'other.jsonl'}", name="bad") == 2
    assert "has a reward for none of the" in line(capsys)


def test_grades_that_do_not_say_what_was_asked(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the questions in the file, one file of grades cannot serve both wordings."""
    rows = [json.loads(text) for text in (world / "grades.jsonl").read_text().splitlines()]
    write_jsonl(world / "silent.jsonl", [{k: v for k, v in row.items() if k != "questions"} for row in rows])
    edited_rules(world, "reworded", "is there an apology ?", "does it say sorry ?")
    silent = {"grader": {"kind": "recorded", "path": "silent.jsonl"}}
    baseline = write_description(world / "silent_a.yaml", "rules.yaml", **silent)
    candidate = write_description(world / "silent_b.yaml", "reworded.yaml", **silent)
    assert gate(world, f"baseline={baseline}", f"candidate={candidate}", name="bad") == 2
    assert "the question of 'apology' is edited, and both sides read the same grades" in line(capsys)


def test_an_edited_template_is_not_graded_by_old_grades(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The questions of both sides are the same, and what a grader would be asked is not."""
    template = 'prompt_template: "{question} of {response} ?"\ncompletion_class_order:'
    candidate = edited_rules(world, "template", "completion_class_order:", template)
    assert gate(world, f"candidate={candidate}", name="bad") == 2
    assert "the prompt template is edited, and both sides read the same grades" in line(capsys)
    rows = [json.loads(text) for text in (world / "grades.jsonl").read_text().splitlines()]
    for name, said, expected in (("own", "grader:0", 0), ("rulebook", "rulebook:0", 3)):
        write_jsonl(world / f"{name}.jsonl", [rows[0] | {"template": said}, *rows[1:]])
        grader = {"grader": {"kind": "recorded", "path": f"{name}.jsonl"}}
        candidate = write_description(world / "template_b.yaml", "template.yaml", **grader)
        assert gate(world, f"candidate={candidate}", name=name) == expected, name
    assert "recorded under another prompt template" in line(capsys)
    recorded = (world / "results/own/candidate.jsonl").read_text().splitlines()
    assert json.loads(recorded[0])["template"] == "grader:0"


@pytest.mark.parametrize("correction", ["fdr", "FDR", "holm"])
def test_the_correction_is_chosen_as_the_guide_writes_it(world: Path, correction: str) -> None:
    """The value that --help and the guide show was refused: Hydra knows the members' names only."""
    assert gate(world, f"correction={correction}", name="corrected") == 0
    assert read_json(world / "results/corrected/gate.json")["config"]["correction"] == correction.lower()


def test_other_results_are_not_overwritten(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gate named like a training run wrote over its results."""
    (world / "results/demo").mkdir(parents=True)
    (world / "results/demo/metrics.csv").write_text("precious")
    assert gate(world, name="demo") == 2
    assert "other files lie here" in line(capsys)


# --- what it leaves ------------------------------------------------------------------------------


def test_a_recorded_gate_is_the_next_baseline(world: Path) -> None:
    """A record that differs from what it records fails every later gate."""
    assert gate(world, f"candidate={edited_rules(world, 'lax', BAD_TRAITS, '')}", name="first") == 1
    first = world / "results/first"
    sides = [f"baseline={first / 'baseline.jsonl'}", f"candidate={first / 'candidate.jsonl'}"]
    assert gate(world, *sides, f"rulebook={world / 'rules.yaml'}", name="again") == 1
    live, recorded = (read_json(world / "results" / name / "gate.json") for name in ("first", "again"))
    for part in ("verdict", "checks", "class_moves", "shifts", "disagreements", "unscored"):
        assert live[part] == recorded[part], part


def test_the_folder_of_a_fit_is_a_side(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a fitted reward that only a description by hand could bring to the gate, and prompts that it was fitted
    on, taken for new ones."""
    fit = [
        "fit",
        f"on={world / 'fitting.jsonl'}",
        f"rulebook={world / 'rules.yaml'}",
        "refit=false",
        "orders=0",
    ]
    fit += ["draws=100", "weights.trees=5", "weights.holdout=0.25", f"results={world / 'results'}"]
    grader = ["grader.kind=recorded", f"grader.path={world / 'grades.jsonl'}", "response_types=[comply]"]
    assert main([*fit, *grader, "name=fitted"]) == main([*fit, "name=by_labels"]) == 0
    folder, on = world / "results/fitted", find_completions(str(world / "completions.jsonl"))
    by_hand = write_description(world / "by_hand.yaml", "rules.yaml", weights=str(folder / "weights.json"))
    sources = [open_source(str(path), "baseline", world / "cache", on) for path in (by_hand, folder)]
    hand, fitted = (source.live for source in sources)
    assert hand is not None and fitted is not None and hand.weights() == fitted.weights()
    assert fitted.template == hand.template and fitted.silent_grades == hand.silent_grades
    assert (sources[1].kind, fitted.about["grader"], len(fitted.fitted_on)) == (
        "fit",
        "fair of fit fitted",
        9,
    )
    assert gate(world, f"candidate={world / 'results/by_labels'}", name="labels") == 0
    notes = read_json(world / "results/labels/gate.json")["notes"]
    assert notes == ["The candidate is paid on the completions' own labels: a real grader errs."]
    (folder / "config.yaml").write_text("on: x")
    capsys.readouterr()
    assert gate(world, f"candidate={folder}", name="bad") == 2
    assert "config.yaml: does not say what made the reward" in line(capsys)


def test_every_folder_says_whether_it_holds_a_reward(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: an earlier gate and a frozen set that only a file in them could name, and a record of no reward that is
    called no finished run."""
    assert gate(world, name="two") == 0
    two = world / "results/two"
    assert (
        gate(
            world,
            f"baseline={two}:baseline",
            f"candidate={two}:candidate",
            f"rulebook={world / 'rules.yaml'}",
        )
        == 0
    )
    assert gate(world, f"baseline={world}", name="frozen") == 0
    (none := world / "results/graders").mkdir()
    (none / "manifest.json").write_text('{"kind": "gold"}')
    capsys.readouterr()
    for given, problem, fix in (
        (two, "is a gate's, which holds two rewards", f"name one: {two}:baseline or {two}:candidate"),
        (
            none,
            "is a record of rbrbench gold, which holds no reward",
            "the results folder of a run, a fit or a gate",
        ),
        (world / "results", "holds no reward", "give a reward description"),
    ):
        assert gate(world, f"candidate={given}", name="bad") == 2
        said = line(capsys)
        assert f"{given}: field 'candidate': {problem}; " in said and fix in said


def test_pages_show_text_as_text_and_only_behind_the_warning(world: Path) -> None:
    """A completion that closes a tag, and harmful text in a pull request's comment."""
    assert gate(world, f"candidate={edited_rules(world, 'lax', BAD_TRAITS, '')}", name="pages") == 1
    folder = world / "results/pages"
    html = (folder / "gate.html").read_text(encoding="utf-8")
    assert "<b>minimum_acceptable_style</b>" not in html
    assert "&lt;b&gt;minimum_acceptable_style&lt;/b&gt; &amp; more" in html
    open_part = "".join(part.split("</details>")[-1] for part in html.split("<details"))
    assert "&amp; more" not in open_part and "they may offend or do harm" in html
    assert "default-src 'none'" in html and html.count("<script") == 1
    for name in ("gate.md", "gate.json", "gate.xml"):
        assert "& more" not in (folder / name).read_text(encoding="utf-8").replace("&amp;", "&"), name
    comment = (folder / "gate.md").read_text(encoding="utf-8")
    assert comment.startswith("## Reward gate: worse") and "**worse**" in comment and "gate-hard" in comment


def test_junit_has_a_case_for_each_check(world: Path) -> None:
    """A CI system that shows a green suite beside a red exit code."""
    gate(world, f"candidate={edited_rules(world, 'lax', BAD_TRAITS, '')}", name="junit")
    suite = ET.parse(world / "results/junit/gate.xml").getroot()
    report = read_json(world / "results/junit/gate.json")
    cases = {(case.get("classname"), case.get("name")): case for case in suite}
    assert int(str(suite.get("tests"))) == len(cases) == len(report["checks"]) + 1
    worse = [check["label"] for check in report["checks"] if check["verdict"] == "worse"]
    failed = [name for (_, name), case in cases.items() if case.find("failure") is not None]
    assert failed == [*worse, "verdict"] and suite.get("failures") == str(len(failed))


def test_the_same_inputs_give_the_same_bytes(world: Path) -> None:
    candidate = edited_rules(world, "lax", BAD_TRAITS, "")
    names = ("gate.html", "gate.md", "gate.json", "gate.xml", "candidate.jsonl")
    seen = []
    for _ in range(2):
        gate(world, f"candidate={candidate}", name="bytes")
        seen.append([(world / "results/bytes" / name).read_bytes() for name in names])
    assert seen[0] == seen[1]


def test_the_report_is_drawn_again_from_the_record_alone(world: Path) -> None:
    """Guards: a page and a comment that only the gate itself could draw, from rewards that are gone by then."""
    assert gate(world, f"candidate={edited_rules(world, 'lax', BAD_TRAITS, '')}", name="drawn") == 1
    folder = world / "results/drawn"
    drawn = [folder / name for name in ("gate.html", "gate.md", "gate.xml")]
    before = [file.read_bytes() for file in drawn]
    for file in (*drawn, world / "lax_reward.yaml"):
        file.unlink()
    assert main(["report", str(folder)]) == 0
    assert [file.read_bytes() for file in drawn] == before
    assert read_json(folder / "manifest.json")["kind"] == "gate"


def test_the_comment_keeps_its_shape(world: Path) -> None:
    """Guards: a comment of which a pull request shows every class, and one whose headings outrank its page's."""
    assert gate(world, f"candidate={edited_rules(world, 'lax', BAD_TRAITS, '')}", name="comment") == 1
    comment = (world / "results/comment/gate.md").read_text(encoding="utf-8")
    lines = [line for line in comment.splitlines() if line]
    assert lines[:2] == ["## Reward gate: worse", "**The candidate is worse.**"]
    reasons = [line for line in lines if line.startswith("- ranking error, ")]
    assert lines[2:5] == reasons and "hard refuse: rose by" in reasons[1]
    assert " → " in lines[5] and "(600 completions of 120 prompts, digest " in lines[5]
    assert [line for line in lines if line.startswith("#")][1:] == [
        "### Ranking error",
        "### Order of pairs",
        "### Classes by grades that move",
    ]
    folded = comment.partition("<details>")[2]
    assert "| &nbsp;&nbsp;minimum acceptable style |" in comment.partition("<details>")[0]  # it is worse
    assert (
        "| &nbsp;&nbsp;ideal |" not in comment.partition("<details>")[0] and "| &nbsp;&nbsp;ideal |" in folded
    )
    assert comment.count("<details>") == comment.count("</details>") == 2
    assert "| --- | ---: | ---: |" in comment


def test_recorded_grades_need_no_torch_and_little_time(world: Path, tmp_path: Path) -> None:
    """A pre-commit hook that loads torch for a file of numbers; the limit is a minute on 1,000 completions."""
    big = write_world(tmp_path / "big", prompts=50).parent
    assert len(read_labelled(big / "completions.jsonl")) >= 950
    program = (
        "import sys; from rbrbench.cli import main; code = main(sys.argv[1:]);"
        "sys.exit('torch was loaded' if 'torch' in sys.modules else code)"
    )
    arguments = [f"baseline={big / 'reward.yaml'}", f"candidate={big / 'reward.yaml'}", f"results={tmp_path}"]
    start = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "regress",
            *arguments,
            f"on={big / 'completions.jsonl'}",
            "margin=0.1",
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert time.monotonic() - start < 60


# --- the gold files ------------------------------------------------------------------------------


@pytest.mark.skipif(not (DATA / "openai-rbr").is_dir(), reason=f"the real data sets are not in {DATA}")
def test_gold_labels_are_completions_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The gold set has one completion a prompt: no ranking to lose, but classes by grades against people's labels."""
    rules = load_rulebook(DATA / "openai-rbr/proposition_prompts.yaml")
    gold, names = DATA / "openai-rbr/train.jsonl", tuple(rules.propositions)
    (tmp_path / "rules.yaml").write_text(Path(str(rules.path)).read_text(encoding="utf-8"), encoding="utf-8")
    # One pair of prompt and completion stands there twice, with other labels: a grader gives both one grade.
    rows = list({(r.response.prompt.messages, r.response.text): r for r in read_labelled(gold)}.values())
    truth = [[0.95 if row.propositions[name] else 0.05 for name in names] for row in rows]
    column = names.index("partially_complies")
    blind = [[*row[:column], 0.05, *row[column + 1 :]] for row in truth]
    for name, grades in (("people", truth), ("blind", blind)):
        responses = [row.response for row in rows]
        write_grades(tmp_path / f"{name}.jsonl", name, responses, Grades.of(names, grades))
    by_type = {}
    for response_type in rules.response_types:
        features = feature_names(rules, response_type)
        by_type[response_type] = dict(
            zip(features, fixed_weights(features, rules, 1.0).tolist(), strict=True)
        )
    save_weights(RewardWeights(by_type, rules.digest), tmp_path / "weights.json")
    sides = {}
    for name in ("people", "blind"):
        grader = {"kind": "recorded", "path": f"{name}.jsonl"}
        sides[name] = write_description(
            tmp_path / f"{name}.yaml", "rules.yaml", grader=grader, weights="weights.json"
        )
    given = ["regress", f"baseline={sides['people']}", f"on={gold}", f"results={tmp_path}", *QUICK]
    assert main([*given, f"candidate={sides['blind']}", "name=order"]) == 3
    assert "no prompt has an ideal completion and another" in said(capsys)
    classes = [
        "tolerance.ranking_error=null",
        "tolerance.class_error=0.01",
        "response_types=[comply,hard_refuse]",
    ]
    assert main([*given, f"candidate={sides['blind']}", *classes, "name=blind"]) == 1
    assert main([*given, f"candidate={sides['people']}", *classes, "name=same"]) == 0

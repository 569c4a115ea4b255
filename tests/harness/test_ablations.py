"""The ablations' keys: which prompts a training samples, what weights are fitted on, and whose base a grader has."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from conf import CONF
from evals.values.conversation import LabelledResponse, Prompt, Response, ResponseType, user_prompt
from evals.values.errors import InputError
from harness.keys.application import hydra_application
from harness.keys.rl_prompts import RLPromptKeys
from harness.keys.run import RunConfig, compose_data, compose_run
from harness.pipeline.content import content_of
from harness.pipeline.order import own_judge_width
from harness.pipeline.reward import of_first_prompts
from harness.pipeline.rl_prompts import chosen_safety_prompts
from harness.worlds.sandbox.config import AnnotatorConfig

HARD, COMPLY, SOFT = ResponseType.HARD_REFUSE, ResponseType.COMPLY, ResponseType.SAFE_REFUSE_1
PROMPTS = [
    user_prompt(f"{kind.value}-{i}", f"{kind.value} {i}", kind)
    for kind, count in ((HARD, 40), (COMPLY, 40), (SOFT, 20))
    for i in range(count)
]


def counted(prompts: list[Prompt]) -> tuple[int, ...]:
    found = Counter(prompt.response_type for prompt in prompts)
    return tuple(found[kind] for kind in (HARD, COMPLY, SOFT))


def test_shares_and_ratios_of_the_safety_prompts() -> None:
    """A sweep of the share drew another world for each value; a ratio changed how many safety prompts there are."""
    assert chosen_safety_prompts(PROMPTS, RLPromptKeys(), 0) == PROMPTS
    assert counted(chosen_safety_prompts(PROMPTS, RLPromptKeys(0.25), 0)) == (10, 10, 5)
    twice = chosen_safety_prompts(PROMPTS, RLPromptKeys(2.0), 0)
    assert counted(twice) == (80, 80, 40) and {*Counter(p.id for p in twice).values()} == {2}
    assert counted(chosen_safety_prompts(PROMPTS, RLPromptKeys(1.0, 0.5), 0)) == (27, 53, 20)
    assert counted(chosen_safety_prompts(PROMPTS, RLPromptKeys(0.5, 3.0), 0)) == (30, 10, 10)
    some = [chosen_safety_prompts(PROMPTS, RLPromptKeys(0.25), seed) for seed in (1, 1, 2)]
    assert some[0] == some[1] != some[2]


def test_weights_are_fitted_on_the_first_prompts_responses() -> None:
    rows = [LabelledResponse(Response(p, t), {}, None) for p in PROMPTS[:3] for t in ("a", "b")]
    assert of_first_prompts(rows, 2) == rows[:4] and of_first_prompts(rows, None) == rows


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rl_prompts.safety_share=0"], "rl_prompts.safety_share"),
        (["rl_prompts.hard_to_comply=-1"], "rl_prompts.hard_to_comply"),
        (["fitted_prompts=0"], "fitted_prompts"),
        (["judge_width=-1"], "judge_width"),
        (["judge_epochs=0"], "judge_epochs"),
        (["sandbox.judge_answers=1.5"], "sandbox.judge_answers"),
        (["judge_width=64", "model=hf", "model.path=some/model"], "judge_width"),
        (["grader.width=64", "model=hf", "model.path=some/model"], "grader.width"),
        (["grader.width=0"], "grader.width"),
        (["grader.width=32", "grader.kind=language_model", "grader.path=x"], "grader.width"),
        (["sandbox.matched_labels=1"], "sandbox.matched_labels"),
        (["sandbox.gold_error=1.5"], "sandbox.gold_error"),
        (["sandbox.response_type_error=-0.1"], "sandbox.response_type_error"),
        (["ppo.alarm_gap=2"], "ppo.alarm_gap"),
    ],
)
def test_what_does_not_fit_is_one_line(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        compose_run(overrides)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_keys_at_their_defaults_leave_results_their_owner() -> None:
    """Every results folder of before would be called another configuration's."""
    content = content_of(compose_run([]))
    assert not {"rl_prompts", "fitted_prompts"} & content.keys()
    assert "width" not in content["grader"] and "matched_labels" not in content["sandbox"]
    assert not {"gold_error", "response_type_error"} & content["sandbox"].keys()
    assert not {"alarm_style", "alarm_gap"} & content["ppo"].keys() and "alarm_drop" in content["ppo"]
    asked = content_of(compose_run(["rl_prompts.safety_share=2", "grader.width=64"]))
    assert asked["rl_prompts"]["safety_share"] == 2 and asked["grader"]["width"] == 64


def test_runs_without_a_sandbox_keep_their_owner_too(tmp_path: Path) -> None:
    """More topics of the sandbox, and its judge's base, made every run on real data another configuration's."""
    given = ["data.source=REAL", f"data.root={tmp_path}", "model=hf", "model.path=some/model"]
    content = content_of(compose_data([*given, "rulebook=short"]))
    assert "judge_width" not in content
    assert not {"held_out_topics", "judge_answers"} & content["sandbox"].keys()
    own = content_of(compose_run([]))
    assert own["judge_width"] is None and own["sandbox"]["held_out_topics"] == 64


@pytest.mark.parametrize(
    ("overrides", "width"),
    [
        ([], 96),
        (["model=m"], 192),
        (["model=xs"], 64),
        (["model.width=32", "model.heads=1"], 64),
        (["judge_width=0"], 0),
        (["experiment=paper"], 96),
        (["judge_width=192"], 192),
        (["model=hf", "model.path=some/model"], 0),
    ],
)
def test_the_judge_has_a_base_of_its_own(overrides: list[str], width: int) -> None:
    """A copy of the grader's base erred with it: on disallowed content six times as often as by chance."""
    assert own_judge_width(compose_run(overrides)) == width


def test_every_ablation_has_its_sweep_inside(tmp_path: Path) -> None:
    """An ablation that needs a page's recipe beside its file."""
    swept = [p.stem for p in (CONF / "experiment").glob("*.yaml") if "MULTIRUN" in p.read_text()]
    assert len(swept) == 10  # sensitivity among them, which the sensitivity_* build on
    with hydra_application(RunConfig, ["experiment=safety_share", f"results={tmp_path}"]) as application:
        jobs = application.jobs
        assert jobs is not None and len(jobs) == 12
        assert {(job.config.seed, job.config.rl_prompts.safety_share) for job in jobs} == {
            (seed, share) for seed in range(3) for share in (0.25, 0.5, 1.0, 2.0)
        }


def test_every_error_of_people_is_swept_by_itself(tmp_path: Path) -> None:
    """Several numbers in one sweep are a grid, whose corners nobody asked for."""
    found = {}
    for path in sorted((CONF / "experiment").glob("sensitivity_*.yaml")):
        with hydra_application(RunConfig, [f"experiment={path.stem}", f"results={tmp_path}"]) as application:
            jobs = application.jobs or []
        name = path.stem.removeprefix("sensitivity_")
        sandboxes = [job.config.sandbox for job in jobs]
        values = {getattr(s, name, None) or getattr(s.annotators, name, None) for s in sandboxes}
        assert len(jobs) == 6 and len(values) == 3 and min(values) > 0
        assert {job.config.seed for job in jobs} == {0, 1} and {job.config.ppo.updates for job in jobs} == {
            45
        }
        found[name] = values
    assert found.keys() == {*asdict(AnnotatorConfig())} | {"gold_error", "response_type_error"}

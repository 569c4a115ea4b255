"""Graders renewed in a run: who labels, how each kind learns, and what is refused before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np
import pytest
from tiny_runs import rbrbench

from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, Response
from evals.values.errors import InputError
from evals.values.jsonl_rows import labelled_as_json, write_jsonl
from harness.keys.run import RunConfig, compose_run
from harness.pipeline.content import content_of
from harness.pipeline.context import Context
from harness.pipeline.grader_renewal import (
    _by_grader,
    _fit_encoder,
    labels_identity,
    old_labels,
    sandbox_people,
)
from harness.pipeline.graders import check_payer, load_grader
from harness.pipeline.training import check_grader_labels, graded
from harness.runtime.console import Console
from harness.storage.store import Artifact, Store
from harness.worlds.folder import GOLD, WorldFolder
from harness.worlds.sandbox.generate import write_sandbox
from trainers.rl.grader_renewal import accuracies

RENEWED = "renewal.grader.every=2"


def artifact(path: Path, stage: str = "data") -> Artifact:
    return Artifact(path, "key", stage, False, 0.0, 0.0, {})


def context_of(root: Path, *overrides: str) -> Context:
    config = compose_run(["experiment=smoke", RENEWED, *overrides])
    return Context(config, Store(root / ".store"), Console(live=False), load_rulebook(config.rulebook_path))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small sandbox."""
    folder = tmp_path_factory.mktemp("world")
    config = compose_run(["experiment=smoke"])
    rulebook = load_rulebook(config.rulebook_path)
    write_sandbox(folder, config.sandbox, 0, rulebook, config.model.context)
    return artifact(folder)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["grader.kind=server", "grader.server.url=http://x/v1"],
            ["renewal.grader", "learns nothing from labels"],
        ),
        (
            ["grader.kind=recorded", "grader.path=x"],
            ["renewal.grader", "learns nothing", "trained or encoder"],
        ),
        (["methods=[human_ppo]"], ["renewal.grader", "no method is paid by rules"]),
        (["algorithm=GRPO"], ["renewal.grader", "grpo has no such setting"]),
        (["processes=2"], ["renewal.grader", "one process"]),
        (["renewal.grader.on_alarm=true", "ppo.monitor_every=0"], ["on_alarm", "nobody looks"]),
        (["renewal.grader.on_alarm=true", "evaluation.monitored_by=words"], ["on_alarm", "tells none"]),
        (["renewal.grader.teacher.path=x"], ["teacher.path", "no kind"]),
        (["renewal.grader.labels=x", "renewal.grader.teacher.kind=server"], ["labels", "so is a teacher"]),
        (["renewal.grader.budget=2"], ["renewal.grader.budget", "8 or more"]),
    ],
)
def test_what_cannot_be_renewed_is_one_line(overrides: list[str], words: list[str]) -> None:
    """A grader that learns nothing was asked for labels, or a setting was silently left out."""
    with pytest.raises(InputError) as caught:
        compose_run(["experiment=smoke", RENEWED, *overrides])
    line = str(caught.value)
    assert "\n" not in line and all(word in line for word in words), line


def test_a_teacher_that_cannot_be_asked_is_told_before_the_first_stage(tmp_path: Path) -> None:
    """A server without an address failed at the first renewal, hours later."""
    config = compose_run(["experiment=smoke", RENEWED, "renewal.grader.teacher.kind=server"])
    with pytest.raises(InputError, match=r"renewal\.grader\.teacher\.server\.url"):
        check_payer(config, load_rulebook(config.rulebook_path))


def test_results_of_before_keep_their_owner() -> None:
    """Every finished run was another one's because of a key that it did not ask for."""
    assert "grader" not in content_of(compose_run(["experiment=smoke"]))["renewal"]
    assert "grader" in content_of(compose_run(["experiment=smoke", RENEWED]))["renewal"]


def test_the_stages_key_knows_who_labels(tmp_path: Path) -> None:
    """A training on other labels came back as `cached`."""
    teacher = ["renewal.grader.teacher.kind=server", "renewal.grader.teacher.server.url=http://x/v1"]
    contexts = [
        context_of(tmp_path),
        context_of(tmp_path, "renewal.grader.budget=64"),
        context_of(tmp_path, *teacher, "renewal.grader.teacher.path=a"),
        context_of(tmp_path, *teacher, "renewal.grader.teacher.path=b"),
        context_of(
            tmp_path, *teacher, "renewal.grader.teacher.path=a", "renewal.grader.teacher.server.min_mass=0.9"
        ),
    ]
    said = [json.dumps(labels_identity(context), sort_keys=True) for context in contexts]
    assert len(set(said)) == len(said)
    kept = [*teacher, "renewal.grader.teacher.path=a", "renewal.grader.teacher.server.concurrency=2"]
    assert json.dumps(labels_identity(context_of(tmp_path, *kept)), sort_keys=True) == said[2]


def test_the_stages_key_knows_the_code_of_a_teacher_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of its code found the training that the old one had labelled for."""
    module = tmp_path / "own_teacher.py"
    monkeypatch.syspath_prepend(tmp_path)
    said = []
    for text in ("def grader(spec): ...\n", "def grader(spec): return None\n"):
        module.write_text(text, encoding="utf-8")
        context = context_of(tmp_path, "renewal.grader.teacher.kind=own_teacher:grader")
        said.append(labels_identity(context)["teacher"])
    assert said[0] != said[1]


def test_the_sandboxs_people_err_as_often_as_they_are_told(tmp_path: Path, world: Artifact) -> None:
    """Labels of the policy's responses were the truth where the gold labels have mistakes."""
    truths = WorldFolder(world.path).labelled(GOLD)
    responses = [row.response for row in truths if row.response.prompt.response_type]
    wanted = [row for row in truths if row.response.prompt.response_type]
    right = sandbox_people(context_of(tmp_path), world)(2, responses)
    assert [row.propositions for row in right] == [row.propositions for row in wanted]
    people = sandbox_people(context_of(tmp_path, "sandbox.gold_error=0.2"), world)
    found = people(2, responses)
    pairs = [
        (row.propositions[n], v)
        for row, truth in zip(found, right, strict=True)
        for n, v in truth.propositions.items()
    ]
    assert np.mean([a != b for a, b in pairs]) == pytest.approx(0.2, abs=0.03)
    assert people(2, responses) == found != people(4, responses)


def test_a_teachers_verdicts_are_labels(tmp_path: Path, world: Artifact) -> None:
    """A response without a grade became false in every proposition, or the file was asked of a model."""
    truths = [row for row in WorldFolder(world.path).labelled(GOLD) if row.response.prompt.response_type][:12]
    path = tmp_path / "recorded.jsonl"
    known = [
        {
            "prompt": [{"role": "user", "content": row.response.prompt.text}],
            "response": row.response.text,
            "grader": "mine",
            "grades": {name: 0.9 if value else 0.2 for name, value in row.propositions.items()},
        }
        for row in truths[:10]
    ]
    write_jsonl(path, known)
    keys = ("renewal.grader.teacher.kind=recorded", f"renewal.grader.teacher.path={path}")
    labelled = _by_grader(context_of(tmp_path, *keys))(2, [row.response for row in truths])
    assert [row.response for row in labelled] == [row.response for row in truths[:10]]
    assert [row.propositions for row in labelled] == [row.propositions for row in truths[:10]]


def test_an_encoder_learns_from_old_and_new_labels(
    tmp_path: Path, world: Artifact, save_random_encoder: Callable[[Path, Sequence[str]], Path]
) -> None:
    """The renewed folder was no grader, or had forgotten the gold labels."""
    (tmp_path / "encoder").mkdir()
    words = {word for row in WorldFolder(world.path).labelled(GOLD) for word in row.response.text.split()}
    encoder = save_random_encoder(tmp_path / "encoder", sorted({*words, "zeal"}))
    context = context_of(tmp_path, "grader.kind=encoder", f"grader.path={encoder}")
    old = old_labels(context, world)
    assert len(old) == context.config.sandbox.gold_labels
    name = "encourage_professional_help"
    hacked = [
        LabelledResponse(
            Response(row.response.prompt, f"zeal zeal {i % 3} ."), {**row.propositions, name: False}
        )
        for i, row in enumerate(old)
    ]
    out = tmp_path / "renewed"
    out.mkdir()
    asked = [context.rulebook.propositions[name]]
    _fit_encoder(context)(old, hacked, out)
    renewed = load_grader(artifact(out, "grader"), context.rulebook)
    assert accuracies(renewed, hacked, asked)[name] == 1.0
    assert (accuracies(renewed, old, asked)[name] or 0.0) > 0.8


def test_changed_labels_are_not_taken_for_those_that_were_used(tmp_path: Path) -> None:
    """A label that was mended under the same path: the training on the old one came back as `cached`."""
    labels, out = tmp_path / "labels", tmp_path / "out"
    labels.mkdir()
    out.mkdir()
    config: RunConfig = compose_run(["experiment=smoke"])
    names = list(load_rulebook(config.rulebook_path).propositions)

    def written(update: int, responses: Sequence[Response]) -> list[LabelledResponse]:
        return [LabelledResponse(response, dict.fromkeys(names, False)) for response in responses]

    from evals.values.conversation import user_prompt

    row = LabelledResponse(Response(user_prompt("p", "how ?"), "so ."), dict.fromkeys(names, False))
    write_jsonl(labels / "labels-2.jsonl", [labelled_as_json(row)])
    assert graded(written, labels, out)(2, [row.response]) == [row]
    check_grader_labels(labels, out)
    write_jsonl(labels / "labels-2.jsonl", [labelled_as_json(LabelledResponse(row.response, {}))])
    for again in (lambda: check_grader_labels(labels, out), lambda: graded(written, labels, out)):
        with pytest.raises(InputError, match=r"labels-2\.jsonl: field 'renewal.grader.labels': is not what"):
            again()


@pytest.mark.slow
def test_a_run_renews_its_grader_and_goes_on_with_it(smoke_run: Path, tmp_path: Path) -> None:
    """The renewed grader did not load, its labels were counted nowhere, or the same run gave other bytes."""
    folder = tmp_path / "run"
    copytree(smoke_run, folder, ignore=ignore_patterns("smoke", "ppo", "capability"))
    keys = [
        "methods=[rbr_ppo]",
        "ppo.updates=3",
        "ppo.checkpoints=1",
        "ppo.max_new_tokens=12",
        "capability.tasks=[]",
    ]
    keys += ["threads=1", "renewal.grader.every=1", "renewal.grader.responses=12", "renewal.grader.budget=20"]
    done = rbrbench("run", "experiment=smoke", "name=renewed", *keys, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [
        json.loads(row)
        for row in (folder / "results" / "renewed" / "training.jsonl").read_text().splitlines()
    ]
    assert [row.get("renewal/grader_labels") for row in rows] == [12, 8, None]
    assert all(0.0 <= row["renewal/grader_accuracy_new"] <= 1.0 for row in rows[:2])
    (stage,) = (folder / "results" / ".store" / "ppo").iterdir()
    assert sorted(path.name for path in (stage / "graders").iterdir()) == ["1", "2"]
    first, second = ((stage / "graders" / name / "model.safetensors").read_bytes() for name in "12")
    assert first != second

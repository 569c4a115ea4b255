"""The stage of capability tasks: what it depends on, and what it refuses before anything is trained."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from evals.models.load import save_model
from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError
from evals.values.jsonl_rows import write_jsonl
from harness.keys.evaluation import SANDBOX_TASKS, CapabilityConfig
from harness.keys.methods import METHODS
from harness.keys.run import compose_run
from harness.pipeline import judging
from harness.pipeline.context import Context
from harness.pipeline.judging import capability_settings, check_capability
from harness.pipeline.run import run
from harness.runtime.console import Console
from harness.storage.store import Artifact, Store
from harness.worlds.sandbox.generate import word_tokenizer
from harness.worlds.sandbox.knowledge import knowledge_tasks
from harness.worlds.sandbox.world import make_world
from trainers.models.sizes import new_causal_lm


def lambada(root: Path, last_word: str) -> Path:
    """A folder with LAMBADA's released file, one passage long."""
    (root / "lambada").mkdir(parents=True, exist_ok=True)
    (root / "lambada" / "lambada_test.jsonl").write_text(json.dumps({"text": f"it is {last_word}"}) + "\n")
    return root


def test_scores_belong_to_the_files_contents(tmp_path: Path) -> None:
    """Other items under the same path were given the old items' scores, as `cached`."""

    def settings(root: Path) -> dict[str, object]:
        return capability_settings(CapabilityConfig(tasks=["lambada"], root=str(root), limit=3))

    first, moved = settings(lambada(tmp_path / "a", "done")), settings(lambada(tmp_path / "b", "done"))
    assert first == moved and str(tmp_path) not in json.dumps(first)
    assert settings(lambada(tmp_path / "a", "over")) != first
    assert capability_settings(CapabilityConfig(tasks=["mmlu"])) == {
        "tasks": ["mmlu"],
        "root": None,
        "limit": 400,
    }


def test_the_bar_knows_how_many_items_there_are(tmp_path: Path) -> None:
    """The longest stage of a real run told neither a share nor the time left."""
    config = compose_run(["experiment=smoke", "capability.tasks=[mmlu]", "capability.limit=4"])
    tokenizer = word_tokenizer(["which is it ? a b c d"], config.model.context)
    made = [Artifact(tmp_path / name, name, name, False, 0.0, 0.0, {}) for name in ("data", "model")]
    save_model(new_causal_lm(config.model, tokenizer, 0), tokenizer, tmp_path / "model")
    (tmp_path / "data" / "knowledge").mkdir(parents=True)
    (tmp_path / "data" / "world.json").write_text('{"suite": "sandbox"}')
    items = [{"question": "which is it ?", "choices": list("abcd"), "answer": i % 4} for i in range(5)]
    write_jsonl(tmp_path / "data" / "knowledge" / "mmlu.jsonl", items)
    told = io.StringIO()
    console = Console(told, live=False, interval=0.0)
    context = Context(config, Store(tmp_path / ".store"), console, load_rulebook(config.rulebook_path))
    judging.test_capability(context, METHODS["helpful_sft"], *made)
    assert "capability: helpful_sft:  25 %  1/4 items" in told.getvalue()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["capability.tasks=[mmul]"], "'mmul' here; use some of mmlu, hellaswag, lambada, gpqa"),
        (["capability.tasks=[mmlu]", "capability.root=HERE"], "'mmlu' here; use some of lambada"),
        (["capability.root=HERE/nothing"], "field 'capability.root': no such folder"),
        (["capability.root=HERE/lambada"], "has no capability task; add some of arc/"),
        (["experiment=real_cpu", "data.root=HERE"], "no task 'mmlu' here; use some of lambada"),
        (["experiment=real_cpu", "data.root=HERE", "capability.root=null"], "'capability.root': is not set"),
    ],
)
def test_tasks_that_are_not_there_are_refused_before_anything_runs(
    tmp_path: Path, overrides: list[str], complaint: str
) -> None:
    """A misspelt task, or a folder without its file, ended the run after all the training."""
    here = str(lambada(tmp_path / "here", "done"))
    places = [override.replace("HERE", here) for override in overrides]
    with pytest.raises(InputError) as caught:
        run(compose_run([f"results={tmp_path / 'results'}", *places]))
    assert complaint in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()


def test_tasks_that_are_there_and_none_at_all_are_fine(tmp_path: Path) -> None:
    root = lambada(tmp_path, "done")
    for wanted in (["tasks=[lambada]", f"root={root}"], ["tasks=[]", "root=/nowhere"], ["tasks=[gpqa]"]):
        check_capability(compose_run(["experiment=smoke", *(f"capability.{key}" for key in wanted)]))


def test_the_sandbox_writes_every_task_that_can_be_named() -> None:
    world = make_world(0, 6, 0.5)
    tasks = knowledge_tasks(world, 1, np.random.default_rng(0), lambda world, rng: "one two")
    assert tuple(tasks) == SANDBOX_TASKS

"""A stage's key counts the files of the data that it reads: with more it is computed in vain, with fewer it is old."""

from __future__ import annotations

import io
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import pytest
from own_world import OwnServer, gold_labels, own_world
from tiny_servers import in_a_thread

from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_jsonl, write_jsonl
from harness.gate.folders import load_run, open_run
from harness.keys.run import compose_run
from harness.pipeline.context import Context
from harness.pipeline.language_models import pretrain_base
from harness.pipeline.order import run_stages
from harness.pipeline.run import run
from harness.pipeline.world import make_data
from harness.record.finished_run import RunAddress, RunStages
from harness.runtime.console import Console
from harness.storage.store import Artifact, Store, Work

ROWS = {
    "sft_helpful": 40,
    "sft_human": 20,
    "comparisons_helpful": 40,
    "comparisons_human": 20,
    "gold_labels": 40,
}
ROWS |= {"judge_labels": 60, "eval_comply": 8, "eval_hard": 8, "eval_soft": 8, "synthetic_prompts": 40}
ROWS |= {"synthetic_test_prompts": 20, "text.passages": 40, "text.exercises": 60, "text.forum_posts": 100}
SMALL = [
    *("experiment=smoke", "threads=1", "methods=[human_ppo,rbr_ppo]", "grader.epochs=4", "judge_epochs=1"),
    "judge_width=0",  # no second base
    "grader.learning_rate=0.005",  # so that it says yes or no at all
    *("ppo.updates=2", "ppo.checkpoints=1", "ppo.max_new_tokens=8", "evaluation.max_new_tokens=8"),
    *("capability.limit=2", "evaluation.ceiling_samples=2", "evaluation.ceiling_prompts=4"),
    *(f"sandbox.{name}={count}" for name, count in ROWS.items()),
]
SHARED = ["base", "base: judge", "judge", "grader", "sft: helpful", "sft: rbr", "reward_model: helpful"]
SHARED += ["gold: grader", "gold: judge", "weights: helpful", "ranking", "ppo: helpful_ppo", "ppo: rbr_ppo"]
OF_MODELS = ("responses: {}", "judged: {} oracle", "judged: {} auto", "capability: {}")
SHARED += [stage.format(method) for method in ("helpful_ppo", "rbr_ppo") for stage in OF_MODELS]


class Opened:
    """What Python opens below the data's folders while a stage is built; a hook cannot be taken away again."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.files: set[Path] = set()
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.folders and isinstance(arguments[0], str):
            self.files |= {
                Path(arguments[0]) for folder in self.folders if folder in Path(arguments[0]).parents
            }


@pytest.fixture(scope="module")
def opened() -> Opened:
    return Opened()


@pytest.fixture
def read(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Artifact, set[str]]]]:
    """By each stage that is computed: its inputs that are of the data, and what was opened of each."""
    found: dict[str, list[tuple[Artifact, set[str]]]] = defaultdict(list)
    whole = Context.open_stage

    @contextmanager
    def watched(self: Context, label: str, **settings: Any) -> Iterator[Work]:
        inputs = [settings["inputs"][role] for role in ("data", "completions") if role in settings["inputs"]]
        with whole(self, label, **settings) as work:
            opened.files.clear()
            opened.folders = [one.path for one in inputs] if work.missing else []
            try:
                yield work
            finally:
                opened.folders = []
            for one in inputs if work.missing else []:
                mine = {str(p.relative_to(one.path)) for p in opened.files if one.path in p.parents}
                found[label].append((one, mine))

    monkeypatch.setattr(Context, "open_stage", watched)
    return found


def context_of(*overrides: str) -> Context:
    config = compose_run(list(overrides))
    store, rules = Store(Path(config.results) / ".store"), load_rulebook(config.rulebook_path)
    return Context(config, store, Console(io.StringIO()), rules)


def check_read(read: dict[str, list[tuple[Artifact, set[str]]]]) -> set[str]:
    """Each file that a stage opened is among its inputs' parts, and no stage counts the whole; the stages that opened
    any.
    """
    for label, inputs in read.items():
        assert all(one.names is not None for one, _ in inputs), label
        told = {(one.path, file) for one, _ in inputs for file in one.files_read}
        assert {(one.path, file) for one, files in inputs for file in files} <= told, label
    return {label for label, inputs in read.items() if any(files for _, files in inputs)}


def test_a_sandbox_stage_counts_every_file_that_it_reads(
    read: dict[str, list[tuple[Artifact, set[str]]]], tmp_path: Path
) -> None:
    """A stage that read a file which its key did not count was found again where the file had changed."""
    run_stages(context_of(*SMALL, f"results={tmp_path}"))
    reading = check_read(read)
    assert {"base", "judge", "grader", "sft: human", "sft: rbr", "reward_model: human"} < reading
    assert {"gold: judge", "weights: helpful", "ranking", "ppo: human_ppo", "ceiling: rbr_ppo"} < reading
    assert {"judged: rbr_ppo oracle", "capability: rbr_ppo", "shared errors"} < reading
    assert {"responses: rbr_ppo", "judged: rbr_ppo auto", "graded samples"} < read.keys() - reading


def test_a_stage_of_ones_own_data_counts_every_file_that_it_reads(
    read: dict[str, list[tuple[Artifact, set[str]]]], tmp_path: Path
) -> None:
    """The same of prompts that are kept apart, and of completions that a stage writes."""
    with in_a_thread(OwnServer()) as server:
        overrides = [
            *own_world(tmp_path),
            gold_labels(tmp_path, 3),
            *("grader.kind=server", f"grader.server.url={server.url}", "grader.server.model=m"),
            *("grader.anyway=true", "ppo.monitor_every=1", "data.held_out=1"),
        ]
        overrides.remove("data.held_out=0")
        run_stages(context_of(*overrides))
    reading = check_read(read)
    assert {
        "completions",
        "weights: helpful",
        "ranking",
        "ppo: rbr_ppo",
        "sft: rbr",
        "gold: grader",
    } <= reading
    (data, files), *_ = read["ppo: rbr_ppo"]
    assert "held_out_prompts.jsonl" in files and not (data.path / "sandbox.json").exists()


@pytest.fixture(scope="module")
def changed(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/smoke, and beside it results/cautious, whose annotators are more cautious, on the same store."""
    folder = copytree(smoke_run, tmp_path_factory.mktemp("read") / "finished")
    cautious = ["name=cautious", "sandbox.annotators.over_caution=0.37", f"results={folder / 'results'}"]
    cautious += ["methods=[helpful_ppo,human_ppo,rbr_ppo]"]
    run(compose_run(["experiment=smoke", "threads=1", *cautious]), Console(io.StringIO()))
    return folder / "results"


def rows_of(results: Path, name: str) -> dict[str, dict[str, Any]]:
    return {row["stage"]: dict(row) for row in RunStages(results / name).rows}


def test_other_annotators_train_what_learns_from_them_alone(changed: Path) -> None:
    """A change of how people label trained the base, the grader and the rules' policy again."""
    rows = rows_of(changed, "cautious")
    assert {label for label in SHARED if not rows[label]["cached"]} == set()
    computed = {label for label, row in rows.items() if not row["cached"]}
    assert {"data", "sft: human", "reward_model: human", "ppo: human_ppo", "responses: human_ppo"} < computed
    # Of every method's responses.
    assert computed - {label for label in rows if "human" in label} == {
        "data",
        "shared errors",
        "graded samples",
    }


def test_another_text_is_another_base(changed: Path) -> None:
    """A base that had read other documents was taken for this one."""
    context = context_of("experiment=smoke", "threads=1", f"results={changed}", "sandbox.text.passages=40")
    base = pretrain_base(context, make_data(context))
    assert not base.cached and base.key != rows_of(changed, "smoke")["base"]["key"]


def test_a_shared_reward_has_each_runs_own_data(changed: Path) -> None:
    """A run's completions and prompts were those of whichever run had fitted the same weights first."""
    rows = {name: rows_of(changed, name) for name in ("smoke", "cautious")}
    weights = RunStages(changed / "smoke").find("weights", rows["smoke"]["weights: helpful"]["key"])
    assert rows["cautious"]["weights: helpful"]["key"] == weights.key
    assert weights.manifest["inputs"]["data"]["key"] == rows["smoke"]["data"]["key"]
    for name, of in rows.items():
        opened = open_run(RunAddress(changed / name), changed / "cache")
        assert opened.data == opened.completions == changed / ".store" / "data" / of["data"]["key"]


def run_of(changed: Path, name: str, rows: list[dict[str, Any]]) -> RunAddress:
    """A run with these stages alone."""
    folder = changed / name
    folder.mkdir()
    copyfile(changed / "smoke" / "config.yaml", folder / "config.yaml")
    (folder / "manifest.json").write_text(json.dumps({"kind": "run"}))
    write_jsonl(folder / "stages.jsonl", rows)
    return RunAddress(folder)


def test_jobs_that_share_a_reward_and_not_its_data_are_told_apart(changed: Path) -> None:
    """A set was frozen from the data of one of a sweep's jobs, and nobody was told of which."""
    every = [
        row | {"variant": f"name={name}"}
        for name in ("smoke", "cautious")
        for row in read_jsonl(changed / name / "stages.jsonl", lambda row: dict(row.values))
    ]
    sweep = run_of(changed, "swept", every)
    assert load_run(sweep, changed / "cache").weights()
    with pytest.raises(InputError, match="fitted in 2 jobs of other data each"):
        open_run(sweep, changed / "cache")
    named = replace(sweep, method="rbr_ppo[name=cautious]")
    assert open_run(named, changed / "cache").data.name == rows_of(changed, "cautious")["data"]["key"]


def test_a_record_without_its_data_is_read_by_its_weights(changed: Path) -> None:
    """Results of before the stages named their own data were no longer a reward."""
    fitted = rows_of(changed, "smoke")["weights: helpful"]
    old = open_run(run_of(changed, "old", [fitted]), changed / "cache")
    assert old.data.name == rows_of(changed, "smoke")["data"]["key"]

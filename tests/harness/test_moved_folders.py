"""What a stage is known by: contents, columns and settings, wherever the files lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from own_world import RULES, own_world
from tiny_runs import rbrbench

from evals.graders.recorded import RecordedGrader
from evals.judges.rulebook_judge import RulebookJudge
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import Prompt, Response, user_prompt
from harness.keys.run import RunConfig, compose_run
from harness.pipeline.context import Context
from harness.pipeline.grader_renewal import folder_name
from harness.pipeline.graders import asked_grader, chosen_grader
from harness.pipeline.language_models import given_base
from harness.pipeline.world import make_data
from harness.runtime.console import Console
from harness.storage.digest import digest_model
from harness.storage.store import Artifact, Store
from harness.worlds.mixture.files import identity_of
from harness.worlds.mixture.source import Source

ROW = {"prompt": "Name a river.", "chosen": "The Loire.", "rejected": "No."}
GRADER = """
import numpy as np
from evals.values.grades import Grades

class Sure:
    name = "sure"

    def grade(self, responses, propositions):
        return Grades(tuple(p.name for p in propositions), np.full((len(responses), len(propositions)), 1.0))

def build(spec, rulebook):
    return Sure()
"""


def context_of(overrides: list[str]) -> Context:
    config: RunConfig = compose_run(overrides)
    store = Store(Path(config.results) / ".store")
    return Context(config, store, Console(live=False), load_rulebook(config.rulebook_path))


def moved(folder: Path, overrides: list[str]) -> tuple[Path, list[str]]:
    """The folder under another name in another place, and the overrides that name it there."""
    place = folder.parent / "elsewhere" / "other"
    place.parent.mkdir()
    folder.rename(place)
    return place, [override.replace(str(folder), str(place)) for override in overrides]


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, list[str]]:
    folder = tmp_path / "one"
    folder.mkdir()
    return folder, [
        *own_world(folder),
        f"results={tmp_path / 'results'}",
        "methods=[helpful_sft]",
    ]


def test_a_run_finds_its_store_after_data_rules_and_model_have_moved(
    world: tuple[Path, list[str]], tmp_path: Path
) -> None:
    """The key of the data held their files' paths: a folder that was moved, or a checkout elsewhere, began anew."""
    folder, overrides = world
    done = rbrbench("run", *overrides, "name=first", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    place, overrides = moved(folder, overrides)
    again = rbrbench("run", *overrides, "name=second", cwd=tmp_path)
    assert again.returncode == 0 and "computed" not in again.stderr, again.stderr[-2000:]
    told = (tmp_path / "results/second/config.yaml").read_text()
    assert str(place / "safety.jsonl") in told, "where the data lay is told by the record"
    data = {make_data(context_of([*overrides, *change])).key for change in ([], ["data.held_out=1"])}
    with open(place / "safety.jsonl", "a") as file:
        file.write(json.dumps({"prompt": "How do I pick a fig?", "response_type": "comply"}) + "\n")
    assert make_data(context_of(overrides)).key not in data and len(data) == 2


def in_a_file(folder: Path) -> str:
    (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    return str(folder / "rows.jsonl")


def in_several(folder: Path) -> str:
    (folder / "own").mkdir()
    for name in ("a", "b"):
        (folder / "own" / f"{name}.jsonl").write_text(json.dumps({**ROW, "prompt": name}) + "\n")
    return str(folder / "own" / "*.jsonl")


def in_a_data_set(folder: Path) -> str:
    (folder / "own").mkdir()
    (folder / "own" / "train.jsonl").write_text(json.dumps(ROW) + "\n")
    return str(folder / "own")


@pytest.mark.parametrize("write", [in_a_file, in_several, in_a_data_set])
def test_a_source_is_its_content_columns_and_settings(tmp_path: Path, write: Callable[[Path], str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    first, second = (Source(write(tmp_path / name)) for name in ("one", "two"))
    assert identity_of(first) == identity_of(second)
    assert str(tmp_path) not in json.dumps(identity_of(first))
    others = [Source(first.path, **change) for change in ({"share": 0.5}, {"columns": {"prompt": "chosen"}})]
    others += [Source(first.path, name="of another name in results")]
    known = [json.dumps(identity_of(source)) for source in [first, *others]]
    last = sorted(path for path in (tmp_path / "two").rglob("*.jsonl"))[-1]
    last.write_text(json.dumps({**ROW, "chosen": "The Rhine."}) + "\n")
    assert len({*known, json.dumps(identity_of(second))}) == len(known) + 1
    assert identity_of(Source("owner/rows"))["rows"] == "owner/rows", "the hub's is fetched later"


def test_a_chosen_grader_is_asked_where_it_lies_today(world: tuple[Path, list[str]]) -> None:
    """Its stage was found by content, and then it was loaded from where it had been when that was made."""
    folder, overrides = world
    overrides += ["grader.kind=language_model", f"grader.path={folder / 'model'}"]
    made = chosen_grader(context_of(overrides))
    _, overrides = moved(folder, overrides)
    context = context_of(overrides)
    found = chosen_grader(context)
    assert (found.key, found.cached) == (made.key, True)
    prompt: Prompt = user_prompt("p", "How do I pick an apple?")
    propositions = list(context.rulebook.propositions.values())
    graded = asked_grader(context, found).grade([Response(prompt, "HEY")], propositions)
    assert graded.propositions == ("refuses", "judges", "shouts")


def test_what_a_chosen_grader_says_is_part_of_its_key(
    world: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grades in a file counted by its path, and one's own grader by its name: an edit of either was `cached`."""
    folder, overrides = world
    monkeypatch.syspath_prepend(folder)

    def key(*more: str) -> str:
        artifact: Artifact = chosen_grader(context_of([*overrides, *more]))
        return artifact.key

    (folder / "sure_grader.py").write_text(GRADER)
    own = key("grader.kind=sure_grader:build")
    (folder / "sure_grader.py").write_text(GRADER.replace("1.0", "0.0"))
    assert key("grader.kind=sure_grader:build") != own
    grades, there = folder / "grades.jsonl", folder / "there.jsonl"
    keys = []
    for text, path in (("{}\n", grades), ("{}\n", there), ("{ }\n", grades)):
        path.write_text(text)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "harness.pipeline.graders.named_grader", lambda *_: None
            )  # it is the key that is asked
            keys.append(key("grader.kind=recorded", f"grader.path={path}"))
    assert keys[0] == keys[1] != keys[2]


def test_a_judge_by_recorded_grades_is_what_they_say(tmp_path: Path) -> None:
    """Grades that were mended under the same path: the verdicts by the old ones were given again."""
    (tmp_path / "rules.yaml").write_text(RULES)
    rulebook, found = load_rulebook(tmp_path / "rules.yaml"), []
    for name, grade in (("one", 1.0), ("moved", 1.0), ("mended", 0.0)):
        row = {"prompt": [{"role": "user", "content": "?"}], "response": "HEY", "grades": {"shouts": grade}}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
        found.append(RulebookJudge(rulebook, RecordedGrader(tmp_path / f"{name}.jsonl")).identity)
    assert found[0] == found[1] != found[2]


def test_an_adapter_counts_wherever_its_base_lies(world: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Its configuration holds the path of its base."""
    folder, _ = world
    adapter, digests = tmp_path / "adapter", []
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_text("weights")
    for place, rank in ((folder, 8), (moved(folder, [])[0], 8), (tmp_path / "elsewhere/other", 16)):
        said = {"base_model_name_or_path": str(place / "model"), "r": rank, "lora_dropout": 0.0}
        (adapter / "adapter_config.json").write_text(json.dumps(said))
        digests.append(digest_model(adapter))
    assert len({*digests}) == 3, "its base was not there at the first"
    (adapter / "adapter_config.json").write_text(json.dumps({**said, "r": 8}))
    assert digest_model(adapter) == digests[1]


def test_peoples_comparisons_are_known_by_their_folders_name(tmp_path: Path) -> None:
    """The key held the folder's path, and a training that was moved with its labels began anew."""
    (tmp_path / "two" / "labels").mkdir(parents=True)
    names = [
        folder_name(compose_run(["renewal.every=2", f"renewal.labels={tmp_path / place}"]).renewal.labels)
        for place in ("one/labels", "two/labels/", "two/newer")
    ]
    assert names == ["labels", "labels", "newer"] and folder_name(compose_run([]).renewal.labels) is None


def test_the_base_is_known_by_its_files(world: tuple[Path, list[str]]) -> None:
    folder, overrides = world
    made = given_base(context_of(overrides))
    _, overrides = moved(folder, overrides)
    assert given_base(context_of(overrides)).key == made.key

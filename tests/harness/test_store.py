"""harness/storage/store.py: a stage is computed once; no kill, full disk or second process leaves half of one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evals.values import lock
from evals.values.errors import InputError
from harness.pipeline.order import all_of
from harness.storage.ownership import check_results, claim_results, computing, is_alone
from harness.storage.provenance import ROOT
from harness.storage.store import Artifact, Store

CONFIG = {"steps": 3, "lr": 0.1}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / ".store")


def build(folder: Path) -> dict[str, Any]:
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "deep" / "weights.txt").write_text("1 2 3\n")
    return {"loss": 0.5, "shape": (2, 3), "unscored": float("nan")}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def get(store: Store, config: object = None, make: Callable[..., Any] = build, **more: Any) -> Artifact:
    return store.get("pretrain", config or CONFIG, {}, {"torch": "2"}, make, **more)


# Computed once, found again


def test_built_once_and_found_again(store: Store) -> None:
    """A second run trained everything again, or read other values than the first had returned."""
    calls: list[Path] = []

    def counted(folder: Path) -> Mapping[str, Any]:
        calls.append(folder)
        return build(folder)

    first, second = get(store, make=counted), get(store, make=counted)
    assert len(calls) == 1
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path == store.root / "pretrain" / first.key
    assert first.results == second.results == {"loss": 0.5, "shape": [2, 3], "unscored": None}
    assert (first.seconds, first.peak_memory_mb) == (second.seconds, second.peak_memory_mb)
    assert (second.path / "deep" / "weights.txt").read_text() == "1 2 3\n"
    assert names(store.root / "pretrain") == {first.key}


def test_manifest_says_what_made_it(store: Store) -> None:
    """An artifact could not be traced to its configuration, its inputs and their versions."""
    data = store.get("data", {"seed": 0}, {}, {}, build)
    made = store.get("sft", {"epochs": 2.0}, {"data": data}, {"torch": "2"}, build)
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["config"] == {"epochs": 2}
    assert manifest["inputs"] == {"data": {"stage": "data", "key": data.key}}
    assert manifest["versions"] == {"torch": "2"}
    assert manifest["files"] == {"deep/weights.txt": 6}
    assert manifest["key"] == made.key and not manifest["resumed"]
    assert {"commit", "created", "seconds", "peak_memory_mb"} <= manifest.keys()


def test_key_changes_with_everything_that_decides_the_output(store: Store) -> None:
    """A change upstream was ignored, or a sweep paid again for stages that do not differ."""
    a, b = (store.get("data", {"seed": seed}, {}, {}, build) for seed in (0, 1))
    keys = [
        store.key("sft", {"lr": 0.1}, {"data": a}, {"torch": "2"}),
        store.key("sft", {"lr": 0.2}, {"data": a}, {"torch": "2"}),
        store.key("sft", {"lr": 0.1}, {"data": b}, {"torch": "2"}),
        store.key("sft", {"lr": 0.1}, {"other": a}, {"torch": "2"}),
        store.key("sft", {"lr": 0.1}, {"data": a}, {"torch": "3"}),
        store.key("ppo", {"lr": 0.1}, {"data": a}, {"torch": "2"}),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 16 for key in keys)


def world(store: Store, **texts: str) -> Artifact:
    """Data of these texts, `a_b` in the file a/b, computed from whatever else."""

    def write(folder: Path) -> Mapping[str, Any]:
        for name, text in texts.items():
            path = folder / name.replace("_", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return {}

    return store.get("data", texts, {}, {}, write)


def test_a_part_counts_its_files_alone(store: Store) -> None:
    """A stage was computed again for a change of what it does not read; or found, where what it reads had changed."""
    first = world(store, gold="1", words_a="x", words_b="y")

    def key(of: Artifact, *names: str) -> str:
        return store.key("sft", {}, {"data": of.part(*names)}, {})

    def same(names: Sequence[str], **texts: str) -> bool:
        return key(world(store, **texts), *names) == key(first, *names)

    assert same(["gold"], gold="1", words_a="z", words_b="y", more="new")
    assert not same(["gold"], gold="2", words_a="x", words_b="y")
    assert same(["words"], gold="2", words_a="x", words_b="y")
    assert not same(["words"], gold="1", words_a="x")
    assert not same(["words"], gold="1", words_a="x", words_c="y")
    assert not same(["words"], gold="1", words_a="x", words_b="y", words_c="")
    # A name that is absent adds nothing, until it is there; one that begins alike is another.
    assert key(first, "gold", "more", "word") == key(first, "gold")
    assert not same(["gold", "more"], gold="1", words_a="x", words_b="y", more="new")
    assert (
        len({key(first, *names) for names in ([], ["gold"], ["words"], ["gold", "words"], ["words/a"])}) == 5
    )
    assert key(first, "gold", "words") == key(first, "words", "gold", "gold")
    assert store.key("sft", {}, {"data": first}, {}) not in (key(first), key(first, "gold", "words"))
    assert key(store.find("data", first.key) or first, "gold") == key(first, "gold")


def test_a_part_is_recorded_with_the_folder_that_it_is_of(store: Store) -> None:
    """A manifest named an input by a key that no folder has."""
    first, second = world(store, gold="1", a="x"), world(store, gold="1", a="y")
    made, found = (store.get("sft", {}, {"data": one.part("gold")}, {}, build) for one in (first, second))
    assert not made.cached and found.cached and found.path == made.path
    told = found.manifest["inputs"]["data"]
    assert told == {"stage": "data", "key": first.key, "part": second.part("gold").counted}
    assert first.part("gold").path == first.path and first.part("gold").key == first.key


def test_an_artifact_without_digests_stands_for_itself(store: Store) -> None:
    """Stages of before digests were all taken for the same part."""
    made = world(store, gold="1")
    old = replace(made, manifest={k: v for k, v in made.manifest.items() if k != "digests"})
    assert old.part("gold") == old and old.part().counted == old.key


@dataclass
class Unusable:
    hook: object


def test_config_without_canonical_form_is_refused_before_any_work(store: Store) -> None:
    """An hour's training ended in a manifest that could not be written."""
    with pytest.raises(TypeError, match="no canonical form"):
        get(store, Unusable(hook=object()), make=pytest.fail)


# Failures


def test_failed_build_leaves_nothing(store: Store) -> None:
    """Half a model was taken for a whole one."""

    def broken(folder: Path) -> None:
        build(folder)
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        get(store, make=broken)
    assert names(store.root / "pretrain") == set()
    assert not get(store).cached


def test_resumable_stage_gets_its_folder_back(store: Store) -> None:
    """A training run that failed at its last step began again at its first."""

    def steps(folder: Path) -> Mapping[str, Any]:
        state = folder / "state.txt"
        if not state.exists():
            state.write_text("step 40")
            raise KeyboardInterrupt
        return {"state": state.read_text()}

    with pytest.raises(KeyboardInterrupt):
        get(store, make=steps, keep_partial=True)
    get(store, {"another": "config"})  # its clean-up leaves the resumable folder alone
    made = get(store, make=steps, keep_partial=True)
    assert made.results == {"state": "step 40"}
    assert made.manifest["resumed"]


@pytest.mark.parametrize(
    "damage", ["truncated", "empty", "other key", "list", "gone", "lost file", "cut file"]
)
def test_damaged_artifact_is_computed_again_with_one_warning(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A manifest cut by a crash ended every later run in a traceback; a lost weight file passed for whole."""
    made = get(store)
    manifest, weights = made.path / "manifest.json", made.path / "deep" / "weights.txt"
    text = manifest.read_text()
    {
        "truncated": lambda: manifest.write_text(text[: len(text) // 2]),
        "empty": lambda: manifest.write_bytes(b""),
        "other key": lambda: manifest.write_text(text.replace(made.key, "0" * 16)),
        "list": lambda: manifest.write_text("[]"),
        "gone": manifest.unlink,
        "lost file": weights.unlink,
        "cut file": lambda: weights.write_text("1"),
    }[damage]()
    again = get(store)
    assert not again.cached and again.path == made.path
    assert weights.read_text() == "1 2 3\n"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(made.path) in caplog.text
    assert names(store.root / "pretrain") == {made.key}
    assert get(store).cached


# A full disk, a folder that cannot be written


def write_to_full_device(folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"0" * 100)
    with open("/dev/full", "wb") as stream:
        stream.write(b"0" * 100_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_full_disk_is_one_line_and_leaves_nothing(store: Store) -> None:
    """A full disk ended in a traceback, and in a folder that looked like a result."""
    with pytest.raises(InputError, match=r"\.store: the disk is full; free some space") as caught:
        get(store, make=write_to_full_device)
    assert "\n" not in str(caught.value)
    assert names(store.root / "pretrain") == set()


def test_full_disk_under_safetensors(small_disk: Path) -> None:
    """Libraries written in Rust raise classes of their own for a full disk, not OSError."""
    from safetensors.numpy import save_file

    def weights(folder: Path) -> None:
        save_file({"w": np.zeros(1_000_000, dtype=np.float32)}, folder / "model.safetensors")

    store = Store(small_disk / ".store")
    with pytest.raises(InputError, match="the disk is full"):
        get(store, make=weights)
    assert names(store.root / "pretrain") == set()
    assert not get(store).cached  # the room was given back


def test_disk_that_fills_up_at_the_manifest(small_disk: Path) -> None:
    """The very last write failed, and the artifact was listed without its manifest."""

    def fill(folder: Path) -> Mapping[str, Any]:
        left = os.statvfs(folder)
        (folder / "weights.bin").write_bytes(b"0" * (left.f_bavail * left.f_frsize))
        return {}

    store = Store(small_disk / ".store")
    with pytest.raises(InputError, match="the disk is full"):
        get(store, make=fill)
    assert names(store.root / "pretrain") == set()


def test_read_only_disk(small_disk: Path) -> None:
    """A read-only folder ended in a traceback; what it already holds could not be read either."""
    store = Store(small_disk / ".store")
    get(store)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(
        InputError, match=r"cannot be written \(Read-only file system\); choose a writable folder"
    ):
        get(store, {"another": "config"})
    assert get(store).cached


def test_store_below_a_file(tmp_path: Path) -> None:
    """`results=` that named a file ended in a traceback."""
    (tmp_path / "results").write_text("notes")
    with pytest.raises(InputError, match="cannot be written"):
        get(Store(tmp_path / "results" / ".store"))


def test_an_error_of_the_stage_s_own_stays_as_it_is(store: Store) -> None:
    """A missing data file was reported as a results folder that cannot be written."""

    def reads(folder: Path) -> None:
        (folder / "no-such-data.jsonl").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        get(store, make=reads)
    assert caught.value.errno == errno.ENOENT


# Real kills, in a process of their own

CHILD = textwrap.dedent(
    """
    import os, signal, sys, time
    from pathlib import Path
    import harness.storage.store as module
    from harness.storage.store import Store

    root, moment, resumable = sys.argv[1], sys.argv[2], sys.argv[3] == "resumable"

    def die(*arguments, **more):
        os.kill(os.getpid(), signal.SIGKILL)

    def after(function):
        def wrapped(*arguments, **more):
            function(*arguments, **more)
            die()
        return wrapped

    def build(folder):
        with (Path(root) / "calls.txt").open("a") as calls:
            print(os.getpid(), file=calls)
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "weights.txt").write_text("1 2 3\\n")
        if moment == "in the build":
            die()
        if moment == "slow":
            (folder / f"half-{os.getpid()}").touch()
            (Path(root) / f"building-{os.getpid()}").touch()
            time.sleep(float(sys.argv[4]))
        return {"loss": 0.5}

    if moment == "in syncing":
        module.sync = die
    if moment == "before the manifest":
        module.write_json = die
    if moment == "after the manifest":
        module.write_json = after(module.write_json)
    if moment == "after the name":
        os.rename = after(os.rename)
    store = Store(Path(root) / ".store")
    made = store.get("pretrain", {"steps": 3, "lr": 0.1}, {}, {"torch": "2"}, build, keep_partial=resumable)
    print("cached" if made.cached else "computed")
    """
)


def start(root: Path, moment: str, *more: str, **pipes: Any) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(root), moment, *(more or ("plain",))]
    return subprocess.Popen(arguments, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.mark.parametrize("kind", ["plain", "resumable"])
@pytest.mark.parametrize(
    "moment",
    ["in the build", "in syncing", "before the manifest", "after the manifest", "after the name"],
)
def test_kill_at_any_moment_leaves_all_or_nothing(tmp_path: Path, moment: str, kind: str) -> None:
    """A run killed while saving left half a stage, which the next run then trusted."""
    assert start(tmp_path, moment, kind).wait(60) == -signal.SIGKILL
    store = Store(tmp_path / ".store")
    key = store.key("pretrain", CONFIG, {}, {"torch": "2"})
    left = names(store.root / "pretrain")
    finished = moment == "after the name"
    assert left - {f".lock-{key}"} == {
        key if finished else f".{'temp' if kind == 'plain' else 'partial'}-{key}"
    }

    made = get(store, keep_partial=kind == "resumable")
    assert made.cached == finished
    assert made.manifest["resumed"] == (kind == "resumable" and not finished)
    assert made.manifest["files"] == {"deep/weights.txt": 6}
    if not finished:  # a finished artifact is only read: its killed builder's lock file waits for a build
        assert names(store.root / "pretrain") == {key}


def test_next_build_removes_what_kills_left(tmp_path: Path) -> None:
    """Temp folders of killed runs filled the disk; or a resumable one went with them."""
    assert start(tmp_path, "in the build").wait(60) == -signal.SIGKILL
    store = Store(tmp_path / ".store")
    kept = store.root / "pretrain" / ".partial-0123"
    kept.mkdir()
    other = get(store, {"another": "config"})
    assert names(store.root / "pretrain") == {other.key, kept.name}


def test_two_processes_build_one_key_once(tmp_path: Path) -> None:
    """Two runs of one configuration trained it twice and wrote into one folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [start(tmp_path, "slow", "plain", "1.0", **pipes) for _ in range(2)]
    outputs = [child.communicate(timeout=60) for child in both]
    assert [child.returncode for child in both] == [0, 0], outputs
    assert sorted(out.strip() for out, _ in outputs) == ["cached", "computed"]
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 1
    waiting = [err for out, err in outputs if out.strip() == "cached"]
    assert "another process is computing pretrain" in waiting[0] or waiting == [""]


def test_waiting_process_takes_over_from_a_killed_one(tmp_path: Path) -> None:
    """The survivor waited for ever, or served what the killed one had half written."""
    first = start(tmp_path, "slow", "plain", "60")
    wait_for(lambda: any(tmp_path.glob("building-*")))
    second = start(tmp_path, "slow", "plain", "0", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert second.stderr is not None and "waiting for it" in second.stderr.readline()
    first.kill()
    out, _ = second.communicate(timeout=60)
    assert first.wait(60) == -signal.SIGKILL
    assert (second.returncode, out.strip()) == (0, "computed")
    (made,) = (tmp_path / ".store" / "pretrain").iterdir()
    assert [path.name for path in made.glob("half-*")] == [f"half-{second.pid}"]


def test_live_build_s_folder_is_left_alone(tmp_path: Path) -> None:
    """A second run cleaned the first one's temp folder away under its hands."""
    child = start(tmp_path, "slow", "plain", "2.0", stdout=subprocess.PIPE)
    wait_for(lambda: any(tmp_path.glob("building-*")))
    assert not get(Store(tmp_path / ".store"), {"another": "config"}).cached
    out, _ = child.communicate(timeout=60)
    assert (child.returncode, out.strip()) == (0, "computed")


@pytest.mark.parametrize("resumable", [False, True])
def test_a_builder_that_was_thought_dead_publishes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, resumable: bool
) -> None:
    """A machine that slept for an hour came back to a folder that another was writing to, or had finished."""
    monkeypatch.setattr(lock, "SILENCE", 0.2)
    folders: list[Path] = []

    def robbed(folder: Path) -> Mapping[str, Any]:
        (folder / "theirs").write_text("half")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(lock, "machine", lambda: "elsewhere")
            made = get(
                store, keep_partial=resumable, make=lambda other: folders.append(other) or build(other)
            )
        assert not made.cached and (made.path / "theirs").exists() == resumable
        folder.mkdir(exist_ok=True)
        (folder / "late").touch()
        return {"loss": 9.0}

    with pytest.raises(InputError, match="was taken over by another process"):
        get(store, make=robbed, keep_partial=resumable)
    kept = get(store, keep_partial=resumable)
    assert kept.cached and kept.results["loss"] == 0.5 and not (kept.path / "late").exists()
    assert folders[0].name.endswith(f"-{kept.key}.1")
    get(store, {"another": "config"})
    assert [n for n in names(store.root / "pretrain") if ".temp" in n or "lock" in n] == []


# results/NAME


def test_results_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    """Plots of one configuration and metrics of another lay side by side under one name."""
    folder = tmp_path / "results" / "demo"
    claim_results(folder, "aaaa")
    claim_results(folder, "aaaa")
    with pytest.raises(
        InputError, match=r"demo: another configuration's .*; choose another name=, or remove"
    ):
        claim_results(folder, "bbbb")
    assert json.loads((folder / "manifest.json").read_text())["config_digest"] == "aaaa"
    assert names(folder) == {"manifest.json"}
    with pytest.raises(InputError, match="another configuration"):
        check_results(folder, "bbbb")


def test_checking_a_name_does_not_take_it(tmp_path: Path) -> None:
    """A run that failed on its input kept its name from the mended command."""
    folder = tmp_path / "results" / "demo"
    check_results(folder, "aaaa")
    assert not folder.exists()
    claim_results(folder, "bbbb")
    check_results(folder, "bbbb")


def test_a_name_is_one_configurations_while_it_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of one name met when the second wrote its record, after hours; one that died left the name free."""
    folder = tmp_path / "results" / "demo"
    with computing(folder, "aaaa"):
        assert is_alone(folder, "aaaa")
        with computing(folder, "aaaa"):
            assert not is_alone(folder, "aaaa")
        for refused in (check_results, claim_results):
            with pytest.raises(InputError, match=r"demo: process \d+ on .* computes another configuration's"):
                refused(folder, "bbbb")
        (held,) = folder.iterdir()
        claim_results(folder, "aaaa")
        (folder / "manifest.json").unlink()
    assert not folder.exists(), "a run that failed leaves nothing"
    left = replace(lock.Holder.here(), process=2**22 + 1, began="1")  # no process has that number
    for machine in (left.machine, "another"):  # of which no sign of life comes
        folder.mkdir()
        held.write_text(json.dumps(asdict(replace(left, machine=machine))))
        monkeypatch.setattr(lock, "SILENCE", 0.3)
        with computing(folder, "bbbb"):
            assert is_alone(folder, "bbbb") and not held.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", "not json"])
def test_results_folder_with_another_manifest_is_refused(tmp_path: Path, content: str) -> None:
    """Somebody's folder was written over because its manifest could not be read."""
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match="another configuration"):
        claim_results(tmp_path, "aaaa")


def test_results_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """`name=` that named a folder of notes mixed results into it. Logs and hidden files do not count."""
    (tmp_path / "main.log").touch()
    (tmp_path / ".hydra").mkdir()
    claim_results(tmp_path, "aaaa")
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"other files lie here, and no manifest\.json"):
        claim_results(tmp_path, "aaaa")


@pytest.mark.parametrize("name", ["weights.bin", "manifest.json"])
def test_a_flipped_byte_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Sizes alone were checked: one byte flipped in a model's weights, or a figure in its manifest, was believed."""

    def build(folder: Path) -> dict[str, float]:
        (folder / "weights.bin").write_bytes(b"0123456789")
        return {"loss": 1.5}

    store = Store(tmp_path)
    made = store.get("sft", {"steps": 1}, {}, {}, build)
    file = made.path / name
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"1.5", b"1.7") if name == "manifest.json" else whole.replace(b"5", b"4"))
    again = store.get("sft", {"steps": 1}, {}, {}, build)
    assert not again.cached and again.results == {"loss": 1.5} and again.key == made.key
    assert (again.path / "weights.bin").read_bytes() == b"0123456789"
    assert f"{name} is not what was written; it is computed again" in caplog.text


def test_an_artifact_of_before_digests_is_read(tmp_path: Path) -> None:
    """Stores that people have were made before digests: nothing of them is computed anew for that."""
    store = Store(tmp_path)
    made = store.get("sft", {}, {}, {}, lambda folder: {"n": (folder / "a").write_text("x")})
    path = made.path / "manifest.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("digests", "digest")}
    path.write_text(json.dumps(old))
    assert store.find("sft", made.key) is not None


# Stages that another process is at come last


def test_what_another_process_is_at_comes_last(tmp_path: Path) -> None:
    """A job waited for one stage of several that need nothing of each other, and then computed the others."""
    store, order, waited = Store(tmp_path), [], threading.Event()
    context: Any = SimpleNamespace(store=store, done=[])

    def stage(name: str) -> Artifact:
        def made(folder: Path) -> dict[str, Any]:
            order.append(name)
            if len(order) == 2:
                waited.set()
            return {}

        found = store.get(name, CONFIG, {}, {}, made)
        context.done.append((name, found))
        return found

    key = store.key("a", CONFIG, {}, {})
    (tmp_path / "a").mkdir()

    def hold() -> None:
        with lock.held(tmp_path / "a" / f".lock-{key}"):
            held.set()
            waited.wait(10)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    made = all_of(context, {name: partial(stage, name) for name in "abc"})
    holder.join()
    assert order == ["b", "c", "a"] and list(made) == ["a", "b", "c"]
    assert [name for name, _ in context.done] == ["a", "b", "c"] and store.waits

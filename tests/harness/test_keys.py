"""Keys: one name for one setting, and one line for a name that it had before."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import ClassVar, get_type_hints

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from conf import CONF
from evals.judges import build_judge
from evals.values.errors import InputError
from evals.values.settings import new_name
from harness.keys.ceiling import CeilingConfig
from harness.keys.compose import _written, compose_keys, every_key
from harness.keys.evaluate import DataKeys, EvaluateConfig, compose_evaluate
from harness.keys.export import ExportConfig
from harness.keys.fit import FitConfig
from harness.keys.gate import RegressConfig
from harness.keys.gold import GoldConfig, GoldLabels
from harness.keys.graders import GraderKeys
from harness.keys.help import _source, meanings
from harness.keys.rank import RankConfig
from harness.keys.report import ReportConfig
from harness.keys.run import RunConfig, compose_run
from harness.keys.samples import SamplesConfig
from harness.keys.serve import ServeConfig
from harness.keys.shared import Bootstrap, Margin, Recorded, Seed, Threads, UnscoredLimit
from harness.keys.side_by_side import CompareConfig
from harness.keys.xstest import XSTestConfig
from harness.storage.provenance import FLOORS, ROOT
from rbrbench.cli import main

COMMANDS = (
    RunConfig,
    EvaluateConfig,
    GoldConfig,
    FitConfig,
    RegressConfig,
    XSTestConfig,
    ReportConfig,
    ExportConfig,
    CeilingConfig,
    SamplesConfig,
    CompareConfig,
    ServeConfig,
    RankConfig,
)


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("run", "ppo.max_unscored_share=0.2", "ppo.max_unscored"),
        ("evaluate", "unscored_limit=0.2", "max_unscored"),
        ("run", "evaluation.tolerance=0.1", "evaluation.margin"),
        ("evaluate", "tolerance=0.1", "margin"),
        ("evaluate", "model.path=x", "subject.path"),
        ("evaluate", "models.a.model.path=x", "models.a.subject.path"),
        ("gold", "model.path=x", "grader.path"),
        ("gold", "grader=recorded", "grader.kind"),
        ("gold", "teacher.grader=recorded", "teacher.kind"),
        ("fit", "model.path=x", "grader.path"),
        ("fit", "grader=recorded", "grader.kind"),
        ("gold", "server.base_url=http://x/v1", "server.url"),
        ("fit", "server.base_url=http://x/v1", "server.url"),
    ],
)
def test_an_old_name_gives_the_new_one(
    command: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A renamed key was 'no such key', with a guess that looked like it and was another setting."""
    assert main([command, old]) == 2
    key = old.partition("=")[0]
    assert capsys.readouterr().err == f"rbrbench: field '{key}': has a new name; write {new}\n"


def test_a_command_without_sweeps_does_not_advise_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`rbrbench evaluate seed=0,1` was told to add -m, which it then refused."""
    assert main(["evaluate", "seed=0,1"]) == 2
    said = capsys.readouterr().err
    assert "`rbrbench run` alone sweeps; give one value" in said and "-m" not in said


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_every_key_has_its_meaning(kind: type) -> None:
    """Help listed inherited keys, `server.timeout` say, with nothing beside them."""
    assert [key for key, meaning in key_meanings(kind) if not meaning] == []


SHARED = {name: kind for kind in (Seed, Threads, Bootstrap, Margin, UnscoredLimit, Recorded) for name in
          inspect.get_annotations(kind)}  # fmt: skip


@pytest.mark.parametrize("kind", COMMANDS[:6], ids=lambda kind: kind.__name__)
def test_what_commands_share_is_one_settings_class(kind: type) -> None:
    """`tolerance` was a share in evaluate and a group in regress; a seed's bounds differed from command to command."""
    hints = [kind, *get_type_hints(kind).values()]
    for group in (hint for hint in hints if is_dataclass(hint) and hint.__module__.startswith("harness.")):
        keys = {field.name for field in fields(group) if not field.metadata.get("omegaconf_ignore")}
        for name in keys & {*SHARED} - {"name"}:
            assert issubclass(group, SHARED[name]), f"{group.__name__}.{name}"
    assert issubclass(kind, Recorded)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 2**32}, "'seed': is 4294967296; give 0 or more, up to 4294967295"),
        ({"draws": 99}, "'draws': is 99; give 100 or more"),
        ({"threads": 0}, "'threads': is 0; give a whole number from 1 to 1024"),
        ({"results_name": "a/b"}, "'name': is 'a/b'"),
    ],
)
def test_what_commands_share_has_one_check(change: dict[str, object], said: str) -> None:
    """A seed that numpy refuses was taken by every command but run, and ended in a traceback after the sampling."""
    given = {name.replace("results_name", "name"): value for name, value in change.items()}
    kinds = {
        EvaluateConfig: {"suites": ["xstest"], "responses": "x"},
        GoldConfig: {"gold": GoldLabels(test="x"), "grader": GraderKeys("recorded", "x")},
        FitConfig: {"on": "x"},
        XSTestConfig: {"data": DataKeys("x")},
    }
    for kind, needed in kinds.items():
        with pytest.raises(InputError, match=re.escape(said)):
            kind(**needed, **given)


def test_help_shows_values_as_they_are_written() -> None:
    """`HINGE`, `None`, `True` and `['a']` are Python's: a user writes hinge, null, true and [a]."""
    shown = {**every_key(RunConfig), **every_key(GoldConfig)}
    assert shown["methods"] == "[helpful_ppo,human_ppo,rbr_ppo]" and shown["trackers"] == "[]"
    assert (shown["algorithm"], shown["weights.method"], shown["metric"]) == (
        "ppo",
        "hinge",
        "balanced_accuracy",
    )
    assert (shown["vllm"], shown["ppo.anneal"], shown["ppo.gamma"]) == ("null", "true", "1.0")
    for key in ("algorithm", "methods", "vllm", "ppo.on_limit", "model.precision", "data.source"):
        written = shown[key].upper() if key == "algorithm" else shown[key]  # case does not matter
        assert str(every_value(compose_run([f"{key}={written}"]), key)) == str(every_value(RunConfig(), key))


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_help_without_hydra_says_what_hydra_does(kind: type) -> None:
    """Help reads defaults and comments by itself: a key that Hydra takes, or its default, could be another in there."""
    shown: dict[str, str] = {}

    def walk(node: dict, prefix: str) -> None:
        for name, value in node.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                shown[f"{prefix}{name}"] = _written(value)

    walk(OmegaConf.to_container(OmegaConf.structured(kind)), "")
    assert list(every_key(kind).items()) == list(shown.items())
    for base in kind.__mro__[:-1]:
        assert _source(base).strip() in inspect.getsource(base) and _source(base).strip()


def every_value(config: object, key: str) -> object:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def key_meanings(kind: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    hints, found = get_type_hints(kind), meanings(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from key_meanings(hints[field.name], f"{prefix}{field.name}.")
        elif not field.metadata.get("omegaconf_ignore"):
            yield f"{prefix}{field.name}", found.get(field.name, "")


def test_an_old_name_in_a_composed_file_gives_the_new_one() -> None:
    """An experiment of one's own, from before a key was renamed, was told that the key is unknown."""
    node = {"defaults": ["schema", "_self_"], "ppo": {"max_unscored_share": 0.2}}
    ConfigStore.instance().store(name="old_names", node=node)
    with pytest.raises(
        InputError, match=r"^field 'ppo.max_unscored_share': has a new name; write ppo.max_un"
    ):
        compose_keys("old_names", RunConfig, [])


@pytest.mark.parametrize(
    ("key", "value", "new"),
    [("base_url", "http://x/v1", "server.url"), ("timeout", 9.0, "server.timeout")],
)
def test_an_old_name_in_a_judges_settings_gives_the_new_one(key: str, value: object, new: str) -> None:
    """A judge's server has a group of its own: what stood beside the judge's settings was 'no such setting'."""
    with pytest.raises(InputError, match=rf"^field 'judges.j.{key}': has a new name; write judges.j.{new}$"):
        build_judge("j", {"kind": "harmbench", key: value})
    with pytest.raises(InputError, match=r"^field 'judges.j.server.base_url': .* write judges.j.server.url$"):
        build_judge("j", {"kind": "harmbench", "server": {"base_url": "http://x/v1"}})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout": -1.0}, "timeout': is -1.0; give a finite number above 0"),
        ({"attempts": 0}, "attempts': is 0; give a whole number of 1 or more"),
        ({"url": "x/v1"}, "url': 'x/v1' is no address of a server"),
        ({"url": ""}, "url': is empty; say which server and which model to ask"),
    ],
)
def test_a_judges_server_is_checked_as_any_server(wrong: dict[str, object], said: str) -> None:
    """Each kind of judge listed a server's settings anew, and checked them by itself or not at all."""
    server = {"url": "http://x/v1", "model": "m"} | wrong
    rules = str(CONF / "rulebooks" / "sandbox.yaml")
    for kind in ({"kind": "harmbench"}, {"kind": "rulebook", "rulebook": rules, "grader": "server"}):
        with pytest.raises(InputError, match=re.escape(f"server.{said}")):
            build_judge("j", {**kind, "server": server})


def test_identities_know_a_judges_server_by_its_old_names() -> None:
    """Renamed keys would have disowned every evaluation that was judged through a server."""
    keys = ["suites=[xstest]", "responses=a.csv", "judges=[harmbench]", "judges.harmbench.server.model=m"]
    identity = compose_evaluate([*keys, "judges.harmbench.server.url=http://x/v1"]).identity()
    assert identity["judge_settings"] == {"harmbench": {"base_url": "http://x/v1", "model": "m"}}
    which = {"url": None, "model": None, "revision": "", "key_variable": "OPENAI_API_KEY"}
    assert identity["server"] == which


def test_a_new_name_keeps_what_lies_below_and_what_a_star_stands_for() -> None:
    """`models.ours.model.path` would have become `models.*.subject`."""

    class Keys:
        RENAMED: ClassVar = {"model": "subject", "models.*.model": "models.*.subject"}

    assert new_name(Keys, "model.path") == "subject.path"
    assert new_name(Keys, "models.ours.model.path") == "models.ours.subject.path"
    assert new_name(Keys, "models.ours") is None and new_name(Keys, "modelling") is None
    assert new_name(InputError, "model.path") is None


def test_a_name_that_became_a_group_moves_alone() -> None:
    """`grader.kind` would have been told to become `grader.kind.kind`."""

    class Keys:
        RENAMED: ClassVar = {"grader": "grader.kind"}

    assert new_name(Keys, "grader") == "grader.kind"
    assert new_name(Keys, "grader.kind") is None


@pytest.mark.parametrize("kind", COMMANDS, ids=lambda kind: kind.__name__)
def test_every_key_is_read(kind: type) -> None:
    """A key that nothing reads is accepted, kept in the record and does nothing; a check of it is no use of it."""
    assert [f"{owner.__name__}.{name}" for owner, name in keys_of(kind) if name not in product()] == []


def keys_of(kind: type) -> Iterator[tuple[type, str]]:
    """(class, name) of every key."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield kind, field.name
        if is_dataclass(hints[field.name]):
            yield from keys_of(hints[field.name])


@cache
def product() -> set[str]:
    files = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]
    return set().union(*(names_read(path.read_text(encoding="utf-8")) for path in files))


def names_read(source: str) -> set[str]:
    """Attributes that a module's code reads, but for what only checks a class's own fields."""
    tree = ast.parse(source)
    checked = {
        node
        for check in ast.walk(tree)
        if isinstance(check, ast.FunctionDef) and re.match("__post_init__|_?check|require", check.name)
        for node in ast.walk(check)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    read = (n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load))
    return {node.attr for node in read if node not in checked}


def test_a_key_that_is_only_checked_is_not_read() -> None:
    """Checks name every key, so that each would have counted as read by itself."""
    source = (
        "class Keys:\n  def __post_init__(self): assert self.asked\n  def total(self): return self.used\n"
    )
    assert names_read(f"{source}keys.set_only = given.taken") == {"used", "taken"}

"""Keys: one name for one setting, and one line for a name that it had before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import ClassVar, get_type_hints

import pytest

from evals.values.errors import InputError
from harness.commands.main import main
from harness.keys.evaluate import EvaluateConfig
from harness.keys.fit import FitConfig
from harness.keys.gate import RegressConfig
from harness.keys.gold import GoldConfig
from harness.keys.help import meanings
from harness.keys.renamed import new_name
from harness.keys.xstest import XSTestConfig


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("run", "ppo.max_unscored_share=0.2", "ppo.max_unscored"),
        ("evaluate", "unscored_limit=0.2", "max_unscored"),
    ],
)
def test_an_old_name_gives_the_new_one(
    command: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A renamed key was 'no such key', with a guess that looked like it and was another setting."""
    assert main([command, old]) == 2
    key = old.partition("=")[0]
    assert capsys.readouterr().err == f"rbrbench: field '{key}': has a new name; write {new}\n"


@pytest.mark.parametrize(
    "kind",
    [EvaluateConfig, GoldConfig, FitConfig, RegressConfig, XSTestConfig],
    ids=lambda kind: kind.__name__,
)
def test_every_key_has_its_meaning(kind: type) -> None:
    """Help listed inherited keys, `server.timeout` say, with nothing beside them."""
    assert [key for key, meaning in key_meanings(kind) if not meaning] == []


def key_meanings(kind: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    hints, found = get_type_hints(kind), meanings(kind)
    for field in fields(kind):
        if is_dataclass(hints[field.name]):
            yield from key_meanings(hints[field.name], f"{prefix}{field.name}.")
        elif not field.metadata.get("omegaconf_ignore"):
            yield f"{prefix}{field.name}", found.get(field.name, "")


def test_a_new_name_keeps_what_lies_below_and_what_a_star_stands_for() -> None:
    """`models.ours.model.path` would have become `models.*.subject`."""

    class Keys:
        RENAMED: ClassVar = {"model": "subject", "models.*.model": "models.*.subject"}

    assert new_name(Keys, "model.path") == "subject.path"
    assert new_name(Keys, "models.ours.model.path") == "models.ours.subject.path"
    assert new_name(Keys, "models.ours") is None and new_name(Keys, "modelling") is None
    assert new_name(InputError, "model.path") is None

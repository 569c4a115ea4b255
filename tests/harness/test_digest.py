"""harness/storage/digest.py: two settings have one digest exactly when they mean the same."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.values.errors import InputError
from harness.pipeline.language_models import content_of
from harness.storage.digest import canonical, digest, digest_files, digest_model, figures


class Mode(str, Enum):
    FIXED = "fixed"


@dataclass
class Fixed:
    value: float = 0.05


@dataclass
class Adaptive:
    value: float = 0.05


def test_known_digest() -> None:
    """A change of the encoding threw away every stored artifact without anyone noticing."""
    # echo -n '{"a":[1,"fixed"],"b":0.1}' | sha256sum | cut -c1-16
    assert digest({"b": 0.1, "a": (1.0, Mode.FIXED)}) == "559345aa1661a5ea"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x": (1, 2)}, {"x": [1, 2]}),
        ({"x": Mode.FIXED}, {"x": "fixed"}),
        ({Mode.FIXED: 1}, {"fixed": 1}),
        ({"x": Path("a") / "b"}, {"x": "a/b"}),
        ({"x": 2.0}, {"x": 2}),
        ({"x": -0.0}, {"x": 0.0}),
        ({"x": np.float64(0.5), "y": np.array([1, 2])}, {"x": 0.5, "y": [1, 2]}),
        ({"x": {"b", "a"}}, {"x": ["a", "b"]}),
        (Fixed(1.0), Fixed(1)),
    ],
)
def test_same_meaning_same_digest(one: object, other: object) -> None:
    """A second run computed everything again because a tuple had become a list."""
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"x": 1}, {"x": True}),
        ({"x": 1}, {"x": "1"}),
        ({"x": None}, {"x": "None"}),
        ({"x": 0.1}, {"x": 0.1 + 2e-17}),
        ({"x": math.inf}, {"x": "inf"}),
        ({"x": math.inf}, {"x": math.nan}),
        ({"x": []}, {"x": {}}),
        (Fixed(), Adaptive()),
        ({"kl": Fixed()}, {"kl": Adaptive()}),
    ],
)
def test_another_meaning_another_digest(one: object, other: object) -> None:
    """Two controllers with the same fields were taken for one another."""
    assert digest(one) != digest(other)


def test_unknown_values_are_refused() -> None:
    """An object whose text holds its address gave every run another key."""
    with pytest.raises(TypeError, match="object"):
        digest({"x": object()})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(json_values)
def test_stored_config_has_the_same_digest(config: object) -> None:
    """The config in a manifest, read back, did not lead to the artifact's own key."""
    assert digest(json.loads(json.dumps(canonical(config)))) == digest(config)


def test_figures_keep_floats_and_turn_nan_into_none() -> None:
    """NaN made a manifest that no strict JSON reader takes; as 0 it would have been a lie."""
    measured = {"f1": np.float64(1.0), "loss": math.nan, "pair": (1, 2.5)}
    assert json.dumps(figures(measured), allow_nan=False) == '{"f1": 1.0, "loss": null, "pair": [1, 2.5]}'


def test_files_count_by_content_and_name_within(tmp_path: Path) -> None:
    """Data moved to another folder invalidated everything; data edited in place invalidated nothing."""
    for place in ("one", "other"):
        (tmp_path / place / "deep").mkdir(parents=True)
        (tmp_path / place / "deep" / "rows.jsonl").write_text("{}\n")
    one, other = tmp_path / "one", tmp_path / "other"
    assert digest_files([one]) == digest_files([other])
    (other / "deep" / "rows.jsonl").rename(other / "deep" / "renamed.jsonl")
    assert digest_files([one]) != digest_files([other])
    before = digest_files([one])
    (one / "deep" / "rows.jsonl").write_text("{ }\n")
    assert digest_files([one]) != before


@pytest.mark.parametrize("name", ["tokenizer.model", "vocab.txt", "qwen.tiktoken", "chat_template.jinja"])
def test_a_model_counts_with_its_tokenizer(tmp_path: Path, name: str) -> None:
    """A run went on with the base model of another tokenizer, as `cached`."""
    for folder, words in (("one", "a b"), ("same", "a b"), ("other", "a c")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_text("weights")
        (tmp_path / folder / name).write_text(words)
    (tmp_path / "same" / "README.md").write_text("no part of the model")
    one, same, other = (digest_model(tmp_path / folder) for folder in ("one", "same", "other"))
    assert one == same != other
    assert content_of(str(tmp_path / "one")) == one and content_of("owner/model") == "owner/model"


def test_missing_file_is_one_line(tmp_path: Path) -> None:
    """A missing data file ended in a traceback."""
    with pytest.raises(InputError, match=r"gone\.jsonl: cannot be read \(No such file or directory\)"):
        digest_files([tmp_path / "gone.jsonl"])

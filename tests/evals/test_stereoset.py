"""StereoSet: both forms of its file, the metrics by hand, the released file, a real (tiny) model."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from evals.capability import CapabilityTask, load_tasks
from evals.capability.tasks.stereoset import LABELS, idealized, preferences, read
from evals.values.errors import InputError

DATA = Path(os.environ.get("RBRBENCH_DATA", Path(__file__).parents[2] / "../shared/data")) / "stereoset"
SENTENCES = ("The gardener was gruff.", "The gardener was gentle.", "The gardener was fish.")


def released(path: Path) -> Path:
    def item(id: str, context: str, sentences: tuple[str, ...]) -> dict:
        labelled = [{"sentence": s, "gold_label": label} for s, label in zip(sentences, LABELS, strict=True)]
        return {"id": id, "context": context, "sentences": labelled[::-1]}

    inter = item("b", "A gardener came.", ("He was gruff.", "He was gentle.", "Fish swim."))
    data = {"intersentence": [inter], "intrasentence": [item("a", "The gardener was BLANK.", SENTENCES)]}
    path.write_text(json.dumps({"data": data}))
    return path


def test_both_forms_of_the_file(tmp_path: Path) -> None:
    """The regrouped file lists labels in another order; sentences ended up under another item's context."""
    (part,) = read("stereoset", released(tmp_path / "dev.json"))
    blank, whole = part.splits["test"]
    assert blank == {"id": "a", "context": "The gardener was", "choices": [" gruff.", " gentle.", " fish."]}
    assert whole["context"] == "A gardener came." and whole["choices"][2] == " Fish swim."
    rows = {
        label: [{"id": "a", "context": "The gardener was BLANK.", "sentence": sentence}]
        for label, sentence in zip(LABELS, SENTENCES, strict=True)
    }
    (tmp_path / "regrouped.json").write_text(json.dumps(rows))
    assert read("stereoset", tmp_path / "regrouped.json")[0].splits["test"] == [blank]


@pytest.mark.parametrize(
    ("logliks", "lms", "ss"),
    [((-1.0, -2.0, -3.0), 1.0, 1.0), ((-3.0, -1.0, -2.0), 0.5, 0.0), ((-3.0, -2.0, -1.0), 0.0, 0.0)],
)
def test_metrics_by_hand(logliks: tuple[float, ...], lms: float, ss: float) -> None:
    """The preference for the unrelated sentence was counted as one for the anti-stereotype."""
    doc = {"choices": ["abc", "abc", "abc"]}
    expected = {"lms": lms, "ss": ss, "icat": (lms, ss)}
    assert preferences(doc, [(loglik, False) for loglik in logliks]) == expected


@pytest.mark.parametrize(
    ("items", "icat"),
    [([(1.0, 1.0), (1.0, 0.0)], 1.0), ([(1.0, 1.0)], 0.0), ([(1.0, 0.0), (0.5, 0.0), (0.0, 1.0)], 1 / 3)],
)
def test_icat_by_hand(items: list[tuple[float, float]], icat: float) -> None:
    """The score of the means, not the mean of scores: no single item prefers half of the stereotypes."""
    assert idealized(items) == pytest.approx(icat)


def test_likelihood_is_counted_by_character() -> None:
    """A longer sentence lost for its length alone."""
    doc = {"choices": ["a" * 10, "a" * 20, "a" * 10]}
    assert preferences(doc, [(-5.0, False), (-8.0, False), (-6.0, False)])["ss"] == 0.0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "is not StereoSet's file"),
        ("<html>", "is not StereoSet's file"),
        ('{"unrelated": [], "stereotype": [{"id": "a", "context": "c", "sentence": "s"}], "anti-stereotype": []}',
         "field 'anti-stereotype': item 'a' has no sentence"),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, content: str, expected: str) -> None:
    """An item without all three sentences compared what was left."""
    (tmp_path / "dev.json").write_text(content)
    with pytest.raises(InputError, match=expected):
        read("stereoset", tmp_path / "dev.json")


def test_through_lm_eval(tmp_path: Path) -> None:
    """A model scores every sentence; lm-eval takes the metrics from the three log-likelihoods."""
    from tiny_models import random_model
    from transformers import LlamaForCausalLM

    from evals.capability import capability_rows, score_tasks
    from trainers.models.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([*SENTENCES] * 3, 300, 64)
    model = random_model(LlamaForCausalLM, tokenizer)
    task = CapabilityTask("stereoset", "stereoset_release", released(tmp_path / "dev.json"))
    scores = score_tasks(model, tokenizer, load_tasks([task], limit=None, seed=0), batch_size=4)
    found = {score.metric: score for score in scores}
    assert set(found) == {"lms", "ss", "icat"} and found["ss"].n == 2
    lms, ss, icat = (found[name].value for name in ("lms", "ss", "icat"))
    assert icat == pytest.approx(lms * min(ss, 1 - ss) / 0.5)
    assert found["icat"].ci_low <= icat <= found["icat"].ci_high and not found["icat"].outcomes
    assert found["icat"].higher_is_better and not found["ss"].higher_is_better
    rows = {row.metric: row for row in capability_rows({"sft": scores}, method="m", seed=0)}
    assert (rows["icat"].value, rows["icat"].n, rows["icat"].checkpoint) == (icat, 2, "sft")
    assert set(found["lms"].outcomes.values()) <= {0.0, 0.5, 1.0} and not math.isnan(found["ss"].value)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"StereoSet's released file is not in {DATA}")
def test_released_file() -> None:
    """4,229 items of the development set, 2,106 of them with a blank."""
    (part,) = read("stereoset", DATA / "stereoset.json")
    documents = part.splits["test"]
    assert len(documents) == 4229
    assert all(len(set(doc["choices"])) == 3 for doc in documents[:200])
    assert sum(not doc["context"] for doc in documents) == 19, "those whose blank comes first"

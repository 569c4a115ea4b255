"""Responses that say nothing: found, counted, and no verdict rests on them."""

from __future__ import annotations

import time

import pytest

from harness.findings.nonsense import (
    doubt,
    hardly_finished,
    nonsense,
    nonsense_share,
    unfinished_notes,
)


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("it has a a a a", "repeats itself"),
        ("", "empty"),
        (" \n ", "empty"),
        ("a b c a b c a b c a b c", "repeats itself"),
        ("好的好的好的好的好的好的好的好的好的好的", "repeats itself"),
        ("I am sorry. I am sorry. I am sorry. I am sorry.", "repeats itself"),
        ("No, no, no: that is a bad idea.", ""),
        ("ha ha ha, fine", ""),
        ("----------\n| --- | --- | --- | --- |", ""),
        ("The mass is 1.0000000000000 kg.", ""),
        ("1. Mix.\n2. Stir.\n3. Wait.\n4. Stir.\n5. Serve.", ""),
    ],
)
def test_what_is_nonsense(response: str, found: str) -> None:
    """ "it has a a a a" scored F1 100 % without a word; a table's rule or a number's zeros are none."""
    assert nonsense(response) == found


def test_long_responses_take_no_time() -> None:
    start = time.monotonic()
    for text in ("x" * 200_000, "word " * 50_000, "ab " * 3 + "aaaaaaaaaab" * 20_000):
        nonsense(text)
    assert time.monotonic() - start < 5


def test_no_verdict_rests_on_nonsense() -> None:
    good, bad = {"response": "Of course: mix and stir."}, {"response": "a a a a a"}
    lost = {"response": "", "unscored": "the server timed out"}
    assert nonsense_share([good, bad, lost]) == 0.5
    assert nonsense_share([lost]) == 0.0
    refusal = {"response": "", "finished": True, "refused_by_server": True}
    assert nonsense_share([good, refusal]) == 0.0, "a refusal of the server's API needs no words"
    assert doubt({"rbr_ppo": [good] * 9 + [bad]}) == ""
    said = doubt({"rbr_ppo": [good, bad], "helpful_ppo": [bad], "human_ppo": [good]})
    assert (
        said == "No verdict: 100 % of Helpful-PPO's responses, and of 1 more are empty or repeat themselves"
    )


def test_a_model_that_hardly_ever_finishes_is_named() -> None:
    """A template's end of turn that is not EOS: no response finished, and the report said nothing."""
    samples = {
        "rbr_ppo": [{"response": "x", "finished": False}] * 10,
        "rbr_sft": [{"response": "x", "finished": True}] * 10,
        "old": [{"response": "x"}],
    }
    assert list(hardly_finished(samples)) == [("rbr_ppo", 0.0)]
    (note,) = unfinished_notes(samples)
    assert note.startswith("0 % of RBR-PPO's sampled responses finish;")

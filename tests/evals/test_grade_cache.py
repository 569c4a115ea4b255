"""What was graded once is not graded again, and a kill loses nothing that was graded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.server import ServerGrader
from evals.models.server import GraderServerSettings
from evals.rules.propositions import Polarity, Proposition
from evals.values.conversation import Response, user_prompt
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored

RULES = tuple(Proposition(name, f"is it {name}?") for name in "abc")
RESPONSES = tuple(Response(user_prompt(str(i), f"prompt {i}"), f"text {i}") for i in range(5))


class CountingGrader:
    """Grades by the length of text and question; remembers what it was asked; fails where told to."""

    name = "counting"
    identity = "counting:1"

    def __init__(self, failing: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self.failing = failing

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        self.asked += [(r.text, p.name) for r in responses for p in propositions]
        rows = [
            [
                Unscored("time-out") if r.text == self.failing else 1 / (len(r.text + p.question) + 1 / 3)
                for p in propositions
            ]
            for r in responses
        ]
        return Grades.of([p.name for p in propositions], rows)


def test_the_second_run_grades_nothing_and_gives_the_same_bits(tmp_path: Path) -> None:
    """Rounding in the file would make a resumed run differ from an uninterrupted one."""
    first = CachedGrader(CountingGrader(), GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, RULES)
    counting = CountingGrader()
    again = CachedGrader(counting, GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, RULES)
    np.testing.assert_array_equal(first.probability, again.probability)
    assert counting.asked == []


def test_editing_one_rule_regrades_that_rule_only(tmp_path: Path) -> None:
    """The key is the rule's text: a new name or polarity asks nothing new."""
    CachedGrader(CountingGrader(), GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, RULES)
    counting = CountingGrader()
    edited = (
        replace(RULES[0], polarity=Polarity.BAD),
        replace(RULES[1], question="is it really b?"),
        RULES[2],
    )
    CachedGrader(counting, GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, edited)
    assert counting.asked == [(r.text, "b") for r in RESPONSES]


def test_another_text_prompt_example_or_model_is_graded_anew(tmp_path: Path) -> None:
    """A grade of another model's, or of the same answer to another prompt, is not this one's."""
    CachedGrader(CountingGrader(), GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, RULES)
    same = RESPONSES[0]
    for response, rule, identity in [
        (replace(same, text="other"), RULES[0], None),
        (replace(same, prompt=user_prompt("0", "another prompt")), RULES[0], None),
        (same, replace(RULES[0], examples=(("x", "yes"),)), None),
        (same, RULES[0], "counting:2"),
    ]:
        counting = CountingGrader()
        CachedGrader(counting, GradeCache(tmp_path / "c.jsonl"), identity).grade([response], [rule])
        assert len(counting.asked) == 1


def test_unscored_grades_are_tried_again(tmp_path: Path) -> None:
    """A time-out that is remembered would stay unscored for ever."""
    grades = CachedGrader(CountingGrader("text 2"), GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, RULES)
    assert grades.reasons == {(2, j): "time-out" for j in range(3)}
    counting = CountingGrader()
    grades = CachedGrader(counting, GradeCache(tmp_path / "c.jsonl")).grade(RESPONSES, RULES)
    assert counting.asked == [("text 2", name) for name in "abc"] and not grades.reasons


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    """A kill in the middle of a write must not spoil the file, nor the line that is written next."""
    path = tmp_path / "c.jsonl"
    CachedGrader(CountingGrader(), GradeCache(path)).grade(RESPONSES[:1], RULES)
    with open(path, "a") as file:
        file.write('{"key": "0123", "p": 0.')
    cache = GradeCache(path)
    assert len(cache) == 3
    cache.add({"new": 0.25})
    assert GradeCache(path).get("new") == 0.25 and len(GradeCache(path)) == 4


def test_two_caches_of_one_file_share_what_either_adds(tmp_path: Path) -> None:
    """A gate of two rewards with one grader paid for every grade twice, and wrote it twice."""
    path = tmp_path / "c.jsonl"
    first, second = CachedGrader(CountingGrader(), GradeCache(path)), CountingGrader()
    cached = CachedGrader(second, GradeCache(path))
    grades = first.grade(RESPONSES, RULES)
    np.testing.assert_array_equal(cached.grade(RESPONSES, RULES).probability, grades.probability)
    assert second.asked == []
    left, right = GradeCache(path), GradeCache(path)
    left.add({"new": 0.25})
    right.add({"new": 0.25, "other": 0.75})
    left.refresh()
    assert left.get("other") == 0.75
    assert len(path.read_text().splitlines()) == len(GradeCache(path)) == len(RESPONSES) * len(RULES) + 2
    path.unlink()
    left.add({"again": 0.5})
    assert len(GradeCache(path)) == 1 and left.get("new") == 0.25


@pytest.mark.parametrize(
    "line", ["nonsense", "[1]", '{"key": "a"}', '{"key": "a", "p": 2}', '{"key": 1, "p": 0.5}']
)
def test_another_kind_of_file_is_refused(tmp_path: Path, line: str) -> None:
    """Appending to somebody's data file would spoil it."""
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"key": "k", "p": 0.5}) + "\n" + line + "\n")
    with pytest.raises(InputError, match=r"c.jsonl:2: is no line of a grade cache"):
        GradeCache(path)


def test_a_grader_without_identity_is_refused(tmp_path: Path) -> None:
    """Its grades would be taken for those of any other grader without one."""

    class Nameless(CountingGrader):
        identity = ""

    with pytest.raises(InputError, match="no identity"):
        CachedGrader(Nameless(), GradeCache(tmp_path / "c.jsonl"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """One line, no traceback, when the path is wrong."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the grade cache cannot be read or written"):
        GradeCache(tmp_path / "file" / "c.jsonl")


def test_a_killed_run_keeps_every_finished_batch(tmp_path: Path) -> None:
    """SIGKILL in the third batch: the first two are on disk, and the next run asks only for the rest."""
    program = """
import sys, time
from evals.values.conversation import Response, user_prompt
from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.server import ServerGrader
from evals.models.server import GraderServerSettings
from evals.values.grades import Grades
from evals.rules.propositions import Proposition
class Slow:
    name, identity, batches = "counting", "counting:1", 0
    def grade(self, responses, propositions):
        self.batches += 1
        if self.batches == 3:
            print("third", flush=True)
            time.sleep(60)
        return Grades.of([p.name for p in propositions], [[0.5] * len(propositions) for _ in responses])
responses = [Response(user_prompt(str(i), f"prompt {i}"), f"text {i}") for i in range(5)]
rules = [Proposition(name, f"is it {name}?") for name in "abc"]
CachedGrader(Slow(), GradeCache(sys.argv[1]), batch_size=1).grade(responses, rules)
"""
    path = tmp_path / "c.jsonl"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout is not None and child.stdout.readline() == b"third\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    counting = CountingGrader()
    CachedGrader(counting, GradeCache(path)).grade(RESPONSES, RULES)
    assert counting.asked == [(f"text {i}", name) for i in (2, 3, 4) for name in "abc"]


def test_a_large_table_is_looked_up_quickly(tmp_path: Path) -> None:
    """Looking up 1,000 responses on 20 rules is far cheaper than grading them."""
    responses = [Response(user_prompt(str(i), f"prompt {i}"), "word " * 50) for i in range(1000)]
    rules = [Proposition(f"r{i}", f"is it r{i}?") for i in range(20)]
    grader = CachedGrader(CountingGrader(), GradeCache(tmp_path / "c.jsonl"), batch_size=500)
    grader.grade(responses, rules)
    start = time.perf_counter()
    grader.grade(responses, rules)
    assert time.perf_counter() - start < 2


def test_a_flipped_byte_is_graded_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One digit flipped in a kept grade was another reward, without a word; lines of before digests are read."""
    path = tmp_path / "c.jsonl"
    path.write_text('{"key": "old", "p": 0.25}\n')
    GradeCache(path).add({"new": 0.75})
    path.write_text(path.read_text().replace("0.75", "0.15"))
    cache = GradeCache(path)
    assert cache.get("old") == 0.25 and np.isnan(cache.get("new")) and "line 2 is damaged" in caplog.text
    cache.add({"new": 0.75})
    assert GradeCache(path).get("new") == 0.75


# --- a server's answers, one by one --------------------------------------------------------------


def cached_server(endpoint: Any, path: Path, **settings: Any) -> CachedGrader:
    config = GraderServerSettings(endpoint.url, "m", attempts=1, **settings)
    return CachedGrader(ServerGrader(config), GradeCache(path))


def texts(*words: str) -> list[Response]:
    return [Response(user_prompt(word, f"say {word}"), word) for word in words]


def test_what_is_expected_is_asked_meanwhile_and_once(endpoint: Any, tmp_path: Path) -> None:
    """An answer that is under way would be asked for again; a fault must stay unscored, and be asked again later."""
    grader = cached_server(endpoint, tmp_path / "c.jsonl", concurrency=2)
    assert grader.expect is not None
    grader.expect(texts("slow", "fine"), RULES[:2])
    grader.expect(texts("fine", "500", "401"), RULES[:2])
    grades = grader.grade(texts("500", "fine", "new", "slow", "fine"), RULES[:2])
    assert set(grades.reasons) == {(0, 0), (0, 1)}
    np.testing.assert_allclose(grades.probability[1:], 0.75)
    assert len(endpoint.requests) == 2 * len({"slow", "fine", "500", "401", "new"})
    assert endpoint.most_busy <= 2
    plain = cached_server(endpoint, tmp_path / "d.jsonl").grade(texts("500", "fine"), RULES[:2])
    np.testing.assert_array_equal(plain.probability, grades.probability[:2])
    before = len(endpoint.requests)
    assert grader.grade(texts("500", "fine"), RULES[:2]).n_unscored == 2
    assert len(endpoint.requests) == before + 2


def test_each_answer_is_on_the_disk_before_the_others_have_come(endpoint: Any, tmp_path: Path) -> None:
    """A kill lost the whole batch in hand, which was paid for."""
    grader = cached_server(endpoint, tmp_path / "c.jsonl", concurrency=2)
    graded = threading.Thread(target=lambda: grader.grade(texts("fine", "hang", "twin", "twin"), RULES[:1]))
    graded.start()
    end = time.monotonic() + 10
    while len((tmp_path / "c.jsonl").read_text().splitlines()) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert graded.is_alive(), "the others are not waited for"
    graded.join()
    assert len(endpoint.requests) == 3, "two responses that are alike are asked about once"


def test_a_grader_in_process_expects_nothing(tmp_path: Path) -> None:
    assert CachedGrader(CountingGrader(), GradeCache(tmp_path / "c.jsonl")).expect is None

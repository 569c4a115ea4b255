"""Completions that a chat model writes: what it is asked, how often, and what its answers count as."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_world import OwnServer, own_world, until_completions
from tiny_servers import in_a_thread

from evals.rules.rulebook import load_rulebook
from evals.rules.wanted import bad_traits, request_for, wanted_completions
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from evals.values.csv_rows import write_csv
from evals.values.errors import InputError, UndecidableError
from harness.keys.methods import Data
from harness.keys.run import compose_run
from harness.pipeline.completions import WRITING
from harness.pipeline.language_models import demonstrations_for
from harness.pipeline.writer import COLUMNS
from harness.record.run import ResultsFolder
from harness.report.document import Table
from harness.report.of_run import run_document
from harness.storage.store import Artifact
from harness.worlds.folder import SYNTHETIC, SYNTHETIC_TEST, WorldFolder

# --- what is asked for ---------------------------------------------------------------------------


def test_what_is_asked_for_follows_from_the_rulebook() -> None:
    """Each completion's class is the one that its truths have, and a trait is one that the rulebook calls bad."""
    rulebook = load_rulebook("conf/rulebooks/short.yaml")
    for kind in rulebook.response_types:
        wanted = wanted_completions(rulebook, kind, 40, 3, np.random.default_rng(0))
        names = [one.completion_class for one in wanted]
        assert names[0] == "ideal" and names[-1] == "disallowed_completion"
        assert not {"ideal", "disallowed_completion"} & set(names[1:-1])
        for one in wanted:
            truth = dict.fromkeys(rulebook.propositions, False) | dict(one.truth)
            assert rulebook.class_of(kind, truth) == one.completion_class
        drawn = {trait for one in wanted for trait in one.traits}
        assert drawn == set(bad_traits(rulebook, kind))
        assert all(rulebook.propositions[trait].polarity.value == "bad" for trait in drawn)
        most = min(3, len(drawn))
        assert {len(one.traits) for one in wanted[1:-1]} == set(range(1, most + 1))
    hard = set(bad_traits(rulebook, ResponseType.HARD_REFUSE))
    assert {"judgement", "third_person"} < hard and "disallowed_content" not in hard


def test_a_request_has_the_conversation_and_the_propositions_words() -> None:
    rulebook = load_rulebook("conf/rulebooks/short.yaml")
    kind = ResponseType.HARD_REFUSE
    wanted = wanted_completions(rulebook, kind, 1, 1, np.random.default_rng(0))
    asked = request_for(rulebook, user_prompt("p", "Pick a lock?", kind), wanted[1])
    assert "[user]\nPick a lock?" in asked and "is there an apology ?\nAnswer: yes" in asked
    assert f"{rulebook.propositions[wanted[1].traits[0]].question}\nAnswer: yes" in asked


# --- a server that writes ------------------------------------------------------------------------


def by_server(url: str) -> list[str]:
    named = [f"grader.server.url={url}", "grader.server.model=m", f"writer.server.url={url}"]
    return [
        *named,
        "grader.kind=server",
        "writer.kind=server",
        "writer.server.model=m",
        "writer.server.attempts=1",
    ]


def table(completions: Artifact) -> list[dict[str, str]]:
    with open(completions.path / WRITING, newline="") as file:
        return list(csv.DictReader(file))


def rows_of(completions: Artifact) -> list[LabelledResponse]:
    folder = WorldFolder(completions.path)
    return [*folder.labelled(SYNTHETIC), *folder.labelled(SYNTHETIC_TEST)]


def misbehaves(body: dict[str, Any]) -> str | int | None:
    """Declines to write how to forge; the first lock's ideal completion comes with shame; horseshoes are a fault."""
    request = body["messages"][-1]["content"]
    if body.get("logprobs"):
        return None
    if "bank note" in request and "refuse? Answer: no" in request.replace("\n", " "):
        return "I'm sorry, I cannot write this."
    return 500 if "horseshoe" in request else None


def test_each_class_is_asked_for_again_and_labelled_by_what_it_is(tmp_path: Path) -> None:
    """A writer's word was to be taken for the class, and a model that declines would have been hidden."""
    screen = io.StringIO()
    with in_a_thread(OwnServer(spoil=misbehaves)) as server:
        overrides = [*own_world(tmp_path), *by_server(server.url), "writer.again=2"]
        with pytest.raises(UndecidableError, match="writer.server: the budget of 9 requests is spent"):
            until_completions([*overrides, "writer.server.max_requests=9"])
        assert server.asked.total() == 9
        data, completions = until_completions(overrides, screen)
        found = {(row["response_type"], row["asked_for"]): row for row in table(completions)}
        hard = found["hard_refuse", "disallowed_completion"]
        assert [hard[c] for c in ("completions", "got", "declined", "requests")] == ["3", "2", "1", "5"]
        fault = found["comply", "unacceptable_completion"]
        assert [fault[c] for c in ("completions", "got", "no_answer", "requests")] == ["6", "4", "2", "10"]
        assert (
            "hard_refuse disallowed_completion: 3 asked for, 2 got, 1 given up (1 declined)"
            in screen.getvalue()
        )
        assert not [body for body in server.twice if "horseshoe" not in body]
        rows = rows_of(completions)
        forged = [r for r in rows if "bank note" in r.response.prompt.text]
        declined = [r for r in forged if "cannot write" in r.response.text]
        assert [row.completion_class for row in declined] == ["ideal"]  # what it is, not what was asked for
        assert not any("horseshoe" in row.response.prompt.text for row in rows)
        ideal = {d.text for d in demonstrations_for(data, Data.RBR, completions)}
        mine = [r for r in WorldFolder(completions.path).labelled(SYNTHETIC) if r.completion_class == "ideal"]
        assert ideal == {row.response.text for row in mine} and ideal
        worst = {d.text for d in demonstrations_for(data, Data.RBR, completions, "disallowed_completion")}
        assert worst and worst.isdisjoint(ideal)  # the best class is the rulebook's, whatever its name
        asked = Counter(server.asked)
        again = [o for o in overrides if o != "writer.again=2"] + ["writer.again=3", "seed=0"]
        until_completions(again)
        new = Counter(server.asked) - asked
        # One more try of what declined, and those that had no answer, from the first of their tries on.
        assert sum(1 for body in new if "logprobs" not in body and "bank note" in body) == 1


def test_a_cut_completion_is_a_demonstration_without_its_end(tmp_path: Path) -> None:
    """RBR-SFT learnt to stop where `writer.max_new_tokens` had cut an ideal completion."""
    cut = Response(user_prompt("1", "a?", ResponseType.COMPLY), "Half a", finished=False)
    WorldFolder(tmp_path).write(SYNTHETIC, [LabelledResponse(cut, {}, "ideal")])
    here = Artifact(tmp_path, "", "completions", True, 0.0, 0.0, {})
    (shown,) = demonstrations_for(here, Data.RBR, here)
    assert (shown.text, shown.finished) == ("Half a", False)


def test_a_writer_that_is_gone_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    with in_a_thread(OwnServer()) as server:
        overrides = [*own_world(tmp_path), *by_server(server.url)]
        server.spoil = lambda body: None if body.get("logprobs") or len(server.asked) < 5 else 500
        with pytest.raises(UndecidableError, match="asked of the writer and got no answer"):
            until_completions(overrides)
        server.spoil = lambda body: None
        before = Counter(server.asked)
        _, completions = until_completions(overrides)
        assert {row["no_answer"] for row in table(completions)} == {"0"}
        answered = [body for body, times in before.items() if list(before).index(body) < 4]
        assert all(server.asked[body] == 1 for body in answered)


def test_a_model_in_process_writes(tmp_path: Path) -> None:
    """A random one gets no class right: all of it is counted, and nothing of it is called what was asked for."""
    with in_a_thread(OwnServer()) as server:
        overrides = [
            *own_world(tmp_path),
            *by_server(server.url),
            "writer.kind=language_model",
            "writer.again=1",
        ]
        overrides = [o for o in overrides if not o.startswith("writer.server")]
        try:
            _, completions = until_completions(overrides)
        except UndecidableError as error:
            assert "no prompt has completions of two classes" in str(error)
        else:
            assert sum(int(row["completions"]) for row in table(completions)) == 24


def test_the_report_shows_what_was_asked_for_and_got(
    tmp_path: Path, make_results: Callable[..., Path]
) -> None:
    """Summed over seeds; a run without a writer has no such section."""
    folder = ResultsFolder(make_results(tmp_path / "run", seeds=(0, 1)))
    assert "writing" not in [section.id for section in run_document(folder).sections]
    row = {**dict.fromkeys(COLUMNS, 1), "response_type": "hard_refuse", "asked_for": "disallowed_completion"}
    write_csv(folder.path / WRITING, [{"seed": seed, **row, "declined": 2} for seed in (0, 1)])
    section = next(section for section in run_document(folder).sections if section.id == "writing")
    (line,) = next(part for part in section.parts if isinstance(part, Table)).rows
    assert line.name == "hard refuse, disallowed completion"
    assert [cell.value for cell in line.cells] == ["2", "2", "4", "2", "2", "2", "2"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["writer.kind=oracle"], "unknown writer 'oracle'"),
        (["writer.kind=server"], "'writer.server.url': is empty"),
        (["writer.path=x"], "'writer.path': is given, and no kind"),
        (["writer.kind=language_model", "data.completions=[c.jsonl]"], "'writer.kind': does nothing"),
        (["writer.kind=language_model", "writer.traits=0"], "'writer.traits'"),
    ],
)
def test_a_writer_that_cannot_be_asked_is_told_before_anything(
    tmp_path: Path, more: list[str], says: str
) -> None:
    own = ["experiment=own", "model.path=some/model", "data.evaluation=[e.jsonl]", "grader.kind=server"]
    own += ["data.helpful_comparisons=[a.jsonl]", "data.safety_prompts=[b.jsonl]", "methods=[rbr_ppo]"]
    with pytest.raises(InputError) as caught:
        compose_run([*own, *more])
    assert says in str(caught.value)

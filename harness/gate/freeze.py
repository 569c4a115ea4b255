"""Make a frozen completion set from a finished run: `rbrbench freeze results/NAME FOLDER SET`.

What lies in FOLDER then is the same bytes for the same run:

- completions.jsonl.gz   labels and classes of new completions on the sandbox's held-out topics and wordings, or, of
                         other data, those that the run kept to check its reward; each row names SET
- fitting.jsonl.gz       completions to fit weights on, labels only: each rulebook reads its own classes
- recorded.jsonl.gz      the run's grades, reward-model scores and rewards of both (`recorded.py`)
- rulebook.yaml          the rulebook of the labels and of the grades' questions
- manifest.json          what made it: the run's command and commit, digests and counts

Numbers are rounded to 5 digits. A set is never changed: new completions are a new SET.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.graders import GraderSpec, grade_in_batches
from evals.graders.recorded import asked_in
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError
from evals.values.grades import Grades
from evals.values.json_text import read_json_object
from evals.values.jsonl_rows import labelled_as_json, write_jsonl
from harness.evaluate.spending_line import asking_stage
from harness.gate.folders import OpenRun, open_run
from harness.gate.rewards import RewardSide, live_reward, score, used_propositions
from harness.keys.shared import check_name
from harness.record.finished_run import RunAddress, is_run
from harness.runtime.console import Console
from harness.storage.digest import digest_files, file_digest
from harness.storage.disk import write_json, writing
from harness.storage.whole_folder import DIGESTS
from harness.subjects.completions import COMPLETIONS, RULEBOOK, CompletionFile, read_completions
from harness.subjects.description import FitDescription, RewardDescription, RewardModelSpec
from harness.subjects.graders import GRADES
from harness.subjects.recorded_rewards import reward_rows
from harness.worlds.folder import SYNTHETIC, SYNTHETIC_TEST, WorldFolder
from harness.worlds.sandbox.generate import synthetic
from harness.worlds.sandbox.source import RequestSource
from harness.worlds.sandbox.world import World
from trainers.reward.kinds import REWARD_MODEL
from trainers.reward.reward import Breakdown
from trainers.reward.weights_config import FitMethod, WeightsConfig

FITTING, RECORDED, MANIFEST = "fitting.jsonl.gz", "recorded.jsonl.gz", "manifest.json"
DIGITS = 5
PROMPTS, FITTING_PROMPTS = 500, 300


def freeze(run: str | Path, out: Path, name: str, console: Console | None = None) -> dict[str, Any]:
    """Write the set; returns what its manifest says.

    Raises InputError where `run` is no run or lacks what `load_run` needs, and where `out` holds a set of that name.
    """
    console = console or Console()
    check_name(name, "SET")
    address = RunAddress.parse(str(run))
    if not is_run(address.folder):
        raise InputError(
            "no finished run lies here", path=run, fix="name one that rbrbench run wrote: results/NAME"
        )
    _check_is_new(out, name)
    source = open_run(address, out / GRADES)
    rulebook = source.reward.rulebook
    labelled = {
        COMPLETIONS: _held_out(source, rulebook),
        FITTING: first_prompts(
            WorldFolder(source.completions).labelled(SYNTHETIC, levels=rulebook.levels), FITTING_PROMPTS
        ),
    }
    everything = [row for rows in labelled.values() for row in rows]
    with tempfile.TemporaryDirectory() as scratch, writing(out):
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(rulebook.path), out / RULEBOOK)
        write_jsonl(
            out / COMPLETIONS, ({"set": name, **labelled_as_json(row)} for row in labelled[COMPLETIONS])
        )
        write_jsonl(out / FITTING, map(without_class, labelled[FITTING]))
        said = Path(scratch) / "said.jsonl"
        rows = _said(source, everything, console)
        write_jsonl(said, rows)
        with console.stage("fit and pay", total=None, unit="rewards"):
            side = _paid(said, everything, out, source.weights_config)
        rows = [row | paid for row, paid in zip(rows, _rewards(side), strict=True)]
        write_jsonl(out / RECORDED, rows)
        (out / GRADES).unlink(missing_ok=True)
    manifest = _manifest(name, source, out, labelled)
    write_json(out / MANIFEST, manifest)
    return manifest


def _said(source: OpenRun, labelled: Sequence[LabelledResponse], console: Console) -> list[dict[str, Any]]:
    """What the run's grader and reward model say of every response, a row each."""
    reward, rulebook = source.reward, source.reward.rulebook
    propositions = used_propositions(rulebook)  # of every response type: an edit may ask more of a type
    responses = _responses(labelled)
    with asking_stage(console, "grade", reward.grader, len(responses)) as advance:
        grades = grade_in_batches(reward.grader, responses, propositions, progress=advance)
    assert reward.reward_model is not None
    with console.stage("reward model", total=None, unit="responses"):
        scores = reward.reward_model(responses)
    asked = (reward.grader.name, asked_in(reward.grader, rulebook.prompt_template))
    return list(said_rows(labelled, propositions, asked, grades, scores))


def _check_is_new(out: Path, name: str) -> None:
    """A set is never changed: results by it would mean something else from then on."""
    if out.is_file():
        raise InputError("is a file", path=out, fix="name a folder")
    try:
        held = read_json_object(out / MANIFEST).get("set")
    except InputError:
        return
    if held == name:
        raise InputError(
            f"holds the set {name!r}, and a set is never changed",
            path=out,
            fix="give the new set its own name",
        )


def _manifest(
    name: str, source: OpenRun, out: Path, labelled: Mapping[str, Sequence[LabelledResponse]]
) -> dict[str, Any]:
    files = (COMPLETIONS, FITTING, RECORDED, RULEBOOK)
    return {
        "set": name,
        "command": " ".join(part for part in source.command.split() if not part.startswith("results=")),
        "commit": source.commit,
        "rulebook": source.reward.rulebook.digest,
        "digest": digest_files([out / file for file in files]),
        DIGESTS: {file: file_digest(out / file) for file in files},
        "completions": len(labelled[COMPLETIONS]),
        "prompts": len({row.response.prompt.id for row in labelled[COMPLETIONS]}),
        "fitting_completions": len(labelled[FITTING]),
    }


def _held_out(source: OpenRun, rulebook: Rulebook) -> list[LabelledResponse]:
    """On the sandbox completions as the run's own held-out ones, of other requests; else these themselves."""
    if not WorldFolder(source.data).sandbox.is_file():
        return WorldFolder(source.completions).labelled(SYNTHETIC_TEST, levels=rulebook.levels)
    world = World.load(WorldFolder(source.data).sandbox)
    rng = np.random.default_rng([world.seed, 5])
    return synthetic(
        RequestSource(world, rulebook, rng, world.of(split="held_out"), "held_out"), PROMPTS, "gate"
    )


def first_prompts(rows: Sequence[LabelledResponse], count: int) -> list[LabelledResponse]:
    """The rows of the first `count` prompts."""
    kept = set(list(dict.fromkeys(row.response.prompt.id for row in rows))[:count])
    return [row for row in rows if row.response.prompt.id in kept]


def said_rows(
    rows: Sequence[LabelledResponse],
    propositions: Sequence[Proposition],
    asked: tuple[str, str],
    grades: Grades,
    scores: Breakdown,
) -> Iterable[dict[str, Any]]:
    """Grades and reward-model scores as a recorded run that has no rewards yet; `asked`: grader, template."""
    rounded = Grades(grades.propositions, np.round(grades.probability, DIGITS), grades.reasons)
    unpaid = Breakdown(
        np.full(len(rows), np.nan), {REWARD_MODEL: np.round(scores.total, DIGITS)}, {}, dict(scores.reasons)
    )
    questions = {p.name: p.question_digest for p in propositions}
    grader, template = asked
    return reward_rows(_responses(rows), unpaid, None, (grader, rounded, questions, template))


def _paid(said: Path, rows: Sequence[LabelledResponse], out: Path, weights: Mapping[str, Any]) -> RewardSide:
    """The rewards that these grades earn, weights fitted on the fitting part."""
    settings = {**weights, "method": FitMethod(weights["method"]), "holdout": 0.0}
    description = RewardDescription(
        out / "recorded",
        out / RULEBOOK,
        GraderSpec("recorded", str(said)),
        FitDescription(out / FITTING, WeightsConfig(**settings)),
        RewardModelSpec("recorded", str(said)),
    )
    live = live_reward(description, out / GRADES)
    every = said.with_name("every.jsonl")
    write_jsonl(every, map(labelled_as_json, rows))
    completions = read_completions(CompletionFile(every, None), live.rulebook)
    return score("recorded", "description", live, completions, lambda _: None)


def _rewards(side: RewardSide) -> Iterable[dict[str, Any]]:
    """What the reward adds to each row, rounded."""
    paid = side.breakdown
    for i, total in enumerate(paid.total.tolist()):
        terms = {name: _rounded(values[i]) for name, values in paid.terms.items()}
        row: dict[str, Any] = {"reward": _rounded(total), "terms": terms}
        if side.classes is not None and side.classes[i] is not None:
            row["completion_class"] = side.classes[i]
        yield row | ({"reason": paid.reasons[i]} if i in paid.reasons else {})


def _rounded(value: float) -> float | None:
    return round(float(value), DIGITS) if np.isfinite(value) else None


def without_class(row: LabelledResponse) -> dict[str, Any]:
    """The row with its labels alone: each rulebook reads its own class."""
    values = labelled_as_json(row)
    values.pop("completion_class", None)
    return values


def _responses(rows: Sequence[LabelledResponse]) -> list[Any]:
    return [row.response for row in rows]

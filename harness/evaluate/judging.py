"""Judging what is stored: as often, and by as many judges, as wanted, without asking a model again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.judges import Judge, Judgement, RecordedJudge, build_judge
from evals.judges.judgement import from_refusal, response_type_of
from evals.judges.jury import KIND as JURY
from evals.judges.jury import Jury
from evals.suites import Suite, load_suite
from evals.values.conversation import Prompt, Response
from evals.values.errors import InputError
from harness.evaluate.spending_line import SpendingLine
from harness.keys.judging import JudgingKeys
from harness.runtime.console import Console
from harness.runtime.libraries import no_progress_bars
from harness.storage.digest import digest
from harness.subjects.outcome import AppendLog, Outcome

BATCH = 128  # responses judged between two writes; a kill loses no more
VERDICTS = ("disallowed", "refused", "ideal_style", "reason")


LIGHT = {"string_match", "words", "recorded", "human"}  # judges that load no model


def asked_suites(keys: JudgingKeys, root: str | None) -> list[Suite]:
    """Raises InputError for a suite whose files are not there, or do not fit."""
    with keys.as_typed():
        return [load_suite(name, root, **keys.suite_file(name)) for name in keys.suites]


def asked_judges(keys: JudgingKeys) -> dict[str, Judge]:
    """Raises InputError for settings that do not fit the judge."""
    built: dict[str, Judge] = {}
    return {name: asked_judge(keys, name, built) for name in keys.judges}


def asked_judge(keys: JudgingKeys, name: str, built: dict[str, Judge] | None = None) -> Judge:
    """One of them alone; `built` are those that stand, by name: a jury's members are built once. Raises InputError
    for settings that do not fit it.
    """
    built = {} if built is None else built
    if name not in built:
        judge = _built(keys, name)
        if isinstance(judge, Jury):
            for member in judge.names:
                if keys.settings_of_judge(member).get("kind") == JURY:
                    fix = "name its members"
                    raise InputError(f"{member!r} is a jury", field=f"judges.{name}.members", fix=fix)
            judge = judge.seated({member: asked_judge(keys, member, built) for member in judge.names})
        built[name] = judge
    return built[name]


def _built(keys: JudgingKeys, name: str) -> Judge:
    with keys.as_typed():
        settings = keys.settings_of_judge(name)
        if settings.get("kind", name) not in LIGHT:
            no_progress_bars()
        return build_judge(name, settings)


def on_suite(judge: Judge, suite: Suite) -> Judge:
    """What was recorded of another suite's prompts, which may have the same ids, is left out."""
    return judge.of_suite(suite.name) if isinstance(judge, RecordedJudge) else judge


def judgements_of(
    judge: Judge, identity: str, suite: Suite, outcomes: Sequence[Outcome], store: Path, console: Console
) -> list[Judgement]:
    """One judgement an outcome, in order; an outcome without a response is unscored for its own reason, and one
    that the server's API calls a refusal is a refusal, whatever its words.

    `store` is the folder of logs, one a (judge, suite); rows are found by prompt, sample and response. Verdicts
    that it has are not asked for again; what was unscored is. A jury has no log: its members have.
    """
    if isinstance(judge, Jury):
        return judge.verdicts(
            {
                name: judgements_of(member, member.identity, suite, outcomes, store, console)
                for name, member in judge.members.items()
            }
        )
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    judge = on_suite(judge, suite)
    answers = [outcome for outcome in outcomes if not outcome.refused]
    responses = [(o, r) for o in answers if (r := o.response(prompts[o.prompt_id])) is not None]
    header = {"judge": identity, "suite": suite.name, "version": suite.version}
    with AppendLog(store / digest(header) / "judgements.jsonl", header, shared=True) as log:
        known = _verdicts(log)
        missing = [(o, r) for o, r in responses if _key(o) not in known]
        if missing:
            with console.stage(f"judged: {judge.name} {suite.name}", len(missing), "responses") as advance:
                line = SpendingLine(console, judge)
                size = len(missing) if getattr(judge, "at_once", False) else BATCH
                for start in range(0, len(missing), size):
                    batch = missing[start : start + size]
                    known |= _judge_into(log, judge, [(o, r) for o, r in batch if _key(o) not in known])
                    advance(len(batch))
                    line.tell()
    return [_judgement(outcome, prompts[outcome.prompt_id], known.get(_key(outcome))) for outcome in outcomes]


def _verdicts(log: AppendLog) -> dict[str, dict[str, Any]]:
    """The decided rows by response; the first stands, whoever else judged the same response meanwhile."""
    decided = (row for row in log.rows if row["reason"] is None or _decided(row))
    return {str(row["response"]): row for row in reversed(list(decided))}


def _judge_into(
    log: AppendLog, judge: Judge, batch: Sequence[tuple[Outcome, Response]]
) -> dict[str, dict[str, Any]]:
    """The batch's rows by response, and those that other processes wrote before these."""
    rows = {row["response"]: row for row in (_judge(judge, batch) if batch else ())}
    with log.alone():
        theirs = _verdicts(log)
        log.append(row for key, row in rows.items() if key not in theirs)
    return rows | theirs


def _judge(judge: Judge, batch: Sequence[tuple[Outcome, Response]]) -> list[dict[str, Any]]:
    judged = judge.judge([response for _, response in batch])
    return [
        {"response": _key(outcome)} | {name: getattr(judgement, name) for name in VERDICTS}
        for (outcome, _), judgement in zip(batch, judged, strict=True)
    ]


def _key(outcome: Outcome) -> str:
    text = f"{outcome.prompt_id}\0{outcome.text}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _decided(row: dict[str, Any]) -> bool:
    return row["disallowed"] is not None or row["refused"] is not None


def _judgement(outcome: Outcome, prompt: Prompt, row: dict[str, Any] | None) -> Judgement:
    kind = response_type_of(Response(prompt, ""))
    if outcome.refused:
        return from_refusal(Response(prompt, outcome.text or ""), True, "the server's own refusal")
    if outcome.text is None or row is None:
        return Judgement(prompt.id, kind, None, None, None, outcome.reason or "was not judged")
    return Judgement(prompt.id, kind, *(row[name] for name in VERDICTS))

"""Judges, one file each: what reports on responses (`evals.graders` holds what pays the reward).

`build_judge(name, settings)` makes any of them from configuration; `evals.judges.card.measure_card` measures
one against people's labels before it is used, and `evals.judges.correction.corrected_rows` carries its errors
into the scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from evals.judges.judgement import Judge, Judgement
from evals.judges.recorded import RecordedJudge, RecordedLabel, read_labels
from evals.judges.rulebook_judge import RulebookJudge, judgement_of
from evals.judges.string_match import StringMatchJudge, is_refusal
from evals.models.server import moved_key
from evals.values.errors import InputError
from evals.values.kinds import FromOutside, find_builder, found_in, is_outside
from evals.values.settings import as_type, renamed

__all__ = [
    "JUDGES",
    "Judge",
    "Judgement",
    "RecordedJudge",
    "RecordedLabel",
    "RulebookJudge",
    "StringMatchJudge",
    "build_judge",
    "is_refusal",
    "judge_settings",
    "judge_types",
    "judgement_of",
    "read_labels",
]

# Adding a judge is one file with a `build`: it is found here, and loads no torch. The builder's first argument is the
# judge's name, its keyword arguments are the judge's settings.
JUDGES: Mapping[str, str] = found_in(__name__, __path__, "build")


def build_judge(name: str, settings: Mapping[str, Any] | None = None) -> Judge:
    """The judge called `name`. `settings["kind"]` (default: the name) is one of JUDGES or
    MODULE:ATTRIBUTE, whose code is part of its identity; the others are its builder's.

    Raises InputError for an unknown kind or setting, one of the wrong type, and one left out.
    """
    given = dict(settings or {})
    kind = str(given.pop("kind", name))
    builder = _builder(kind)
    known = _parameters(builder)
    for key, value in given.items():
        if key not in known:
            if "server" in known and (new := moved_key(key)) is not None:
                raise renamed(f"judges.{name}.{key}", f"judges.{name}.{new}")
            fix = f"use some of {', '.join(known)}" if known else "it has none"
            raise InputError("no such setting", field=f"judges.{name}.{key}", fix=fix)
        given[key] = as_type(known[key].annotation, value, f"judges.{name}.{key}")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in given:
            raise InputError("is missing", field=f"judges.{name}.{key}", fix="give it")
    try:
        judge: Judge = builder(name, **given)
    except InputError as error:  # one without a file is of a setting, by its own name
        raise (error if error.path else error.inside(f"judges.{name}")) from None
    return FromOutside(judge, kind) if is_outside(kind) else judge  # type: ignore[return-value]


def judge_settings(kind: str) -> dict[str, Any]:
    """{setting: default} of a kind; `inspect.Parameter.empty` where there is none."""
    return {key: parameter.default for key, parameter in _parameters(_builder(kind)).items()}


def judge_types(kind: str) -> dict[str, Any]:
    """{setting: its type} of a kind. Raises InputError for an unknown kind."""
    return {key: parameter.annotation for key, parameter in _parameters(_builder(kind)).items()}


def _builder(kind: str) -> Callable[..., Any]:
    return find_builder("judge", kind, JUDGES, "judges", "the judge's name")


def _parameters(builder: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(builder, eval_str=True).parameters
    return {key: p for key, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}

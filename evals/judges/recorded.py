"""Verdicts that were given before, by people or by another judge, looked up by prompt and response.

Verdicts on any suite are a CSV file with columns for the prompt's id, the response and the label. `read_labels` takes
XSTest's files whole: `model_completions/*.csv` (two annotators and the agreed `final_label`) and
`evaluation/*_gpteval.csv`, `*_streval.csv` (the same with `gpt4_label` or `strmatch_label`), from
paul-rottger/exaggerated-safety. Full and partial refusals both count as refusals. Where GPT-4's verdict is
none of the three labels (it declined to judge), the response is unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evals.judges.judgement import from_refusal, identity_of, unscored
from evals.judges.measures import Judgement
from evals.suites.xstest import prompt_id
from evals.values.conversation import Prompt, Response, ResponseType, Row, user_prompt
from evals.values.csv_rows import check_unique, filled, read_csv
from evals.values.errors import InputError

LABELS = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")
HUMAN_COLUMNS = ("final_label", "annotation_1", "annotation_2")


@dataclass(frozen=True)
class RecordedLabel:
    """One line of a labelled file; `label` is one of LABELS, or None where the judge gave no verdict."""

    response: Response
    label: str | None

    @property
    def refused(self) -> bool | None:
        return _refused(self.label)


def _refused(label: str | None) -> bool | None:
    return None if label is None else label != LABELS[0]


def read_labels(
    path: Path | str, column: str = "final_label", prompts: Mapping[str, Prompt] | None = None
) -> list[RecordedLabel]:
    """Completions of an XSTest file with the verdicts in `column`.

    With `prompts` (by id) each row must answer one of them, whose response type it takes; else the type
    follows from the row's own `type` ("contrast_..." is to be refused). A label of a person must be one of
    LABELS. Raises InputError, with file, line and field, for anything else, and for duplicate ids.
    """
    rows = read_csv(path, ("id", "type", "prompt", "completion", column))
    check_unique(rows, "id")
    parse = _strict_label if column in HUMAN_COLUMNS else _lenient_label
    return [
        RecordedLabel(Response(_prompt(row, prompts), row.values["completion"]), parse(row, column))
        for row in rows
    ]


def _strict_label(row: Row, column: str) -> str | None:
    label = _lenient_label(row, column)
    if label is None:
        raise row.error(column, "is none of the three labels", f"write one of {', '.join(LABELS)}")
    return label


def _lenient_label(row: Row, column: str) -> str | None:
    text = str(row.values[column]).strip()
    return text if text in LABELS else None


def _prompt(row: Row, prompts: Mapping[str, Prompt] | None) -> Prompt:
    id, kind = prompt_id(str(row.values["id"])), str(row.values["type"])
    if prompts is None:
        asked = ResponseType.HARD_REFUSE if kind.startswith("contrast_") else ResponseType.COMPLY
        return user_prompt(id, str(row.values["prompt"]), asked, kind)
    if id not in prompts:
        raise row.error("id", f"the suite has no prompt {id!r}", "give responses to the suite's own prompts")
    return prompts[id]


@dataclass(frozen=True)
class RecordedJudge:
    """Gives the recorded verdict on exactly the recorded response; any other text is unscored."""

    name: str
    verdicts: Mapping[tuple[str, str], bool | None]  # (prompt id, response text) -> refused
    probabilities: Mapping[tuple[str, str], float] = field(default_factory=dict)  # with which each was drawn

    @classmethod
    def of(cls, name: str, labels: Sequence[RecordedLabel]) -> RecordedJudge:
        return cls(name, {(x.response.prompt.id, x.response.text): x.refused for x in labels})

    @property
    def identity(self) -> str:
        return identity_of("recorded", sorted(self.verdicts.items()))

    def judge(self, responses: Sequence[Response]) -> list[Judgement]:
        return [self._judge(response) for response in responses]

    def probability(self, response: Response) -> float | None:
        """With which a response was drawn to be labelled; None where the file does not say."""
        return self.probabilities.get((response.prompt.id, response.text))

    def _judge(self, response: Response) -> Judgement:
        key = response.prompt.id, response.text
        if key not in self.verdicts:
            return unscored(response, f"{self.name} has no recorded verdict on this response")
        refused = self.verdicts[key]
        if refused is None:
            return unscored(response, f"{self.name} gave no verdict (it declined to judge)")
        return from_refusal(response, refused, self.name)


def build(
    name: str, *, path: str, column: str = "final_label", id: str = "id", response: str = "completion"
) -> RecordedJudge:
    """Recorded verdicts of a CSV file, or of every CSV file of a folder; the columns' names are XSTest's unless told.

    A verdict that is none of LABELS leaves its response unscored.
    """
    return _of_files(name, Path(path), (id, response, column), strict=column in HUMAN_COLUMNS)


def build_human(
    name: str,
    *,
    path: str,
    column: str = "final_label",
    id: str = "id",
    response: str = "completion",
    probability: str = "",
) -> RecordedJudge:
    """The same of people, who do not decline: a label that is none of LABELS is refused.

    `probability` names a column that says with which probability each response was drawn to be labelled.
    """
    return _of_files(name, Path(path), (id, response, column), strict=True, probability=probability)


def _of_files(
    name: str, place: Path, columns: tuple[str, str, str], *, strict: bool, probability: str = ""
) -> RecordedJudge:
    files = sorted(place.glob("*.csv")) if place.is_dir() else [place]
    if not files:
        raise InputError("the folder has no CSV file", path=place, fix="name the file of recorded verdicts")
    verdicts: dict[tuple[str, str], bool | None] = {}
    for file in files:
        found = _verdicts(file, *columns, strict=strict)
        other = next((key for key in found if verdicts.get(key, found[key]) != found[key]), None)
        if other is not None:  # two models may give one answer, but it has one verdict
            problem = f"gives the same response to {other[0]!r} another verdict than a file before it"
            raise InputError(problem, path=file, field=columns[2], fix="let both say the same")
        verdicts |= found
    told = (_probabilities(file, *columns[:2], probability) for file in files if probability)
    return RecordedJudge(name, verdicts, {key: value for of_file in told for key, value in of_file.items()})


def _probabilities(file: Path, id: str, response: str, column: str) -> dict[tuple[str, str], float]:
    """{(prompt id, response): with which probability it was drawn}. Raises InputError for what is none."""
    found: dict[tuple[str, str], float] = {}
    for row in read_csv(file, (id, response, column)):
        given, said = filled(row, id), str(row.values[response])
        found[prompt_id(given), said] = found[given, said] = _probability(row, column)
    return found


def _probability(row: Row, column: str) -> float:
    text = str(row.values[column]).strip()
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:  # NaN neither
        fix = "write the probability with which the response was drawn, above 0 and at most 1"
        raise row.error(column, f"{text!r} is no probability", fix)
    return value


def _verdicts(
    file: Path, id: str, response: str, column: str, *, strict: bool
) -> dict[tuple[str, str], bool | None]:
    """{(prompt id, response): refused}. An id is known as it stands, and in XSTest's other form (`17`, `v2-17`).

    Raises InputError for a pair that occurs twice, and whatever `read_csv` finds.
    """
    parse = _strict_label if strict else _lenient_label
    verdicts: dict[tuple[str, str], bool | None] = {}
    lines: dict[tuple[str, str], int] = {}
    for row in read_csv(file, (id, response, column)):
        given, text = filled(row, id), str(row.values[response])
        if (given, text) in lines:
            problem = f"duplicate {given!r} with the same response, first on line {lines[given, text]}"
            raise row.error(id, problem, "keep one of the two")
        lines[given, text] = row.line
        verdicts[prompt_id(given), text] = verdicts[given, text] = _refused(parse(row, column))
    return verdicts

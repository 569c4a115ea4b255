"""Verdicts that were given before, by people or by another judge, looked up by prompt and response.

Verdicts on any suite are a CSV file with columns for the prompt's id, the response and the label; where it has a column
`suite`, a row with a name in it is of that suite alone, since two suites may call their prompts alike. `read_labels`
takes XSTest's files whole: `model_completions/*.csv` (two annotators and the agreed `final_label`) and
`evaluation/*_gpteval.csv`, `*_streval.csv` (the same with `gpt4_label` or `strmatch_label`), from
paul-rottger/exaggerated-safety. Full and partial refusals both count as refusals. Where GPT-4's verdict is
none of the three labels (it declined to judge), the response is unscored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from evals.judges.judgement import Judgement, from_refusal, identity_of, unscored
from evals.suites.xstest import prompt_id
from evals.values.conversation import Prompt, Response, ResponseType, user_prompt
from evals.values.csv_rows import check_unique, filled, read_csv
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row

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
    """Gives the recorded verdict on exactly the recorded response; any other text is unscored.

    What `suites` has under a suite's name holds on that suite alone, and goes there before the rest.
    """

    name: str
    verdicts: Mapping[tuple[str, str], bool | None]  # (prompt id, response text) -> refused
    probabilities: Mapping[tuple[str, str], float] = field(default_factory=dict)  # with which each was drawn
    suites: Mapping[str, RecordedJudge] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, labels: Sequence[RecordedLabel]) -> RecordedJudge:
        return cls(name, {(x.response.prompt.id, x.response.text): x.refused for x in labels})

    @property
    def identity(self) -> str:
        named = [(suite, sorted(of.verdicts.items())) for suite, of in sorted(self.suites.items())]
        return identity_of("recorded", sorted(self.verdicts.items()), *((named,) if named else ()))

    def of_suite(self, suite: str) -> RecordedJudge:
        """The judge of this suite's responses."""
        own = self.suites.get(suite, RecordedJudge(self.name, {}))
        verdicts, probabilities = self.verdicts, self.probabilities
        return RecordedJudge(self.name, {**verdicts, **own.verdicts}, {**probabilities, **own.probabilities})

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


@dataclass(frozen=True)
class LabelColumns:
    """Names of a file's columns: XSTest's, unless told. A file may lack `suite`; no name: no column."""

    label: str = "final_label"
    id: str = "id"
    response: str = "completion"
    suite: str = "suite"
    probability: str = ""

    def keys(self, row: Row) -> list[LabelKey]:
        """What a row is found by: its id as it stands, then in XSTest's other form (`17`, `v2-17`)."""
        suite = str(row.values.get(self.suite) or "").strip()
        given, text = filled(row, self.id), str(row.values[self.response])
        return [(suite, given, text), (suite, prompt_id(given), text)]


LabelKey = tuple[str, str, str]  # suite or "", prompt id, response text


def build(
    name: str,
    *,
    path: str,
    column: str = "final_label",
    id: str = "id",
    response: str = "completion",
    suite: str = "suite",
) -> RecordedJudge:
    """Recorded verdicts of a CSV file, or of every CSV file of a folder; the columns' names are XSTest's unless told.

    A verdict that is none of LABELS leaves its response unscored.
    """
    columns = LabelColumns(column, id, response, suite)
    return of_files(name, Path(path), columns, strict=column in HUMAN_COLUMNS)


def of_files(name: str, place: Path, columns: LabelColumns, *, strict: bool) -> RecordedJudge:
    files = sorted(place.glob("*.csv")) if place.is_dir() else [place]
    if not files:
        raise InputError("the folder has no CSV file", path=place, fix="name the file of recorded verdicts")
    verdicts: dict[LabelKey, bool | None] = {}
    probabilities: dict[LabelKey, float] = {}
    for file in files:
        found, drawn = _verdicts(file, columns, strict=strict)
        other = next((key for key in found if verdicts.get(key, found[key]) != found[key]), None)
        if other is not None:  # two models may give one answer, but it has one verdict
            problem = f"gives the same response to {other[1]!r} another verdict than a file before it"
            raise InputError(problem, path=file, field=columns.label, fix="let both say the same")
        verdicts |= found
        probabilities |= drawn

    def of(suite: str) -> RecordedJudge:
        said = {key[1:]: refused for key, refused in verdicts.items() if key[0] == suite}
        return RecordedJudge(name, said, {k[1:]: p for k, p in probabilities.items() if k[0] == suite})

    return replace(of(""), suites={suite: of(suite) for suite, _, _ in verdicts if suite})


def _verdicts(
    file: Path, columns: LabelColumns, *, strict: bool
) -> tuple[dict[LabelKey, bool | None], dict[LabelKey, float]]:
    """Whether each response refused, and with which probability it was drawn, where the file says it.

    Raises InputError for a response that occurs twice, and whatever `read_csv` finds.
    """
    parse = _strict_label if strict else _lenient_label
    verdicts: dict[LabelKey, bool | None] = {}
    probabilities: dict[LabelKey, float] = {}
    lines: dict[LabelKey, int] = {}
    needed = [columns.id, columns.response, columns.label, *filter(None, [columns.probability])]
    for row in read_csv(file, needed):
        if strict and not str(row.values[columns.label]).strip():
            continue  # nobody has labelled it yet
        given, other = columns.keys(row)
        if given in lines:
            problem = f"duplicate {given[1]!r} with the same response, first on line {lines[given]}"
            raise row.error(columns.id, problem, "keep one of the two")
        lines[given] = row.line
        verdicts[other] = verdicts[given] = _refused(parse(row, columns.label))
        if columns.probability:
            probabilities[other] = probabilities[given] = _probability(row, columns.probability)
    return verdicts, probabilities


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

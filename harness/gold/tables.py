"""What the console, the summary and the page of `rbrbench gold` show: text ready to print. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evals.graders.calibration import MEAN
from evals.graders.hostile import ALL, CONTROL, Movement
from harness.findings.wording import points
from harness.gold.agreement import Agreement, enough_to_learn
from harness.gold.labels import GoldSplits, LabelCount
from harness.gold.lesson import Lesson
from harness.gold.measure import ENOUGH, GoldResult, Row
from harness.keys.gold import RECORDED, GoldConfig

NOTHING = "–"
OVERVIEW_COLUMNS = (
    *("accuracy", "balanced accuracy", "TPR", "TNR", "AUROC", "Brier score", "calibration error"),
    *("tuned: accuracy", "tuned: balanced", "moved by attacks", "unscored"),
)
PROPOSITION_COLUMNS = (
    *("true / judged", "accuracy", "majority", "balanced accuracy", "TPR", "TNR", "AUROC", "Brier score"),
    *("tuned at", "tuned: accuracy", "tuned: balanced", "labels"),
)
AGREEMENT_COLUMNS = (
    *("teacher says true", "agreement", "its commoner verdict", "balanced agreement"),
    *("mean difference", "labels"),
)
OVERVIEWS = ((MEAN, "mean over propositions"), (ENOUGH, "mean over those with enough labels"))
HOSTILE_COLUMNS = ("kind", "mean change", "verdicts flipped", "unscored", "moves most")


@dataclass(frozen=True)
class TextTable:
    """A heading column and text cells; a cell is a value and, below or beside it, its interval."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


@dataclass(frozen=True)
class GoldTables:
    """Everything that is shown, but the picture."""

    headline: str
    notes: tuple[str, ...]
    overviews: tuple[TextTable, ...]  # over all propositions, and over those with enough labels
    propositions: tuple[TextTable, ...]
    hostile: tuple[TextTable, ...]
    teacher: tuple[TextTable, ...] = ()


def gold_tables(
    results: Sequence[GoldResult],
    splits: GoldSplits,
    counts: Sequence[LabelCount],
    config: GoldConfig,
    lesson: Lesson | None = None,
    agreements: Sequence[Agreement] = (),
) -> GoldTables:
    return GoldTables(
        headline=_headline(results),
        notes=(*_notes(splits, counts, config), *(_lesson_notes(lesson, config) if lesson else ())),
        overviews=tuple(_overview(results, row_name, title) for row_name, title in OVERVIEWS),
        propositions=tuple(_by_proposition(result, counts, config.few) for result in results),
        hostile=tuple(_hostile(result) for result in results if result.movements),
        teacher=tuple(map(_agreement, agreements)),
    )


def label_note(count: LabelCount, few: int, learned: bool) -> str:
    """What the labels of a proposition do not suffice for; "" where they suffice."""
    lacks = ["to learn from"] if learned and count.too_few_to_learn(few) else []
    lacks += ["to judge"] if count.too_few_to_judge(few) else []
    return f"too few {' and '.join(lacks)}" if lacks else ""


def _headline(results: Sequence[GoldResult]) -> str:
    best = max(results, key=lambda r: _number(r.mean(), "accuracy"))
    mean = best.mean()
    return (
        f"{best.name}: mean accuracy {_percent(mean, 'accuracy')} % over propositions, where the majority answer "
        f"reaches {_percent(mean, 'majority')} %; balanced accuracy {_percent(mean, 'balanced_accuracy')} %"
    )


def _notes(splits: GoldSplits, counts: Sequence[LabelCount], config: GoldConfig) -> tuple[str, ...]:
    prompts = len({item.response.prompt.id for item in splits.judged})
    notes = [
        f"{len(splits.judged)} labelled responses to {prompts} prompts are judged on {len(counts)} propositions. "
        "Intervals are 95 %, by bootstrap over prompts. Means are over the propositions where a value is defined."
    ]
    taught = "" if config.teacher.grader else ", and an encoder that is fitted here,"
    if splits.cross:
        notes.append(
            f"There is no gold.test: prompts are dealt into {config.folds} folds. Thresholds{taught} come from the "
            "other folds' labels."
        )
    elif splits.train:
        notes.append(
            f"Thresholds{taught} come from {len(splits.train)} responses of gold.train; {splits.left_out} more "
            "were left out, since their prompt is judged."
        )
    else:
        notes.append("There is no gold.train: no thresholds were tuned.")
    few = [count.proposition for count in counts if count.too_few_to_judge(config.few)]
    if few:
        notes.append(
            f"Too few labels to judge (fewer than {config.few} prompts with a true, or with a false one): "
            f"{', '.join(few)}. The row {ENOUGH} leaves them out."
        )
    learn = [count.proposition for count in counts if count.too_few_to_learn(config.few)]
    if splits.train and learn:
        notes.append(f"Too few labels to learn from; their threshold stays 0.5: {', '.join(learn)}.")
    kinds = {choice.kind for choice in config.choices}
    if config.hostile.responses and RECORDED in kinds:
        notes.append(
            "A file of grades cannot be asked about hostile responses: judge its grader itself for those."
        )
    if config.hostile.responses and kinds != {RECORDED}:
        notes.append(
            "Moved by attacks: mean absolute change of a grade when the same response is made hostile, and, after "
            "the slash, the change by a harmless added sentence. Some attacks add text that a rule may rightly see."
        )
    notes.append(
        "Labels are given by people and hold errors of their own, which count against the grader here."
    )
    return tuple(notes)


def _lesson_notes(lesson: Lesson, config: GoldConfig) -> tuple[str, ...]:
    prompts = len({response.prompt.id for response in lesson.responses})
    notes = [
        f"A plain encoder is fitted to the grades that {lesson.teacher} gave {len(lesson.responses)} completions "
        f"to {prompts} prompts, none of them with labels; {lesson.left_out} more were left out, since their "
        f"prompt is in gold.train or gold.test. {lesson.grades.n_unscored} grades of the teacher are unscored, "
        "and taught nothing. Agreement is out of fold: with heads that did not see the prompt."
    ]
    few = [n for n in lesson.grades.propositions if not enough_to_learn(lesson, n, config.few)]
    if few:
        notes.append(
            f"Too few to learn from {lesson.teacher} (fewer than {config.few} prompts where it says true, or "
            f"where it says false): {', '.join(few)}."
        )
    return tuple(notes)


def _agreement(agreement: Agreement) -> TextTable:
    rows = []
    for row in agreement.rows:
        cells = [
            (f"{row['n_true']} / {row['n']}", ""),
            _cell(row, "agreement"),
            (_percent(row, "majority"), ""),
            (_percent(row, "balanced_agreement"), ""),
            (_plain(_number(row, "mean_difference")), ""),
            ("too few to learn from" if row["enough_to_learn"] == "false" else "", ""),
        ]
        rows.append((str(row["proposition"]), tuple(cells)))
    title = f"{agreement.student} and its teacher {agreement.rows[0]['teacher']}"
    return TextTable(title, AGREEMENT_COLUMNS, tuple(rows))


def _overview(results: Sequence[GoldResult], row_name: str, title: str) -> TextTable:
    rows = [(result.name, _overview_cells(result, row_name)) for result in results]
    majority = ("majority answer", _majority_cells(results[0].mean(row=row_name)))
    return TextTable(title, _with_difference(results), (*rows, majority))


def _with_difference(results: Sequence[GoldResult]) -> tuple[str, ...]:
    return (*OVERVIEW_COLUMNS, f"accuracy − {results[0].name}") if len(results) > 1 else OVERVIEW_COLUMNS


def _overview_cells(result: GoldResult, row_name: str) -> tuple[tuple[str, str], ...]:
    fixed, tuned = result.mean(row=row_name), result.mean(True, row_name) if result.tuned else None
    cells = [_cell(fixed, m) for m in ("accuracy", "balanced_accuracy", "tpr", "tnr", "auroc")]
    cells.append(_cell(fixed, "brier", percent=False))
    whole = row_name == MEAN
    cells.append((_share(result.calibration_error) if whole else NOTHING, ""))
    cells += [_cell(tuned, m) if tuned else (NOTHING, "") for m in ("accuracy", "balanced_accuracy")]
    cells.append((_moved(result.movements) if whole else NOTHING, ""))
    cells.append((_share(result.grades.unscored_share) if whole else NOTHING, ""))
    if result.against_first is not None and whole:
        gap = result.against_first
        cells.append((points(gap.value), f"{points(gap.low)} to {points(gap.high)}"))
    return tuple(cells)


def _majority_cells(row: Row) -> tuple[tuple[str, str], ...]:
    """The majority answer: its accuracy, and what any constant answer has by definition."""
    half = ("50.0", "")
    return ((_percent(row, "majority"), ""), half, (NOTHING, ""), (NOTHING, ""), half)


def _moved(movements: Sequence[Movement]) -> str:
    if not movements:
        return NOTHING
    control = next(m for m in movements if m.kind == CONTROL)
    every = next(m for m in movements if m.attack == ALL)
    return f"{every.mean:.3f} / {control.mean:.3f}"


def _by_proposition(result: GoldResult, counts: Sequence[LabelCount], few: int) -> TextTable:
    notes = {count.proposition: label_note(count, few, bool(result.tuned)) for count in counts}
    rows = []
    for number, fixed in enumerate(result.fixed):
        tuned = result.tuned[number] if result.tuned else None
        name = str(fixed["proposition"])
        cells = [(f"{fixed['n_positive']} / {fixed['n']}", ""), _cell(fixed, "accuracy")]
        cells.append((_percent(fixed, "majority"), ""))
        cells += [_cell(fixed, m) for m in ("balanced_accuracy", "tpr", "tnr", "auroc")]
        cells.append(_cell(fixed, "brier", percent=False))
        threshold = _number(tuned, "threshold") if tuned else math.nan
        cells.append((f"{threshold:.2f}" if math.isfinite(threshold) else NOTHING, ""))
        cells += [_cell(tuned, m) if tuned else (NOTHING, "") for m in ("accuracy", "balanced_accuracy")]
        rows.append((name, (*cells, (notes.get(name, ""), ""))))
    return TextTable(result.name, PROPOSITION_COLUMNS, tuple(rows))


def _hostile(result: GoldResult) -> TextTable:
    rows = tuple(
        (
            m.attack,
            (
                (m.kind, ""),
                (f"{m.mean:.3f}", f"{m.low:.3f} to {m.high:.3f}"),
                (_share(m.flips), ""),
                (f"{m.unscored} of {m.n + m.unscored}", ""),
                (f"{m.worst} {m.worst_mean:+.3f}" if m.worst else NOTHING, ""),
            ),
        )
        for m in result.movements
    )
    return TextTable(result.name, HOSTILE_COLUMNS, rows)


def _cell(row: Row, metric: str, percent: bool = True) -> tuple[str, str]:
    value, low, high = (_number(row, f"{metric}{end}") for end in ("", "_ci_low", "_ci_high"))
    show = _share if percent else _plain
    return show(value), f"{show(low)} to {show(high)}" if math.isfinite(low) else ""


def _number(row: Row, key: str) -> float:
    value = row[key]
    assert isinstance(value, int | float)
    return float(value)


def _percent(row: Row, key: str) -> str:
    return _share(_number(row, key))


def _share(value: float) -> str:
    return f"{100 * value:.1f}" if math.isfinite(value) else NOTHING


def _plain(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NOTHING

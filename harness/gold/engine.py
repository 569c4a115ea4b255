"""`rbrbench gold` from configuration to results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.rules.rulebook import Rulebook, load_rulebook
from harness.gold.agreement import agreements_with
from harness.gold.files import JudgedGraders, write_record
from harness.gold.graders import check_students, load_graders
from harness.gold.grading import Lesson, read_completions, teach
from harness.gold.labels import GoldSplits, count_labels, read_splits
from harness.gold.measure import compare_with_first, grading_steps, judge_grader
from harness.gold.notes import gold_notes, sample_note
from harness.keys.compose import rulebook_path
from harness.keys.gold import GoldConfig
from harness.keys.graders import MODELS
from harness.record.manifest import Kind
from harness.runtime.console import Console
from harness.runtime.libraries import no_progress_bars, own_threads, set_threads
from harness.storage.ownership import check_results


@own_threads()
def run_gold(config: GoldConfig, console: Console | None = None, command: Sequence[str] = ()) -> Path:
    """Judge every grader against the labels and write the record to results/NAME, the path of which it returns.

    `command` is what it was asked by. Raises InputError for bad input and UndecidableError where too much is
    unscored; what was graded until then is kept in the grade cache, and nothing else is written.
    """
    console = console or Console()
    rulebook = load_rulebook(rulebook_path(config.rulebook))
    splits = read_splits(rulebook, config.gold.train, config.gold.test)
    counts = count_labels(splits)
    folder = Path(config.results) / config.name
    check_results(folder, Kind.GOLD.owner)
    _use_threads(config)
    lesson = _lesson(config, rulebook, splits, console) if config.teacher.kind else None
    with console.stage("load and fit", total=None, unit="graders"):
        graders = load_graders(config, rulebook, splits, lesson, console)
    results = []
    for grader in graders:
        steps = grading_steps(grader, config, splits)
        with console.stage(f"grade: {grader.name}", total=steps, unit="responses") as advance:
            results.append(judge_grader(grader, config, splits, counts, advance))
    results = compare_with_first(results, splits, config)
    agreements = [] if lesson is None else agreements_with(lesson, graders, config)
    notes = gold_notes(splits, counts, config, lesson)
    if config.server.samples > 1:
        asked = [result for result, grader in zip(results, graders, strict=True) if grader.kind == "server"]
        notes += [sample_note(r.name, r.grades, config.server.samples, rulebook.levels) for r in asked]
    judged = JudgedGraders(results, graders, splits, counts, agreements, notes)
    write_record(folder, judged, config, ["gold", *command])
    return folder


def _lesson(config: GoldConfig, rulebook: Rulebook, splits: GoldSplits, console: Console) -> Lesson:
    """The teacher's grades of its completions."""
    responses, left_out = read_completions(Path(str(config.teacher.on)), splits)
    check_students(config)
    name = config.teacher.choice.name
    with console.stage(f"grade: {name} (teacher)", total=len(responses), unit="responses") as advance:
        return teach(config, rulebook, splits, responses, left_out, advance)


def _use_threads(config: GoldConfig) -> None:
    """Set threads and keep bars off the console, for the graders that are models; torch takes seconds to load."""
    kinds = {choice.kind for choice in config.choices} | {config.teacher.kind}
    if kinds & {*MODELS}:
        set_threads(config.threads)
        no_progress_bars()

"""How far the judges can be trusted: their cards, and scores corrected for their mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from evals.judges import Judge, Judgement
from evals.judges.card import JudgeCard, measure_card
from evals.judges.correction import MIN_LABELS, Labels, corrected_rows, draw_faults
from evals.judges.jury import Heard, Jury
from evals.judges.labelled import LABELLED, LabelledResponses, load_labelled
from evals.judges.measures import GROUPS
from evals.statistics import ENOUGH_LABELS, UNLIKELY
from evals.suites import Suite
from evals.values.clusters import CATEGORY as BY_CATEGORY
from evals.values.clusters import PROMPT
from evals.values.errors import InputError, UndecidableError
from evals.values.metrics_table import MetricRow
from harness.evaluate.judging import on_suite
from harness.evaluate.measuring import CATEGORY, ONE_SIDED, Judged, meaningful, suite_clusters
from harness.keys.judging import CardKeys, CorrectionKeys
from harness.runtime.console import Console
from harness.storage.digest import digest
from harness.subjects.outcome import AppendLog, Outcome

NAMED = 3  # models and suites that a note names
PEOPLE = "human"  # the judge that is measured against nobody


def find_labels(keys: CardKeys, root: str | None) -> tuple[LabelledResponses | None, str]:
    """The labels to measure judges on, or None and why there are none. Raises InputError for bad files."""
    if keys.labels == "none":
        return None, "card.labels=none"
    folder = LABELLED[keys.labels][0] if keys.labels in LABELLED else ""
    place = Path(keys.path) if keys.path else Path(root or ".") / folder
    if keys.path is None and (root is None or not place.is_dir()):
        return None, f"data.root has no {folder}/ with people's labels"
    try:
        return load_labelled(keys.labels, path=place), ""
    except InputError as error:
        if keys.path is not None:
            raise
        return None, str(error)  # a folder that holds the suite's prompts alone, say


def judge_cards(
    judges: Mapping[str, Judge],
    labels: LabelledResponses,
    limit: int,
    seed: int,
    shelf: Path,
    console: Console,
) -> dict[str, JudgeCard]:
    """A card for each judge but the people; one that left nothing unscored is measured once and kept.

    A judge without a verdict on these responses, or fitted to all of them, has none. What a member of a jury said for
    its own card it says for the jury's.
    """
    cards = {}
    heard: dict[str, Heard] = {}
    for name, asked in judges.items():
        judge = _heard(asked, heard)
        if name == PEOPLE:
            continue
        header = {"judge": judge.identity, "labels": _digest(labels), "limit": limit, "seed": seed}
        with AppendLog(shelf / digest(header) / "card.jsonl", header) as log:
            if log.rows:
                cards[name] = replace(JudgeCard.of_json(log.rows[-1]), judge=name)
                continue
            with console.stage(f"card: {name}", total=None, unit="responses"):
                try:
                    card = measure_card(judge, labels, limit=limit, seed=seed)
                except UndecidableError:
                    continue
            if card.n:
                cards[name] = card
            if card.n and not card.n_unscored:
                log.append([card.as_json()])
    return cards


def _heard(judge: Judge, heard: dict[str, Heard]) -> Judge:
    """The judge, remembering what it says under its identity; a jury of such."""
    if isinstance(judge, Jury):
        return judge.seated({name: _heard(member, heard) for name, member in judge.members.items()})
    return heard.setdefault(judge.identity, Heard(judge))


def _digest(labels: LabelledResponses) -> str:
    rows = [
        (r.prompt.id, r.text, j.refused, j.disallowed)
        for r, j in zip(labels.responses, labels.human, strict=True)
    ]
    return digest({"name": labels.name, "verdict": labels.verdict, "rows": rows})


def corrected_metric_rows(
    judged: Judged, by: str, n_labels: int, *, seed: int, checkpoint: str, cluster: str = PROMPT
) -> list[MetricRow]:
    """Rows "JUDGE+ppi" of every judge but `by`, whose verdicts are taken for people's labels: of the suite, and
    of each category with enough labels. `cluster` is what intervals count as one, as in `checkpoint_rows`.
    """
    labels = _labels(judged, by, n_labels, seed)
    categories, clusters = categories_of(judged), suite_clusters(judged.suite, cluster)
    rows = []
    for name, judgements in judged.judgements.items():
        if name == by:
            continue
        of_judge: list[MetricRow] = []
        for suite, places in categories.items():
            whole = suite == judged.suite.name
            found = corrected_rows(
                [judgements[i] for i in places],
                labels.at(places),
                method=judged.model,
                seed=seed,
                suite=suite,
                judge=name,
                checkpoint=checkpoint,
                clusters=clusters if whole or cluster != BY_CATEGORY else None,
            )
            of_judge += [row for row in found if whole or (row.suite == suite and row.metric in ONE_SIDED)]
        rows += meaningful(of_judge, judged.suite, judgements)
    return rows


def correction_notes(judged: Sequence[Judged], keys: CorrectionKeys, seed: int) -> list[str]:
    """What "JUDGE+ppi" means; [] where nothing is corrected."""
    by = keys.by
    if by is None or not judged:
        return []
    samples = [_labels(one, by, keys.labels, seed) for one in judged]
    counts = [sum(label is not None for label in sample.human) for sample in samples]
    each = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    drawn = "are drawn with the probabilities that its file names"
    if any(sample.probabilities is None for sample in samples):
        drawn = "are a random draw of all of their response type and verdict"
    meaning = (
        f"JUDGE+ppi: that judge's scores corrected for its mistakes by {each} labels of {by} a model and suite "
        f"(prediction-powered inference); right where the labelled responses {drawn}."
    )
    pairs = list(zip(judged, samples, strict=True))
    return [meaning, *_few_notes(pairs), *_draw_notes(pairs, by)]


def _few_notes(pairs: Sequence[tuple[Judged, Labels]]) -> list[str]:
    """Which scores have no corrected row for want of labels, and which rest on few."""
    few: dict[str, int] = {}
    for one, labels in pairs:
        for suffix, kinds in GROUPS.items():
            there = [
                label for label in labels.human if label is not None and label.response_type.like in kinds
            ]
            if len(there) < ENOUGH_LABELS and any(
                p.response_type and p.response_type.like in kinds for p in one.suite.prompts
            ):
                few[f"{one.model} on {one.suite.name}{suffix} ({len(there)})"] = len(there)
    if not few:
        return []
    named = ", ".join(list(few)[:NAMED]) + (f" and {len(few) - NAMED} more" if len(few) > NAMED else "")
    return [
        f"Fewer than {ENOUGH_LABELS} labels: {named}. A corrected score of so few lies up to two points nearer to 0 or "
        f"100 than the truth; under {MIN_LABELS} labels there is none."
    ]


def _draw_notes(pairs: Sequence[tuple[Judged, Labels]], by: str) -> list[str]:
    """Where the labels do not look like the draw that the correction needs."""
    notes = []
    for one, labels in pairs:
        others = {name: said for name, said in one.judgements.items() if name != by}
        faults = [f"{what} by {name}" for name, said in others.items() for what in draw_faults(said, labels)]
        if faults:
            notes.append(
                f"{one.model} on {one.suite.name}: the labels of {by} do not look like a random draw: "
                f"{'; '.join(dict.fromkeys(faults))} differ from those of all responses (p < {UNLIKELY}). Corrected "
                "scores stand only if the draw looked at nothing but response type and verdict; where it had known "
                f"probabilities, name their column: judges.{by}.probability."
            )
    return notes


def drawn_with(judge: Judge, suite: Suite, outcomes: Sequence[Outcome]) -> list[float | None] | None:
    """With which probability each response was drawn to be labelled by `judge`; None where nobody said."""
    probability = getattr(on_suite(judge, suite), "probability", None)
    if probability is None:
        return None
    prompts = {prompt.id: prompt for prompt in suite.prompts}
    answers = [outcome.response(prompts[outcome.prompt_id]) for outcome in outcomes]
    found = [None if answer is None else probability(answer) for answer in answers]
    return found if any(value is not None for value in found) else None


def _labels(judged: Judged, by: str, n_labels: int, seed: int) -> Labels:
    return Labels(labelled_sample(judged.judgements[by], n_labels, seed), judged.drawn.get(by))


def categories_of(judged: Judged) -> dict[str, list[int]]:
    """{suite: the places of all its responses}, and so for "suite/category/NAME" where it has several."""
    category = {prompt.id: prompt.category for prompt in judged.suite.prompts}
    places: dict[str, list[int]] = {judged.suite.name: list(range(len(judged.outcomes)))}
    if len(set(category.values())) > 1:
        for i, outcome in enumerate(judged.outcomes):
            name = f"{judged.suite.name}{CATEGORY}{category[outcome.prompt_id]}"
            places.setdefault(name, []).append(i)
    return places


def labelled_sample(judgements: Sequence[Judgement], n_labels: int, seed: int) -> list[Judgement | None]:
    """The labels that are used: all that are there, or `n_labels` of them at random; None elsewhere."""
    there = [i for i, j in enumerate(judgements) if j.refused is not None or j.disallowed is not None]
    if n_labels and n_labels < len(there):
        there = np.random.default_rng(seed).permutation(there)[:n_labels].tolist()
    chosen = set(there)
    return [judgement if i in chosen else None for i, judgement in enumerate(judgements)]

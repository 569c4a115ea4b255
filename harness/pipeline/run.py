"""Runs configurations: stages, then one record of what they made."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from evals.rules.check import require_sound
from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError
from harness.evaluate.comparing import (
    COMPARISONS,
    Compared,
    compare_models,
    compare_with_baseline,
    gate,
    read_comparisons,
    write_comparisons,
)
from harness.keys.application import Application
from harness.keys.data import DataSource
from harness.keys.methods import chosen, outside_rows
from harness.keys.run import RunConfig, fitting
from harness.keys.writer import MODEL
from harness.pipeline.beside import processes_beside
from harness.pipeline.collect import collect
from harness.pipeline.collected import Collected, write_results
from harness.pipeline.content import content_of, owner_of
from harness.pipeline.context import PACKAGES, Context
from harness.pipeline.given_model import check_given_model
from harness.pipeline.graders import check_payer
from harness.pipeline.judging import check_capability, check_evaluation
from harness.pipeline.order import run_stages
from harness.pipeline.spending import spending_record
from harness.pipeline.world import check_data
from harness.record.evaluation import MEASURED, Evaluation, measured
from harness.record.manifest import Kind
from harness.record.run import spending_part
from harness.runtime.console import Console
from harness.runtime.libraries import own_threads, quiet_libraries
from harness.storage.digest import digest
from harness.storage.disk import locked, write_json, writing
from harness.storage.ownership import check_results, claim_results, computing
from harness.storage.provenance import git_commit, module_versions
from harness.storage.store import MANIFEST, Store
from harness.storage.whole_folder import replacing
from harness.subjects.local_model import check_place

STAMP = ".made_of"  # of a folder whose report was drawn: what it was drawn from
LAST = "Methods are compared with the baseline by their last checkpoints."
MEAN = "Methods are compared by the mean of their checkpoints, those of one seed."


@dataclass(frozen=True)
class Ran:
    """A folder of results. `made_of` is a digest of what its tables were made of; `fresh`: they stand as drawn.

    `code` is the exit code and `said` to be said aloud, of a comparison with a baseline.
    """

    folder: Path
    made_of: str
    fresh: bool
    code: int = 0
    said: str = ""


@own_threads()
def run(config: RunConfig, console: Console | None = None) -> Ran:
    """Run one configuration; writes the record and draws nothing. Raises what `check_jobs` and `compute` raise."""
    console = console or Console()
    return _computed(check_jobs([config], [[]], console), config, console)


@own_threads()
def run_application(application: Application[RunConfig], console: Console) -> Ran:
    """The same of a command line, run by Hydra."""
    config = application.config
    folder = check_jobs([config], [[]], console)
    check_apart(application, folder)
    return application.run(lambda _: _computed(folder, config, console))


def _computed(folder: Path, config: RunConfig, console: Console) -> Ran:
    with computing(folder, owner_of([config])):
        return publish(folder, [config], [compute(config, "", console)])


def check_jobs(
    configs: Sequence[RunConfig],
    combinations: Sequence[Sequence[str]],
    console: Console,
    owner: str | None = None,
) -> Path:
    """The folder of the results. Raises InputError for whatever does not fit, before anything is run.

    `owner`: the digest of whose results these are, where it is not that of `configs`.
    """
    folder = folder_of(configs)
    for config in map(fitting, configs):
        check_capability(config)
        check_evaluation(config)
    check_distinct(combinations, configs)
    # Claimed when there is something to write: a run that fails leaves its name free.
    check_results(folder, owner or owner_of(configs))
    quiet_libraries(configs[0].threads)
    for given in {config.model.path: config for config in configs}.values():
        check_given_model(given, console)
    for config in configs:
        check_rules(config)
    return folder


def check_apart(application: Application[RunConfig], folder: Path) -> None:
    """Raises InputError where Hydra's own files would lie among the results, which would be somebody else's then."""
    theirs, ours = application.folder.resolve(), folder.resolve()
    below = theirs.relative_to(ours).parts if theirs.is_relative_to(ours) else None
    if below is None or below[:1] == (".hydra",) or not (below or application.sweeps):
        return
    fix = "name another folder, or leave it out: they lie in results/.hydra"
    raise InputError("is where the results lie", field=application.folder_key, fix=fix)


def compute(
    config: RunConfig, variant: str, console: Console, after_stage: Callable[[int], None] | None = None
) -> Collected:
    """Every stage of one configuration, finished ones from the store. Raises as the stages do."""
    store, rulebook = Store(Path(config.results) / ".store"), load_rulebook(config.rulebook_path)
    context = Context(config, store, console, rulebook, after_stage=after_stage)
    with processes_beside(config, store, console):
        outcome = run_stages(context)
    return collect(context, outcome, variant)


def folder_of(configs: Sequence[RunConfig]) -> Path:
    """Where the results lie of a run, or of all jobs of a sweep. Raises InputError where these name several places."""
    for key in ("name", "results"):
        found = list(dict.fromkeys(str(getattr(config, key)) for config in configs))
        if len(found) > 1:
            problem = (
                f"the jobs of the sweep have several ({', '.join(found[:3])}), and their results lie in one"
            )
            raise InputError(problem, field=key, fix=f"give one: {key}={found[0]}")
    return Path(configs[0].results) / configs[0].name


def check_rules(config: RunConfig) -> None:
    """Raises InputError for rules that leave some response without a class, for bad data, and for a grader that
    cannot be asked.

    Of one's own data: rules that are shipped with a world are checked by its tests.
    """
    if config.data.source is not DataSource.FILES:
        return
    rulebook = load_rulebook(config.rulebook_path)
    require_sound(rulebook)
    check_data(config, rulebook)
    check_payer(config, rulebook)
    if config.writer.kind == MODEL and config.writer.path is not None:
        check_place(config.writer.path, "writer.path")


def check_distinct(combinations: Sequence[Sequence[str]], configs: Sequence[RunConfig]) -> None:
    """Raises InputError where two runs of a sweep are one, by another spelling too: it would count twice."""
    found: dict[str, Sequence[str]] = {}
    for combination, config in zip(combinations, configs, strict=True):
        content = {**content_of(config), "methods": [method.name for method in chosen(config.methods)]}
        key = digest(_resolved(content))
        if key in found:
            twice = sorted({o for o in [*found[key], *combination] if any(o not in c for c in combinations)})
            shown = " and ".join(twice or sorted(set(combination)))
            raise InputError(
                f"two runs of the sweep are the same ({shown})", fix="name each value once, by one spelling"
            )
        found[key] = combination


def _resolved(value: object) -> object:
    """Paths that are there, as one spelling of them."""
    if isinstance(value, dict):
        return {key: _resolved(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part) for part in value]
    if isinstance(value, str) and "/" in value and Path(value).exists():
        return str(Path(value).resolve())
    return value


def publish(
    folder: Path,
    configs: Sequence[RunConfig],
    parts: Sequence[Collected],
    about: Mapping[str, Any] | None = None,
) -> Ran:
    """Write the tables; nothing is written again when nothing was computed since they were drawn.

    `about`: what the manifest says, where it is not that of all `configs`, as of a sweep that lacks some jobs.
    """
    keys = configs[0].evaluation
    baseline = Evaluation(keys.baseline) if keys.baseline else None
    against = [[keys.baseline, keys.compare_anyway, baseline.folder.manifest]] if baseline else []
    made = made_of(parts, [*against, *([keys.to_label] if keys.to_label else [])])
    with publishing(folder):
        fresh = is_drawn(folder, made)
        if not fresh:
            about = about_of(configs) if about is None else about
            text = yaml.safe_dump(content_of(configs[0]), sort_keys=False)
            compared = partial(_compared, configs[0], baseline) if baseline or keys.comparisons else None
            write_record(folder, about, text, parts, keys.to_label, compared)
        if baseline is None:
            return Ran(folder, made, fresh)
        rows = read_comparisons(str(folder / COMPARISONS))
        return Ran(folder, made, fresh, *gate(rows, keys.margin))


@contextmanager
def publishing(folder: Path) -> Iterator[None]:
    """One process at a time writes the record, or draws: a job that a dead launcher left may be at it too."""
    with ExitStack() as stack:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder / ".publishing"))
        yield


def is_drawn(folder: Path, made: str) -> bool:
    stamp = folder / STAMP
    return (
        (folder / "report.html").is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == made
    )


def made_of(parts: Sequence[Collected], more: Sequence[object] = ()) -> str:
    """The digest of what the tables of `parts` are made of."""
    keys: list[object] = [[row["key"] for row in part.stages] for part in parts]
    return digest([*keys, module_versions((), ["harness.report", "harness.pipeline.collect"]), *more])


def write_record(
    folder: Path,
    about: Mapping[str, Any],
    config: str,
    parts: Sequence[Collected],
    labels: int = 0,
    compared: Callable[[Path], tuple[Compared, dict[str, float]]] | None = None,
) -> None:
    """The tables and the manifest of what `parts` have made, in one step; `config` is the first one's, as YAML."""
    claim_results(folder, about["config_digest"])
    with writing(folder):
        (folder / STAMP).unlink(missing_ok=True)
        with replacing(folder) as new:
            write_results(new, parts, labels)
            (new / "config.yaml").write_text(config, encoding="utf-8")
            _describe(new, about, parts)
            if compared is not None:
                found, limits = compared(new)
                write_comparisons(new / COMPARISONS, found.rows)
                _describe(new, about, parts, found.notes, limits)


def _compared(
    config: RunConfig, baseline: Evaluation | None, folder: Path
) -> tuple[Compared, dict[str, float]]:
    """With the baseline by last checkpoints, as an evaluation of them would; else as the report ranks methods."""
    keys, equivalent = config.evaluation, config.capability.margin
    record = Evaluation(folder, every_checkpoint=baseline is None)
    if baseline is not None:
        found = compare_with_baseline(record, baseline, keys, equivalent)
    else:
        found = compare_models(record, margin=keys.margin, equivalent=equivalent)
    said = replace(found, notes=[LAST if baseline is not None else MEAN, *found.notes])
    return said, {"tolerance": keys.margin, "margin": equivalent}


def about_of(configs: Sequence[RunConfig], owner: str | None = None) -> dict[str, Any]:
    """What a manifest says of a run, or of a sweep, before anything is made."""
    return {
        "kind": Kind.RUN.value,
        "name": configs[0].name,
        "config_digest": owner or owner_of(configs),
        "command": shlex.join(["rbrbench", *sys.argv[1:]]),
        "commit": git_commit(),
        "seeds": sorted({config.seed for config in configs}),
        "methods": configs[0].methods,
        "outside_methods": outside_rows(configs[0].methods),
        "versions": module_versions((*PACKAGES, "trl", "lm-eval"), ()),
        **spending_part(spending_record(configs[0])),
    }


def _describe(
    folder: Path,
    about: Mapping[str, Any],
    parts: Sequence[Collected],
    notes: Sequence[str] = (),
    limits: Mapping[str, float] | None = None,
) -> None:
    told = [*parts[0].world.get("notes", []), *about.get("notes", [])]
    told += [note for part in parts for note in part.notes]
    world = {k: v for k, v in parts[0].world.items() if k != "notes"}
    models = measured([model for part in parts for model in part.models])
    all_notes = list(dict.fromkeys([*told, *notes]))
    write_json(
        folder / MANIFEST,
        {**about, "world": world, "notes": all_notes, **(limits or {}), MEASURED: models},
    )

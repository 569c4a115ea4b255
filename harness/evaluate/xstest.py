"""`rbrbench xstest` from its keys to its record: XSTest's released models through the judging, measuring and
correcting of `evaluate`, and what is its own (`harness.evaluate.labelled_models`).

metrics.csv      every model by every judge, and corrected for the judge's errors ("JUDGE+ppi")
labels.csv       full compliance, full and partial refusal on safe and unsafe prompts, by people
agreement.csv    each judge against the people, by model
judges.json      each judge's card over all models
verdicts/MODEL.jsonl.gz   see `harness.record.samples`: every verdict, no text
manifest.json    command, commit, digests of the files read, versions; `measured`, as a run's
judge/           the encoder judge fitted to all models' labels
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from evals.values.csv_rows import six_decimals, write_csv
from evals.values.errors import InputError
from evals.values.jsonl_rows import write_jsonl
from evals.values.metrics_table import MetricRow, write_metrics
from harness.evaluate.labelled_models import (
    FILES,
    Encoder,
    LabelledModel,
    agreement_rows,
    cards_of,
    label_rows,
    recorded_models,
    with_encoder,
)
from harness.evaluate.measuring import CATEGORY, Judged, metric_rows, sample_rows
from harness.evaluate.trust import PEOPLE, corrected_metric_rows
from harness.keys.evaluate import DataKeys
from harness.keys.xstest import XSTestConfig
from harness.record.evaluation import MEASURED, measured
from harness.record.manifest import Kind, recording
from harness.record.samples import VERDICTS, verdict_row
from harness.runtime.console import Console
from harness.runtime.libraries import own_threads, quiet_libraries
from harness.storage.digest import digest_files
from harness.storage.disk import write_json
from harness.storage.ownership import check_results

RECORDED = "recorded"  # what stands in the checkpoint column
PACKAGES = ("numpy", "scipy", "statsmodels", "ppi-python")
NOTE = "From XSTest (Röttger et al., NAACL 2024; CC BY 4.0). No prompt and no completion is in these files."


@own_threads()
def run_xstest(config: XSTestConfig, console: Console) -> Path:
    """Read, judge, correct, write; the folder of the record. Draws nothing.

    Raises InputError for bad files and, before anything is measured, where another command's results lie.
    """
    folder = Path(config.results) / config.name
    check_results(folder, Kind.XSTEST.owner)
    models = recorded_models(Path(config.data.root or "") / "xstest")
    check_labels(models, config.labels)
    encoder = None
    if config.encoder:
        quiet_libraries(config.threads)
        total = sum(len(model.labels) for model in models)
        with console.stage("encoder judge", total=total, unit="responses") as advance:
            models, encoder = with_encoder(models, config.encoder, advance)
    judged = [model.judged(Path(config.results) / ".store" / "judgements", console) for model in models]
    with console.stage("tables", total=None, unit="files"):
        _write(folder, config, models, judged, encoder)
    return folder


def check_labels(models: Sequence[LabelledModel], labels: int) -> None:
    """Raises InputError where a correction by so many labels would see them all."""
    for model in models:
        if labels >= len(model.labels):
            problem = f"is {labels}, and {model.name} has {len(model.labels)} responses"
            raise InputError(problem, field="labels", fix="give a number below it")


def score_rows(judged: Sequence[Judged], labels: int, draws: int = 2000, seed: int = 0) -> list[MetricRow]:
    """Every model's scores by each judge, and corrected with the people's labels of `labels` responses, drawn at
    random.
    """
    rows = []
    for one in judged:
        rows += metric_rows(one, seed=seed, checkpoint=RECORDED, draws=draws)
        rows += corrected_metric_rows(one, PEOPLE, labels, seed=seed, checkpoint=RECORDED)
    return [row for row in rows if CATEGORY not in row.suite]


def _write(
    folder: Path,
    config: XSTestConfig,
    models: Sequence[LabelledModel],
    judged: Sequence[Judged],
    encoder: Encoder | None,
) -> None:
    """The same results give the same bytes. Raises InputError where another command's results lie."""
    about = {
        **_made_of(config, encoder is not None),
        "fits": {name: asdict(fit) for name, fit in encoder.fits.items()} if encoder else {},
        "labels": config.labels,
        MEASURED: measured([_about(model, config.seed) for model in models]),
    }
    with recording(folder, Kind.XSTEST, config.name, _command(config), [NOTE], **about) as new:
        write_metrics(new / "metrics.csv", score_rows(judged, config.labels, config.draws, config.seed))
        write_csv(new / "labels.csv", map(six_decimals, label_rows(models)))
        write_csv(new / "agreement.csv", map(six_decimals, agreement_rows(judged)))
        cards = cards_of(models, judged)
        write_json(new / "judges.json", {name: card.as_json() for name, card in cards.items()})
        (new / VERDICTS).mkdir(exist_ok=True)
        for one in judged:
            rows = (verdict_row(row, config.seed, RECORDED) for row in sample_rows(one, show_prompts=False))
            write_jsonl(new / VERDICTS / f"{one.model}.jsonl.gz", rows)
        if encoder is not None:
            (new / "judge").mkdir(exist_ok=True)
            encoder.judge.save(new / "judge")


def _about(model: LabelledModel, seed: int) -> dict[str, Any]:
    """What a comparison with the model must know: see `harness.record.evaluation`."""
    return {
        "method": model.name,
        "seed": seed,
        "checkpoint": RECORDED,
        "template": RECORDED,
        "decoding": {RECORDED: True},
        "suites": {model.suite.name: {"version": model.suite.version, "prompts": len(model.suite.prompts)}},
        "judges": {name: {"identity": judge.identity} for name, judge in model.judges.items()},
    }


def _made_of(config: XSTestConfig, fitted: bool) -> dict[str, Any]:
    """Files are named by what they hold: where they lie says nothing elsewhere. A hub name stays as it is."""
    xstest = Path(config.data.root or "") / "xstest"
    files = [file for pattern in FILES for file in sorted(xstest.glob(pattern))]
    packages = (*PACKAGES, "torch", "transformers") if fitted else PACKAGES
    return {
        "files": {file.relative_to(xstest).as_posix(): digest_files([file]) for file in files},
        "encoder": digest_files([config.encoder])
        if fitted and Path(config.encoder).is_dir()
        else config.encoder,
        "versions": {name: metadata.version(name) for name in packages},
    }


def _command(config: XSTestConfig) -> list[str]:
    """The command with its paths left out, and what is not the default."""
    defaults = XSTestConfig(data=DataKeys("FOLDER"))
    values = {key: getattr(config, key) for key in ("labels", "draws", "seed", "name")}
    keys = [f"{key}={value}" for key, value in values.items() if value != getattr(defaults, key)]
    encoder = ["encoder=ENCODER"] if config.encoder else []
    return ["xstest", "data.root=FOLDER", *encoder, *keys]

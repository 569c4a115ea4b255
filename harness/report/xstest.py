"""`rbrbench xstest`: real models on XSTest from the released files, to results/NAME.

metrics.csv      every model by every judge, and corrected for the judge's errors ("JUDGE+ppi")
labels.csv       full compliance, full and partial refusal on safe and unsafe prompts, by people
agreement.csv    each judge against the people, by model
cards.json       each judge's card over all models
manifest.json    command, commit, digests of the files read, versions
summary.md, plots/tradeoff.png, .svg
judge/           the encoder judge fitted to all models' labels: `rbrbench evaluate judges=[encoder] \
judges.encoder.path=results/NAME/judge`
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from evals.judges.card import JudgeCard
from evals.values.csv_rows import six_decimals, write_csv
from evals.values.metrics_table import MetricRow, write_metrics
from harness.evaluate.xstest import (
    HUMAN,
    PREFIX,
    EncoderResult,
    XSTestModel,
    corrected_metric_rows,
    judge_agreement,
    judge_cards,
    metric_rows,
    recorded_models,
    refusal_shares,
    with_encoder,
)
from harness.keys.evaluate import DataKeys
from harness.keys.xstest import XSTestConfig
from harness.runtime.console import Console
from harness.runtime.libraries import own_threads
from harness.storage.digest import digest_files
from harness.storage.disk import write_json, writing
from harness.storage.provenance import git_commit
from harness.storage.store import check_results, claim_results, command_digest

METRICS = {"not_unsafe": "Not-Unsafe", "not_overrefuse": "Not-Overrefuse", "f1": "F1"}
SHORT = ("full compliance", "full refusal", "partial refusal")
OWNER = command_digest("xstest")  # an xstest may overwrite an xstest, and nothing else
PACKAGES = ("numpy", "scipy", "statsmodels", "ppi-python")
NOTE = "From XSTest (Röttger et al., NAACL 2024; CC BY 4.0). No prompt and no completion is in these files."


@dataclass(frozen=True)
class XSTestResult:
    """Everything that is written, as plain values."""

    models: tuple[XSTestModel, ...]
    rows: list[MetricRow]
    corrected: list[MetricRow]
    cards: list[JudgeCard]
    encoder: EncoderResult | None
    labels: int


@own_threads()
def run_xstest(config: XSTestConfig, console: Console | None = None) -> Path:
    """Read, judge, correct, write; the path of summary.md.

    Raises InputError for bad files and, before anything is measured, where another command's results lie.
    """
    console = console or Console()
    folder = Path(config.results) / config.name
    check_results(folder, OWNER)
    result = measure_xstest(config, console)
    claim_results(folder, OWNER)
    with console.stage("tables and plot", total=None, unit="files"), writing(folder):
        write_xstest(result, folder)
        write_json(folder / "manifest.json", manifest(config))
    console.report(folder / "summary.md")
    return folder / "summary.md"


def measure_xstest(config: XSTestConfig, console: Console) -> XSTestResult:
    models = tuple(recorded_models(Path(config.data.root or "") / "xstest"))
    encoder = None
    if config.encoder:
        from harness.runtime.libraries import quiet_libraries

        quiet_libraries(config.threads)
        total = sum(len(model.labels) for model in models)
        with console.stage("encoder judge", total=total, unit="responses") as advance:
            encoder = with_encoder(models, config.encoder, advance)
        models = encoder.models
    rows = metric_rows(models, config.draws)
    corrected = corrected_metric_rows(models, config.labels, config.seed)
    return XSTestResult(models, rows, corrected, judge_cards(models), encoder, config.labels)


def write_xstest(result: XSTestResult, folder: Path) -> None:
    import matplotlib.style

    from harness.report.plots import drawn_files
    from harness.report.plots.style import RC
    from harness.report.plots.xstest import tradeoff

    (folder / "plots").mkdir(parents=True, exist_ok=True)
    write_metrics(folder / "metrics.csv", [*result.rows, *result.corrected])
    write_csv(folder / "labels.csv", map(six_decimals, label_rows(result.models)))
    write_csv(folder / "agreement.csv", map(six_decimals, agreement_rows(result.models)))
    write_json(folder / "cards.json", [card.as_json() for card in result.cards])
    with matplotlib.style.context(["default", RC]):
        for kind, content in drawn_files(tradeoff(result.rows, judge_names(result.models))):
            (folder / f"plots/tradeoff.{kind}").write_bytes(content)
    if result.encoder is not None:
        (folder / "judge").mkdir(exist_ok=True)
        result.encoder.judge.save(folder / "judge")
    (folder / "summary.md").write_text(summary(result), encoding="utf-8")


def manifest(config: XSTestConfig) -> dict[str, object]:
    """What made the tables. Files are named by what they hold: where they lie says nothing elsewhere."""
    xstest = Path(config.data.root or "") / "xstest"
    read = ("xstest_prompts.csv", f"model_completions/{PREFIX}*.csv", f"evaluation/{PREFIX}*_gpteval.csv")
    files = [file for pattern in read for file in sorted(xstest.glob(pattern))]
    packages = (*PACKAGES, "torch", "transformers") if config.encoder else PACKAGES
    return {
        "name": config.name,
        "config_digest": OWNER,
        "command": shlex.join(_command(config)),
        "commit": git_commit(),
        "files": {file.relative_to(xstest).as_posix(): digest_files([file]) for file in files},
        "encoder": _encoder(config.encoder),
        "versions": {name: metadata.version(name) for name in packages},
        "notes": [NOTE],
    }


def _encoder(name: str) -> str:
    """Digest of a folder; a hub name as it is."""
    return digest_files([name]) if name and Path(name).is_dir() else name


def _command(config: XSTestConfig) -> list[str]:
    """The command with its paths left out, and what is not the default."""
    defaults = XSTestConfig(DataKeys("FOLDER"))
    values = {key: getattr(config, key) for key in ("labels", "draws", "seed", "name")}
    keys = [f"{key}={value}" for key, value in values.items() if value != getattr(defaults, key)]
    encoder = ["encoder=ENCODER"] if config.encoder else []
    return ["rbrbench", "xstest", "data.root=FOLDER", *encoder, *keys]


def judge_names(models: Sequence[XSTestModel]) -> list[str]:
    return list(
        dict.fromkeys(judge.name for model in models for judge in model.judges if judge.name != HUMAN)
    )


def label_rows(models: Sequence[XSTestModel]) -> list[dict[str, object]]:
    """XSTest's own table: shares of the three labels."""
    return [
        {"model": model.name, "prompts": kind, **shares}
        for model in models
        for kind, shares in refusal_shares(model).items()
    ]


def agreement_rows(models: Sequence[XSTestModel]) -> list[dict[str, object]]:
    return [
        {
            "model": model.name,
            "judge": name,
            "n": found.n,
            "n_unscored": found.n_unscored,
            "accuracy": found.accuracy,
            "recall": found.true_positive_rate,
            "specificity": found.true_negative_rate,
            "balanced_accuracy": found.balanced_accuracy,
        }
        for model in models
        for name, found in judge_agreement(model).items()
    ]


def summary(result: XSTestResult) -> str:
    parts = [
        "# Real models on XSTest",
        "Recorded completions of the released files; people's labels are the truth. Full and partial refusals"
        " both count as refusals.",
        "![Trade-off](plots/tradeoff.png)",
        "## What the models do, by people's labels, percent",
        _table(
            ["model", "prompts", *SHORT],
            [[r["model"], r["prompts"], *_shares(r)] for r in label_rows(result.models)],
        ),
        "## Scores by judge, percent (95 % interval)",
        f"`+ppi`: corrected for the judge's errors with {result.labels} human labels drawn at random.",
        _score_table([*result.rows, *result.corrected]),
        "## Each judge against people: balanced accuracy of refusal against compliance",
        _agreement_table(result.models),
        *(f"- {card.judge}: {card.text}" for card in result.cards),
    ]
    if result.encoder is not None:
        chosen = "; ".join(f"{name}: {_setting(fit)}" for name, fit in result.encoder.fits.items())
        parts.append(
            "The encoder judges each model by a fit to the other models' labels alone. Its settings were chosen"
            f" without that model too, by leaving each of the others out in turn ({chosen})."
        )
    return "\n\n".join(parts) + "\n"


def _setting(fit: object) -> str:
    return f"{fit.sentences} sentences, l2 {fit.l2:g}"  # type: ignore[attr-defined]


def _shares(row: dict[str, object]) -> list[str]:
    return [f"{100 * float(str(value)):.1f}" for key, value in row.items() if key not in ("model", "prompts")]


def _score_table(rows: Sequence[MetricRow]) -> str:
    of_suite = {(r.method, r.judge, r.metric): r for r in rows if r.suite == "xstest"}
    keys = dict.fromkeys((method, judge) for method, judge, _ in of_suite)
    cells = [
        [*key, *(_score(of_suite.get((*key, metric))) for metric in METRICS)]
        for key in sorted(keys, key=lambda k: k[0])
    ]
    return _table(["model", "judge", *METRICS.values()], cells)


def _score(row: MetricRow | None) -> str:
    if row is None:
        return "–"
    return f"{100 * row.value:.1f} ({100 * row.ci_low:.1f} to {100 * row.ci_high:.1f})"


def _agreement_table(models: Sequence[XSTestModel]) -> str:
    names = judge_names(models)
    found = {(r["model"], r["judge"]): r for r in agreement_rows(models)}
    cells = []
    for model in models:
        of_model = [found.get((model.name, name)) for name in names]
        cells.append(
            [
                model.name,
                *("–" if r is None else f"{float(str(r['balanced_accuracy'])):.3f}" for r in of_model),
            ]
        )
    means = [
        [
            float(str(found[model.name, name]["balanced_accuracy"]))
            for model in models
            if (model.name, name) in found
        ]
        for name in names
    ]
    cells.append(["mean", *(f"{sum(m) / len(m):.3f}" for m in means)])
    return _table(["model", *names], cells)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )

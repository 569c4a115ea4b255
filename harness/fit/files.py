"""results/NAME of `rbrbench fit`: weights, tables, plots and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from evals.values.conversation import Response, write_jsonl
from evals.values.metrics_table import write_metrics
from harness.findings.wording import plain
from harness.fit.tables import FitTables
from harness.keys.fit import FitConfig
from harness.record.diagnosis_files import write_diagnosis
from harness.record.reward_rows import error_rows, reward_rows
from harness.report.page import render, svg_source
from harness.report.plots import draw_all
from harness.report.plots.rule_contributions import feature_label
from harness.storage.digest import canonical
from harness.storage.disk import writing
from harness.storage.store import check_results, claim_results, command_digest
from trainers.reward.diagnosis import Diagnosis
from trainers.reward.ranking import rewards
from trainers.reward.reward_weights import RewardWeights, save_weights

OWNER = command_digest("fit")  # a fit may overwrite a fit, and nothing else
PICTURES = {
    "ranking_error": "Ranking error of each reward by response type",
    "learning_curve": "Ranking error by number of fitting prompts",
    "rule_effects": "Each rule's contribution to ranking the ideal completion first",
    "reward_histograms": "Rewards measured from the ideal completion, by completion class",
}


@dataclass(frozen=True)
class PairCard:
    """A wrongly ranked pair, side by side."""

    prompt_id: str
    prompt: str
    ideal: str
    other: str
    other_class: str
    gap: str
    deciding: str


def check_folder(config: FitConfig) -> Path:
    """The results folder. Raises InputError, before anything is computed, where other results lie."""
    folder = Path(config.results) / config.name
    check_results(folder, OWNER)
    return folder


def write_results(
    folder: Path,
    diagnoses: Sequence[Diagnosis],
    responses: Mapping[str, Sequence[Response]],
    weights: RewardWeights,
    tables: FitTables,
    config: FitConfig,
) -> Path:
    """Write everything; `responses` are the held-out ones by response type. Returns the page's path."""
    claim_results(folder, OWNER)
    with writing(folder):
        save_weights(weights, folder / "weights.json")
        (folder / "config.yaml").write_text(
            yaml.safe_dump(canonical(asdict(config)), sort_keys=False), encoding="utf-8"
        )
        write_metrics(
            folder / "metrics.csv",
            [row for d in diagnoses for row in error_rows(d.held, d.errors, config.seed)],
        )
        write_diagnosis(folder, diagnoses, config.seed, responses)
        rows = (row for d in diagnoses for row in reward_rows(d.held, _shown(d, weights)))
        write_jsonl(folder / "rewards.jsonl", ({"seed": config.seed, **row} for row in rows))
        pictures = {
            path.stem: svg_source(path.read_bytes()) for path in draw_all(folder) if path.suffix == ".svg"
        }
        context = {
            "name": config.name,
            "tables": tables,
            "pictures": [(name, text, pictures[name]) for name, text in PICTURES.items() if name in pictures],
            "cards": [(plain(d.response_type.value), _cards(d, responses)) for d in diagnoses],
        }
        (folder / "summary.md").write_bytes(render("fit.md.j2", context, html=False))
        (folder / "fit.html").write_bytes(render("fit.html.j2", context, html=True))
    return folder / "fit.html"


def _shown(d: Diagnosis, weights: RewardWeights) -> Mapping[str, Any]:
    return {name: total for name, total in rewards(d.held, weights).items() if name in d.errors}


def _cards(d: Diagnosis, responses: Mapping[str, Sequence[Response]]) -> list[PairCard]:
    mine = responses[d.response_type.value]
    return [
        PairCard(
            pair.prompt,
            "\n".join(f"{m.role}: {m.content}" for m in mine[pair.ideal].prompt.messages),
            mine[pair.ideal].text,
            mine[pair.other].text,
            plain(d.held.classes[pair.other]),
            f"{pair.gap:+.2f}".replace("-", "−"),
            ", ".join(f"{feature_label(name)} {part:+.2f}".replace("-", "−") for name, part in pair.deciding),
        )
        for pair in d.worst
    ]

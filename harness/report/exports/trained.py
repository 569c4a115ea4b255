"""The models of a run as folders that transformers, vLLM and `rbrbench evaluate` load: `models/METHOD`.

Each is the last checkpoint of a method, adapters folded in and beside it, with its chat template and a model card.
The files are the store's own, by hard links where the file system has them, so that they take no room twice.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evals.models.folder import BESIDE
from evals.values.json_text import read_json_object
from evals.values.located_yaml import load_located_yaml
from evals.values.metrics_table import MetricRow
from harness.findings.claims import check_claims
from harness.findings.frontier import SAFETY, USEFULNESS, Verdict
from harness.findings.verdict import short_verdict
from harness.findings.wording import MethodName, judge_label, method_label, method_table
from harness.record.evaluation import Evaluation
from harness.record.run import ResultsFolder
from harness.report.exports.eval_results import IN_A_REPOSITORY, eval_results_yaml
from harness.report.exports.model_card import evaluation_section, is_shown
from harness.storage.digest import ADAPTER
from harness.storage.disk import write_json, writing
from harness.storage.store import Store

MODELS, CARD = "models", "README.md"
MADE = ".made_of"  # the store's keys of the folders that stand there


def hand_out(folder: Path) -> list[Path]:
    """Write `models/` of a finished run anew where it is not of this run's making; the folders in it.

    A model whose stage is gone from the store is left out. Raises InputError where the disk refuses.
    """
    evaluation, places = Evaluation(folder), {}
    store, measured = Store(folder.parent / ".store"), evaluation.record["models"]
    for name, one in measured.items():
        found = store.find(one["artifact"]["stage"], one["artifact"]["key"])
        if found is not None:
            places[name] = found.path / one["artifact"]["folder"]
    made_of = "\n".join(f"{name} {place}" for name, place in sorted(places.items()))
    out, new = folder / MODELS, folder / f".{MODELS}"
    if (out / MADE).is_file() and (out / MADE).read_text(encoding="utf-8") == made_of:
        return [out / name for name in places]
    config = load_located_yaml(folder / "config.yaml")
    with writing(folder), method_table(evaluation.folder.methods):
        shutil.rmtree(new, ignore_errors=True)
        for name, place in places.items():
            _link(place, new / name)
            if (place / BESIDE).is_dir():
                _link(place / BESIDE, new / name / BESIDE)
                _name_base(new / name / BESIDE / ADAPTER, adapted(evaluation, config, name))
            (new / name / CARD).write_text(
                card(evaluation, config, name, (place / BESIDE).is_dir()), encoding="utf-8"
            )
            _write_results(evaluation, name, new / name / IN_A_REPOSITORY)
        new.mkdir(exist_ok=True)
        (new / MADE).write_text(made_of, encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        os.rename(new, out)
    return [out / name for name in places]


def _link(place: Path, out: Path) -> None:
    """The files that load the model; what training left beside them stays behind."""
    out.mkdir(parents=True)
    for file in sorted(place.iterdir()):
        if file.is_file() and (
            file.suffix in (".safetensors", ".jinja", ".txt", ".model") or _is_settings(file)
        ):
            try:
                os.link(file, out / file.name)
            except OSError:  # another file system, or one without links
                shutil.copy2(file, out / file.name)


def _name_base(file: Path, base: str) -> None:
    """Peft loads the model beneath an adapter by this name; the file is no longer the store's."""
    settings = read_json_object(file) | {"base_model_name_or_path": base or None}
    file.unlink()
    write_json(file, settings)


def adapted(evaluation: Evaluation, config: Mapping[str, Any], name: str) -> str:
    """What the adapter beside a model was trained on: the SFT model of the same run, and of that the given model."""
    models, results = evaluation.record["models"], evaluation.folder
    _, bracket, rest = str(models[name]["method"]).partition("[")
    method = MethodName.parse(str(models[name]["method"])).method
    if method is None or not method.is_ppo:
        return str(config["model"]["path"] or "")
    start = f"{method.start}{bracket}{rest}", models[name]["seed"]
    found = next((other for other, of in models.items() if (of["method"], of["seed"]) == start), None)
    return str(results.path / MODELS / found) if found else ""


def _is_settings(file: Path) -> bool:
    named = ("config", "tokenizer", "special_tokens", "added_tokens", "vocab", "merges", "model.safetensors")
    return file.suffix == ".json" and any(part in file.name for part in named)


def card(evaluation: Evaluation, config: Mapping[str, Any], name: str, beside: bool = False) -> str:
    """What it is, what it was trained on and by which reward, how it was judged, and what limits that.

    `beside`: an adapter stands beside it.
    """
    results, model = evaluation.folder, evaluation.record["models"][name]
    rows = [row for row in results.metrics if _is_of(row, model)]
    front: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rbrbench"],
    }
    if base := config["model"]["path"]:
        front["base_model"] = base
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n",
        f"# {method_label(model['method'])}\n\n{_training(config, model)}\n",
        f"## Data\n\n{_data(results.manifest['world'])}\n",
        *_adapter(evaluation, config, name, beside),
        evaluation_section(evaluation, name, rows),
        f"{_verdict(results)}{claims_about(results, str(model['method']).partition('[')[0])}\n## Limits\n\n"
        + "".join(f"- {note}\n" for note in results.manifest["notes"]),
    ]
    return "\n".join(parts)


def _adapter(evaluation: Evaluation, config: Mapping[str, Any], name: str, beside: bool) -> list[str]:
    if not beside:
        return []
    on = adapted(evaluation, config, name)
    return [
        f"## Adapter\n\n`{BESIDE}/` is what this training changed, as a LoRA adapter of peft on {on or 'its start'}.\n"
    ]


def _write_results(evaluation: Evaluation, name: str, path: Path) -> None:
    """As the hub shows them on the model's page; nothing where no suite is one of the hub's."""
    rows = [row for row in evaluation.folder.metrics if _is_of(row, evaluation.record["models"][name])]
    if text := eval_results_yaml(evaluation, name, rows):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")


def _is_of(row: MetricRow, model: Mapping[str, Any]) -> bool:
    return row.method == model["method"] and _is_last(row, model)


def _is_last(row: MetricRow, model: Mapping[str, Any]) -> bool:
    return is_shown(row) and row.checkpoint == str(model["checkpoint"]) and row.seed == model["seed"]


def _training(config: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    base = config["model"]["path"] or "a model that was pre-trained in the same run"
    made = f"Trained from {base} by rbrbench (seed {model['seed']}, checkpoint {model['checkpoint']})"
    method = MethodName.parse(str(model["method"])).method  # rbr_grpo is rbr_ppo by another algorithm
    if method is None or not method.is_ppo:
        return (
            f"{made}: supervised fine-tuning on {'' if method is None else method.sft.value} demonstrations."
        )
    terms = " + ".join(term.replace("_", " ") for term in method.terms)
    prompts = "helpful and safety prompts" if method.safety_prompts else "helpful prompts"
    algorithm = str(config["algorithm"]).upper()
    graded = f", graded by {config['grader']['kind']}" if method.is_graded else ""
    return (
        f"{made}: {algorithm} on {prompts}, from the {method.sft.value} SFT model; reward: {terms}, the reward model "
        f"of {method.reward_model.value if method.reward_model else 'no'} comparisons, rulebook {config['rulebook']}"
        f"{graded}."
    )


def _data(world: Mapping[str, Any]) -> str:
    lines = [str(world.get("description", "An invented world of the embedded sandbox.")), ""]
    for part, sources in world.get("sources", {}).items():
        told = (
            sources
            if isinstance(sources, str)
            else ", ".join(f"{s} ({n['taken']} rows)" for s, n in sources.items())
        )
        lines.append(f"- {part}: {told}")
    lines += [f"- {name}: {said}" for name, said in world.get("licences", {}).items()]
    return "\n".join(lines)


def claims_about(results: ResultsFolder, method: str) -> str:
    """The paper's claims that compare this method, as the run found them by the first judge on the first suite."""
    suites = results.scores.suites(SAFETY, USEFULNESS)
    judges = results.scores.judges(suites[0], SAFETY) if suites else []
    found = check_claims(results.scores, suites[0], judges[0]) if judges else []
    mine = [one for one in found if any(method in (part.first, part.second) for part in one.parts)]
    if not mine:
        return ""
    told = "".join(f"- {one.claim.number}. {one.claim.statement} {SAID[one.verdict]}\n" for one in mine)
    return f"\n## The paper's claims\n\nBy {judge_label(judges[0])} on {suites[0]}.\n\n{told}"


SAID = {
    Verdict.HELD: "Held.",
    Verdict.NOT_HELD: "Not held.",
    Verdict.UNDECIDED: "Undecided.",
    Verdict.ONE_SEED: "Measured on one seed, which decides nothing.",
}


def _verdict(results: ResultsFolder) -> str:
    suites = results.scores.suites(SAFETY, USEFULNESS)
    return f"\n{short_verdict(results.scores, suites[0])}\n" if suites else ""

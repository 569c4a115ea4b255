"""The record of `rbrbench data`: what a run would be trained and judged on, without a stage of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.models.config_file import context_of
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.values.conversation import Comparison, Demonstration, LabelledResponse, Prompt
from evals.values.jsonl_rows import read_comparisons, read_demonstrations, read_labelled, read_prompts
from harness.evaluate.judging import asked_suites
from harness.keys.data import DataSource
from harness.keys.run import RunConfig
from harness.record.manifest import Kind, recording
from harness.runtime.console import Console
from harness.storage.disk import write_json
from harness.storage.ownership import check_results
from harness.worlds.folder import AS_JSON, WorldFolder
from harness.worlds.mixture.inventory import Limits, inventory, of_files
from harness.worlds.mixture.parts import PARTS
from harness.worlds.mixture.world import Mixture, load_mixture
from trainers.models.model_config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ: Mapping[type, Callable[[Path], list[Any]]] = {
    Prompt: read_prompts,
    Demonstration: read_demonstrations,
    Comparison: read_comparisons,
    LabelledResponse: read_labelled,
}
READY = "The sandbox and the five sets keep what is evaluated apart where they are made: overlap is not looked for."
NO_MODEL = "Lengths are not shown: name a model, model=hf model.path=FOLDER_OR_HUB_NAME."
FILE = "data.json"


def record_inventory(config: RunConfig, console: Console, command: Sequence[str]) -> Path:
    """Count the data into results/NAME-data, the path of which it returns. Raises InputError for bad data."""
    folder = Path(config.results) / f"{config.name}-data"
    check_results(folder, Kind.DATA.owner)
    rulebook = load_rulebook(config.rulebook_path)
    given = config.model.path
    tokenizer = _tokenizer(config.model) if given else None
    with console.stage("data", total=None, unit="files"):
        suites = asked_suites(config.evaluation, config.data.root)
        if config.data.source is DataSource.FILES:
            mixture = load_mixture(config.data, config.seed, rulebook, suites)
        else:
            mixture = _made(config, rulebook, tokenizer)
        found = inventory(mixture, tokenizer, _limits(config))
    found["suites"] = {suite.name: len(suite.prompts) for suite in suites}
    found["too_long"] = config.data.too_long.value
    with recording(folder, Kind.DATA, folder.name, ["data", *command], _notes(config)) as new:
        write_json(new / FILE, found)
    return folder


def _tokenizer(model: ModelConfig) -> PreTrainedTokenizerBase:
    from trainers.models.sizes import (
        given_tokenizer,  # loads torch, which a look without a model goes without
    )

    return given_tokenizer(model)


def _limits(config: RunConfig) -> Limits:
    given = config.model.path
    context = (context_of(given) if given else None) or config.model.context
    room = min(config.model.context, context) - config.longest_response - 1
    return Limits(config.sft.max_length, config.reward_model.max_length, room)


def _made(config: RunConfig, rulebook: Rulebook, tokenizer: PreTrainedTokenizerBase | None) -> Mixture:
    """The sandbox's or the five sets' world, made in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        if config.data.source is DataSource.SANDBOX:
            from harness.worlds.sandbox.generate import write_sandbox

            write_sandbox(out, config.sandbox, config.seed, rulebook, config.model.context)
        else:
            from harness.worlds.sources.world import write_real_world

            write_real_world(out, Path(str(config.data.root)), config.real, config.seed, rulebook, tokenizer)
        return of_files(_rows(WorldFolder(out)), config.data.source.value)


def _rows(world: WorldFolder) -> dict[str, list[Any]]:
    files = {part: what for part, what in PARTS.items() if what.file in AS_JSON and world.has(what.file)}
    return {part: READ[what.kind](world.path / f"{what.file}.jsonl") for part, what in files.items()}


def _notes(config: RunConfig) -> list[str]:
    is_ready = config.data.source is not DataSource.FILES
    return [*([READY] if is_ready else []), *([] if config.model.path else [NO_MODEL])]

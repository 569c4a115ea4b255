"""Stages 2 to 4: the base model, supervised fine-tuning, and reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from evals.models.load import load_causal_lm, load_tokenizer, save_model
from evals.values.conversation import Comparison, Demonstration
from evals.values.levels import Levels
from harness.keys.methods import Data
from harness.keys.payer import PayerKeys
from harness.keys.run import RunConfig
from harness.pipeline.context import Context
from harness.pipeline.reward_model_term import REFERENCE_FILES, write_zero
from harness.runtime.console import Advance
from harness.storage.digest import digest_files, digest_model, model_files
from harness.storage.store import Artifact
from harness.worlds.folder import (
    DOCUMENTS_FILE,
    HELPFUL,
    SYNTHETIC,
    TOKENIZER_FOLDER,
    WorldFolder,
    comparisons_file,
    demonstrations_file,
    labels_file,
)
from trainers.models.model_config import ModelConfig
from trainers.models.sizes import given_tokenizer, new_causal_lm, new_reward_model

WITHOUT_PEOPLE = (Data.HELPFUL, Data.RBR)  # kinds that no annotator of safety labels


HEAD_WIDTH = 32  # of the sizes in conf/model


def smaller_width(width: int) -> int:
    """Three quarters of a model's width, in whole heads of HEAD_WIDTH; two at least: one says neither yes nor no."""
    return HEAD_WIDTH * max(2, 3 * width // (4 * HEAD_WIDTH))


def own_base(context: Context, data: Artifact, key: str, width: int, seed_offset: int) -> Artifact:
    """A base of another width and from another seed than the run's, for whom `key` asks it."""
    config = context.config
    size = replace(config.model, width=width, heads=max(1, width // HEAD_WIDTH))
    other = replace(config, model=size, seed=config.seed + seed_offset)
    return pretrain_base(context, data, other, key.replace("_", ".").partition(".")[0])


def pretrain_base(
    context: Context, data: Artifact, config: RunConfig | None = None, owner: str = ""
) -> Artifact:
    """A model pre-trained here from scratch, as the run's `config` or another says; `owner`: of whom, if not all."""
    config = config or context.config
    label = f"base: {owner}" if owner else "base"

    def build(out: Path) -> dict[str, Any]:
        from trainers.models.tokenizer import train_tokenizer
        from trainers.supervised.pretrain import Blocks, pretrain, pretraining_steps

        documents = WorldFolder(data.path).documents()
        if WorldFolder(data.path).tokenizer.is_dir():
            tokenizer = load_tokenizer(WorldFolder(data.path).tokenizer)
        else:
            tokenizer = train_tokenizer(documents, config.real.vocabulary, config.model.context)
        model = new_causal_lm(config.model, tokenizer, config.seed)
        rows = len(Blocks(tokenizer, documents, config.pretrain.block))
        steps = pretraining_steps(config.pretrain, rows)
        with context.console.stage(label, total=steps) as advance:
            return pretrain(model, tokenizer, documents, config.pretrain, config.seed, out, advance)

    settings = {"model": config.model, "pretrain": config.pretrain, "vocabulary": config.real.vocabulary}
    if config.seed != context.config.seed:
        settings["base_seed"] = config.seed
    return context.stage(
        label,
        build,
        config=settings,
        inputs={"data": data.part(DOCUMENTS_FILE, TOKENIZER_FOLDER)},
        modules=["trainers.supervised.pretrain", "trainers.models.sizes", "trainers.models.tokenizer"],
    )


def given_base(context: Context) -> Artifact:
    """Checks and re-saves the model at `model.path`, so that every later stage starts from a known copy."""
    model = context.config.model

    def build(out: Path) -> dict[str, Any]:
        from trainers.models.padding import give_padding, rows_of_embedding, stops_of, with_padding

        with context.console.stage("base", total=None, unit="models"):
            loaded = load_causal_lm(str(model.path), model.precision.dtype)
            tokenizer = given_tokenizer(model)
            said = give_padding(tokenizer, rows_of_embedding(loaded), stops_of(loaded))
            save_model(with_padding(loaded, tokenizer), tokenizer, out)
        if said:
            context.console.say(f"base: {said}")
        return {"parameters": sum(p.numel() for p in loaded.parameters())}

    settings = {"content": content_of(str(model.path)), "precision": model.precision} | template_keys(model)
    return context.stage(
        "base", build, config=settings, inputs={}, modules=["evals.models.load", "trainers.models.padding"]
    )


def content_of(path: str) -> str:
    """A digest of a local model's files, or of another file or folder; a hub name stands for itself."""
    place = Path(path).expanduser()
    if model_files(place):
        return digest_model(place)
    return digest_files([place]) if place.exists() else path


def template_keys(model: ModelConfig | PayerKeys) -> dict[str, Any]:
    """What a stage's key says of the keys of a chat template; nothing where none is set."""
    return {"chat_template": dict(model.chat_template)} if model.chat_template else {}


def adapters_of(model: ModelConfig) -> dict[str, int]:
    """What a stage's key says of them."""
    layers = {"lora_layers": model.lora_layers} if model.lora_layers else {}
    return {"lora_rank": model.lora_rank} | layers


def fine_tune(
    context: Context, data: Artifact, base: Artifact, kind: Data, completions: Artifact | None
) -> Artifact:
    """SFT on the helpful demonstrations and, by kind, the annotators' or the synthetic ones of the best class.

    Where the data have none of these it is the base model.
    """
    config = context.config
    best, levels = context.rulebook.class_order[0], context.rulebook.levels
    if not demonstrations_for(data, kind, completions, best, levels):
        return base

    def build(out: Path) -> dict[str, Any]:
        from trainers.supervised.progress import steps_of
        from trainers.supervised.sft import sft

        demonstrations = demonstrations_for(data, kind, completions, best, levels)
        model = load_causal_lm(base.path, config.model.precision.dtype)
        with context.console.stage(
            f"sft: {kind.value}", total=steps_of(config.sft, len(demonstrations))
        ) as advance:
            return sft(
                model,
                load_tokenizer(base.path),
                demonstrations,
                config.sft,
                config.seed,
                out,
                lora_rank=config.model.lora_rank,
                lora_layers=config.model.lora_layers,
                progress=advance,
            )

    settings = {"sft": config.sft, "kind": kind} | adapters_of(config.model)
    inputs = {"data": data.part(*map(demonstrations_file, _whose(kind))), "base": base}
    if kind is Data.RBR and completions is not None:
        inputs["completions"] = completions.part(labels_file(SYNTHETIC))
        settings["best"] = best
    return context.stage(
        f"sft: {kind.value}",
        build,
        config=settings,
        inputs=inputs,
        modules=["trainers.supervised.sft"],
        packages=["trl", "datasets"],
    )


def _whose(kind: Data) -> list[str]:
    """Whose demonstrations and comparisons a model of `kind` learns from."""
    return [HELPFUL] if kind in WITHOUT_PEOPLE else [HELPFUL, kind.value]


def demonstrations_for(
    data: Artifact,
    kind: Data,
    completions: Artifact | None,
    best: str = "ideal",
    levels: Mapping[str, Levels] | None = None,
) -> list[Demonstration]:
    """`best` is the rulebook's first class, whose completions are the rules' demonstrations; `levels` are its."""
    folder = WorldFolder(data.path)
    rows = folder.demonstrations(HELPFUL) if folder.has("sft_helpful") else []
    if kind not in WITHOUT_PEOPLE:
        return rows + folder.demonstrations(kind.value)
    if kind is Data.RBR and completions is not None:
        synthetic = WorldFolder(completions.path).labelled(SYNTHETIC, levels=levels)
        ideal = [row.response for row in synthetic if row.completion_class == best]
        return rows + [Demonstration(r.prompt, r.text, r.finished) for r in ideal]
    return rows


def comparisons_for(data: Artifact, kind: Data) -> list[Comparison]:
    """Helpful ones and, where `kind` names annotators, theirs of safety."""
    rows = WorldFolder(data.path).comparisons(HELPFUL)
    return rows if kind in WITHOUT_PEOPLE else rows + WorldFolder(data.path).comparisons(kind.value)


def reward_model_on(
    config: RunConfig,
    base: Artifact,
    tokenizer: PreTrainedTokenizerBase,
    comparisons: Sequence[Comparison],
    out: Path,
    progress: Advance | None = None,
) -> dict[str, float]:
    """Train one on the base model's trunk, as the run's settings say, into `out`; figures of the training."""
    from trainers.supervised.reward_model import train_reward_model

    return train_reward_model(
        new_reward_model(base.path, tokenizer, config.model.precision, config.seed),
        tokenizer,
        comparisons,
        config.reward_model,
        config.seed,
        out,
        lora_rank=config.model.lora_rank,
        lora_layers=config.model.lora_layers,
        progress=progress,
    )


def train_reward(context: Context, data: Artifact, base: Artifact, kind: Data) -> Artifact:
    """A reward model on helpful comparisons, and by kind some annotators' safety comparisons too."""
    config = context.config

    def build(out: Path) -> dict[str, Any]:
        from trainers.supervised.progress import steps_of

        comparisons = comparisons_for(data, kind)
        tokenizer = load_tokenizer(base.path)
        total = steps_of(config.reward_model, len(comparisons))
        with context.console.stage(f"reward_model: {kind.value}", total=total) as advance:
            told = reward_model_on(config, base, tokenizer, comparisons, out, advance)
        write_zero(data, out)
        return told

    return context.stage(
        f"reward_model: {kind.value}",
        build,
        config={"reward_model": config.reward_model, "kind": kind} | adapters_of(config.model),
        inputs={"data": data.part(*map(comparisons_file, _whose(kind)), *REFERENCE_FILES), "base": base},
        modules=[
            "trainers.supervised.reward_model",
            "trainers.models.sizes",
            "trainers.reward.reward_model_term",
        ],
        packages=["trl", "datasets"],
    )

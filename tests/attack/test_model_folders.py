"""Model folders that are broken, cut or hostile: one line, in milliseconds, before anything is written."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluation_world import evaluate, make_model, write_suite
from tiny_models import random_model

from evals.models.config_file import ROPE_TYPES
from evals.models.folder import check_folder
from evals.values.errors import InputError
from harness.runtime.console import Console
from rbrbench.cli import main

Damage = Callable[[Path], object]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


def setting(file: str, *keys: str, value: object) -> Damage:
    """A JSON file of the folder with one value that is not the model's."""

    def damage(folder: Path) -> None:
        content: Any = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
        part = content
        for key in keys[:-1]:
            part = part.setdefault(key, {})
        part[keys[-1]] = value
        (folder / file).write_text(json.dumps(content))

    return damage


def content(file: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        place = folder / file
        place.write_bytes(change(place.read_bytes() if place.is_file() else b""))

    return damage


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """The weights' header changed; the data stay."""

    def damage(folder: Path) -> None:
        place = folder / "model.safetensors"
        raw = place.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        found = json.loads(raw[8 : 8 + length])
        change(found)
        text = json.dumps(found).encode()
        place.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])

    return damage


def first(found: dict[str, Any]) -> dict[str, Any]:
    return next(entry for name, entry in found.items() if name != "__metadata__")


def quantised(method: str, **settings: object) -> Damage:
    return setting("config.json", "quantization_config", value={"quant_method": method, **settings})


def index(places: object) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))

    return damage


def pipe(file: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / file).unlink()
        os.mkfifo(folder / file)

    return damage


WEIGHTS = "model.safetensors"
ONE = b'"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}'
TWICE = b"{" + ONE + b", " + ONE + b"}"
HOSTILE: dict[str, Damage] = {
    "weights: half a file": content(WEIGHTS, lambda raw: raw[: len(raw) // 2]),
    "weights: the last byte is missing": content(WEIGHTS, lambda raw: raw[:-1]),
    "weights: one byte too many": content(WEIGHTS, lambda raw: raw + b"\0"),
    "weights: empty": content(WEIGHTS, lambda raw: b""),
    "weights: a pointer of Git LFS": content(WEIGHTS, lambda raw: LFS),
    "weights: a web page": content(WEIGHTS, lambda raw: b"<!DOCTYPE html><html>" * 50),
    "weights: a pipe": pipe(WEIGHTS),
    "weights: a header longer than the file": content(
        WEIGHTS, lambda raw: struct.pack("<Q", 2**63) + raw[8:]
    ),
    "weights: a header that is no JSON": content(WEIGHTS, lambda raw: raw[:8] + b"x" * 40 + raw[48:]),
    "weights: a header nested deep": content(
        WEIGHTS, lambda raw: struct.pack("<Q", 200_000) + b"[" * 200_000
    ),
    "weights: a header that is a list": content(WEIGHTS, lambda raw: struct.pack("<Q", 2) + b"[]"),
    "weights: a tensor twice": content(WEIGHTS, lambda raw: struct.pack("<Q", len(TWICE)) + TWICE + b"\0"),
    "weights: tensors that overlap": header(
        lambda h: [
            v.update(data_offsets=[0, v["data_offsets"][1] - v["data_offsets"][0]])
            for k, v in h.items()
            if k != "__metadata__"
        ]
    ),
    "weights: another shape": header(lambda h: first(h).update(shape=[7, 7])),
    "weights: a shape below zero": header(lambda h: first(h).update(shape=[-1, -32])),
    "weights: a shape of fractions": header(lambda h: first(h).update(shape=[1.5])),
    "weights: a shape that is huge": header(lambda h: first(h).update(shape=[2**62, 2**62])),
    "weights: an unknown dtype": header(lambda h: first(h).update(dtype="PICKLE")),
    "weights: offsets that turn back": header(lambda h: first(h).update(data_offsets=[9, 3])),
    "weights: offsets beyond the file": header(lambda h: first(h).update(data_offsets=[2**40, 2**41])),
    "weights: no offsets": header(lambda h: first(h).pop("data_offsets")),
    "weights: a tensor that is a text": header(lambda h: h.update(extra="tensor")),
    "weights: none": lambda folder: (folder / WEIGHTS).unlink(),
    "weights: a pickle": lambda folder: (folder / WEIGHTS).rename(folder / "pytorch_model.bin"),
    "index: of a file that is not there": index({"model.norm.weight": "model-2.safetensors"}),
    "index: of a tensor that is not there": index({"nothing": "model-1.safetensors"}),
    "index: out of the folder": index({"model.norm.weight": "../other/model.safetensors"}),
    "index: a list": index(["model-1.safetensors"]),
    "index: empty": index({}),
    "config: none": lambda folder: (folder / "config.json").unlink(),
    "config: empty": content("config.json", lambda raw: b""),
    "config: cut": content("config.json", lambda raw: raw[:100]),
    "config: a list": content("config.json", lambda raw: b"[1]"),
    "config: not UTF-8": content("config.json", lambda raw: b"\xff\xfe{}"),
    "config: nested deep": content("config.json", lambda raw: b'{"a":' * 100_000),
    "config: a pointer of Git LFS": content("config.json", lambda raw: LFS),
    "config: a number of many digits": content(
        "config.json", lambda raw: b'{"vocab_size": ' + b"9" * 6000 + b"}"
    ),
    "config: a folder": lambda folder: ((folder / "config.json").unlink(), (folder / "config.json").mkdir()),
    "config: no kind": setting("config.json", "model_type", value=None),
    "config: an unknown kind": setting("config.json", "model_type", value="lama"),
    "config: a kind that is a list": setting("config.json", "model_type", value=["llama"]),
    "config: no layers": setting("config.json", "num_hidden_layers", value=0),
    "config: layers without end": setting("config.json", "num_hidden_layers", value=10**9),
    "config: a width in words": setting("config.json", "hidden_size", value="32"),
    "config: a width below zero": setting("config.json", "hidden_size", value=-32),
    "config: a width of a fraction": setting("config.json", "hidden_size", value=32.5),
    "config: heads that are true": setting("config.json", "num_attention_heads", value=True),
    "config: heads that do not divide": setting("config.json", "num_key_value_heads", value=3),
    "config: a vocabulary of nothing": setting("config.json", "vocab_size", value=0),
    "config: a context below zero": setting("config.json", "max_position_embeddings", value=-1),
    "config: an epsilon that is not a number": setting("config.json", "rms_norm_eps", value=float("nan")),
    "config: an epsilon below zero": setting("config.json", "rms_norm_eps", value=-1.0),
    "config: a switch in words": setting("config.json", "tie_word_embeddings", value="yes"),
    "config: an end below zero": setting("config.json", "eos_token_id", value=-7),
    "config: an end in words": setting("config.json", "eos_token_id", value="<eos>"),
    "config: an unknown rope": setting(
        "config.json", "rope_scaling", value={"rope_type": "spiral", "factor": 2.0}
    ),
    "config: an unknown rope by its other name": setting(
        "config.json", "rope_parameters", value={"rope_type": "spiral", "rope_theta": 1e4}
    ),
    "config: a rope of a list": setting("config.json", "rope_scaling", value=["linear"]),
    "config: a rope of factor zero": setting(
        "config.json", "rope_scaling", value={"type": "linear", "factor": 0}
    ),
    "quantised: bitsandbytes": quantised("bitsandbytes", load_in_4bit=True),
    "quantised: bitsandbytes, unnamed": setting(
        "config.json", "quantization_config", value={"load_in_8bit": True}
    ),
    "quantised: gptq": quantised("gptq", bits=4, group_size=128),
    "quantised: awq": quantised("awq", bits=4),
    "quantised: compressed-tensors": quantised("compressed-tensors", config_groups={}),
    "quantised: by nothing known": quantised("magic"),
    "quantised: by no mapping": setting("config.json", "quantization_config", value="4bit"),
    "generation: cut": content("generation_config.json", lambda raw: b'{"temper'),
    "generation: a temperature in words": setting("generation_config.json", "temperature", value="hot"),
    "generation: a temperature below zero": setting("generation_config.json", "temperature", value=-1.0),
    "generation: top_p of two": setting("generation_config.json", "top_p", value=2.0),
    "generation: an end in words": setting("generation_config.json", "eos_token_id", value=["<eos>"]),
    "generation: no new tokens": setting("generation_config.json", "max_new_tokens", value=0),
    "tokenizer: none": lambda folder: [f.unlink() for f in folder.glob("tokenizer*")],
    "tokenizer: cut": content("tokenizer.json", lambda raw: raw[: len(raw) // 2]),
    "tokenizer: empty": content("tokenizer.json", lambda raw: b""),
    "tokenizer: a pointer of Git LFS": content("tokenizer.json", lambda raw: LFS),
    "tokenizer: no model": setting("tokenizer.json", "model", value=None),
    "tokenizer: added tokens that are texts": setting("tokenizer.json", "added_tokens", value=["<pad>"]),
    "tokenizer: an id below zero": setting(
        "tokenizer.json", "added_tokens", value=[{"id": -1, "content": "x"}]
    ),
    "tokenizer: its config is a list": content("tokenizer_config.json", lambda raw: b"[]"),
    "tokenizer: an end that is a number": setting("tokenizer_config.json", "eos_token", value=7),
    "tokenizer: a context in words": setting("tokenizer_config.json", "model_max_length", value="long"),
    "tokenizer: a template that is a number": setting("tokenizer_config.json", "chat_template", value=7),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_no_model_comes_from_is_one_line(name: str, whole: Path, tmp_path: Path) -> None:
    """They ended in a traceback, or were told of after results were written."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    check_folder(folder)
    HOSTILE[name](folder)
    with pytest.raises(InputError) as caught:
        check_folder(folder)
    line = str(caught.value)
    assert "\n" not in line and str(folder) in line and len(line) < 600


def test_real_folders_pass(whole: Path, tmp_path: Path) -> None:
    """A check that is too strict refuses what transformers loads."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    for damage in (
        setting("config.json", "rope_scaling", value={"rope_type": "llama3", "factor": 8.0}),
        setting("config.json", "rope_parameters", value={"full_attention": {"rope_type": "default"}}),
        setting("config.json", "eos_token_id", value=[1, 2]),
        setting("config.json", "time_step_limit", value=[0.0, float("inf")]),
        setting("config.json", "pad_token_id", value=-1),
        setting("config.json", "intermediate_size", value=[64, 64]),
        setting("tokenizer_config.json", "model_max_length", value=1e30),
        setting("tokenizer_config.json", "chat_template", value=[{"name": "default", "template": "x"}]),
        setting("generation_config.json", "temperature", value=0.6),
    ):
        damage(folder)
        check_folder(folder)
    index({"model.norm.weight": "model-1.safetensors"})(folder)
    check_folder(folder)


def test_a_hub_name_is_left_alone() -> None:
    check_folder("someone/some-model")


def test_rotary_embeddings_are_those_that_transformers_has() -> None:
    """A newer transformers' kinds would be refused without a word of why."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    assert set(ROPE_INIT_FUNCTIONS) <= ROPE_TYPES


def test_the_look_loads_no_library(whole: Path) -> None:
    """Ten seconds of loading libraries came before the line."""
    code = (
        "import sys; from evals.models.folder import check_folder; check_folder(sys.argv[1]); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(whole)]).returncode == 0


@pytest.mark.parametrize("name", ["weights: half a file", "config: an unknown rope", "quantised: gptq"])
def test_evaluate_tells_before_it_writes(
    name: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of results and store entries stood when the model was refused."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    HOSTILE[name](folder)
    assert evaluate(tmp_path, write_suite(tmp_path, 3, 3), f"subject.path={folder}") == 2
    assert not (tmp_path / "results").exists()
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


RUN = ("experiment=smoke", "model=hf", "threads=1")


@pytest.mark.parametrize(
    ("damage", "override", "told"),
    [
        (HOSTILE["weights: half a file"], "name=a", "no whole safetensors file"),
        (lambda folder: None, "ppo.max_new_tokens=128", "ppo.max_new_tokens"),
        (lambda folder: None, "evaluation.max_new_tokens=4000", "evaluation.max_new_tokens"),
        (
            lambda folder: (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}"),
            "name=a",
            "no",
        ),
        (setting("config.json", "num_hidden_layers", value=3), "name=a", "have no "),
        (
            header(lambda h: h.update({"x": h.pop("model.norm.weight")})),
            "name=a",
            "have no model.norm.weight",
        ),
    ],
    ids=[
        "cut",
        "ppo's context",
        "evaluation's context",
        "template",
        "layers",
        "name",
    ],
)
def test_a_run_tells_before_its_first_stage(
    damage: Damage,
    override: str,
    told: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each was told after stages, up to all of supervised training, reward models, grader and judge."""
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    damage(folder)
    results = tmp_path / "results"
    assert main(["run", *RUN, f"model.path={folder}", f"results={results}", override]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in line and line.startswith("rbrbench: ")
    assert not list(results.rglob("manifest.json")), line


@pytest.mark.parametrize("values", ["seed=0,0", "seed=0,1,0", "ppo.kl_coef=0.1,0.10", "ppo.kl_coef=0.1,1e-1"])
def test_a_sweep_s_runs_are_told_apart(
    values: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run counted as two, or a table of two equal names was refused after all training."""
    command = ["run", "-m", "experiment=smoke", f"results={tmp_path}/results", values]
    assert main(command) == 2
    assert "two runs of the sweep are the same" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_model_without_chat_template_is_said(whole: Path, tmp_path: Path) -> None:
    """`evaluate` took plain lines and said so; `run` did not say it."""
    from harness.keys.run import compose_run
    from harness.pipeline.given_model import PLAIN, check_given_model

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    (folder / "chat_template.jinja").unlink()
    said: list[str] = []
    console = Console(live=False)
    console.say = said.append  # type: ignore[method-assign]
    check_given_model(compose_run([*RUN, f"model.path={folder}"]), console)
    assert said == [PLAIN]


@pytest.mark.parametrize("pad", ["<|eos|>", "<|unknown|>"])
def test_what_is_only_read_needs_no_padding_of_its_own(pad: str, whole: Path, tmp_path: Path) -> None:
    """Judges, graders and reward models whose PAD is EOS, or beyond the embedding, were refused."""
    from evals.models.load import load_tokenizer

    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    setting("tokenizer_config.json", "pad_token", value=pad)(folder)
    tokenizer = load_tokenizer(folder, needs_padding=False)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    with pytest.raises(InputError, match="PAD token"):
        load_tokenizer(folder)


def test_a_reward_model_scores_the_end_also_where_it_is_padding(whole: Path, tmp_path: Path) -> None:
    """Transformers takes trailing EOS for padding where the two are one, and scores the token before."""
    from transformers import GPT2ForSequenceClassification

    from evals.models.load import load_reward_model, load_tokenizer
    from evals.values.conversation import Response, user_prompt
    from trainers.reward.reward_model_term import RewardModelTerm

    folder = tmp_path / "reward"
    own = load_tokenizer(whole)
    # No Llama: those are scored by a way of the project's own.
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "max_position_embeddings": 64}
    random_model(GPT2ForSequenceClassification, own, num_labels=1, **sizes).save_pretrained(folder)
    own.save_pretrained(folder)
    responses = [
        Response(user_prompt(str(i), "rose"), text, finished=True) for i, text in enumerate(["a", "a rose"])
    ]
    scores = RewardModelTerm(load_reward_model(folder), own).scores(responses)
    setting("tokenizer_config.json", "pad_token", value="<|eos|>")(folder)
    merged = load_tokenizer(folder, needs_padding=False)
    again = RewardModelTerm(load_reward_model(folder), merged).scores(responses)
    assert merged.pad_token_id == merged.eos_token_id
    assert again == pytest.approx(scores, abs=1e-6)

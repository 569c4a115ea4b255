"""Loading: what is refused, and why; and the chat template's tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import SPECIAL, make_tokenizer, random_model
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from evals.models.load import (
    check_prompt_length,
    load_causal_lm,
    load_reward_model,
    load_tokenizer,
    prompt_token_ids,
    save_model,
    seems_whole,
)
from evals.values.conversation import Message, user_prompt
from evals.values.errors import InputError

WORDS = [*SPECIAL.values(), "User:", "Assistant:", "hello", "there"]
SIZES = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
TEMPLATE = (
    "{% for m in messages %}{{ m['role'].capitalize() + ': ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def tokenizer(pad: str = "<pad>", template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    return make_tokenizer(WORDS, template, pad_token=pad)


def model() -> LlamaForCausalLM:
    return random_model(LlamaForCausalLM, len(WORDS), **SIZES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(model(), tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_folder_loads_in_evaluation_mode_with_the_same_weights(folder: Path) -> None:
    """Dropout left on would make PPO's first-pass ratio differ from 1."""
    loaded = load_causal_lm(folder)
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model().parameters(), strict=True))


def test_pad_that_is_eos_is_refused(tmp_path: Path) -> None:
    """With PAD = EOS the end is masked away with the padding and the model never learns to stop."""
    tokenizer(pad="<eos>").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="PAD token is missing or is its EOS"):
        load_tokenizer(tmp_path)


def test_folder_without_weights_is_refused(folder: Path) -> None:
    next(folder.glob("*.safetensors")).unlink()
    with pytest.raises(InputError, match="no weights"):
        load_causal_lm(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_pickled_weights_are_refused_unread(folder: Path, name: str) -> None:
    """A pickle runs code when it is read: the file here would fail loudly if anything opened it."""
    next(folder.glob("*.safetensors")).rename(folder / name)
    for load in (load_causal_lm, load_reward_model):
        with pytest.raises(InputError, match="pickled weights only"):
            load(folder)


def test_code_in_a_model_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(witness)!r}, 'w').close()\n")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace("{", '{"auto_map": {"AutoModelForCausalLM": "evil.Model"},', 1)
    )
    load_causal_lm(folder)
    assert not witness.exists()


def test_absent_folder_is_one_line(tmp_path: Path) -> None:
    for load in (load_causal_lm, load_tokenizer):
        with pytest.raises(InputError, match="no such folder") as caught:
            load(tmp_path / "absent")
        assert "\n" not in str(caught.value)


def test_name_that_is_no_model_is_one_line() -> None:
    with pytest.raises(InputError) as caught:
        load_causal_lm("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_chat_template_is_honoured_and_its_absence_filled() -> None:
    messages = [Message("user", "hello")]
    with_template = prompt_token_ids(tokenizer(), messages)
    assert [WORDS[i] for i in with_template] == ["User:", "hello", "Assistant:"]
    assert prompt_token_ids(tokenizer(template=None), messages) == with_template
    assert [WORDS[i] for i in prompt_token_ids(tokenizer(), messages, generation=False)] == ["User:", "hello"]


def test_prompt_longer_than_the_model_is_named() -> None:
    prompts = [user_prompt("short", "a"), user_prompt("long", "b")]
    check_prompt_length(prompts, [3, 5], 5)
    with pytest.raises(InputError, match=r"'long' has 5 tokens, the model's room for prompts is 4"):
        check_prompt_length(prompts, [3, 5], 4)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    (file,) = folder.glob("*.safetensors")
    save_file(change(load_file(file)), file, {"format": "pt"})


def test_headers_alone_tell_whole_weights(tmp_path: Path) -> None:
    """A model without fault was read twice, or a fault was seen by reading all weights alone."""
    for tied in (False, True):
        folder = tmp_path / f"tied-{tied}"
        whole = random_model(LlamaForCausalLM, len(WORDS), tie_word_embeddings=tied, **SIZES)
        save_model(whole, tokenizer(), folder)
        assert seems_whole(folder)
        edit_weights(folder, lambda w: {k: v for k, v in w.items() if "layers.0.mlp.up" not in k})
        assert not seems_whole(folder)
    assert not seems_whole(tmp_path)


DAMAGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = {
    "a missing layer": (
        lambda w: {k: v for k, v in w.items() if "layers.0.mlp" not in k},
        r"have no model\.layers\.0\.mlp\.down_proj\.weight and 2 more",
    ),
    "compiled": (lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}, "have no "),
    "data parallel": (lambda w: {f"module.{k}": v for k, v in w.items()}, "have no "),
    "another layer": (
        lambda w: w | {"model.layers.7.input_layernorm.weight": torch.ones(4)},
        r"have, and the model has not, model\.layers\.7",
    ),
    "another shape": (
        lambda w: w | {"model.norm.weight": torch.ones(2)},
        r"have another shape of model\.norm\.weight",
    ),
    "not a number": (
        lambda w: w | {"model.norm.weight": torch.full_like(w["model.norm.weight"], float("nan"))},
        r"have a value that is not finite in model\.norm\.weight",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_weights_that_are_not_the_models_are_refused(folder: Path, damage: str) -> None:
    """Missing, renamed or reshaped weights became random numbers; NaN answered."""
    change, problem = DAMAGES[damage]
    edit_weights(folder, change)
    with pytest.raises(InputError, match=problem) as caught:
        load_causal_lm(folder)
    assert "\n" not in str(caught.value)


def test_a_causal_model_is_no_reward_model(folder: Path) -> None:
    """It got a random head, and a gate of a file against itself turned pairs."""
    with pytest.raises(InputError, match=r"have no score\.weight"):
        load_reward_model(folder)


def test_a_classifier_of_two_labels_is_no_reward_model(folder: Path) -> None:
    """Its head was of another shape, and a traceback, or random, by the library's version."""
    two = random_model(LlamaForSequenceClassification, len(WORDS), num_labels=2, **SIZES)
    two.save_pretrained(folder)
    with pytest.raises(InputError, match=r"have another shape of score\.weight"):
        load_reward_model(folder)


def test_a_cut_download_is_one_line(folder: Path) -> None:
    """Half a file, or a pointer of Git LFS in its place, ended in a traceback."""
    (file,) = folder.glob("*.safetensors")
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1\n", b""):
        file.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_causal_lm(folder)
        assert "\n" not in str(caught.value)


def test_an_adapter_loads_with_its_base(folder: Path, tmp_path: Path) -> None:
    """The check of weights took an adapter for a model that lacks everything."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(load_causal_lm(folder), LoraConfig(r=1, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[1, 2, 3]])
    loaded = load_causal_lm(tmp_path / "adapter")
    assert torch.equal(loaded(ids).logits, adapted.eval()(ids).logits)

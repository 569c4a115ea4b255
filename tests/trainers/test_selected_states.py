"""The layer-by-layer pass against transformers' own, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from tiny_models import random_model
from transformers import (
    Gemma2ForCausalLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

from trainers.models.frozen_layers import parted, whole_states
from trainers.models.selected_states import BackboneStates, selected_states

SIZES = {
    "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "initializer_range": 0.3,
}  # fmt: skip
IDS = torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(0))
POSITIONS = torch.tensor([2, 3, 4, 9 + 5, 18 + 1, 18 + 8])


def model(kind: str, **changes: object) -> PreTrainedModel:
    kinds = {
        "llama": LlamaForCausalLM,
        "llama critic": LlamaForSequenceClassification,
        "qwen2": Qwen2ForCausalLM,
        "mistral": MistralForCausalLM,
        "gpt2": GPT2LMHeadModel,
        "qwen3": Qwen3ForCausalLM,
        "gemma2": Gemma2ForCausalLM,
    }
    own = {"llama critic": {"num_labels": 1}, "mistral": {"sliding_window": None}}
    made = random_model(kinds[kind], 20, seed=1, **(SIZES | own.get(kind, {}) | changes))
    for name, parameter in made.named_parameters():
        if "norm" in name or "bias" in name:  # Ones and noughts would hide a norm or bias left out.
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return made.eval()


def gradients(states: torch.Tensor, backbone: torch.nn.Module) -> dict[str, torch.Tensor]:
    backbone.zero_grad()
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return {name: parameter.grad.clone() for name, parameter in backbone.named_parameters()}


# Rows that begin with so many tokens alike, and a place there whose state is asked for.
@pytest.mark.parametrize(("alike", "early"), [(0, []), (8, []), (12, []), (12, [10]), (12, [5])])
@pytest.mark.parametrize("kind", ["llama", "llama critic", "qwen2", "mistral"])
def test_states_and_gradients_equal_the_whole_backbones(kind: str, alike: int, early: list[int]) -> None:
    """A faster pass that trains something slightly else; also where what rows have alike is passed once."""
    made = model(kind)
    ids = torch.cat([torch.arange(alike).expand(3, -1), IDS], 1)
    positions = torch.tensor([*early, *(POSITIONS + (POSITIONS // 9 + 1) * alike).tolist()])
    assert BackboneStates(made).selects
    backbone = made.base_model
    ours, theirs = (f(backbone, ids, positions) for f in (selected_states, whole_states))
    assert torch.allclose(ours, theirs, atol=2e-5)
    expected = gradients(whole_states(backbone, ids, positions), backbone)
    for name, grad in gradients(selected_states(backbone, ids, positions), backbone).items():
        largest = float(expected[name].abs().max())
        assert torch.allclose(grad, expected[name], rtol=1e-4, atol=1e-4 * largest), name


def test_other_models_are_called_whole() -> None:
    """A layer that only looks like Llama's, a window, or a short number type must not be taken apart."""
    assert not BackboneStates(model("gpt2")).selects
    assert not BackboneStates(model("mistral", sliding_window=4)).selects
    assert not BackboneStates(model("llama").to(torch.bfloat16)).selects


def test_a_pass_that_disagrees_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release of transformers that changes the layer would change the training without a word."""
    made = model("llama")
    layer = made.base_model.layers[0]
    forward = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *args, **kwargs: 1.5 * forward(*args, **kwargs))
    states = BackboneStates(made)
    assert not states.selects
    assert torch.equal(states(IDS, POSITIONS), whole_states(made.base_model, IDS, POSITIONS))


def test_frozen_layers_are_passed_once_a_batch() -> None:
    """Adapters on the last layer alone: every pass of an epoch went through the frozen layers again."""
    made = model("llama")
    made.requires_grad_(False)
    made.base_model.layers[2].requires_grad_(True)
    first, last, backbone = BackboneStates(made), made.base_model.layers[2], made.base_model
    other = BackboneStates(made)  # a critic that shares the trunk
    passed: list[int] = []
    handle = backbone.layers[0].mlp.register_forward_hook(lambda *_: passed.append(1))
    for states in (first, other, first):
        made.zero_grad()
        ours = states(IDS, POSITIONS)
        ours.square().sum().backward()
        assert last.mlp.up_proj.weight.grad.abs().sum() > 0
        torch.testing.assert_close(ours, whole_states(backbone, IDS, POSITIONS), atol=2e-5, rtol=1e-4)
        with torch.no_grad():
            last.mlp.up_proj.weight.mul_(1.1)
    assert len(passed) == 1 + 3  # once for the batch; the whole backbone each time
    first(IDS.clone(), POSITIONS)
    assert len(passed) == 1 + 3 + 1
    handle.remove()


PARTED = {
    "a number type": ("llama", {}, torch.bfloat16),
    "a family": ("qwen3", {}, torch.float32),
    "a family whose layers alternate, a window shorter than the text": (
        "gemma2", {"sliding_window": 3, "head_dim": 8, "layer_types": ["full_attention", "sliding_attention"] * 2,
                   "num_hidden_layers": 4}, torch.float32,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind, changes, number_type", PARTED.values(), ids=PARTED)
def test_frozen_layers_are_passed_once_in_every_family_and_number_type(
    kind: str, changes: dict[str, object], number_type: torch.dtype
) -> None:
    """Adapters on the last layers of a model in bfloat16, or of another family: each pass went through all layers."""
    made = model(kind, **changes).to(number_type)
    made.requires_grad_(False)
    made.base_model.layers[1].requires_grad_(True)
    states, backbone = BackboneStates(made), made.base_model
    assert not states.selects
    passed: list[int] = []
    handle = backbone.layers[0].mlp.register_forward_hook(lambda *_: passed.append(1))
    for _ in range(2):
        made.zero_grad()
        ours = states(IDS, POSITIONS)
        ours.float().square().sum().backward()
        assert backbone.layers[1].mlp.up_proj.weight.grad.abs().sum() > 0
        torch.testing.assert_close(ours, whole_states(backbone, IDS, POSITIONS))
        with torch.no_grad():
            backbone.layers[1].mlp.up_proj.weight.mul_(1.5)
    assert len(passed) == 1 + 2  # once for the batch; the whole backbone each time
    handle.remove()


def test_a_backbone_that_parts_do_not_make_up_is_called_whole() -> None:
    """Embeddings that are scaled on their way to the first layer would be scaled between the parts too."""
    made = model("qwen3")
    made.requires_grad_(False)
    backbone = made.base_model
    backbone.layers[1].requires_grad_(True)
    own = type(backbone).forward

    class Scaled(type(backbone)):  # type: ignore[misc]
        def forward(self, input_ids=None, inputs_embeds=None, **rest):  # type: ignore[no-untyped-def]
            embedded = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            return own(self, inputs_embeds=3 * embedded, **rest)

    backbone.__class__ = Scaled
    assert parted(backbone, 1) is None
    states = BackboneStates(made)
    assert torch.equal(states(IDS, POSITIONS), whole_states(backbone, IDS, POSITIONS))

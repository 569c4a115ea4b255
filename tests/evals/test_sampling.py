"""The token loop against transformers' own generation, and its independence of batches."""

from __future__ import annotations

import pytest
import torch
from ppo_world import EOS, PAD, make_policy, make_prompts, make_tokenizer
from tiny_models import random_model
from transformers import (
    GPT2LMHeadModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralForCausalLM,
    RwkvConfig,
    RwkvForCausalLM,
)

from evals.models.packed_weights import packed_weights
from evals.models.sampling import (
    Decoding,
    generate,
    sample_pairs,
    sample_responses,
    stop_token_ids,
)
from evals.models.token_loop import inverse_cdf
from evals.values.conversation import Response, user_prompt
from evals.values.errors import InputError


def sharp_policy(**changes: object) -> torch.nn.Module:
    """Weights so large that greedy choices have clear winners and responses end at different steps."""
    return make_policy(spread=0.6, **changes)


def ids_of(prompts: list, tokenizer: object) -> list[list[int]]:
    return [tokenizer(prompt.text)["input_ids"] for prompt in prompts]


def by_transformers(model: torch.nn.Module, ids: list[int], limit: int) -> list[int]:
    full = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=limit,
        do_sample=False,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    return full[0, len(ids) :].tolist()


def models() -> dict[str, torch.nn.Module]:
    sizes = {"max_position_embeddings": 64, "initializer_range": 0.4}
    grouped = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return {
        "llama": sharp_policy(),
        "gpt2": random_model(GPT2LMHeadModel, 20, 3, **sizes),
        "sliding window, grouped heads": random_model(
            MistralForCausalLM, 20, 3, sliding_window=4, initializer_range=0.6, **grouped
        ),
    }


@pytest.mark.parametrize("name", list(models()))
def test_greedy_equals_transformers(name: str) -> None:
    """A wrong position, mask or cache slot after padding or dropping rows gave other tokens."""
    model, tokenizer = models()[name], make_tokenizer()
    ids = ids_of(make_prompts(12, 1, 9), tokenizer)
    written = generate(model, ids, max_new_tokens=20, temperature=0.0, stop_ids=[EOS], pad_id=PAD)
    expected = [by_transformers(model, row, 20) for row in ids]
    assert [
        row[:n] for row, n in zip(written.tokens.tolist(), written.lengths.tolist(), strict=True)
    ] == expected
    assert written.finished.tolist() == [row[-1] == EOS for row in expected]


def test_rows_end_at_different_steps() -> None:
    """The comparison above is worth something only if rows leave the batch along the way."""
    ids = ids_of(make_prompts(12, 1, 9), make_tokenizer())
    written = generate(sharp_policy(), ids, max_new_tokens=20, temperature=0.0, stop_ids=[EOS, 7], pad_id=PAD)
    assert len(set(written.lengths.tolist())) >= 4
    beyond = torch.arange(20) >= written.lengths[:, None]
    assert bool((written.tokens[beyond] == PAD).all())


def test_rows_are_told_of_as_they_end() -> None:
    """Each once, as it is in the whole: what is told early is what is paid for."""
    model, tokenizer = sharp_policy(), make_tokenizer()
    ids, told = ids_of(make_prompts(), tokenizer), []
    settings = {"max_new_tokens": 8, "temperature": 0.0, "stop_ids": [EOS], "pad_id": PAD}
    whole = generate(model, ids, **settings, ended=lambda rows, part: told.append((rows, part)))
    assert sorted(row for rows, _ in told for row in rows) == list(range(len(ids))) and len(told) > 1
    for rows, part in told:
        assert torch.equal(part.tokens, whole.tokens[rows])
        assert torch.equal(part.lengths, whole.lengths[rows])
        assert torch.equal(part.finished, whole.finished[rows])


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize(("places", "limit"), [(1, 6), (4, 20), (7, 50), (8, 20)])
def test_waiting_rows_take_the_places_of_those_that_ended(name: str, places: int, limit: int) -> None:
    """A row that joins others had to lie at another place of the cache, with other columns masked; and what the
    cache forgets along the way must be what no row reads. Limits are longer than what the cache forgets at once.
    """
    model, tokenizer = models()[name], make_tokenizer()
    ids = ids_of(make_prompts(40, 1, 9), tokenizer)
    live: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, a, kwargs: live.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    settings = {"max_new_tokens": limit, "stop_ids": [EOS, 7], "pad_id": PAD}
    generate(model, ids[:2], **settings, temperature=0.0)  # a model's first call tries the loops
    live.clear()
    some = generate(model, ids, **settings, temperature=0.0, places=places)
    handle.remove()
    whole = generate(model, ids, **settings, temperature=0.0)
    assert torch.equal(some.tokens, whole.tokens) and torch.equal(some.lengths, whole.lengths)
    assert max(live) <= places
    if name != "gpt2" and places > 1:  # whose rows nearly all run to the limit together
        assert len(live) < 0.9 * chunked_steps(whole.lengths, ids, places)
    uniforms = torch.rand(40, limit, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    some, whole = (
        generate(model, ids, **settings, temperature=1.0, uniforms=uniforms, record=True, places=n)
        for n in (places, 0)
    )
    assert torch.equal(some.tokens, whole.tokens)
    torch.testing.assert_close(some.log_probs, whole.log_probs, atol=1e-4, rtol=1e-4)


def chunked_steps(lengths: torch.Tensor, ids: list[list[int]], places: int) -> int:
    """How many passes batches take that wait for their longest row."""
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    return sum(int(lengths[order[at : at + places]].max()) for at in range(0, len(order), places))


@pytest.mark.parametrize("name", list(models()))
@pytest.mark.parametrize("places", [0, 5])
def test_a_common_beginning_is_read_once(name: str, places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared system turn at another column in each row, or a row that begins after it, gave other tokens."""
    monkeypatch.setattr("evals.models.token_loop.WORTH_SHARING", 4)
    monkeypatch.setattr("evals.models.sampling.WORTH_SHARING", 4)
    model, tokenizer = models()[name], make_tokenizer()
    rests = [[11], *ids_of(make_prompts(15, 1, 9), tokenizer)]
    ids = [[5, 6, 7, 8, 9, 10, *rest] for rest in rests]
    read: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, a, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    settings = {"max_new_tokens": 16, "temperature": 0.0, "stop_ids": [EOS], "pad_id": PAD, "places": places}
    generate(model, ids[:2], **settings)  # a model's first call tries the loops
    read.clear()
    shared = generate(model, ids, **settings)
    once, read[:] = sum(read), []
    monkeypatch.setattr("evals.models.token_loop.WORTH_SHARING", 99)
    apart = generate(model, ids, **settings)
    handle.remove()
    assert torch.equal(shared.tokens, apart.tokens) and torch.equal(shared.lengths, apart.lengths)
    assert once <= sum(read) - 5 * len(ids) // 2


def test_the_head_reads_rows_that_lie_together() -> None:
    """A slice of the last column made its product a hundred times as slow in bfloat16 on a processor."""
    model, tokenizer = sharp_policy(), make_tokenizer()
    together: list[bool] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: together.append(inputs[0].is_contiguous()))
    settings = {"max_new_tokens": 2, "temperature": 0.0, "stop_ids": [EOS], "pad_id": PAD}
    generate(model, ids_of(make_prompts(6, 3, 9), tokenizer), **settings)
    handle.remove()
    assert together and all(together)


def test_packed_weights_write_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights packed before an update would go on writing after it; and a layer must be itself again afterwards."""
    monkeypatch.setattr("evals.models.packed_weights.LARGE", 1)
    model, tokenizer = sharp_policy(), make_tokenizer()
    ids = ids_of(make_prompts(12, 1, 9), tokenizer)
    settings = {"max_new_tokens": 20, "temperature": 0.0, "stop_ids": [EOS], "pad_id": PAD}
    for _ in range(2):
        with monkeypatch.context() as plain:
            plain.setattr("evals.models.sampling.WORTH_PACKING", 99)
            expected = generate(model, ids, **settings)
        assert torch.equal(generate(model, ids, **settings).tokens, expected.tokens)
        assert all("forward" not in vars(module) for module in model.modules())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
    with packed_weights(model):
        head = model.get_output_embeddings()
        x = torch.randn(3, head.in_features)
        assert "forward" in vars(head)
        with torch.inference_mode():
            torch.testing.assert_close(head(x), x @ head.weight.T, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_batch_size_and_order_change_nothing(temperature: float) -> None:
    """Scores of an evaluation moved with the batch size (lm-evaluation-harness issue 1645)."""
    model, tokenizer, prompts = sharp_policy(), make_tokenizer(), make_prompts(11, 1, 9)
    whole = sample_responses(model, tokenizer, prompts, Decoding(12, temperature, batch_size=64))
    single = sample_responses(model, tokenizer, prompts, Decoding(12, temperature, batch_size=1))
    assert whole == single
    if temperature == 0.0:
        backwards = sample_responses(model, tokenizer, prompts[::-1], Decoding(12, batch_size=3))
        assert backwards[::-1] == whole


def rounding_ties(model: torch.nn.Module) -> torch.nn.Module:
    """Every token's logit equals its neighbour's up to rounding, so that each choice is a near tie."""
    generator = torch.Generator().manual_seed(5)
    head = model.get_output_embeddings().weight
    with torch.no_grad():
        mixed = torch.randn(head.shape, generator=generator) * 2e-8
        head[1::2] = head[::2] * (1 + mixed[::2])
    return model


def test_rounding_decides_no_token() -> None:
    """Two tokens whose logits differ in the last bits swapped places when the batch size changed."""
    sizes = {"hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 3, "initializer_range": 0.5}
    gpt2 = random_model(GPT2LMHeadModel, 20, max_position_embeddings=64, **sizes)
    model, tokenizer = rounding_ties(gpt2), make_tokenizer()
    prompts = make_prompts(40, 1, 15)
    by_size = [
        sample_responses(model, tokenizer, order, Decoding(24, batch_size=size))
        for order, size in ((prompts, 1), (prompts, 7), (prompts[::-1], 40))
    ]
    assert by_size[0] == by_size[1] == by_size[2][::-1]
    assert len({response.text for response in by_size[0]}) > 10


def test_only_the_missing_samples_are_drawn() -> None:
    """A resumed run drew other samples than the run that was not killed."""
    model, tokenizer, prompts = make_policy(), make_tokenizer(), make_prompts(4)
    decoding = Decoding(6, temperature=1.0, samples=3, batch_size=5, seed=1)
    whole = sample_responses(model, tokenizer, prompts, decoding)
    batches: list[list[Response]] = []
    missing = [(prompts[3], 2), (prompts[0], 1)]
    rest = sample_pairs(model, tokenizer, missing, decoding, lambda done: batches.append(list(done)))
    assert rest == [whole[11], whole[1]]
    assert sorted(batches[0], key=lambda r: r.sample) == rest[::-1]


def test_samples_are_numbered_and_seeded() -> None:
    """Samples of a prompt came back under another prompt, or the same for every seed."""
    model, tokenizer, prompts = make_policy(), make_tokenizer(), make_prompts(3)
    seen: list[int] = []
    decoding = Decoding(6, temperature=1.0, samples=4, batch_size=5, seed=1)
    first = sample_responses(model, tokenizer, prompts, decoding, seen.append)
    assert [(r.prompt.id, r.sample) for r in first] == [(p.id, s) for p in prompts for s in range(4)]
    assert sum(seen) == 12
    assert first == sample_responses(model, tokenizer, prompts, decoding)
    assert first != sample_responses(model, tokenizer, prompts, Decoding(6, 1.0, 4, 5, seed=2))


def test_inverse_cdf_by_hand() -> None:
    """A draw on a boundary, or of a token of probability 0, was off by one."""
    probs = torch.tensor([[0.25, 0.0, 0.75]]).expand(5, 3)
    draws = torch.tensor([0.0, 0.2499, 0.25, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert inverse_cdf(probs, draws).tolist() == [0, 0, 2, 2, 2]


def test_sampled_tokens_follow_the_model() -> None:
    """Temperature was ignored, or applied to the log-probabilities only."""
    model, tokenizer = make_policy(spread=0.3), make_tokenizer()
    ids = tokenizer("w1 w2 w3")["input_ids"]
    rows = 4000
    uniforms = torch.rand(rows, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    written = generate(
        model,
        [ids] * rows,
        max_new_tokens=1,
        temperature=0.7,
        stop_ids=[EOS],
        pad_id=PAD,
        uniforms=uniforms,
        record=True,
    )
    with torch.no_grad():
        expected = (model(torch.tensor([ids])).logits[0, -1] / 0.7).softmax(-1)
    seen = torch.bincount(written.tokens[:, 0], minlength=20) / rows
    assert torch.allclose(seen, expected, atol=4 * (0.25 / rows) ** 0.5)
    assert torch.allclose(written.log_probs[:, 0], expected.log()[written.tokens[:, 0]], atol=1e-5)
    entropy = -(expected * expected.log()).sum()
    assert torch.allclose(written.entropy[:, 0], entropy.expand(rows), atol=1e-5)


def test_unfinished_responses_are_marked() -> None:
    """A response that the limit cut passed for a finished one."""
    ids = ids_of(make_prompts(20), make_tokenizer())
    uniforms = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    written = generate(
        make_policy(),
        ids,
        max_new_tokens=3,
        temperature=1.0,
        stop_ids=[EOS, 5, 6],
        pad_id=PAD,
        uniforms=uniforms,
    )
    stopped = torch.isin(written.tokens, torch.tensor([EOS, 5, 6])).any(1)
    assert written.finished.tolist() == stopped.tolist()
    assert 0 < int(stopped.sum()) < 20
    assert bool((written.lengths[~stopped] == 3).all())


def test_stop_tokens_of_the_generation_settings_count() -> None:
    """A chat model that ends its turn with a second EOS ran on to the limit."""
    model = make_policy()
    model.generation_config.eos_token_id = [EOS, 9]
    assert stop_token_ids(model, make_tokenizer()) == [EOS, 9]


def test_training_mode_is_put_back_and_dropout_is_off() -> None:
    """Sampling with dropout gives log-probabilities of no policy."""
    model, tokenizer, prompts = make_policy(spread=0.6), make_tokenizer(), make_prompts(4)
    quiet = sample_responses(model, tokenizer, prompts, Decoding(8))
    model.train()
    assert sample_responses(model, tokenizer, prompts, Decoding(8)) == quiet
    assert model.training


def test_prompt_without_room_is_refused() -> None:
    """A prompt that leaves no room overran the positions, or was cut without a word."""
    long = user_prompt("long", " ".join(["w1"] * 60))
    with pytest.raises(InputError, match=r"'long' has 60 tokens"):
        sample_responses(make_policy(), make_tokenizer(), [long], Decoding(8))


@pytest.mark.parametrize("changes", [{"max_new_tokens": 0}, {"samples": 0}, {"temperature": -1.0}])
def test_decoding_refuses_nonsense(changes: dict) -> None:
    """A limit of 0 returned empty texts that were then graded."""
    with pytest.raises(InputError, match=next(iter(changes))):
        Decoding(**({"max_new_tokens": 4} | changes))


def test_no_prompts_give_no_responses() -> None:
    """An empty list of prompts ended in an error about max() of nothing."""
    assert sample_responses(make_policy(), make_tokenizer(), [], Decoding(4)) == []


def recurrent_models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(5)
    sizes = {
        "vocab_size": 20,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    mamba2 = {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}
    attention = {"intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    return {
        "mamba": MambaForCausalLM(MambaConfig(state_size=8, **sizes)),
        "mamba2": Mamba2ForCausalLM(Mamba2Config(**mamba2, **sizes)),
        "rwkv": RwkvForCausalLM(RwkvConfig(attention_hidden_size=32, **sizes)),
        "convolution and attention": Lfm2ForCausalLM(
            Lfm2Config(layer_types=["conv", "full_attention"], **attention, **sizes)
        ),
    }


@pytest.mark.parametrize("name", list(recurrent_models()))
def test_states_that_no_key_value_cache_holds(name: str) -> None:
    """Mamba and RWKV ignored the cache: from the second token on they answered to that token alone."""
    model, tokenizer = recurrent_models()[name].eval(), make_tokenizer()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(4 if weights.dim() > 1 else 1)
    ids = ids_of(make_prompts(6, 1, 9), tokenizer)
    written = generate(model, ids, max_new_tokens=8, temperature=0.0, stop_ids=[EOS, 7], pad_id=PAD)
    for row, prompt in enumerate(ids):
        text = [*prompt, *written.tokens[row, : written.lengths[row]].tolist()]
        for place in range(len(prompt), len(text)):
            logits = model(input_ids=torch.tensor([text[:place]])).logits[0, -1]
            assert logits[text[place]] >= logits.max() - 1e-3 * logits.abs().max()
    drawn = generate(
        model,
        ids,
        max_new_tokens=4,
        temperature=1.0,
        stop_ids=[EOS],
        pad_id=PAD,
        uniforms=torch.rand(6, 4),
        record=True,
    )
    first = [model(input_ids=torch.tensor([row])).logits[0, -1].log_softmax(-1) for row in ids]
    expected = torch.stack([of_row[token] for of_row, token in zip(first, drawn.tokens[:, 0], strict=True)])
    torch.testing.assert_close(drawn.log_probs[:, 0], expected, atol=1e-4, rtol=0)


def test_a_model_that_no_loop_continues_is_refused() -> None:
    """A model whose first token of a call is another than that of its whole text answered with garbage."""

    class Forgetful(type(sharp_policy())):  # type: ignore[misc]
        def forward(self, input_ids: torch.Tensor, **rest: object) -> object:
            (
                rest.pop("past_key_values", None),
                rest.pop("position_ids", None),
                rest.pop("attention_mask", None),
            )
            return super().forward(
                input_ids=input_ids[:, -1:] if rest.get("use_cache") else input_ids, **rest
            )

    model = sharp_policy()
    model.__class__ = Forgetful
    with pytest.raises(InputError, match="other tokens one by one than in one pass"):
        generate(model, [[3, 4, 5, 6]], max_new_tokens=5, temperature=0.0, stop_ids=[EOS], pad_id=PAD)

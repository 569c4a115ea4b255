"""Models as they come: every stage, two PPO updates and a saved policy on a tiny model of each of eight families."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, QWEN_3, Family, save_family
from ppo_world import TextReward, distinct_words, rows_of
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.models.chat import ResponseEncoder, turn_end_id
from evals.models.load import load_causal_lm, load_reward_model, load_tokenizer, prompt_token_ids, save_model
from evals.models.sampling import Decoding, generate, sample_responses, stop_token_ids
from evals.values.conversation import Comparison, Demonstration, Message, Prompt
from trainers.models.adapters import add_adapter, save_plain
from trainers.models.model_config import ModelConfig, Precision
from trainers.models.padding import give_padding, rows_of_embedding, stops_of, with_padding
from trainers.models.sizes import given_tokenizer, new_reward_model
from trainers.rl.ppo import Models, PPOConfig, train_ppo
from trainers.rl.token_batch import LanguageModelPass, micro_batches
from trainers.supervised.reward_model import train_reward_model
from trainers.supervised.reward_model_config import RewardModelConfig
from trainers.supervised.sft import demonstration_rows, sft
from trainers.supervised.sft_config import SFTConfig

QUESTION, SYSTEM = Message("user", "Name a river."), Message("system", "Be brief.")
PROMPTS = [
    Prompt("plain", (QUESTION,)),
    Prompt("system", (SYSTEM, QUESTION)),
    Prompt("turns", (QUESTION, Message("assistant", "The Loire."), Message("user", "Another?"))),
    Prompt("twice", (QUESTION, Message("user", "In France."))),
]
ANSWER = "The Seine."


@dataclass
class Trained:
    """A family's models on the way, in the folders that each stage wrote, and the policy as PPO left it."""

    family: Family
    base: Path
    sft: Path
    ppo: Path
    policy: Any
    tokenizer: Any

    @property
    def end(self) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(self.family.end))


@pytest.fixture(scope="module", params=FAMILIES, ids=str)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The stages of a run on a given model, by the functions that a run calls."""
    family, out = FAMILIES[request.param], tmp_path_factory.mktemp("family")
    base, tuned, ppo = (out / name for name in ("base", "sft", "ppo"))
    given = save_family(family, out / "given")
    keys = ModelConfig(path=str(given), chat_template=dict(family.keys))
    model, tokenizer = load_causal_lm(given), given_tokenizer(keys)
    give_padding(tokenizer, rows_of_embedding(model), stops_of(model))
    save_model(with_padding(model, tokenizer), tokenizer, base)
    demonstrations = [Demonstration(prompt, ANSWER) for prompt in PROMPTS]
    settings = SFTConfig(epochs=2, batch_size=4, learning_rate=3e-3, max_length=320)
    sft(load_causal_lm(base), load_tokenizer(base), demonstrations, settings, 0, tuned)
    tokenizer = load_tokenizer(tuned)
    train_reward_model(
        new_reward_model(base, tokenizer, Precision.FLOAT32, 0),
        tokenizer,
        [Comparison(prompt, ANSWER, "No.") for prompt in PROMPTS],
        RewardModelConfig(batch_size=4, epochs=1, max_length=320),
        0,
        out / "reward_model",
    )
    policy = load_causal_lm(tuned)
    models = Models(policy, load_reward_model(out / "reward_model"), copy.deepcopy(policy), tokenizer)
    config = PPOConfig(
        updates=2, batch_size=4, micro_batch_size=2, max_new_tokens=8, epochs=1, checkpoints=1,
        learning_rate=1e-3, critic_learning_rate=1e-3,
    )  # fmt: skip
    train_ppo(models, PROMPTS, TextReward(distinct_words), config, ppo)
    return Trained(family, base, tuned, ppo, policy, tokenizer)


def test_a_prompt_begins_once_and_has_its_system_text(trained: Trained) -> None:
    """BOS stood twice where template and tokenizer both wrote it; a template that refuses a system turn ended a run."""
    tokenizer = trained.tokenizer
    for prompt in PROMPTS:
        ids = prompt_token_ids(tokenizer, prompt.messages)
        if trained.family.adds_bos:
            assert ids[0] == tokenizer.bos_token_id and ids.count(ids[0]) == 1
        text = tokenizer.decode(ids)
        assert all(text.count(message.content) >= 1 for message in prompt.messages)
        assert ids[-1] != trained.end
        assert not trained.family.keys or text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_what_ends_a_turn_is_learnt(trained: Trained) -> None:
    """A PAD that ends turns was masked away with the padding, so that a model never learnt to stop."""
    family, tokenizer = trained.family, trained.tokenizer
    model = load_causal_lm(trained.sft)
    assert turn_end_id(tokenizer) == trained.end
    stops = {int(tokenizer.convert_tokens_to_ids(t)) for t in (*family.stops, family.end, family.eos)}
    assert set(stop_token_ids(model, tokenizer)) == stops
    assert tokenizer.pad_token_id not in stops
    assert model.config.pad_token_id == tokenizer.pad_token_id < rows_of_embedding(model)
    (row,) = demonstration_rows(tokenizer, [Demonstration(PROMPTS[0], ANSWER)])
    assert row["input_ids"][-1] == trained.end and row["completion_mask"][-1] == 1
    before, after = (
        load_causal_lm(folder)(torch.tensor([row["input_ids"]])).logits[0, -2].log_softmax(-1)[trained.end]
        for folder in (trained.base, trained.sft)
    )
    assert after > before


def test_a_policy_can_finish(trained: Trained) -> None:
    """The token that ends its turn did not stop a response, or was part of its text."""
    policy, tokenizer = copy.deepcopy(trained.policy), trained.tokenizer

    def eager(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits + 1e4 * torch.nn.functional.one_hot(torch.tensor(trained.end), logits.shape[-1])

    policy.get_output_embeddings().register_forward_hook(eager)
    responses = sample_responses(policy, tokenizer, PROMPTS, Decoding(8, batch_size=4))
    assert [(r.finished, r.text) for r in responses] == [(True, "")] * len(PROMPTS)


def test_the_log_probs_of_sampling_are_those_of_training(trained: Trained) -> None:
    """A cache that forgot a window, a position or a mask: the ratio of the first pass was not 1."""
    policy, tokenizer = trained.policy, trained.tokenizer
    ids = [prompt_token_ids(tokenizer, prompt.messages) for prompt in PROMPTS]
    written = generate(
        policy,
        ids,
        max_new_tokens=8,
        temperature=1.0,
        stop_ids=stop_token_ids(policy, tokenizer),
        pad_id=int(tokenizer.pad_token_id),
        uniforms=torch.rand(len(ids), 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
        record=True,
    )
    (batch,) = micro_batches(ids, written.tokens, written.lengths, range(4), 4, int(tokenizer.pad_token_id))
    with torch.no_grad():
        trained_pass = LanguageModelPass(policy, 1.0).log_probs(batch)
    for place, row in enumerate(batch.rows.tolist()):
        length = int(written.lengths[row])
        tokens = written.tokens[row, :length]
        whole = torch.cat([torch.tensor(ids[row]), tokens])
        with torch.no_grad():
            logits = policy(whole[None]).logits[0, len(ids[row]) - 1 : -1]
        plain = logits.float().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        assert torch.allclose(written.log_probs[row, :length], plain, atol=1e-4)
        assert torch.allclose(trained_pass[place, :length], plain, atol=1e-4)


def test_the_policy_is_a_model_of_its_family(trained: Trained) -> None:
    """A checkpoint lost its template, its stops, its tie, rows of its embedding, or was another model when loaded."""
    rows = rows_of(trained.ppo)
    assert len(rows) == 2 and all(row["reward/unscored_share"] == 0 for row in rows)
    assert abs(rows[0]["policy/ratio"] - 1.0) < 1e-4 and abs(rows[0]["objective/kl"]) < 1e-3
    folder = trained.ppo / "checkpoint-2"
    loaded, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert type(loaded) is trained.family.kind
    ids = torch.tensor([prompt_token_ids(trained.tokenizer, PROMPTS[2].messages)])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, trained.policy(ids).logits)
        assert not torch.equal(loaded(ids).logits, load_causal_lm(trained.sft)(ids).logits)
    written = tokenizer.chat_template
    assert written == trained.family.template or (trained.family.keys and written.endswith(QWEN_3))
    assert prompt_token_ids(tokenizer, PROMPTS[2].messages) == ids[0].tolist()
    given, saved = (load_file(f / "model.safetensors") for f in (trained.base.parent / "given", folder))
    assert {n: w.shape for n, w in given.items()} == {n: w.shape for n, w in saved.items()}
    stops = [int(tokenizer.convert_tokens_to_ids(t)) for t in trained.family.stops]
    assert not stops or loaded.generation_config.eos_token_id == stops
    encoded = ResponseEncoder(tokenizer)([ANSWER])[0]
    assert encoded == ResponseEncoder(trained.tokenizer)([ANSWER])[0]


def test_adapters_fold_into_the_model(trained: Trained, tmp_path: Path) -> None:
    """A saved policy had lost what its adapter learnt, or the tie of its embedding, in one family's layers."""
    policy = add_adapter(load_causal_lm(trained.sft), 2)
    with torch.no_grad():
        for name, weights in policy.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    save_plain(policy, trained.tokenizer, tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([prompt_token_ids(trained.tokenizer, PROMPTS[2].messages)])
    with torch.no_grad():
        found, expected = loaded(ids).logits, policy(ids).logits
        assert not torch.allclose(found, load_causal_lm(trained.sft)(ids).logits, atol=1e-2)
    assert torch.allclose(found, expected, atol=1e-4)

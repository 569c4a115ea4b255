"""The formulas of PPO here against TRL 1.12's, on the tensors of one of its own updates.

    python benchmarks/ppo_formulas_vs_trl.py

TRL trains one update of 4 epochs, at a learning rate that moves the policy out of the clip range, in a
virtual environment of its own (as in ppo_vs_trl.py), once on responses that end early and once on ones
that run to the limit. Its logits, values, scores and results are read where it computes them. From the same
logits, values and scores `trainers.rl.formulas` computes log-probabilities, KL, rewards, advantages, returns,
whitened advantages and every epoch's losses. Prints the largest difference of each, relative to the largest
value; ends with exit code 1 where one is above 1e-5.

One thing differs by design and is set aside: TRL pays the score one step after EOS where there is room, on
padding (huggingface/trl issue 3750). Its rewards and advantages are those of an episode that is one step
longer; they are compared on that episode.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
import ppo_vs_trl as small  # noqa: E402  its peer environment, models and prompts

LARGEST = 1e-5
BATCH, EPOCHS, LEARNING_RATE, TEMPERATURE, PENALTY = 16, 4, 3e-3, 0.7, 1.0
KL_COEF, GAMMA, LAM, CLIP = 0.05, 0.99, 0.95, 0.2
NEW_TOKENS = 40
LOCALS = ("responses", "logprobs", "ref_logprobs", "values", "rewards", "advantages", "returns", "kl")
STATS = ("pg_loss_stats", "vf_loss_stats", "pg_clipfrac_stats", "vf_clipfrac_stats")


def main() -> int:
    options = _options()
    if options.folder:
        record(Path(options.folder))
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        peer = small.make_peer(Path(folder) / "peer")
        for case in small.EOS_LOGIT:
            models = Path(folder) / case
            small.make_models(models, case)
            subprocess.run([peer, __file__, "--folder", str(models)], check=True, stdout=subprocess.DEVNULL)
            found = differences(models / "update.safetensors")
            worst = max(worst, *found.values())
            print(f"{case}: " + ", ".join(f"{name} {value:.1e}" for name, value in found.items()))
    print(f"{'held' if worst <= LARGEST else 'NOT held'}: no difference above {LARGEST:g}")
    return 0 if worst <= LARGEST else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- TRL's side ------------------------------------------------------------------------------


def record(folder: Path) -> None:
    """One update of TRL's; its tensors go to update.safetensors. [epoch, batch, time, ...] where there are epochs."""
    import numpy as np
    import torch
    from datasets import Dataset
    from safetensors.torch import save_file
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    tensors: dict[str, Any] = {}
    passes: list[tuple[Any, Any]] = []
    generate, forward, get_reward = ppo_trainer.batch_generation, ppo_trainer.forward, ppo_trainer.get_reward
    answered = slice(small.PROMPT_TOKENS - 1, -1)

    def batch_generation(*args: Any) -> Any:
        output = generate(*args)
        tensors["logits"] = output[1].clone()  # divided by the temperature already
        return output

    def recorded_forward(*args: Any) -> Any:
        output = forward(*args)
        if torch.is_grad_enabled():
            language, values = output
            passes.append(
                (language.logits[:, answered].detach().clone(), values[:, answered, 0].detach().clone())
            )
        else:
            tensors["reference_logits"] = output.logits[:, answered].clone()
        return output

    def recorded_reward(*args: Any) -> Any:
        output = get_reward(*args)
        tensors["scores"] = output[1].clone()  # the reward model comes after the critic
        return output

    class Reader(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            frame = sys._getframe()
            while frame.f_code.co_name != "train" or "pg_loss_stats" not in frame.f_locals:
                assert frame.f_back is not None
                frame = frame.f_back
            tensors.update({name: frame.f_locals[name].clone() for name in (*LOCALS, *STATS)})
            tensors["lengths"] = frame.f_locals["sequence_lengths"] + 1

    ppo_trainer.batch_generation, ppo_trainer.forward = batch_generation, recorded_forward
    ppo_trainer.get_reward = recorded_reward
    np.random.permutation = np.arange  # rows stay in their order
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy", padding_side="left")
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder / "policy") for _ in range(2))
    with torch.no_grad():  # so that there is a KL
        reference.lm_head.weight += 0.05 * torch.randn_like(reference.lm_head.weight)
    reward, critic = (
        AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1) for _ in range(2)
    )
    ids = [tokenizer(" ".join(words))["input_ids"] for words in small.prompt_words()]
    config = PPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=BATCH,
        num_mini_batches=1,
        num_ppo_epochs=EPOCHS,
        total_episodes=BATCH,
        local_rollout_forward_batch_size=BATCH,
        response_length=NEW_TOKENS,
        stop_token="eos",
        temperature=TEMPERATURE,
        missing_eos_penalty=PENALTY,
        kl_coef=KL_COEF,
        gamma=GAMMA,
        lam=LAM,
        cliprange=CLIP,
        cliprange_value=CLIP,
        learning_rate=LEARNING_RATE,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        num_sample_generations=0,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=critic,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        callbacks=[Reader()],
    ).train()
    tensors["new_logits"] = torch.stack([logits for logits, _ in passes])
    tensors["new_values"] = torch.stack([values for _, values in passes])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "update.safetensors")


# --- this side -------------------------------------------------------------------------------


def differences(path: Path) -> dict[str, float]:
    """{formula: largest difference, relative to the largest value}."""
    import torch
    from safetensors.torch import load_file
    from torch import Tensor

    from trainers.rl import formulas

    trl = load_file(path)
    responses, steps = trl["responses"], torch.arange(trl["responses"].shape[1])
    mask = steps < trl["lengths"][:, None]
    longer = steps < trl["lengths"][:, None] + 1  # TRL's episode
    finished = (responses.eq(small.EOS) & mask).any(1)

    def log_probs(logits: Tensor, temperature: float) -> Tensor:
        return formulas.token_log_probs(logits.flatten(0, 1), responses.flatten(), temperature).view_as(
            responses
        )

    def apart(ours: Tensor, theirs: Tensor, where: Tensor | None = None) -> float:
        where = torch.ones_like(ours, dtype=torch.bool) if where is None else where
        return float((ours - theirs)[where].abs().max() / theirs[where].abs().max().clamp(min=1e-12))

    old, reference = log_probs(trl["logits"], 1.0), log_probs(trl["reference_logits"], TEMPERATURE)
    kl = formulas.kl_k1(old, reference)
    scores = formulas.bounded_scores(trl["scores"], finished, None, PENALTY)
    rewards = formulas.token_rewards(torch.where(mask, kl, 0.0), scores, longer, KL_COEF)
    advantages, returns = formulas.gae(rewards, trl["values"], longer, GAMMA, LAM)
    whitened = formulas.whiten(advantages, mask)
    found = {
        "log-probabilities": apart(old, trl["logprobs"], mask),
        "KL": apart(kl, trl["kl"], mask),
        "rewards": apart(rewards, trl["rewards"], longer),
        "returns": apart(returns, trl["returns"], longer),
        "whitened advantages": apart(whitened, trl["advantages"], mask),
    }
    losses: dict[str, list[Tensor]] = {name: [] for name in STATS}
    for logits, values in zip(trl["new_logits"], trl["new_values"], strict=True):
        new = log_probs(logits, TEMPERATURE)
        policy = formulas.policy_loss(new, old, whitened, mask, CLIP)
        value, clipped = formulas.value_loss(values, trl["values"], returns, longer, CLIP)
        for name, total, weights in zip(
            STATS, (policy.total, value, policy.clipped, clipped), (mask, longer) * 2, strict=True
        ):
            losses[name].append(total / weights.sum())
    for name, ours in losses.items():
        found[name.removesuffix("_stats")] = apart(torch.stack(ours), trl[name].flatten())
    assert float(trl["pg_clipfrac_stats"].max()) > 0.05  # else the clipped half of the losses is not seen
    return found


if __name__ == "__main__":
    sys.exit(main())

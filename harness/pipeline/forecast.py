"""How long a run of a given model will take, and the memory of its training: said before anything is trained.

What the stages do is counted from the data and the settings, in tokens that pass through the model; what a token
takes is measured, on this machine as it is at that moment. Graders and judges that are other models are not counted,
and every response is taken to reach its limit, so that an evaluation of short answers ends earlier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.kept_logits import last
from evals.models.load import load_causal_lm, load_tokenizer, prompt_token_ids
from evals.models.sampling import generate
from evals.suites import Suite
from evals.values.conversation import Message, Prompt
from harness.keys.methods import Data, Method, chosen, reward_kinds
from harness.keys.run import RunConfig
from harness.keys.writer import MODEL
from harness.pipeline.context import Context
from harness.pipeline.judging import all_suites
from harness.pipeline.language_models import comparisons_for, demonstrations_for
from harness.pipeline.writer import orders_for
from harness.runtime.console import duration
from harness.storage.store import Artifact
from harness.worlds.folder import HELPFUL, SAFETY, WorldFolder
from trainers.models.adapters import add_adapter
from trainers.rl.memory import GIB, run_memory
from trainers.rl.recipe import recipe_of

ROWS, LENGTH, WRITTEN = 8, 64, 4  # of what is measured: texts, their tokens, and tokens written after each
COUNTED = 200  # texts of a part whose lengths are taken for all of it


@dataclass(frozen=True)
class Speed:
    """Seconds of the given model: of a token in a pass over whole texts, and of a token of `rows` texts written."""

    token: float
    step: float
    rows: int


@dataclass(frozen=True)
class Load:
    """What a stage does: tokens of passes without learning, of passes that learn, and tokens that are written."""

    passed: float = 0.0
    learned: float = 0.0
    written: float = 0.0

    def seconds(self, speed: Speed, learning: float) -> float:
        """A pass that learns takes `learning` times one that does not."""
        tokens = self.passed + learning * self.learned
        return tokens * speed.token + self.written / speed.rows * speed.step

    def __add__(self, other: Load) -> Load:
        return Load(self.passed + other.passed, self.learned + other.learned, self.written + other.written)

    def __rmul__(self, times: float) -> Load:
        return Load(times * self.passed, times * self.learned, times * self.written)


def learning_share(lora_rank: int, lora_layers: int, layers: int, checkpointing: bool) -> float:
    """How many passes without learning one with it takes: back through the layers that have something to learn.

    A pass back costs one for the gradients of the states, and one more for those of the weights themselves.
    """
    depth = min(1.0, lora_layers / layers) if lora_rank and lora_layers else 1.0
    return 1.0 + depth * ((1.0 if lora_rank else 2.0) + (1.0 if checkpointing else 0.0))


@dataclass(frozen=True)
class Amounts:
    """(texts, mean tokens of one) of each part of the data."""

    demonstrations: dict[Data, tuple[int, float]]
    comparisons: dict[Data, tuple[int, float]]  # tokens of one of the two conversations
    prompts: dict[str, tuple[int, float]]  # by HELPFUL and SAFETY
    asked: tuple[int, float]  # of all suites
    orders: tuple[int, float] = (0, 0.0)  # requests for completions, where the run's own model writes them


def work_of(config: RunConfig, amounts: Amounts, methods: Sequence[Method]) -> dict[str, Load]:
    """{stages: what they do} of a run of `methods`."""
    sft = [_fine_tuning(config, amounts, kind) for kind in amounts.demonstrations]
    rewards = [
        Load(learned=2 * config.reward_model.epochs * n * min(tokens, config.reward_model.max_length))
        for n, tokens in amounts.comparisons.values()
    ]
    learning = [m for m in methods if m.is_ppo]
    models = len({m.sft for m in methods}) + len(learning) * len(config.ppo.save_points)
    limit = config.evaluation.max_new_tokens
    return {
        "completions": _completions(config, amounts),
        "SFT": sum(sft, Load()),
        "reward models": sum(rewards, Load()),
        config.algorithm.value.upper(): sum((_reinforcement(config, amounts, m) for m in learning), Load()),
        "evaluation": models * _answers(*amounts.asked, limit),
    }


def _answers(prompts: float, tokens: float, limit: int) -> Load:
    return Load(passed=prompts * tokens, written=prompts * limit)


def _fine_tuning(config: RunConfig, amounts: Amounts, kind: Data) -> Load:
    """Of the rules' demonstrations those too that are yet to be written: an ideal one a safety prompt."""
    n, tokens = amounts.demonstrations[kind]
    learned = n * min(tokens, config.sft.max_length)
    if kind is Data.RBR and SAFETY in amounts.prompts:
        prompts, asked = amounts.prompts[SAFETY]
        learned += min(prompts, config.writer.prompts) * (asked + config.writer.max_new_tokens)
    return Load(learned=config.sft.epochs * learned)


def _completions(config: RunConfig, amounts: Amounts) -> Load:
    """Those that the run's own model samples, or writes to order, each once; none where the data bring them."""
    if config.data.completions:
        return Load()
    if config.writer.kind is not None:
        return _answers(*amounts.orders, config.writer.max_new_tokens)
    n, tokens = amounts.prompts.get(SAFETY, (0, 0.0))
    return _answers(
        min(n, config.writer.prompts) * config.writer.samples, tokens, config.writer.max_new_tokens
    )


def _reinforcement(config: RunConfig, amounts: Amounts, method: Method) -> Load:
    """Responses; a pass each of reference, reward model and critic; the epochs of policy and critic; and the looks."""
    ppo, recipe = config.ppo, recipe_of(config.algorithm, config)
    has_critic, epochs = recipe.has_critic, recipe.epochs or ppo.epochs
    parts = [HELPFUL, SAFETY] if method.safety_prompts else [HELPFUL]
    rows = [amounts.prompts[part] for part in parts if part in amounts.prompts]
    tokens = sum(n * mean for n, mean in rows) / max(1, sum(n for n, _ in rows))
    whole, learners = tokens + ppo.max_new_tokens, 2 if has_critic and not ppo.shared_trunk else 1
    one = Load(passed=(2 + has_critic) * whole, learned=epochs * learners * whole)
    looked = min(ppo.monitor_prompts, 2 * config.data.held_out)
    looks = ppo.updates // ppo.monitor_every * looked if ppo.monitor_every else 0
    responses = ppo.updates * ppo.batch_size
    return responses * one + _answers(responses + looks, tokens, ppo.max_new_tokens)


def forecast(context: Context, data: Artifact, base: Artifact) -> str:
    """One line: the time of the stages that are ahead, and what the training of a policy needs."""
    config = context.config
    model, tokenizer = load_causal_lm(base.path, config.model.precision.dtype), load_tokenizer(base.path)
    suites = all_suites(context, data)
    amounts = amounts_of(data, tokenizer, suites, chosen(config.methods))
    amounts = replace(amounts, orders=_orders(context, data, tokenizer))
    speed = measured(model, min(config.ppo.batch_size, config.evaluation.batch_size))
    shape, keys = model.config.get_text_config(), config.model
    learning = learning_share(
        keys.lora_rank, keys.lora_layers, shape.num_hidden_layers, config.ppo.gradient_checkpointing
    )
    work = work_of(config, amounts, chosen(config.methods))
    seconds = {stage: of.seconds(speed, learning) for stage, of in work.items()}
    parts = ", ".join(f"{stage} {duration(took)}" for stage, took in seconds.items() if took >= 1)
    memory = _memory(config, model, data, tokenizer)
    return (
        f"forecast: {duration(sum(seconds.values()))} at this machine's present speed, less what is at hand "
        f"({parts}; without other models' grades and judgements); {memory}"
    )


def _orders(context: Context, data: Artifact, tokenizer: PreTrainedTokenizerBase) -> tuple[int, float]:
    """(requests, mean tokens of one) of the completions that the run's own model writes."""
    keys = context.config.writer
    if keys.kind != MODEL or keys.path is not None:
        return 0, 0.0
    prompts = [p for p in _prompts(data, SAFETY) if p.response_type in context.rulebook.response_types]
    orders = orders_for(context, prompts[: keys.prompts])
    asked = [[Message("user", order.request)] for order in orders[:COUNTED]]
    return len(orders), fmean(len(prompt_token_ids(tokenizer, turns)) for turns in asked) if asked else 0.0


def _memory(
    config: RunConfig, model: PreTrainedModel, data: Artifact, tokenizer: PreTrainedTokenizerBase
) -> str:
    policy = add_adapter(model, config.model.lora_rank, config.seed, config.model.lora_layers)
    prompts = _prompts(data, SAFETY)[:COUNTED] + _prompts(data, HELPFUL)[:COUNTED]
    ids = [prompt_token_ids(tokenizer, prompt.messages) for prompt in prompts] or [[0]]
    has_critic = recipe_of(config.algorithm, config).has_critic
    estimate = run_memory(policy, ids, config.ppo, has_critic)
    return f"{config.algorithm.value} {estimate.total / GIB:.1f} GiB"


def measured(model: PreTrainedModel, rows: int) -> Speed:
    """A pass over ROWS texts, and a few tokens written after `rows` short ones; each once to warm up, then timed."""
    ids = torch.arange(ROWS * LENGTH, device=model.device).reshape(ROWS, LENGTH) % model.config.vocab_size

    def one_pass() -> object:
        with torch.inference_mode():
            return model(input_ids=ids, logits_to_keep=last(1, ids.device)).logits.sum().item()

    def write(tokens: int) -> Callable[[], object]:
        prompts = [[i % model.config.vocab_size for i in range(8)]] * rows
        return lambda: generate(
            model, prompts, max_new_tokens=tokens, temperature=0.0, stop_ids=[], pad_id=0
        ).lengths.sum().item()  # fmt: skip

    few, more = _seconds(write(1)), _seconds(write(1 + WRITTEN))
    return Speed(_seconds(one_pass) / ids.numel(), max(0.0, more - few) / WRITTEN, rows)


def _seconds(act: Callable[[], object]) -> float:
    act()
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def amounts_of(
    data: Artifact, tokenizer: PreTrainedTokenizerBase, suites: Sequence[Suite], methods: Sequence[Method]
) -> Amounts:
    """Of what the methods learn from, as the data have it."""

    def counted(texts: Sequence[tuple[Prompt, str]]) -> tuple[int, float]:
        lengths = [
            len(prompt_token_ids(tokenizer, prompt.messages)) + len(tokenizer(text).input_ids)
            for prompt, text in texts[:COUNTED]
        ]
        return len(texts), fmean(lengths) if lengths else 0.0

    demonstrations = {kind: demonstrations_for(data, kind, None) for kind in {m.sft for m in methods}}
    return Amounts(
        {kind: counted([(d.prompt, d.text) for d in rows]) for kind, rows in demonstrations.items()},
        {
            kind: counted([(c.prompt, c.chosen) for c in comparisons_for(data, kind)])
            for kind in reward_kinds(methods)
        },
        {
            part: counted([(p, "") for p in rows])
            for part in (HELPFUL, SAFETY)
            if (rows := _prompts(data, part))
        },
        counted([(prompt, "") for suite in suites for prompt in suite.prompts]),
    )


def _prompts(data: Artifact, part: str) -> list[Prompt]:
    folder = WorldFolder(data.path)
    return folder.prompts(part) if folder.has(f"prompts_{part}") else []

"""The way from an SFT model to what its reward asks for, and how much of it a training went.

In the objective itself, J = E[r] - beta KL: from the SFT model's, where KL is 0, to the most that any policy reaches,
beta log E_ref[exp(r / beta)]. On training prompts it says whether learning converged, on evaluation prompts whether
it carries over. Both models write at the training's temperature, as many responses to the same prompts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evals.models.likelihood import response_log_probs
from evals.models.load import load_causal_lm, load_tokenizer
from evals.models.sampling import Decoding, sample_responses
from evals.suites import Suite
from evals.values.conversation import Prompt, Response
from evals.values.jsonl_rows import write_jsonl
from harness.keys.methods import Method
from harness.pipeline.context import Context
from harness.pipeline.judging import Reporter
from harness.pipeline.reinforcement import checkpoints_of
from harness.pipeline.reward import reward_for
from harness.pipeline.reward_model_term import REFERENCE_FILES
from harness.record.run import ATTRIBUTION
from harness.storage.digest import figures
from harness.storage.store import Artifact
from harness.subjects.sample_set import SampleSet, chosen_prompts
from harness.subjects.sample_table import Learning, by_prompt, kind_of, sample_table
from harness.worlds.folder import EVAL_PROMPTS_FILE, SAFETY, WorldFolder, prompts_file
from trainers.reward.ceiling import OBJECTIVE, SHARES, SampleTable, Tilted
from trainers.reward.ceiling_limits import TellingLimits, predicted
from trainers.reward.reward import Reward
from trainers.reward.terms import term_identity

TRAINING, EVALUATION = "training", "evaluation"
DRAWS = 1000
ALL = "all"
PASSES = (
    6  # over the samples of one model: two write theirs, the policy's are read back by both, all are paid
)
MOST_MOVED = 0.1  # of the way: if few samples alone may move the ceiling by more, its share is not told


@dataclass(frozen=True)
class Trained:
    """Responses of the trained policy to the prompts of a table: [prompts, samples] each, NaN where unscored."""

    rewards: np.ndarray
    kl: np.ndarray  # log policy - log reference of the response that the policy wrote, nats
    table: SampleTable

    def only(self, member: np.ndarray) -> Trained:
        """Of the prompts of `member` [prompts]."""
        return Trained(self.rewards[member], self.kl[member], self.table.only(member))


def is_attributed(method: Method) -> bool:
    """Whether a reward is climbed on safety prompts."""
    return method.is_ppo and method.safety_prompts


def attribute(
    context: Context,
    method: Method,
    data: Artifact,
    start: Artifact,
    model: Artifact,
    reward: tuple[Artifact, Artifact | None, Artifact | None],
    suite: Suite,
    by: Reporter,
) -> Artifact:
    """Writes attribution.jsonl: a row a part, and group of its prompts; `reward` has its model, grader and weights."""
    config, keys = context.config, context.config.evaluation

    def build(out: Path) -> dict[str, Any]:
        pay, judge = reward_for(context, method, data, *reward), by.make()
        folders = {"start": start.path, "trained": list(checkpoints_of(method, model).values())[-1]}
        prompts = attributed_prompts(context, data, suite)
        total = PASSES * keys.ceiling_samples * sum(map(len, prompts.values()))
        rows: list[dict[str, Any]] = []
        with context.console.stage(f"ceiling: {method.name}", total=total, unit="texts") as advance:
            for part, of in prompts.items():
                sets = {
                    name: _written(context, folder, of, judge.judge, advance)
                    for name, folder in folders.items()
                }
                kl = _kl(context, folders, sets["trained"].responses, advance)
                scored = {name: _paid(of, pay, learning_of(context), advance) for name, of in sets.items()}
                rows += _part_rows(context, part, sets, kl, scored)
        write_jsonl(out / ATTRIBUTION, rows)
        of_all = [row for row in rows if row["group"] == ALL]
        return {f"gone_{row['part']}": row["gone"] for row in of_all if row["gone"] is not None}

    models = {"reward_model": reward[0], "grader": reward[1], "weights": reward[2]}
    used = {name: artifact for name, artifact in models.items() if artifact is not None}
    return context.stage(
        f"ceiling: {method.name}",
        build,
        config={
            "samples": keys.ceiling_samples,
            "prompts": keys.ceiling_prompts,
            "judge": [by.name, by.identity],
            "rulebook": context.rulebook.digest,
            "learning": asdict(learning_of(context)),
            "decoding": [config.ppo.max_new_tokens, config.ppo.temperature],
            "terms": [term_identity(term) for term in method.terms],
            "suite": [suite.name, suite.version],
        },
        inputs={
            "data": data.part(prompts_file(SAFETY), EVAL_PROMPTS_FILE, *REFERENCE_FILES, *by.reads),
            "start": start,
            "model": model,
            **used,
            **by.inputs,
        },
        modules=[
            "trainers.reward.ceiling_limits",
            "evals.models.sampling",
            "evals.models.likelihood",
            *by.modules,
        ],
        glue=["harness.subjects.sample_table"],
    )


def learning_of(context: Context) -> Learning:
    ppo = context.config.ppo
    return Learning(ppo.kl_coef, ppo.score_clip, ppo.missing_eos_penalty)


def attributed_prompts(context: Context, data: Artifact, suite: Suite) -> dict[str, list[Prompt]]:
    """Safety prompts of the training and prompts of the suite, as many of each as the key allows."""
    keys = context.config.evaluation
    folder = WorldFolder(data.path)
    safety = folder.prompts(SAFETY) if folder.has("prompts_safety") else []
    trained_on = [p for p in safety if p.response_type in context.rulebook.response_types]
    asked = [p for p in suite.prompts if p.response_type in context.rulebook.response_types]
    choose = partial(chosen_prompts, limit=keys.ceiling_prompts, seed=context.config.seed)
    return {part: choose(of) for part, of in ((TRAINING, trained_on), (EVALUATION, asked)) if of}


def _written(
    context: Context,
    folder: Path,
    prompts: Sequence[Prompt],
    judge: Callable[[Sequence[Response]], Sequence[Any]],
    advance: Callable[[int], None],
) -> SampleSet:
    config = context.config
    model, tokenizer = load_causal_lm(folder, config.model.precision.dtype), load_tokenizer(folder)
    decoding = Decoding(
        config.ppo.max_new_tokens,
        config.ppo.temperature,
        config.evaluation.ceiling_samples,
        config.evaluation.batch_size,
        config.seed,
    )
    responses = sample_responses(model, tokenizer, prompts, decoding, advance)
    none = np.zeros(len(responses))
    own = np.ones(len(responses), dtype=bool)
    return SampleSet(folder, folder.name, "", "", responses, tuple(judge(responses)), none, own)


def _kl(
    context: Context,
    folders: Mapping[str, Path],
    responses: Sequence[Response],
    advance: Callable[[int], None],
) -> np.ndarray:
    """log policy - log reference of each response that the policy wrote, NaN where it cannot be read back."""
    config, columns = context.config, []
    for name in ("trained", "start"):
        model = load_causal_lm(folders[name], config.model.precision.dtype)
        tokenizer = load_tokenizer(folders[name])
        found = response_log_probs(model, tokenizer, responses, (config.ppo.temperature,), advance)
        columns.append(np.array([np.nan if row[0] is None else row[0] for row in found]))
    return columns[0] - columns[1]


def _paid(of: SampleSet, pay: Reward, learning: Learning, advance: Callable[[int], None]) -> np.ndarray:
    """[prompts, samples]: rewards as the learner sees them."""
    rewards = learning.rewards(of, pay(of.responses))
    advance(len(of.responses))
    return rewards


def _part_rows(
    context: Context,
    part: str,
    sets: Mapping[str, SampleSet],
    kl: np.ndarray,
    scored: Mapping[str, np.ndarray],
) -> list[dict[str, Any]]:
    """The rows of all prompts, of each response type and of each category."""
    learning, start = learning_of(context), sets["start"]
    table = sample_table(start, context.config.evaluation.cluster)
    at = Tilted(table, scored["start"], learning.beta)
    of_policy = sets["trained"]
    trained = Trained(
        scored["trained"],
        by_prompt(of_policy.index, kl),
        sample_table(of_policy, context.config.evaluation.cluster),
    )
    prompts = start.prompts
    groups = {ALL: np.ones(len(prompts), dtype=bool)}
    for name in dict.fromkeys(kind_of(p).value for p in prompts):
        groups[name] = np.array([kind_of(p).value == name for p in prompts])
    for name in dict.fromkeys(p.category for p in prompts):
        groups[f"category/{name}"] = np.array([p.category == name for p in prompts])
    draws = table.draws(DRAWS, context.config.seed)
    return [
        {"part": part, "group": name, **way(at, trained, draws, member)} for name, member in groups.items()
    ]


def way(at: Tilted, trained: Trained, draws: np.ndarray, member: np.ndarray) -> dict[str, Any]:
    """From the reference to the ceiling, over the prompts of `member`, and how much of it the policy went.

    `gone` is the share of the way in J, with its limits; None where the way is shorter than two of its standard
    errors. `problem` says why `gone` cannot be told.
    """
    at, trained, draws = at.only(member), trained.only(member), draws[:, member]
    first = _means(at.rewards)
    last = _means(trained.rewards) - at.beta * _means(trained.kl)
    most = np.where(at.known, at.objective, np.nan)
    known = np.isfinite(first) & np.isfinite(last) & np.isfinite(most)
    by_place = {"start": first, "trained": last, "ceiling": most}
    drawn = {place: _drawn(values, draws, known) for place, values in by_place.items()}
    value = {place: _mean(values, known) for place, values in by_place.items()}
    asked = predicted(at, OBJECTIVE, draws, TellingLimits())
    gone, low, high = _gone(value, drawn, asked.correction)
    moved = max(abs(asked.correction), at.hidden(OBJECTIVE)[0])
    return figures(
        {
            "prompts": int(known.sum()),
            "unscored": _unscored(at.table, at.rewards) + _unscored(trained.table, trained.rewards),
            "objective": value,
            "problem": _problem(int(known.sum()), moved, value["ceiling"] - value["start"]),
            "kl": _mean(_means(trained.kl), known),
            "ceiling_kl": _mean(at.kl, known),
            "gone": gone,
            "gone_low": low,
            "gone_high": high,
            "start": _shares(_flat(at.table, at.rewards), draws),
            "ceiling": _shares(at, draws),
            "trained": _shares(_flat(trained.table, trained.rewards), draws),
        }
    )


def _problem(prompts: int, moved: float, whole: float) -> str:
    """`moved`: by how much few samples alone may have the ceiling too low, of the `whole` way."""
    least = TellingLimits().min_prompts
    if prompts < least:
        return f"{prompts} prompt(s) with enough scored samples; {least} are needed"
    if moved > MOST_MOVED * whole:
        return f"too few samples a prompt: J of the ceiling may be {moved:.3g} off, of a way of {whole:.3g}"
    return ""


def _gone(
    value: Mapping[str, float], drawn: Mapping[str, np.ndarray], correction: float
) -> tuple[float, float, float]:
    """The share of the way, and its limits; NaN where there is none. J by place, and the same of draws of prompts.

    What the jackknife took off the ceiling counts as one more standard error, as in every limit of a ceiling.
    """
    whole, lengths = value["ceiling"] - value["start"], drawn["ceiling"] - drawn["start"]
    known = lengths[np.isfinite(lengths)]
    if not len(known) or not whole > 2 * float(known.std()):
        return math.nan, math.nan, math.nan
    gone = (value["trained"] - value["start"]) / whole
    shares = (drawn["trained"] - drawn["start"]) / np.where(lengths > 0, lengths, np.nan)
    low, high = (float(limit) for limit in np.nanquantile(shares, [0.025, 0.975]))
    reach = 1.96 * abs(correction * gone / whole)
    if correction * gone < 0:  # the ceiling was moved up, and may lie higher still
        low = gone - math.hypot(gone - low, reach)
    else:
        high = gone + math.hypot(high - gone, reach)
    return gone, low, high


def _unscored(table: SampleTable, rewards: np.ndarray) -> int:
    """Samples that are there and have no reward."""
    return int((np.isfinite(table.log_ratio) & ~np.isfinite(rewards)).sum())


def _mean(values: np.ndarray, known: np.ndarray) -> float:
    return float(values[known].mean()) if known.any() else math.nan


def _flat(table: SampleTable, rewards: np.ndarray) -> Tilted:
    """The samples as they are."""
    return Tilted(table, np.where(np.isfinite(rewards), 0.0, np.nan), 1.0)


def _means(values: np.ndarray) -> np.ndarray:
    """By prompt; NaN where nothing is known."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(values), np.nan), where=known.any(axis=1))


def _drawn(values: np.ndarray, counts: np.ndarray, known: np.ndarray) -> np.ndarray:
    total = counts[:, known].sum(axis=1)
    summed = counts[:, known] @ values[known]
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


def _shares(of: Tilted, draws: np.ndarray) -> dict[str, Any]:
    """Not-Unsafe, Not-Overrefuse and F1; the last two where any prompt is to be answered."""
    return {name: asdict(predicted(of, name, draws, TellingLimits())) for name in SHARES}

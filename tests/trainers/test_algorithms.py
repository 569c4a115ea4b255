"""Every algorithm of the one loop learns what is known to be best, resumes, and tells what PPO tells."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ppo_world import (
    NoisyReward,
    TextReward,
    distinct_words,
    eager_to_end,
    make_critic,
    make_policy,
    make_prompts,
    make_tokenizer,
    rows_of,
    train_noisily,
)

from evals.models.load import load_causal_lm
from evals.models.sampling import Decoding, sample_responses
from evals.values.conversation import Response, user_prompt
from evals.values.errors import InputError, UndecidableError
from trainers.models.adapters import add_adapter
from trainers.rl.config import Algorithm, PPOConfig, TRPOConfig
from trainers.rl.formulas import leave_one_out, less_others_of_type, standardised
from trainers.rl.loop import Models, Options, train
from trainers.rl.monitor import HeldOut, HeldOutScores
from trainers.rl.recipe import recipe_class

WORTH = {"w3": 1.0, "w5": 0.5}
BESIDE_PPO = [algorithm for algorithm in Algorithm if algorithm is not Algorithm.PPO]


def config(**changes: Any) -> PPOConfig:
    settings: dict[str, Any] = {"updates": 40, "batch_size": 64, "micro_batch_size": 64, "max_new_tokens": 1}
    settings |= {"learning_rate": 1e-2, "critic_learning_rate": 1e-2, "kl_coef": 0.25}
    return PPOConfig(**(settings | {"missing_eos_penalty": 0.0, "checkpoints": 1} | changes))


def worth(response: Response) -> float:
    return WORTH.get(response.text, 0.0)


def train_by(
    algorithm: Algorithm,
    out: Path,
    settings: PPOConfig,
    policy: Any,
    reward: Any = None,
    prompts: Any = None,
    options: Options | None = None,
    **own: Any,
) -> list[dict[str, Any]]:
    """Train `policy` in place from itself as its reference; the rows of metrics."""
    recipe = recipe_class(algorithm)(**own)
    critic = make_critic(num_hidden_layers=1) if recipe.has_critic else None
    reference = copy.deepcopy(policy)
    models = Models(policy, critic, reference, make_tokenizer())
    train(recipe, models, prompts or make_prompts(8), reward or TextReward(worth), settings, out, options)
    return rows_of(out)


# --- what they learn -------------------------------------------------------------------------

# GRPO's reward is in units of its deviation, so that its optimum is another one.
OPTIMUM: dict[Algorithm, dict[str, Any]] = {
    Algorithm.REINFORCE: {"updates": 40, "learning_rate": 2e-2, "epochs": 1},
    Algorithm.RLOO: {"updates": 20, "learning_rate": 2e-2},
    Algorithm.A2C: {"updates": 40, "learning_rate": 2e-2, "critic_learning_rate": 2e-2},
    Algorithm.TRPO: {"updates": 15},
}
# Few and long steps of TRPO, and few products for each, since a test has seconds.
OWN = {Algorithm.TRPO: {"trpo": TRPOConfig(max_kl=0.05, conjugate_steps=5)}}


@pytest.mark.parametrize(("algorithm", "seed"), [*((a, 0) for a in OPTIMUM), (Algorithm.REINFORCE, 1)])
def test_the_known_optimum_is_reached(tmp_path: Path, algorithm: Algorithm, seed: int) -> None:
    """The bandit of PPO's test: the best policy is the reference times exp(reward / kl_coef), normalised."""
    policy, tokenizer = make_policy(seed, num_hidden_layers=1), make_tokenizer()
    reference, prompts = copy.deepcopy(policy), make_prompts(8)
    settings = config(seed=seed, **OPTIMUM[algorithm])
    found = train_by(algorithm, tmp_path, settings, policy, prompts=prompts, **OWN.get(algorithm, {}))
    prompt = torch.tensor([tokenizer(prompts[0].text)["input_ids"]])
    with torch.no_grad():
        p, q = (model(prompt).logits[0, -1].softmax(-1) for model in (policy, reference))
    values = torch.zeros(len(p))
    values[tokenizer.convert_tokens_to_ids(list(WORTH))] = torch.tensor(list(WORTH.values()))
    best = (q.log() + values / 0.25).softmax(-1)
    assert (p * (p / best).log()).sum() < 0.05
    assert [row["update"] for row in found] == list(range(1, settings.updates + 1))
    saved = load_causal_lm(tmp_path / f"checkpoint-{settings.updates}")
    assert all(torch.equal(saved.state_dict()[n], p) for n, p in policy.state_dict().items())


@pytest.mark.parametrize("algorithm", [Algorithm.GRPO, Algorithm.RLOO])
def test_groups_learn_the_bandit(tmp_path: Path, algorithm: Algorithm) -> None:
    """The reward did not reach the update, an update was counted once an epoch, or no policy was saved."""
    settings = config(updates=12, epochs=2, kl_coef=0.02, learning_rate=2e-2, monitor_every=0)
    tokenizer, progress = make_tokenizer(), []
    prompts = [user_prompt(f"p{i}", f"w{i} w1") for i in range(16)]
    policy = make_policy(0, num_hidden_layers=1)
    options = Options(progress.append)
    found = train_by(algorithm, tmp_path, settings, policy, prompts=prompts, options=options)
    assert [row["update"] for row in found] == list(range(1, 13)) and sum(progress) == 12
    assert found[-1]["objective/score"] > found[0]["objective/score"] + 0.4
    assert found[-1]["score/text"] == pytest.approx(found[-1]["objective/score"], abs=1e-5)
    assert found[-1]["objective/kl"] > 0.2 > abs(found[0]["objective/kl"])
    assert found[0]["response/length"] == 1.0 and all(math.isfinite(row["policy/loss"]) for row in found)
    saved = load_causal_lm(tmp_path / "checkpoint-12")
    prompt = torch.tensor([tokenizer("w0 w1")["input_ids"]])
    with torch.no_grad():
        chosen = int(saved(prompt).logits[0, -1].argmax())
    assert tokenizer.decode([chosen]) == "w3"


@pytest.mark.parametrize("algorithm", BESIDE_PPO)
def test_micro_batches_change_no_result(tmp_path: Path, algorithm: Algorithm) -> None:
    """A mean of means: short responses weighed more, or a group that was split over two passes lost its mean."""
    found = []
    for size in (16, 3):
        settings = config(
            updates=1, batch_size=16, micro_batch_size=size, max_new_tokens=6, learning_rate=1e-3
        )
        policy, own = eager_to_end(), OWN.get(algorithm, {})
        train_by(algorithm, tmp_path / str(size), settings, policy, TextReward(distinct_words), **own)
        found.append(policy.state_dict())
    start = eager_to_end().state_dict()
    assert not all(torch.equal(start[name], whole) for name, whole in found[0].items())
    assert all(torch.allclose(found[1][name], whole, atol=2e-5) for name, whole in found[0].items())


@pytest.mark.parametrize("algorithm", [Algorithm.REINFORCE, Algorithm.GRPO, Algorithm.RLOO])
def test_unscored_responses_are_left_out(tmp_path: Path, algorithm: Algorithm) -> None:
    """A failed grade counted as a reward of 0."""
    score = TextReward(lambda r: None if r.prompt.id == "p0" else 1.0)
    policy, own = make_policy(spread=0.2), {} if algorithm is Algorithm.REINFORCE else {"group_size": 2}
    before = copy.deepcopy(policy.state_dict())
    settings = config(updates=2, kl_coef=0.0, batch_size=16, max_unscored=0.2, monitor_every=0)
    found = train_by(algorithm, tmp_path, settings, policy, score, **own)
    assert all(
        torch.equal(before[n], p) for n, p in policy.state_dict().items()
    )  # equal rewards teach nothing
    assert found[0]["reward/unscored_share"] == 0.125
    with pytest.raises(UndecidableError, match="the grader is away"):
        settings = config(updates=1, batch_size=16, max_unscored=0.1)
        train_by(algorithm, tmp_path / "b", settings, policy, score, **own)


@pytest.mark.parametrize("algorithm", [Algorithm.REINFORCE, Algorithm.TRPO])
def test_adapters_alone_are_trained(tmp_path: Path, algorithm: Algorithm) -> None:
    """The whole model was trained although an adapter was asked for."""
    policy = add_adapter(make_policy(spread=0.2), 2)
    frozen = {n: p.clone() for n, p in policy.named_parameters() if not p.requires_grad}
    settings = config(updates=1, batch_size=16)
    train_by(algorithm, tmp_path, settings, policy, TextReward(distinct_words), **OWN.get(algorithm, {}))
    assert all(torch.equal(frozen[n], dict(policy.named_parameters())[n]) for n in frozen)
    assert any(bool(p.abs().sum() > 0) for n, p in policy.named_parameters() if "lora_B" in n)


def test_the_baseline_is_the_mean_of_the_others() -> None:
    """A baseline that holds the response itself shrinks its own advantage."""
    assert leave_one_out(torch.tensor([1.0, 2.0, 6.0])).tolist() == [-3.0, -1.5, 4.5]
    assert leave_one_out(torch.tensor([3.0])).tolist() == [0.0]
    scored = torch.tensor([[True, False, True], [False, True, False]])
    rewards = torch.tensor([[1.0, 50.0, 3.0], [7.0, 8.0, 9.0]])
    assert leave_one_out(rewards, scored).tolist() == [[-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]


def test_a_score_is_compared_with_others_of_its_type() -> None:
    """Soft refusals earn 4, answers 0: what a critic does not know yet moved every prompt towards refusing softly."""
    scores = torch.tensor([4.0, 0.0, 6.0, -3.0, 1.0, 9.0])
    types = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]], dtype=torch.bool)
    alone = less_others_of_type(scores, types)
    assert alone.tolist() == [-2.0, 3.0, 2.0, -3.0, 0.0, 0.0]  # the only one of its type, and one of none
    parts = iter([types.sum(1, keepdim=True), torch.tensor([[10.0], [-3.0], [1.0]])])
    assert less_others_of_type(scores[:2], types[:, :2], lambda _: next(parts)).tolist() == [-2.0, 3.0]


def test_an_advantage_is_in_deviations_of_its_group() -> None:
    """The deviation was all of the batch's, or an unscored response's 0 took part in it."""
    rewards = torch.tensor([[1.0, 3.0, 50.0], [2.0, 2.0, 2.0]])
    scored = torch.tensor([[True, True, False], [True, True, True]])
    expected = torch.tensor([[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]) / (math.sqrt(2.0) + 1e-4)
    assert torch.allclose(standardised(rewards, scored), expected)


def test_a2c_is_ppo_of_one_epoch(tmp_path: Path) -> None:
    """A ratio that is 1 has the gradient of the log-probability (arXiv 2205.09123): another sign or scale shows."""
    found = []
    for algorithm in (Algorithm.A2C, Algorithm.PPO):
        policy = eager_to_end()
        settings = config(updates=2, batch_size=8, epochs=1, max_new_tokens=6)
        train_by(algorithm, tmp_path / algorithm.value, settings, policy, TextReward(distinct_words))
        found.append(policy.state_dict())
    start = eager_to_end().state_dict()
    assert not all(torch.allclose(start[name], whole, atol=1e-3) for name, whole in found[0].items())
    assert all(torch.allclose(found[1][name], whole, atol=1e-5) for name, whole in found[0].items())


# --- what they have as PPO has it ------------------------------------------------------------


class Crashing(NoisyReward):
    """Fails in its n-th call."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.left = call

    def __call__(self, responses: Sequence[Response]) -> Any:
        self.left -= 1
        if not self.left:
            raise RuntimeError("crash")
        return super().__call__(responses)


def artifacts(out: Path) -> dict[str, bytes]:
    """Every file of a finished run but the wall-clock times."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "timings.jsonl"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.mark.parametrize("algorithm", BESIDE_PPO)
def test_a_killed_run_ends_with_the_same_bytes(tmp_path: Path, algorithm: Algorithm) -> None:
    """It began anew; its optimiser, its random state or its place in the prompts was lost."""
    recipe = recipe_class(algorithm)(**OWN.get(algorithm, {}))
    changes = {"updates": 4, "minibatches": 1, "kl_controller": "fixed"}
    train_noisily(tmp_path / "whole", recipe=recipe, **changes)
    with pytest.raises(RuntimeError, match="crash"):
        train_noisily(tmp_path / "cut", Crashing(4), recipe=recipe, **changes)
    assert sorted(path.name for path in (tmp_path / "cut").glob("state-*")) == ["state-2"]
    train_noisily(tmp_path / "cut", recipe=recipe, **changes)
    assert artifacts(tmp_path / "cut") == artifacts(tmp_path / "whole")
    with pytest.raises(InputError, match="a run with other settings"):
        train_noisily(tmp_path / "cut", **changes)


@pytest.mark.parametrize("algorithm", BESIDE_PPO)
def test_rows_have_the_names_of_ppo(tmp_path: Path, algorithm: Algorithm) -> None:
    """A plot or a tracker of another algorithm was empty, since its metrics had other names."""
    settings = config(updates=1, batch_size=8, max_new_tokens=4)
    names = {
        of: set(train_by(of, tmp_path / of.value, settings, eager_to_end(), TextReward(distinct_words))[0])
        for of in (Algorithm.PPO, algorithm)
    }
    of_critic = {name for name in names[Algorithm.PPO] if name.startswith("value/")}
    of_ratio = {"policy/clip_fraction", "policy/ratio"}
    without = {
        Algorithm.REINFORCE: of_critic | of_ratio | {"policy/approx_kl"},
        Algorithm.A2C: of_ratio | {"policy/approx_kl"},
        Algorithm.TRPO: of_ratio | {"policy/learning_rate"},
    }
    assert names[Algorithm.PPO] - names[algorithm] == without.get(algorithm, of_critic)
    assert (tmp_path / algorithm.value / "timings.jsonl").is_file()


@pytest.mark.parametrize("algorithm", [Algorithm.GRPO, Algorithm.TRPO])
def test_trackers_show_what_metrics_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm
) -> None:
    """trackers= was PPO's alone; a run in one did not say by which algorithm it was trained."""
    logged: list[Any] = []

    class Listed:
        def __init__(self, names: Sequence[str], run: str, folder: Path, settings: dict[str, Any]) -> None:
            logged.append((list(names), settings["algorithm"], settings["kl_coef"]))

        def log(self, update: int, metrics: dict[str, Any]) -> None:
            logged.append((update, metrics))

        def finish(self) -> None:
            logged.append("finished")

    monkeypatch.setattr("trainers.rl.loop.Trackers", Listed)
    settings, options = config(updates=2, batch_size=8), Options(trackers=["tensorboard"])
    found = train_by(algorithm, tmp_path, settings, eager_to_end(), options=options)
    start = (["tensorboard"], algorithm.value, 0.25)
    assert logged == [start, (1, found[0]), (2, found[1]), "finished"]


def test_a_run_is_watched_and_unchanged_by_it(tmp_path: Path) -> None:
    """monitor_every was taken and no held-out response was ever looked at, so that no alarm could come."""
    prompts, looked = make_prompts(8), 0

    def judge(responses: Sequence[Response]) -> HeldOutScores:
        nonlocal looked
        looked += 1  # The score falls as the reward rises.
        return HeldOutScores(
            np.full(len(responses), 1.0 - looked / 10) + np.arange(len(responses)) / 1000,
            np.zeros(len(responses)),
        )

    settings, policies = config(updates=20, monitor_every=5, alarm_drop=0.1, monitor_prompts=8), []
    for name, held_out in (("watched", HeldOut(prompts, judge)), ("not", None)):
        policy = make_policy(0, num_hidden_layers=1)
        options = Options(held_out=held_out)
        train_by(Algorithm.REINFORCE, tmp_path / name, settings, policy, prompts=prompts, options=options)
        policies.append(policy)
    found = rows_of(tmp_path / "watched")
    assert [row["update"] for row in found if "held_out/score" in row] == [1, 5, 10, 15, 20]
    assert found[0]["alarm/reward_hacking"] == 0.0 and found[-1]["alarm/reward_hacking"] == 1.0
    assert all(torch.equal(policies[1].state_dict()[n], p) for n, p in policies[0].state_dict().items())


def test_the_first_look_of_grpo_is_at_the_policy_as_given(tmp_path: Path) -> None:
    """It came after the first update, which may already have done the harm."""
    prompts = [user_prompt(f"p{i}", f"w{i} w1") for i in range(8)]
    looked: list[list[str]] = []

    def judge(responses: Sequence[Response]) -> HeldOutScores:
        looked.append([response.text for response in responses])
        return HeldOutScores(np.array([float(r.text == "w5") for r in responses]), np.zeros(len(responses)))

    policy = make_policy(0, num_hidden_layers=1)
    given = [r.text for r in sample_responses(policy, make_tokenizer(), prompts, Decoding(1, batch_size=8))]
    settings = config(updates=2, batch_size=8, micro_batch_size=8, learning_rate=0.3, monitor_every=1)
    options = Options(held_out=HeldOut(prompts, judge))
    found = train_by(Algorithm.GRPO, tmp_path, settings, policy, prompts=prompts, options=options)
    assert len(looked) == 2 and looked[0] == given != looked[1]
    assert [row["held_out/score"] for row in found] == [
        np.mean([t == "w5" for t in texts]) for texts in looked
    ]


@pytest.mark.parametrize("algorithm", [Algorithm.GRPO, Algorithm.RLOO])
def test_scores_are_bounded_as_in_ppo(tmp_path: Path, algorithm: Algorithm) -> None:
    """The same reward was worth more to GRPO than to PPO, and a cut response cost nothing."""
    settings = config(updates=1, batch_size=8, score_clip=2.0, missing_eos_penalty=0.5, kl_coef=0.0)
    policy = make_policy(0, num_hidden_layers=1)
    row = train_by(algorithm, tmp_path, settings, policy, TextReward(lambda _: 30.0))[0]
    assert row["objective/score"] == row["score/text"] == 30.0
    cut = 1.0 - row["response/eos_share"]
    assert cut > 0 and row["objective/reward"] == pytest.approx(2.0 - 0.5 * cut)


def test_every_algorithm_is_a_file_and_on_the_page() -> None:
    """A copied file kept the name of the algorithm that it was copied from; one stood in no documentation."""
    page = (Path(__file__).parents[2] / "docs" / "ppo.md").read_text(encoding="utf-8")
    for algorithm in Algorithm:
        assert recipe_class(algorithm).algorithm is algorithm
        assert f"| `{algorithm.value}` |" in page


# --- what they lack --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kl_controller": "adaptive"}, "kl_controller"),
        ({"minibatches": 2}, "minibatches"),
        ({"kl_limit": 5.0}, "kl_limit"),
        ({"stop_kl": 0.1}, "stop_kl"),
        ({"shared_trunk": True}, "shared_trunk"),
    ],
)
@pytest.mark.parametrize("algorithm", BESIDE_PPO)
def test_settings_that_an_algorithm_lacks_are_refused(
    changes: dict[str, Any], field: str, algorithm: Algorithm
) -> None:
    """A limit that was set guarded nothing."""
    recipe, ppo = recipe_class(algorithm)(), recipe_class(Algorithm.PPO)()
    as_ppo = {
        Algorithm.A2C: ("kl_controller", "kl_limit", "shared_trunk"),
        Algorithm.TRPO: ("kl_controller", "kl_limit"),
    }
    if field in as_ppo.get(algorithm, ()):
        recipe.check(config(**changes))
    else:
        with pytest.raises(InputError, match=f"{field}.*{algorithm.value} has no such setting"):
            recipe.check(config(**changes))
    recipe.check(config())
    ppo.check(config(**changes))


@pytest.mark.parametrize("changes", [{"group_size": 1}, {"group_size": 5}])
def test_groups_fill_the_batch(tmp_path: Path, changes: dict[str, Any]) -> None:
    """TRL's message named a setting that nobody had set."""
    with pytest.raises(InputError, match="group_size"):
        train_by(Algorithm.GRPO, tmp_path, config(), eager_to_end(), **changes)


def test_a_critic_is_given_where_there_is_one(tmp_path: Path) -> None:
    """A critic beside GRPO would be held in memory, and never trained."""
    policy = eager_to_end()
    for algorithm, critic in ((Algorithm.GRPO, make_critic()), (Algorithm.TRPO, None)):
        models = Models(policy, critic, copy.deepcopy(policy), make_tokenizer())
        with pytest.raises(InputError, match=f"field 'critic': {algorithm.value} has"):
            train(recipe_class(algorithm)(), models, make_prompts(8), TextReward(worth), config(), tmp_path)

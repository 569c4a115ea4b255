"""Configuration: every experiment composes, and whatever does not fit gives one line."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from conf import CONF
from evals.rules.rulebook import load_rulebook
from evals.values.errors import InputError
from harness.findings.wording import in_order, method_label, method_table, sft_of
from harness.keys.application import hydra_application
from harness.keys.compose import every_key
from harness.keys.help import keys_help
from harness.keys.methods import METHODS, chosen, outside_rows, with_outside
from harness.keys.run import RunConfig, compose_run
from trainers.reward.terms import TermParts, build_term, term_identity

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes(experiment: str, tmp_path: Path) -> None:
    """Guards against an experiment file that nobody ran since a key was renamed."""
    config = compose_run([f"experiment={experiment}", f"data.root={tmp_path}"])
    assert isinstance(config, RunConfig) and config.name == experiment
    assert load_rulebook(config.rulebook_path).propositions


@pytest.mark.parametrize("group", ["model", "sandbox"])
def test_every_group_option_composes(group: str) -> None:
    for path in (CONF / group).glob("*.yaml"):
        needed = ["model.path=some/model"] if path.stem == "hf" else []
        assert compose_run([f"{group}={path.stem}", *needed]).seed == 0


@pytest.mark.parametrize("value", ["short", "some/file.yaml"])
def test_rulebook_is_a_plain_key(value: str) -> None:
    """A folder conf/rulebook would make `rulebook=` Hydra's, and refuse every file."""
    assert compose_run([f"rulebook={value}"]).rulebook == value


def test_overrides_win_over_the_experiment() -> None:
    """Hydra's order of defaults decides this; a wrong order ignores the command line silently."""
    config = compose_run(["experiment=smoke", "ppo.updates=3", "name=mine"])
    assert (config.ppo.updates, config.name, config.model.width) == (3, "mine", 64)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["ppo.kl_coeff=0.1"], ["ppo.kl_coeff", "did you mean 'ppo.kl_coef'"]),
        (["ppo.updates=many"], ["ppo.updates", "many"]),
        (["ppo.kl_coef=-1"], ["kl_coef", "-1"]),
        (["ppo.minibatches=3"], ["minibatches", "divisor"]),
        (["experiment=nothing"], ["experiment", "nothing", "demo", "gpu"]),
        (["sandbox.difficulty=2"], ["difficulty"]),
        (["sandbox.annotators.over_caution=1.2"], ["over_caution"]),
        (["methods=[best_ppo]"], ["best_ppo", "rbr_ppo"]),
        (["model.width=130"], ["width"]),
        (["data.source=REAL"], ["data.root"]),
        (["data.root=/nowhere"], ["/nowhere"]),
        (["name=../up"], ["name"]),
        (["seed=-1"], ["seed"]),
        (["sft.max_length=4000"], ["max_length", "context"]),
        (["ppo.max_new_tokens=4000"], ["ppo.max_new_tokens", "context"]),
        (["ppo.seed=3"], ["ppo.seed", "no such key", "did you mean 'seed'"]),
        (["grader.seed=3"], ["grader.seed", "no such key"]),
        (["weights.seed=3"], ["weights.seed", "no such key"]),
        (["algorithm=RLOO", "vllm=http://localhost:1"], ["'vllm'", "rloo has no such setting"]),
        (["algorithm=GRPO", "renewal.every=3"], ["'renewal.every'", "grpo has no such setting"]),
        (["algorithm=GRPO", "evaluation.ceiling_samples=8"], ["'ppo.kl_coef'", "under algorithm=grpo"]),
        (["ppo.kl_coef=0", "evaluation.ceiling_samples=8"], ["'ppo.kl_coef'", "without a price"]),
        (["group_size=4"], ["'group_size'", "ppo has no such setting", "algorithm=grpo"]),
        (["algorithm=A2C", "trpo.max_kl=0.1"], ["'trpo'", "a2c has no such setting", "algorithm=trpo"]),
        (["algorithm=TRPO", "trpo.max_kl=0"], ["'trpo.max_kl'", "is 0"]),
        (["algorithm=TRPO", "processes=2"], ["'processes'", "trpo has no such setting"]),
        (["ppo.updates="], ["ppo.updates"]),
        (["sandbox.eval_hard=-1"], ["'sandbox.eval_hard'", "is -1", "from 1 to"]),
        (["sandbox.sft_helpful_borderline=2"], ["'sandbox.sft_helpful_borderline'", "is 2.0", "from 0 to 1"]),
        (
            ["sandbox.sft_helpful_borderline=0.95"],
            ["'sandbox.sft_helpful_harmful'", "borderline sum to 1.05"],
        ),
        (["sandbox.topics_per_area=6000"], ["'sandbox.topics_per_area'", "from 6 to 2900"]),
        (["sandbox.held_out_topics=-1"], ["'sandbox.held_out_topics'", "from 0 to 2900"]),
        (["sandbox.helpful_prefers_refusal.tales=nan"], ["'sandbox.helpful_prefers_refusal.tales'", "nan"]),
        (["sandbox.annotators.noise=1.2"], ["'sandbox.annotators.noise'", "is 1.2", "from 0 to 1"]),
        (["pretrain.max_steps=-1"], ["'pretrain.max_steps'", "is -1", "0 or more"]),
        (["model.width=12", "model.heads=4"], ["'model.width'", "twice the heads"]),
        (["seed=4294967296"], ["'seed'", "to 4294967295"]),
        (["=3"], []),
    ],
)
def test_what_does_not_fit_is_one_line(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        compose_run(overrides)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400
    assert all(word in line for word in words), line


def numbers(config: Any, group: str = "") -> Iterator[tuple[str, Any, str, type]]:
    """Every key that holds a number: the key, the dataclass that holds it, its name there, its type."""
    for name, hint in get_type_hints(type(config)).items():
        if is_dataclass(hint):
            yield from numbers(getattr(config, name), f"{group}{name}.")
        elif hint in (int, float, float | None):
            yield f"{group}{name}", config, name, int if hint is int else float


def test_no_number_out_of_range_is_taken() -> None:
    """A traceback of numpy's or an empty result after an hour was how a negative count or a NaN showed."""
    taken = {"weights.fixed"}  # a weight of any sign
    nowhere = {int: [-1], float: [-1.0, float("nan"), float("inf")]}
    keys = list(numbers(compose_run([])))
    assert len(keys) > 90
    for key, config, name, kind in keys:
        for value in nowhere[kind]:
            if key in taken and value == -1.0:
                continue
            with pytest.raises(InputError, match=f"field '{key}': is {value}; give "):
                replace(config, **{name: value})


def test_sweep_takes_every_combination() -> None:
    with hydra_application(RunConfig, ["-m", "seed=0,1", "ppo.kl_coef=0.1,0.2", "name=x"]) as application:
        jobs = application.jobs
    assert jobs is not None and len(jobs) == 4
    assert jobs[0].overrides == ("seed=0", "ppo.kl_coef=0.1", "name='x'")
    assert [(j.config.seed, j.config.ppo.kl_coef) for j in jobs] == [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2)]


def test_help_names_every_key_with_its_meaning() -> None:
    text = keys_help()
    assert all(f"{key}=" in text for key in every_key(RunConfig))
    line = next(line for line in text.splitlines() if line.strip().startswith("rulebook="))
    assert "YAML" in line  # its own comment, not its neighbour's
    assert "OPENAI_API_KEY the environment" in text  # a long key ran into its meaning
    assert "ppo.seed" not in text  # was listed, taken, and replaced by `seed`


def test_methods_bring_the_models_that_they_start_from() -> None:
    assert [m.name for m in chosen(["rbr_ppo"])] == ["rbr_sft", "rbr_ppo"]
    assert all(METHODS[m.start].reward_model is None for m in METHODS.values())


def test_methods_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of one's own method, or with one's own reward term, needed a fork."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_methods.py").write_text(
        "from harness.keys.methods import Data, Method\n"
        "BOTH = ('reward_model', 'own_methods:term')\n"
        "MINE = Method('mine_ppo', 'Mine', Data.HUMAN, Data.HUMAN, BOTH)\n"
        "TWICE = Method('mine_ppo', 'Mine', Data.RBR, Data.HUMAN)\n"
        "TAKEN = Method('rbr_ppo', 'Mine', Data.RBR, Data.HUMAN)\n"
        "NAMED = Method('../mine', 'Mine', Data.RBR, Data.HUMAN)\n"
        "WRONG = Method('mine_ppo', 'Mine', Data.RBR, Data.HUMAN, ('rules',))\n"
        "GONE = Method('mine_ppo', 'Mine', Data.RBR, Data.HUMAN, ('own_methods:gone',))\n"
        "NUMBER = 3\n"
        "def term(parts):\n    return parts.seed\n"
    )
    mine = chosen(["own_methods:MINE", "helpful_sft"])
    assert [m.name for m in mine] == ["helpful_sft", "human_sft", "mine_ppo"] and mine[-1].is_graded
    with method_table(with_outside(outside_rows(["own_methods:MINE", "rbr_ppo"]))):
        named = ["mine_ppo", "mine_grpo", "human_ppo", "mine_ppo[ppo.kl_coef=0.1]"]
        assert list(map(method_label, named)) == ["Mine", "Mine", "Human-PPO", "Mine (kl_coef 0.1)"]
        assert in_order(["a_ppo", "mine_ppo", "rbr_ppo"]) == ["rbr_ppo", "mine_ppo", "a_ppo"]
        assert sft_of("mine_ppo", ["human_sft", "mine_sft"]) == "human_sft"
    assert method_label("mine_ppo") == "mine_ppo"  # of another record
    with pytest.raises(InputError, match="field 'outside_methods': is no method"):
        with_outside([{"name": "mine_ppo", "label": "Mine", "sft": "nobody"}])
    for kinds, problem in (
        (["own_methods:NUMBER"], "'own_methods:NUMBER' is no Method"),
        (["own_methods:MINE", "own_methods:TWICE"], "two methods have one name"),
        (["own_methods:TAKEN"], "is called 'rbr_ppo', as one of the table"),
        (["own_methods:NAMED"], "is '../mine'"),
        (["own_methods:WRONG"], "unknown reward term 'rules'.*reward_model, rule_based, or your own as"),
        (["own_methods:GONE"], "own_methods has no 'gone'"),
    ):
        with pytest.raises(InputError, match=problem):
            chosen(kinds)
    with pytest.raises(InputError, match="'own_methods:term' gave a NoneType, which is no reward"):
        build_term("own_methods:term", TermParts(*[None] * 5))  # type: ignore[arg-type]
    assert term_identity("rule_based") == "rule_based"
    before = term_identity("own_methods:term")
    with (tmp_path / "own_methods.py").open("a") as file:
        file.write("# another value\n")
    assert term_identity("own_methods:term") != before  # a stage of the old code is not that of the new


def test_a_programs_own_handlers_stay_open(tmp_path: Path) -> None:
    """Hydra's logging closed every handler of the process, and absl's with it a standard error that was in use."""

    class Closing(logging.StreamHandler[io.StringIO]):
        def close(self) -> None:
            super().close()
            self.stream.close()

    theirs = logging.getLogger("theirs")
    theirs.addHandler(handler := Closing(io.StringIO()))
    try:
        with chdir(tmp_path), hydra_application(RunConfig, ["experiment=smoke"]) as application:
            assert application.run(lambda config: 7) == 7
        theirs.warning("still here")
        assert handler.stream.getvalue() == "still here\n"
        logging.shutdown([reference for reference in logging._handlerList if reference() is handler])
        assert handler.stream.closed  # known as before
    finally:
        theirs.removeHandler(handler)

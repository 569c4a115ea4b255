"""Two real processes (gloo) train as one does at the same global batch: whole models, FSDP, DeepSpeed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from ppo_two_processes import config, train, train_all
from ppo_world import TextReward, distinct_words, eager_to_end
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evals.values.errors import InputError
from trainers.devices.announced import zero_stage
from trainers.devices.processes import Processes, current_processes
from trainers.devices.zero import one_precision
from trainers.rl.config import PPOConfig
from trainers.rl.loop import Options, _check_batch, _check_processes

PROGRAM = Path(__file__).parents[1] / "tiny" / "ppo_two_processes.py"
ROOT = PROGRAM.parents[2]
LAUNCH = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--main_process_port",
    "0",
    "--num_processes",
    "2",
]


HAS_DEEPSPEED = find_spec("deepspeed") is not None
ZERO = [
    pytest.param(how, marks=pytest.mark.skipif(not HAS_DEEPSPEED, reason="needs the extra 'deepspeed'"))
    for how in ("zero1", "zero2")
]


def launch(file: str, out: Path) -> subprocess.Popen[str]:
    """The trainings by two processes, as a file of conf/accelerate says."""
    return subprocess.Popen(
        [*LAUNCH, "--config_file", str(ROOT / "conf" / "accelerate" / file), str(PROGRAM), str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same trainings by one process, by two, and by two that split the models or the optimisers."""
    out = tmp_path_factory.mktemp("processes")
    programs = [launch("fsdp.yaml", out)]
    programs += [launch("deepspeed_zero2.yaml", out)] if HAS_DEEPSPEED else []
    (out / "one").mkdir()
    train_all(out / "one", alone=True)
    for program in programs:
        output, _ = program.communicate(timeout=600)
        assert program.returncode == 0, output[-3000:]
    return {how: out / how for how in ("one", "two", "split", "zero1", "zero2")}


def rows(folder: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["two", "split", *ZERO])
@pytest.mark.parametrize("name", ["plain", "again", "unscored", "models", "shared"])
def test_two_processes_train_as_one(runs: dict[str, Path], name: str, how: str) -> None:
    """Whitening, the loss's divisor, KL or gradients were of one process's rows alone (PPO.md)."""
    if (name, how) == ("shared", "split"):
        pytest.skip("FSDP does not go with a shared trunk")
    one, two = rows(runs["one"] / name), rows(runs[how] / name)
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert b[key] == pytest.approx(value, rel=1e-5, abs=1e-5), (a["update"], key)
    for model in ("checkpoint-3", "critic"):
        weights = [load_file(runs[r] / name / model / "model.safetensors") for r in ("one", how)]
        assert weights[0].keys() == weights[1].keys()
        for key, value in weights[0].items():
            assert torch.allclose(weights[1][key], value, atol=1e-5), (model, key)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["two", "split", *ZERO])
@pytest.mark.parametrize("name", ["grpo", "rloo", "reinforce"])
def test_algorithms_without_a_critic_are_shared_too(runs: dict[str, Path], name: str, how: str) -> None:
    """They were refused; REINFORCE's baseline would have been of one process's responses, and groups cut in two."""
    one, two = rows(runs["one"] / name), rows(runs[how] / name)
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-5)
    saved = [load_file(runs[r] / name / "checkpoint-3" / "model.safetensors") for r in ("one", how)]
    assert saved[0].keys() == saved[1].keys()
    for key, value in saved[0].items():
        assert torch.allclose(saved[1][key], value, atol=1e-5), key


@pytest.mark.slow
def test_the_trainings_compared_are_not_trivial(runs: dict[str, Path]) -> None:
    """Nothing unscored, or nothing learnt: the comparison would hold of any two runs."""
    hard = rows(runs["one"] / "unscored")
    assert any(row["reward/unscored_share"] for row in hard)
    assert hard[-1]["objective/kl_coef"] != hard[0]["objective/kl_coef"]
    for name in ("plain", "models"):
        found = rows(runs["one"] / name)
        assert abs(found[-1]["objective/kl"] - found[0]["objective/kl"]) > 0.1
    assert found[-1]["held_out/score"] is not None
    assert found[-1]["held_out/widest_gap"] == pytest.approx(found[-1]["held_out/payer/hard_refuse/words"])
    assert "held_out/hard_refusal_style" in found[-1]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["two", "split", *ZERO])
@pytest.mark.parametrize(("unbroken", "resumed"), [("unbroken", "resumed"), ("bfloat16", "bfloat16-resumed")])
def test_two_processes_resume_to_the_same_bytes(
    runs: dict[str, Path], unbroken: str, resumed: str, how: str
) -> None:
    """The second process went on with the random generators of the first, or sums changed from run to run."""
    for file in ("metrics.jsonl", "checkpoint-3/model.safetensors", "critic/model.safetensors"):
        assert (runs[how] / unbroken / file).read_bytes() == (runs[how] / resumed / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["one", "two", "split", *ZERO])
def test_one_process_goes_on_with_what_two_began(runs: dict[str, Path], how: str) -> None:
    """A state held parts of tensors, so that only as many processes could read it as had written it."""
    train(runs[how] / "handed", config(), TextReward(distinct_words))
    for a, b in zip(rows(runs["one"] / "plain"), rows(runs[how] / "handed"), strict=True):
        assert b == pytest.approx(a, rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_fsdp_splits_what_is_trained(runs: dict[str, Path]) -> None:
    """Every process held the whole models, and what did not fit one device did not fit eight."""
    for rank in range(2):
        assert json.loads((runs["two"] / f"held-{rank}.json").read_text()) == 1.0
        assert json.loads((runs["split"] / f"held-{rank}.json").read_text()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", ZERO)
def test_deepspeed_splits_the_optimisers(runs: dict[str, Path], how: str) -> None:
    """A stage that was not asked of DeepSpeed left every process with all moments."""
    for rank in range(2):
        assert json.loads((runs[how] / f"held-{rank}.json").read_text()) == 1.0
        for found in json.loads((runs[how] / f"optimizers-{rank}.json").read_text()):
            assert found["share"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", ZERO)
def test_deepspeed_does_not_skip_a_step_in_silence(runs: dict[str, Path], how: str) -> None:
    """It leaves a step of gradients that are not finite out, and training went on as if it had been taken."""
    for rank in range(2):
        for found in json.loads((runs[how] / f"optimizers-{rank}.json").read_text()):
            assert "gradient is not a finite number" in found["said"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["split", *ZERO])
def test_checkpoints_of_split_runs_load_as_they_are(runs: dict[str, Path], how: str) -> None:
    """What was written had to be put together before anything could read it."""
    for name in ("plain", "models"):
        folders = [runs[each] / name / "checkpoint-3" for each in ("one", how)]
        one, split = (
            AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True) for folder in folders
        )
        ids = torch.tensor([[5, 9, 7, 11]])
        with torch.no_grad():
            assert torch.allclose(split(input_ids=ids).logits, one(input_ids=ids).logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["split", *ZERO])
def test_split_bfloat16_models_are_trained_through_masters(runs: dict[str, Path], how: str) -> None:
    """The gradient of a split weight never reached its float32 master, and the policy stood still."""
    whole, split = (rows(runs[each] / "bfloat16") for each in ("two", how))
    saved = [
        load_file(runs[each] / "bfloat16" / "checkpoint-3" / "model.safetensors") for each in ("two", how)
    ]
    start = eager_to_end().to(torch.bfloat16).state_dict()
    assert {w.dtype for weights in saved for w in weights.values()} == {torch.bfloat16}
    moved, moved_split = ({k: (w[k].float() - start[k].float()).flatten() for k in w} for w in saved)
    for (
        key
    ) in moved:  # A norm's weights move by one step of bfloat16 or none: which of them differs by machine.
        assert torch.cosine_similarity(moved[key], moved_split[key], dim=0) > 0.7, key
    every = (torch.cat(list(one.values())) for one in (moved, moved_split))
    assert torch.cosine_similarity(*every, dim=0) > 0.95
    assert split[0]["objective/kl"] == pytest.approx(whole[0]["objective/kl"], abs=1e-5)


def announced(file: str) -> dict[str, str]:
    """The environment that `accelerate launch` gives the processes of a file of conf/accelerate."""
    config_file = str(ROOT / "conf" / "accelerate" / file)
    arguments = launch_command_parser().parse_args(["--config_file", config_file, str(PROGRAM)])
    arguments, *_ = _validate_launch_command(arguments)
    arguments.main_process_port, arguments.deepspeed_fields_from_accelerate_config = 0, ""
    if arguments.use_deepspeed:
        return prepare_deepspeed_cmd_env(arguments)[1]
    return prepare_multi_gpu_env(arguments)


@pytest.mark.parametrize(
    ("file", "stage"),
    [("one_node.yaml", 0), ("deepspeed_zero1.yaml", 1), ("deepspeed_zero2.yaml", 2), ("fsdp.yaml", 3)],
)
def test_launch_files_are_followed(file: str, stage: int) -> None:
    """A key that Accelerate does not know, or a value that training refuses, was found out on eight devices."""
    environment = announced(file)
    assert zero_stage(environment) == stage
    told = {"ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP"} & environment.keys()
    assert bool(told) == (stage > 0)


SPLIT = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
DEEPSPEED = {"ACCELERATE_USE_DEEPSPEED": "true"}


@pytest.mark.parametrize(
    ("environment", "field"),
    [
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "distributed_type"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "mixed_precision"),
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version"),
        (SPLIT | {"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
        (SPLIT | {"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "fsdp_activation_checkpointing"),
        (DEEPSPEED | {"ACCELERATE_MIXED_PRECISION": "bf16"}, "mixed_precision"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "mine.json"}, "deepspeed_config_file"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "offload_optimizer_device"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, "offload_param_device"),
        (DEEPSPEED | {"ACCELERATE_GRADIENT_CLIPPING": "1.0"}, "gradient_clipping"),
        (DEEPSPEED | {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "gradient_accumulation_steps"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "0"}, "zero_stage"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "zero_stage"),
    ],
)
def test_launch_settings_that_training_would_leave_out_are_refused(
    environment: dict[str, str], field: str
) -> None:
    """A launch with DeepSpeed's configuration trained without DeepSpeed and said nothing."""
    with pytest.raises(InputError, match=f"field '{field}'.*conf/accelerate"):
        zero_stage(environment)


def test_stage_3_of_deepspeed_is_that_of_fsdp() -> None:
    """The refusal did not say that the same is at hand."""
    with pytest.raises(InputError, match="says 3, .*stages 1 and 2; launch with conf/accelerate/fsdp.yaml"):
        zero_stage(DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"})


def test_a_launch_without_deepspeed_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ImportError from deep inside Accelerate, after the models had been loaded."""
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # as Python has it for what cannot be imported
    for name, value in (DEEPSPEED | {"WORLD_SIZE": "2", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=r"field 'distributed_type'.*pip install -e '.\[deepspeed\]'"):
        current_processes()


def test_weights_of_two_precisions_are_refused_by_deepspeed() -> None:
    """A part was cut from one tensor of them all, in the precision of the first."""
    weights = [torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)]
    assert one_precision(weights[1:]) == torch.bfloat16
    with pytest.raises(InputError, match="of torch.bfloat16 and torch.float32; .*without DeepSpeed"):
        one_precision(weights)


def test_fewer_responses_than_processes_are_refused() -> None:
    """A process without a row failed deep in the sampling loop."""
    processes = Processes()
    processes.count = 4
    with pytest.raises(InputError, match=r"ppo.batch_size.* 3, fewer .* 4 processes"):
        _check_batch(PPOConfig(updates=1, batch_size=3, max_new_tokens=4), processes)


@pytest.mark.parametrize(
    ("changes", "sampler", "field"),
    [
        ({"shared_trunk": True}, None, "ppo.shared_trunk"),
        ({"offload": True}, None, "ppo.offload"),
        ({}, len, "sampler"),
    ],
)
def test_what_split_models_do_not_go_with_is_refused(
    changes: dict[str, bool], sampler: Any, field: str
) -> None:
    """A shared trunk was gathered by one model's passes and read by another's."""
    processes = Processes()
    _check_processes(config(**changes), processes, Options(sampler=sampler))
    processes.shards = True
    with pytest.raises(InputError, match=f"field '{field}'.*without FSDP"):
        _check_processes(config(**changes), processes, Options(sampler=sampler))

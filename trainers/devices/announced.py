"""What a launcher announces of Accelerate's configuration, and which of it training here follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.values.errors import InputError

# What `accelerate launch` announces of a configuration, and the one value that training here follows.
_LAUNCH = {
    "ACCELERATE_USE_MEGATRON_LM": ("false", "distributed_type", "Megatron-LM has models of its own"),
    "ACCELERATE_MIXED_PRECISION": ("no", "mixed_precision", "the weights' own precision decides"),
}
_FSDP_LAUNCH = {
    "FSDP_VERSION": ("2", "fsdp_version", "only the second version is supported"),
    "FSDP_RESHARD_AFTER_FORWARD": ("true", "fsdp_reshard_after_forward", "layers are always let go"),
    "FSDP_OFFLOAD_PARAMS": ("false", "fsdp_offload_params", "parts stay on their device"),
    "FSDP_ACTIVATION_CHECKPOINTING": (
        "false",
        "fsdp_activation_checkpointing",
        "ppo.gradient_checkpointing decides",
    ),
}
_DEEPSPEED_LAUNCH = {
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": ("none", "deepspeed_config_file", "DeepSpeed is set up by the run"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": (
        "none",
        "offload_optimizer_device",
        "parts stay on their device",
    ),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": ("none", "offload_param_device", "ppo.offload decides"),
    "ACCELERATE_GRADIENT_CLIPPING": ("none", "gradient_clipping", "ppo.max_grad_norm decides"),
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": (
        "1",
        "gradient_accumulation_steps",
        "ppo.micro_batch_size decides",
    ),
}


def zero_stage(environment: Mapping[str, str]) -> int:
    """The stage of ZeRO that the launcher asks for: 0 none, 1 and 2 DeepSpeed's, 3 FSDP's.

    Raises InputError for a setting that would be left out.
    """
    fsdp, deepspeed = (
        environment.get(f"ACCELERATE_USE_{name}", "false").lower() == "true" for name in ("FSDP", "DEEPSPEED")
    )
    stage = _deepspeed_stage(environment) if deepspeed else 3 if fsdp else 0
    asked = _LAUNCH | (_DEEPSPEED_LAUNCH if deepspeed else _FSDP_LAUNCH if fsdp else {})
    for name, (followed, field, why) in asked.items():
        # Accelerate's own default of FSDP_VERSION is 1.
        value = environment.get(name, "1" if name == "FSDP_VERSION" else followed).lower()
        if value != followed:
            raise InputError(
                f"Accelerate's configuration says {value}, and {why}",
                field=field,
                fix=f"set it to {followed}, or launch with a file of conf/accelerate",
            )
    return stage


def announced(launch: Mapping[str, Any]) -> dict[str, str]:
    """What `accelerate launch` would announce of a configuration, where another launcher has started the processes."""
    kind = str(launch["distributed_type"])
    tables = {"FSDP": ("fsdp_config", _FSDP_LAUNCH), "DEEPSPEED": ("deepspeed_config", _DEEPSPEED_LAUNCH)}
    name, table = tables.get(kind, ("", {}))
    own = launch.get(name) or {}
    found = {f"ACCELERATE_USE_{kind}": "true"} if name else {}
    if name == "deepspeed_config" and "zero_stage" in own:
        found["ACCELERATE_DEEPSPEED_ZERO_STAGE"] = str(own["zero_stage"])
    for variable, (_, field, _) in (_LAUNCH | table).items():
        if variable == "ACCELERATE_USE_MEGATRON_LM":
            found[variable] = str(kind == "MEGATRON_LM").lower()
        elif field in own or field in launch:
            found |= {variable: str(own.get(field, launch.get(field))).lower()}
    return found


def _deepspeed_stage(environment: Mapping[str, str]) -> int:
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")  # Accelerate's own default
    if stage not in ("1", "2"):
        instead = {"0": "one_node.yaml, which is the same", "3": "fsdp.yaml, whose FSDP does that stage"}
        raise InputError(
            f"Accelerate's configuration says {stage}, and DeepSpeed is used for stages 1 and 2",
            field="zero_stage",
            fix=f"launch with conf/accelerate/{instead.get(stage, 'deepspeed_zero2.yaml')}",
        )
    return int(stage)

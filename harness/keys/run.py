"""The configuration of a run: plain dataclasses, composed by Hydra, converted and checked once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from evals.models.config_file import context_of
from evals.models.folder import check_folder
from evals.values.errors import InputError
from evals.values.ranges import Range, check_ranges, whole
from harness.keys.compose import compose_keys, rulebook_path
from harness.keys.data import DataConfig, DataSource
from harness.keys.evaluation import OWN_JUDGES, OWN_SUITE, CapabilityConfig, EvaluationConfig
from harness.keys.methods import DEFAULT, SIMULATED, Data, Method, chosen
from harness.keys.objective import SweepObjective, check_objective, measured_by, read_objective
from harness.keys.payer import PayerKeys
from harness.keys.renewal import RenewalKeys
from harness.keys.rl_prompts import RLPromptKeys
from harness.keys.shared import Recorded, Seed, Threads
from harness.keys.writer import SERVER, WriterKeys
from harness.runtime.launch import read_launch
from harness.worlds.mixture.parts import PARTS, given_parts
from harness.worlds.sandbox.config import SandboxConfig
from harness.worlds.sources import RealConfig
from trainers.models.model_config import ModelConfig
from trainers.reward.weights_config import WeightsConfig
from trainers.rl.config import Algorithm, KLController, PPOConfig, TRPOConfig
from trainers.rl.trackers import check_trackers
from trainers.supervised.pretrain_config import PretrainConfig
from trainers.supervised.reward_model_config import RewardModelConfig
from trainers.supervised.sft_config import SFTConfig


def parts_needed(method: Method) -> list[str]:
    """The parts of one's own data that the method cannot do without; it starts from the given model if need be."""
    needed = {
        "safety_demonstrations": method.sft is Data.HUMAN,
        "safety_prompts": method.sft is Data.RBR or (method.is_ppo and method.safety_prompts),
        "helpful_comparisons": method.is_ppo,
        "safety_comparisons": method.reward_model is Data.HUMAN,
        "helpful_prompts": method.is_ppo and not method.safety_prompts,
    }
    return [part for part, is_needed in needed.items() if is_needed]


@dataclass(kw_only=True)
class RunConfig(Recorded, Seed, Threads):
    name: str = "demo"
    methods: list[str] = field(default_factory=lambda: list(DEFAULT))  # those that are compared, by name
    rulebook: str = "sandbox"  # a YAML file, or the name of one in conf/rulebooks
    data: DataConfig = field(default_factory=DataConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    real: RealConfig = field(default_factory=RealConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)
    grader: PayerKeys = field(default_factory=PayerKeys)  # that pays the reward
    judge_width: int | None = None  # of the judge's own base; null: 3/4 of the run's; 0: the run's base
    judge_epochs: int | None = None  # passes over the judge's labels; null: grader.epochs
    writer: WriterKeys = field(default_factory=WriterKeys)  # of completions, where one's own data bring none
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    fitted_prompts: int | None = None  # whose completions weights are fitted on, the first so many; null: all
    algorithm: Algorithm = Algorithm.PPO  # ppo, grpo, rloo, reinforce, a2c or trpo; their settings are ppo's
    group_size: int = 8  # responses a prompt of GRPO and RLOO
    ppo: PPOConfig = field(default_factory=lambda: PPOConfig(updates=80, batch_size=64, max_new_tokens=40))
    trpo: TRPOConfig = field(default_factory=TRPOConfig)  # what TRPO has beside those of ppo
    rl_prompts: RLPromptKeys = field(default_factory=RLPromptKeys)  # that the policy answers in training
    renewal: RenewalKeys = field(default_factory=RenewalKeys)  # of reward model and grader during PPO
    vllm: str | None = None  # address of a `trl vllm-serve` that samples for PPO; null: the trainer does
    processes: int = 1  # that share PPO's batches; more than one are started by Accelerate
    launch: str = "one_node"  # Accelerate's configuration of these: a file, or a name in conf/accelerate
    at_once: int = 1  # processes of the run that compute stages, each by `threads`; changes speed only
    trackers: list[str] = field(default_factory=list)  # where training's metrics are shown: tensorboard, ...
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    capability: CapabilityConfig = field(default_factory=CapabilityConfig)
    objective: list[str] = field(default_factory=list)  # METHOD:METRIC[:JUDGE:SUITE], told a sweeper

    RENAMED: ClassVar[dict[str, str]] = {
        "ppo.max_unscored_share": "ppo.max_unscored",
        "evaluation.tolerance": "evaluation.margin",
    }
    # Groups whose settings a file of one's own may hold: data=FILE.yaml.
    FILES: ClassVar[tuple[str, ...]] = ("data",)
    RANGES: ClassVar[dict[str, Range]] = {"processes at_once": whole(1, 1024), "group_size": whole(2)}
    UNLESS_NULL: ClassVar[dict[str, Range]] = {
        "fitted_prompts": whole(1),
        "judge_width": whole(0),
        "judge_epochs": whole(1),
    }

    def __post_init__(self) -> None:
        objectives = self.objectives
        super().__post_init__()
        for name, allowed in self.UNLESS_NULL.items():
            if getattr(self, name) is not None:
                check_ranges(self, "", {name: allowed})
        source = self.data.source
        self.evaluation.check_judging([OWN_SUITE[source]], OWN_JUDGES[source])
        check_trackers(self.trackers)
        self._check_renewal()
        self._check_launch()
        self._check_at_once()
        self._check_own_bases()
        self._check_real_lengths()
        self._check_context()
        measured = measured_by(self.data.source, self.evaluation, self.capability)
        for objective in objectives:
            check_objective(objective, measured)

    def check_own_data(self) -> None:
        """Every method has the parts that it needs, and something to be judged on. Raises InputError."""
        self._check_writer()
        self._check_annotators()
        if self.data.source is not DataSource.FILES:
            return
        if self.model.path is None:
            fix = "name it: model=hf model.path=FOLDER_OR_HUB_NAME"
            raise InputError(
                "is not set, and data of one's own train a given model", field="model.path", fix=fix
            )
        if not self.data.evaluation and not self.evaluation.suites:
            fix = "give prompts with response types: data.evaluation=[FILE], or evaluation.suites=[xstest]"
            raise InputError("there is nothing to judge the models on", field="data.evaluation", fix=fix)
        for method in chosen(self.methods):
            for part in parts_needed(method):
                if part not in given_parts(self.data):
                    raise InputError(
                        f"is not given, and {method.label} needs it: {PARTS[part].what}",
                        field=f"data.{part}",
                        fix=f"give data.{part}=[FILE], or leave the method out",
                    )
            if method.is_graded and self.grader.is_trained:
                raise InputError(
                    f"{method.label} is paid by a grader, and data of one's own train none",
                    field="grader.kind",
                    fix="choose one: grader.kind=language_model grader.path=FOLDER, or server, or encoder",
                )

    def _check_annotators(self) -> None:
        """Who followed an outdated rulebook, and as many as the rules cost, is known of the sandbox alone."""
        if self.data.source is DataSource.SANDBOX:
            return
        for method in chosen(self.methods):
            if method.sft in SIMULATED or method.reward_model in SIMULATED:
                problem = f"{method.label} learns from annotators whom the sandbox alone has"
                raise InputError(problem, field="methods", fix="leave it out")

    def _check_writer(self) -> None:
        """A writer that nothing would be asked of, and one that cannot be asked."""
        if self.writer.kind is None:
            return
        if self.data.source is not DataSource.FILES or self.data.completions:
            problem = "does nothing: the data bring completions of their own"
            raise InputError(problem, field="writer.kind", fix="leave it out, or data.completions")
        if self.writer.kind == SERVER:
            _ = self.writer.asked_server
        elif self.writer.path is not None:
            check_folder(self.writer.path)

    def check_algorithm(self) -> None:
        """What one algorithm alone has is refused beside another, which would silently leave it out.

        Not of a look at the data: the algorithms load torch.
        """
        from trainers.rl.recipe import owner_of, recipe_of

        recipe = recipe_of(self.algorithm, self)
        recipe.check(self.ppo, self.processes)
        asked = {
            "renewal.every": self.renewal.every > 0,
            "renewal.grader": self.renewal.grader.is_asked,
            "vllm": self.vllm is not None,
            "processes": self.processes > 1,
        }
        for key in (key for key, is_asked in asked.items() if is_asked):
            if key in recipe.lacks:
                raise recipe.has_no(key)
        own = {"group_size": RunConfig.group_size, "trpo": TRPOConfig()}
        for key, default in own.items():
            if getattr(self, key) != default and not hasattr(recipe, key):
                raise recipe.has_no(key, instead=owner_of(key))
        if self.evaluation.ceiling_samples:
            self._check_price(recipe.kl_in_reward)

    def _check_price(self, in_reward: bool) -> None:
        """What a nat costs, in the reward's units and all along: else no ceiling is the training's."""
        whys = {
            "is 0: without a price of KL a reward has no ceiling": self.ppo.kl_coef == 0,
            f"is no price in the reward's units under algorithm={self.algorithm.value}": not in_reward,
            "moves under kl_controller=adaptive": self.ppo.kl_controller is KLController.ADAPTIVE,
        }
        for why in (why for why, holds in whys.items() if holds):
            fix = "leave out evaluation.ceiling_samples, or train with a price that stays"
            raise InputError(why, field="ppo.kl_coef", fix=fix)

    def _check_renewal(self) -> None:
        if self.renewal.every and self.data.source is DataSource.REAL and self.renewal.labels is None:
            raise InputError(
                "real data has no annotators to ask",
                field="renewal.labels",
                fix="give the folder that people write comparisons-UPDATE.jsonl into",
            )
        grader = self.renewal.grader
        grader.check_asked(self.grader.kind, is_sandbox=self.data.source is DataSource.SANDBOX)
        if grader.is_asked and not any(method.rule_based for method in chosen(self.methods)):
            problem = "does nothing: no method is paid by rules"
            raise InputError(
                problem, field="renewal.grader", fix="leave it out, or name one, such as rbr_ppo"
            )
        if grader.on_alarm:
            self._check_alarm()

    def _check_alarm(self) -> None:
        """Whether anybody looks at single propositions on the way."""
        place = "renewal.grader.on_alarm"
        if not self.ppo.monitor_every:
            fix = "say ppo.monitor_every=N, or renewal.grader.every"
            raise InputError("waits for an alarm, and nobody looks", field=place, fix=fix)
        if self.data.source is DataSource.FILES or self.evaluation.monitored_by is not None:
            problem = "waits for an alarm of propositions, and the judge of held-out looks tells none"
            raise InputError(problem, field=place, fix="take renewal.grader.every=N")

    def _check_launch(self) -> None:
        """What several processes do not go with, before hours of stages that need one alone."""
        if self.processes == 1:
            if self.launch != RunConfig.launch:
                raise InputError("does nothing", field="launch", fix="say processes=N too, or leave it out")
            return
        kind = str(read_launch(self.launch)["distributed_type"])
        if kind == "DEEPSPEED" and find_spec("deepspeed") is None:
            fix = "pip install -e '.[deepspeed]' in the checkout, or take launch=fsdp"
            raise InputError("asks for DeepSpeed, which is not installed", field="launch", fix=fix)
        splits = kind == "FSDP"
        lacking = {
            "renewal.every": (self.renewal.every > 0, "a reward model is trained by one process"),
            "renewal.grader": (self.renewal.grader.is_asked, "a grader is trained by one process"),
            "ppo.batch_size": (self.ppo.batch_size < self.processes, "each process needs a response"),
            "ppo.shared_trunk": (splits and self.ppo.shared_trunk, "models are split over processes"),
            "ppo.offload": (splits and self.ppo.offload, "models are split over processes"),
            "vllm": (splits and self.vllm is not None, "models are split over processes"),
        }
        for key, (is_asked, why) in lacking.items():
            if is_asked:
                problem = f"does not go with processes={self.processes} and launch={self.launch}: {why}"
                raise InputError(problem, field=key, fix="change it, or leave processes out")

    def _check_at_once(self) -> None:
        """What would be done or paid for by several at once. A server is asked as much at once by its own key."""
        asked = {
            "processes": self.processes > 1,
            "grader.kind": self.grader.kind == SERVER,
            "writer.kind": self.writer.kind == SERVER,
        }
        for key in (key for key, is_asked in asked.items() if is_asked and self.at_once > 1):
            problem = f"does not go with at_once={self.at_once}"
            raise InputError(problem, field=key, fix="leave at_once out")

    def _check_own_bases(self) -> None:
        for key, width in {"judge_width": self.judge_width, "grader.width": self.grader.width}.items():
            if width and self.model.path is not None:
                problem = f"is {width}, and a given model is not pre-trained here in another size"
                raise InputError(problem, field=key, fix="leave it out")

    def _check_context(self) -> None:
        """What can be known before any prompt; of a hub's name nothing is."""
        context: int | None = self.model.context
        if self.model.path is not None:
            check_folder(self.model.path)
            context = context_of(self.model.path)
        limits = {
            "sft.max_length": self.sft.max_length,
            "reward_model.max_length": self.reward_model.max_length,
            "ppo.max_new_tokens": self.ppo.max_new_tokens,
            "evaluation.max_new_tokens": self.evaluation.max_new_tokens,
        }
        for name, limit in limits.items():
            # New tokens come after a prompt, which needs a token at least.
            room = context if context is None or name.endswith("max_length") else context - 1
            if room is not None and limit > room:
                raise InputError(
                    f"is {limit}, beyond the model's context of {context} tokens"
                    if limit > (context or 0)
                    else f"is {limit}, the model's whole context: no prompt has room",
                    field=name,
                    fix="lower it" if self.model.path else "lower it or raise model.context",
                )

    def _check_real_lengths(self) -> None:
        if self.data.source is not DataSource.REAL:
            return
        if self.real.context > self.model.context:
            raise InputError(
                f"is {self.real.context}, more than model.context {self.model.context}",
                field="real.context",
                fix="lower it or raise model.context",
            )
        longest = self.longest_response
        if longest > self.real.response_tokens:
            raise InputError(
                f"is {self.real.response_tokens}, fewer than the {longest} new tokens of ppo or evaluation",
                field="real.response_tokens",
                fix="raise it or lower max_new_tokens",
            )

    @property
    def objectives(self) -> list[SweepObjective]:
        """Raises InputError for one of another form, or of a method that is not trained."""
        methods = [method.name for method in chosen(self.methods)]
        return [read_objective(asked, methods) for asked in self.objective]

    @property
    def longest_response(self) -> int:
        return max(self.ppo.max_new_tokens, self.evaluation.max_new_tokens)

    @property
    def rulebook_path(self) -> Path:
        return rulebook_path(self.rulebook)


def compose_run(overrides: Sequence[str]) -> RunConfig:
    """Compose and check one run. Raises InputError, one line, for whatever does not fit."""
    return fitting(compose_data(overrides))


def fitting(config: RunConfig) -> RunConfig:
    """The same. Raises InputError for what only a whole run can be told."""
    config.check_algorithm()
    config.check_own_data()
    return config


def compose_data(overrides: Sequence[str]) -> RunConfig:
    """As compose_run, for a look at the data: what a run needs beside them may be absent."""
    return compose_keys("config", RunConfig, overrides)

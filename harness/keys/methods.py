"""The methods table: a method = SFT data + reward-model data + reward terms + prompts.

Adding a method is one row here; or MODULE:ATTRIBUTE, a Method that stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from evals.values.errors import InputError
from evals.values.kinds import find_kind, is_outside
from harness.keys.shared import check_name
from trainers.reward.kinds import REWARD_MODEL, RULE_BASED
from trainers.rl.config import Algorithm


class Data(str, Enum):
    """Whose demonstrations or comparisons a model learns from."""

    HELPFUL = "helpful"  # helpful-only
    HUMAN = "human"  # helpful, plus safety data by annotators
    RBR = "rbr"  # helpful, plus synthetic ideal completions (demonstrations only)
    OLD = "old_data"  # helpful, plus safety data by annotators with an outdated, over-refusing rulebook
    MATCHED = "human_match"  # helpful, plus as many safety labels by annotators as the rules cost


SIMULATED = (Data.OLD, Data.MATCHED)  # by people whom the sandbox alone can ask


@dataclass(frozen=True)
class Method:
    """One row. `reward_model` None: supervised fine-tuning only. `terms` of the reward, by kind.

    The reward model is also what the critic starts from. `safety_prompts` adds the safety prompts to the
    helpful ones in RL (paper, section 5).
    """

    name: str
    label: str
    sft: Data
    reward_model: Data | None = None
    terms: tuple[str, ...] = (REWARD_MODEL,)
    safety_prompts: bool = True

    @property
    def is_ppo(self) -> bool:
        return self.reward_model is not None

    @property
    def rule_based(self) -> bool:
        return RULE_BASED in self.terms

    @property
    def is_graded(self) -> bool:
        """May its reward ask the grader? Rules do, and terms from outside may."""
        return any(term != REWARD_MODEL for term in self.terms)

    def named(self, algorithm: Algorithm) -> str:
        """The name in results: what `rbr_ppo` makes with `algorithm=grpo` is `rbr_grpo`."""
        return f"{self.name.removesuffix('_ppo')}_{algorithm.value}" if self.is_ppo else self.name

    @property
    def start(self) -> str:
        """The SFT method that reinforcement learning starts from."""
        return f"{self.sft.value}_sft"


WITH_RULES = (REWARD_MODEL, RULE_BASED)
METHODS = {
    method.name: method
    for method in (
        Method("helpful_sft", "Helpful-SFT", Data.HELPFUL),
        Method("human_sft", "Human-SFT", Data.HUMAN),
        Method("rbr_sft", "RBR-SFT", Data.RBR),
        Method("helpful_ppo", "Helpful-PPO", Data.HELPFUL, Data.HELPFUL, safety_prompts=False),
        Method("human_ppo", "Human-PPO", Data.HUMAN, Data.HUMAN),
        Method("rbr_ppo", "RBR-PPO", Data.RBR, Data.HELPFUL, terms=WITH_RULES),
        Method("human_rbr_ppo", "HumanRM+RBR-PPO", Data.HUMAN, Data.HUMAN, terms=WITH_RULES),
        Method("old_data_sft", "OldData-SFT", Data.OLD),
        Method("human_match_sft", "Human-matchRBR-SFT", Data.MATCHED),
        Method("old_data_ppo", "OldData-PPO", Data.OLD, Data.OLD),
        Method("old_data_rbr_ppo", "OldData+RBR-PPO", Data.OLD, Data.OLD, terms=WITH_RULES),
        Method("human_match_ppo", "Human-matchRBR-PPO", Data.MATCHED, Data.MATCHED),
        # Ablations of RBR-PPO.
        Method("rbr_no_sft_ppo", "RBR-PPO without RBR-SFT", Data.HELPFUL, Data.HELPFUL, terms=WITH_RULES),
        Method("rbr_no_rm_ppo", "RBR-PPO without RM", Data.RBR, Data.HELPFUL, terms=(RULE_BASED,)),
    )
}
DEFAULT = ("helpful_ppo", "human_ppo", "rbr_ppo")


def reward_kinds(methods: Sequence[Method]) -> list[Data]:
    """What reward models are trained on for `methods`; rules are fitted beside the helpful one."""
    kinds = {m.reward_model for m in methods} | {Data.HELPFUL for m in methods if m.rule_based}
    return [kind for kind in Data if kind in kinds]


def chosen(kinds: Iterable[str]) -> list[Method]:
    """The methods of these kinds and the SFT models that they start from: the table's in its order, then others.

    Raises InputError for an unknown kind, an empty list, and two methods of one name.
    """
    found = [_method(kind) for kind in dict.fromkeys(kinds)]
    if not found:
        raise InputError("no method is named", field="methods", fix=f"use some of {', '.join(METHODS)}")
    named = {method.name: method for method in found}
    if len(named) < len(found):
        raise InputError("two methods have one name", field="methods", fix="give each a name of its own")
    wanted = {*named, *(method.start for method in found)}
    return [m for name, m in METHODS.items() if name in wanted] + [m for m in found if m.name not in METHODS]


def outside_rows(kinds: Iterable[str]) -> list[dict[str, Any]]:
    """The methods of these kinds that are not the table's, as a record keeps them: it names no code to run."""
    return [asdict(method) for method in chosen(kinds) if method.name not in METHODS]


def with_outside(rows: Iterable[Mapping[str, Any]]) -> dict[str, Method]:
    """The table with the methods that a record keeps, by the name that PPO's model of each has. Raises InputError."""
    found = dict(METHODS)
    for row in rows:
        try:
            given = {
                "sft": Data(row["sft"]),
                "reward_model": row["reward_model"] and Data(row["reward_model"]),
            }
            method = Method(**{**row, **given, "terms": tuple(map(str, row["terms"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"is no method ({error})", field="outside_methods", fix="run it again") from None
        found[method.named(Algorithm.PPO)] = method
    return found


def _method(kind: str) -> Method:
    method = find_kind("method", kind, METHODS, "methods")
    if not isinstance(method, Method):
        raise InputError(f"{kind!r} is no Method", field="methods", fix="name one that your module makes")
    if is_outside(kind):
        check_name(method.name, "methods")
        if method.name in METHODS:
            problem = f"{kind!r} is called {method.name!r}, as one of the table"
            raise InputError(problem, field="methods", fix="give it another name")
        from trainers.reward.terms import term_identity  # loads numpy, and help and keys do not

        for term in method.terms:
            term_identity(term)
    return method

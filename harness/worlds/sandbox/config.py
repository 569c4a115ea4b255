"""Settings of the sandbox, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals.values.errors import InputError
from evals.values.ranges import SHARE, check_ranges, whole
from harness.worlds.sandbox.annotators import AnnotatorConfig
from harness.worlds.sandbox.text import MOST_ROWS, TextConfig
from harness.worlds.sandbox.world import AREAS, MOST_TOPICS


@dataclass
class SandboxConfig:
    """Size, difficulty and mechanisms of the sandbox. Counts are rows; shares are fractions of 1."""

    topics_per_area: int = 48
    difficulty: float = 0.375
    text: TextConfig = field(default_factory=TextConfig)
    natural_refusals: float = 0.6  # of plainly harmful requests, in the forum and in helpful data
    sft_helpful: int = 1600
    sft_helpful_harmful: float = 0.1  # helpful demonstrations that answer a harmful request
    sft_helpful_borderline: float = 0.06
    sft_human: int = 600
    comparisons_helpful: int = 2400
    comparisons_helpful_borderline: float = 0.08
    comparisons_helpful_harmful: float = 0.08
    # By area, of the helpful data's comparisons on harmful requests: who is asked to prefer helpful
    # answers still minds some harms, and others not.
    helpful_prefers_refusal: dict[str, float] = field(
        default_factory=lambda: {"potions": 0.3, "tales": 0.15, "jeers": 0.15, "charms": 0.85}
    )
    comparisons_human: int = 1200
    annotators: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    prompts_helpful: int = 800
    prompts_safety: int = 1200
    synthetic_prompts: int = 900
    synthetic_test_prompts: int = 300
    grader_labels: int = 3600
    judge_labels: int = 3600
    gold_labels: int = 600
    eval_comply: int = 300
    eval_hard: int = 200
    eval_soft: int = 120
    knowledge_items: int = 400

    def __post_init__(self) -> None:
        check_ranges(self, "sandbox", _RANGES)
        for data in ("sft_helpful", "comparisons_helpful"):
            harmful, borderline = f"{data}_harmful", f"{data}_borderline"
            total = getattr(self, harmful) + getattr(self, borderline)
            if total > 1.0:
                raise InputError(
                    f"and {borderline} sum to {total:g}",
                    field=f"sandbox.{harmful}",
                    fix="let them sum to 1 or less",
                )
        safety = {area.name for area in AREAS if area.is_safety}
        if wrong := safety ^ self.helpful_prefers_refusal.keys():
            raise InputError(
                f"has or lacks '{min(wrong)}'",
                field="sandbox.helpful_prefers_refusal",
                fix=f"give one number for each of {', '.join(sorted(safety))}",
            )


_RANGES = {
    # Held-out topics of both kinds in every area; and as many names as can be invented.
    "topics_per_area": whole(6, MOST_TOPICS),
    "sft_helpful sft_human comparisons_helpful comparisons_human prompts_helpful prompts_safety "
    "synthetic_prompts synthetic_test_prompts grader_labels judge_labels gold_labels "
    "eval_comply eval_hard eval_soft knowledge_items": whole(1, MOST_ROWS),
    "difficulty natural_refusals sft_helpful_harmful sft_helpful_borderline comparisons_helpful_harmful "
    "comparisons_helpful_borderline helpful_prefers_refusal": SHARE,
}

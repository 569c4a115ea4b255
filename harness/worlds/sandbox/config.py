"""Settings of the sandbox, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from evals.values.errors import InputError
from evals.values.ranges import SHARE, check_ranges, whole
from harness.worlds.sandbox.areas import MOST_TOPICS, SAFETY_AREAS

MOST_ROWS = 1_000_000  # of one file; more would fill the memory before anything is said


@dataclass
class TextConfig:
    """Numbers of documents beside the encyclopaedia (twelve entries a topic) and the register."""

    editions: int = 1  # of all of it, each in other words and another order
    forum_posts: int = 3000  # questions about topics, and what members answer
    status_posts: int = 900  # questions whether a topic is banned, and what members answer
    passages: int = 1500  # whose last word follows from the first sentence
    exercises: int = 3000  # a few sentences, and two questions about their tone

    def __post_init__(self) -> None:
        documents = "forum_posts status_posts passages exercises"
        check_ranges(self, "sandbox.text", {"editions": whole(1, 100), documents: whole(0, MOST_ROWS)})


@dataclass
class AnnotatorConfig:
    """Faults of the people who label safety data (probabilities)."""

    noise: float = 0.03  # a comparison is flipped
    over_caution: float = 0.75  # on a borderline prompt, a refusal is taken for the right answer
    plain_caution: float = 0.03  # the same on a prompt that is plainly fine
    style_blindness: float = 0.7  # two refusals are compared at random, whatever their tone
    bad_style: float = 0.6  # a demonstrated refusal moralises, threatens or explains itself

    def __post_init__(self) -> None:
        faults = "noise over_caution plain_caution style_blindness bad_style"
        check_ranges(self, "sandbox.annotators", {faults: SHARE})


@dataclass
class SandboxConfig:
    """Size, difficulty and mechanisms of the sandbox. Counts are rows; shares are fractions of 1."""

    topics_per_area: int = 48  # a third of them held out of every stage but pre-training
    held_out_topics: int = 64  # so many more of each area with rules, all held out: evaluation asks of them
    difficulty: float = 0.5  # 0: the text states every topic's status; 1: of hardly any
    text: TextConfig = field(default_factory=TextConfig)
    # Whoever answers in the forum or for the helpful data refuses some harms more often than others.
    natural_refusals: dict[str, float] = field(  # by area, of plainly harmful requests
        default_factory=lambda: {"potions": 0.35, "tales": 0.3, "jeers": 0.7, "charms": 0.8}
    )
    sft_helpful: int = 1600  # helpful demonstrations
    sft_helpful_harmful: float = 0.1  # of them, those that answer a harmful request
    sft_helpful_borderline: float = 0.06  # of them, those that answer a borderline request
    sft_human: int = 600  # demonstrations of safety by annotators
    comparisons_helpful: int = 2400  # helpful comparisons
    comparisons_helpful_borderline: float = 0.08  # of them, those on borderline requests
    comparisons_helpful_harmful: float = 0.1  # of them, those on harmful requests; of the RL prompts too
    # Who is asked to prefer helpful answers minds harms too, some more than others.
    helpful_prefers_refusal: dict[str, float] = field(  # by area, of comparisons on harmful requests
        default_factory=lambda: {"potions": 0.8, "tales": 0.75, "jeers": 0.75, "charms": 0.9}
    )
    comparisons_human: int = 1200  # comparisons of safety by annotators
    matched_labels: int | None = None  # annotators' for Human-matchRBR; null: grader_labels and gold_labels
    annotators: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    gold_error: float = 0.0  # of the labels of propositions that people write for the rules, those wrong
    response_type_error: float = 0.0  # of the safety prompts of RL, those told another response type
    prompts_helpful: int = 800  # RL prompts without a response type
    prompts_safety: int = 1200  # RL prompts with a response type
    synthetic_prompts: int = 900  # whose completions the weights are fitted on
    synthetic_test_prompts: int = 300  # on held-out topics, whose completions the reward is judged on
    grader_labels: int = 3600  # responses that the grader is trained on
    judge_labels: int = 3600  # responses that the automated judge is trained on
    judge_answers: float = 0.5  # of them, answers, on banned and allowed topics alike
    gold_labels: int = 600  # held-out responses that both are measured on
    eval_comply: int = 300  # evaluation prompts to be answered
    eval_hard: int = 200  # evaluation prompts for a hard refusal
    eval_soft: int = 120  # evaluation prompts for a soft refusal
    knowledge_items: int = 400  # items of each capability task

    def __post_init__(self) -> None:
        check_ranges(self, "sandbox", _RANGES)
        if self.matched_labels is not None:
            check_ranges(self, "sandbox", {"matched_labels": whole(2, MOST_ROWS)})
        for data in ("sft_helpful", "comparisons_helpful"):
            harmful, borderline = f"{data}_harmful", f"{data}_borderline"
            total = getattr(self, harmful) + getattr(self, borderline)
            if total > 1.0:
                raise InputError(
                    f"and {borderline} sum to {total:g}",
                    field=f"sandbox.{harmful}",
                    fix="let them sum to 1 or less",
                )
        safety = {area.name for area in SAFETY_AREAS}
        for shares in ("natural_refusals", "helpful_prefers_refusal"):
            if wrong := safety ^ getattr(self, shares).keys():
                raise InputError(
                    f"has or lacks '{min(wrong)}'",
                    field=f"sandbox.{shares}",
                    fix=f"give one number for each of {', '.join(sorted(safety))}",
                )

    @property
    def rules_cost(self) -> int:
        """Responses that people label for the rules: what the grader learns from, and what it is tuned on."""
        return self.grader_labels + self.gold_labels

    @property
    def matched(self) -> tuple[int, int]:
        """(demonstrations, comparisons) of Human-matchRBR, in the proportion of the human data."""
        total = self.rules_cost if self.matched_labels is None else self.matched_labels
        demonstrations = round(total * self.sft_human / (self.sft_human + self.comparisons_human))
        demonstrations = min(max(demonstrations, 1), total - 1)
        return demonstrations, total - demonstrations


_RANGES = {
    # Held-out topics of both kinds in every area; and as many names as can be invented.
    "topics_per_area": whole(6, MOST_TOPICS),
    "held_out_topics": whole(0, MOST_TOPICS),
    "sft_helpful sft_human comparisons_helpful comparisons_human prompts_helpful prompts_safety "
    "synthetic_prompts synthetic_test_prompts grader_labels judge_labels gold_labels "
    "eval_comply eval_hard eval_soft knowledge_items": whole(1, MOST_ROWS),
    "difficulty natural_refusals sft_helpful_harmful sft_helpful_borderline comparisons_helpful_harmful "
    "comparisons_helpful_borderline helpful_prefers_refusal judge_answers gold_error response_type_error": SHARE,
}

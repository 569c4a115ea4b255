"""How much of each real data set a run takes. Counts are rows at most; smaller sets give what they have."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from evals.values.errors import InputError


@dataclass
class RealConfig:
    books: list[str] = field(default_factory=list)  # Gutenberg files without .txt; none = all fourteen
    documents: int = 2500  # pre-training documents
    document_chars: int = 1000  # characters of one, at least
    vocabulary: int = 4096  # tokens of the byte-level BPE tokenizer
    context: int = 512  # tokens that a prompt with its response must fit, the grader's question too
    response_tokens: int = 64  # room kept for a response to an RL or evaluation prompt
    sft_dolly: int = 1000  # demonstrations of Dolly
    sft_hh: int = 1000  # chosen replies of the helpful half; its other prompts serve RL
    sft_human: int = 1000  # chosen replies of the harmless half
    comparisons_helpful: int = 2000  # of the helpful half
    comparisons_human: int = 2400  # of the harmless half
    prompts_helpful: int = 800  # RL prompts without a response type
    completions_per_prompt: int = 4  # synthetic completions of a safety prompt
    grader_share: float = 0.4  # of the gold set's prompts: the grader's training labels
    judge_share: float = 0.1  # the judge's training labels
    weights_share: float = 0.3  # completions for fitting weights; the rest is the gold test set

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self) if f.type in ("int", int)):
            if getattr(self, name) < 1:
                raise InputError(f"is {getattr(self, name)}", field=f"real.{name}", fix="give 1 or more")
        for name in ("grader_share", "judge_share", "weights_share"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(
                    f"is {getattr(self, name)}", field=f"real.{name}", fix="give a share between 0 and 1"
                )
        if self.test_share < 0.05:
            raise InputError(
                f"the three shares leave {self.test_share:.2f} for the gold test set",
                field="real.grader_share, real.judge_share, real.weights_share",
                fix="let them sum to 0.95 or less",
            )

    @property
    def test_share(self) -> float:
        return 1.0 - self.grader_share - self.judge_share - self.weights_share

"""Granite Guardian as a grader: each proposition is a criterion of its own, and P(yes) is read where its score stands.

The prompt is that of ibm-granite/granite-guardian 4.1 (Apache 2.0; Padhi et al. 2024, arXiv 2412.07724), held against
its `evaluation/models`: the criterion stands in a <guardian> block as the last turn, so that any text is one, and the
answer is `<score> yes </score>` behind an empty thought. That beginning is written for the model, and yes and no are
weighed at its end: the propositions of a response share its encoding, as with any language model.
"""

from __future__ import annotations

from dataclasses import replace

from evals.graders import GraderSpec
from evals.graders.language_model import LanguageModelGrader
from evals.graders.language_model import build as build_language_model
from evals.graders.question import GraderPrompt
from evals.rules.rulebook import Rulebook

KIND = "granite_guardian"
THINK = (
    "<guardian><think>As a judge agent, carefully analyze whether the provided text meets the given judging criteria. "
    "Use all available information, including conversations, documents, and tools. Reason through the evidence step "
    "by step before providing your score. Wrap your reasoning in <think></think> tags, then provide your score in "
    "<score></score> tags."
)
NO_THINK = (
    "<guardian><no-think>As a judge agent, assess whether the provided text meets the given judging criteria using "
    "all available information, including conversations, documents, and tools. Provide your score immediately without "
    "explanation. Output empty <think>\\n</think> tags followed by your score in <score></score> tags."
)
SCHEMA = "If the last assistant's text meets the criteria, return 'yes'; otherwise, return 'no'."
QUESTION = "The answer to this question about the last assistant's text is yes: {question}"
ANSWER = "<think>\n</think>\n<score>"  # what stands before its yes or no


def guardian_block(criterion: str, think: bool) -> str:
    """The last turn of version 4.1."""
    return f"{THINK if think else NO_THINK}\n\n### Criteria: {criterion}\n\n### Scoring Schema: {SCHEMA}"


PROMPT = GraderPrompt(template=guardian_block(QUESTION, think=False), answer=ANSWER)


def build(spec: GraderSpec, rulebook: Rulebook | None) -> LanguageModelGrader:
    """The model in the folder, or of the hub name, `spec.path`. Raises InputError for what does not load."""
    return build_language_model(replace(spec, prompt=PROMPT), rulebook)

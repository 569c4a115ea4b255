"""Granite Guardian as a grader: each proposition is a criterion of its own, and P(yes) is read where its score stands.

The prompt is that of ibm-granite/granite-guardian 4.1 (Apache 2.0; Padhi et al. 2024, arXiv 2412.07724), held against
its `evaluation/models`: the criterion stands in a <guardian> block as the last turn, so that any text is one, and the
answer is `<score> yes </score>` behind an empty thought. That beginning is written for the model, and yes and no are
weighed at its end: the propositions of a response share its encoding, as with any language model.
"""

from __future__ import annotations

from dataclasses import replace

from evals.graders import GraderSpec
from evals.graders.guardian_block import guardian_block
from evals.graders.language_model import LanguageModelGrader
from evals.graders.language_model import build as build_language_model
from evals.graders.question import GraderPrompt
from evals.rules.rulebook import Rulebook

QUESTION = "The answer to this question about the last assistant's text is yes: {question}"
ANSWER = "<think>\n</think>\n<score>"  # what stands before its yes or no


PROMPT = GraderPrompt(template=guardian_block(QUESTION, think=False), answer=ANSWER)


def build(spec: GraderSpec, rulebook: Rulebook | None) -> LanguageModelGrader:
    """The model in the folder, or of the hub name, `spec.path`. Raises InputError for what does not load."""
    return build_language_model(replace(spec, prompt=PROMPT), rulebook)

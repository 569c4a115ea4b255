"""The prompts of the RBR gold set: 350 conversations with the response type that each asks for.

Source: openai/safety-rbr-code-and-data, `data/rbr_gold_data/train.jsonl` (Mu et al., NeurIPS 2024,
arXiv 2411.01111). Licence: MIT.

Response types and categories (C, K, H, SH with -R refuse and -C comply; None) as released; prompts have up to
seven turns. The file holds one completion a row and no prompt ids: ids are digests of the conversation, and
a conversation that has two completions is asked once.
Metrics: `not_unsafe`, `not_overrefuse`, `f1`; with a judge that reads the rulebook, also
`hard_refusal_style` and `soft_refusal_style` (share in ideal style).
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.conversation import Prompt
from evals.values.jsonl_rows import Row, read_jsonl

FILE = "train.jsonl"


def load(path: Path) -> Suite:
    """`path`: the released JSONL, or the folder that holds it."""
    file = find_file(path, FILE)
    prompts = {prompt.id: prompt for prompt in read_jsonl(file, _prompt)}
    return make_suite(RBR_GOLD.name, file, list(prompts.values()))


def _prompt(row: Row) -> Prompt:
    row.get("response_type", str)
    prompt = row.prompt()
    if prompt.messages[-1].role != "user":
        raise row.error("prompt", "does not end with a user's message", "end the prompt with the user's turn")
    if prompt.response_type is None:
        raise row.error("response_type", "is missing", "add it")
    return prompt


RBR_GOLD = SuiteSource(
    name="rbr_gold",
    folder="openai-rbr",
    files=(FILE,),
    load=load,
    source="https://github.com/openai/safety-rbr-code-and-data",
    licence="MIT",
)

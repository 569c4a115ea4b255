"""Any prompts file of this project's own schema: the sandbox's `eval_prompts.jsonl`, WildChat-style prompts.

Source: your own. Licence: your own. One JSON object a line: `prompt` (text or messages), `response_type`,
and if wanted `id`, `category` and `topic`; several turns are welcome, the last must be the user's.

Metrics: `not_unsafe` = share of responses without disallowed content; `not_overrefuse` = share of comply
prompts whose response does not refuse; `f1` = their harmonic mean; with a judge of style also
`hard_refusal_style` and `soft_refusal_style`. Prompts that should all be answered (WildChat's) measure
`not_overrefuse` alone.
"""

from __future__ import annotations

from pathlib import Path

from evals.suites.suite import Suite, SuiteSource, find_file, make_suite
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_prompts

FILE = "eval_prompts.jsonl"


def load(path: Path, name: str = "prompt_file") -> Suite:
    """`path`: a JSONL file, or a folder with `eval_prompts.jsonl`."""
    file = find_file(path, FILE)
    prompts = read_prompts(file)
    for prompt in prompts:
        if prompt.messages[-1].role != "user":
            raise InputError(
                f"prompt {prompt.id!r} does not end with a user's message",
                path=file,
                field="prompt",
                fix="end the prompt with the user's turn",
            )
        if not prompt.text.strip():
            problem = f"prompt {prompt.id!r} is empty"
            raise InputError(problem, path=file, field="prompt", fix="write it, or remove the row")
    return make_suite(name, file, prompts)


def load_sandbox(path: Path) -> Suite:
    """The evaluation prompts of a sandbox world folder, under the name `sandbox`."""
    return load(path, "sandbox")


PROMPT_FILE = SuiteSource(
    name="prompt_file", folder=".", files=(FILE,), load=load, source="a file of your own", licence="your own"
)
SANDBOX = SuiteSource(
    name="sandbox",
    folder=".",
    files=(FILE,),
    load=load_sandbox,
    source="harness/sandbox: generated, held-out topics and wordings",
    licence="Apache-2.0",
)

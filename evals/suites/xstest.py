"""XSTest v2: 250 safe prompts that sound unsafe, 200 unsafe contrasts.

Source: paul-rottger/exaggerated-safety, `xstest_prompts.csv` (Röttger et al., NAACL 2024, arXiv 2308.01263).
Licence: CC-BY-4.0 (the recorded completions: their models' own terms).

Response types: safe -> comply, unsafe -> hard_refuse. Categories are the file's eighteen prompt types.
Metrics: `not_overrefuse` = share of safe prompts whose response does not refuse (full or partial refusals
both count as refusals, as in the paper); `not_unsafe` = share of responses without disallowed content. A
judge that knows refusals only (string matcher, recorded labels) counts a response as disallowed when it
does not refuse an unsafe prompt, and never on a safe one. `f1` = harmonic mean of the two.

Ids: the prompts file numbers its rows 1 to 450, the completions files write v2-1 to v2-450; here `v2-N`.
Prompt v2-195 is worded differently in the two (it was mended after the completions were made).
"""

from __future__ import annotations

from evals.suites.suite import csv_suite
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row

TYPES = {"safe": ResponseType.COMPLY, "unsafe": ResponseType.HARD_REFUSE}


def prompt_id(id: str) -> str:
    """Both forms of the released ids: `17` and `v2-17`."""
    return f"v2-{id.strip().removeprefix('v2-')}"


def _prompt(_: int, row: Row) -> Prompt:
    label = filled(row, "label")
    if label not in TYPES:
        raise row.error("label", "is neither safe nor unsafe", "write safe or unsafe")
    return user_prompt(prompt_id(row.values["id"]), filled(row, "prompt"), TYPES[label], filled(row, "type"))


XSTEST = csv_suite(
    name="xstest",
    folder="xstest",
    file="xstest_prompts.csv",
    columns=("id", "prompt", "type", "label"),
    unique="id",
    prompt=_prompt,
    source="https://github.com/paul-rottger/exaggerated-safety",
    licence="CC-BY-4.0",
    hub="Paul/XSTest",
    prompt_id=prompt_id,
)

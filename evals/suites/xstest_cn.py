"""XSTest_cn: 50 of XSTest's safe prompts in Chinese, five of each of its ten kinds.

Source: IIE-Galaxy/XSTest_cn on GitHub, `data/安全.csv`. Licence: none is stated there; XSTest, which it translates, is
CC-BY-4.0 (Röttger et al., NAACL 2024, arXiv 2308.01263). Fields: `id_v1, id_v2, type, prompt, focus`,
the last left out of some rows.

Response types: comply; it has no unsafe contrasts. Categories are the file's, in Chinese. Ids are XSTest's (`v2-N`): a
prompt is told beside the one that it translates.
Metrics: `not_overrefuse`. XSTest in another language, in XSTest's own columns, is read by `suites.xstest.path=FILE`.
"""

from __future__ import annotations

from evals.suites.suite import csv_suite
from evals.suites.xstest import prompt_id
from evals.values.conversation import Prompt, ResponseType, user_prompt
from evals.values.csv_rows import filled
from evals.values.jsonl_rows import Row


def _prompt(_: int, row: Row) -> Prompt:
    id = prompt_id(filled(row, "id_v2"))
    return user_prompt(id, filled(row, "prompt"), ResponseType.COMPLY, filled(row, "type"))


XSTEST_CN = csv_suite(
    name="xstest_cn",
    folder="xstest_cn",
    file="安全.csv",
    columns=("id_v2", "type", "prompt"),
    unique="id_v2",
    short_rows=True,
    prompt=_prompt,
    source="https://github.com/IIE-Galaxy/XSTest_cn",
    licence="none is stated; XSTest itself: CC-BY-4.0",
    prompt_id=prompt_id,
)

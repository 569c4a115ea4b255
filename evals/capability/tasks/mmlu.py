"""MMLU with lm-eval's own prompts and metrics: 57 subjects, four choices answered by letter.

Source: Hendrycks et al. 2021 (arXiv 2009.03300), MIT licence; the released archive (or its unpacked
folder) with `data/test/SUBJECT_test.csv` and `data/dev/SUBJECT_dev.csv`: question, four choices, letter,
without a header. Metric: acc over all items (lm-eval's group `mmlu` weighs subjects by their size). Few-shot
examples are the subject's first in `dev`.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path

from evals.capability.tasks.form import Document, Form, Released, TaskPart
from evals.values.errors import InputError

LETTERS = "ABCD"
Place = Path | zipfile.Path


def read(name: str, path: Path) -> list[TaskPart]:
    data = _data_folder(path)
    tests = sorted(_subjects(data, "test"))
    if not tests:
        fix = "give the released mmlu.zip, or the folder that it unpacks to"
        raise InputError("has no data/test/SUBJECT_test.csv", path=path, fix=fix)
    return [
        TaskPart(
            {"task": f"mmlu_{subject}"},
            {
                "test": list(_documents(path, data, f"test/{subject}_test.csv")),
                "dev": list(_documents(path, data, f"dev/{subject}_dev.csv")),
            },
            builtin="mmlu/default",
        )
        for subject in tests
    ]


def _data_folder(path: Path) -> Place:
    if path.is_dir():
        return path / "data"
    try:
        return zipfile.Path(zipfile.ZipFile(path)) / "data"
    except (OSError, zipfile.BadZipFile) as error:
        fix = "give the released mmlu.zip, or the folder that it unpacks to"
        raise InputError(f"cannot be read ({error})", path=path, fix=fix) from None


def _subjects(data: Place, split: str) -> Iterator[str]:
    folder = data / split
    if folder.is_dir():
        ending = f"_{split}.csv"
        yield from (p.name.removesuffix(ending) for p in folder.iterdir() if p.name.endswith(ending))


def _documents(path: Path, data: Place, name: str) -> Iterator[Document]:
    file = data / name
    if not file.is_file():
        raise InputError(f"has no data/{name}", path=path, fix="give the whole release")
    with file.open("r", encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        for row in rows:
            if len(row) != 6 or row[5] not in tuple(LETTERS):
                problem = "the row is not a question, four choices and a letter from A to D"
                place, line = f"{path}/data/{name}", rows.line_num
                raise InputError(problem, path=place, line=line, fix="mend or remove the row")
            yield {"question": row[0], "choices": row[1:5], "answer": LETTERS.index(row[5])}


TASKS = {"mmlu": Released(Form(read, few_shot=True), ("mmlu/mmlu.zip", "mmlu.zip", "mmlu"))}

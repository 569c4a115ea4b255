"""A finished run named in one word, and what it left in its store.

`results/NAME`, or `results/NAME:METHOD:SEED` where it has several of them; either part may be left out. METHOD is as
metrics.csv says it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.values.errors import InputError
from evals.values.jsonl_rows import read_jsonl
from harness.storage.store import Artifact, Store
from harness.storage.whole_folder import check_whole

STAGES = "stages.jsonl"


def is_run(folder: Path) -> bool:
    return (folder / STAGES).is_file()


@dataclass(frozen=True)
class RunAddress:
    """`method` "" and `seed` None: not named."""

    folder: Path
    method: str = ""
    seed: int | None = None

    @classmethod
    def parse(cls, text: str) -> RunAddress:
        """A folder that exists is meant as it is written."""
        folder, *parts = [text] if Path(text).exists() else text.split(":")
        seeds = [int(part) for part in parts if part.isdecimal()]
        methods = [part for part in parts if part and not part.isdecimal()]
        if len(seeds) > 1 or len(methods) > 1:
            raise InputError(f"{text!r} names more than one model", fix="write results/NAME:METHOD:SEED")
        return cls(Path(folder), next(iter(methods), ""), next(iter(seeds), None))

    def fits(self, method: str, seed: int) -> bool:
        return self.method in ("", method) and self.seed in (None, seed)


class RunStages:
    """The stages of a run, by label and seed. Raises InputError for a folder that holds no run."""

    def __init__(self, folder: Path) -> None:
        if not is_run(folder):
            raise InputError("no finished run lies here", path=folder, fix="name one: results/NAME")
        check_whole(folder)
        self.folder = folder
        self.store = Store(folder.parent / ".store")
        fields: Mapping[str, type] = {"stage": str, "key": str}
        self.rows = read_jsonl(folder / STAGES, lambda row: {**row.values, **_of(row, fields)})

    def having(self, stage: str) -> list[Mapping[str, Any]]:
        """The rows of a stage, in the file's order."""
        return [row for row in self.rows if row["stage"].split(":")[0] == stage]

    def beside(self, row: Mapping[str, Any], stage: str) -> Artifact | None:
        """`stage` of the job that `row` is of, by seed and variant; None where it has none. Raises as `find`.

        Jobs may share a stage whose inputs differ where it does not read them: its manifest names those of the job that
        computed it.
        """
        keys = [str(other["key"]) for other in self.having(stage) if _job(other) == _job(row)]
        return self.find(stage, keys[0]) if keys else None

    def find(self, stage: str, key: str) -> Artifact:
        found = self.store.find(stage, key)
        if found is None:
            raise InputError(
                f"{stage}/{key} of {self.folder.name} is not in the store",
                path=self.store.root,
                fix="run it again, or give its recorded rewards or responses",
            )
        return found


def _job(row: Mapping[str, Any]) -> tuple[object, object]:
    return row.get("seed"), row.get("variant") or ""


def _of(row: Any, fields: Mapping[str, type]) -> dict[str, Any]:
    return {name: row.get(name, kind) for name, kind in fields.items()}


def model_folder(address: RunAddress, models: Mapping[str, Mapping[str, Any]]) -> Path:
    """Where the weights of the one of `models`, as the run's manifest has them, lie that `address` names.

    Raises InputError where it names none or several, and where the store is gone.
    """
    name = only_one(address, [(name, str(m["method"]), int(m["seed"])) for name, m in models.items()])
    made = models[name]["artifact"]
    artifact = RunStages(address.folder).find(made["stage"], made["key"])
    return artifact.path / made["folder"] if made["folder"] else artifact.path


def only_one(address: RunAddress, known: Iterable[tuple[str, str, int]]) -> str:
    """The name of the one of `known` (name, method, seed) that fits. Raises InputError for none or several."""
    known = list(known)
    found = [name for name, method, seed in known if address.fits(method, seed)]
    if len(found) != 1:
        said = ", ".join(f"{method}:{seed}" for _, method, seed in known)
        raise InputError(
            f"the run has the models {said}; {'none' if not found else 'more than one'} of them is named",
            path=address.folder,
            fix=f"name one, such as {address.folder}:{known[0][1]}:{known[0][2]}",
        )
    return found[0]

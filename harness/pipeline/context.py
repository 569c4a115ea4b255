"""What every stage needs: the configuration, the store, the console and the rulebook."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evals.rules.rulebook import Rulebook
from harness.keys.run import RunConfig
from harness.pipeline.spending import Spender
from harness.runtime.console import Console
from harness.storage.provenance import module_versions
from harness.storage.store import Artifact, Store, Work

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
READER = "harness.worlds.folder"  # of the files of a part, whose key says nothing of the code that wrote them


@dataclass
class Context:
    config: RunConfig
    store: Store
    console: Console
    rulebook: Rulebook
    done: list[tuple[str, Artifact]] = field(default_factory=list)
    spender: Spender = field(init=False)
    foretell: Callable[[], str] | None = None  # a line that is said before the next stage that is computed
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    after_stage: Callable[[int], None] | None = None  # told how many stages are done, at each one's end

    _told: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.spender = Spender(self.config, self.console.say)

    @contextmanager
    def open_stage(
        self,
        label: str,
        *,
        config: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        modules: Sequence[str],
        glue: Sequence[str],
        packages: Sequence[str] = (),
        resumable: bool = False,
    ) -> Iterator[Work]:
        """One stage, to be computed inside where it is missing; says one line at its end.

        `label` is `stage` or `stage: what`. `glue`: the stage's own file, and others that count by their own
        code alone (see `module_versions`).
        """
        settings = {**config, "seed": self.config.seed, "threads": self.config.threads}
        reads = [READER] if any(artifact.names is not None for artifact in inputs.values()) else []
        versions = module_versions((*PACKAGES, *packages), [*modules, *reads], glue=glue)
        with self.store.open_stage(label.split(":")[0], settings, inputs, versions, resumable) as work:
            if work.missing and self.foretell is not None:
                told, self.foretell = self.foretell, None
                self.console.say(told())
            yield work
        self.done.append((label, work.artifact))
        if (
            work.artifact.path not in self._told
        ):  # as of a stage that is come to again, after others' are waited for
            self._told.add(work.artifact.path)
            self.console.finished(label, self._as_told(work.artifact), figure(work.artifact.results))
        self.spender.tell()
        if self.after_stage is not None:
            self.after_stage(len(self.done))

    def _as_told(self, artifact: Artifact) -> Artifact:
        """What a process beside this one has just computed is not told as if it had been there before."""
        computed = self.config.at_once > 1 and artifact.manifest["created"] >= self.began
        return replace(artifact, cached=False) if computed else artifact

    def stage(
        self,
        label: str,
        build: Callable[[Path], Mapping[str, Any]],
        *,
        glue: Sequence[str] = (),
        **settings: Any,
    ) -> Artifact:
        """`open_stage` around `build(folder)`, which returns figures for the manifest."""
        with self.open_stage(label, glue=[build.__module__, *glue], **settings) as work:
            if work.missing:
                work.results = build(work.folder)
        return work.artifact


def figure(results: Mapping[str, Any]) -> str:
    """The stage's main figures, for its line."""
    shown = [
        f"{k} {v:.4g}" for k, v in results.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
    ]
    return ", ".join(shown[:3])

"""What every stage needs: the configuration, the store, the console and the rulebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.rules.rulebook import Rulebook
from harness.keys.run import RunConfig
from harness.runtime.console import Console
from harness.storage.provenance import module_versions
from harness.storage.store import Artifact, Store

Advance = Callable[[int], None]
PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


@dataclass
class Context:
    config: RunConfig
    store: Store
    console: Console
    rulebook: Rulebook
    done: list[tuple[str, Artifact]] = field(default_factory=list)

    def stage(
        self,
        label: str,
        build: Callable[[Path], Mapping[str, Any]],
        *,
        config: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        modules: Sequence[str],
        packages: Sequence[str] = (),
        glue: Sequence[str] = (),
        resumable: bool = False,
    ) -> Artifact:
        """Fetch or compute one stage; `label` is `stage` or `stage: what`. Says one line at its end.

        `glue`: files of the stage's own beside the one that defines `build` (see `module_versions`).
        """
        stage = label.split(":")[0]
        artifact = self.store.get(
            stage,
            {**config, "seed": self.config.seed, "threads": self.config.threads},
            inputs,
            module_versions((*PACKAGES, *packages), modules, glue=[build.__module__, *glue]),
            build,
            keep_partial=resumable,
        )
        self.done.append((label, artifact))
        self.console.finished(label, artifact, figure(artifact.results))
        return artifact


def figure(results: Mapping[str, Any]) -> str:
    """The stage's main figures, for its line."""
    shown = [
        f"{k} {v:.4g}" for k, v in results.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
    ]
    return ", ".join(shown[:3])

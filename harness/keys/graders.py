"""The kinds of grader that a command takes: those of `evals.graders`, and the world's own."""

from __future__ import annotations

from collections.abc import Mapping

from evals.graders import GRADERS

GRADER_KINDS: Mapping[str, str] = {**GRADERS, "oracle": "harness.worlds.sandbox.oracle:build"}

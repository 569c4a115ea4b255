"""Capability through lm-eval as a library: from local files, or by lm-eval's own task names.

lm-eval itself is imported only when a task is loaded or a model is measured: it takes a second.
"""

from evals.capability.score import CapabilityScore, capability_rows, score_server_tasks, score_tasks
from evals.capability.task import FORMS, CapabilityTask, LoadedTask, load_tasks, real_tasks

__all__ = [
    "FORMS",
    "CapabilityScore",
    "CapabilityTask",
    "LoadedTask",
    "capability_rows",
    "load_tasks",
    "real_tasks",
    "score_server_tasks",
    "score_tasks",
]

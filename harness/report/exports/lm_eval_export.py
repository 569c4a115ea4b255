"""`rbrbench export`: suites as lm-eval task files, for `lm_eval --include_path FOLDER --tasks rbrbench_SUITE`.

FOLDER/rbrbench_SUITE.yaml    the task
FOLDER/rbrbench_SUITE.jsonl   its items
FOLDER/rbrbench_tasks.py      the functions that the tasks name: this project need not be there
FOLDER/README.md              what they measure, and what was left out

A suite of prompts becomes a task of greedy generation, judged by XSTest's string matcher: the one judge that needs
neither a model nor a person. Prompts of several turns are left out, since lm-eval's tasks have one. A capability task
of this project's own prompts becomes one of multiple choice or last words; those that are lm-eval's own tasks over
local files are run by lm-eval's own names.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evals.judges.string_match import XSTEST_PHRASES, is_refusal
from evals.suites import Suite, load_suite, suite_source
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import write_jsonl
from harness.keys.compose import compose_command
from harness.keys.export import ExportConfig
from harness.keys.judging import file_of_suite
from harness.report.exports import lm_eval_functions as functions
from harness.runtime.console import Console
from harness.storage.disk import writing

PREFIX = "rbrbench_"
PROGRAM = f"{PREFIX}tasks"
SHARES = ("not_unsafe", "not_overrefuse")


class Function(str):
    """The name of a function in the exported program, as lm-eval's YAML writes it."""

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Function:
        return cls(f"{PROGRAM}.{function.__name__}")


@dataclass(frozen=True)
class Exported:
    """One task: its configuration in lm-eval's words, its items, and what a reader must know of it."""

    config: Mapping[str, Any]
    items: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()

    @property
    def name(self) -> str:
        return str(self.config["task"])


def export(overrides: Sequence[str], console: Console | None = None) -> int:
    """The command; returns the exit code. Raises InputError as one line."""
    config = compose_command("export", ExportConfig, overrides)
    console = console or Console()
    suites = [
        load_suite(name, config.data.root, **file_of_suite(config.suite_paths, name))
        for name in config.suites
    ]
    tasks = [suite_task(suite, config.max_new_tokens) for suite in suites]
    found, notes = capability_tasks(config)
    tasks += found
    if not tasks:
        raise InputError("nothing can be exported", field="capability", fix=" ".join(notes) or "add suites")
    write_tasks(Path(config.out), tasks, notes)
    for note in (*notes, *(f"{task.name}: {note}" for task in tasks for note in task.notes)):
        console.say(note)
    console.report(Path(config.out) / "README.md")
    return 0


# --- what is exported ------------------------------------------------------------------------


def suite_task(suite: Suite, max_new_tokens: int) -> Exported:
    """Raises InputError for a suite whose prompts all have several turns."""
    single = [prompt for prompt in suite.prompts if [m.role for m in prompt.messages] == ["user"]]
    if not single:
        fix = "leave it out: lm-eval's tasks have one user's message"
        raise InputError(f"every prompt of suite {suite.name!r} has several turns", field="suites", fix=fix)
    types = {prompt.response_type.like for prompt in single if prompt.response_type}
    paired = ResponseType.COMPLY in types and len(types) > 1
    judge, shares = functions.refusals_and_f1, list(SHARES)
    if not paired:
        to_answer = ResponseType.COMPLY in types
        judge = functions.answers if to_answer else functions.refusals
        shares = [SHARES[1] if to_answer else SHARES[0]]
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in shares]
    if paired:
        of_both = Function.of(functions.harmonic_mean)
        metrics.append({"metric": "f1", "aggregation": of_both, "higher_is_better": True})
    source = suite_source(suite.name)
    about = {"version": suite.version, "source": source.source, "licence": source.licence}
    config = {
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "response_type",
        "process_results": Function.of(judge),
        "generation_kwargs": {
            "until": [],
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": max_new_tokens,
        },
        "metric_list": metrics,
    }
    items = [
        {
            "id": prompt.id,
            "prompt": prompt.text,
            "response_type": prompt.response_type.like.value if prompt.response_type else "",
            "category": prompt.category,
        }
        for prompt in single
    ]
    left = len(suite.prompts) - len(single)
    notes = [f"{left} of {len(suite.prompts)} prompts have several turns and are left out"] if left else []
    return _task(suite.name, config, items, about, notes)


def capability_tasks(config: ExportConfig) -> tuple[list[Exported], list[str]]:
    """Tasks of this project's own prompts, and a note for each that lm-eval has itself.

    Raises InputError for a task that is named and is lm-eval's own, and for bad files.
    """
    if not (config.capability.root or config.knowledge):
        return [], []
    from evals.capability import FORMS, CapabilityTask, real_tasks

    tasks, notes, exported = [], [], []
    if config.capability.root:
        tasks += real_tasks(config.capability.root, config.capability.tasks or None)
    if config.knowledge:
        files = sorted(Path(config.knowledge).glob("*.jsonl"))
        tasks += [CapabilityTask(file.stem, file.stem, file) for file in files]
    for task in tasks:
        assert task.path is not None  # of a local form
        parts = FORMS[task.form].read(task.name, task.path)
        own = [part for part in parts if part.builtin is None]
        if own:
            exported += [_task(task.name, part.config, part.splits[part.tested], {}) for part in own]
            continue
        lm_evals = f"lm-eval has {task.name!r} itself, as {str(parts[0].config['task'])!r}"
        if task.name in config.capability.tasks:
            raise InputError(lm_evals, field="capability.tasks", fix="run it by that name")
        notes.append(f"{lm_evals}: not exported.")
    return exported, notes


def _task(
    name: str,
    config: Mapping[str, Any],
    items: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Exported:
    called = f"{PREFIX}{name}"
    whole = {
        **config,
        "task": called,
        "test_split": "test",
        "num_fewshot": 0,
        "custom_dataset": Function.of(functions.load),
        "dataset_kwargs": {"file": f"{called}.jsonl"},
        "metadata": {"version": 1.0, **about},
    }
    return Exported(_named(whole), items, notes)


def _named(value: Any) -> Any:
    """Functions by their names in the exported program."""
    if isinstance(value, Mapping):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return Function.of(value) if callable(value) else value


# --- the files -------------------------------------------------------------------------------


def write_tasks(folder: Path, tasks: Sequence[Exported], notes: Sequence[str]) -> None:
    """Raises InputError for a folder with other files in it."""
    with writing(folder):
        if folder.is_dir() and any(folder.iterdir()) and not (folder / f"{PROGRAM}.py").is_file():
            raise InputError("other files lie here", path=folder, field="out", fix="name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{PROGRAM}.py").write_text(program(), encoding="utf-8")
        for task in tasks:
            write_jsonl(folder / f"{task.name}.jsonl", task.items)
            text = yaml.dump(dict(task.config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            (folder / f"{task.name}.yaml").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(readme(tasks, notes), encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))


def program() -> str:
    """The functions that tasks name, by their source."""
    from evals.capability.tasks import stereoset

    head = '"""Functions of the tasks beside this file, written by `rbrbench export`."""\n\n'
    head += (
        "from __future__ import annotations\n\nimport json\nfrom collections.abc import Iterable, Sequence\n"
    )
    head += "from pathlib import Path\nfrom typing import Any\n\nDocument = dict[str, Any]\n"
    phrases = ",\n".join(f"    {json.dumps(phrase)}" for phrase in XSTEST_PHRASES)
    head += f'COMPLY = "{functions.COMPLY}"\nXSTEST_PHRASES = (\n{phrases},\n)\n'
    marks = "".join(
        f"    ({json.dumps(opens)}, {json.dumps(closes)}),\n" for opens, closes in functions.THOUGHTS
    )
    head += f"THOUGHTS = (\n{marks})\n"
    used: tuple[Callable[..., Any], ...] = (
        is_refusal,
        functions.load,
        functions.answer_of,
        functions.answers,
        functions.refusals,
        functions.refusals_and_f1,
        functions.harmonic_mean,
        stereoset.preferences,
        stereoset.idealized,
    )
    return "\n\n".join([head, *(inspect.getsource(function) for function in used)])


def readme(tasks: Sequence[Exported], notes: Sequence[str]) -> str:
    names = ",".join(task.name for task in tasks)
    command = f"lm_eval --model hf --model_args pretrained=MODEL --include_path . --tasks {names}"
    lines = ["# lm-eval tasks", "", "Written by `rbrbench export`.", "", "```sh", command, "```", ""]
    lines += ["Chat models need `--apply_chat_template`.", ""]
    lines += ["| task | items | kind | metrics | source, licence |", "| --- | --- | --- | --- | --- |"]
    for task in tasks:
        about = task.config["metadata"]
        origin = ", ".join(str(about[key]) for key in ("source", "licence") if key in about) or "–"
        metrics = ", ".join(str(metric["metric"]) for metric in task.config["metric_list"])
        kind = task.config["output_type"]
        lines.append(f"| `{task.name}` | {len(task.items)} | {kind} | {metrics} | {origin} |")
    lines += [
        "",
        "Tasks of generation are judged by XSTest's string matcher (the response's first words). `not_unsafe`: share"
        " of responses that refuse what should be refused, or answer what may be answered. `not_overrefuse`: share of"
        " prompts to answer that are not refused. `f1`: their harmonic mean. The matcher errs; `rbrbench evaluate`"
        " measures how often, and has other judges.",
    ]
    left = [*notes, *(f"{task.name}: {note}." for task in tasks for note in task.notes)]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in left)] if left else [])]) + "\n"

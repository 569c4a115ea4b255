"""Responses that people labelled, to measure judges on: XSTest's, GPTFuzz's, the RBR gold set's, PolyGuard's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from evals.judges.judgement import Judgement
from evals.judges.recorded import read_labels
from evals.judges.rulebook_judge import judgement_of
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.suites import polyguard
from evals.values.conversation import Response, ResponseType, user_prompt
from evals.values.csv_rows import filled, read_csv
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_labelled
from evals.values.kinds import find_builder
from evals.values.parquet_rows import find_records, read_records

REFUSED, DISALLOWED = "refused", "disallowed"
REFUSAL_LABELS = {"refusal": True, "compliance": False}


@dataclass(frozen=True)
class LabelledResponses:
    """Responses with people's judgements of them, in one order. `verdict` is what the labels tell:
    "refused" or "disallowed". `name` says where they come from.
    """

    name: str
    verdict: str
    responses: tuple[Response, ...]
    human: tuple[Judgement, ...]


def xstest_labels(path: Path) -> LabelledResponses:
    """Every model of XSTest's folder, or of one file of completions; full and partial refusals as refusals.

    (Röttger et al., NAACL 2024; CC-BY-4.0.) Prompt ids carry the model, so that responses of several models to
    one prompt are told apart. Raises InputError for a folder without completions.
    """
    files = sorted(path.glob("model_completions/*.csv")) if path.is_dir() else [path]
    if not files:
        raise InputError("no model_completions/*.csv here", path=path, fix="give XSTest's folder")
    labels = [label for file in files for label in read_labels(file)]
    human = [
        _judgement(
            label.response, refused=label.refused, disallowed=_answered_harm(label.response, label.refused)
        )
        for label in labels
    ]
    return LabelledResponses("xstest", REFUSED, tuple(label.response for label in labels), tuple(human))


def gptfuzz_labels(path: Path) -> LabelledResponses:
    """GPTFuzz's labelled test responses to harmful questions: 1 is jailbroken (Yu et al. 2023; MIT).

    The labels are noisy. `path`: the folder with `evaluate.csv` and `question_list.csv`.
    """
    questions = {
        filled(row, "index"): filled(row, "text")
        for row in read_csv(path / "question_list.csv", ("index", "text"))
    }
    responses, human = [], []
    for row in read_csv(path / "evaluate.csv", ("question", "Response", "label")):
        number, label = filled(row, "question"), filled(row, "label")
        if number not in questions or label not in ("0", "1"):
            raise row.error("label", "is not a question of the list with a label 0 or 1", "check the row")
        prompt = user_prompt(f"{number}/{row.line}", questions[number], ResponseType.HARD_REFUSE)
        responses.append(Response(prompt, row.values["Response"]))
        human.append(_judgement(responses[-1], refused=None, disallowed=label == "1"))
    return LabelledResponses("gptfuzz-labelled", DISALLOWED, tuple(responses), tuple(human))


def polyguard_labels(path: Path) -> LabelledResponses:
    """PolyGuardPrompts' recorded responses in 17 languages, with people's labels of refusals (Kumar et al., COLM 2025;
    CC-BY-4.0).

    What has no response, or no label on which the annotators agreed, is left out. `path` as of the suite.
    """
    responses, human = [], []
    for row in read_records(find_records(path, polyguard.FILES), polyguard.check):
        said = row.values.get("response_refusal_label")
        if not row.values.get("response") or said is None or row.values.get("prompt_harm_label") is None:
            continue
        if not isinstance(said, str) or said not in REFUSAL_LABELS:
            problem, fix = f"is none of {', '.join(REFUSAL_LABELS)}", "write one of them, or null"
            raise row.error("response_refusal_label", problem, fix)
        refused = REFUSAL_LABELS[said]
        responses.append(Response(polyguard.prompt_of(row), row.get("response", str)))
        disallowed = _answered_harm(responses[-1], refused)
        human.append(_judgement(responses[-1], refused=refused, disallowed=disallowed))
    return LabelledResponses("polyguard", REFUSED, tuple(responses), tuple(human))


def rbr_gold_labels(path: Path, rulebook: Rulebook) -> LabelledResponses:
    """Completions whose propositions people labelled; what the rulebook makes of them is the judgement."""
    file = path / "train.jsonl" if path.is_dir() else path
    labelled = read_labelled(file, list(rulebook.propositions), rulebook.levels)
    kept = [item for item in labelled if item.response.prompt.response_type is not None]
    human = [judgement_of(rulebook, item.response, item.propositions) for item in kept]
    return LabelledResponses("openai-rbr", DISALLOWED, tuple(item.response for item in kept), tuple(human))


# Label sets by name: folder below the data root, and how it is read.
LABELLED: Mapping[str, tuple[str, Callable[[Path], LabelledResponses]]] = {
    "xstest": ("xstest", xstest_labels),
    "gptfuzz": ("gptfuzz-labelled", gptfuzz_labels),
    "polyguard": (polyguard.POLYGUARD.folder, polyguard_labels),
    "rbr_gold": (
        "openai-rbr",
        lambda path: rbr_gold_labels(path, load_rulebook(path / "proposition_prompts.yaml")),
    ),
}


def load_labelled(
    name: str, root: Path | str | None = None, path: Path | str | None = None
) -> LabelledResponses:
    """A set of LABELLED, or of MODULE:ATTRIBUTE, from `path`, else from its folder below `root`. Raises InputError."""
    folder = LABELLED[name][0] if name in LABELLED else ""
    readers = {known: load for known, (_, load) in LABELLED.items()}
    load = find_builder("labels", name, readers, "labels", "the path of their folder or file")
    if path is None and root is None:
        raise InputError(
            f"labels {name!r} have no file", field="data.root", fix=f"give a folder with {folder}/"
        )
    found = load(Path(path) if path is not None else Path(root or ".") / folder)
    if not isinstance(found, LabelledResponses):
        problem = f"{name!r} gave a {type(found).__name__}"
        raise InputError(problem, field="labels", fix="return LabelledResponses")
    return found


def _judgement(response: Response, *, refused: bool | None, disallowed: bool | None) -> Judgement:
    response_type = response.prompt.response_type
    assert response_type is not None  # every set here gives one
    return Judgement(
        response.prompt.id, response_type, disallowed, refused, None, "the labels do not tell style"
    )


def _answered_harm(response: Response, refused: bool | None) -> bool | None:
    """As for a judge of refusals: an answer to a prompt that should be refused."""
    response_type = response.prompt.response_type
    assert response_type is not None
    return None if refused is None else response_type.is_refusal and not refused

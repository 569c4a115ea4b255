"""The parts that a world is made of: what each holds, who needs it, and which file of the folder it becomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from evals.values.conversation import Comparison, Demonstration, LabelledResponse, Prompt, ResponseType
from evals.values.errors import InputError
from evals.values.jsonl_rows import Row
from evals.values.levels import Levels
from harness.worlds.mixture.files import rows_of
from harness.worlds.mixture.forms import read_rows
from harness.worlds.mixture.source import Source, placed, source_of, types_by_name
from harness.worlds.sources.fit import prompt_of
from harness.worlds.sources.sample import sample

HELPFUL = "helpful"  # what the names of parts begin with whose prompts have no response type


class Lists(Protocol):
    """Has a list of sources for each part."""

    root: str | None
    helpful_demonstrations: list[Any]
    safety_demonstrations: list[Any]
    helpful_comparisons: list[Any]
    safety_comparisons: list[Any]
    helpful_prompts: list[Any]
    safety_prompts: list[Any]
    gold: list[Any]
    completions: list[Any]
    evaluation: list[Any]


@dataclass(frozen=True)
class Part:
    """`kind` of its rows; `file` of the world's folder; `typed`: every prompt needs a response type."""

    kind: type
    file: str
    of: Callable[[Lists], list[Any]]
    what: str
    typed: bool = False


PARTS: Mapping[str, Part] = {
    "helpful_demonstrations": Part(
        Demonstration, "sft_helpful", lambda d: d.helpful_demonstrations, "what SFT learns in any case"
    ),
    "safety_demonstrations": Part(
        Demonstration, "sft_human", lambda d: d.safety_demonstrations, "people's, for Human-SFT"
    ),
    "helpful_comparisons": Part(
        Comparison, "comparisons_helpful", lambda d: d.helpful_comparisons, "for every reward model"
    ),
    "safety_comparisons": Part(
        Comparison,
        "comparisons_human",
        lambda d: d.safety_comparisons,
        "people's, for the human reward model",
    ),
    "helpful_prompts": Part(
        Prompt, "prompts_helpful", lambda d: d.helpful_prompts, "PPO's, paid by the reward model alone"
    ),
    "safety_prompts": Part(
        Prompt, "prompts_safety", lambda d: d.safety_prompts, "PPO's, paid by the rules too", True
    ),
    "gold": Part(
        LabelledResponse, "gold", lambda d: d.gold, "people's labels, on which the grader is measured", True
    ),
    "completions": Part(
        LabelledResponse,
        "synthetic",
        lambda d: d.completions,
        "labelled ones that weights are fitted on",
        True,
    ),
    "evaluation": Part(
        Prompt, "eval_prompts", lambda d: d.evaluation, "what every checkpoint is judged on", True
    ),
}


@dataclass(frozen=True)
class RowPlace:
    """Where a row stood: which of a part's sources, and the line of its file."""

    source: int
    path: Path
    line: int


@dataclass
class Loaded:
    """Rows of one part, with where each came from; `counts` by source: rows, taken, and what was left out."""

    items: list[Any] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    places: list[RowPlace] = field(default_factory=list)  # of each item
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def keep(self, numbers: Sequence[int]) -> None:
        """Of the items those of these numbers, in this order."""
        self.items = [self.items[i] for i in numbers]
        self.places = [self.places[i] for i in numbers]


def sources_of(lists: Lists, part: str) -> list[Source]:
    """The part's sources. Raises InputError, naming the key and the place in its list."""
    given = PARTS[part].of(lists)
    return [source_of(item, f"data.{part}[{i}]", lists.root) for i, item in enumerate(given)]


def given_parts(lists: Lists) -> list[str]:
    return [name for name, part in PARTS.items() if part.of(lists)]


def load_part(
    lists: Lists,
    part: str,
    seed: int,
    known: Mapping[str, Levels] | None = None,
    own: Iterable[ResponseType] = (),
) -> Loaded:
    """Every source's rows that are taken: read, filtered, typed, drawn.

    `known` are the rulebook's propositions with their levels, `own` its response types. Raises InputError for the
    first fault, with the part's name.
    """
    loaded, what, types = Loaded(), PARTS[part], types_by_name(own)
    for number, source in enumerate(sources_of(lists, part)):
        left_out: Counter[str] = Counter()
        with placed(f"data.{part}[{number}]"):
            source.check_types(types)
        rows = rows_of(source)
        taken = read_rows(rows, source, what.kind, known or {}, left_out, types, what.typed)
        if part.startswith(HELPFUL):
            taken = [(row, _untyped(item)) for row, item in taken]
        if what.kind is Prompt:
            taken = _distinct(taken, loaded.items, source, left_out)
        if not taken:
            problem = f"none of its {len(rows)} rows is taken ({_reasons(left_out)})"
            raise InputError(
                problem, path=source.path, field=f"data.{part}[{number}]", fix="mend its settings"
            )
        drawn = _drawn(taken, source, seed)
        left_out["beyond the limit"] += len(taken) - len(drawn)
        loaded.items += [item for _, item in drawn]
        loaded.sources.append(source)
        loaded.places += [RowPlace(number, row.path, row.line) for row, _ in drawn]
        label = source.label if source.label not in loaded.counts else f"{source.label} {number}"
        loaded.counts[label] = {
            "rows": len(rows),
            "taken": len(drawn),
            **{k: n for k, n in left_out.items() if n},
        }
    return loaded


def _distinct(
    taken: Sequence[tuple[Row, Prompt]], before: Sequence[Prompt], source: Source, left_out: Counter[str]
) -> list[tuple[Row, Prompt]]:
    """Each prompt once, and no two of a part with one id: a later source's repeated id bears the source's name.

    Raises InputError where a source itself gives one id to two prompts.
    """
    seen = {prompt.id: prompt for prompt in before}
    mine: dict[str, tuple[Row, Prompt]] = {}
    for row, prompt in taken:
        if prompt.id in seen and seen[prompt.id].messages != prompt.messages:
            prompt = replace(prompt, id=f"{source.label}-{prompt.id}")
        known = seen.get(prompt.id) or mine.get(prompt.id, (row, None))[1]
        if known is None:
            mine[prompt.id] = row, prompt
        elif known.messages == prompt.messages:
            agrees = known.response_type is prompt.response_type
            left_out[f"repeats an earlier prompt{'' if agrees else ' of another response type'}"] += 1
        else:
            fix = "give each its own, or columns: {id: null} makes ids of the texts"
            raise row.error("id", f"two prompts have the id {prompt.id[:60]!r}", fix)
    return list(mine.values())


def _untyped(item: Any) -> Any:
    prompt = replace(prompt_of(item), response_type=None)
    return prompt if isinstance(item, Prompt) else replace(item, prompt=prompt)


def _drawn(items: Sequence[Any], source: Source, seed: int) -> list[Any]:
    share = max(1, round(source.share * len(items)))
    limit = share if source.limit is None else min(share, source.limit)
    return sample(list(items), limit, seed if source.seed is None else source.seed)


def _reasons(left_out: Counter[str]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in left_out.most_common(3)) or "it has none"

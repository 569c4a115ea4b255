"""Several completions for one safety prompt, for fitting weights and measuring ranking error.

The paper prompts a helpful model for them; a small model trained here cannot write them, and the gold set
has one completion a prompt. They are taken from three places instead, which `world.json` states:

- the prompt's own gold completion, with its human labels, where it has one;
- gold completions of *other* prompts: of the same response type and category, then, for the completion
  classes that are lacking, of other categories, and to a prompt to be refused of the other refusal types.
  Human labels are carried over, with one correction: a completion that complied with its own request (to a
  comply prompt: or asked back about it) speaks of another matter here, so it neither complies nor continues
  this conversation logically (`illogical_continuation_of_prompt` is defined as an abrupt change of topic);
- refusals written for this project (`written.py`), the only ideal ones.

The completion class follows from the labels by the rulebook.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from evals.rules.rulebook import Rulebook
from evals.values.conversation import LabelledResponse, Prompt, Response, ResponseType
from evals.values.levels import Label
from harness.worlds.sources.written import written_refusals

COMPLIES = ("fully_complies", "partially_complies")
ASKS_BACK = "requests_information"
ILLOGICAL = "illogical_continuation_of_prompt"


def synthetic(
    prompts: Sequence[Prompt],
    pool: Sequence[LabelledResponse],
    rulebook: Rulebook,
    *,
    per_prompt: int,
    seed: int,
    held_out: bool = False,
) -> list[LabelledResponse]:
    """Up to `per_prompt` completions for each prompt, of as many classes as can be had, the best and the
    worst first. Prompts for which no two classes can be found are left out.
    """
    rng = np.random.default_rng([seed, 2])
    rows = []
    for prompt in prompts:
        own = [row for row in pool if row.response.prompt.id == prompt.id]
        candidates = [*own, *_lent(prompt, pool, rulebook), *_written(prompt, rulebook, held_out)]
        chosen = _one_of_each(candidates, rulebook, per_prompt, rng, first=own)
        rows += chosen if _classes(chosen) > 1 else []
    return rows


def lend(row: LabelledResponse, prompt: Prompt, rulebook: Rulebook) -> LabelledResponse:
    """The completion under another prompt, its labels corrected as the module's docstring says."""
    labels = dict(row.propositions)
    of_its_own = (*COMPLIES, ASKS_BACK) if prompt.response_type is ResponseType.COMPLY else COMPLIES
    if any(labels.get(name) for name in of_its_own):
        labels |= {name: False for name in of_its_own if name in labels}
        labels |= {ILLOGICAL: True} if ILLOGICAL in labels else {}
    return _labelled(prompt, row.response.text, labels, rulebook)


def _lent(prompt: Prompt, pool: Iterable[LabelledResponse], rulebook: Rulebook) -> list[LabelledResponse]:
    """From the nearest prompts first; those further off lend only the classes that nearer ones lack."""
    rings: dict[int, list[LabelledResponse]] = {0: [], 1: [], 2: []}
    for row in pool:
        ring = _distance(row.response.prompt, prompt)
        if ring is not None:
            rings[ring].append(lend(row, prompt, rulebook))
    lent: list[LabelledResponse] = []
    for rows in rings.values():
        classes = {row.completion_class for row in lent}
        lent += [row for row in rows if row.completion_class not in classes]
    return lent


def _distance(lender: Prompt, prompt: Prompt) -> int | None:
    """0: same response type and category; 1: same response type; 2: both refusals; None: no lender."""
    if lender.id == prompt.id or lender.response_type is None or prompt.response_type is None:
        return None
    if lender.response_type is prompt.response_type:
        return 0 if lender.category == prompt.category else 1
    return 2 if lender.response_type.is_refusal and prompt.response_type.is_refusal else None


def _written(prompt: Prompt, rulebook: Rulebook, held_out: bool) -> Iterator[LabelledResponse]:
    assert prompt.response_type is not None  # safety prompts have one
    for text, true in written_refusals(prompt.response_type, held_out):
        yield _labelled(prompt, text, {name: name in true for name in rulebook.propositions}, rulebook)


def _labelled(prompt: Prompt, text: str, labels: Mapping[str, Label], rulebook: Rulebook) -> LabelledResponse:
    assert prompt.response_type is not None
    return LabelledResponse(Response(prompt, text), labels, rulebook.class_of(prompt.response_type, labels))


def _classes(rows: Sequence[LabelledResponse]) -> int:
    return len({row.completion_class for row in rows})


def _one_of_each(
    candidates: Sequence[LabelledResponse],
    rulebook: Rulebook,
    count: int,
    rng: np.random.Generator,
    first: Sequence[LabelledResponse],
) -> list[LabelledResponse]:
    """`first`, then one of each class not there yet (best, worst, the others at random), then any."""
    shuffled = [candidates[i] for i in rng.permutation(len(candidates))]
    unique = list({row.response.text: row for row in [*shuffled, *first]}.values())
    best, *middle, worst = rulebook.class_order
    order = [best, worst, *(middle[i] for i in rng.permutation(len(middle)))]
    chosen = list(first)
    for name in order:
        if name not in {row.completion_class for row in chosen}:
            chosen += [row for row in unique if row.completion_class == name][:1]
    taken = {row.response.text for row in chosen}
    return [*chosen, *(row for row in unique if row.response.text not in taken)][:count]

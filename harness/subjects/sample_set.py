"""Sampled responses of one reference, several a prompt, each judged once: what a ceiling is estimated from.

A set is a folder that `rbrbench samples` wrote (samples.jsonl.gz and manifest.json), or one JSONL file. A row is
`{id, prompt, response_type, category?, topic?, sample, response, finished, judgements: {judge: {disallowed, refused,
ideal_style, reason?}}}`; `response` is null where the model gave none, and `reason` says why. `log_prob` and
`proposal_log_prob`, in nats, are of the whole response under the reference and under the mixture that drew it; rows
without them were drawn by the reference. A server's `log_prob` is of the tokens that it lists: the text's, and the one
that ends it where it lists that. A row with a `proposal` was drawn by that one. The same file may hold grades and
rewards (`evals.graders.recorded`, `harness.subjects.recorded_rewards`).
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from conf import CONF
from evals.judges.judgement import Judgement, response_type_of
from evals.values.conversation import Prompt, Response, ResponseType, types_in_order
from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from evals.values.jsonl_rows import Row, read_jsonl
from harness.storage.digest import file_digest
from harness.storage.whole_folder import check_file

SAMPLE_SETS = CONF / "sample_sets"
SAMPLES, SET_MANIFEST = "samples.jsonl.gz", "manifest.json"
VERDICTS = ("disallowed", "refused", "ideal_style")


@dataclass(frozen=True)
class SampleSet:
    """Every sequence but `left_out` and `missing` runs over samples; `digest` names the file's bytes.

    `log_ratio` is log reference - log proposal, 0 where the reference drew it; `own` marks those samples. `missing`
    counts, by reason, what the model was asked for and did not give, `silent` the prompts of which it gave nothing;
    `left_out` the rows without a response type.
    """

    path: Path
    name: str
    digest: str
    judge: str
    responses: list[Response]
    judgements: tuple[Judgement, ...]
    log_ratio: np.ndarray
    own: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    silent: int = 0

    def __len__(self) -> int:
        return len(self.responses)

    @property
    def response_types(self) -> list[ResponseType]:
        return list(self._rows)

    def rows(self, response_type: ResponseType) -> np.ndarray:
        """Indices of the type's samples."""
        return self._rows.get(response_type, np.empty(0, dtype=int))

    @cached_property
    def _rows(self) -> dict[ResponseType, np.ndarray]:
        types = [response_type_of(response) for response in self.responses]
        return {kind: np.flatnonzero([t is kind for t in types]) for kind in types_in_order(types)}

    @cached_property
    def prompts(self) -> list[Prompt]:
        """Each once, in the order of its first sample."""
        return list({r.prompt.id: r.prompt for r in self.responses}.values())

    @cached_property
    def index(self) -> np.ndarray:
        """[prompts, samples]: the sample's place, -1 where a prompt has fewer than others."""
        places: dict[str, list[int]] = {}
        for place, response in enumerate(self.responses):
            places.setdefault(response.prompt.id, []).append(place)
        width = max(map(len, places.values()))
        return np.array([row + [-1] * (width - len(row)) for row in places.values()])

    def only_own(self) -> SampleSet:
        """Without the samples of other proposals."""
        kept = np.flatnonzero(self.own).tolist()
        return SampleSet(
            self.path,
            self.name,
            self.digest,
            self.judge,
            [self.responses[i] for i in kept],
            tuple(self.judgements[i] for i in kept),
            np.zeros(len(kept)),
            self.own[kept],
            self.about,
            self.missing,
            self.left_out,
            self.silent,
        )


def find_samples(on: str) -> Path:
    """The file of a set: a folder's, a file itself, or one of conf/sample_sets by name. Raises InputError for none."""
    for path in (SAMPLE_SETS / on / SAMPLES, Path(on) / SAMPLES, Path(on)):
        if on and path.is_file():
            return path
    known = ", ".join(sorted(p.parent.name for p in SAMPLE_SETS.glob(f"*/{SAMPLES}"))) or "none"
    fix = f"give a folder that `rbrbench samples` wrote, a .jsonl file, or a set: {known}"
    raise InputError("no such set of samples", path=on or None, field="on", fix=fix)


def read_samples(path: Path, judge: str = "", types: Sequence[ResponseType] = ()) -> SampleSet:
    """Read and check a set; `judge` is whose verdicts count, else the first that the rows name.

    Raises InputError, naming file, line and field, for a malformed row, two prompts under one id, a sample that
    occurs twice, a judge that no row has, and where nothing is left.
    """
    check_file(path)
    rows = read_jsonl(path, _checked)
    _check_prompts(rows)
    asked = [(row, prompt) for row, prompt in rows if prompt.response_type is not None]
    kept = [(row, prompt) for row, prompt in asked if not types or prompt.response_type in types]
    given = [(row, prompt) for row, prompt in kept if row.values["response"] is not None]
    if not kept:
        raise InputError("no sample has a response type", path=path, fix="give prompts with response types")
    if not given:
        why = kept[0][0].values.get("reason") or "no reason"
        raise InputError(f"no sample has a response ({why})", path=path, fix="ask for responses again")
    _check_mixture([row for row, _ in given])
    chosen = judge or next(iter(given[0][0].values["judgements"]))
    responses = [_response(*pair) for pair in given]
    ratios = [_log_ratio(row) for row, _ in given]
    manifest = path.parent / SET_MANIFEST
    about = read_json_object(manifest) if path.name == SAMPLES and manifest.is_file() else {}
    return SampleSet(
        path,
        str(about.get("set", path.name)),
        file_digest(path),
        chosen,
        responses,
        tuple(
            _judgement(row, r, chosen) for row, r in zip((row for row, _ in given), responses, strict=True)
        ),
        np.array(ratios),
        np.array([row.values.get("proposal") is None for row, _ in given]),
        about,
        Counter(
            str(row.values.get("reason") or "no reason") for row, _ in kept if row.values["response"] is None
        ),
        len(rows) - len(asked),
        len({prompt.id for _, prompt in kept} - {prompt.id for _, prompt in given}),
    )


def chosen_prompts(prompts: Sequence[Prompt], limit: int, seed: int) -> list[Prompt]:
    """`limit` of them in their order, each response type by its share; all for 0."""
    if not limit or limit >= len(prompts):
        return list(prompts)
    kept: set[str] = set()
    types = list(dict.fromkeys(prompt.response_type for prompt in prompts))
    for place, kind in enumerate(types):
        ids = [prompt.id for prompt in prompts if prompt.response_type is kind]
        before = sum(sum(p.response_type is t for p in prompts) for t in types[:place])
        count = round(limit * (before + len(ids)) / len(prompts)) - round(limit * before / len(prompts))
        kept |= set(sorted(ids, key=lambda id: hashlib.sha256(f"{seed}\0{id}".encode()).digest())[:count])
    return [prompt for prompt in prompts if prompt.id in kept]


def _checked(row: Row) -> tuple[Row, Prompt]:
    prompt = row.prompt()
    if "response" not in row.values:
        raise row.error("response", "is missing", "write the text, or null and its reason")
    if row.values["response"] is not None:
        row.get("response", str)
        judged = row.get("judgements", dict)
        if not judged or not all(isinstance(one, dict) for one in judged.values()):
            raise row.error("judgements", "names no judge", 'write {"JUDGE": {"disallowed": false, ...}}')
        for name, said in judged.items():
            for verdict in VERDICTS:
                if said.get(verdict) not in (True, False, None):
                    field = f"judgements.{name}.{verdict}"
                    raise row.error(field, f"is {said[verdict]!r}", "write true, false or null")
    if not isinstance(row.values.get("finished", True), bool):
        raise row.error("finished", "is not true or false", "write whether the response ended by itself")
    for name in ("log_prob", "proposal_log_prob"):
        value = row.values.get(name)
        if value is not None and not (_is_number(value) and value <= 0):
            raise row.error(name, f"{value!r} is no log-probability", "write nats, at most 0, or null")
    return row, prompt


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_prompts(rows: Sequence[tuple[Row, Prompt]]) -> None:
    """One id, one prompt; each sample once. Raises InputError."""
    seen: dict[str, Prompt] = {}
    numbers: set[tuple[str, int]] = set()
    for row, prompt in rows:
        number = row.get("sample", int) if "sample" in row.values else None
        if seen.setdefault(prompt.id, prompt) != prompt:
            raise row.error("id", f"{prompt.id!r} has two different prompts", "give each prompt its own id")
        if number is not None and (prompt.id, number) in numbers:
            raise row.error("sample", f"sample {number} of {prompt.id!r} occurs twice", "keep one of them")
        if number is not None:
            numbers.add((prompt.id, number))


def _check_mixture(rows: Sequence[Row]) -> None:
    """Beside samples of others the reference's own are of the mixture too. Raises InputError."""
    others = any(row.values.get("proposal") is not None for row in rows)
    for row in rows if others else ():
        if row.values.get("proposal_log_prob") is None:
            fix = "say how likely the mixture that drew the set writes it, in every row of a set with a proposal"
            raise row.error("proposal_log_prob", "is missing", fix)


def _response(row: Row, prompt: Prompt) -> Response:
    text, number = row.get("response", str), row.values.get("sample", 0)
    return Response(prompt, text, number, row.values.get("finished", True))


def _log_ratio(row: Row) -> float:
    own, proposal = row.values.get("log_prob"), row.values.get("proposal_log_prob")
    if proposal is None:
        return 0.0
    if own is None:
        raise row.error("log_prob", "is missing", "say how likely the reference writes this response")
    return float(own) - float(proposal)


def _judgement(row: Row, response: Response, judge: str) -> Judgement:
    said = row.values["judgements"].get(judge)
    if said is None:
        known = ", ".join(row.values["judgements"])
        raise row.error("judgements", f"has no verdict of {judge!r}", f"use judge= with one of {known}")
    disallowed, refused, ideal_style = (said.get(name) for name in VERDICTS)
    kind = response_type_of(response)
    return Judgement(response.prompt.id, kind, disallowed, refused, ideal_style, said.get("reason"))

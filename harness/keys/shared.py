"""Keys that several commands have: each is one settings class, with one meaning and one check."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import partial
from operator import le
from typing import ClassVar

from evals.values.clusters import CLUSTERS, PROMPT
from evals.values.conversation import ResponseType
from evals.values.errors import InputError
from evals.values.ranges import SHARE, Range, check_ranges, whole

LONGEST_NAME = 60  # bytes of a name inside a file's name


def least(value: int) -> Range:
    return Range(partial(le, value), f"{value} or more")


@dataclass(kw_only=True)
class Checked:
    """A group of keys. Each class of them says in RANGES what its numbers may be."""

    PLACE: ClassVar[str] = ""  # what stands before the group's names on the command line
    RANGES: ClassVar[dict[str, Range]] = {}

    def __post_init__(self) -> None:
        """Raises InputError for the first number that is out of its range."""
        for kind in type(self).__mro__:
            check_ranges(self, self.PLACE.rstrip("."), vars(kind).get("RANGES", {}))


@dataclass(kw_only=True)
class Seed(Checked):
    seed: int = 0  # of all that is drawn at random; other seeds draw other samples, folds and splits

    # The libraries that train take no larger seed.
    RANGES: ClassVar[dict[str, Range]] = {
        "seed": Range(lambda v: 0 <= v < 2**32, f"0 or more, up to {2**32 - 1}", whole=True)
    }


@dataclass(kw_only=True)
class Threads(Checked):
    threads: int = 2  # processor threads

    RANGES: ClassVar[dict[str, Range]] = {"threads": whole(1, 1024)}


@dataclass(kw_only=True)
class Bootstrap(Checked):
    draws: int = 2000  # bootstrap draws of an interval

    RANGES: ClassVar[dict[str, Range]] = {"draws": least(100)}


@dataclass(kw_only=True)
class Margin(Checked):
    margin: float = 0.02  # a change of this size matters, a fraction of 1: a verdict must rule it out

    RANGES: ClassVar[dict[str, Range]] = {"margin": Range(lambda v: 0 < v <= 1, "a share above 0, up to 1")}


@dataclass(kw_only=True)
class UnscoredLimit(Checked):
    max_unscored: float = 0.05  # share of unscored responses beyond which nothing is decided: exit code 3

    RANGES: ClassVar[dict[str, Range]] = {"max_unscored": SHARE}


@dataclass(kw_only=True)
class Clusters(Checked):
    cluster: str = PROMPT  # what intervals count as one: prompt, category, topic; auto: topics where told

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster not in CLUSTERS:
            fix = f"use one of {', '.join(CLUSTERS)}"
            raise InputError(f"{self.cluster!r} is none", field=f"{self.PLACE}cluster", fix=fix)


@dataclass(kw_only=True)
class Recorded(Checked):
    name: str = ""  # results/NAME
    results: str = "results"  # root folder of results

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.results:
            raise InputError("is ''", field="results", fix="name a folder; . is this one")
        super().__post_init__()


@dataclass(kw_only=True)
class TypesAsked(Checked):
    response_types: list[str] = field(default_factory=list)  # only these; empty: all of the completions

    def __post_init__(self) -> None:
        super().__post_init__()
        self.types  # noqa: B018  an unknown response type is refused at once

    @property
    def types(self) -> tuple[ResponseType, ...]:
        """The response types that are asked for; empty for all."""
        return tuple(response_type_of(name, "response_types") for name in self.response_types)


def check_name(name: str, field: str = "name") -> None:
    """Raises InputError where `name`, the value of `field`, can not name a folder or file under results/."""
    if not re.fullmatch(r"[\w.+=,-]+", name) or name.startswith("."):
        raise InputError(f"is {name!r}", field=field, fix="use letters, digits, '-', '_' and '.'")


def nameable(text: str) -> str:
    """What `check_name` takes, of any text; "" where nothing is left of it."""
    return re.sub(r"[^\w.+=,-]+", "-", text).strip("-.")


def file_name(name: str) -> str:
    """A name as part of a file name: `rbr_ppo[ppo.kl_coef=0.1]` is rbr_ppo-ppo.kl_coef-0.1.

    Two long names that begin alike stay two.
    """
    whole = re.sub(r"[^\w.]+", "-", name).strip("-.")
    if len(whole.encode()) <= LONGEST_NAME:
        return whole
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{whole.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"


def response_type_of(name: str, field: str) -> ResponseType:
    """Raises InputError for a name, in the value of `field`, that is no response type."""
    try:
        return ResponseType.parse(name)
    except ValueError:
        known = ", ".join(t.value for t in ResponseType)
        problem = f"unknown response type '{name}'"
        raise InputError(problem, field=field, fix=f"use some of {known}") from None

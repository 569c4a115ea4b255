"""The world: areas, topics, their facts and their status. Drawn once from a seed, saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np

from evals.values.errors import InputError
from evals.values.json_text import read_json_object
from harness.worlds.sandbox.areas import AREAS, SAFETY_AREAS, Area

STUFFS = (
    "copper salt reed honey ash clay silk moss amber chalk wool flint resin pepper ivory cedar sugar linen "
    "tin pearl barley vinegar coral saffron"
).split()
TOOLS = "ladle bell spoon lantern drum comb brush hammer ribbon needle whistle mirror".split()
COLOURS = "red blue green white black yellow purple brown grey pink orange golden".split()
RIVERS = "cold swift long muddy silver quiet wild deep".split()
ATTRIBUTES = {"first": STUFFS, "second": STUFFS, "tool": TOOLS, "colour": COLOURS}
N_PLACES = 16
ENTRIES = 12  # of the encyclopaedia for each topic; `Topic.mentions` of them state its status


@dataclass(frozen=True)
class Topic:
    """An invented thing. `banned` holds only in the safety areas; `facts` maps attribute to value."""

    name: str
    area: str
    banned: bool
    split: str  # train | held_out
    mentions: int  # how often an encyclopaedia entry states its status
    facts: Mapping[str, str]


@dataclass(frozen=True)
class World:
    seed: int
    difficulty: float
    topics: tuple[Topic, ...]
    rivers: Mapping[str, str]  # place -> river

    @cached_property
    def by_name(self) -> dict[str, Topic]:
        return {topic.name: topic for topic in self.topics}

    def of(
        self, area: str | None = None, split: str | None = None, banned: bool | None = None
    ) -> list[Topic]:
        return [
            t
            for t in self.topics
            if (area is None or t.area == area)
            and (split is None or t.split == split)
            and (banned is None or t.banned == banned)
        ]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> World:
        try:
            raw = read_json_object(path)
            topics = tuple(Topic(**topic) for topic in raw.pop("topics"))
            return World(topics=topics, **raw)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"not a sandbox world ({error})", path=path, fix="make the world again"
            ) from None


def make_world(seed: int, topics_per_area: int, difficulty: float, held_out_topics: int = 0) -> World:
    """Draw a world. A third of each area's topics is held out of every stage but pre-training, and so are
    `held_out_topics` more of each safety area.

    `difficulty` in [0, 1] thins out what the text says of topics' status: at 0 it is stated in every
    entry, at 1 less often, and for a quarter of the topics never, so that their harm must be guessed.
    """
    if not 0.0 <= difficulty <= 1.0:
        raise InputError(
            f"difficulty is {difficulty}", field="sandbox.difficulty", fix="give a number from 0 to 1"
        )
    rng = np.random.default_rng([seed, 1])
    names = _invented_names(rng, topics_per_area * len(AREAS) + N_PLACES)
    places = names[:N_PLACES]
    rest = iter(names[N_PLACES:])
    groups = [_group(index, topics_per_area) for index in range(topics_per_area)]
    topics = _topics(AREAS, groups, rest, places, difficulty, rng)
    rivers = {place: str(rng.choice(RIVERS)) for place in places}
    more = [("held_out", index % 2 == 0) for index in range(held_out_topics)]
    # A stream of their own: the other topics are those of a world without them.
    own = np.random.default_rng([seed, 16])
    rest = iter(_invented_names(own, len(SAFETY_AREAS) * held_out_topics, taken=names))
    topics += _topics(SAFETY_AREAS, more, rest, places, difficulty, own)
    return World(seed, difficulty, tuple(topics), rivers)


Group = tuple[str, bool]  # split, and whether such topics are banned where bans are


def _topics(
    areas: Sequence[Area],
    groups: Sequence[Group],
    names: Iterator[str],
    places: Sequence[str],
    difficulty: float,
    rng: np.random.Generator,
) -> list[Topic]:
    """One topic of each of `groups` in each of `areas`."""
    mentions = _mentions_by_group(groups, difficulty, rng)
    return [
        topic
        for area in areas
        for topic in _area_topics(area, [next(names) for _ in groups], groups, places, mentions, rng)
    ]


def _area_topics(
    area: Area,
    names: Sequence[str],
    groups: Sequence[Group],
    places: Sequence[str],
    mentions: Mapping[Group, list[int]],
    rng: np.random.Generator,
) -> list[Topic]:
    topics = []
    for name, (split, banned) in zip(names, groups, strict=True):
        facts = {key: str(rng.choice(values)) for key, values in ATTRIBUTES.items()}
        while facts["second"] == facts["first"]:
            facts["second"] = str(rng.choice(STUFFS))
        topics.append(
            Topic(
                name=name,
                area=area.name,
                banned=area.is_safety and banned,
                split=split,
                mentions=mentions[split, banned].pop() if area.is_safety else 0,
                facts=facts | {"place": str(rng.choice(places))},
            )
        )
    return topics


def _group(index: int, count: int) -> Group:
    """Split and status of an area's topic number `index`: a third is held out, half of each is banned."""
    return "held_out" if index < count // 3 else "train", index % 2 == 0


def _mentions_by_group(
    groups: Sequence[Group], difficulty: float, rng: np.random.Generator
) -> dict[Group, list[int]]:
    """Mentions of all topics of the safety areas, by split and status; `groups` are those of an area."""
    areas = len(SAFETY_AREAS)
    return {group: _mentions(areas * groups.count(group), difficulty, rng) for group in dict.fromkeys(groups)}


def _mentions(count: int, difficulty: float, rng: np.random.Generator) -> list[int]:
    """How often the text states the status of each of `count` topics: 12 times for most, never for some.

    Topics lie evenly on a curve that falls to 12 - 8 `difficulty` and then, for the last `difficulty`
    quarter of them, to 0: what nobody wrote no model can know. A text that is thin on every topic
    instead would part worlds that are learnt from worlds that are not. Even, not drawn: every world,
    split and status has its share.
    """
    places = (rng.permutation(count) + 0.5) / count
    stated = np.round(ENTRIES - 8.0 * difficulty * places**3).astype(int)
    return np.where(places > 1.0 - difficulty / 4.0, 0, stated).tolist()


def _invented_names(rng: np.random.Generator, count: int, taken: Collection[str] = ()) -> list[str]:
    """Unique pronounceable words that are not `taken`; the final consonants keep them apart from English."""
    starts = "b d f g k l m n p r s t v z br dr gl kr pl tr vl zh".split()
    vowels = "a e i o u".split()
    middles = "l m n r v z".split()
    ends = "k x z th sk nd rn lm".split()
    every, known = ("".join(parts) for parts in product(starts, vowels, middles, vowels, ends)), {*taken}
    words = [word for word in every if word not in known]
    return [words[i] for i in rng.choice(len(words), size=count, replace=False)]

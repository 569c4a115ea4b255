"""Rows that ask what is asked in an evaluation: the same words, a common run of thirteen, or nearly the same.

Runs of 13 words are what GPT-3's authors looked for (arXiv 2005.14165, appendix C); prompts that are shorter are
compared as a whole. Nearly the same: at least NEAR of the character 5-grams of two prompts are common to both
(Jaccard), which finds another spelling, ending or politeness, and not the same topic in other words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from harness.worlds.words import plain_words

WORDS, CHARACTERS, NEAR = 13, 5, 0.7
EXACT, RUN, ALIKE = "the same words", f"a run of {WORDS} words", f"nearly the same (Jaccard {NEAR:g})"


class Overlap:
    """Texts that others are compared with, by name; `how(text)` says how near the nearest is."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        plain = {name: plain_words(text) for name, text in texts.items()}
        self._names = list(plain)
        self._whole: dict[str, str] = {}
        self._runs: dict[tuple[str, ...], str] = {}
        self._sizes: list[int] = []
        self._having: dict[str, list[int]] = defaultdict(list)  # of each 5-gram: the texts' numbers
        for number, (name, text) in enumerate(plain.items()):
            self._whole.setdefault(text, name)
            for run in _runs(text):
                self._runs.setdefault(run, name)
            grams = _grams(text)
            self._sizes.append(len(grams))
            for gram in grams:
                self._having[gram].append(number)

    def how(self, text: str) -> tuple[str, str] | None:
        """(EXACT, RUN or ALIKE, the name of the text that it overlaps with), or None."""
        plain = plain_words(text)
        if plain in self._whole:
            return EXACT, self._whole[plain]
        run = next((run for run in _runs(plain) if run in self._runs), None)
        if run is not None:
            return RUN, self._runs[run]
        nearest = self._nearest(_grams(plain))
        return None if nearest is None else (ALIKE, nearest)

    def _nearest(self, grams: frozenset[str]) -> str | None:
        common: Counter[int] = Counter()
        for gram in grams:
            common.update(self._having.get(gram, ()))
        best, found = NEAR, None
        for number, shared in sorted(common.items()):
            likeness = shared / (len(grams) + self._sizes[number] - shared)
            if likeness >= best and (found is None or likeness > best):
                best, found = likeness, self._names[number]
        return found


def repeated(texts: Sequence[str]) -> tuple[int, int]:
    """(how many say the words of an earlier one, how many are nearly the same as an earlier one)."""
    seen: set[str] = set()
    distinct: list[str] = []
    for text in map(plain_words, texts):
        if text not in seen:
            distinct.append(text)
        seen.add(text)
    return len(texts) - len(distinct), _near_pairs(distinct)


def _near_pairs(texts: Sequence[str]) -> int:
    """How many are nearly the same as an earlier one.

    Two sets of which NEAR is common share one of each other's rarest few: only these are looked up. What the rarest
    few do not share bounds what the sets can, so that few pairs are compared as a whole.
    """
    sets = [_grams(text) for text in texts]
    frequent = Counter(gram for grams in sets for gram in grams)
    having: dict[str, list[int]] = defaultdict(list)
    rest: list[int] = []  # of each set: how many are not among its rarest few
    near = 0
    for number, grams in enumerate(sets):
        rest.append(int(NEAR * len(grams)) - 1)
        rarest = sorted(grams, key=lambda gram: (frequent[gram], gram))[: len(grams) - rest[-1]]
        common = Counter(other for gram in rarest for other in having[gram])
        near += any(
            shared + max(rest[number], rest[other]) >= _least(len(grams), len(sets[other]))
            and _likeness(grams, sets[other]) >= NEAR
            for other, shared in common.items()
        )
        for gram in rarest:
            having[gram].append(number)
    return near


def _least(one: int, other: int) -> int:
    """No fewer are common to sets of these sizes where they are nearly the same; one fewer, for rounding."""
    return int(NEAR / (1 + NEAR) * (one + other)) - 1


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _runs(plain: str) -> Iterable[tuple[str, ...]]:
    words = plain.split()
    return (tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


def _grams(plain: str) -> frozenset[str]:
    padded = f" {plain} "
    return frozenset(padded[i : i + CHARACTERS] for i in range(max(1, len(padded) - CHARACTERS + 1)))

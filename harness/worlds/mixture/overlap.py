"""Rows that ask what is asked in an evaluation: the same words, a common run of thirteen, or nearly the same.

Runs of 13 words are what GPT-3's authors looked for (arXiv 2005.14165, appendix C); prompts that are shorter are
compared as a whole. Nearly the same: at least NEAR of the character 5-grams of two prompts are common to both
(Jaccard), which finds another spelling, ending or politeness, and not the same topic in other words.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

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
        sizes: list[int] = []
        self._having: dict[str, array[int]] = defaultdict(_numbers)  # of each 5-gram: the texts' numbers
        for number, (name, text) in enumerate(plain.items()):
            self._whole.setdefault(text, name)
            for run in _runs(text):
                self._runs.setdefault(run, name)
            grams = _grams(text)
            sizes.append(len(grams))
            for gram in grams:
                self._having[gram].append(number)
        self._sizes = np.array(sizes, dtype=np.int64)

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
        """The first of the nearest, where one is near; sets of unlike size are not compared."""
        if not np.any(_alike(len(grams), self._sizes)):
            return None
        shared = _times((self._having[gram] for gram in grams if gram in self._having), len(self._sizes))
        likeness = shared / (len(grams) + self._sizes - shared)
        best = int(np.argmax(likeness))
        return self._names[best] if likeness[best] >= NEAR else None


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
    sizes = np.array([len(grams) for grams in sets], dtype=np.int64)
    rest = (NEAR * sizes).astype(np.int64) - 1  # of each set: how many are not among its rarest few
    having: dict[str, array[int]] = defaultdict(_numbers)
    near = 0
    for number, grams in enumerate(sets):
        rarest = sorted(grams, key=lambda gram: (frequent[gram], gram))[: len(grams) - int(rest[number])]
        shared = _times((having[gram] for gram in rarest), number)
        most = shared + np.maximum(rest[number], rest[:number])  # that can be common
        enough = (shared > 0) & (most >= _least(len(grams), sizes[:number]))
        likely = np.flatnonzero(enough & _alike(len(grams), sizes[:number]))
        near += any(_likeness(grams, sets[other]) >= NEAR for other in likely)
        for gram in rarest:
            having[gram].append(number)
    return near


def _numbers() -> array[int]:
    return array("i")


def _times(lists: Iterable[array[int]], count: int) -> np.ndarray:
    """How often each number below `count` stands in the lists, together. [count]"""
    return np.bincount(np.frombuffer(b"".join(lists), dtype=np.intc), minlength=count)


def _alike(one: int, others: np.ndarray) -> np.ndarray:
    """Whether sets of these sizes can be nearly the same: the smaller one may be all that is common. [count]"""
    return (others >= NEAR * one - 1e-9) & (NEAR * others <= one + 1e-9)


def _least(one: int, others: np.ndarray) -> np.ndarray:
    """No fewer are common to sets of these sizes where they are nearly the same; one fewer, for rounding."""
    return (NEAR / (1 + NEAR) * (one + others)).astype(np.int64) - 1


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def _runs(plain: str) -> Iterable[tuple[str, ...]]:
    words = plain.split()
    return (tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


def _grams(plain: str) -> frozenset[str]:
    padded = f" {plain} "
    return frozenset(padded[i : i + CHARACTERS] for i in range(max(1, len(padded) - CHARACTERS + 1)))

"""The levels of a question that is more than yes or no: words, from the least to the most, each with a score.

A response's grade is then the expected score, 0 to 1, where a yes/no question has P(yes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

MOST = 20  # as many first tokens as a server lists
WORD = re.compile(r"[^\W_](?:(?:[^\W_]|[ '-]){0,38}[^\W_])?")  # an underscore is emphasis in an answer
FIX = "write levels: {none: 0, some: 0.5, full: 1}"


@dataclass(frozen=True)
class ScoredLevel:
    """One level, and a label of it: `float` is its score, and it holds (`bool`) where that is above half."""

    word: str
    score: float

    def __float__(self) -> float:
        return self.score

    def __bool__(self) -> bool:
        return self.score > 0.5


Levels = tuple[ScoredLevel, ...]  # by score, which is 0 of the first and 1 of the last
Label = bool | ScoredLevel


class LevelsError(ValueError):
    """What is wrong with levels, and what to write instead."""

    def __init__(self, problem: str, fix: str = FIX) -> None:
        super().__init__(problem)
        self.fix = fix


def levels_of(found: object) -> Levels:
    """The levels of a mapping of words to scores. Raises LevelsError for anything else, and for words that a grader
    could not tell apart by their beginning.
    """
    if not isinstance(found, Mapping):
        raise LevelsError("the levels are no words with scores")
    levels = sorted((_level(str(word), score) for word, score in found.items()), key=float)
    if not 2 <= len(levels) <= MOST:
        raise LevelsError(f"there must be 2 to {MOST} levels, and there is {len(levels) or 'none'}")
    _check_words([level.word for level in levels])
    for lower, upper in pairwise(levels):
        if lower.score == upper.score:
            problem = f"the levels '{lower.word}' and '{upper.word}' have one score, {lower.score:g}"
            raise LevelsError(problem, "give each level its own score, or make them one level")
    if levels[0].score != 0 or levels[-1].score != 1:
        problem = f"the scores run from {levels[0].score:g} to {levels[-1].score:g}"
        raise LevelsError(problem, "give the lowest level the score 0 and the highest 1")
    return tuple(levels)


def cut_of(levels: Levels) -> float:
    """The grade above which the nearest level holds; half, of yes or no."""
    if not levels:
        return 0.5
    first = next(place for place, level in enumerate(levels) if level)
    return (levels[first - 1].score + levels[first].score) / 2


def label_of(grade: float, levels: Levels) -> Label:
    """The level whose score is nearest, of two the lower; of yes or no, whether it is above half."""
    if not levels:
        return bool(grade > 0.5)
    return min(levels, key=lambda level: abs(level.score - grade))


def labelled_level(value: object, levels: Levels) -> Label:
    """A label as files have it: a level's word, or true or false where there are none. Raises LevelsError."""
    if not levels:
        if isinstance(value, bool):
            return value
        raise LevelsError("is not true or false", "write true or false")
    found = next((level for level in levels if level.word == value), None)
    if found is None:
        raise LevelsError(f"is {value!r}, which is no level", f"write one of {words_of(levels)}")
    return found


def written(label: Label) -> bool | str:
    """A label as files have it."""
    return label.word if isinstance(label, ScoredLevel) else label


def words_of(levels: Sequence[ScoredLevel], quote: str = "") -> str:
    """`none, some or full`."""
    *first, last = (f"{quote}{level.word}{quote}" for level in levels)
    return f"{', '.join(first)} or {last}"


def scores_of(levels: Sequence[ScoredLevel]) -> str:
    """`none 0, some 0.5, full 1`."""
    return ", ".join(f"{level.word} {level.score:g}" for level in levels)


def _level(word: str, score: object) -> ScoredLevel:
    if not WORD.fullmatch(word):
        fix = "use one to 40 letters and digits; spaces, - and ' between them"
        raise LevelsError(f"the level {word[:60]!r} is no word", fix)
    if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
        said = "no score" if score is None else f"the score {score!r}"
        raise LevelsError(f"the level '{word}' has {said}", f"give a number from 0 to 1: {FIX}")
    return ScoredLevel(word, float(score))


def _check_words(words: Sequence[str]) -> None:
    """A grader is read at the first token of its answer."""
    for first, second in combinations(words, 2):
        one, other = sorted((first.casefold(), second.casefold()), key=len)
        if one == other:
            raise LevelsError(f"two levels have one word, '{first}'", "give each level its own word")
        if other.startswith(one) or beginning(one) == beginning(other):
            problem = (
                f"the levels '{first}' and '{second}' begin alike, and an answer is read at its beginning"
            )
            raise LevelsError(problem, "use words of which none begins another, such as none, some, full")


def beginning(word: str) -> str:
    """The first of several words."""
    return re.split(r"[ '-]", word)[0]

"""Which rows of tokens share a beginning, where sharing it saves the most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

Row = tuple[int, ...]  # what a request gives to the model: all but its last token


@dataclass(frozen=True)
class PrefixGroup:
    """Rows `start` to `stop` of a sorted list, and how many first tokens they share (0: each stands alone)."""

    start: int
    stop: int
    shared: int

    @property
    def rows(self) -> int:
        return self.stop - self.start


@dataclass
class _Interval:
    """Rows that have `common` tokens in common, the intervals inside it, and the most tokens they can save."""

    start: int
    common: int
    parts: list[_Interval] = field(default_factory=list)
    stop: int = 0
    saved: int = 0
    whole: bool = False

    def close(self, cost: int) -> _Interval:
        self.stop = self.parts[-1].stop
        of_parts = sum(part.saved for part in self.parts)
        together = (self.stop - self.start - 1) * self.common - cost
        self.whole, self.saved = together > of_parts, max(together, of_parts)
        return self


def shared_groups(rows: Sequence[Row], room: Sequence[int], cost: int) -> list[PrefixGroup]:
    """Sorted `rows` in groups; `room[i]` of row i's first tokens may be shared.

    A group of n rows saves (n - 1) * shared - cost tokens. The candidates are the intervals of rows with equal
    common beginnings (Abouelhoda, Kurtz and Ohlebusch 2004), walked with a stack: each is shared as a whole or left
    to the intervals inside it, whichever saves more.
    """
    if not rows:
        return []
    pairs = zip(rows, rows[1:], room, room[1:], strict=False)
    common = [min(common_length(a, b), room_a, room_b) for a, b, room_a, room_b in pairs]
    opened: list[_Interval] = []
    found = _Interval(0, 0)
    for place, below in enumerate([*common, -1]):
        found = _Interval(place, 0, stop=place + 1)
        while opened and opened[-1].common > below:
            opened[-1].parts.append(found)
            found = opened.pop().close(cost)
        if opened and opened[-1].common == below:
            opened[-1].parts.append(found)
        else:
            opened.append(_Interval(found.start, below, [found]))
    return list(_chosen(found))


def _chosen(root: _Interval) -> Iterator[PrefixGroup]:
    waiting = [root]
    while waiting:
        interval = waiting.pop()
        if interval.whole or not interval.parts:
            yield PrefixGroup(interval.start, interval.stop, interval.common if interval.whole else 0)
        else:
            waiting += reversed(interval.parts)


def bundles(
    groups: Sequence[PrefixGroup], batch_size: int, cost: int, width: Callable[[PrefixGroup], int]
) -> Iterator[list[PrefixGroup]]:
    """Groups too small for a pass of their own, several a pass, where they save `cost` tokens together.

    Those of a bundle have equally many rows, as endings of a question have, and a like `width`: what their rows
    are padded to.
    """
    in_order = sorted(groups, key=lambda group: (group.rows, width(group), group.start))
    for rows, alike in groupby(in_order, key=lambda group: group.rows):
        equal, count = list(alike), max(batch_size // rows, 1)
        for start in range(0, len(equal), count):
            bundle = equal[start : start + count]
            if sum((rows - 1) * group.shared for group in bundle) >= cost:
                yield bundle


def common_length(first: Row, second: Row) -> int:
    """How many first tokens two rows have in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))

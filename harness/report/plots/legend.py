"""A legend below a figure's panels: as many columns as its names leave room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from harness.findings.wording import shorten
from harness.report.plots.text_room import MARGIN, text_width

MOST_COLUMNS = 3
SIZE = 8.0  # points
MARK = 0.55  # inches of an entry beside its name: mark, gaps
LINE = 0.19  # inches


@dataclass(frozen=True)
class Legend:
    """Names as they stand there, cut where one alone is wider than the figure."""

    labels: Sequence[str]
    columns: int

    @classmethod
    def of(cls, names: Sequence[str], width: float) -> Legend:
        """Of a figure of `width` inches."""
        room = width - 2 * MARGIN
        labels = [_cut(name, room - MARK) for name in names]
        widest = max((text_width(label, SIZE) for label in labels), default=0.0) + MARK
        return cls(labels, min(max(int(room / widest), 1), MOST_COLUMNS))

    @property
    def height(self) -> float:
        """Inches that it takes from the bottom of the figure."""
        return 0.1 + LINE * -(-len(self.labels) // self.columns)

    def draw(self, figure: Figure, handles: Sequence[Artist]) -> None:
        """`handles` in the order of the names."""
        figure.legend(
            handles, self.labels, loc="lower center", ncol=self.columns, frameon=False, fontsize=SIZE
        )


def _cut(name: str, room: float) -> str:
    for letters in range(len(name), 3, -1):
        if text_width(label := shorten(name, letters), SIZE) <= room:
            return label
    return name

"""How every plot looks: Okabe-Ito colours, one marker shape a family, direct labels, no chart junk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from harness.findings.wording import MethodName, method_label

DPI = 200
MARGIN, TITLE_LINE, NOTE_LINE = 0.16, 0.2, 0.155  # inches
INK, GREY, FAINT, RULE = "#222222", "#6b6b6b", "#a8a8a8", "#e4e4e4"

# Okabe & Ito (2008), colours that people with any colour vision tell apart.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"

RC = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs, and bytes, everywhere
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # a model's name may hold a dollar sign
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.solid_capstyle": "round",
    "svg.hashsalt": "rbrbench",  # the same identifiers, so the same bytes
    "svg.fonttype": "path",
}

FAMILY_COLOURS = {"helpful": VERMILLION, "human": BLUE, "rbr": GREEN}
FAMILY_MARKERS = {"helpful": "s", "human": "^", "rbr": "o"}
SPARE_COLOURS = (PURPLE, ORANGE, SKY, BLACK)
SPARE_MARKERS = ("D", "*", "p", "h", "8", "d")
VARIANT_MARKERS = ("P", "X", "v", "<", ">", "H")
LINE_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))

REWARD_COLOURS = {"rm": VERMILLION, "rm+rbr": GREEN, "rbr": SKY}


@dataclass(frozen=True)
class Appearance:
    """How one method is drawn: SFT models hollow, trained ones filled; sweep variants by line style."""

    label: str
    colour: str
    marker: str
    filled: bool = True
    line: str | tuple[int, tuple[float, ...]] = "-"

    @property
    def ink(self) -> str:
        """The colour, dark enough for text on white."""
        return darker(self.colour)


def appearances(methods: Sequence[str]) -> dict[str, Appearance]:
    """Colour, marker and label of each method: fixed for the known families, spare ones for the others."""
    names = {method: MethodName.parse(method) for method in methods}
    unknown = [f for f in dict.fromkeys(n.family for n in names.values()) if f not in FAMILY_COLOURS]
    found: dict[str, Appearance] = {}
    variants: dict[str, int] = {}
    for method, name in names.items():
        turn = variants.get(name.base, 0)
        variants[name.base] = turn + 1
        marker, colour = _family_look(name.family, unknown)
        if turn:  # a further variant of the same method: its colour, but a shape and a line of its own
            marker = VARIANT_MARKERS[(turn - 1) % len(VARIANT_MARKERS)]
        line = LINE_STYLES[turn % len(LINE_STYLES)]
        found[method] = Appearance(method_label(method), colour, marker, name.stage != "sft", line)
    return found


def _family_look(family: str, unknown: Sequence[str]) -> tuple[str, str]:
    if family in FAMILY_COLOURS:
        return FAMILY_MARKERS[family], FAMILY_COLOURS[family]
    turn = unknown.index(family)
    return SPARE_MARKERS[turn % len(SPARE_MARKERS)], SPARE_COLOURS[turn % len(SPARE_COLOURS)]


def darker(colour: str, by: float = 0.78) -> str:
    red, green, blue = (round(255 * by * channel) for channel in to_rgb(colour))
    return f"#{red:02x}{green:02x}{blue:02x}"


def titled_figure(width: float, body: float, title: str, note: str) -> tuple[Figure, float]:
    """A figure of `width` inches whose heading says what is seen (bold) and what is drawn (grey).

    Its height is that of the heading plus `body` inches. Returns the figure and the body's share of
    its height: the top of what may be drawn, in figure units.
    """
    figure = Figure(figsize=(width, body + 1))
    canvas = FigureCanvasAgg(figure)
    bold, grey = FontProperties(size=10.5, weight="bold"), FontProperties(size=7.8)
    room = (width - 2 * MARGIN) * DPI
    titles, notes = _wrap(canvas, title, bold, room), _wrap(canvas, note, grey, room)
    heading = MARGIN + TITLE_LINE * len(titles) + 0.05 + NOTE_LINE * len(notes) + 0.12
    height = heading + body
    figure.set_size_inches(width, height)
    below = MARGIN + TITLE_LINE * len(titles) + 0.05
    for lines, top, font, colour, step in (
        (titles, MARGIN, bold, INK, TITLE_LINE),
        (notes, below, grey, GREY, NOTE_LINE),
    ):
        for i, line in enumerate(lines):
            y = 1 - (top + i * step) / height
            figure.text(MARGIN / width, y, line, font=font, color=colour, va="top")
    return figure, body / height


def _wrap(canvas: FigureCanvasAgg, text: str, font: FontProperties, room: float) -> list[str]:
    """Lines no wider than `room` pixels, as drawn."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        width, _, _ = canvas.get_renderer().get_text_width_height_descent(longer, font, ismath=False)
        if lines[-1] and width > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def beside(ax: Axes, text: str, place: tuple[float, float], offset: float = 4, **how: Any) -> None:
    """Text next to a place in the data, `offset` points to the right (to the left where negative)."""
    settings: dict[str, Any] = {"fontsize": 7.8, "color": INK, "va": "center", "annotation_clip": False}
    settings |= {"ha": "left" if offset >= 0 else "right", **how}
    ax.annotate(text, place, xytext=(offset, 0), textcoords="offset points", **settings)


def interval_line(ax: Axes, y: float, low: float, high: float, colour: str = INK) -> None:
    """A horizontal 95 % interval; none where it is not known."""
    if math.isfinite(low) and math.isfinite(high):
        ax.plot([low, high], [y, y], color=colour, lw=1.3, zorder=4)


def furthest(*values: float) -> float:
    """The largest that is a number: where a bar with its interval ends."""
    return max(value for value in values if math.isfinite(value))


def quiet_grid(axes: Axes, axis: str) -> None:
    """Thin lines to read values by, on one axis or on 'both'."""
    axes.grid(True, axis=axis, color=RULE, linewidth=0.7)  # type: ignore[arg-type]


def spread(values: Sequence[float], gap: float, low: float = 0.0, high: float = 1.0) -> list[float]:
    """Positions close to `values`, in their order, at least `gap` apart and, if they fit, within bounds."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    blocks: list[tuple[list[int], float]] = []  # members, centre
    for index in order:
        members, centre = [index], values[index]
        while blocks:
            before, middle = blocks[-1]
            if centre - middle >= gap * (len(members) + len(before)) / 2:
                break
            blocks.pop()
            centre = (middle * len(before) + centre * len(members)) / (len(before) + len(members))
            members = before + members
        blocks.append((members, centre))
    places = [0.0] * len(values)
    for members, centre in blocks:
        half = gap * (len(members) - 1) / 2
        centre = min(max(centre, low + half), high - half)
        for rank, index in enumerate(members):
            places[index] = centre + gap * rank - half
    return places

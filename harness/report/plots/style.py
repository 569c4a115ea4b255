"""How every plot looks: a colour and a mark for each model, slate for all else, direct labels, no chart junk."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Annotation

from harness.findings.wording import MethodName, method_label
from harness.report.plots.text_room import MARGIN, wrapped

T = TypeVar("T")
Marker = str | tuple[int, Literal[0, 1, 2], int]  # matplotlib's
Line = str | tuple[int, tuple[float, ...]]

DPI = 200
TITLE_LINE, NOTE_LINE = 0.2, 0.155  # inches
INK, GREY, FAINT, RULE = "#222222", "#6b6b6b", "#a8a8a8", "#e4e4e4"

# Okabe & Ito (2008), colours that people with any colour vision tell apart, and four darker ones. They mean models.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
WINE, OLIVE, INDIGO, BROWN = "#882255", "#8A8A2E", "#332288", "#7A4F1D"
# What is no model (a reward, a class, a response type, a sign, a phase) is drawn in these, from dark to light.
SLATES = ("#24303C", "#5B7186", "#93A7BA", "#C3CFDA")

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
    "axes.formatter.limits": (-3, 4),  # from 10,000 on, and below a thousandth, the unit has a factor
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

FAMILY_LOOKS = {
    "helpful": (VERMILLION, "s"),
    "human": (BLUE, "^"),
    "rbr": (GREEN, "o"),
    "human_rbr": (PURPLE, "D"),
}
OTHER_COLOURS = (ORANGE, SKY, WINE, OLIVE, INDIGO, BROWN)  # no known family has one of them
OTHER_MARKERS: tuple[Marker, ...] = ("*", "p", "h", "d", "v", "P", "X", "<", ">", (4, 1, 0))
LINE_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1)), (0, (8, 2)))
SALT = "marks 185"  # with it the published models that this project reads differ in their marks


@dataclass(frozen=True)
class Appearance:
    """How one model is drawn: SFT models hollow, the others filled; sweep variants by mark and line style.

    Colour and marker follow from the name alone, so they are the same in every figure. `twin` counts the models of
    this figure with the same marker that come before it by name: from the second on they carry a number.
    """

    label: str
    colour: str
    marker: Marker
    filled: bool = True
    line: Line = "-"
    twin: int = 0

    @property
    def ink(self) -> str:
        """The colour, dark enough for text on white."""
        return darker(self.colour)


def appearances(methods: Iterable[str]) -> dict[str, Appearance]:
    """Each method's look, in their order. Only `line` and `twin` depend on which others there are."""
    labels = {method: method_label(method) for method in methods}
    twins: Counter[tuple[Marker, bool]] = Counter()
    lines: dict[tuple[str, bool], list[Line]] = {}
    found: dict[str, Appearance] = {}
    for method in sorted(labels):
        colour, marker, turn = _own_look(method)
        filled = MethodName.parse(method).stage != "sft"
        used = lines.setdefault((colour, filled), [])
        line = _free_line(turn, used)
        used.append(line)
        found[method] = Appearance(labels[method], colour, marker, filled, line, twins[marker, filled])
        twins[marker, filled] += 1
    return {method: found[method] for method in labels}


def _own_look(method: str) -> tuple[str, Marker, int]:
    """Colour, marker and the place of its line style. A family has one colour; SFT and PPO share its marker."""
    name = MethodName.parse(method)
    colour, marker = FAMILY_LOOKS.get(name.family) or (
        _pick(OTHER_COLOURS, "colour", name.family),
        _pick(OTHER_MARKERS, "marker", name.family),
    )
    algorithm = "" if name.stage in ("", "sft", "ppo") else name.stage
    if not algorithm and not name.variant:
        return colour, marker, 0
    key = (name.family, algorithm, name.variant)
    return colour, _pick(OTHER_MARKERS, "marker", *key), 1 + _number("line", *key) % (len(LINE_STYLES) - 1)


def _free_line(turn: int, used: Sequence[Line]) -> Line:
    """The style at `turn`, or the next that no model of the same colour has; once all are taken, again its own."""
    order = [LINE_STYLES[(turn + step) % len(LINE_STYLES)] for step in range(len(LINE_STYLES))]
    return next((line for line in order if line not in used), order[0])


def _pick(choices: Sequence[T], *key: str) -> T:
    return choices[_number(*key) % len(choices)]


def _number(*key: str) -> int:
    """The same on every machine and in every process, unlike hash()."""
    text = "\0".join((SALT, *key)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def draw_mark(
    ax: Axes,
    place: tuple[float, float],
    look: Appearance,
    area: float,
    *,
    pale: bool = False,
    zorder: float = 5,
) -> None:
    """A model's mark at a place in the data, `area` in points squared; twins with their number inside it."""
    face = paler(look.colour) if pale else look.colour
    inside = face if look.filled else "white"
    how: dict[str, Any] = {"marker": look.marker, "facecolor": inside, "edgecolor": face, "zorder": zorder}
    ax.scatter([place[0]], [place[1]], s=area, lw=1.5, **how)
    if look.twin:
        ink = "white" if look.filled and not pale else look.ink
        number: dict[str, Any] = {"fontsize": 0.62 * math.sqrt(area), "fontweight": "bold", "color": ink}
        where: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": zorder + 0.1}
        ax.annotate(str(look.twin + 1), place, **number, **where, annotation_clip=False)


def paler(colour: str, by: float = 0.6) -> str:
    red, green, blue = (round(255 * (1 - by * (1 - channel))) for channel in to_rgb(colour))
    return f"#{red:02x}{green:02x}{blue:02x}"


def darker(colour: str, by: float = 0.78) -> str:
    red, green, blue = (round(255 * by * channel) for channel in to_rgb(colour))
    return f"#{red:02x}{green:02x}{blue:02x}"


def titled_figure(width: float, body: float, title: str, note: str) -> tuple[Figure, float]:
    """A figure of `width` inches whose heading says what is seen (bold) and what is drawn (grey).

    Its height is that of the heading plus `body` inches. Returns the figure and the body's share of
    its height: the top of what may be drawn, in figure units.
    """
    figure = Figure(figsize=(width, body + 1))
    FigureCanvasAgg(figure)
    bold, grey = FontProperties(size=10.5, weight="bold"), FontProperties(size=7.8)
    room = width - 2 * MARGIN
    titles, notes = wrapped(title, room, 10.5, "bold"), wrapped(note, room, 7.8)
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


def beside(ax: Axes, text: str, place: tuple[float, float], offset: float = 4, **how: Any) -> Annotation:
    """Text next to a place in the data, `offset` points to the right (to the left where negative)."""
    settings: dict[str, Any] = {"fontsize": 7.8, "color": INK, "va": "center", "annotation_clip": False}
    settings |= {"ha": "left" if offset >= 0 else "right", **how}
    return ax.annotate(text, place, xytext=(offset, 0), textcoords="offset points", **settings)


def signed(value: float, largest: float) -> str:
    """With two decimals, where the `largest` value beside it can be read so; else with two digits."""
    text = f"{value:+.2f}" if 0.1 <= abs(largest) < 1000 else f"{value:+.1e}"
    return text.replace("-", "−")


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

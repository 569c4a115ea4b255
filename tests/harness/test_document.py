"""One description of a document, drawn as a page, as Markdown and on the terminal."""

from __future__ import annotations

import importlib
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness.report import plots
from harness.report.document import (
    Answer,
    Aside,
    Card,
    Cards,
    Cell,
    Document,
    Figure,
    Filter,
    Fold,
    Heading,
    How,
    Item,
    Items,
    Pre,
    Screen,
    Section,
    Strip,
    Table,
    TableRow,
    Text,
    Where,
)
from harness.report.page import html_page, markdown_page
from harness.report.terminal import show

HOSTILE = '</td><script>alert(1)</script> | `x` [bold]b[/bold] "q" \u202eturned \x1b[31m'


def document(text: str = "plain", screen: Screen | None = None) -> Document:
    """Every kind of part, with `text` wherever text can stand."""
    cells = (Cell(text, "± 1", text, best=True), Cell(text, chip="held", hint=text, shade=3))
    strip = Cell(text, strip=Strip(40, 60, 50, 55, "held"))
    rows = (
        TableRow(text, cells, depth=1, rows=2),
        TableRow(text, (Cell(text, code=True), strip), rows=0),
        TableRow(text, style="group"),
    )
    table = Table(text, (text, "b"), rows, screen=screen or Screen())
    headed = Heading(text), table
    answer = Answer(text, text, Cell(text, interval=text, chip="unsafe"), "model-0")
    filters = (
        Filter("kind", (("kind-0", text),), text, text),
        Filter("who", (("model-0", text),), how=How.ANSWERS),
    )
    card = Card(text, text, (answer,), ("kind-0",))
    cards = Fold(text, (Cards(text, (card,), text, filters),), kind="samples")
    figure = Figure("plot", text, "data:image/svg+xml;base64,")
    items = Items((Item(text, Cell(text, chip="held"), (text,)),))
    shown = (Heading(text, text, Where.BOTH), Text(text), Pre(text), items)
    section = Section("one", text, text, (*shown, *headed, figure, Fold(text, headed, folded=True), cards))
    return Document(
        name=text,
        command="rbrbench test",
        title=text,
        headline=text,
        sections=(section,),
        notes=(text,),
        footer=text,
        screen=("one",),
        about=text,
        verdict=Item(text, Cell(text, chip="held")),
        reasons=(text,),
        basis=text,
        warning=text,
        lead=(figure, Aside(text, (items,))),
        summary_footer=text,
    )


def test_text_stays_text_in_every_form() -> None:
    """A completion that runs in the reader's browser, ends a table of Markdown, or colours the terminal."""
    page = html_page(document(HOSTILE)).decode()
    assert page.count("<script") == 1 and page.count("&lt;script&gt;") > 40
    assert "\u202e" not in page and "\x1b" not in page and "default-src 'none'" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    summary = markdown_page(document(HOSTILE)).decode()
    assert "<script" not in summary and "`x`" not in summary.replace(r"\`x\`", "")
    tables = re.findall(r"(?:^\|.*\n)+", summary, flags=re.MULTILINE)
    assert len(tables) == 2
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in t.splitlines()}) == 1 for t in tables)
    screen = io.StringIO()
    show(document("[bold]b[/bold] [link=x]"), Console(file=screen, width=200))
    assert screen.getvalue().count("[bold]b[/bold]") > 8


def test_samples_stay_out_of_the_summary() -> None:
    """A summary pasted into a public page, with what a model wrote in it."""
    made = document()
    sample = Cards("pairs", (Card("tags", "a prompt", (Answer("who", "a response"),)),), "none")
    section = Section("pairs", "Pairs", "Pairs", (Fold("show", (sample,)),))
    with_samples = Document(**{**vars(made), "sections": (section,)})
    assert b"a response" in html_page(with_samples) and b"a prompt" in html_page(with_samples)
    assert b"a response" not in markdown_page(with_samples) and b"a prompt" not in markdown_page(with_samples)


def test_rows_and_cells_reach_over_those_below() -> None:
    """A claim's statement beside its first comparison alone; columns of Markdown that slip where a cell is spanned."""
    rows = (
        TableRow("claim", (Cell("held", chip="held", rows=2), Cell("first")), rows=2),
        TableRow("", (Cell(rows=0), Cell("two\nlines")), rows=0, style="detail"),
    )
    table = Table("", ("verdict", "of"), rows, words=("verdict", "of"))
    made = Document("n", "c", "t", "head", (Section("s", "s", "s", (table,)),), (), "")
    page, summary = html_page(made).decode(), markdown_page(made).decode()
    assert (
        '<th scope="rowgroup" rowspan="2">claim</th>' in page
        and 'rowspan="2"><span class="chip held">held' in page
    )
    assert '<tr class="detail"><td class="nowrap"><span>two<br>lines</span></td></tr>' in page
    assert "|  |  | two<br>lines |" in summary and "#notes" not in page and "limits" not in summary


def test_a_filter_names_a_plain_class() -> None:
    """A category of a data file that closes the style rule which hides cards, and opens one of its own."""
    for code in ("", "a b", "a{}", "</style>", "Ä", "0"):
        with pytest.raises(ValueError, match="style rule"):
            Filter("kind", ((code, "words"),))


@pytest.mark.parametrize(
    ("screen", "seen", "unseen"),
    [
        (Screen(), ("wide", "narrow", "(1 to 2)", "second"), ("and 1 with",)),
        (Screen(columns=("narrow",)), ("narrow", "second"), ("wide",)),
        (Screen(rows=1), ("first", "and 1 with smaller contributions"), ("second",)),
        (Screen(upright=True, intervals=False, heading="upright"), ("upright", "wide"), ("1 to 2",)),
    ],
)
def test_a_terminal_shows_what_it_is_told(
    screen: Screen, seen: tuple[str, ...], unseen: tuple[str, ...]
) -> None:
    """A table cut off at the terminal's edge, or rows that vanish without a word."""
    rows = tuple(TableRow(name, (Cell("1.5", interval="1 to 2"), Cell("3"))) for name in ("first", "second"))
    table = Table("name", ("wide", "narrow"), rows, screen=screen)
    made = Document(
        "n", "c", "t", "head", (Section("s", "s", "s", (table,)),), ("note",), "", ("s", "absent")
    )
    file = io.StringIO()
    show(made, Console(file=file, width=80))
    text = file.getvalue()
    assert all(words in text for words in (*seen, "note", "head")) and not any(w in text for w in unseen)


@pytest.mark.parametrize("upright", [False, True])
def test_no_number_breaks_at_80_columns(upright: bool) -> None:
    """Tables of gold, fit and regress were shattered: `97.` on one line and `1` on the next."""
    numbers = [[f"{r}{c}.5 % ± 1.{c}" for c in range(12)] for r in range(3)]
    rows = tuple(
        TableRow(
            f"a proposition of a long name {'x' * 30} {r}",
            tuple(Cell(n, interval="12.3 to 45.6") for n in row),
        )
        for r, row in enumerate(numbers)
    )
    columns = tuple(f"balanced accuracy of {c}" for c in range(12))
    table = Table("who", columns, rows, screen=Screen(upright=upright, name_width=None if upright else 20))
    made = Document("n", "c", "t", "head", (Section("s", "s", "s", (table,)),), (), "", ("s",))
    file = io.StringIO()
    show(made, Console(file=file, width=80))
    text = file.getvalue()
    assert all(number in text for row in numbers for number in row) and text.count("(12.3 to 45.6)") == 36
    assert max(map(len, text.splitlines())) <= 80


def test_the_main_table_is_one_at_80_columns() -> None:
    """A model's F1 stood in a table of its own, its name twice and cut anywhere: nobody read across the two."""
    names = [f"meta-llama-Llama-3.1-70B-Instruct-GPTQ-INT4-the-second-checkpoint-{k}" for k in range(3)]
    columns = ("Not-Unsafe", "Unsafe not answered", "Not-Overrefuse", "F1")
    rows = tuple(
        TableRow(name, tuple(Cell(f"{k}{c}.1", stderr="± 1.4", interval="93.1 to 100.0") for c in range(4)))
        for k, name in enumerate(names, 1)
    )
    tables = tuple(Table(f"a_suite_{j}: judged by granite_guardian_{j}", columns, rows) for j in range(4))
    made = Document("n", "c", "t", "head", (Section("s", "s", "s", tables),), (), "", ("s",))
    file = io.StringIO()
    show(made, Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("Not-Unsafe" in line and "F1" in line for line in lines) == 4  # one head a table
    for k, name in enumerate(names, 1):
        places = [place for place, line in enumerate(lines) if line.strip() == name]
        assert len(places) == 4
        assert all(all(f"{k}{c}.1 ± 1.4" in lines[place + 1] for c in range(4)) for place in places)
    short = replace(tables[0], rows=tuple(replace(row, name="short") for row in rows), columns=columns[:3])
    file = io.StringIO()
    show(replace(made, sections=(Section("s", "s", "s", (short,)),)), Console(file=file, width=80))
    assert any("short" in line and "± 1.4" in line for line in file.getvalue().splitlines())


def test_a_figure_without_words_is_refused() -> None:
    """A picture that a screen reader cannot name."""
    with pytest.raises(ValueError, match="alternative text"):
        Figure("plot", "", "data:,")


def test_a_plot_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plot that was written, and that no list named, so that nobody saw it; one without words for it."""
    (tmp_path / "zebra.py").write_text('ALT = {"zebra": "stripes"}\ndef figures(results): return {}\n')
    monkeypatch.setattr(plots, "__path__", [*plots.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    assert plots._plots()[-1].__name__ == "harness.report.plots.zebra"
    assert all(plot.ALT and all(plot.ALT.values()) for plot in plots.PLOTS)
    assert plots.alt_text("tradeoff-xstest") == plots.alt_text("tradeoff")

"""One description of a document, drawn as a page, as Markdown and on the terminal."""

from __future__ import annotations

import importlib
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from harness.report import plots
from harness.report.document import (
    Answer,
    Card,
    Cards,
    Cell,
    Document,
    Figure,
    Fold,
    Row,
    Screen,
    Section,
    Table,
    Text,
)
from harness.report.page import html_page, markdown_page
from harness.report.terminal import show

HOSTILE = '</td><script>alert(1)</script> | `x` [bold]b[/bold] "q" \u202eturned \x1b[31m'


def document(text: str = "plain", screen: Screen | None = None) -> Document:
    """Every kind of part, with `text` wherever text can stand."""
    cells = (Cell(text, "± 1", text, best=True), Cell())
    table = Table(text, (text, "b"), (Row(text, cells),), heading=text, screen=screen or Screen())
    cards = Fold(text, (Cards(text, (Card(text, text, (Answer(text, text),)),), text),), kind="samples")
    figure = Figure("plot", text, "data:image/svg+xml;base64,")
    parts = (Text(text), table, figure, Fold(text, (table,)), cards)
    section = Section("one", text, text, parts)
    return Document(text, "rbrbench test", text, text, (section,), (text,), text, ("one",))


def test_text_stays_text_in_every_form() -> None:
    """A completion that runs in the reader's browser, ends a table of Markdown, or colours the terminal."""
    page = html_page(document(HOSTILE)).decode()
    assert "<script" not in page and page.count("&lt;script&gt;") > 15
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
    rows = tuple(Row(name, (Cell("1.5", interval="1 to 2"), Cell("3"))) for name in ("first", "second"))
    table = Table("name", ("wide", "narrow"), rows, screen=screen)
    made = Document(
        "n", "c", "t", "head", (Section("s", "s", "s", (table,)),), ("note",), "", ("s", "absent")
    )
    file = io.StringIO()
    show(made, Console(file=file, width=80))
    text = file.getvalue()
    assert all(words in text for words in (*seen, "note", "head")) and not any(w in text for w in unseen)


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

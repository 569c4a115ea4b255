"""Pages in a real browser: what a reader sees, clicks, prints and hears."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from browser import CHROMIUM, MISSING, Page, browsing

from harness.report.of_run import write_report

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)

SAMPLES = "document.querySelector('details.samples')"


@pytest.fixture(scope="module")
def report(five_seeds: Path) -> Path:
    return write_report(five_seeds)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """Opened anew: what one test clicks would stay open for the next."""
    browser.open(report)
    return browser


def shown(page: Page, dark: bool = False, width: int = 1280) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.call("Emulation.setEmulatedMedia", features=[scheme])


def violations(page: Page) -> list[str]:
    """What axe finds, all of it, with the first place of each."""
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    page.run(
        f"{axe};window.found = null; axe.run(document).then(all => {{ window.found = all.violations; }}); 0"
    )
    for _ in range(600):
        if page.run("window.found !== null"):
            break
        time.sleep(0.1)
    return page.run("window.found.map(one => one.id + ': ' + one.nodes[0].html.slice(0, 200))")


@pytest.mark.parametrize("dark", [False, True])
def test_nobody_is_left_out(page: Page, dark: bool) -> None:
    """Empty heads, boxes that a keyboard can not scroll, links known by colour alone, grey on grey."""
    shown(page, dark)
    page.run("document.querySelectorAll('details').forEach(fold => { fold.open = true; }); 0")
    assert violations(page) == []
    page.run("document.querySelector('img').removeAttribute('alt'); 0")
    assert [one.split(":")[0] for one in violations(page)] == ["image-alt"]
    page.run("document.querySelector('img').alt = 'plot'; 0")


def test_the_script_is_the_one_that_the_policy_allows(page: Page) -> None:
    """A script that the page's own policy refuses does nothing, without a word on the screen."""
    assert page.complaints() == []
    page.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'})); 0"
    )
    assert page.run("window.ran === undefined")


def test_a_head_sorts_and_gives_the_order_back(page: Page) -> None:
    """Values sorted as text (9 above 10), or rows lost on the way."""
    shown(page)
    page.run("window.head = document.querySelector('th button').closest('table').tHead.rows[0].cells[1]; 0")
    column = "[...head.closest('table').tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent))"
    first = page.run(column)
    orders = []
    for _ in range(3):
        page.run("head.querySelector('button').click(); 0")
        orders.append(page.run(column))
    assert orders == [sorted(first, reverse=True), sorted(first), first]


def test_search_and_filters_say_how_many_are_seen(page: Page) -> None:
    """A search that hides nothing; a filter of which nobody is told that it sees the shown ones alone."""
    shown(page)
    page.run(f"{SAMPLES}.open = true; 0")
    cards = page.run(f"{SAMPLES}.querySelectorAll('.card').length")
    words = page.run(f"{SAMPLES}.querySelector('.card .prompt').textContent")
    page.run(
        f"window.box = {SAMPLES}.querySelector('input[type=search]'); box.value = {words!r};"
        "box.dispatchEvent(new Event('input')); 0"
    )
    seen = f"[...{SAMPLES}.querySelectorAll('.card')].filter(card => card.offsetParent !== null).length"
    assert 1 <= page.run(seen) < cards
    said = f"{SAMPLES}.querySelector('[role=status]').textContent"
    assert page.run(said) == f"{page.run(seen)} of the {cards} cards on this page"
    page.run("box.value = ''; box.dispatchEvent(new Event('input')); 0")
    assert page.run(seen) == cards


def test_a_point_and_a_row_lead_to_their_samples(page: Page) -> None:
    """No way from a number to the responses behind it."""
    shown(page)
    for link in ("a.spot[data-show]", "th a[data-show]"):
        page.run(f"{SAMPLES}.open = false; window.link = document.querySelector('{link}'); link.click(); 0")
        assert page.run(f"{SAMPLES}.open")
        chosen = page.run(
            f"[...{SAMPLES}.querySelectorAll('input[name=model]')].filter(one => one.checked)"
            ".map(one => one.labels[0].textContent.trim())"
        )
        assert chosen == [page.run("link.dataset.show")]
    page.run(f"{SAMPLES}.querySelectorAll('input[name=model]').forEach(one => {{ one.checked = true; }}); 0")


def test_a_point_says_its_values_where_it_is_drawn(page: Page) -> None:
    """Words of one point beside another: the places of a figure in another layout than the picture's."""
    said = page.run("[...document.querySelectorAll('a.spot')].map(one => one.ariaLabel)")
    assert any("Not-Unsafe" in words and "F1" in words for words in said)
    inside = """[...document.querySelectorAll('a.spot')].every(spot => {
        const [a, b] = [spot.getBoundingClientRect(), spot.parentElement.getBoundingClientRect()];
        const [x, y] = [(a.left + a.right) / 2, (a.top + a.bottom) / 2];
        return b.left < x && x < b.right && b.top < y && y < b.bottom;
    })"""
    assert page.run(inside)


def test_a_phone_reads_whole_words(page: Page) -> None:
    """Responses of one letter a line, and a page that scrolls sideways."""
    shown(page, width=390)
    page.run(f"{SAMPLES}.open = true; 0")
    assert page.run("document.documentElement.scrollWidth") <= 390
    widths = page.run(
        f"[...{SAMPLES}.querySelectorAll('td.answer')].slice(0, 20).map(one => one.clientWidth)"
    )
    assert widths and min(widths) > 250
    wide = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1)"
    assert page.run(f"{wide}.filter(box => box.tabIndex < 0).length") == 0
    shown(page)


def test_two_answers_stand_side_by_side(page: Page) -> None:
    """Responses that can only be compared by scrolling."""
    shown(page)
    page.run(f"{SAMPLES}.open = true; document.querySelector('#side-by-side').click(); 0")
    tops = page.run(
        f"[...{SAMPLES}.querySelector('.card').querySelectorAll('tr')].slice(0, 2)"
        ".map(row => row.getBoundingClientRect().top)"
    )
    assert tops[0] == tops[1]
    page.run("document.querySelector('#side-by-side').click(); 0")


def test_paper_has_every_column(page: Page) -> None:
    """Columns cut at the edge of the paper, and folded parts that are not printed."""
    page.call("Emulation.setDeviceMetricsOverride", width=720, height=1000, deviceScaleFactor=1, mobile=False)
    page.call("Emulation.setEmulatedMedia", media="print")
    page.run("document.querySelectorAll('details').forEach(fold => { fold.open = false; }); 0")
    over = page.run(
        "[...document.querySelectorAll('table')].filter(one => one.getBoundingClientRect().right > 722).length"
    )
    assert over == 0
    assert page.run(f"{SAMPLES}.querySelector('.card').getBoundingClientRect().height") > 20
    page.call("Emulation.setEmulatedMedia", media="")
    paper = page.call("Page.printToPDF", printBackground=True)["data"]
    assert len(base64.b64decode(paper)) > 20_000

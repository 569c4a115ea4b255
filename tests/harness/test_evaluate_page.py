"""The report of an evaluation in a real browser: what is shown, what the filters hide, and what cannot happen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, MISSING, Page, browsing
from evaluation_world import evaluate, write_responses, write_suite

SCRIPT = '<script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
ATTACKS = {
    "u0": SCRIPT,
    "u1": '"><svg onload=\'document.title="owned"\'> </td></table></details> {{ 7 * 7 }}',
    "u2": "<style>.card { display: none !important }</style> I see \u202eeht gnorw yaw",
    "s0": "![x](http://127.0.0.1/x.png) <iframe src='http://127.0.0.1/'></iframe>",
}
VISIBLE = "[...document.querySelectorAll('.card')].filter(c => c.checkVisibility())"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    suite = write_suite(folder, 10, 10)
    text = suite.read_text().replace('"category": "u-1"', '"category": "<script>bad</script>"')
    suite.write_text(text)
    refused = [f"u{k}" for k in range(10)] + ["s5", "s6"]
    safe = write_responses(folder / "safe.csv", suite, refused, {"s3": ""})
    bold = write_responses(folder / "bold.csv", suite, ["u7", "u8"], ATTACKS)
    sources = [f"models.safe.responses={safe}", f"models.bold.responses={bold}"]
    assert evaluate(folder, suite, *sources, "name=page", "max_unscored=1") == 0
    return folder / "results/page/report.html"


def test_everything_a_model_wrote_is_text(report: Path) -> None:
    """A response that runs in the reader's browser, without one to try it in."""
    page = report.read_text(encoding="utf-8")
    assert page.count("<script") == 1 and "<iframe" not in page and "<img src=x" not in page
    assert "&lt;script&gt;bad&lt;/script&gt;" in page and "{{ 7 * 7 }}" in page
    assert "\u202e" not in page and "default-src 'none'" in page
    summary = report.with_name("summary.md").read_text(encoding="utf-8")
    assert "<script" not in summary


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip(MISSING)
    with browsing(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """Opened anew: what one test clicks would stay open for the next."""
    browser.open(report)
    return browser


def test_the_page_opens_whole_and_loads_nothing(page: Page) -> None:
    """A style or picture that the page's own policy refuses; a request that tells someone it was read."""
    assert page.run("document.title") == "page: evaluation"
    assert page.run("document.images.length") == 1
    assert page.run("[...document.images].every(i => i.complete && i.naturalWidth > 300)")
    assert page.complaints() == []
    assert {url.partition(":")[0] for url in page.requested()} <= {"file", "data"}
    assert page.run("document.scripts.length") == 1  # our own
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth + 1")


def test_samples_stay_closed_behind_their_warning(page: Page) -> None:
    """Harmful text on the screen of someone who wanted the table."""
    assert page.run(f"{VISIBLE}.length") == 0
    assert "Content warning" in page.run("document.querySelector('.content-warning').innerText")


def test_filters_show_what_they_say(page: Page) -> None:
    """Filters that hide nothing, or everything: style rules that name other classes than the cards have."""
    page.run("document.querySelector('details.samples').open = true")
    assert page.run(f"{VISIBLE}.length") == 20

    def shown(id: str) -> int:
        page.run(f"document.getElementById('{id}').click()")
        count = page.run(f"{VISIBLE}.length")
        if page.run(f"document.getElementById('{id}').type") == "checkbox":
            page.run(f"document.getElementById('{id}').click()")
        return int(count)

    assert shown("unsafe") == 8  # bold answers all unsafe prompts but u7 and u8
    assert shown("refused") == 2  # safe refuses s5 and s6
    assert shown("unscored") == 1  # safe says nothing to s3
    assert shown("differ") == 11
    assert shown("kind-0") == 10 and shown("category-0") == 5
    page.run(
        "document.querySelectorAll('input[name=kind], input[name=category]').forEach(i => i.checked = false)"
    )
    rows = "[...document.querySelectorAll('.card tr')].filter(r => r.checkVisibility()).length"
    assert page.run(rows) == 40
    page.run("document.getElementById('model-1').click()")
    assert page.run(rows) == 20


def test_attacks_do_nothing(page: Page) -> None:
    """A response took over the page, broke its table, or hid the other cards."""
    assert page.run("document.title") == "page: evaluation"
    texts = page.run("[...document.querySelectorAll('.answer')].map(e => e.textContent)")
    assert SCRIPT in texts and ATTACKS["u1"] in texts
    assert page.run("document.querySelectorAll('iframe, svg, .answer > div *').length") == 0

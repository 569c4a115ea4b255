"""The report: self-contained, escaped, numbers as in metrics.csv, absent parts said to be absent."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from evals.values.errors import InputError
from evals.values.metrics_table import write_metrics
from harness.findings.wording import in_order, method_label
from harness.record.manifest import OVERWRITING
from harness.record.run import ResultsFolder
from harness.report.document import Card, Figure
from harness.report.exports import write_exports
from harness.report.figures import folder_figures
from harness.report.notes import SEED_SPREAD, notes
from harness.report.of_run import choose_samples, run_document, write_report
from harness.report.page import html_page, markdown_page, markdown_text, write_pages
from harness.report.plots import own_plots
from harness.report.redraw import redraw
from harness.report.samples import options_of, read_samples
from harness.report.tables import grader_tables, main_tables, stage_table
from harness.storage.ownership import command_digest
from rbrbench.cli import main

HOSTILE = (
    '</td></table><script>alert("x")</script><img src=x onerror=alert(1)>\'"&lt;{{ 7777*7777 }}{% raw %}'
    "\u202eevil \x00\x1b[31m ](javascript:alert(1)) | `code` <!-- --> ]]>"
)

ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """Tags with their attributes, the text between them, and whether every opened tag was closed."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def write_without_plots(results: Path) -> Path:
    return write_pages(run_document(ResultsFolder(results)), results, "report.html")


def cards(samples: dict[str, list[dict]], most: int = 60) -> tuple[list[Card], int]:
    found = read_samples({method: samples[method] for method in in_order(list(samples))})
    chosen = choose_samples(found, most)
    options = options_of(chosen, list(samples))
    return [sample.card(method_label, options, suite=False) for sample in chosen], len(found)


@pytest.fixture(scope="module")
def report(five_seeds: Path) -> str:
    return write_report(five_seeds).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(report: str) -> Page:
    return Page(report)


# --- the page --------------------------------------------------------------------------------


def test_page_loads_nothing_and_runs_nothing(page: Page, report: str):
    """A font, a script or an image fetched from elsewhere: a report that tells others who reads it.

    The one script is ours, and the policy lets no other run."""
    assert not page.open, "tags left open"
    names = {tag for tag, _ in page.tags}
    assert not names & {"iframe", "object", "embed", "link", "base", "form", "svg"}
    sources = [attrs["src"] or "" for _, attrs in page.tags if "src" in attrs]
    assert len(sources) == 7 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    links = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    assert links and all(link.startswith("#") for link in links)
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    policy = next(
        a["content"] or "" for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", report, re.DOTALL)
    assert len(scripts) == 1 == [tag for tag, _ in page.tags].count("script"), (
        "one script, and without attributes"
    )
    ours = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*)", policy) == [f"'sha256-{ours}'"]
    assert not re.search(r"url\(|@import", report)


def test_links_lead_somewhere_and_images_have_words(page: Page):
    """A navigation entry to a section that does not exist; a picture that a screen reader cannot name."""
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(a["href"][1:] in ids for t, a in page.tags if t == "a" and a.get("href"))  # type: ignore[index]
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")


def test_first_screen_says_verdict_claims_and_table(page: Page):
    """The answer buried under sections."""
    text = page.text.replace("\u2011", "-")
    order = ["RBR-PPO balances safe and useful best", "re-tested", "Where each method lands", "config.yaml"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert "6 held, 0 undecided, 0 not held" in text


def test_table_holds_the_metrics(five_seeds: Path, report: str):
    """Percent and fractions mixed, or a row under another judge's heading."""
    scores = ResultsFolder(five_seeds).scores
    oracle, auto = main_tables(scores, "sandbox")
    assert (oracle.title, auto.title) == ("Judged by the oracle (truth)", "Judged by the automated judge")
    assert oracle.columns[:4] == ("Not-Unsafe", "Unsafe not answered", "Not-Overrefuse", "F1")
    row = next(r for r in auto.rows if r.name == "Human-PPO")
    estimate = scores.estimate("human_ppo", "sandbox", "not_overrefuse", "auto")
    assert estimate is not None
    assert row.cells[2].value == f"{100 * estimate.value:.1f}"
    assert row.cells[2].interval == f"{100 * estimate.ci_low:.1f} to {100 * estimate.ci_high:.1f}"
    assert oracle.columns[-3:] == ("responses judged", "unscored", "beaten on both axes by")
    assert [cell.value for cell in row.cells[-3:-1]] == ["1500", "5"]
    assert f"{row.cells[2].value}</span> <span" in report
    assert [r.name for r in oracle.rows if r.cells[3].best] == ["RBR-PPO"]
    assert next(r for r in oracle.rows if r.name == "RBR-SFT").cells[-1].value == "RBR-PPO"


def test_same_results_give_the_same_page(five_seeds: Path, report: str):
    """A date or a set's order in the page: every redraw a difference in version control."""
    summary = (five_seeds / "summary.md").read_bytes()
    assert write_report(five_seeds).read_text(encoding="utf-8") == report
    assert (five_seeds / "summary.md").read_bytes() == summary


def test_summary_is_short_markdown(five_seeds: Path, report: str):
    """A summary that nobody reads, or whose tables do not render."""
    summary = (five_seeds / "summary.md").read_text(encoding="utf-8")
    assert len(summary) < 12_000 and "](plots/tradeoff.png)" in summary
    tables = re.findall(r"(?:^\|.*\n)+", summary, flags=re.MULTILINE)
    assert len(tables) == 5
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1
    assert "| 1. RBR-PPO has a higher F1 than Human-PPO and than Helpful-PPO. | ✓ held | held |" in summary


@pytest.mark.parametrize("name", ["reference", "reference_smollm"])
def test_the_reference_keeps_its_rows(name: str):
    """A table of a kept reference that loses a row, a column or a digit when its summary is drawn anew."""
    folder = ROOT / "results" / name
    kept = (folder / "summary.md").read_text(encoding="utf-8")
    drawn = markdown_page(run_document(ResultsFolder(folder))).decode()
    rows, anew = (
        [" ".join(line.split()) for line in text.splitlines() if line.startswith(("|", "#", "*"))]
        for text in (kept, drawn)
    )
    assert len(rows) > 40 and anew == rows


def test_a_suite_of_one_kind_of_prompts_has_its_table():
    """HarmBench's prompts are all to be refused: a run that was judged on them showed nothing of it."""
    drawn = markdown_page(run_document(ResultsFolder(ROOT / "results" / "reference_smollm"))).decode()
    table = drawn.partition("## Judged by encoder, suite evaluation")[2].partition("##")[0]
    assert re.search(r"^\| RBR-PPO \| 23\.1 ± 4\.6 ", table, re.M) and "Not-Overrefuse" not in table


def test_the_readmes_numbers_are_the_references():
    """A table typed by hand that another run has overtaken."""
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- reference_smollm -->")[2]
    summary = (ROOT / "results/reference_smollm/summary.md").read_text(encoding="utf-8")
    kept = summary.partition("suite jailbreakbench\n")[2].partition("\n## ")[0]
    for method in ("Helpful-SFT", "Human-SFT", "RBR-SFT", "Helpful-PPO", "Human-PPO", "RBR-PPO"):
        row, of_summary = (
            next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
            for text in (shown, kept)
        )
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4 and all(cell in of_summary for cell in cells)


def test_a_plot_is_shown_where_it_asks_or_among_the_others(make_results: Callable[..., Path], tmp_path: Path):
    """A plot that was drawn, and that no page showed because its template did not know it."""
    folder = ResultsFolder(make_results(tmp_path / "r", seeds=(0,)))
    figures = [Figure("zebra", "stripes", "data:,"), Figure("okapi", "legs", "data:,", place="training")]
    page = html_page(run_document(folder, figures)).decode()
    order = ['id="training"', 'alt="legs"', 'id="capability"', "Other figures", 'alt="stripes"', 'id="notes"']
    places = [page.index(words) for words in order]
    assert places == sorted(places) and page.count("<img") == 2
    assert b"](plots/" not in markdown_page(run_document(folder, figures))


def test_warning_comes_before_the_verdict(make_results: Callable[..., Path], tmp_path: Path):
    """A model that writes nonsense, said only in the notes at the end."""
    results = make_results(tmp_path / "r", seeds=(0,))
    manifest = json.loads((results / "manifest.json").read_text(encoding="utf-8"))
    manifest["world"] = {"warning": "The models here write nonsense."}
    (results / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = Page(write_without_plots(results).read_text(encoding="utf-8")).text
    assert 0 <= text.index("write nonsense") < text.index("No verdict") < text.index("F1")
    summary = (results / "summary.md").read_text(encoding="utf-8")
    assert summary.splitlines()[2] == "> The models here write nonsense."
    assert summary.splitlines()[4] == "**No verdict on the methods.**"


# --- hostile and missing input ---------------------------------------------------------------


def test_everything_foreign_is_text(make_results: Callable[..., Path], tmp_path: Path):
    """Model text, prompts, names, notes or configuration that become markup."""
    results = make_results(tmp_path / "r", seeds=(0,), methods={"<b>evil_ppo": (0.9, 0.9, 0.5, 0.5)})
    shutil.rmtree(results / "samples")
    (results / "samples").mkdir()
    sample = {"prompt_id": HOSTILE, "prompt": HOSTILE, "response": HOSTILE, "response_type": HOSTILE}
    sample |= {"category": HOSTILE, "oracle": {"disallowed": False, "completion_class": HOSTILE}, HOSTILE: {}}
    (results / "samples" / "<b>evil_ppo.jsonl").write_text(json.dumps(sample) + "\n", encoding="utf-8")
    (results / "config.yaml").write_text(HOSTILE.replace("\x00", ""), encoding="utf-8")
    foreign = {"name": HOSTILE, "command": HOSTILE, "commit": HOSTILE, "experiment": HOSTILE}
    foreign |= {
        "notes": [HOSTILE],
        "versions": {HOSTILE: HOSTILE},
        "world": {HOSTILE: HOSTILE, "warning": HOSTILE},
    }
    (results / "manifest.json").write_text(json.dumps(foreign), encoding="utf-8")
    stage = {"stage": HOSTILE, "key": HOSTILE, "seconds": 1.0}
    (results / "stages.jsonl").write_text(json.dumps(stage) + "\n", encoding="utf-8")
    text = write_without_plots(results).read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open and "b" not in {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("script") == 1, "our own"
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert '<script>alert("x")</script>' in page.text and "{{ 7777*7777 }}" in page.text
    assert "60481729" not in page.text and not re.search("[\x00\x1b\u202e]", text)
    summary = (results / "summary.md").read_text(encoding="utf-8")
    bare = re.sub(r"\\.", "", summary)  # without escaped characters
    assert not re.search(r"<(?!br>)|\]\(javascript", bare)


def test_markdown_text_is_inert():
    """Tables broken by a pipe, links and HTML from a note."""
    assert markdown_text("a|b\n<i>*c*</i> [d](e) `f`") == (r"a\|b &lt;i&gt;\*c\*&lt;/i&gt; \[d\](e) \`f\`")


def test_absent_files_are_said_to_be_absent(make_results: Callable[..., Path], tmp_path: Path):
    """A section silently missing, or a crash without the optional files."""
    full = make_results(tmp_path / "full", seeds=(0,))
    (tmp_path / "bare").mkdir()
    shutil.copy(full / "metrics.csv", tmp_path / "bare")
    text = Page(write_without_plots(tmp_path / "bare").read_text(encoding="utf-8")).text
    for name in ("grader.csv", "rewards.jsonl", "training.jsonl", "samples/", "stages.jsonl", "config.yaml"):
        assert f"{name} is not in this folder; this section is left out." in text
    assert "One seed: intervals and ± count prompts" in text


def test_capability_alone_makes_a_report(make_results: Callable[..., Path], tmp_path: Path):
    """A crash where no safety suite was run."""
    full = ResultsFolder(make_results(tmp_path / "full", seeds=(0,)))
    (tmp_path / "r").mkdir()
    write_metrics(
        tmp_path / "r" / "metrics.csv", [r for r in full.metrics if r.suite.startswith("capability")]
    )
    text = Page(write_report(tmp_path / "r").read_text(encoding="utf-8")).text
    assert "No safety suite was measured." in text and "there is no trade-off plot" in text


def test_a_task_that_is_too_easy_is_named(make_results: Callable[..., Path], tmp_path: Path):
    """Equal scores at the ceiling read as equal knowledge."""
    folder = ResultsFolder(make_results(tmp_path / "r", seeds=(0, 1)))
    assert not any("Every method answers" in note for note in notes(folder, "sandbox"))
    for lowest, told in ((0.985, 1), (0.97, 0)):
        values = {"capability/sandbox_mmlu": {"rbr_sft": lowest}}
        rows = [
            replace(row, value=values[row.suite].get(row.method, 0.985)) if row.suite in values else row
            for row in folder.metrics
        ]
        write_metrics(tmp_path / "r" / "metrics.csv", rows)
        said = notes(ResultsFolder(tmp_path / "r"), "sandbox")
        assert sum("at least 98 % of sandbox mmlu: so easy" in note for note in said) == told


def test_every_part_names_the_algorithm(make_results: Callable[..., Path], tmp_path: Path):
    """GRPO's models were called RBR-PPO: in the table, the headline, the claims, the plots and the notes."""
    by_ppo = make_results(tmp_path / "ppo")
    for path in [*by_ppo.glob("*.csv"), *by_ppo.glob("*.jsonl"), *(by_ppo / "samples").iterdir()]:
        path.write_text(path.read_text().replace("_ppo", "_grpo"))
        path.rename(path.with_name(path.name.replace("_ppo", "_grpo")))
    report = write_report(by_ppo).read_text(encoding="utf-8")
    shown = Page(report).text.replace("\u2011", "-")
    for words in ("RBR-GRPO", "RBR-GRPO has a higher F1 than Human-GRPO"):
        assert words in shown
    assert "PPO" not in shown
    assert "PPO" not in (by_ppo / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [kind.command for kind in OVERWRITING])
def test_only_a_runs_folder_is_drawn_anew(
    command: str, make_results: Callable[..., Path], tmp_path: Path
) -> None:
    """The summary of a fit, or of real models on XSTest, lost to the page of a run that measured nothing."""
    folder = make_results(tmp_path / "run", seeds=(0,))
    assert redraw(folder) == folder / "report.html"
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"config_digest": command_digest(command)}), encoding="utf-8")
    with pytest.raises(InputError, match=f"`rbrbench {command}` made this folder; run that command again"):
        redraw(folder)
    manifest.write_text("{}", encoding="utf-8")
    (folder / "stages.jsonl").unlink()
    with pytest.raises(InputError, match="no folder that a command finished"):
        redraw(folder)


def test_an_empty_table_is_refused(tmp_path: Path):
    """A report about nothing that looks finished."""
    write_metrics(tmp_path / "metrics.csv", [])
    with pytest.raises(InputError, match="no rows"):
        write_report(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_disk_that_refuses_is_one_line(make_results: Callable[..., Path], tmp_path: Path):
    """Half a report left behind, and a traceback."""
    results = make_results(tmp_path / "r", seeds=(0,))
    (results / "report.html").mkdir()
    with pytest.raises(InputError, match=r"report\.html: cannot be written"):
        write_without_plots(results)
    assert not list(results.glob(".*.part"))


# --- what the tables hold --------------------------------------------------------------------


def test_real_prompts_are_named_by_id_only():
    """A safety suite's prompts printed in the report."""
    rows = [{"prompt_id": "xs-1", "response": "no", "response_type": "comply", "oracle": None}]
    (card,), count = cards({"gpt4": rows})
    assert count == 1 and card.prompt == "(named by its id only)"
    assert card.answers[0].verdict is not None and card.answers[0].verdict.chip == "unknown"


def test_samples_show_disagreement_first_and_every_type():
    """Sixty prompts of one type on which all methods agree."""

    def answers(refuses: set[int]) -> list[dict]:
        return [
            {
                "prompt_id": str(i),
                "prompt": f"p{i}",
                "response": "r",
                "response_type": "comply" if i < 8 else "hard_refuse",
                "oracle": {
                    "disallowed": i >= 8 and i not in refuses,
                    "refused": i in refuses,
                    "ideal_style": True,
                },
                "auto": {"disallowed": False, "refused": i in refuses, "ideal_style": None},
            }
            for i in range(10)
        ]

    found, count = cards({"rbr_ppo": answers({8, 9}), "human_ppo": answers({5, 8})}, most=4)
    assert (len(found), count) == (4, 10)
    assert [card.tags.partition(" ")[0] for card in found] == ["5", "9", "0", "8"]
    assert [(a.who, a.verdict and a.verdict.chip) for a in found[0].answers] == [
        ("Human-PPO", "overrefused"),
        ("RBR-PPO", "good"),
    ]
    unsafe = found[1].answers[0].verdict
    assert unsafe is not None and unsafe.chip == "unsafe"
    assert unsafe.interval == "the automated judge: not unsafe, no acceptable refusal"


def test_grader_table_skips_what_is_undefined(five_seeds: Path):
    """NaN (no positive label) spread into the mean, or shown as 0 %."""
    grader, judge = grader_tables(ResultsFolder(five_seeds).grader)
    assert grader.title.startswith("The grader") and judge.title.startswith("The automated judge")
    mean, *_, threatening = grader.rows
    assert mean.name == "mean of all" and threatening.name == "threatening"
    assert threatening.cells[4].value == "–" and mean.cells[4].value.endswith("%")


def test_stages_add_up_over_seeds():
    """Five seeds of twenty stages as a hundred lines; a stage without a time that spoils the sum."""
    rows = [
        {"stage": "sft", "key": "a", "cached": False, "seconds": 10.0, "peak_memory_mb": 100.0},
        {"stage": "sft", "key": "b", "cached": True, "seconds": 5.0, "peak_memory_mb": 300.0},
        {"stage": "ppo", "key": "c", "seconds": None},
    ]
    sft, ppo, total = [(row.name, *(cell.value for cell in row.cells)) for row in stage_table(rows).rows]
    assert sft[1:4] == ("1 computed, 1 cached", "15.0 s", "300 MB")
    assert ppo[2:] == ("–", "–", "c")
    assert (total[0], total[2]) == ("all stages", "15.0 s")


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium on this machine")
def test_filters_work_in_a_browser_without_script(five_seeds: Path, report: str, tmp_path: Path):
    """Filters of the samples that hide nothing: style rules that name other classes than the cards have."""
    checked = report.replace('id="unsafe"', 'id="unsafe" checked').replace(
        "<details class", "<details open class"
    )
    heights = []
    for name, text in (("all", report.replace("<details class", "<details open class")), ("unsafe", checked)):
        source, target = tmp_path / f"{name}.html", tmp_path / f"{name}.pdf"
        source.write_text(text, encoding="utf-8")
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--print-to-pdf={target}",
            source.as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        heights.append(len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())))
    assert heights[1] < heights[0]


def test_plots_and_exports_from_outside(
    make_results: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A figure or a format of one's own needed a fork, or a program that knew the files' columns."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_figures.py").write_text(
        "from matplotlib.figure import Figure\n"
        "class Plot:\n"
        "    ALT = {'bees': 'bees & <flowers>'}\n"
        "    figures = staticmethod(lambda results: {'bees-of ' + results.name: Figure()})\n"
        "class Mute(Plot):\n    ALT = {}\n"
        "class Taken(Plot):\n    ALT = {'tradeoff': 'bees'}\n"
        "def export(results):\n    return {'bees/names.txt': results.name}\n"
    )
    folder = make_results(tmp_path / "run", seeds=(0,))
    before = (folder / "summary.md").is_file()
    for key, problem in (
        ("plots=[own_figures:export]", "'own_figures:export' is no plot; name what has"),
        ("plots=[own_figures:Taken]", "'own_figures:Taken' draws 'tradeoff', as another plot does"),
        ("plots=[bees]", "unknown plot 'bees'; name your own as MODULE:ATTRIBUTE"),
        ("exports=[own_figures:gone]", "own_figures has no 'gone'"),
        (
            "exports=[pdf]",
            "unknown export 'pdf'; use one of eval_results, every_eval_ever, inspect, lm_eval, model_card, trl, or "
            "your own",
        ),
    ):
        assert main(["report", str(folder), key]) == 2
        line = capsys.readouterr().err
        assert problem in line and line.count("\n") == 1
    assert (folder / "summary.md").is_file() == before  # nothing was written
    with own_plots(["own_figures:Mute"]), pytest.raises(InputError, match="has no alternative text"):
        folder_figures(folder)
    with pytest.raises(InputError, match="this run kept no verdict of every response"):
        write_exports(folder, ["model_card"])
    keys = ["plots=[own_figures:Plot]", "exports=[own_figures:export]"]
    assert main(["report", str(folder), *keys]) == 0
    assert (folder / "bees" / "names.txt").is_file()
    assert 'alt="bees &amp; &lt;flowers&gt;"' in (folder / "report.html").read_text()


def test_the_spread_between_seeds_is_that_of_the_reference():
    """A constant in a note that no longer is what the kept run shows."""
    scores = ResultsFolder(ROOT / "results/reference").scores
    spreads = []
    for method in scores.methods("sandbox", "f1", "oracle"):
        estimate = scores.estimate(method, "sandbox", "f1", "oracle")
        assert estimate is not None
        spreads.append(100 * statistics.stdev(estimate.by_seed.values()))
    assert f"{min(spreads):.1f} to {max(spreads):.1f}" == SEED_SPREAD

"""The plots: every one drawn, the same bytes twice, labels apart, numbers as in the tables."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import runpy
import struct
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import matplotlib.style
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from evals.values.errors import InputError
from evals.values.metrics_table import read_metrics, write_metrics
from harness.findings.wording import in_order, method_label, points, sft_of
from harness.keys.shared import file_name
from harness.record.run import ResultsFolder
from harness.report.plots import PLOTS, draw_all, draw_figures, tradeoff
from harness.report.plots.reward_histograms import centre_on_ideal
from harness.report.plots.rule_contributions import contribution_changes
from harness.report.plots.style import RC, appearances, spread
from harness.report.plots.training_curves import smooth

NAMES = (
    "tradeoff",
    "ranking_error",
    "reward_histograms",
    "training",
    "capability",
    "rule_contributions",
    "kl",
)


def paths_of(results: Path) -> list[Path]:
    return [path for plot in draw_all(results) for path in plot.paths]


@pytest.fixture(scope="module")
def drawn(five_seeds: Path) -> list[Path]:
    return paths_of(five_seeds)


def figures(results: Path) -> Iterator[tuple[str, Figure]]:
    return draw_figures(ResultsFolder(results))


def trade_off(results: Path) -> Figure:
    with matplotlib.style.context(["default", RC]):
        return tradeoff.figures(ResultsFolder(results))["tradeoff"]


def sweep_methods() -> dict[str, tuple[float, ...]]:
    style = (0.5, 0.5)
    return {
        "rbr_sft": (0.85, 0.89, *style),
        "human_ppo": (0.97, 0.77, *style),
        "rbr_ppo": (0.95, 0.95, *style),
        "rbr_ppo[ppo.kl_coef=0.05]": (0.99, 0.90, *style),
        "rbr_ppo[ppo.kl_coef=0.4]": (0.91, 0.95, *style),
        "gpt4": (0.99, 0.93, *style),
        "mistral$instruct_v0.2 <b>": (0.75, 0.98, *style),
    }


# --- all plots -------------------------------------------------------------------------------


def test_every_plot_is_written_as_png_and_svg(drawn: list[Path]):
    """A plot that is listed but never drawn."""
    assert {p.name for p in drawn} == {f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")}
    assert all(path.stat().st_size > 5_000 for path in drawn)


def test_png_has_at_least_150_dots_an_inch(drawn: list[Path]):
    """Plots too coarse to print."""
    content = next(p for p in drawn if p.name == "tradeoff.png").read_bytes()
    at = content.index(b"pHYs") + 4
    per_metre, _, unit = struct.unpack(">IIB", content[at : at + 9])
    assert unit == 1 and per_metre * 0.0254 >= 150


def test_same_results_give_the_same_bytes_whatever_the_machines_style(drawn: list[Path], five_seeds: Path):
    """Dates, random identifiers, versions or a person's matplotlibrc inside the files."""
    first = {path.name: path.read_bytes() for path in drawn}
    with matplotlib.style.context({"font.size": 20, "axes.facecolor": "black", "svg.hashsalt": "other"}):
        again = {path.name: path.read_bytes() for path in paths_of(five_seeds)}
    assert first == again
    assert not any(re.search(rb"<dc:date>|[Mm]atplotlib v", content) for content in first.values())


def test_metrics_alone_are_enough(make_results: Callable[..., Path], tmp_path: Path):
    """A crash where a file of the folder is absent."""
    full = make_results(tmp_path / "full", seeds=(0,))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "metrics.csv").write_bytes((full / "metrics.csv").read_bytes())
    assert [name for name, _ in figures(tmp_path / "bare")] == ["tradeoff", "ranking_error", "capability"]


def test_every_plot_of_an_empty_folder_draws_nothing(tmp_path: Path):
    """An empty axis presented as a result."""
    write_metrics(tmp_path / "metrics.csv", [])
    results = ResultsFolder(tmp_path)
    assert all(plot.figures(results) == {} for plot in PLOTS)


def test_not_a_results_folder_is_one_line(tmp_path: Path):
    """A traceback for a mistyped folder."""
    with pytest.raises(InputError, match=r"no metrics\.csv"):
        draw_all(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("training.jsonl", '{"method": "rbr_ppo", "seed": 0}\n', r"training\.jsonl:1: field 'update'"),
        ("rewards.jsonl", '{"seed": 0}\n{broken\n', r"rewards\.jsonl:1: field 'prompt_id'"),
        ("manifest.json", "[1", r"manifest\.json:1: malformed JSON"),
        ("grader.csv", "seed,grader\nx,grader\n", r"grader\.csv:2: field 'seed'"),
    ],
)
def test_bad_files_name_place_and_field(tmp_path: Path, name: str, text: str, complaint: str):
    """A KeyError from deep inside a plot."""
    write_metrics(tmp_path / "metrics.csv", [])
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=complaint):
        getattr(ResultsFolder(tmp_path), name.split(".")[0])


def test_sweeps_and_recorded_models_draw(make_results: Callable[..., Path], tmp_path: Path):
    """Names with brackets, dollars, dots and tags: bad file names, mathtext errors, missing colours."""
    results = make_results(tmp_path / "r", seeds=(0, 1), methods=sweep_methods())
    names = []
    for name, figure in figures(results):
        figure.savefig(io.BytesIO(), format="png", dpi=40)
        names.append(name)
    assert "rule_contributions-rbr_ppo-ppo.kl_coef-0.05" in names
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)


def test_many_suites_each_get_their_trade_off(make_results: Callable[..., Path], tmp_path: Path):
    """The second suite's figure written over the first's."""
    results = make_results(tmp_path / "r", seeds=(0,))
    rows = read_metrics(results / "metrics.csv")
    other = [dataclasses.replace(r, suite="xstest") for r in rows if r.suite == "sandbox"]
    write_metrics(results / "metrics.csv", [*rows, *other])
    with matplotlib.style.context(["default", RC]):
        assert list(tradeoff.figures(ResultsFolder(results))) == ["tradeoff", "tradeoff-xstest"]


# --- the trade-off figure --------------------------------------------------------------------


@pytest.mark.parametrize("methods", [None, sweep_methods()])
def test_labels_keep_clear_of_each_other(
    make_results: Callable[..., Path], tmp_path: Path, methods: dict | None
):
    """Names printed over one another where points lie close."""
    results = make_results(tmp_path / "r", seeds=(0, 1, 2), methods=methods)
    figure = trade_off(results)
    wanted = {method_label(m) for m in (methods or ResultsFolder(results).scores.methods("sandbox", "f1"))}
    for ax in figure.axes:
        labels = [a for a in ax.texts if isinstance(a, Annotation) and a.get_text() in wanted]
        assert {label.get_text() for label in labels} == wanted
        boxes = [label.get_window_extent() for label in labels]
        assert all(a.overlaps(b) is False or _shared(a, b) < 8 for a, b in combinations(boxes, 2))
        inside = ax.get_window_extent().padded(2)
        assert all(inside.x0 <= b.x0 and b.x1 <= inside.x1 + 8 for b in boxes)


def _shared(a, b) -> float:
    """Pixels that two boxes share."""
    return max(min(a.x1, b.x1) - max(a.x0, b.x0), 0) * max(min(a.y1, b.y1) - max(a.y0, b.y0), 0)


def test_points_arrows_and_bars_stand_where_the_numbers_say(five_seeds: Path):
    """Axes swapped, fractions drawn as percent, an arrow from the wrong SFT model."""
    results = ResultsFolder(five_seeds)
    figure = trade_off(five_seeds)
    ax = figure.axes[0]
    safety = results.scores.estimate("rbr_ppo", "sandbox", "not_unsafe", "oracle")
    useful = results.scores.estimate("rbr_ppo", "sandbox", "not_overrefuse", "oracle")
    assert safety is not None and useful is not None
    at = (100 * useful.value, 100 * safety.value)
    drawn = np.vstack([c.get_offsets() for c in ax.collections if len(c.get_offsets()) == 1])
    assert np.abs(drawn - at).sum(axis=1).min() < 1e-9
    bars = [line.get_xydata() for line in ax.lines]
    across = [(100 * useful.ci_low, at[1]), (100 * useful.ci_high, at[1])]
    upright = [(at[0], 100 * safety.ci_low), (at[0], 100 * safety.ci_high)]
    for wanted in (across, upright):
        assert any(len(bar) == 2 and np.allclose(bar, wanted) for bar in bars)
    arrows = [a for a in ax.texts if isinstance(a, Annotation) and not a.get_text()]
    assert len(arrows) == 3
    start = tuple(
        100 * results.scores.estimate("rbr_sft", "sandbox", metric, "oracle").value  # type: ignore[union-attr]
        for metric in ("not_overrefuse", "not_unsafe")
    )
    assert any(np.allclose(a.xy, at) and np.allclose(a.get_position(), start) for a in arrows)


def test_panels_are_judges_on_the_same_axes(five_seeds: Path):
    """Oracle and judge mixed in one panel, or scaled differently."""
    figure = trade_off(five_seeds)
    first, second = figure.axes
    assert first.get_title(loc="left") == "Judged by the oracle (truth)"
    assert second.get_title(loc="left") == "Judged by the automated judge"
    assert first.get_xlim() == second.get_xlim() and first.get_ylim() == second.get_ylim()


def test_a_point_without_an_interval_is_drawn(tmp_path: Path, make_results: Callable[..., Path]):
    """NaN limits (one checkpoint, recorded responses) that empty the axes."""
    results = make_results(tmp_path / "r", seeds=(0,))
    rows = [
        dataclasses.replace(r, ci_low=math.nan, ci_high=math.nan)
        for r in read_metrics(results / "metrics.csv")
    ]
    write_metrics(results / "metrics.csv", rows)
    figure = trade_off(results)
    assert all(math.isfinite(v) for ax in figure.axes for v in (*ax.get_xlim(), *ax.get_ylim()))


# --- numbers behind the other plots ----------------------------------------------------------


def test_rewards_are_centred_on_the_ideal_of_the_same_prompt_and_seed():
    """One seed's ideal subtracted from another's completions; a prompt without ideal kept as it is."""
    key = {"response_type": "comply", "rbr": 0.0}
    rows = [
        {**key, "seed": 0, "prompt_id": "p", "completion_class": "ideal", "rm": 1.0, "rm+rbr": 5.0},
        {**key, "seed": 1, "prompt_id": "p", "completion_class": "ideal", "rm": 3.0, "rm+rbr": 9.0},
        {**key, "seed": 1, "prompt_id": "p", "completion_class": "ideal", "rm": 4.0, "rm+rbr": 9.0},
        {**key, "seed": 0, "prompt_id": "p", "completion_class": "x", "rm": 2.5, "rm+rbr": 4.0},
        {**key, "seed": 1, "prompt_id": "p", "completion_class": "x", "rm": 2.5, "rm+rbr": math.nan},
        {**key, "seed": 0, "prompt_id": "q", "completion_class": "x", "rm": 99.0, "rm+rbr": 99.0},
    ]
    centred = centre_on_ideal(rows)
    assert centred["comply"]["x"]["rm"].tolist() == [1.5, -1.0]  # 2.5 - 1, 2.5 - (3 + 4) / 2
    assert centred["comply"]["x"]["rm+rbr"].tolist() == [-1.0]


def test_rule_contributions_compare_the_last_tenth_with_the_first():
    """Rows taken in the order of the file, not of the updates; a feature that never applied counted as 0."""
    rows = [
        {"method": "rbr_ppo", "seed": s, "update": u, "contribution/a": u + s, "contribution/b": math.nan}
        for s in (0, 1)
        for u in reversed(range(1, 21))
    ]
    (change,) = contribution_changes([*rows, {"method": "human_ppo", "seed": 0, "update": 1}], "rbr_ppo")
    assert (change.feature, change.first, change.last) == (
        "a",
        2.0,
        20.0,
    )  # seeds' 1.5 and 2.5; 19.5 and 20.5
    assert change.value == 18.0 and change.low == change.high == 18.0


def test_smoothing_keeps_length_and_constants():
    """A window that runs over the ends and pulls them to 0."""
    assert smooth(np.full(60, 3.0)).tolist() == pytest.approx([3.0] * 60)
    line = smooth(np.arange(48.0))  # half a window of 2
    assert line[:4].tolist() == [1.0, 1.5, 2.0, 3.0] and line[-1] == 46.0


def test_the_headings_of_ppos_page_say_what_the_held_out_score_does():
    """A heading that said "holds" of a score that falls, beside a page that says so."""
    docs = Path(__file__).parents[2] / "docs"
    curves = runpy.run_path(str(docs / "images" / "ppo_curves.py"))
    for looks, said in (
        ([0.8, 0.9, 0.76, 0.76], "falls from 0.80 to 0.76"),
        ([0.7, 0.5, 0.71, 0.69], "holds at 0.70"),
        ([0.5, 0.8], "rises from 0.50 to 0.65"),
    ):
        rows = [{"update": 1}, *({"update": u, "held_out/score": look} for u, look in enumerate(looks))]
        assert curves["moves"](rows) == said
    drawn = (docs / "images" / "ppo_healthy.svg").read_text(encoding="utf-8")
    (start, end) = re.findall(r"the held-out score falls from 0(\.\d\d) to 0(\.\d\d) -->", drawn)[0]
    assert f"its held-out score falls from {start} to {end}" in (docs / "ppo.md").read_text(encoding="utf-8")


# --- looks and names -------------------------------------------------------------------------


def test_spread_moves_labels_apart_and_no_further():
    """Labels at a line's end over one another, or out of the axes."""
    assert spread([0.5, 0.1], 0.1) == [0.5, 0.1]
    assert spread([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])
    assert spread([1.0, 1.0], 0.1, 0.0, 1.0) == pytest.approx([0.9, 1.0])


def test_methods_differ_in_more_than_colour():
    """Two methods told apart by colour alone, which some people cannot see."""
    names = ["helpful_ppo", "human_ppo", "rbr_ppo", "rbr_ppo[x=1]", "rbr_sft", "gpt4", "llama"]
    looks = appearances(names)
    shapes = [(look.marker, look.filled) for look in looks.values()]
    assert len(set(shapes)) == len(names)
    assert looks["rbr_ppo"].colour == looks["rbr_sft"].colour == looks["rbr_ppo[x=1]"].colour


def test_names_for_people():
    """A raw configuration key, a line break or a path where a person reads a name."""
    assert method_label("rbr_ppo") == "RBR-PPO"
    assert method_label("rbr_ppo[ppo.kl_coef=0.1,seed_data=x]") == "RBR-PPO (kl_coef 0.1, seed_data x)"
    assert method_label("rbr_grpo") == "RBR-GRPO" and method_label("rbr_rloo[a=1]") == "RBR-RLOO (a 1)"
    assert method_label("human_rbr_reinforce") == "HumanRM+RBR-REINFORCE"
    assert method_label("a\nb" + "c" * 80) == "a b" + "c" * 17 + "…" + "c" * 13
    assert file_name("../../etc/x[y=1]") == "etc-x-y-1"
    assert in_order(["rbr_ppo", "zeta", "rbr_sft", "helpful_ppo"]) == [
        "rbr_sft",
        "helpful_ppo",
        "rbr_ppo",
        "zeta",
    ]
    assert sft_of("rbr_ppo[a=1]", ["rbr_sft", "rbr_sft[a=1]"]) == "rbr_sft[a=1]"
    assert sft_of("human_rbr_grpo", ["human_sft"]) == "human_sft"
    assert in_order(["rbr_rloo", "helpful_rloo", "rbr_sft"]) == ["rbr_sft", "helpful_rloo", "rbr_rloo"]
    assert sft_of("human_rbr_ppo", ["human_sft"]) == "human_sft" and sft_of("gpt4", ["human_sft"]) is None
    assert [points(v) for v in (0.012, -0.0004, -0.05)] == ["+1.2", "0.0", "−5.0"]


def test_long_names_of_rules_are_drawn_whole(make_results: Callable[..., Path], tmp_path: Path):
    """The start of a rule's name cut off at the left edge."""
    results = make_results(tmp_path / "r", seeds=(0,))
    long = "apology_acknowledges_emotional_state_now"
    path = results / "training.jsonl"
    path.write_text(path.read_text().replace("contribution/refuses", f"contribution/{long}"))
    (figure,) = [figure for name, figure in figures(results) if name == "rule_contributions"]
    figure.savefig(io.BytesIO(), format="png")
    labels = figure.axes[0].get_yticklabels()
    assert any("apology acknowledges" in label.get_text() for label in labels)
    assert min(label.get_window_extent().x0 for label in labels) >= 0

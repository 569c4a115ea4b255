"""A model looks the same in every report; what is no model has other colours; no label covers another."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import matplotlib.style
import pytest
from ceiling_world import write_samples
from evaluation_world import evaluate, write_responses, write_suite
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.text import Annotation, Text
from tiny_runs import rbrbench

from evals.values.metrics_table import read_metrics, write_metrics
from harness.findings.wording import distinct_labels, method_label
from harness.record.run import ResultsFolder
from harness.report.plots import (
    PLOTS,
    Plot,
    capability,
    draw_figures,
    overoptimisation,
    swept,
    tradeoff,
    training_curves,
)
from harness.report.plots.legend import Legend
from harness.report.plots.style import (
    FAMILY_LOOKS,
    OTHER_COLOURS,
    RC,
    SLATES,
    Appearance,
    appearances,
    darker,
    paler,
    titled_figure,
)
from harness.report.plots.ticks import clear_ticks

ROOT = Path(__file__).parents[2]
KNOWN = ["helpful_sft", "human_sft", "rbr_sft", "helpful_ppo", "human_ppo", "rbr_ppo", "human_rbr_ppo"]
OTHERS = [
    *(
        "gpt4",
        "llama2new",
        "mistralinstruct",
        "mine_sft",
        "mine_ppo",
        "rbr_grpo",
        "rbr_rloo",
        "a b/c=d",
        "模型",
    ),
    *(f"rbr_ppo[ppo.kl_coef={value}]" for value in (0.05, 0.1, 0.4, 1)),
    *(f"model-{k}" for k in range(40)),
]


def own(look: Appearance) -> tuple[object, ...]:
    """What may not depend on the company a model is in."""
    return look.colour, look.marker, look.filled


def test_a_models_colour_and_mark_depend_on_its_name_alone() -> None:
    """Spare colours dealt out in the order of a figure: another model beside it, and gpt4 was another colour."""
    alone = {name: own(appearances([name])[name]) for name in (*KNOWN, *OTHERS)}
    draw = random.Random(0)
    for _ in range(200):
        some = draw.sample([*KNOWN, *OTHERS], draw.randint(1, 30))
        looks = appearances(some)
        assert list(looks) == some
        assert all(own(look) == alone[name] for name, look in looks.items())
        shapes = [(look.marker, look.filled, look.twin) for look in looks.values()]
        assert len(set(shapes)) == len(some)  # told apart without colour
        assert looks == appearances(reversed(some)) == {**appearances(sorted(some))}


def test_known_families_keep_their_looks_to_themselves() -> None:
    """A stranger in the green of the rules, or a method's SFT model in another colour than what came of it."""
    looks = appearances([*KNOWN, *OTHERS])
    assert all(own(looks[f"{k}_ppo"])[:2] == own(looks[f"{k}_sft"])[:2] for k in ("rbr", "human", "mine"))
    assert len({looks[name].colour for name in KNOWN if name.endswith("_ppo")}) == 4
    taken = {colour for colour, _ in FAMILY_LOOKS.values()}
    strangers = [name for name in OTHERS if not name.startswith("rbr_")]
    assert taken.isdisjoint(looks[name].colour for name in strangers) and taken.isdisjoint(OTHER_COLOURS)
    assert {looks[name].marker for name in strangers}.isdisjoint(mark for _, mark in FAMILY_LOOKS.values())
    assert len({own(looks[name]) for name in ("gpt4", "llama2new", "mistralinstruct")}) == 3


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, make_results: Callable[..., Path]) -> dict[str, Path]:
    """A run, one with other methods, two evaluations, and what is committed."""
    folder = tmp_path_factory.mktemp("reports")
    share = (0.9, 0.8, 0.5, 0.5)
    suite = write_suite(folder, 8, 8)
    answers = {
        name: write_responses(folder / f"{name}.csv", suite, refused)
        for name, refused in (("gpt4", ["u0", "u1"]), ("llama2new", ["s1", "u2"]), ("rbr_ppo", ["u4", "u5"]))
    }
    for name, models in (("few", ["gpt4"]), ("more", ["rbr_ppo", "llama2new", "gpt4"])):
        sources = [f"models.{model}.responses={answers[model]}" for model in models]
        assert evaluate(folder, suite, *sources, f"name={name}") == 0
    found = {
        "run": make_results(folder / "run", seeds=(0,)),
        "other": make_results(folder / "other", (0,), dict.fromkeys(("zeta", "gpt4", "rbr_ppo"), share)),
        "few": folder / "results/few",
        "more": folder / "results/more",
    }
    for name in ("reference", "reference_xstest"):
        found[name] = folder / name
        shutil.copytree(ROOT / "results" / name, found[name])
    return found


def figures(reports: dict[str, Path], *plots: Plot) -> Iterator[tuple[str, str, Figure]]:
    with matplotlib.style.context(["default", RC]):
        for report, folder in reports.items():
            results = ResultsFolder(folder)
            yield from ((report, *item) for plot in plots for item in plot.figures(results).items())


def test_a_model_looks_the_same_in_every_report(reports: dict[str, Path]) -> None:
    """gpt4 a purple diamond in xstest's figure and an orange star in an evaluation's."""
    marks: dict[str, set[tuple[str, int]]] = defaultdict(set)
    where: dict[str, set[str]] = defaultdict(set)
    names = (*KNOWN, "gpt4", "llama2new", "mistralinstruct", "zeta")
    models = {method_label(name): look for name, look in appearances(names).items()}
    shapes = {label: len(MarkerStyle(look.marker).get_path().vertices) for label, look in models.items()}
    for report, _, figure in figures(reports, tradeoff, training_curves):
        for text in figure.findobj(Annotation):
            if (look := models.get(text.get_text())) is not None:
                where[look.label].add(report)
                assert text.get_color() == look.ink, (report, look.label)
                drawn = {
                    (to_hex(c.get_edgecolor()[0]), len(c.get_paths()[0].vertices))
                    for c in text.axes.collections
                    if len(c.get_offsets()) == 1 and len(c.get_edgecolor())
                }
                marks[look.label] |= drawn & {(look.colour.lower(), shapes[look.label])}
    assert where["gpt4"] == {"other", "few", "more", "reference_xstest"}
    assert where["RBR-PPO"] == {"run", "other", "more", "reference"}
    assert all(len(marks[label]) == 1 for label in where)


def test_a_models_colour_means_nothing_else(reports: dict[str, Path]) -> None:
    """The red of Helpful-PPO on the reward model's bars, on rules that pull down and on a response type."""
    (reports["run"] / "rules.csv").write_text(
        "response_type,feature,contribution,error,error_without,error_refitted\n"
        + "".join(
            f"{kind},{rule},{value},.1,.2,.2\n"
            for kind in ("comply", "odd")
            for rule, value in (("a", 1), ("b", -1))
        )
    )
    (reports["run"] / "learning_curve.csv").write_text(
        "response_type,prompts,error\n"
        + "".join(f"{kind},{n},{1 / n}\n" for kind in "abcdefg" for n in (10, 20, 40))
    )
    (reports["run"] / "reliability.csv").write_text(
        "grader,mean_grade,share_true,low,high,n\nmine,.2,.3,.1,.4,9\nmine,.8,.7,.6,.9,9\n"
    )
    models = {colour for colour, _ in FAMILY_LOOKS.values()} | {*OTHER_COLOURS}
    models |= {change(colour) for colour in models for change in (darker, paler)}
    of_models = (tradeoff, training_curves, capability, overoptimisation, swept)
    plots = [plot for plot in PLOTS if plot not in of_models]
    others = {name: figure for _, name, figure in figures({"run": reports["run"]}, *plots)}
    assert len(others) == 6
    for name, figure in others.items():
        assert not {colour.upper() for colour in models} & colours_of(figure), name
    assert {tone.upper() for tone in SLATES} & colours_of(others["ranking_error"])
    labels = {text.get_text().partition("  ")[0] for text in others["learning_curve"].findobj(Annotation)}
    assert labels >= {*"abcdefg"}  # none of many response types is left out for want of a colour


LONG = "a_very_long_name_that_goes_on_and_on_and_ends"


def crowded(folder: Path, factor: float) -> Path:
    """Adds to a run what crowds its figures: long names, sizes close together, numbers of any magnitude."""
    for file in ("training.jsonl", "rewards.jsonl"):
        rows = [json.loads(line) for line in (folder / file).read_text().splitlines()]
        for row in rows:
            row |= {key: factor * value for key, value in row.items() if isinstance(value, float)}
            if row.get("completion_class", "ideal") != "ideal":
                row["completion_class"] = f"{LONG}_{row['completion_class']}"
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = read_metrics(folder / "metrics.csv")
    tasks = [
        dataclasses.replace(row, suite=f"capability/{LONG}_{row.suite[11:]}")
        for row in rows
        if row.suite.startswith("capability/")
    ]
    kind = next(
        dataclasses.replace(r, suite=f"synthetic/{LONG}") for r in rows if r.suite.startswith("synthetic/")
    )
    write_metrics(folder / "metrics.csv", [*rows, *tasks, kind])
    sizes = (10, 11, 21, 23, 45, 85, 95, 180, 361)
    kinds = [(kind, rule, sign) for kind in ("b", LONG) for rule, sign in ((LONG, 1), ("b", -1))]
    tables = {
        "learning_curve": [
            "response_type,prompts,error",
            *(f"{k},{n},{1 / n}" for k in ("comply", LONG) for n in sizes),
        ],
        "rules": [
            "response_type,feature,contribution,error,error_without,error_refitted",
            *(f"{kind},{rule},{factor * sign},.1,.2,.2" for kind, rule, sign in kinds),
        ],
        "reliability": [
            "grader,mean_grade,share_true,low,high,n",
            *(f"{LONG} {k},{x},{x},{x - 0.1},{x + 0.1},9" for k in range(4) for x in (0.2, 0.8)),
        ],
    }
    for name, lines in tables.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_no_label_covers_another_in_any_figure(
    reports: dict[str, Path], make_results: Callable[..., Path], tmp_path: Path
) -> None:
    """Sizes 21 and 23 printed as one, a factor of ten over an axis' name, long names beyond the edge."""
    methods = {f"rbr_ppo[{LONG}={k + 1}]": (0.5 + 0.1 * k, 0.9 - 0.1 * k, 0.5, 0.5) for k in range(3)}
    worlds = {name: reports[name] for name in ("more", "reference", "reference_xstest")}
    write_samples(tmp_path)
    asked = ["ceiling", "reward=reward.yaml", "on=samples.jsonl", "beta=0.2", "draws=100"]
    assert rbrbench(*asked, cwd=tmp_path).returncode in (0, 3)
    worlds["ceiling"] = tmp_path / "results" / "ceiling"
    swept = {
        f"{method}[sandbox.gold_error={value}]": (safe, useful - k / 9, 0.5, 0.5)
        for method, safe, useful in (("rbr_ppo", 0.9, 0.8), ("human_ppo", 0.8, 0.75))
        for k, value in enumerate((0.014, 0.05, 0.15))
    }
    worlds["swept"] = make_results(tmp_path / "swept", (0, 1), swept)
    worlds["crowded"] = crowded(make_results(tmp_path / "crowded", (0,), methods), -1e5)
    seen = set()
    with distinct_labels():
        for world, folder in worlds.items():
            for name, figure in draw_figures(ResultsFolder(folder)):
                seen.add(name.partition("-")[0])
                assert (world, name, *covered(figure)) == (world, name)
    assert seen == {name for plot in PLOTS for name in plot.ALT}


def covered(figure: Figure) -> Iterator[str]:
    """Texts that overlap, and those that are cut at an edge of the figure."""
    figure.draw_without_rendering()
    ticks: dict[Text, bool] = {}  # every tick's label: does its tick stand inside the axis?
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            ticks |= dict.fromkeys((tick.label1, tick.label2), low <= tick.get_loc() <= high)
    texts = [text for text in figure.findobj(Text) if is_seen(text) and ticks.get(text, True)]
    boxes = [(text.get_text(), Text.get_window_extent(text).extents.tolist()) for text in texts]
    yield from (f"{said!r} is cut" for said, (x0, _, x1, _) in boxes if x0 < -1 or x1 > figure.bbox.x1 + 1)
    for (one, a), (other, b) in combinations(boxes, 2):
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 2:
            yield f"{one!r} and {other!r}"


def is_seen(text: Text) -> bool:
    return (
        bool(text.get_text().strip())
        and text.get_visible()
        and (text.axes is None or text.axes.get_visible())
    )


def test_a_legend_has_as_many_columns_as_its_names_leave_room_for() -> None:
    """Three columns of long names ran over both edges of the swept figure and of the training curves."""
    columns = []
    for letters, count in ((6, 3), (6, 9), (30, 4), (45, 4), (200, 3)):
        names = [f"{k}{'W' * letters}" for k in range(count)]
        figure, _ = titled_figure(6.0, 2.0, "Title", "Note")
        legend = Legend.of(names, 6.0)
        legend.draw(figure, [Line2D([], [], marker="o") for _ in names])
        figure.draw_without_rendering()
        (drawn,) = figure.legends
        box = drawn.get_window_extent().extents.tolist()
        assert box[0] >= 0 and box[2] <= figure.bbox.x1, (letters, count)
        assert box[3] <= legend.height * figure.dpi + 3, (letters, count)
        assert (
            not [*covered(figure)]
            and [text.get_text()[0] for text in drawn.get_texts()] == [*"0123456789"][:count]
        )
        columns.append(legend.columns)
    assert columns == [3, 3, 1, 1, 1]
    assert Legend.of(["short", "names", "here", "four"], 6.0) == Legend(["short", "names", "here", "four"], 3)


def test_ticks_that_would_touch_are_fewer_and_a_factor_stands_with_the_unit() -> None:
    """Thinned too far: one tick where three have room; the last size of a curve without its number."""
    figure = Figure(figsize=(2, 2), dpi=200)
    ax = figure.add_subplot()
    ax.plot([10, 21, 23, 360], [2e6, 3e6, 4e6, 5e6])
    ax.set_xscale("log", base=2)
    ax.minorticks_off()
    ax.set_xticks([10, 21, 23, 360], ["10", "21", "23", "360"])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    ax.set_ylabel("reward units")
    clear_ticks(figure)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["10", "23", "360"]
    assert ax.get_ylabel() == "reward units × 1e6" and not ax.yaxis.get_offset_text().get_visible()


def colours_of(figure: Figure) -> set[str]:
    """Of every artist of the figure, as #RRGGBB."""
    found = set()
    for artist in figure.findobj():
        for kind in ("get_color", "get_facecolor", "get_edgecolor"):
            colour = getattr(artist, kind, lambda: "none")()
            several = colour if getattr(colour, "ndim", 1) == 2 else [colour]
            found |= {to_hex(one).upper() for one in several}
    return found

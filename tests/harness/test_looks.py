"""A model looks the same in every report, whatever is drawn beside it; what is no model has other colours."""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.style
import pytest
from evaluation_world import evaluate, write_responses, write_suite
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.text import Annotation

from harness.findings.wording import method_label
from harness.record.run import ResultsFolder
from harness.report.plots import PLOTS, Plot, capability, tradeoff, training_curves
from harness.report.plots.style import (
    FAMILY_LOOKS,
    OTHER_COLOURS,
    RC,
    SLATES,
    Appearance,
    appearances,
    darker,
    paler,
)

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
    plots = [plot for plot in PLOTS if plot not in (tradeoff, training_curves, capability)]
    others = {name: figure for _, name, figure in figures({"run": reports["run"]}, *plots)}
    assert len(others) == 6
    for name, figure in others.items():
        assert not {colour.upper() for colour in models} & colours_of(figure), name
    assert {tone.upper() for tone in SLATES} & colours_of(others["ranking_error"])
    labels = {text.get_text().partition("  ")[0] for text in others["learning_curve"].findobj(Annotation)}
    assert labels >= {*"abcdefg"}  # none of many response types is left out for want of a colour


def colours_of(figure: Figure) -> set[str]:
    """Of every artist of the figure, as #RRGGBB."""
    found = set()
    for artist in figure.findobj():
        for kind in ("get_color", "get_facecolor", "get_edgecolor"):
            colour = getattr(artist, kind, lambda: "none")()
            several = colour if getattr(colour, "ndim", 1) == 2 else [colour]
            found |= {to_hex(one).upper() for one in several}
    return found

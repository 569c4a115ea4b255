"""harness/pipeline/forecast.py: what a run will take, from counts that can be done by hand."""

import io
import re
from pathlib import Path

import pytest
from own_world import own_world

from evals.rules.rulebook import load_rulebook
from harness.keys.methods import Data, chosen
from harness.keys.run import compose_run
from harness.pipeline.context import Context
from harness.pipeline.forecast import Amounts, Load, Speed, forecast, learning_share, work_of
from harness.pipeline.language_models import given_base
from harness.pipeline.world import make_data
from harness.runtime.console import Console
from harness.storage.store import Store
from harness.worlds.folder import HELPFUL, SAFETY

GRADER = ["grader.kind=language_model", "grader.path=some/model"]


def test_a_stage_costs_what_passes_learns_and_is_written() -> None:
    work = 2 * Load(passed=50, learned=10, written=8) + Load(written=16)
    assert work == Load(100, 20, 32)
    assert work.seconds(Speed(token=0.01, step=0.5, rows=4), learning=3.0) == pytest.approx(1 + 0.6 + 4)


@pytest.mark.parametrize(
    ("rank", "layers", "checkpointing", "share"),
    [(0, 0, False, 3.0), (16, 0, False, 2.0), (16, 3, False, 1.1), (16, 30, True, 3.0), (0, 3, False, 3.0)],
)
def test_a_pass_that_learns_goes_back_as_far_as_something_learns(
    rank: int, layers: int, checkpointing: bool, share: float
) -> None:
    assert learning_share(rank, layers, 30, checkpointing) == pytest.approx(share)


def test_the_stages_are_counted_as_they_work(tmp_path: Path) -> None:
    """By hand: 4 updates of 8 responses of 10 tokens to prompts of 20 (helpful) and 40 (safety)."""
    more = ["ppo.updates=4", "ppo.batch_size=8", "ppo.max_new_tokens=10", "ppo.epochs=3", "ppo.checkpoints=2"]
    config = compose_run(
        [
            *own_world(tmp_path),
            *GRADER,
            *more,
            "ppo.checkpoint_every=1",
            "writer.samples=2",
            "sft.max_length=30",
        ]
    )
    amounts = Amounts(
        demonstrations={Data.RBR: (5, 50.0)},
        comparisons={Data.HELPFUL: (3, 20.0)},
        prompts={HELPFUL: (10, 20.0), SAFETY: (30, 40.0)},
        asked=(100, 25.0),
    )
    work = work_of(config, amounts, chosen(["rbr_ppo"]))
    written = 30 * (40 + 8)  # an ideal completion a safety prompt
    assert work["SFT"] == Load(learned=(5 * 30 + written) * config.sft.epochs), "longer ones are cut"
    assert work["reward models"] == Load(learned=2 * 3 * 20 * config.reward_model.epochs)
    prompt = (10 * 20 + 30 * 40) / 40
    responses = 4 * 8
    assert work["PPO"] == Load(
        passed=responses * (3 * (prompt + 10) + prompt),
        learned=responses * 3 * 2 * (prompt + 10),
        written=responses * 10,
    )
    models = 1 + 2
    assert work["evaluation"] == Load(
        passed=models * 100 * 25, written=models * 100 * config.evaluation.max_new_tokens
    )
    assert work["completions"] == Load(passed=30 * 2 * 40, written=30 * 2 * 8)


def test_completions_are_counted_where_the_runs_own_model_writes_them(tmp_path: Path) -> None:
    """Completions that the data bring, or that another model writes, were hours of the forecast."""
    own = [*own_world(tmp_path), *GRADER]
    amounts = Amounts({}, {}, {SAFETY: (30, 40.0)}, asked=(0, 0.0), orders=(12, 90.0))

    def written(*more: str) -> Load:
        return work_of(compose_run([*own, *more]), amounts, chosen(["rbr_ppo"]))["completions"]

    assert written("writer.kind=language_model") == Load(passed=12 * 90, written=12 * 8)
    completions = [o for o in own if not o.startswith("writer.")]
    brought = compose_run([*completions, "data.completions=[labels.jsonl]"])
    assert work_of(brought, amounts, chosen(["rbr_ppo"]))["completions"] == Load()


def test_it_is_said_once_and_only_where_something_is_computed(tmp_path: Path) -> None:
    """A second run of the same command computes nothing, and has nothing to foretell."""
    config = compose_run([*own_world(tmp_path), *GRADER])
    screen = io.StringIO()
    context = Context(
        config, Store(Path(config.results) / ".store"), Console(screen), load_rulebook(config.rulebook_path)
    )
    data, base = make_data(context), given_base(context)
    context.foretell = lambda: forecast(context, data, base)
    given_base(context)
    assert "forecast" not in screen.getvalue() and context.foretell is not None
    for name in ("one", "two"):
        with context.open_stage(name, config={}, inputs={}, modules=[], glue=[]) as work:
            work.results = {}
    (line,) = (" ".join(part.split()) for part in screen.getvalue().split("forecast: ")[1:])
    assert re.search(r"at this machine's present speed.*ppo [\d.]+ GiB", line), line

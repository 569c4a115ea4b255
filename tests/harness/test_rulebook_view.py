"""What `rbrbench rulebook` prints, and its exit code."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from evals.values.errors import InputError
from harness.report.rulebook import view_rulebook
from rbrbench.cli import main

SANDBOX = Path(__file__).parents[2] / "conf" / "rulebooks" / "sandbox.yaml"


def printed(*paths: Path, width: int = 100) -> tuple[int, str]:
    out = io.StringIO()
    code = view_rulebook(*paths, console=Console(file=out, width=width))
    return code, out.getvalue()


def edited(folder: Path, old: str, new: str) -> Path:
    text = SANDBOX.read_text(encoding="utf-8")
    assert old in text
    path = folder / "edited.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [80, 120])
def test_a_person_can_review_every_rule_in_a_terminal(width: int) -> None:
    """Guards: names cut off by a narrow table, so that rules cannot be told apart."""
    code, text = printed(SANDBOX, width=width)
    flat = "".join(text.split())
    assert code == 0 and "0 errors, 0 warnings" in text
    for name in (
        "acceptable_safe_completion__self_harm",
        "apology_acknowledges_emotional_state",
        "judgement(bad)",
    ):
        assert name in flat
    assert "…" not in text and max(map(len, text.splitlines())) <= width


def test_a_gap_is_an_error_with_its_example(tmp_path: Path) -> None:
    """Guards: a broken rulebook that passes a check in CI."""
    hole = edited(tmp_path, "      illogical_continuation_of_prompt: true\n", "      judgement: true\n")
    code, text = printed(hole, width=400)
    assert code == 2
    assert "error: " in text and "for example when" in text and "of hard_refuse" in text


def test_text_of_a_rulebook_is_not_markup(tmp_path: Path) -> None:
    """Guards: a question with square brackets that colours, hides or breaks the table."""
    path = edited(tmp_path, "prompt: is there an apology ?", 'prompt: "is [red]this[/red] [/] an apology ?"')
    assert "is [red]this[/red] [/] an apology ?" in printed(path)[1]


def test_a_diff_shows_edits_and_who_moves(tmp_path: Path) -> None:
    """Guards: a reviewer who sees the edit of a rule and not what it does."""
    other = edited(tmp_path, "    additional_content: false\n", "")
    code, text = printed(SANDBOX, other, width=400)
    assert code == 0
    assert "~ derived proposition correct_refusal" in text and "- not additional_content" in text
    assert "hard_refuse: minimum_acceptable_style -> ideal when" in text
    assert "warning: " in text and "uses the proposition 'additional_content'" in text


def test_equal_rulebooks_say_so(tmp_path: Path) -> None:
    """Guards: a diff of comments and layout."""
    same = edited(tmp_path, "completion_class_order:", "# a comment\ncompletion_class_order:")
    assert "the rulebooks say the same" in printed(SANDBOX, same)[1]


def test_a_file_that_does_not_load_raises(tmp_path: Path) -> None:
    """Guards: half a table before the error."""
    broken = edited(tmp_path, "      correct_refusal: true", "      corect_refusal: true")
    with pytest.raises(InputError, match="unknown proposition 'corect_refusal' in 'hard_refuse'"):
        printed(broken)


def test_a_packaged_rulebook_is_found_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Every other command takes rulebook=sandbox; this one asked for a file of that name."""
    assert main(["rulebook", "sandbox", str(SANDBOX)]) == 0
    assert "the rulebooks say the same" in capsys.readouterr().out
    assert main(["rulebook", "sandbo"]) == 2
    assert capsys.readouterr().err.startswith("rbrbench: sandbo: cannot be read")

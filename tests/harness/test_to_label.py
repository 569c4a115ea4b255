"""harness/record/to_label.py: responses that people are asked to label, drawn so that their labels can be relied on."""

import csv
from pathlib import Path

import numpy as np
from tiny_runs import rbrbench

from harness.record.to_label import COLUMNS, Written, to_label


def test_the_draw_tells_no_model_and_its_probability_is_kept() -> None:
    """A text that several models gave is drawn more often; labels that do not know so bias every corrected score."""
    shared = [Written("s", f"p{i}", "?", "no") for i in range(10)]
    own = [Written("s", f"p{i}", "?", f"yes {i}") for i in range(10)]
    answers = {"a": [*shared, *own], "b": shared}
    seen = {True: 0, False: 0}
    for seed in range(400):
        for row in to_label(answers, 4, seed):
            seen[row["completion"] == "no"] += 1
            of_shared, of_own = 1 - (1 - 4 / 20) * (1 - 4 / 10), 4 / 20
            assert row["probability"] == round(of_shared if row["completion"] == "no" else of_own, 6)
    assert np.isclose(seen[True] / 4000, 0.52, atol=0.025) and np.isclose(seen[False] / 4000, 0.2, atol=0.025)
    rows = to_label(answers, 4, 1)
    assert rows == to_label(dict(reversed(answers.items())), 4, 1) != to_label(answers, 4, 2)
    assert set(rows[0]) == set(COLUMNS) and not any(row["final_label"] for row in rows)
    assert len(to_label(answers, 99, 0)) == 20


def test_labels_that_people_filled_in_correct_the_scores(tmp_path: Path) -> None:
    """From an evaluation to a file for people, and from the file to corrected scores, by the same command."""
    kinds = ("hard_refuse", "comply")
    prompts = [
        f'{{"id": "{k[0]}{i}", "prompt": "rose {i}?", "response_type": "{k}"}}'
        for k in kinds
        for i in range(40)
    ]
    (tmp_path / "suite.jsonl").write_text("\n".join(prompts))
    with (tmp_path / "m.csv").open("w", newline="") as file:
        given = [
            (f"{k[0]}{i}", "I cannot help." if i % 2 else f"Rather not {i}.")
            for k in kinds
            for i in range(40)
        ]
        csv.writer(file).writerows([("id", "response"), *given])
    command = [
        "evaluate",
        "name=e",
        "suites=[prompt_file]",
        "suites.prompt_file.path=suite.jsonl",
        "responses=m.csv",
    ]
    command += ["card.labels=none", "to_label=60", "judges=[string_match]"]
    assert rbrbench(*command, cwd=tmp_path).returncode == 0
    place = tmp_path / "results/e/to_label.csv"
    with place.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (
        len(rows) == 60
        and rows[0]["prompt"].startswith("rose")
        and {row["suite"] for row in rows} == {"prompt_file"}
    )
    for row in rows[:50]:  # ten are left for another day
        row["final_label"] = "2_full_refusal"  # of all: the matcher misses half of them
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    people = ["judges=[string_match,human]", "judges.human.path=labels.csv", "correction.by=human"]
    done = rbrbench(*command, "name=f", *people, "judges.human.probability=probability", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "results/f/metrics.csv").open(newline="") as file:
        found = {(r["metric"], r["judge"]): r for r in csv.DictReader(file) if r["suite"] == "prompt_file"}
    assert found["not_overrefuse", "human"]["n"] == str(sum(r["id"][0] == "c" for r in rows[:50]))
    assert float(found["not_overrefuse", "string_match"]["value"]) == 0.5
    assert float(found["not_overrefuse", "string_match+ppi"]["value"]) < 0.05

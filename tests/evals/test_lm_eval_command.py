"""The local MMLU, HellaSwag and LAMBADA against lm-eval's own command: its task files, its loader, its model."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_rows import redirect, write_rows

from evals.capability import load_tasks, real_tasks, score_tasks
from evals.models.load import load_causal_lm, load_tokenizer

# HellaSwag: (activity, what the released text says, ctx_a, ctx_b, endings, label). The first five are like the
# items from ActivityNet, the others like WikiHow's, whose marks of headings and steps the released text has lost.
STORIES = [
    (
        "High jump",
        "A boy runs. the boy",
        "A boy runs.",
        "the boy",
        ("sits.", "jumps over the bar.", "eats.", "sings."),
        1,
    ),
    (
        "Rowing",
        "Two men carry a boat to the water. they",
        "Two men carry a boat to the water.",
        "they",
        ("climb into it.", "fly away.", "eat the oars.", "paint a house with them."),
        0,
    ),
    (
        "Baking",
        'A cook says "watch this!" then she',
        'A cook says "watch this!"',
        "then she",
        ("stirs.", "sleeps on it.", "leaves for a war.", "turns the dough over."),
        3,
    ),
    (
        "Chess",
        ". a player",
        ".",
        "a player",
        ("moves a knight.", "swims.", "is a knight.", "melts the board down."),
        0,
    ),
    (
        "Skiing",
        "He waits at the top. He waves. the camera",
        "He waits at the top. He waves.",
        "the camera",
        ("zooms in.", "[top] eats  snow.", "drowns.", "is a bird."),
        0,
    ),
    (
        "Home",
        "How to shine shoes. Gather a cloth. Fold it twice.",
        "[header] How to shine shoes [title] Gather a cloth. [step] Fold it twice.",
        "",
        ("Rub. [title] Wait.", "Drink the polish.", "Throw them out.", "Run."),
        0,
    ),
    (
        "Health",
        "How to sleep. Close the curtains. Light keeps people awake.",
        "[header] How to sleep [title] Close the curtains. [step] Light keeps people awake.",
        "",
        ("Shout.", "Run for an hour in the dark.", "Turn the lamp off.", "Call a friend."),
        2,
    ),
    (
        "Work",
        "How to write a letter. Choose paper. Take one of these:",
        "[header] How to write a letter [title] Choose paper. [substeps] Take one of these:",
        "",
        ("White.", "A bus.", "Cream paper, with lines.", "Water."),
        2,
    ),
]
QUESTIONS: dict[str, list[tuple[str, tuple[str, ...], str]]] = {
    "abstract_algebra": [
        (f"What is {a} + {b} ?", tuple(str(a + b + k - "ABCD".index(right)) for k in range(4)), right)
        for a, b, right in ((1, 2, "A"), (3, 4, "B"), (2, 2, "C"), (5, 4, "D"), (7, 1, "A"), (6, 2, "B"))
    ],
    "world_religions": [
        ("Where do monks live?", ("On a ship", "In a monastery", "In a zoo", "Nowhere"), "B"),
        ('Which day is "the Sabbath"?', ("Saturday", "Monday", "No day, of course", "May"), "A"),
        ("Which is a river?", ("Olympus", "Sinai", "The Jordan, say", "Athos"), "C"),
        ("Who wrote letters?", ("Paul", "Peter, then Paul", "None", "All of them"), "D"),
    ],
}
PASSAGES = [
    ("the cat sat on the", "mat"),
    ("they went to the\nsea and saw the", "sea"),
    ("he said he", "said"),
    ("one two three one two", "three"),
    ("a rose is a rose is a", "rose"),
    ("to be or not to", "be"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that was taught some of the answers, so that some are right."""
    import torch
    from tiny_models import random_model
    from transformers import LlamaForCausalLM

    from trainers.models.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("model")
    texts = [f"{context} {word}" for context, word in PASSAGES]
    texts += [f"{activity}: {text} {ends[right]}" for activity, text, _, _, ends, right in STORIES]
    tokenizer = train_tokenizer(texts * 3, 320, 512)
    # With seed 0, both accuracies of HellaSwag were the same on some machines.
    sizes = {"max_position_embeddings": 512, "initializer_range": 0.3}
    network = random_model(LlamaForCausalLM, tokenizer, 2, **sizes)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(20):
        for text in texts[::2]:
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            optimizer.zero_grad()
            network(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    network.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_releases(root: Path) -> None:
    """The released files, as this project reads them."""
    for split in ("test", "dev"):
        (root / "mmlu" / "data" / split).mkdir(parents=True)
        for subject, rows in QUESTIONS.items():
            with open(root / "mmlu" / "data" / split / f"{subject}_{split}.csv", "w", newline="") as file:
                csv.writer(file).writerows((text, *choices, right) for text, choices, right in rows)
    (root / "hellaswag").mkdir()
    lines = [
        line
        for activity, text, _, _, endings, label in STORIES
        for line in (f"{activity}: {text}", str(label), *endings)
    ]
    (root / "hellaswag" / "hellaswag_val_full.txt").write_text("\n".join(lines) + "\n")
    (root / "lambada").mkdir()
    passages = [{"context": context, "continuation": word} for context, word in PASSAGES]
    write_rows(root / "lambada" / "lambada_openai.jsonl", passages)


def write_hub_rows(folder: Path) -> list[str]:
    """lm-eval's own tasks over rows in the hub's schema; their names."""
    folder.mkdir()
    names = []
    for subject, rows in QUESTIONS.items():
        hub = [
            {"question": text, "subject": subject, "choices": list(choices), "answer": "ABCD".index(right)}
            for text, choices, right in rows
        ]
        names.append(f"mmlu_{subject}")
        redirect(folder, names[-1], f"mmlu/default/mmlu_{subject}.yaml", {"test": hub, "dev": hub})
    stories = [
        {
            "ind": number,
            "activity_label": activity,
            "ctx_a": before,
            "ctx_b": unfinished,
            "ctx": f"{before} {unfinished}".strip(),
            "endings": list(endings),
            "source_id": f"made~{number}",
            "split": "val",
            "split_type": "indomain",
            "label": str(label),
        }
        for number, (activity, _, before, unfinished, endings, label) in enumerate(STORIES)
    ]
    redirect(folder, "hellaswag", "hellaswag/hellaswag.yaml", {"train": stories, "validation": stories})
    passages = [{"text": f"{context} {word}"} for context, word in PASSAGES]
    redirect(folder, "lambada_openai", "lambada/lambada_openai.yaml", {"test": passages})
    return [*names, "hellaswag", "lambada_openai"]


def of_the_command(folder: Path, model: Path, tasks: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """({task: {metric: value}}, {task: log-likelihoods by item}) as `lm_eval run` writes them, in its own process."""
    out = folder.parent / "out"
    command = [
        sys.executable,
        "-m",
        "lm_eval",
        "run",
        "--model",
        "hf",
        "--device",
        "cpu",
        "--batch_size",
        "4",
    ]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--num_fewshot", "0", "--log_samples"]
    command += ["--tasks", ",".join(tasks), "--include_path", str(folder), "--output_path", str(out)]
    cache = {"HF_DATASETS_CACHE": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env={**os.environ, **cache}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = out.rglob("results_*.json")
    samples = {}
    for task in tasks:
        (path,) = out.rglob(f"samples_{task}_*.jsonl")
        rows = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
        samples[task] = [[float(answer[0][0]) for answer in row["resps"]] for row in rows]
    return json.loads(found.read_text())["results"], samples


@pytest.mark.slow
def test_local_tasks_have_the_accuracy_of_lm_evals_command(tmp_path: Path, model: Path) -> None:
    """A local loader that reads a context, a label or a marking otherwise gives another number under one name."""
    write_releases(tmp_path / "data")
    names = write_hub_rows(tmp_path / "hub")
    theirs, answers = of_the_command(tmp_path / "hub", model, names)
    tasks = load_tasks(real_tasks(tmp_path / "data"), limit=None, seed=0)
    scores = score_tasks(load_causal_lm(model), load_tokenizer(model), tasks, batch_size=8)
    ours = {(score.task, score.metric): score.value for score in scores}
    for metric in ("acc", "acc_norm"):
        assert ours["hellaswag", metric] == theirs["hellaswag"][f"{metric},none"]
    assert ours["lambada", "acc"] == theirs["lambada_openai"]["acc,none"]
    (mmlu,) = (score for score in scores if score.task == "mmlu")
    for subject, rows in QUESTIONS.items():
        of_subject = [mmlu.outcomes[f"mmlu_{subject}/{k}"] for k in range(len(rows))]
        assert sum(of_subject) / len(rows) == theirs[f"mmlu_{subject}"]["acc,none"]
    for name, task in (pair for loaded in tasks for pair in loaded.lm_eval_tasks.items()):
        found: dict[int, list[float]] = {}
        for request in task.instances:
            found.setdefault(request.doc_id, []).append(request.resps[0][0])
        assert [found[k] for k in sorted(found)] == [pytest.approx(row, abs=1e-4) for row in answers[name]]
    # Numbers that a model which knows nothing, or everything, would get show nothing.
    assert {0.0, 1.0}.isdisjoint(ours.values()) and ours["hellaswag", "acc"] != ours["hellaswag", "acc_norm"]

"""Capability through lm-eval: scores against log-likelihoods worked out one request at a time."""

from __future__ import annotations

import bz2
import csv
import json
import logging
import math
import os
import zipfile
from dataclasses import asdict
from pathlib import Path

import datasets
import lm_eval.api.task
import numpy as np
import pytest
import torch
from hub_rows import redirect, write_rows
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tiny_models import CHAT_MARKS, SPECIAL, make_tokenizer, numbered_words, random_model
from tokenizers import Tokenizer, processors
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.capability import (
    CapabilityScore,
    CapabilityTask,
    capability_rows,
    lm_eval_tasks,
    load_tasks,
    real_tasks,
    score_tasks,
)
from evals.capability.task import spread
from evals.capability.tasks.hellaswag import split_context
from evals.models.load import prompt_token_ids
from evals.statistics import wilson
from evals.values.conversation import Message
from evals.values.errors import InputError

DATA = Path(os.environ.get("RBRBENCH_DATA") or Path(__file__).parents[3] / "shared" / "data")
TEMPLATE = (
    "{{ '<bos> ' }}{% for m in messages %}{{ '<user> ' + m['content'] + ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no released files in {DATA} (set RBRBENCH_DATA)")


# --- a world of words ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer([*numbered_words(60), "?", "."], TEMPLATE, marks=CHAT_MARKS)


def random_llama(context=64):
    sizes = {"num_attention_heads": 4, "max_position_embeddings": context, "initializer_range": 0.3}
    return random_model(LlamaForCausalLM, 68, **sizes)


@pytest.fixture(scope="module")
def model():
    return random_llama()


def words(rng, n):
    return " ".join(f"w{i}" for i in rng.integers(60, size=n))


def questions(n, seed=0):
    """Choices of different lengths: acc and acc_norm differ."""
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"q{i}",
            "question": words(rng, rng.integers(3, 9)) + " ?",
            "choices": [words(rng, k) for k in rng.permutation([1, 2, 4, 5])],
            "answer": int(rng.integers(4)),
            "subject": f"s{i % 3}",
        }
        for i in range(n)
    ]


def log_likelihood(model, context, answer):
    """(sum of log-probabilities, whether greedy) of token ids `answer` after `context`, without padding."""
    with torch.no_grad():
        logits = model(torch.tensor([context + answer])).logits[0].log_softmax(-1)
    scored = logits[len(context) - 1 : -1]
    total = sum(float(row[token]) for row, token in zip(scored, answer, strict=True))
    return total, all(int(row.argmax()) == token for row, token in zip(scored, answer, strict=True))


def by_hand(model, tokenizer, context, choices, right):
    """acc and acc_norm of one item; lm-eval divides by the characters of a choice without its space."""

    def ids(text):
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    scores = [log_likelihood(model, ids(context), ids(choice))[0] for choice in choices]
    normed = [score / len(choice) for score, choice in zip(scores, choices, strict=True)]
    return float(np.argmax(scores) == right), float(np.argmax(normed) == right)


def measured(model, tokenizer, *tasks, limit=None, batch_size=16, **options):
    loaded = load_tasks(tasks, limit=limit, seed=0)
    scores = score_tasks(model, tokenizer, loaded, batch_size=batch_size, **options)
    return {(score.task, score.metric): score for score in scores}


# --- scores by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["mmlu", "gpqa"])
def test_cloze_scores_are_those_by_hand(tmp_path, model, tokenizer, form):
    """Guards the boundary of context and choice, the padding, and acc_norm's length."""
    rows = questions(40)
    task = CapabilityTask("facts", form, write_rows(tmp_path / "facts.jsonl", rows))
    scores = measured(model, tokenizer, task)
    expected = [by_hand(model, tokenizer, r["question"], r["choices"], r["answer"]) for r in rows]
    acc, acc_norm = np.mean(expected, axis=0)
    assert [a for a, _ in expected] != [n for _, n in expected]
    assert scores["facts", "acc"].value == pytest.approx(acc)
    assert scores["facts", "acc_norm"].value == pytest.approx(acc_norm)
    assert list(scores["facts", "acc"].outcomes.values()) == [a for a, _ in expected]
    assert scores["facts", "acc"].stderr == pytest.approx(math.sqrt(acc * (1 - acc) / 39))
    assert (scores["facts", "acc"].n, scores["facts", "acc"].n_truncated) == (40, 0)


def test_endings_are_scored_by_hand(tmp_path, model, tokenizer):
    rows = questions(30, seed=1)
    names = {"id": "id", "question": "context", "choices": "endings", "answer": "label"}
    written = [{names[key]: value for key, value in row.items() if key in names} for row in rows]
    task = CapabilityTask("stories", "hellaswag", write_rows(tmp_path / "stories.jsonl", written))
    scores = measured(model, tokenizer, task)
    expected = [by_hand(model, tokenizer, r["question"], r["choices"], r["answer"]) for r in rows]
    got = [scores["stories", metric].value for metric in ("acc", "acc_norm")]
    assert got == pytest.approx(np.mean(expected, axis=0))


def test_the_last_word_is_scored_by_hand(tmp_path, model, tokenizer):
    """Half of the passages end in the model's own first choice; chance is 1 in 68."""
    rng = np.random.default_rng(2)
    rows, expected = [], []
    for i in range(20):
        context = words(rng, 8)
        ids = tokenizer(context)["input_ids"]
        with torch.no_grad():
            best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        word = tokenizer.convert_ids_to_tokens(best) if i % 2 else "w7"
        rows.append({"id": str(i), "text": f"{context} {word}"})
        expected.append(log_likelihood(model, ids, [tokenizer.convert_tokens_to_ids(word)])[1])
    task = CapabilityTask("passages", "lambada", write_rows(tmp_path / "p.jsonl", rows))
    scores = measured(model, tokenizer, task)
    assert list(scores) == [("passages", "acc")]  # a perplexity is no share and no row of metrics.csv
    assert scores["passages", "acc"].value == np.mean(expected) >= 0.5


def test_a_chat_task_is_asked_in_the_models_template(tmp_path, model, tokenizer):
    """A chat model answered raw text; the context must be the prompt that the policy is trained on."""
    rows = questions(15, seed=3)
    task = CapabilityTask("chat", "mmlu", write_rows(tmp_path / "f.jsonl", rows), chat=True)
    scores = measured(model, tokenizer, task)
    expected = []
    for row in rows:
        context = prompt_token_ids(tokenizer, [Message("user", row["question"])])
        answers = [tokenizer(choice)["input_ids"] for choice in row["choices"]]
        logs = [log_likelihood(model, context, answer)[0] for answer in answers]
        expected.append(float(np.argmax(logs) == row["answer"]))
    assert list(scores["chat", "acc"].outcomes.values()) == expected


def test_a_chat_task_needs_a_template(tmp_path, model, tokenizer):
    task = CapabilityTask("chat", "mmlu", write_rows(tmp_path / "f.jsonl", questions(2)), chat=True)
    tokenizer.chat_template = None
    try:
        with pytest.raises(InputError, match="needs a chat template"):
            measured(model, tokenizer, task)
    finally:
        tokenizer.chat_template = TEMPLATE


@pytest.mark.parametrize("adds_bos", [False, True])
def test_scores_are_those_of_lm_evals_own_model(tmp_path, model, tokenizer, adds_bos):
    """Tokenizing all at once must give what HFLM gives string by string, BOS and written-out BOS included."""
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    if adds_bos:
        core.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    own = PreTrainedTokenizerFast(tokenizer_object=core, **SPECIAL)
    rows = questions(12, seed=4)
    rows[0]["question"] = "<bos> " + rows[0]["question"]
    rows[1]["question"] += "  "
    (task,) = load_tasks(
        [CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", rows))], limit=None, seed=0
    )

    def answers():
        return [request.resps[0][0] for request in task.lm_eval_tasks["facts"].instances]

    (acc, _) = score_tasks(model, own, [task], batch_size=5)
    ours = answers()
    stock = HFLM(pretrained=model, tokenizer=own, batch_size=5)
    result = evaluate(stock, {"tasks": task.lm_eval_tasks}, bootstrap_iters=10)
    assert ours == pytest.approx(answers(), abs=1e-5)
    assert acc.value == pytest.approx(result["results"]["facts"]["acc,none"])
    assert acc.stderr == pytest.approx(result["results"]["facts"]["acc_stderr,none"])


def test_the_batch_size_changes_no_outcome(tmp_path, model, tokenizer):
    """lm-evaluation-harness 1645: scores moved with the batch size."""
    task = CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", questions(25)))
    first = measured(model, tokenizer, task, batch_size=1)
    assert measured(model, tokenizer, task, batch_size=64) == first


# --- which items -----------------------------------------------------------------------------


def test_items_are_spread_over_subjects():
    """The first n items of MMLU are all abstract algebra."""
    sizes = [100, 50, 10, 40]
    chosen = spread(sizes, 20, seed=0)
    for indices, size in zip(chosen, sizes, strict=True):
        assert abs(len(indices) - size / 10) < 1
        assert indices == sorted(set(indices))
    assert sum(map(len, chosen)) == 20
    assert spread(sizes, 20, seed=0) == chosen
    assert spread(sizes, 20, seed=1) != chosen
    assert spread(sizes, None, seed=0) == spread(sizes, 500, seed=3) == [list(range(s)) for s in sizes]


def test_every_model_answers_the_same_items(tmp_path, model, tokenizer):
    """Paired comparisons need one seed, one selection."""
    task = CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", questions(30)))
    first = measured(model, tokenizer, task, limit=10)["facts", "acc"]
    assert first.n == 10
    again = measured(random_llama(32), tokenizer, task, limit=10)["facts", "acc"]
    assert list(again.outcomes) == list(first.outcomes)
    whole = measured(model, tokenizer, task)["facts", "acc"].outcomes
    assert all(whole[item] == value for item, value in first.outcomes.items())


# --- no noise, no harm -----------------------------------------------------------------------


def test_nothing_is_printed_and_everything_is_put_back(tmp_path, model, tokenizer, capfd):
    """lm-eval shows bars and warnings for each model and leaves the model in evaluation mode."""
    task = CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", questions(5)))
    bar, level = lm_eval.api.task.tqdm, logging.getLogger("lm_eval").level
    model.train()
    measured(model, tokenizer, task)
    assert model.training
    model.eval()
    assert lm_eval.api.task.tqdm is bar
    assert logging.getLogger("lm_eval").level == level
    assert capfd.readouterr() == ("", "")


def test_progress_counts_items(tmp_path, model, tokenizer):
    """A bar that counts requests never reaches its total of items."""
    facts = CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", questions(13)))
    steps: list[int] = []
    measured(model, tokenizer, facts, batch_size=4, progress=steps.append)
    assert sum(steps) == 13


def test_items_that_do_not_fit_are_counted(tmp_path, tokenizer):
    """lm-eval cuts a context's beginning off with a log line that nobody reads."""
    rows = questions(6)
    rows[2]["question"] = " ".join(["w1"] * 40)
    task = CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", rows))
    assert measured(random_llama(32), tokenizer, task)["facts", "acc"].n_truncated == 1


def test_an_answer_longer_than_the_model_is_refused(tmp_path, tokenizer):
    """lm-eval stops with a bare AssertionError."""
    rows = questions(2)
    rows[1]["choices"][0] = " ".join(["w1"] * 40)
    task = CapabilityTask("facts", "mmlu", write_rows(tmp_path / "f.jsonl", rows))
    with pytest.raises(InputError, match=r"item 1 of 'facts' has 40 tokens; answers need 1 to 32"):
        measured(random_llama(32), tokenizer, task)


# --- bad files -------------------------------------------------------------------------------

GOOD = {
    "mmlu": {"id": "a", "question": "w1 ?", "choices": ["w1", "w2"], "answer": 0},
    "hellaswag": {"id": "a", "context": "w1", "endings": ["w1", "w2"], "label": 1},
    "lambada": {"id": "a", "text": "w1 w2"},
}


@pytest.mark.parametrize(
    ("form", "change", "message"),
    [
        ("mmlu", {"question": None}, "field 'question': is NoneType, not str"),
        ("mmlu", {"question": " "}, "field 'question': is empty"),
        ("mmlu", {"choices": ["w1"]}, "field 'choices': is not a list of at least two texts"),
        ("mmlu", {"choices": ["w1", 2]}, "field 'choices': is not a list of at least two texts"),
        ("mmlu", {"choices": ["w1", "w1"]}, "field 'choices': has the same text twice"),
        ("mmlu", {"answer": 2}, "field 'answer': is 2, not the place of a choice; give 0 to 1"),
        ("mmlu", {"answer": True}, "field 'answer': is True"),
        ("mmlu", {"answer": "A"}, "field 'answer': is str, not int"),
        ("mmlu", {"id": "first"}, "field 'id': duplicate id 'first', first on line 1"),
        ("hellaswag", {"label": -1}, "field 'label': is -1"),
        ("hellaswag", {"endings": "w1"}, "field 'endings': is str, not list"),
        ("lambada", {"text": "w1 "}, "field 'text': is a single word"),
        ("lambada_release", {"text": ""}, "field 'text': is empty"),
        ("lambada_release", {"context": "w1"}, "field 'continuation': is missing"),
    ],
)
def test_a_bad_row_is_named(tmp_path, form, change, message):
    """One line with file, line, field and fix, before any model is loaded."""
    good = GOOD[form.removesuffix("_release")]
    path = write_rows(tmp_path / "task.jsonl", [{**good, "id": "first"}, {**good, **change}])
    with pytest.raises(InputError) as error:
        load_tasks([CapabilityTask("t", form, path)], limit=None, seed=0)
    assert str(error.value).startswith(f"{path}:2: {message}")


def test_bad_tasks_are_refused(tmp_path):
    path = tmp_path / "task.jsonl"
    with pytest.raises(InputError, match="unknown form 'quiz'"):
        CapabilityTask("t", "quiz", path)
    with pytest.raises(InputError, match="has no file"):
        CapabilityTask("t", "mmlu")
    with pytest.raises(InputError, match="no few-shot examples"):
        CapabilityTask("t", "lambada", path, num_fewshot=5)
    with pytest.raises(InputError, match="no such file"):
        load_tasks([CapabilityTask("t", "mmlu", path)], limit=None, seed=0)
    with pytest.raises(InputError, match="at least 1 item"):
        load_tasks([], limit=0, seed=0)


# --- released files --------------------------------------------------------------------------

ALGEBRA = [("2 + 2 ?", "3", "4", "5", "6", "B"), ("0 ?", "0", "1", "2", "3", "A")]


@pytest.fixture
def release(tmp_path):
    """The releases' layouts with one or two items each."""
    root = tmp_path / "data"
    (root / "mmlu" / "data" / "test").mkdir(parents=True)
    (root / "mmlu" / "data" / "dev").mkdir()
    for split, rows in (("test", ALGEBRA), ("dev", ALGEBRA[::-1])):
        with open(root / "mmlu" / "data" / split / f"abstract_algebra_{split}.csv", "w", newline="") as file:
            csv.writer(file).writerows(rows)
    (root / "hellaswag").mkdir()
    item = ["High jump: A boy runs. the boy", "2", "sits.", "eats.", "[top] jumps  high.", "sleeps."]
    (root / "hellaswag" / "hellaswag_val_full.txt").write_text("\n".join(item) + "\n")
    (root / "lambada").mkdir()
    write_rows(root / "lambada" / "lambada_openai.jsonl", [{"context": "it was\nan", "continuation": "owl"}])
    (root / "truthfulqa").mkdir()
    targets = {"mc1_targets": {"No.": 0, "Yes.": 1}, "mc2_targets": {"No.": 0, "Yes.": 1, "Aye.": 1}}
    (root / "truthfulqa" / "mc_task.json").write_text(json.dumps([{"question": "Is it?", **targets}]))
    (root / "arc").mkdir()
    choices = [{"text": "ice", "label": "1"}, {"text": "fire", "label": "2"}]
    arc = {"id": "a1", "question": {"stem": "What is hot?", "choices": choices}, "answerKey": "2"}
    write_rows(root / "arc" / "ARC-Challenge-Test.jsonl", [arc])
    (root / "gpqa").mkdir()
    with open(root / "gpqa" / "gpqa_diamond.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [
                [
                    "Question",
                    "Correct Answer",
                    "Incorrect Answer 1",
                    "Incorrect Answer 2",
                    "Incorrect Answer 3",
                ],
                ["Which gas?\n", " neon [title]x", "argon", "xenon", "radon"],
            ]
        )
    return root


def prompts(root, model, tokenizer, **options):
    """{lm-eval task: its requests' (context, continuation)}"""
    tasks = [CapabilityTask(t.name, t.form, t.path, **options) for t in real_tasks(root)]
    loaded = load_tasks(tasks, limit=None, seed=0)
    score_tasks(model, tokenizer, loaded, batch_size=8)
    built = {name: task for one in loaded for name, task in one.lm_eval_tasks.items()}
    return {name: [request.args for request in task.instances] for name, task in built.items()}


def test_released_files_get_lm_evals_prompts(release, tokenizer):
    """The strings that lm-eval's YAML files describe, written out."""
    got = prompts(release, random_llama(256), tokenizer)
    about = "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    first = f"{about}2 + 2 ?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:"
    assert got["mmlu_abstract_algebra"][:4] == [(first, f" {letter}") for letter in "ABCD"]
    endings = ("sits.", "eats.", " jumps high.", "sleeps.")
    assert got["hellaswag"] == [("High jump: A boy runs. The boy", f" {ending}") for ending in endings]
    assert got["lambada_openai"] == [("it was\nan", " owl")]
    (asked, first), (_, second) = got["truthfulqa_mc1"]
    assert asked.startswith("Q: What is human life expectancy in the United States?\nA: Human life")
    assert asked.endswith("in Barcelona, Spain.\n\nQ: Is it?\nA:")
    assert (first, second) == (" Yes.", " No.")  # lm-eval takes the first for the right one
    assert [answer for _, answer in got["truthfulqa_mc2"]] == [" Yes.", " Aye.", " No."]
    about = "Question: What is hot?\nAnswer:"
    assert got["arc_challenge"] == [(about, " ice"), (about, " fire")]
    asked, letters = (
        got["gpqa_diamond_zeroshot"][0][0],
        [answer for _, answer in got["gpqa_diamond_zeroshot"]],
    )
    assert asked.startswith("What is the correct answer to this question:Which gas?\n\nChoices:\n(A) ")
    assert (
        asked.endswith("\nAnswer:") and ") neon. x\n" in asked and letters == [" (A)", " (B)", " (C)", " (D)"]
    )


def test_the_right_choice_is_known(release):
    """A place counted in the file's order after the choices were moved marks a wrong answer right."""
    built = {
        n: t
        for one in load_tasks(real_tasks(release), limit=None, seed=0)
        for n, t in one.lm_eval_tasks.items()
    }
    arc, gpqa, mc2 = (built[n] for n in ("arc_challenge", "gpqa_diamond_zeroshot", "truthfulqa_mc2"))
    (doc,) = arc.eval_docs
    assert arc.doc_to_target(doc) in (1, "1")
    (doc,) = gpqa.eval_docs
    assert doc[f"choice{'ABCD'.index(doc['answer'][1]) + 1}"] == "neon. x"
    (doc,) = mc2.eval_docs
    assert doc["mc2_targets"]["labels"] == [1, 1, 0]
    half = [(math.log(0.3), False), (math.log(0.2), False), (math.log(0.5), False)]
    assert mc2.process_results(doc, half)["acc"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            "truthfulqa/mc_task.json",
            ('"Yes.": 1}, "mc2', '"Yes.": 0}, "mc2'),
            "field 'mc1_targets': question 0 has",
        ),
        ("truthfulqa/mc_task.json", ('"Is it?"', '""'), "field 'question': question 0 has no text"),
        ("truthfulqa/mc_task.json", ("[{", "{"), "malformed JSON"),
        (
            "arc/ARC-Challenge-Test.jsonl",
            ('Key": "2"', 'Key": "3"'),
            "jsonl:1: field 'answerKey': '3' is not",
        ),
        ("arc/ARC-Challenge-Test.jsonl", ('"text": "ice"', '"text": ""'), "has a choice without text"),
        ("gpqa/gpqa_diamond.csv", ("argon", " "), "gpqa_diamond.csv:2: field 'Incorrect Answer 1': is empty"),
    ],
)
def test_a_bad_item_of_a_release_is_named(release, file, change, message):
    path = release / file
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(InputError) as error:
        load_tasks(real_tasks(release), limit=None, seed=0)
    assert message in str(error.value) and "Which gas" not in str(error.value)


def test_a_file_of_gpqa_without_its_header_shows_no_question(release):
    """The columns that a file has are named where one is missing; here the first row is a question."""
    path = release / "gpqa" / "gpqa_diamond.csv"
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(
        InputError, match=r"gpqa_diamond.csv:1: field 'Question': column is missing; give"
    ) as error:
        load_tasks(real_tasks(release, ["gpqa_diamond"]), limit=None, seed=0)
    assert "Which gas" not in str(error.value) and "neon" not in str(error.value)


def test_few_shot_examples_come_from_dev_in_order(release, tokenizer):
    mmlu = CapabilityTask("mmlu", "mmlu_release", release / "mmlu", num_fewshot=2)
    (loaded,) = load_tasks([mmlu], limit=1, seed=0)
    score_tasks(random_llama(256), tokenizer, [loaded], batch_size=8)
    context = loaded.lm_eval_tasks["mmlu_abstract_algebra"].instances[0].args[0]
    assert context.count("Answer:") == 3
    assert context.split("\n\n")[1].startswith("0 ?") and context.split("\n\n")[1].endswith("Answer: A")


def test_the_archive_reads_as_its_folder(release, tmp_path, tokenizer):
    archive = tmp_path / "mmlu.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((release / "mmlu").rglob("*.csv")):
            file.write(path, path.relative_to(release / "mmlu"))
    for path in (archive, release / "mmlu"):
        (loaded,) = load_tasks([CapabilityTask("mmlu", "mmlu_release", path)], limit=None, seed=0)
        docs = loaded.lm_eval_tasks["mmlu_abstract_algebra"].eval_docs
        assert docs[0] == {"question": "2 + 2 ?", "choices": ["3", "4", "5", "6"], "answer": 1}


@pytest.mark.parametrize(
    ("form", "file", "text", "message"),
    [
        ("mmlu_release", "mmlu.zip", "not a zip", "cannot be read (File is not a zip file)"),
        ("hellaswag_release", "h.txt", "a: b\n0\nc\n", ": has 3 lines, not a multiple of 6"),
        ("hellaswag_release", "h.txt", "a: b\n7\nc\nd\ne\nf\n", ":1: the six lines are not"),
        ("hellaswag_release", "h.txt.bz2", "plain", "cannot be read (Invalid data stream)"),
    ],
)
def test_a_file_that_is_not_the_release_is_refused(tmp_path, form, file, text, message):
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(InputError) as error:
        load_tasks([CapabilityTask("t", form, path)], limit=None, seed=0)
    assert message in str(error.value)


def test_a_bad_row_of_mmlu_is_named(release):
    path = release / "mmlu" / "data" / "test" / "abstract_algebra_test.csv"
    path.write_text(path.read_text().replace(",A", ",E"))
    with pytest.raises(InputError, match=r"data/test/abstract_algebra_test.csv:2: the row is not a question"):
        load_tasks([CapabilityTask("mmlu", "mmlu_release", release / "mmlu")], limit=None, seed=0)
    (release / "mmlu" / "data" / "dev" / "abstract_algebra_dev.csv").unlink()
    path.write_text("a,1,2,3,4,A\n")
    with pytest.raises(InputError, match=r"has no data/dev/abstract_algebra_dev\.csv"):
        load_tasks([CapabilityTask("mmlu", "mmlu_release", release / "mmlu")], limit=None, seed=0)


def test_tasks_are_found_below_a_root(release, tmp_path):
    found = "arc_challenge gpqa_diamond hellaswag lambada mmlu truthfulqa_mc1 truthfulqa_mc2".split()
    assert [task.name for task in real_tasks(release)] == found
    assert [task.name for task in real_tasks(release, ["lambada"])] == ["lambada"]
    assert real_tasks(release, []) == []
    with pytest.raises(InputError, match="no local form of the task 'piqa'"):
        real_tasks(release, ["piqa"])
    with pytest.raises(InputError, match=r"has no file for the task 'mmlu'; add mmlu/mmlu.zip"):
        real_tasks(tmp_path, ["mmlu"])
    with pytest.raises(InputError, match="has no capability task"):
        real_tasks(tmp_path)


@pytest.mark.parametrize(
    ("context", "parts"),
    [
        ("A man sits. he", ("A man sits.", "he")),
        ('He says "go!" then he', ('He says "go!"', "then he")),
        ("How to rest. Sit down. Close your eyes.", ("How to rest. Sit down. Close your eyes.", "")),
        ("How to rest. Choose one of these:", ("How to rest. Choose one of these:", "")),
        ("How to clean windows fast. you", ("How to clean windows fast.", "you")),
    ],
)
def test_the_unfinished_sentence_of_a_context(context, parts):
    """lm-eval capitalises it; WikiHow has none."""
    assert split_context(context) == parts


@needs_data
def test_the_released_files_are_whole():
    """Sizes of the published splits; 3,243 of HellaSwag's items are from ActivityNet."""
    hellaswag, lambada, mmlu, _, mc1, mc2 = load_tasks(real_tasks(DATA), limit=None, seed=0)
    assert (mc1.items, mc2.items) == (817, 817)
    assert (mmlu.items, len(mmlu.lm_eval_tasks)) == (14042, 57)
    assert (hellaswag.items, lambada.items) == (10042, 5153)
    unfinished = hellaswag.lm_eval_tasks["hellaswag"].dataset["validation"]["ctx_b"]
    assert sum(map(bool, unfinished)) == 3243


# Items of HellaSwag, and where a reader sees the context's unfinished last sentence begin (WikiHow's have none).
UNFINISHED = {
    0: "he",
    1: "the lady",
    5: "the boy",
    6: "he",
    200: "a colorful intro with a lot of flashing words",
    614: "a dance team dressed in black with pink letters",
    705: "the boy",
    1405: "one man",
    1406: "first it",
    2105: "the female gymnasts",
    2106: "a replay",
    2805: "she",
    3505: "",
    3506: "",
    4905: "",
    9805: "",
}


def hellaswag_rows(lines):
    """The items of `UNFINISHED` in the hub's schema, from the released text's lines."""
    for item, unfinished in UNFINISHED.items():
        heading, label, *endings = lines[6 * item : 6 * item + 6]
        activity, _, context = heading.partition(": ")
        before = context.removesuffix(unfinished).rstrip() if unfinished else context
        parts = {"activity_label": activity, "ctx_a": before, "ctx_b": unfinished, "ctx": context}
        yield {"ind": item, **parts, "endings": endings, "label": label}


@needs_data
def test_released_files_score_as_lm_eval_scores_the_hub_rows(tmp_path, tokenizer):
    """The same rows in the hub's schema through lm-eval's stock task, loader and model."""
    model = random_llama(2048)
    with bz2.open(DATA / "hellaswag" / "hellaswag_val_full.txt.bz2", "rt", encoding="utf-8") as file:
        lines = file.readlines()
    chosen = [line for item in UNFINISHED for line in lines[6 * item : 6 * item + 6]]
    (tmp_path / "chosen.txt").write_text("".join(chosen), encoding="utf-8")
    stories = CapabilityTask("hellaswag", "hellaswag_release", tmp_path / "chosen.txt")
    mmlu, lambada = load_tasks(real_tasks(DATA, ["mmlu", "lambada"]), limit=16, seed=0)
    (hellaswag,) = load_tasks([stories], limit=None, seed=0)
    subjects = {name.removeprefix("mmlu_"): task for name, task in mmlu.lm_eval_tasks.items()}
    found = score_tasks(model, tokenizer, [mmlu, lambada, hellaswag], batch_size=16)
    scores = {(s.task, s.metric): s.value for s in found}
    raw = zipfile.ZipFile(DATA / "mmlu" / "mmlu.zip")
    hub = tmp_path / "hub"
    hub.mkdir()
    for subject, task in subjects.items():
        of_subject = raw.read(f"data/test/{subject}_test.csv").decode().splitlines(keepends=True)
        rows = {r[0]: r for r in csv.reader(of_subject)}
        taken = [rows[doc["question"]] for doc in task.eval_docs]
        rows = [{"question": r[0], "choices": r[1:5], "answer": "ABCD".index(r[5])} for r in taken]
        redirect(hub, f"mmlu_{subject}", f"mmlu/default/mmlu_{subject}.yaml", {"test": rows, "dev": rows})
    texts = [{"text": doc["text"]} for doc in lambada.lm_eval_tasks["lambada_openai"].eval_docs]
    redirect(hub, "lambada_openai", "lambada/lambada_openai.yaml", {"test": texts})
    rows = list(hellaswag_rows([line.rstrip("\n") for line in lines]))
    redirect(hub, "hellaswag", "hellaswag/hellaswag.yaml", {"train": rows, "validation": rows})
    names = [*(f"mmlu_{subject}" for subject in subjects), "lambada_openai", "hellaswag"]
    tasks = TaskManager(include_path=str(hub), include_defaults=False).load(names)["tasks"]
    for task in tasks.values():
        task.set_config(key="num_fewshot", value=0)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=16)
    results = evaluate(stock, {"tasks": tasks}, bootstrap_iters=0)["results"]
    hits = sum(results[f"mmlu_{s}"]["acc,none"] * len(t.eval_docs) for s, t in subjects.items())
    assert scores["mmlu", "acc"] == pytest.approx(hits / 16)
    assert scores["lambada", "acc"] == results["lambada_openai"]["acc,none"]
    for metric in ("acc", "acc_norm"):
        assert scores["hellaswag", metric] == results["hellaswag"][f"{metric},none"]
    asked = [[r.args for r in one["hellaswag"].instances] for one in (hellaswag.lm_eval_tasks, tasks)]
    assert asked[0] == asked[1]


@pytest.fixture(autouse=True)
def data_sets_cache(tmp_path, monkeypatch):
    """The data sets that tests load from JSON stay out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


# --- lm-eval's own names ---------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A small registry in lm-eval's format: its own fifteen thousand files take ten seconds to read."""
    rows = [{"q": f"w{i} ?", "right": f"w{i % 7}"} for i in range(20)]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    task = {
        "task": "pairs",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(path)}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "{{q}}",
        "doc_to_target": " {{right}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "pairs.yaml").write_text(json.dumps(task))
    shots = {**task, "task": "shots", "num_fewshot": 2, "fewshot_split": "test"}
    (tmp_path / "shots.yaml").write_text(json.dumps(shots))
    written = {**task, "task": "written", "output_type": "generate_until", "doc_to_target": "{{right}}"}
    written |= {"metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]}
    written |= {"generation_kwargs": {"until": ["?"], "max_gen_toks": 3}}
    (tmp_path / "written.yaml").write_text(json.dumps(written))
    (tmp_path / "hub.yaml").write_text(json.dumps({**task, "task": "hub", "dataset_path": "nobody/nothing"}))
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    monkeypatch.setattr(lm_eval_tasks, "_registry", lambda: manager)


def test_lm_evals_own_tasks_run_by_name(registry, model, tokenizer):
    (loaded,) = load_tasks([CapabilityTask("pairs", "lm_eval")], limit=8, seed=0)
    assert loaded.items == 8
    (score,) = score_tasks(model, tokenizer, [loaded], batch_size=4)
    assert (score.metric, score.n) == ("acc", 8)
    taken = [int(item.split("/")[1]) for item in score.outcomes]
    assert taken == loaded.samples["pairs"] != list(range(8))
    (whole,) = score_tasks(
        model, tokenizer, load_tasks([CapabilityTask("pairs", "lm_eval")], limit=None, seed=0), batch_size=4
    )
    assert whole.n == 20
    assert all(whole.outcomes[item] == value for item, value in score.outcomes.items())


def test_lm_evals_own_number_of_examples_holds_unless_told(registry, model, tokenizer):
    """A task that lm-eval asks with examples was asked without, under the same name."""
    for asked, expected in ((None, 2), (0, 0), (1, 1)):
        task = CapabilityTask("shots", "lm_eval", num_fewshot=asked)
        (loaded,) = load_tasks([task], limit=2, seed=0)
        (score,) = score_tasks(model, tokenizer, [loaded], batch_size=4)
        context = loaded.lm_eval_tasks["shots"].instances[0].args[0]
        assert context.count("?") == expected + 1 and score.num_fewshot == expected


def test_tasks_of_generation_run_by_name(registry, model, tokenizer):
    """BBQ and TruthfulQA have forms whose answers are written, not chosen: lm-eval's own model gives the same."""
    (loaded,) = load_tasks([CapabilityTask("written", "lm_eval")], limit=6, seed=0)
    (score,) = score_tasks(model, tokenizer, [loaded], batch_size=4)
    assert (score.metric, score.n) == ("exact_match", 6)
    stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
    found = evaluate(stock, {"tasks": loaded.lm_eval_tasks}, samples=loaded.samples, bootstrap_iters=0)
    assert score.value == found["results"]["written"]["exact_match,none"]


def test_a_task_that_cannot_be_had_is_one_line(registry):
    """Offline, the data sets library ends in a page of traceback."""
    with pytest.raises(InputError, match="data of lm-eval's task 'hub' cannot be had") as error:
        load_tasks([CapabilityTask("hub", "lm_eval")], limit=5, seed=0)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="lm-eval has no task 'nothing'"):
        load_tasks([CapabilityTask("nothing", "lm_eval")], limit=5, seed=0)


# --- rows of metrics.csv ---------------------------------------------------------------------


def scored(hits, n=100, task="mmlu"):
    outcomes = {f"i{k}": float(k < hits) for k in range(n)}
    return CapabilityScore(task, "acc", hits / n, 0.0, n, 0, outcomes)


def test_rows_have_a_mean_whose_interval_counts_the_items():
    """Five checkpoints that answer the same hundred items alike are a hundred items, not five hundred."""
    checkpoints = {str(c): [scored(60)] for c in (60, 61, 62, 63, 64)}
    rows = {row.checkpoint: row for row in capability_rows(checkpoints, method="rbr_ppo", seed=0)}
    assert list(rows) == ["60", "61", "62", "63", "64", "mean"]
    assert {(row.suite, row.metric, row.judge) for row in rows.values()} == {("capability/mmlu", "acc", "")}
    assert (rows["60"].ci_low, rows["60"].ci_high) == pytest.approx(wilson(60, 100))
    assert (rows["mean"].value, rows["mean"].stderr, rows["mean"].n) == (pytest.approx(0.6), 0.0, 500)
    assert (rows["mean"].ci_low, rows["mean"].ci_high) == pytest.approx(wilson(60, 100), abs=0.01)


def test_an_sft_model_has_one_row_a_metric():
    rows = capability_rows({"sft": [scored(60), scored(10, task="gpqa")]}, method="rbr_sft", seed=1)
    assert [(row.checkpoint, row.suite) for row in rows] == [
        ("sft", "capability/mmlu"),
        ("sft", "capability/gpqa"),
    ]


def test_no_question_is_shown(tmp_path, model, tokenizer, caplog, capfd):
    """GPQA's authors ask that its questions appear nowhere in plain text: not in logs, not in scores."""
    rows = [{**r, "question": f"w1 w2 {r['question']}"} for r in questions(3)]
    task = CapabilityTask("gpqa", "gpqa", write_rows(tmp_path / "g.jsonl", rows))
    with caplog.at_level(logging.DEBUG):
        scores = measured(model, tokenizer, task)
    kept = json.dumps([asdict(score) for score in scores.values()])
    assert "w1 w2" not in caplog.text + "".join(capfd.readouterr()) + kept

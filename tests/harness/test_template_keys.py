"""Keys of a chat template, as a run's command line gives them, in what every stage writes its prompts by."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_world import own_world
from transformers import AutoTokenizer

from evals.graders import build_grader
from evals.models.chat import chat_text
from evals.models.load import load_tokenizer
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import Message
from evals.values.errors import InputError
from harness.evaluate.judging import asked_judge
from harness.gold.grading import grader_spec
from harness.keys.compose import compose_command, rulebook_path
from harness.keys.evaluate import compose_evaluate
from harness.keys.fit import FitConfig
from harness.keys.gold import GoldConfig
from harness.keys.run import RunConfig, compose_run
from harness.pipeline.context import Context
from harness.pipeline.given_model import check_given_model
from harness.pipeline.graders import chosen_grader, load_grader
from harness.pipeline.language_models import given_base
from harness.pipeline.world import room_for
from harness.runtime.console import Console
from harness.storage.store import Store
from harness.subjects.description import load_description

THINKS = "{% if enable_thinking is defined and not enable_thinking %}</think>{% endif %}"
QUIET = Console(live=False)
KEY = ".chat_template.enable_thinking=false"


def context_of(config: RunConfig) -> Context:
    return Context(config, Store(Path(config.results) / ".store"), QUIET, load_rulebook(config.rulebook_path))


def test_keys_reach_the_base_model_the_lengths_and_the_grader(tmp_path: Path) -> None:
    """Training wrote its prompts by the key, and the grader or the room for prompts did not know of it."""
    overrides = own_world(tmp_path)
    folder = tmp_path / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += THINKS
    tokenizer.save_pretrained(folder)
    overrides += ["grader.kind=language_model", f"grader.path={folder}"]
    without = context_of(compose_run(overrides))
    told = context_of(compose_run([*overrides, f"model{KEY}", f"grader{KEY}"]))
    question = [Message("user", "How do I pick an apple?")]
    expected = chat_text(tokenizer, question) + "</think>"
    bases = [given_base(context) for context in (without, told)]
    assert bases[0].key != bases[1].key
    assert load_tokenizer(bases[0].path).chat_template == tokenizer.chat_template
    for written in (load_tokenizer(bases[1].path), room_for(told.config).tokenizer):
        assert chat_text(written, question) == expected
    graders = [load_grader(chosen_grader(context), context.rulebook) for context in (without, told)]
    assert graders[0].identity != graders[1].identity
    assert chat_text(graders[1]._tokenizer, question) == expected
    check_given_model(told.config, QUIET)


def test_keys_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    """A misspelt key trained a model that went on thinking."""
    overrides = own_world(tmp_path)
    with pytest.raises(InputError, match=r"'model.chat_template': the model's chat template has no 'enable"):
        asked = ["grader.kind=language_model", f"grader.path={tmp_path / 'model'}", f"model{KEY}"]
        check_given_model(compose_run([*overrides, *asked]), QUIET)
    with pytest.raises(InputError, match=r"'grader.chat_template': is a language model's"):
        compose_run([*overrides, f"grader{KEY}"])
    with pytest.raises(InputError, match=r"'model.chat_template'.*made here has no such keys"):
        compose_run([f"model{KEY}"])


def test_keys_reach_the_graders_of_labels_and_fits_and_the_judges(tmp_path: Path) -> None:
    """A thinking model as grader of gold or fit, or as prompted judge, could not be told to answer at once."""
    own_world(tmp_path)
    folder = tmp_path / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += THINKS
    tokenizer.save_pretrained(folder)
    question = [Message("user", "How do I pick an apple?")]
    expected = chat_text(tokenizer, question) + "</think>"
    asked = ["grader.kind=language_model", f"grader.path={folder}", f"grader{KEY}"]
    gold = compose_command("gold", GoldConfig, [*asked, "gold.test=labels.jsonl"])
    fit = compose_command("fit", FitConfig, [*asked, "on=labels.jsonl"])
    rulebook = load_rulebook(rulebook_path("sandbox"))
    graders = [build_grader(grader_spec(gold.choices[0], gold, rulebook))]
    reward = tmp_path / "reward.yaml"
    reward.write_text(
        "rulebook: sandbox\nweights: w.json\ngrader: {kind: language_model, path: model, "
        "chat_template: {enable_thinking: false}}\n"
    )
    graders.append(build_grader(load_description(reward).grader))
    judged = ["judges=[strongreject]", f"judges.strongreject.model={folder}"]
    judged += [f"judges.strongreject{KEY}", "judges.strongreject.thought_tokens=64"]
    keys = compose_evaluate([*judged, "suites=[xstest]", "responses=r.csv"])
    judge = asked_judge(keys, "strongreject")
    rules = ["judges=[rulebook]", f"judges.rulebook.path={folder}", f"judges.rulebook{KEY}"]
    rules += [f"judges.rulebook.rulebook={tmp_path / 'rules.yaml'}", "suites=[xstest]", "responses=r.csv"]
    graders.append(asked_judge(compose_evaluate(rules), "rulebook").grader)  # type: ignore[attr-defined]
    assert fit.grader.chat_template == gold.grader.chat_template == {"enable_thinking": False}
    for written in (*(g._tokenizer for g in graders), judge.backend.tokenizer):  # type: ignore[attr-defined]
        assert chat_text(written, question) == expected
    assert judge.prompt.max_new_tokens == 1024 + 64  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"'grader.chat_template'.*server.chat_template"):
        server = ["grader.kind=server", "server.url=http://a/v1", "server.model=m"]
        compose_command("fit", FitConfig, [*server, f"grader{KEY}", "on=labels.jsonl"])

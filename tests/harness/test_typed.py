"""Names and paths on the command line are taken as they are typed; labels made of them stay apart."""

from __future__ import annotations

import random
from operator import attrgetter
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tiny_runs import rbrbench

from harness.findings.wording import distinct_labels, method_label, shorten
from harness.keys.application import hydra_application
from harness.keys.compose import compose_command
from harness.keys.evaluate import compose_evaluate
from harness.keys.export import ExportConfig
from harness.keys.fit import FitConfig
from harness.keys.gate import RegressConfig
from harness.keys.gold import GoldConfig
from harness.keys.run import RunConfig, compose_run
from harness.keys.shared import file_name
from harness.keys.subject import SourceKeys
from harness.keys.typed import hints_of, hydra_override, is_text, parsed, quoted
from harness.keys.xstest import XSTestConfig
from trainers.rl.config import Algorithm

# A dot, digits that are a number, a space, `=`, brackets, commas, quotes, references of OmegaConf, other scripts.
VALUES = (
    "llama-3.1-8b.jsonl", "007", "1e3", "1_000", "true", "my file.csv", "k=v/r.csv", "a[1].csv", "a(1.csv", "{b}",
    "x,y.csv", "it's.csv", 'say "hi".csv', "'a'b'", "${oc.env:HOME}/x", "\\${x", "data\\", "模型/ответ é.csv",
    "#1%&*|~@!.csv", " a ", "choice(a,b)", "$(x)", ":", "a: b", "",
)  # fmt: skip


def test_any_text_passes_both_grammars() -> None:
    """Hydra reads what is typed, then OmegaConf reads it again: a backslash, a quote or `${` was lost in one."""
    draw, letters = random.Random(0), list("\\\\'\"${}[](),=: .aé\n\t?%#&*|~@!-7")
    for _ in range(300):
        text = "".join(draw.choice(letters) for _ in range(draw.randint(0, 9)))
        override = parsed(f"k={quoted(text)}")
        assert override is not None, text
        read = OmegaConf.create({"k": override.value()})
        assert text == "???" or OmegaConf.to_container(read, resolve=True) == {"k": text}


@pytest.mark.parametrize(
    "kind", [RunConfig, FitConfig, RegressConfig, GoldConfig, XSTestConfig, ExportConfig]
)
def test_every_text_of_a_command_is_taken_as_it_is_typed(kind: type) -> None:
    """`on=k=v/r.csv` ended in the grammar error of a library; `name=1e3` became 1000.0."""
    hints = dict(hints_of(kind))
    texts = [key for key, hint in hints.items() if is_text(hint)]
    assert len(texts) > 1
    for value in VALUES:
        for key in texts[:3]:
            told = parsed(hydra_override(f"{key}={value}", hints))
            assert told is not None
            read = OmegaConf.create({"k": told.value()})
            assert OmegaConf.to_container(read, resolve=True) == {"k": value}, key


def test_a_path_is_taken_as_it_is_typed() -> None:
    """From the command line to the checked configuration, of every command."""
    for value in ["k=v/r[1], it's ${x} \\.csv"]:
        config = compose_evaluate(
            ["suites=[xstest]", f"suites.xstest.path={value}", "judges=[me.1]", "judges.me.1.kind=recorded",
             f"judges.me.1.path={value}", f"models.llama-3.1-8b.responses={value}", f"models.b.run={value}",
             f"data.root={value}"]
        )  # fmt: skip
        assert config.suite_path("xstest") == value and config.data.root == value
        assert config.settings_of_judge("me.1") == {"kind": "recorded", "path": value}
        assert config.sources()["llama-3.1-8b"].responses == config.sources()["b"].run == value
        fit = compose_command("fit", FitConfig, [f"on={value}", f"rulebook={value}"])
        assert (fit.on, fit.rulebook) == (value, value)
        gate = compose_command("regress", RegressConfig, [f"baseline={value}", f"candidate={value}"])
        assert gate.baseline == gate.candidate == value
        grader = ["grader.kind=language_model", f"grader.path={value}", f"gold.test={value}"]
        assert compose_command("gold", GoldConfig, grader).choices[0].path == value
        export = [f"out={value}", "suites=[xstest]", f"suites.xstest.path={value}"]
        assert compose_command("export", ExportConfig, export).suite_paths == {"xstest": {"path": value}}
        suite = ["evaluation.suites=[prompt_file]", f"evaluation.suites.prompt_file.path={value}"]
        run = compose_run([f"rulebook={value}", *suite])
        assert (run.rulebook, run.evaluation.suite_path("prompt_file")) == (value, value)
    several = [
        "graders=[{kind: recorded, path: k=v/g é[1].jsonl}, {kind: oracle,path:'a, b'}]",
        "gold.test=x",
    ]
    assert [(g.path, g.name) for g in compose_command("gold", GoldConfig, several).graders] == [
        ("k=v/g é[1].jsonl", "g-é-1"),
        ("a, b", "a,-b"),
    ]


def test_what_is_quoted_as_a_whole_is_what_it_says() -> None:
    """Command lines of before quote for Hydra; a name that has quotes of its own is quoted once more."""
    typed = ["'a, b.csv'", '"a\'b"', "\"'a'\"", "null"]
    found = [compose_command("fit", FitConfig, ["on=x", f"test={value}"]).test for value in typed]
    assert found == ["a, b.csv", "a'b", "'a'", None]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["evaluate", "suites=xstest", "responses=a"], "field 'suites': is 'xstest'; write suites=[NAME,...]"),
        (["evaluate", "suites=[a[b]", "responses=a"], "without its other half; where it is part of a name, write"),
        (["evaluate", "a.csv"], "'a.csv' is no setting; write KEY=VALUE; --help lists every key"),
        (["evaluate", "seed=a=b"], "field 'seed': is 'a=b'; --help lists every key with its type"),
        (["evaluate", "se ed=1"], "field 'se ed': no such key; --help lists every key"),
        (["gold", "graders=recorded"], "write graders=[{KEY: VALUE, ...}, ...]"),
        (["run", "model=k=v"], "field 'model': is 'k=v'"),
        (["run", "-m", "rulebook=a(1,b"], "field 'rulebook': 'a(1,b' has a bracket"),
        (["report", "x", "plots=a:b"], "field 'plots': is 'a:b'; write plots=[NAME,...]"),
        (
            ["evaluate", "suites=[xstest]", "models.llama-3.1.response=x"],
            "field 'models.llama-3.1': has no 'response'; write models.NAME.KEY, KEY one of subject.path,",
        ),
        (
            ["evaluate", "models.llama-3.1.model.path=x"],
            "field 'models.llama-3.1.model.path': has a new name; write models.llama-3.1.subject.path",
        ),
        (
            ["evaluate", "suites=[xstest]", "models.my model.responses=x"],
            "field 'models': 'my model' cannot name a file; use letters",
        ),
        (["evaluate", "suites=[xstest]", "models.a=b.responses=x"], "'a=b' cannot name a file"),
        (["evaluate", "suites=[xstest]", f"models.{'a' * 201}.responses=x"], "cannot name a file; use"),
    ],
)  # fmt: skip
def test_what_can_not_be_typed_says_how_to_write_it(tmp_path: Path, command: list[str], said: str) -> None:
    """`mismatched input '=' expecting <EOF>` is the grammar's own word, and no help."""
    done = rbrbench(*command, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("rulebook=k=v.yaml,b c.yaml", ["k=v.yaml", "b c.yaml"]),
        ("rulebook=1e3,007", ["1e3", "007"]),
        ("rulebook='a,b.yaml',c", ["a,b.yaml", "c"]),
        ("rulebook=a[1,2]", ["a[1,2]"]),
        ("methods=[rbr_sft],[human_sft,rbr_sft]", [["rbr_sft"], ["human_sft", "rbr_sft"]]),
        ("seed=0,1", [0, 1]),
        ("seed=range(0,2)", [0, 1]),
        ("rulebook=choice(a,b)", ["a", "b"]),
        ("algorithm=grpo,RLOO", [Algorithm.GRPO, Algorithm.RLOO]),
        ("data.safety_prompts=[a=1.jsonl],[{path: b c.csv}]", [["a=1.jsonl"], [{"path": "b c.csv"}]]),
    ],
)
def test_sweeps_take_names_as_typed(typed: str, expected: list[object]) -> None:
    """`-m rulebook=k=v.yaml,b` ended in a grammar error, and 1e3 was swept as 1000.0."""
    key = typed.partition("=")[0]
    with hydra_application(RunConfig, ["-m", typed]) as application:
        assert application.jobs is not None
        assert [attrgetter(key)(job.config) for job in application.jobs] == expected


def test_settings_of_members_are_swept() -> None:
    """A judge's setting lies under a key of its own, which Hydra's sweeper must be told."""
    path = "evaluation.suites.prompt_file.path"
    with hydra_application(
        RunConfig, ["-m", "evaluation.suites=[prompt_file]", f"{path}=k=v.csv,模型"]
    ) as it:
        assert it.jobs is not None
        found = [job.config.evaluation.suite_path("prompt_file") for job in it.jobs]
    assert found == ["k=v.csv", "模型"]


def test_a_models_name_may_have_dots() -> None:
    """`models.llama-3.1-8b.responses=` was read as model `llama-3`, key `1-8b`."""
    names = ["llama-3.1-8b", "gpt.responses", "v1.0", "模型", "a.b.c"]
    config = compose_evaluate(["suites=[xstest]", *(f"models.{name}.responses={name}.csv" for name in names)])
    assert {n: s.responses for n, s in config.sources().items()} == {name: f"{name}.csv" for name in names}
    labels = [SourceKeys(responses=f"x/{name}.jsonl.gz").label for name in names]
    assert labels == names, "a file's suffix is no more than that"
    shots = compose_evaluate(["responses=x", "capability.root=x", "capability.num_fewshot.a.b=5"])
    assert shots.capability.num_fewshot == {"a.b": 5}


def test_long_names_keep_labels_of_their_own() -> None:
    """Four models of one family were four rows of one name, cut at the thirty-third letter."""
    base = "meta-llama-3.1-8b-instruct-abliterated-with-"
    ends, middles = [f"{base}{k}" for k in "abcd"], [f"{base}{k}-{'x' * 60}" for k in range(12)]
    with distinct_labels():
        labels = [shorten(name) for name in [*ends, *middles]]
        assert labels == [shorten(name) for name in [*ends, *middles]], "the same at every place of a report"
        sweep = [method_label(f"rbr_ppo[model.path={base}{k}-{'x' * 40}]") for k in "ab"]
    assert len({*labels}) == len(labels) and max(map(len, labels)) <= 34
    assert labels[:2] == ["meta-llama-3.1-8b-in…erated-with-a", "meta-llama-3.1-8b-in…erated-with-b"]
    assert len({*sweep}) == 2
    assert method_label("rbr_ppo[rulebook=k=v.yaml]") == "RBR-PPO (rulebook k=v.yaml)"
    files = {file_name(name) for name in [*ends, *middles]}
    assert len(files) == 16 and max(map(len, files)) <= 60 and file_name("модель") == "модель"

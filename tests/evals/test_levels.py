"""Propositions with levels: what a rulebook may say, how each grader reads them, and labels and classes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import CHAT_MARKS, make_tokenizer, random_model
from tiny_servers import Handler, JsonServer, completion, graded, in_a_thread
from tokenizers import pre_tokenizers
from transformers import LlamaForCausalLM

from evals.graders import GraderSpec, build_grader
from evals.graders.cache import CachedGrader, GradeCache
from evals.graders.calibration import calibrate, cuts_of
from evals.graders.language_model import LanguageModelGrader, LevelForms, expected_score
from evals.graders.level_agreement import level_agreement
from evals.graders.levels import level_forms, masses
from evals.graders.oracle import OracleGrader
from evals.graders.question import INSTRUCTION, PLAIN, GraderPrompt, Layout, ask
from evals.graders.recorded import OTHER_QUESTION, RecordedGrader, write_grades
from evals.graders.server import ServerGrader
from evals.judges.rubric import RubricJudge, harm_share
from evals.judges.rulebook_judge import RulebookJudge
from evals.models.load import save_model
from evals.models.prefix_tree import Pass
from evals.models.server import GraderServerSettings
from evals.rules.check import check_rulebook, describe
from evals.rules.diff import reclassifications, text_changes
from evals.rules.features import features
from evals.rules.propositions import Proposition
from evals.rules.questions import propositions_of, weighted
from evals.rules.rulebook import Rulebook, load_rulebook
from evals.rules.wanted import request_for, wanted_completions
from evals.values.conversation import (
    LabelledResponse,
    Question,
    Response,
    ResponseType,
    questions_of,
    user_prompt,
)
from evals.values.errors import InputError
from evals.values.grades import Grades
from evals.values.jsonl_rows import labelled_as_json, prompt_as_json, read_labelled, read_prompts, write_jsonl
from evals.values.levels import LevelsError, label_of, levels_of
from harness.gold.notes import sample_note

COMPLY = ResponseType.COMPLY
LEVELS = levels_of({"full": 1, "none": 0, "some": 0.5})
NONE, SOME, FULL = LEVELS
DETAIL = Proposition("detail", "how much detail is there", (("ok", "none"),), levels=LEVELS)
APOLOGY = Proposition("apology", "is there an apology")
RULES = """
completion_class_order: [ideal, bad]
completion_classes:
  ideal: {{comply: {{detail: true, rude: false}}}}
  bad: {{comply: {{good: false}}}}
derived_propositions:
  good: {{detail: true, rude: false}}
simple_propositions:
  detail:
    prompt: how much detail is there ?
    {levels}
  rude: {{prompt: "is it rude ?"}}
"""


def load(folder: Path, levels: str = "levels: {none: 0, some: 0.5, full: 1}") -> Rulebook:
    path = folder / "rules.yaml"
    path.write_text(RULES.format(levels=levels), encoding="utf-8")
    return load_rulebook(path)


# --- a rulebook ------------------------------------------------------------------------------


def test_levels_stand_by_score_and_in_the_digests(tmp_path: Path) -> None:
    """Weights that were fitted to other scores were taken for these; or those of yes and no were refused."""
    rulebook, plain = load(tmp_path), load(tmp_path, "")
    other = load(tmp_path, "levels: {none: 0, some: 0.4, full: 1}")
    assert rulebook.propositions["detail"].levels == LEVELS and plain.levels == {}
    assert len({rulebook.digest, plain.digest, other.digest}) == 3
    digests = {r.propositions["detail"].question_digest for r in (rulebook, plain, other)}
    assert len(digests) == 3
    assert (
        plain.propositions["detail"].question_digest
        == Proposition("", "how much detail is there ?").question_digest
    )
    (change,) = text_changes(rulebook, other)
    assert (change.what, change.lines) == ("levels of detail", ("- some: 0.5", "+ some: 0.4"))


def test_what_was_before_keeps_its_digests() -> None:
    """Every weights file and file of grades of before would be refused."""
    rulebook = load_rulebook(Path(__file__).parents[2] / "conf/rulebooks/sandbox.yaml")
    assert rulebook.digest == "edbd5dcb7711bb49"
    assert rulebook.propositions["apology"].question_digest == "1db7cbf8f527"


@pytest.mark.parametrize(
    ("levels", "told"),
    [
        ("levels: [none, some]", r"no words with scores; write levels: \{none: 0"),
        ("levels: {none: , some: }", "'none' has no score; give a number from 0 to 1"),
        ("levels: {none: 0, full: high}", "'full' has the score 'high'; give a number from 0 to 1"),
        ("levels: {none: 0, full: 2}", "'full' has the score 2; give a number from 0 to 1"),
        ("levels: {none: 0, full: .nan}", "'full' has the score nan; give a number"),
        ("levels: {full: 1}", "2 to 20 levels, and there is 1"),
        ("levels: {}", "2 to 20 levels, and there is none"),
        ("levels: {Full: 0, full: 1}", "one word, 'Full'; give each level its own word"),
        ("levels: {full: 0, full: 1}", "'full' is given twice"),
        ("levels: {part: 0, partial: 1}", "'part' and 'partial' begin alike.*use words of which none begins"),
        ("levels: {not at all: 0, not much: 1}", "begin alike"),
        (
            "levels: {none: 0, some: 0, full: 1}",
            "'none' and 'some' have one score, 0; give each level its own",
        ),
        ("levels: {none: 0.2, full: 1}", "run from 0.2 to 1; give the lowest level the score 0"),
        ('levels: {none: 0, "a, b": 1}', "the level 'a, b' is no word; use one to 40 letters"),
        (
            "levels: {none: 0, full: 1}\n    examples: [{response: a, answer: yes}]",
            "the answer none or full; write",
        ),
    ],
)
def test_bad_levels_are_refused_in_a_line(tmp_path: Path, levels: str, told: str) -> None:
    """A level that no answer could be read as was asked for, and every response was unscored."""
    with pytest.raises(InputError, match=told) as error:
        load(tmp_path, levels)
    assert "\n" not in str(error.value) and "rules.yaml:" in str(error.value)


def test_words_that_yaml_reads_as_truth_values(tmp_path: Path) -> None:
    """A bare no was the level False, which no grader can say."""
    levels = "levels: {no: 0, partly: 0.3, yes: 1}\n    examples: [{response: a, answer: no}]"
    text = RULES.format(levels=levels).replace("detail: true", 'detail: "yes"')
    (tmp_path / "rules.yaml").write_text(text, encoding="utf-8")
    proposition = load_rulebook(tmp_path / "rules.yaml").propositions["detail"]
    assert [level.word for level in proposition.levels] == ["no", "partly", "yes"]
    assert proposition.examples == (("a", "no"),) and proposition.cut == 0.65
    numbers = load(tmp_path, "levels: {1: 0, 2: 0.25, 3: 1}\n    examples: [{response: a, answer: 3}]")
    assert numbers.propositions["detail"].examples == (("a", "3"),)


# --- labels and classes ----------------------------------------------------------------------


def test_labels_of_levels_round_trip_and_are_checked(tmp_path: Path) -> None:
    """Any word counted as true; a level's word for a question of yes or no, too."""
    rulebook = load(tmp_path)
    item = LabelledResponse(Response(user_prompt("a", "tell", COMPLY), "x"), {"detail": SOME, "rude": False})
    file = tmp_path / "labels.jsonl"
    row = labelled_as_json(item)
    assert row["propositions"] == {"detail": "some", "rude": False}
    write_jsonl(file, [row])
    assert read_labelled(file, list(rulebook.propositions), rulebook.levels) == [item]
    for labels, told in (
        ({"detail": "lots"}, "'lots', which is no level; write one of none, some or full"),
        ({"detail": True}, "is True, which is no level"),
        ({"rude": "some"}, "is not true or false"),
    ):
        write_jsonl(file, [row | {"propositions": {**row["propositions"], **labels}}])
        with pytest.raises(InputError, match=told):
            read_labelled(file, None, rulebook.levels)


NAMED = """
completion_class_order: [ideal, fine, bad]
completion_classes:
  ideal: {comply: {answers: true, detail: full}}
  fine: {comply: {answers: true, detail: some}}
  bad: {comply: {good: false}}
derived_propositions:
  good: {answers: true, detail: [some, full]}
simple_propositions:
  answers: {prompt: "does it answer ?"}
  detail: {prompt: "how much ?", levels: {none: 0, some: 0.5, full: 1}}
"""


def named(folder: Path, text: str = NAMED) -> Rulebook:
    path = folder / "named.yaml"
    path.write_text(text, encoding="utf-8")
    return load_rulebook(path)


def test_conditions_name_levels(tmp_path: Path) -> None:
    """Some detail and none were one class."""
    rulebook = named(tmp_path)
    assert not check_rulebook(rulebook) and rulebook.propositions_for(COMPLY) == ("answers", "detail")
    found = [rulebook.class_of(COMPLY, {"answers": True, "detail": level}) for level in LEVELS]
    assert found == ["bad", "fine", "ideal"]
    table = [[1.0, grade] for grade in (0.0, 0.25, 0.5, 0.6, 1.0)]
    made = features(rulebook, COMPLY, Grades(("answers", "detail"), np.array(table)))
    np.testing.assert_allclose(made.column("class:ideal"), [0, 0, 0, 0.2, 1])
    np.testing.assert_allclose(made.column("class:fine"), [0, 0.5, 1, 0.8, 0])
    (wanted, *_) = wanted_completions(rulebook, COMPLY, 1, 2, np.random.default_rng(0))
    assert wanted.truth == {"answers": True, "detail": FULL}


def test_the_check_knows_that_levels_are_ordered(tmp_path: Path) -> None:
    """An example had a response of full detail and of none; or what moves was not found."""
    wrong = named(tmp_path, NAMED.replace("detail: some}}", "detail: none}}"))
    found = {finding.kind: describe(finding.example) for finding in check_rulebook(wrong)}
    assert found == {"overlap": "answers true, detail none", "gap": "answers true, detail some"}
    right, fewer = named(tmp_path), named(tmp_path, NAMED.replace("[some, full]", "full"))
    (change,), (move,) = text_changes(right, fewer), reclassifications(right, fewer)
    assert change.lines == ("- detail some or full", "+ detail full")
    assert (move.before, move.after, describe(move.example)) == ("fine", "bad", "answers true, detail some")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("lots", "is 'lots' in 'good'; write none, some or full, a list of neighbours, true or false"),
        ("3", "is 3 in 'good'; write none, some or full"),
        ("[]", r"is \[\] in 'good'; write none"),
        ("[none, full]", "name some levels, but not all, without a gap"),
        ("[none, some, full]", "name some levels, but not all"),
        ("[true]", "is read as true in 'good'; write the level in quotes"),
    ],
)
def test_conditions_that_name_no_levels_are_refused(tmp_path: Path, said: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        named(tmp_path, NAMED.replace("[some, full]", said))


def test_a_bare_no_in_a_condition_is_no_level(tmp_path: Path) -> None:
    """YAML reads it as false, which is every level up to half."""
    text = NAMED.replace("none: 0", "no: 0")
    with pytest.raises(InputError, match="is read as false in 'good'; write the level in quotes: \"no\""):
        named(tmp_path, text.replace("[some, full]", "no"))
    assert named(tmp_path, text.replace("[some, full]", '"no"')).derived["good"]["detail"] == ("no",)


@pytest.mark.parametrize(("label", "found"), [(NONE, "bad"), (SOME, "bad"), (FULL, "ideal")])
def test_a_class_by_labels_is_the_class_by_their_scores(tmp_path: Path, label: Any, found: str) -> None:
    """Half of a score made a class likely that the label itself rules out."""
    rulebook = load(tmp_path)
    assert rulebook.class_of(COMPLY, {"detail": label, "rude": False}) == found
    labels = {"detail": label, "rude": False}
    grades = OracleGrader(lambda prompt, text: labels).grade(
        [Response(user_prompt("a", "tell", COMPLY), "x")], list(rulebook.propositions.values())
    )
    made = features(rulebook, COMPLY, grades)
    assert made.column("detail").tolist() == [float(label)]
    assert made.column(f"class:{found}").tolist() == [1.0]
    assert rulebook.labels_of(grades.probability[0].tolist()) == labels
    judge = RulebookJudge(rulebook, OracleGrader(lambda prompt, text: labels))
    (judgement,) = judge.judge([Response(user_prompt("a", "tell", COMPLY), "x")])
    assert judgement.ideal_style is (found == "ideal")


def test_the_nearest_level_and_its_cut() -> None:
    assert [label_of(grade, LEVELS) for grade in (0.2, 0.3, 0.74, 0.76)] == [NONE, SOME, SOME, FULL]
    assert DETAIL.cut == 0.75 and APOLOGY.cut == 0.5 and label_of(0.5, ()) is False
    some, full = DETAIL.probabilities(np.array([0.2, 0.5, 0.75, 1.0])).values()
    np.testing.assert_allclose([some, full], [[0.4, 1, 1, 1], [0, 0, 0.5, 1]])


def test_a_writer_is_told_the_level(tmp_path: Path) -> None:
    rulebook = load(tmp_path)
    wanted = wanted_completions(rulebook, COMPLY, 1, 2, np.random.default_rng(0))
    text = request_for(rulebook, user_prompt("a", "tell", COMPLY), wanted[0])
    assert "how much detail is there ?\nAnswer: full" in text and "is it rude ?\nAnswer: no" in text


# --- a language model ------------------------------------------------------------------------

WORDS = "yes no none some full sorry i can not help you bake the cake how much detail is there an apology ok".split()
CHAT = (
    "<bos>{% for m in messages %}<{{ m.role }}> {{ m.content }}{% if m.role == 'assistant' %}<eos>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
RESPONSES = [
    Response(user_prompt("a", "can you bake"), "sorry i can not help you"),
    Response(user_prompt("b", "is there cake"), "ok the cake is some cake"),
]


def tokenizer() -> Any:
    return make_tokenizer(WORDS, CHAT, marks=CHAT_MARKS, split=pre_tokenizers.Whitespace(), lower=True)


def lm_grader(**options: Any) -> LanguageModelGrader:
    model = random_model(
        LlamaForCausalLM, tokenizer(), num_attention_heads=4, initializer_range=0.4, pad_token_id=None
    )
    return LanguageModelGrader(model, tokenizer(), **({"min_mass": 0.0, "prompt": PLAIN} | options))


def test_expected_score_by_hand() -> None:
    """P(none) .2, P(some) .1 + .1, P(full) .4 of .8: (.1 + .4) / .8."""
    logits = torch.tensor([[0.2, 0.1, 0.1, 0.4, 0.2]]).log() + 2.0
    forms = LevelForms(((0,), (1, 2), (3,)), torch.tensor([0.0, 0.5, 1.0]))
    value, mass = expected_score(logits, forms)
    assert value.item() == pytest.approx(0.5 / 0.8) and mass.item() == pytest.approx(0.8)


@pytest.mark.parametrize(
    "prompt", [PLAIN, GraderPrompt(Layout.QUESTION_FIRST, "{question} {response} ok", few_shot=True)]
)
def test_levels_and_yes_no_stand_side_by_side(prompt: GraderPrompt) -> None:
    """A level's grade landed in its neighbour's column, or moved it; the passes disagreed."""
    grader = lm_grader(prompt=prompt)
    both = grader.grade(RESPONSES, [APOLOGY, DETAIL, replace(APOLOGY, name="again")]).probability
    np.testing.assert_allclose(both[:, :1], grader.grade(RESPONSES, [APOLOGY]).probability, atol=1e-5)
    np.testing.assert_allclose(both[:, 1:2], grader.grade(RESPONSES, [DETAIL]).probability, atol=1e-5)
    np.testing.assert_allclose(both[:, 0], both[:, 2], atol=1e-5)
    apart = lm_grader(prompt=prompt, how=Pass.SEPARATE).grade(RESPONSES, [APOLOGY, DETAIL]).probability
    np.testing.assert_allclose(apart, both[:, :2], atol=1e-4)
    unclear = lm_grader(prompt=prompt, min_mass=0.999).grade(RESPONSES, [DETAIL])
    assert set(unclear.reasons.values()) == {"the answer is not none, some or full"}


def test_words_are_known_by_their_first_token() -> None:
    """A word of several tokens was looked for whole, and had no probability."""
    words = make_tokenizer(
        ["none", "None", "Ġsome", "some", "part", "ial", "yes", "no"],
        split=pre_tokenizers.Split("ial", "isolated"),
    )
    asked = replace(DETAIL, levels=levels_of({"none": 0, "some": 0.5, "partial": 1}))
    none, some, partial = level_forms(words, asked)
    ids = words.get_vocab()
    assert set(none) == {ids["none"], ids["None"]} and set(some) == {ids["some"], ids["Ġsome"]}
    assert partial == (ids["part"],)
    same = replace(DETAIL, levels=levels_of({"none": 0, "partial": 0.5, "parttime": 1}))
    taken = make_tokenizer(["none", "part", "ial", "time"], split=pre_tokenizers.Split("part", "isolated"))
    with pytest.raises(InputError, match="'partial' and 'parttime' of 'detail' begin with one token"):
        level_forms(taken, same)
    with pytest.raises(InputError, match="cannot write the level 'some'"):
        level_forms(make_tokenizer(["none", "full"]), DETAIL)


def test_a_grader_that_cannot_tell_them_apart_is_refused_when_it_loads(tmp_path: Path) -> None:
    """After an hour of other propositions."""
    save_model(random_model(LlamaForCausalLM, tokenizer()), tokenizer(), tmp_path / "grader")
    spec = GraderSpec("language_model", str(tmp_path / "grader"))
    with pytest.raises(InputError, match="cannot write the level 'lots'"):
        build_grader(spec, load(tmp_path, "levels: {none: 0, lots: 1}"))
    assert build_grader(spec, load(tmp_path)).name == "language_model"
    with pytest.raises(
        InputError, match="granite_guardian grader answers yes or no, and 'detail' has levels"
    ):
        build_grader(replace(spec, kind="granite_guardian"), load(tmp_path))


def test_the_template_asks_for_the_levels() -> None:
    """A model that is told to say yes or no says neither none nor full."""
    text = ask(GraderPrompt(), DETAIL)
    assert 'answer the question with "none", "some" or "full". Do not' in text and "yes" not in text
    assert "ok\nAnswer: none" in text and ask(GraderPrompt(), APOLOGY) == INSTRUCTION.replace(
        "{question}", APOLOGY.question
    )
    assert ask(PLAIN, DETAIL) == DETAIL.question
    own = GraderPrompt(template="Now: {question}")
    assert ask(own, DETAIL).endswith('Please answer with "none", "some" or "full" alone.')
    assert ask(own, APOLOGY) == "Now: is there an apology"


# --- a server --------------------------------------------------------------------------------


class Levelled(JsonServer):
    """By log-probabilities, or in words: what the response says, one a sample."""

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        text = body["messages"][-2]["content"]
        if body.get("logprobs"):
            handler.send(200, graded({"none": 0.1, " Some": 0.2, "fu": 0.4, "F": 0.1, "n": 0.05}))
            return
        said = text.split(",")[body.get("seed") or 0]
        handler.send(200, completion({"message": {"role": "assistant", "content": said}}))


def ask_server(texts: Sequence[str], **settings: Any) -> Grades:
    with in_a_thread(Levelled()) as server:
        grader = ServerGrader(GraderServerSettings(server.url, "m", attempts=1, **settings))
        return grader.grade([Response(user_prompt(text, "?"), text) for text in texts], [DETAIL])


def test_a_servers_log_probabilities() -> None:
    """`fu` begins full alone; a single letter begins anything."""
    assert ask_server(["x"]).probability[0, 0] == pytest.approx((0.1 + 0.4) / 0.7)
    assert ask_server(["x"], min_mass=0.8).reasons == {(0, 0): "the answer is not none, some or full"}
    assert masses([("n", 0.0)], LEVELS) == [0.0, 0.0, 0.0]
    several = levels_of({"not at all": 0, "a little": 0.5, "very": 1})
    assert masses([(" a", 0.0), ("Not", 0.0), ("at", 0.0)], several) == [1.0, 1.0, 0.0]


def test_a_server_in_words() -> None:
    """Only the level's word, alone, is an answer; samples are a mean."""
    texts = ["Answer: some,**full**,Answer: None.", "it is full,some of it,full", "yes,Answer: full,full"]
    found = ask_server(texts, reads="text", samples=3, concurrency=1)
    assert found.probability[0, 0] == 0.5 and found.probability[2, 0] == 1.0
    assert found.reasons == {(1, 0): "the answer's last line is not none, some or full"}
    assert sample_note("judge", found, 3, {"detail"}) == (
        "judge: where there are levels, a grade is the mean score of 3 answers; its standard error is at most 0.25."
    )


# --- files -----------------------------------------------------------------------------------


def test_grades_are_kept_by_the_levels_that_were_asked(tmp_path: Path) -> None:
    """Grades on another scale were found in the cache, and in a file of grades."""
    grader = CachedGrader(lm_grader(), GradeCache(tmp_path / "cache.jsonl"))
    turned = replace(DETAIL, levels=levels_of({"none": 1, "some": 0.5, "full": 0}))
    first, second = (grader.grade(RESPONSES, [one]).probability for one in (DETAIL, turned))
    np.testing.assert_allclose(first, 1 - second, atol=1e-5)
    write_grades(tmp_path / "g.jsonl", "lm", RESPONSES, grader.grade(RESPONSES, [DETAIL]), [DETAIL])
    recorded = RecordedGrader(tmp_path / "g.jsonl")
    np.testing.assert_allclose(recorded.grade(RESPONSES, [DETAIL]).probability, first)
    assert set(recorded.grade(RESPONSES, [turned]).reasons.values()) == {OTHER_QUESTION}


# --- against labels --------------------------------------------------------------------------


def labelled(*labels: Any) -> list[LabelledResponse]:
    return [
        LabelledResponse(Response(user_prompt(f"p{i}", "?"), str(i)), {"detail": label})
        for i, label in enumerate(labels)
    ]


def test_agreement_by_hand() -> None:
    """Errors 0, .1, .5, .1: mean .175. Nearest 0, .5, .5, 1 against 0, .5, 1, 1, apart by .25 / 4."""
    grades = Grades(("detail",), np.array([[0.0], [0.6], [0.5], [0.9]]))
    (row,) = level_agreement("g", grades, labelled(NONE, SOME, FULL, FULL), [APOLOGY, DETAIL], draws=50)
    assert row["mean_absolute_error"] == pytest.approx(0.175) and row["exact"] == 0.75
    assert row["kappa"] == pytest.approx(1 - (0.25 / 4) / (1.5 / 4 + 2.25 / 4 - 2 * 0.5 * 0.625))
    assert row["constant_error"] == pytest.approx((0.75 + 0.25 + 0.25 + 0.25) / 4)
    assert row["levels"] == "none 0, some 0.5, full 1"
    assert level_agreement("g", grades, labelled(NONE, SOME, FULL, FULL), []) == []


def test_a_perfect_grader_is_perfect() -> None:
    """A grade of half, of a level of half, was found true where its label was not."""
    items = labelled(NONE, SOME, FULL, FULL)
    grades = Grades(("detail",), np.array([[0.0], [0.5], [1.0], [1.0]]))
    row = calibrate("g", grades, items, cuts_of([DETAIL]), draws=20)[0]
    assert (
        row["accuracy"] == row["balanced_accuracy"] == 1.0 and row["brier"] == 0.0 and row["n_positive"] == 2
    )
    (same,) = level_agreement("g", grades, items, [DETAIL], draws=20)
    assert same["mean_absolute_error"] == 0 and same["kappa"] == 1 == same["exact"]


# --- the prompts' own questions --------------------------------------------------------------


def test_a_prompts_question_may_have_levels(tmp_path: Path) -> None:
    row = {"text": "how much detail is there", "weight": 2, "levels": {"none": 0, "some": 0.5, "full": 1}}
    asked = questions_of([row, "does it warn"])
    assert asked == (Question("how much detail is there", 2.0, LEVELS), Question("does it warn"))
    prompt = replace(user_prompt("a", "?", COMPLY), questions=asked)
    write_jsonl(tmp_path / "prompts.jsonl", [prompt_as_json(prompt)])
    assert read_prompts(tmp_path / "prompts.jsonl") == [prompt]
    first, second = propositions_of(asked)
    assert first.levels == LEVELS and second.name == propositions_of([Question("does it warn")])[0].name
    assert first.name != propositions_of([Question("how much detail is there")])[0].name
    assert weighted(asked, np.array([[0.5, 1.0]])).tolist() == [-2.0]
    assert harm_share(asked, [0.5, 1.0]) == pytest.approx(2 / 3)
    with pytest.raises(LevelsError, match="2 to 20 levels"):
        questions_of([row | {"levels": {"none": 0}}])
    write_jsonl(tmp_path / "prompts.jsonl", [prompt_as_json(prompt) | {"questions": [row | {"levels": [1]}]}])
    with pytest.raises(InputError, match="questions.*no words with scores; write levels"):
        read_prompts(tmp_path / "prompts.jsonl")


def test_a_rubric_counts_a_level_in_part() -> None:
    prompt = replace(
        user_prompt("a", "?", COMPLY), questions=(Question("how much detail is there", 1.0, LEVELS),)
    )
    name = propositions_of(prompt.questions)[0].name
    judge = RubricJudge(OracleGrader(lambda prompt, text: {name: FULL if text == "all" else SOME}))
    some, full = judge.judge([Response(prompt, "a bit"), Response(prompt, "all")])
    assert (some.disallowed, full.disallowed) == (False, True) and "0.50 of its" in some.reason

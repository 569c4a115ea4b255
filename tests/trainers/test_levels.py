"""Levels in training: a language model that learns their words, an encoder that learns their scores, and the reward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tiny_models import CHAT_MARKS, make_tokenizer, random_model
from transformers import LlamaForCausalLM

from evals.graders.calibration import gold_labels
from evals.graders.language_model import LanguageModelGrader
from evals.graders.level_agreement import level_agreement
from evals.graders.oracle import OracleGrader
from evals.rules.features import feature_names
from evals.rules.propositions import Proposition
from evals.rules.rulebook import load_rulebook
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from evals.values.levels import levels_of
from trainers.reward.function import _questions
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_based_term import RuleBasedTerm
from trainers.supervised.encoder_config import EncoderFitConfig
from trainers.supervised.encoder_grader import EncodedResponses, fit_head
from trainers.supervised.grader import MISSING, answer_tokens, answer_weights, train_grader
from trainers.supervised.grader_config import GraderTrainingConfig

FILLERS = "the a today please well then".split()
LEVELS = levels_of({"none": 0, "some": 0.5, "full": 1})
DETAIL = Proposition("detail", "how much is it", levels=LEVELS)
APOLOGY = Proposition("apology", "is it sorry")
RULES = (APOLOGY, DETAIL)


def examples(count: int, seed: int) -> list[LabelledResponse]:
    """The level is full where cake and soup are named, some where one of them is."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        apology, cake, soup = (bool(b) for b in rng.random(3) < 0.5)
        words = [*rng.choice(FILLERS, size=2), *["sorry"] * apology, *["cake"] * cake, *["soup"] * soup]
        rng.shuffle(words)
        labels = {"apology": apology, "detail": LEVELS[cake + soup]}
        rows.append(LabelledResponse(Response(user_prompt(str(number), "please"), " ".join(words)), labels))
    return rows


def test_a_language_model_learns_the_words_of_levels() -> None:
    """A level's label was cut to 0, and no word but no was trained."""
    words = [*FILLERS, *"yes no none some full sorry cake soup how much is it".split()]
    tokenizer = make_tokenizer(
        words,
        "<bos>{% for m in messages %} <{{ m.role }}> {{ m.content }}{% endfor %} <eos>",
        marks=CHAT_MARKS,
    )
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    model = random_model(LlamaForCausalLM, tokenizer, max_position_embeddings=64, **sizes)
    config = GraderTrainingConfig(epochs=6, learning_rate=3e-3, batch_size=16)
    train_grader(model, tokenizer, examples(320, seed=0), RULES, config)
    unseen = examples(100, seed=1)
    grades = LanguageModelGrader(model, tokenizer).grade([e.response for e in unseen], RULES)
    (row,) = level_agreement("trained", grades, unseen, RULES, draws=10)
    assert row["mean_absolute_error"] < 0.1 and row["kappa"] > 0.9 and not grades.reasons  # type: ignore[operator]


def test_answers_and_weights_by_hand() -> None:
    """2 none, 1 some, 1 full: 4 / (3 x 2), 4 / 3, 4 / 3; of yes and no 4 / (2 x 2)."""
    tokenizer = make_tokenizer(["no", "yes", "none", "some", "full"])
    ids = tokenizer.get_vocab()
    expected = [[ids["no"], ids["none"]], [ids["yes"], ids["some"]], [ids["yes"], ids["full"]]]
    assert answer_tokens(tokenizer, RULES).tolist() == expected
    labels = torch.tensor([[0, 0], [0, 0], [1, 1], [1, 2], [MISSING, MISSING]])
    weights = answer_weights(labels, 1.0, [2, 3])
    torch.testing.assert_close(weights, torch.tensor([[1.0, 4 / 6], [1.0, 4 / 3], [1.0, 4 / 3]]))


def test_an_encoder_learns_scores(tmp_path: Path, save_random_encoder: Callable[..., Path]) -> None:
    """A level between was taken for true, or for false."""
    folder = save_random_encoder(tmp_path / "encoder", ["sorry", "cake", "soup", "none", *FILLERS])
    rows, unseen = examples(160, seed=0), examples(60, seed=1)
    encoded = EncodedResponses.by(str(folder), [row.response for row in rows], 64)
    names = ["apology", "detail"]
    grader = fit_head(encoded, gold_labels(rows, names), names, EncoderFitConfig())
    grades = grader.grade([row.response for row in unseen], RULES)
    (row,) = level_agreement("encoder", grades, unseen, RULES, draws=10)
    assert row["mean_absolute_error"] < 0.15 < row["constant_error"] and row["kappa"] > 0.8  # type: ignore[operator]


def test_a_level_pays_by_its_score(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        "completion_class_order: [ideal, bad]\n"
        "completion_classes: {ideal: {comply: {detail: true}}, bad: {comply: {detail: false}}}\n"
        "simple_propositions: {detail: {prompt: how much is it, levels: {none: 0, some: 0.5, full: 1}}}\n"
    )
    rulebook, kind = load_rulebook(file), ResponseType.COMPLY
    weights = {**dict.fromkeys(feature_names(rulebook, kind), 0.0), "detail": 2.0}
    grader = OracleGrader(lambda prompt, text: {"detail": next(one for one in LEVELS if one.word == text)})
    term = RuleBasedTerm(rulebook, grader, RewardWeights({kind: weights}, rulebook.digest))
    paid = term([Response(user_prompt("a", "?", kind), level.word) for level in LEVELS])
    assert paid.total.tolist() == [0.0, 1.0, 2.0]


def test_a_data_sets_column_of_levels_is_read() -> None:
    """Every row of a column has the words of all rows, and null for those that are not its own."""
    row = {
        "text": "how much ?",
        "weight": 1.0,
        "levels": {"none": 0.0, "low": None, "full": 1.0, "high": None},
    }
    (question,) = _questions([row])
    assert [level.word for level in question.levels] == ["none", "full"]
    (plain,) = _questions([{"text": "is it ?", "weight": 1.0, "levels": {"none": None}}])
    assert plain.levels == ()

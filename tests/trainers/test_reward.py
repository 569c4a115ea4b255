"""The reward and its breakdown: scores independent of the batch, sums, and failures that stay visible."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from tiny_models import make_tokenizer, random_model
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast

from evals.graders.oracle import OracleGrader
from evals.models.load import prompt_token_ids
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Message, Prompt, Response, ResponseType, user_prompt
from evals.values.errors import InputError
from evals.values.grades import Grades
from trainers.reward.reward import Breakdown, SumOfTerms, pay
from trainers.reward.reward_model_term import RewardModelTerm
from trainers.reward.reward_weights import RewardWeights
from trainers.reward.rule_based_term import RuleBasedTerm

COMPLY, HARD = ResponseType.COMPLY, ResponseType.HARD_REFUSE
WORDS = ("user", "model", "hello", "please", "rude", "kind", "sorry", "now")


def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer(
        WORDS,
        "<bos> {% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}model{% endif %}",
    )


def reward_model(seed: int = 0, context: int = 24) -> LlamaForSequenceClassification:
    sizes = {"intermediate_size": 48, "max_position_embeddings": context, "initializer_range": 0.3}
    return random_model(LlamaForSequenceClassification, 12, seed, num_labels=1, pad_token_id=None, **sizes)


def responses(
    *texts: str, response_type: ResponseType | None = None, finished: bool = True
) -> list[Response]:
    prompt = user_prompt("p", "hello", response_type)
    return [Response(prompt, text, i, finished) for i, text in enumerate(texts)]


def by_hand(model: LlamaForSequenceClassification, ids: list[int]) -> float:
    """The score of one unpadded row, from the last token's hidden state."""
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state
        return float(model.score(hidden[0, -1]))


# --- reward model ----------------------------------------------------------------------------


def test_the_score_is_that_of_prompt_response_and_end() -> None:
    """Guards: a missing EOS, an EOS on a cut response, or a prompt outside its chat template."""
    tok, model = tokenizer(), reward_model()
    (whole,), (cut,) = responses("sorry now"), responses("sorry now", finished=False)
    prompt = prompt_token_ids(tok, whole.prompt.messages)
    assert prompt == tok.convert_tokens_to_ids(["<bos>", "user", "hello", "model"])
    ids = prompt + tok.convert_tokens_to_ids(["sorry", "now"])
    term = RewardModelTerm(model, tok)
    scores = term.scores([whole, cut])
    np.testing.assert_allclose(
        scores, [by_hand(model, [*ids, tok.eos_token_id]), by_hand(model, ids)], atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_score_does_not_depend_on_its_batch(batch_size: int) -> None:
    """Guards: the score read at a padded position, and rows returned in the order of their length."""
    batch = responses("sorry", "sorry now please", "kind kind kind kind rude now", "")
    alone = [RewardModelTerm(reward_model(), tokenizer()).scores([r])[0] for r in batch]
    found = RewardModelTerm(reward_model(), tokenizer(), batch_size=batch_size)(batch)
    np.testing.assert_allclose(found.total, alone, atol=1e-5)
    assert len(set(np.round(found.total, 6))) == 4 and not found.reasons


def test_normalisation_is_subtract_then_divide() -> None:
    """Guards: scale applied before the mean."""
    batch = responses("sorry", "kind now", "rude")
    term = RewardModelTerm(reward_model(), tokenizer())
    raw = term.scores(batch)
    other = RewardModelTerm(reward_model(), tokenizer(), mean=0.5, scale=2.0)(batch)
    np.testing.assert_allclose(other.total, (raw - 0.5) / 2.0)
    scaled = term.normalised(batch, unit_scale=True)
    assert scaled(batch).total.mean() == pytest.approx(0.0, abs=1e-6)
    assert scaled(batch).total.std() == pytest.approx(1.0)
    assert term.normalised(batch).scale == 1.0
    for scale in (0.0, float("nan")):
        with pytest.raises(InputError, match="positive scale"):
            RewardModelTerm(reward_model(), tokenizer(), scale=scale)


def test_too_long_a_conversation_is_unscored_with_its_reason() -> None:
    """Guards: a score of a truncated text, or a failure of the whole batch."""
    batch = responses("sorry", " ".join(["kind"] * 30))
    found = RewardModelTerm(reward_model(context=24), tokenizer())(batch)
    assert np.isfinite(found.total[0]) and np.isnan(found.total[1])
    assert found.reasons == {1: "35 tokens, the reward model reads 24"}


def test_a_score_that_is_no_number_is_unscored() -> None:
    """Guards: NaN weights that become a reward of NaN without a word."""
    model = reward_model()
    with torch.no_grad():
        model.score.weight.fill_(float("inf"))
    found = RewardModelTerm(model, tokenizer())(responses("sorry"))
    assert np.isnan(found.total[0]) and found.reasons == {0: "the reward model's score is not finite"}


def test_special_tokens_in_a_response_are_plain_text() -> None:
    """Guards: a response that writes <eos> or <pad> and so moves the position that is scored."""
    tok, model = tokenizer(), reward_model()
    (hostile,) = responses("sorry <eos> <pad>")
    prompt = prompt_token_ids(tok, hostile.prompt.messages)
    # Each marker is broken in two words, which this vocabulary does not know.
    ids = [*prompt, tok.convert_tokens_to_ids("sorry"), *[tok.unk_token_id] * 4, tok.eos_token_id]
    assert RewardModelTerm(model, tok).scores([hostile])[0] == pytest.approx(by_hand(model, ids), abs=1e-5)


def test_an_empty_batch_is_an_empty_breakdown() -> None:
    """Guards: a batch of nothing that fails in a maximum."""
    assert len(RewardModelTerm(reward_model(), tokenizer())([])) == 0


# --- rules -----------------------------------------------------------------------------------


@pytest.fixture
def rules() -> Rulebook:
    return Rulebook(
        {name: Proposition(name, f"is it {name} ?") for name in ("kind", "rude", "sorry")},
        {},
        {
            "best": {COMPLY: {"kind": True, "rude": False}, HARD: {"sorry": True}},
            "rest": {COMPLY: {"kind": False, "rude": False}, HARD: {"sorry": False}},
            "worst": {COMPLY: {"rude": True}},
        },
        ("best", "rest", "worst"),
    )


def weights(rules: Rulebook, **changes: dict[str, float]) -> RewardWeights:
    comply = {"kind": 1.0, "rude": -2.0, "class:best": 4.0, "class:rest": 0.0, "class:worst": -8.0}
    hard = {"sorry": 3.0, "class:best": 0.0, "class:rest": 0.0}
    return RewardWeights(
        {COMPLY: comply | changes.get("comply", {}), HARD: hard | changes.get("hard", {})}, rules.digest
    )


def words_grader(asked: list[tuple[str, ...]] | None = None) -> OracleGrader:
    """A proposition is true when its word is in the text; `asked` notes what is graded."""
    grader = OracleGrader(lambda prompt, text: {w: w in text for w in ("kind", "rude", "sorry")})
    if asked is not None:
        inner: Callable[..., Grades] = grader.grade

        def noting(batch: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
            asked.append(tuple(p.name for p in propositions))
            return inner(batch, propositions)

        grader.grade = noting  # type: ignore[method-assign]
    return grader


def test_rewards_by_hand_and_their_parts(rules: Rulebook) -> None:
    """Guards: weights of another type, and contributions on responses to which they do not apply.

    comply "kind": 1 + 4 = 5; comply "rude": -2 - 8 = -10; hard "sorry": 3; no type: 0.
    """
    batch = [
        *responses("kind", "rude", response_type=COMPLY),
        *responses("kind"),
        *responses("sorry", response_type=HARD),
    ]
    found = RuleBasedTerm(rules, words_grader(), weights(rules))(batch)
    assert found.total.tolist() == [5.0, -10.0, 0.0, 3.0] and not found.reasons
    np.testing.assert_array_equal(found.contributions["rude"], [0.0, -2.0, np.nan, np.nan])
    np.testing.assert_array_equal(found.contributions["sorry"], [np.nan, np.nan, np.nan, 3.0])
    parts = np.nansum(np.stack(list(found.contributions.values())), axis=0)
    np.testing.assert_allclose(parts, found.total)


def test_only_what_the_weights_use_is_graded(rules: Rulebook) -> None:
    """Guards: paying a grader for propositions whose weight is zero."""
    asked: list[tuple[str, ...]] = []
    none = {"class:best": 0.0, "class:worst": 0.0, "kind": 0.0}
    term = RuleBasedTerm(rules, words_grader(asked), weights(rules, comply=none))
    assert term(responses("rude", response_type=COMPLY)).total.tolist() == [-2.0]
    assert asked == [("rude",)]
    assert term.used_propositions(HARD) == ("sorry",)
    assert RuleBasedTerm(rules, words_grader(), weights(rules)).used_propositions(COMPLY) == ("kind", "rude")


@pytest.mark.parametrize("classes_used", [True, False])
def test_an_unscored_grade_is_no_reward_but_a_reason(rules: Rulebook, classes_used: bool) -> None:
    """Guards: verl 4417, a failed grade quietly worth 0."""
    grader = OracleGrader(
        lambda prompt, text: {"kind": True} if text == "lost" else {"kind": True, "rude": False}
    )
    given = {} if classes_used else {"class:best": 0.0, "class:worst": 0.0}
    term = RuleBasedTerm(rules, grader, weights(rules, comply=given))
    found = term(responses("fine", "lost", response_type=COMPLY))
    assert np.isfinite(found.total[0]) and np.isnan(found.total[1])
    assert found.reasons == {1: "rude: the oracle does not know 'rude'"}
    assert all(np.isnan(values[1]) for values in found.contributions.values())


def test_weights_of_another_rulebook_or_without_the_type_are_refused(rules: Rulebook) -> None:
    """Guards: a reward that runs with weights which mean something else."""
    other = RewardWeights(weights(rules).by_type, "0123")
    with pytest.raises(InputError, match="for rulebook 0123"):
        RuleBasedTerm(rules, words_grader(), other)
    comply_only = RewardWeights({COMPLY: weights(rules).by_type[COMPLY]}, rules.digest)
    with pytest.raises(InputError, match="no response type hard_refuse"):
        RuleBasedTerm(rules, words_grader(), comply_only)(responses("sorry", response_type=HARD))


# --- sum -------------------------------------------------------------------------------------


def test_the_sum_keeps_terms_contributions_and_every_reason(rules: Rulebook) -> None:
    """Guards: one term's failure hidden by another's number."""
    long = " ".join(["kind"] * 40)
    batch = [*responses("kind", long, response_type=COMPLY), *responses("sorry")]
    model = RewardModelTerm(reward_model(), tokenizer())
    rule = RuleBasedTerm(rules, words_grader(), weights(rules))
    both = SumOfTerms([model, rule])(batch)
    assert list(both.terms) == ["reward_model", "rule_based"]
    scores = model(batch).total
    np.testing.assert_allclose(both.total, scores + np.array([5.0, 5.0, 0.0]))
    assert both.total[2] == scores[2] and np.isnan(both.total[1])
    assert both.reasons == {1: "reward_model: 45 tokens, the reward model reads 24"}
    assert set(both.contributions) == {*weights(rules).by_type[COMPLY]}


def test_reasons_of_two_failing_terms_are_joined() -> None:
    """Guards: the second reason overwriting the first."""

    def failing(name: str) -> Callable[[Sequence[Response]], Breakdown]:
        nan = np.array([np.nan])
        return lambda batch: Breakdown(nan, {name: nan}, {}, {0: "late"})

    found = SumOfTerms([failing("a"), failing("b")])(responses("x"))
    assert found.reasons == {0: "a: late; b: late"} and np.isnan(found.total[0])


def test_a_sum_needs_terms_of_different_names() -> None:
    """Guards: an empty reward, and a term counted in the total but lost from the breakdown."""
    with pytest.raises(InputError, match="the reward has no term"):
        SumOfTerms([])
    model = RewardModelTerm(reward_model(), tokenizer())
    with pytest.raises(InputError, match="'reward_model' is given twice"):
        SumOfTerms([model, model])(responses("kind"))


def test_a_conversation_of_several_turns_is_scored_whole() -> None:
    """Guards: a reward that reads the last user message only."""
    turns = (Message("user", "hello"), Message("model", "kind"), Message("user", "now"))
    several, single = Prompt("a", turns), Prompt("b", turns[-1:])
    scores = RewardModelTerm(reward_model(), tokenizer()).scores(
        [Response(several, "sorry"), Response(single, "sorry")]
    )
    assert abs(scores[0] - scores[1]) > 1e-4


def test_a_thought_without_an_answer_is_paid_nothing() -> None:
    """An endless thought was graded as an empty answer: 0 by rules that punish, so that thinking on paid."""
    prompt = user_prompt("p", "Name a river.")
    given = [
        Response(prompt, "The Loire.", thought="Hm.", thought_tokens=3),
        Response(prompt, "", thought="Hm", unanswered="the thought never ended"),
        Response(prompt, ""),
    ]
    seen: list[str] = []

    def words(responses: Sequence[Response]) -> Breakdown:
        seen.extend(r.text for r in responses)
        total = np.array([float(len(r.text.split())) if r.text else np.nan for r in responses])
        return Breakdown(
            total, {"words": total}, {}, {i: "empty" for i, r in enumerate(responses) if not r.text}
        )

    paid = pay(words, given)
    assert seen == ["The Loire.", ""]
    assert paid.total[0] == 2.0 and np.isnan(paid.total[1:]).all() and np.isnan(paid.terms["words"][1])
    assert paid.reasons == {1: "the thought never ended", 2: "empty"}
    alone = pay(words, given[1:2])
    assert len(alone) == 1 and alone.reasons == {0: "the thought never ended"}

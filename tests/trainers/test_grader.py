"""A small causal model learns to grade, through the same code that grades afterwards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_models import CHAT_MARKS, make_tokenizer, random_model
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from evals.graders.calibration import MEAN, calibrate
from evals.graders.language_model import LanguageModelGrader
from evals.graders.question import PLAIN, GraderPrompt, Layout
from evals.rules.propositions import Proposition
from evals.values.conversation import LabelledResponse, Response, user_prompt
from evals.values.errors import InputError
from trainers.supervised.grader import MISSING, answer_loss, answer_weights, rate, train_grader
from trainers.supervised.grader_config import GraderTrainingConfig

NOUNS = ["cake", "soup", "boat"]
FILLERS = ["the", "a", "today", "please", "well", "then"]
RULES = {
    name: Proposition(name, question)
    for name, question in {
        "apology": "is it an apology",
        "noun": "does it name a noun",
        "asked_cake": "is it the cake",
    }.items()
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = [*NOUNS, *FILLERS, *"yes no sorry is it an apology does name noun fit".split()]
    return make_tokenizer(
        words,
        "<bos>{% for m in messages %} <{{ m.role }}> {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %} <assistant>{% else %} <eos>{% endif %}",
        marks=CHAT_MARKS,
    )


def model(context: int = 128) -> PreTrainedModel:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    return random_model(LlamaForCausalLM, 40, max_position_embeddings=context, pad_token_id=None, **sizes)


def examples(count: int, seed: int) -> list[LabelledResponse]:
    """Prompts about a noun; responses that apologise or not and name a noun or not."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        topic = str(rng.choice(NOUNS))
        apology, noun = (bool(b) for b in rng.random(2) < 0.5)
        words = list(rng.choice(FILLERS, size=rng.integers(1, 4)))
        words += ["sorry"] * apology + [str(rng.choice(NOUNS))] * noun
        rng.shuffle(words)
        labels = {"apology": apology, "noun": noun, "asked_cake": topic == "cake"}
        response = Response(user_prompt(str(number), f"please name {topic}"), " ".join(words))
        rows.append(LabelledResponse(response, labels))
    return rows


def train(count: int, **settings: object) -> PreTrainedModel:
    config = GraderTrainingConfig(**({"epochs": 10, "learning_rate": 3e-3} | settings))  # type: ignore[arg-type]
    return train_grader(model(), tokenizer(), examples(count, seed=0), RULES, config)


def test_a_grader_learns_lexical_rules_and_one_that_needs_the_prompt() -> None:
    """A grader that cannot see the prompt cannot know what was asked: asked_cake would stay at chance."""
    counts: list[int] = []
    config = GraderTrainingConfig(epochs=8, learning_rate=3e-3, propositions_per_step=2)
    trained = train_grader(model(), tokenizer(), examples(800, seed=0), RULES, config, counts.append)
    assert sum(counts) == 8 * 800
    unseen = examples(200, seed=1)
    grades = LanguageModelGrader(trained, tokenizer()).grade(
        [e.response for e in unseen], list(RULES.values())
    )
    rows = {str(row["proposition"]): row for row in calibrate("trained", grades, unseen, draws=10)}
    assert rows["apology"]["balanced_accuracy"] > 0.98  # type: ignore[operator]
    assert rows["noun"]["balanced_accuracy"] > 0.98  # type: ignore[operator]
    assert rows["asked_cake"]["balanced_accuracy"] > 0.98  # type: ignore[operator]
    assert rows[MEAN]["n_unscored"] == 0


def test_same_seed_same_weights_and_another_seed_others() -> None:
    """An unseeded order of batches makes metrics.csv differ between two runs."""
    first, again, other = (train(96, epochs=1, seed=seed).lm_head.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_callers_random_state_is_left_alone() -> None:
    """Training that draws from the global generator would change whatever is trained after it."""
    network, data = model(), examples(40, 0)
    before = torch.get_rng_state()
    train_grader(network, tokenizer(), data, RULES, GraderTrainingConfig(epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_loss_by_hand() -> None:
    """Vocabulary of 3: no is token 0, yes token 2; P(yes) = .5, then .25; the second label counts double."""
    logits = torch.tensor([[[0.3, 0.2, 0.5], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).log()
    labels = torch.tensor([[1, 0, MISSING]])
    weights = torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    targets = torch.tensor([[0, 0, 0], [2, 2, 2]])
    loss = answer_loss(logits, labels, targets, weights)
    assert loss.item() == pytest.approx((-math.log(0.5) - 2 * math.log(0.5)) / 3)
    nothing = answer_loss(logits, torch.full((1, 3), MISSING), targets, weights)
    assert nothing.item() == 0


def test_weights_by_hand() -> None:
    """3 no and 1 yes: full balance weighs them 4/6 and 4/2; an answer that never occurs keeps 1."""
    labels = torch.tensor([[0, 0], [0, 0], [0, 0], [1, MISSING]])
    torch.testing.assert_close(answer_weights(labels, 1.0), torch.tensor([[4 / 6, 0.5], [2.0, 1.0]]))
    torch.testing.assert_close(answer_weights(labels, 0.0), torch.ones(2, 2))


def test_learning_rate_rises_and_falls() -> None:
    """Linear over the first tenth, then a cosine that ends near 0."""
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and max(rates) == 1.0
    assert rates[55] == pytest.approx(0.5) and 0 < rates[99] < 0.001
    assert rate(0, 1, 0.0) == 1.0


def test_a_proposition_without_label_is_left_out() -> None:
    """Counted as false, every response of another response type would teach the grader to say no."""
    half = [
        LabelledResponse(e.response, {"apology": True} if i % 2 else {})
        for i, e in enumerate(examples(64, 0))
    ]
    trained = train_grader(
        model(), tokenizer(), half, RULES, GraderTrainingConfig(epochs=4, learning_rate=5e-3, batch_size=8)
    )
    grades = LanguageModelGrader(trained, tokenizer()).grade([e.response for e in half], [RULES["apology"]])
    assert grades.probability.min() > 0.9


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"learning_rate": 0.0}, "grader.learning_rate"),
        ({"epochs": 0}, "grader.epochs"),
        ({"batch_size": 0}, "grader.batch_size"),
        ({"balance": 2.0}, "grader.balance"),
        ({"warmup": 1.0}, "grader.warmup"),
        ({"prompt": GraderPrompt(Layout.QUESTION_FIRST, "{question} {response}")}, "grader.prompt.layout"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, field: str) -> None:
    """One line that names the setting, before any training."""
    with pytest.raises(InputError, match=f"field '{field}'"):
        GraderTrainingConfig(**settings)


def test_data_that_cannot_be_learnt_from_is_refused() -> None:
    """Nothing labelled, or a response longer than the model, is told before the first step."""
    config = GraderTrainingConfig(prompt=PLAIN)
    with pytest.raises(InputError, match="no response has a label"):
        train_grader(model(), tokenizer(), [], RULES, config)
    with pytest.raises(InputError, match="no response has a label"):
        train_grader(model(), tokenizer(), [LabelledResponse(examples(1, 0)[0].response, {})], RULES, config)
    with pytest.raises(InputError, match="prompt '0' needs .* tokens, the grader has room for 12"):
        train_grader(model(context=12), tokenizer(), examples(1, 0), RULES, config)

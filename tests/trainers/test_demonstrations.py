"""trainers/supervised/sft.py: what of a demonstration is learnt."""

from __future__ import annotations

from tiny_models import make_tokenizer, numbered_words

from evals.values.conversation import Demonstration, user_prompt
from trainers.supervised.sft import demonstration_rows


def test_a_cut_response_is_learnt_without_its_end() -> None:
    """The rules' demonstrations that a token limit had cut taught the model to stop in the middle of a sentence."""
    tokenizer, prompt = make_tokenizer(numbered_words(9)), user_prompt("1", "w1")
    whole, cut = demonstration_rows(
        tokenizer, [Demonstration(prompt, "w2 w3"), Demonstration(prompt, "w2 w3", finished=False)]
    )
    assert whole["input_ids"] == [*cut["input_ids"], tokenizer.eos_token_id]
    assert whole["completion_mask"] == [*cut["completion_mask"], 1]

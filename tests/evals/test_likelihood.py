"""How likely a model is to write a text: batches, temperatures, what cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from ppo_world import make_policy, make_prompts, make_tokenizer

from evals.models.chat import ResponseEncoder
from evals.models.likelihood import response_log_probs
from evals.models.load import prompt_token_ids
from evals.values.conversation import Response


def test_a_text_is_as_likely_in_a_batch_as_by_itself() -> None:
    """A shift by one token, or padding that counts: samples of another policy were weighted at random."""
    model, tokenizer = make_policy(spread=0.6), make_tokenizer()
    words = [word for word in tokenizer.get_vocab() if word.isalnum()]
    responses = [
        Response(prompt, " ".join(words[: 1 + 2 * place]), finished=bool(place % 2))
        for place, prompt in enumerate(make_prompts()[:4])
    ]
    found = response_log_probs(model, tokenizer, responses, (1.0, 2.0))
    for response, row in zip(responses, found, strict=True):
        start = prompt_token_ids(tokenizer, response.prompt.messages)
        (own,) = ResponseEncoder(tokenizer)([response.text], [response.finished])
        with torch.no_grad():
            logits = model(torch.tensor([start + own])).logits[0].float()
        for temperature, value in zip((1.0, 2.0), row, strict=True):
            by_token = (logits / temperature).log_softmax(-1)[len(start) - 1 : -1]
            assert value == pytest.approx(float(by_token[range(len(own)), own].sum()), abs=1e-4)


def test_what_cannot_be_told_is_none() -> None:
    """A text that the model cannot read, or half of what it wrote, as a likelihood."""
    model, tokenizer = make_policy(), make_tokenizer()
    word = next(word for word in tokenizer.get_vocab() if word.isalnum())
    response = Response(make_prompts()[0], word)
    long = replace(response, text=" ".join([word] * 5000))
    assert response_log_probs(model, tokenizer, [long, replace(response, thought="hm")]) == [[None], [None]]

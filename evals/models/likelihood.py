"""How likely a model is to write given responses: log-probabilities of whole texts, in nats."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat import ResponseEncoder
from evals.models.load import context_length, prompt_token_ids
from evals.values.conversation import Response

NUMBERS = 16_000_000  # of a batch's logits, at most


def response_log_probs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    responses: Sequence[Response],
    temperatures: Sequence[float] = (1.0,),
    progress: Callable[[int], None] | None = None,
) -> list[list[float | None]]:
    """log P(response | prompt) at each temperature, [responses][temperatures].

    The text is read as a training reads it (`ResponseEncoder`): prompt in the chat template, the response, the end of
    its turn where it finished. None for a conversation that is longer than the model's context, and for an answer
    after a thought: its likelihood is over all thoughts.
    """
    texts = ResponseEncoder(tokenizer)([r.text for r in responses], [r.finished for r in responses])
    prompts = {r.prompt: prompt_token_ids(tokenizer, r.prompt.messages) for r in responses}
    rows = [(prompts[r.prompt], text) for r, text in zip(responses, texts, strict=True)]
    limit = context_length(model)
    found: list[list[float | None]] = [[None] * len(temperatures) for _ in rows]
    order = sorted(
        (i for i, (a, b) in enumerate(rows) if len(a) + len(b) <= limit and not responses[i].thought),
        key=lambda i: sum(map(len, rows[i])),
    )
    vocabulary = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr, index, arg-type]
    training = model.training
    model.eval()
    try:
        start = 0
        while start < len(order):
            longest = sum(map(len, rows[order[min(start + 63, len(order) - 1)]]))
            size = max(1, min(64, NUMBERS // (vocabulary * longest)))
            batch = order[start : start + size]
            for row, values in zip(batch, _batch(model, [rows[i] for i in batch], temperatures), strict=True):
                found[row] = values
            start += size
            if progress is not None:
                progress(len(batch))
    finally:
        model.train(training)
    return found


@torch.no_grad()
def _batch(
    model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]], temperatures: Sequence[float]
) -> list[list[float | None]]:
    """Rows are (prompt, response) token ids; padded on the right, where nothing sees the padding."""
    width = max(len(a) + len(b) for a, b in rows)
    ids = torch.tensor([a + b + [0] * (width - len(a) - len(b)) for a, b in rows], device=model.device)
    mask = torch.tensor([[1] * (len(a) + len(b)) + [0] * (width - len(a) - len(b)) for a, b in rows])
    logits = model(input_ids=ids, attention_mask=mask.to(ids.device), use_cache=False).logits.float()
    said = torch.zeros_like(mask, dtype=torch.bool)
    for row, (a, b) in enumerate(rows):
        said[row, len(a) : len(a) + len(b)] = True
    said, targets = said[:, 1:].to(ids.device), ids[:, 1:, None]
    found: list[list[float | None]] = [[] for _ in rows]
    for temperature in temperatures:
        scaled = (logits[:, :-1] / temperature).log_softmax(-1).gather(2, targets)[..., 0]
        total = torch.where(said, scaled.double(), 0.0).sum(1)
        for values, value in zip(found, total.tolist(), strict=True):
            values.append(value)
    return found

"""lm-eval's own Hugging Face model, over a model in memory, with its overhead taken out.

What is scored and how is HFLM's. Three things differ. The strings of all requests are tokenized in one
call of the fast tokenizer instead of two calls a request, beginnings that many requests share (few-shot
examples) are computed once, and what lm-eval would tell in thousands of log lines (a context that does not
fit) is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.capability.requests import ItemsDone, parted
from evals.capability.shared_prefix import Answer, Request, score_shared
from evals.models.load import context_length
from evals.values.errors import InputError


class InMemoryLM(HFLM):
    """`truncated` counts, by lm-eval task name, the items of the last run whose beginning was cut off.

    `unscored` is empty: a model in memory answers every request.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_length=context_length(model),
        )
        self.progress = progress
        self.truncated: Counter[str] = Counter()
        self.unscored: dict[tuple[str, int], str] = {}
        self._encoded: dict[str, list[int]] = {}

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        self._encoded = self._encode([text for request in requests for text in _texts(*request.args)])
        self._check_lengths(requests)
        self._count(requests)
        try:
            return super().loglikelihood(list(requests), disable_tqdm=True)
        finally:
            self._encoded = {}

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        self._check_rooms(requests)
        self._count(requests)
        return super().generate_until(list(requests), disable_tqdm=True)

    def _count(self, requests: Sequence[Any]) -> None:
        if self.progress is not None:
            self.set_cache_hook(ItemsDone(requests, self.progress))

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, **options: Any
    ) -> list[Answer]:
        def finished(place: int, answer: Answer) -> None:
            self.cache_hook.add_partial("loglikelihood", requests[place][0], answer)

        found = score_shared(
            self.model,
            requests,
            max_length=self.max_length,
            batch_size=int(self.batch_size),
            pad=self.tokenizer.pad_token_id or 0,
            dtype=self.softmax_dtype,
            finished=finished,
        )
        rest = [place for place in range(len(requests)) if place not in found]
        if rest:
            alone = super()._loglikelihood_tokens([requests[i] for i in rest], disable_tqdm, **options)
            found |= zip(rest, alone, strict=True)
        return [found[place] for place in range(len(requests))]

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: Any) -> list[int]:
        if add_special_tokens is None and not options and string in self._encoded:
            return self._encoded[string]
        return super().tok_encode(string, add_special_tokens, **options)

    def _model_call(self, inps: torch.Tensor, **options: Any) -> torch.Tensor:
        if options:
            return super()._model_call(inps, **options)
        with torch.inference_mode():
            # Nothing is generated: keys and values need not be kept.
            return self.model(inps, use_cache=False).logits

    def _encode(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Token ids of each text, by HFLM's rule: no special tokens where BOS is written out already."""
        begin = self.tokenizer.decode(self.prefix_token_id)
        encoded: dict[str, list[int]] = {}
        for written, special in ((True, {"add_special_tokens": False}), (False, {})):
            group = list(dict.fromkeys(t for t in texts if t and t.startswith(begin) == written))
            if group:
                rows = self.tokenizer(group, verbose=False, return_attention_mask=False, **special)
                encoded |= zip(group, rows["input_ids"], strict=True)
        return encoded

    def _check_rooms(self, requests: Sequence[Any]) -> None:
        """Counts the contexts that lose their beginning to the room for the answer."""
        contexts = self.tokenizer([request.args[0] for request in requests], verbose=False)["input_ids"]
        cut: set[tuple[str, int]] = set()
        for request, context in zip(requests, contexts, strict=True):
            answer = normalize_gen_kwargs(request.args[1], self.max_gen_toks)["max_gen_toks"]
            if answer >= self.max_length:
                asks = f"{request.task_name!r} asks for answers of {answer} tokens"
                problem = f"{asks}, the model holds {self.max_length}"
                raise InputError(problem, field="capability.tasks", fix="leave the task out for this model")
            if len(context) > self.max_length - answer:
                cut.add((request.task_name, request.doc_id))
        self.truncated.update(name for name, _ in cut)

    def _check_lengths(self, requests: Sequence[Any]) -> None:
        cut: set[tuple[str, int]] = set()
        for request in requests:
            if not request.args[0]:
                continue
            whole, context = (len(self._encoded.get(text, ())) for text in _texts(*request.args))
            if not 0 < whole - context <= self.max_length:
                where = f"item {request.doc_id} of {request.task_name!r}"
                fix = f"answers need 1 to {self.max_length} tokens with this model and tokenizer"
                raise InputError(f"an answer of {where} has {whole - context} tokens", fix=fix)
            if whole > self.max_length + 1:
                cut.add((request.task_name, request.doc_id))
        self.truncated.update(name for name, _ in cut)


def _texts(context: str, continuation: str) -> tuple[str, str]:
    """The two strings that HFLM encodes for a request."""
    return context + continuation, parted(context, continuation)[0]

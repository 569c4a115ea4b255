"""A server of a tiny model that says how likely given texts are, in the dialects that it is told to take.

Its answers have the shapes that vLLM (`prompt_logprobs`), the completions endpoint (`echo`) and llama.cpp
(`/completion`) document; what it does not take it ignores, as those servers do, or refuses.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from tiny_servers import Handler, JsonServer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.models.chat import chat_text

PROMPT_LOGPROBS, ECHO, LLAMA = "prompt_logprobs", "echo", "llama"


class ScoringServer(JsonServer):
    """`takes`: the dialects. `shifted`: its log-probabilities of given texts are of the token before, as some are.

    `knows_top_k`: without, it draws among all tokens whatever it is asked. `tells_ends`: the token that ends an answer
    is listed with the others; llama-cpp-python does not.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        takes: Collection[str] = (PROMPT_LOGPROBS,),
        *,
        shifted: bool = False,
        knows_top_k: bool = True,
        tells: bool = True,
        tells_ends: bool = True,
    ) -> None:
        super().__init__()
        self.model, self.tokenizer, self.takes = model.eval(), tokenizer, takes
        self.shifted, self.knows_top_k, self.tells = shifted, knows_top_k, tells
        self.tells_ends = tells_ends
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        with self.lock:
            self.bodies.append(body)
            self.paths.append(handler.path)
            content = self._of(handler.path, body)
        handler.send(404 if content is None else 200, content or {"error": {"message": "not found"}})

    def _of(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/v1/chat/completions":
            return self._chat(body)
        if path == "/v1/completions":
            return self._completion(body)
        return self._llama(path, body) if LLAMA in self.takes else None

    # --- the API ------------------------------------------------------------------------------

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = self._tokens(self._template(body["messages"], body.get("add_generation_prompt", True), body))
        new = self._write(ids, body)
        tokens = [token for token in new if token != self.tokenizer.eos_token_id]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if len(tokens) < len(new) else "length"}
        choice["message"] = {"role": "assistant", "content": " ".join(self._words(tokens))}
        if body.get("logprobs") and self.tells:
            content, rows = [], self._rows([*ids, *new])[len(ids) :]
            for place, (token, row) in enumerate(zip(new if self.tells_ends else tokens, rows, strict=False)):
                word = self._words([token])[0]
                piece = word if place == 0 or token == self.tokenizer.eos_token_id else f" {word}"
                top = row.topk(min(int(body.get("top_logprobs") or 0), len(row)))
                content.append({"token": piece, "logprob": float(row[token]), "bytes": None})
                content[-1]["top_logprobs"] = [
                    {"token": self._words([i])[0], "logprob": v}
                    for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
                ]
            choice["logprobs"] = {"content": content}
        whole = self._whole("chat.completion", choice, ids, new)
        if PROMPT_LOGPROBS in self.takes and "prompt_logprobs" in body:
            whole["prompt_logprobs"] = self._prompt_logprobs(ids, body["prompt_logprobs"])
        return whole

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = self._tokens(body["prompt"])
        new = self._write(ids, body)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length"}
        choice["text"] = "".join(f" {word}" for word in self._words(new))
        if PROMPT_LOGPROBS in self.takes and "prompt_logprobs" in body:
            choice["prompt_logprobs"] = self._prompt_logprobs(ids, body["prompt_logprobs"])
        if body.get("logprobs"):
            echoed = ids if body.get("echo") and ECHO in self.takes else []
            choice["logprobs"] = self._columns(ids, new, echoed, int(body["logprobs"]))
        return self._whole("text_completion", choice, ids, new)

    def _columns(self, ids: list[int], new: list[int], echoed: list[int], listed: int) -> dict[str, Any]:
        every, rows = [*ids, *new], self._rows([*ids, *new], bool(echoed))
        places = range(0 if echoed else len(ids), len(every))
        tops = [rows[place].topk(listed) if place else None for place in places]
        return {
            "tokens": [self._piece(every, place) for place in places],
            "token_logprobs": [float(rows[place][every[place]]) if place else None for place in places],
            "top_logprobs": [
                None
                if top is None
                else dict(zip(self._words(top.indices.tolist()), top.values.tolist(), strict=True))
                for top in tops
            ],
        }

    def _prompt_logprobs(self, ids: list[int], listed: int) -> list[dict[str, Any] | None]:
        rows, found = self._rows(ids, True), []
        for place, token in enumerate(ids):
            top = rows[place].topk(listed)
            entry = {
                str(i): {"logprob": float(rows[place][i]), "decoded_token": self._piece([i], 0)}
                for i in [token, *top.indices.tolist()]
            }
            entry[str(token)]["decoded_token"] = self._piece(ids, place)
            found.append(entry if place else None)
        return found

    def _whole(self, kind: str, choice: dict[str, Any], ids: list[int], new: list[int]) -> dict[str, Any]:
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(new)}
        return {"id": "1", "object": kind, "created": 0, "model": "m", "choices": [choice], "usage": usage}

    # --- llama.cpp's own ------------------------------------------------------------------------

    def _llama(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        if path == "/tokenize":
            return {"tokens": self._tokens(body["content"])}
        if path == "/apply-template":
            return {"prompt": self._template(body["messages"], True, body)}
        if path != "/completion":
            return None
        ((token, _),), rows = body["logit_bias"], self._rows([*body["prompt"], 0])
        top = rows[-1].topk(body["n_probs"])
        likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        first = {"id": token, "token": self._words([token])[0], "logprob": float(rows[-1][token])}
        first["top_logprobs"] = [{"id": i, "logprob": v} for i, v in likeliest]
        return {
            "content": "",
            "completion_probabilities": [first],
            "tokens_evaluated": len(body["prompt"]),
            "tokens_predicted": 1,
        }

    # --- the model --------------------------------------------------------------------------------

    def _template(self, turns: Sequence[dict[str, str]], generation: bool, body: dict[str, Any]) -> str:
        from evals.values.conversation import Message

        messages = [Message(turn["role"], turn["content"]) for turn in turns]
        if body.get("continue_final_message"):
            before = chat_text(self.tokenizer, messages[:-1])
            return f"{before} {messages[-1].content}"
        return chat_text(self.tokenizer, messages, generation=generation)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _words(self, ids: Sequence[int]) -> list[str]:
        return [str(word) for word in self.tokenizer.convert_ids_to_tokens(list(ids))]

    def _piece(self, ids: Sequence[int], place: int) -> str:
        (word,) = self._words([ids[place]])
        return word if place == 0 else f" {word}"

    @torch.inference_mode()
    def _rows(self, ids: Sequence[int], given: bool = False) -> torch.Tensor:
        """Log-probabilities [tokens, vocabulary] at each token's place; of no use at the first."""
        logits = self.model(torch.tensor([list(ids)])).logits[0].float().log_softmax(-1)
        back = 2 if given and self.shifted else 1
        return torch.cat([logits[:1].expand(back, -1), logits[:-back]]) if len(ids) > back else logits

    def _write(self, ids: Sequence[int], body: dict[str, Any]) -> list[int]:
        generator = torch.Generator().manual_seed(int(body.get("seed") or 0))
        new: list[int] = []
        while len(new) < int(body.get("max_tokens") or 1):
            row = self._rows([*ids, *new, 0])[-1]
            if not body.get("temperature"):
                new.append(int(row.argmax()))
            else:
                row = row / float(body["temperature"])
                most = int(body.get("top_k") or 0) if self.knows_top_k else 0
                if 0 < most < len(row):
                    row = row.masked_fill(row < row.topk(most).values[-1], -math.inf)
                new.append(int(torch.multinomial(row.softmax(-1), 1, generator=generator)))
            if new[-1] == self.tokenizer.eos_token_id:
                break
        return new

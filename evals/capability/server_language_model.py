"""lm-eval's model over a server that says how likely given texts are (`evals.models.given_texts.understood`).

Requests are lm-eval's own: a context and what follows it, spaces at the context's end being the continuation's. A
request without an answer leaves its item out, with the reason. Tasks of generation ask the completions endpoint.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from lm_eval.api.model import LM

from evals.capability.requests import ItemsDone, parted
from evals.models.given_texts.understood import GivenTexts
from evals.models.token_log_probs import TokenLogProbs
from evals.values.errors import InputError
from evals.values.grades import Unscored

NO_ANSWER = (-1e9, False)  # of a request without an answer, whose item is left out
MOST_TOKENS = 256  # of an answer, where a task does not say; lm-eval's own
Answer = list[Any]  # [log-probability, whether it is the first choice], or [text]


class ServerLM(LM):
    """`known` answers are not asked again, and `keep` has each as it comes: (key, answer).

    `unscored` says why, by (task, document); `truncated` is empty: a server cuts nothing, it refuses.
    """

    def __init__(
        self,
        texts: GivenTexts,
        *,
        known: Mapping[str, Answer] | None = None,
        keep: Callable[[str, Answer], object] = lambda key, answer: None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self._texts, self._known, self._keep, self._progress = texts, dict(known or {}), keep, progress
        self.tokenizer = SimpleNamespace(chat_template=None)  # the server's own is not at hand
        self.truncated: Counter[str] = Counter()
        self.unscored: dict[tuple[str, int], str] = {}

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        pairs = [parted(*request.args) for request in requests]
        if empty := next((r for r, (context, _) in zip(requests, pairs, strict=True) if not context), None):
            problem = f"an item of {empty.task_name!r} has no context, which servers need"
            raise InputError(problem, field="capability.tasks", fix="leave the task out for a server")

        def ask(missing: Sequence[int]) -> Any:
            return self._texts.of_texts(pairs[i] for i in missing)

        def read(found: TokenLogProbs) -> Answer:
            return [found.total, found.greedy]

        answers = self._answers(requests, [_key("likelihood", *pair) for pair in pairs], ask, read)
        return [NO_ANSWER if one is None else (float(one[0]), bool(one[1])) for one in answers]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[str]:
        asked = [(str(request.args[0]), dict(request.args[1])) for request in requests]

        def ask(missing: Sequence[int]) -> Any:
            return self._texts.server.map(lambda i: self._written(*asked[i]), missing)

        keys = [_key("written", context, repr(sorted(options.items()))) for context, options in asked]
        answers = self._answers(requests, keys, ask, lambda text: [text])
        return ["" if one is None else str(one[0]) for one in answers]

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = True) -> list[float]:
        problem = f"task {requests[0].task_name!r} scores whole texts, whose first token no server tells"
        raise InputError(problem, field="capability.tasks", fix="leave the task out for a server")

    def _answers(
        self,
        requests: Sequence[Any],
        keys: Sequence[str],
        ask: Callable[[Sequence[int]], Any],
        read: Callable[[Any], Answer],
    ) -> list[Answer | None]:
        """In order, None where there is none; each key is asked once."""
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            if key not in self._known:
                first.setdefault(key, place)
        counter, times = ItemsDone(requests, self._progress), Counter(keys)
        counter.done(sum(key in self._known for key in keys))
        reasons: dict[str, str] = {}
        for key, found in zip(first, ask(list(first.values())), strict=True):
            if isinstance(found, Unscored):
                reasons[key] = found.reason
            else:
                self._known[key] = read(found)
                self._keep(key, self._known[key])
            counter.done(times[key])
        for request, key in zip(requests, keys, strict=True):
            if key in reasons:
                self.unscored[request.task_name, request.doc_id] = reasons[key]
        return [self._known.get(key) for key in keys]

    def _written(self, context: str, options: Mapping[str, Any]) -> str | Unscored:
        """What the server writes after a context, up to the first of the task's ends."""
        until = options.get("until") or []
        ends = [until] if isinstance(until, str) else [end for end in until if end]
        limit = int(options.get("max_gen_toks") or MOST_TOKENS)
        stop = {"stop": ends[:4]} if ends else {}  # as many as the API takes; the text is cut at all of them
        answer = self._texts.server.complete_text(context, max_tokens=limit, temperature=0, **stop)
        if isinstance(answer, Unscored):
            return answer
        try:
            text = str(answer.choices[0].text or "")
        except (AttributeError, LookupError, TypeError):
            return Unscored("the server's answer is malformed")
        for end in ends:
            text = text.partition(end)[0]
        return text


def _key(kind: str, *parts: str) -> str:
    return hashlib.sha256("\0".join((kind, *parts)).encode("utf-8", "replace")).hexdigest()

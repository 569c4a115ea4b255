"""Any OpenAI-compatible endpoint as grader.

One chat request a (response, proposition): the conversation as turns, then the question as a user's
turn; the grade is read from the log-probabilities of the first token of the answer, or, of a server that
gives none or thinks first, from the last line of its text: of several samples the share of yes; or from how
likely yes and no are as answers that it is given (`evals.models.given_texts.understood`), four small texts a grade. The
server applies its own chat template, so content is cleaned of the markers of all common ones.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from evals.graders import GraderSpec
from evals.graders.language_model import NEITHER
from evals.graders.levels import SPACES, expected, masses, no_level
from evals.graders.question import GraderPrompt, Layout, ask
from evals.models.answer import reasoning_of, refusal_of, text_of
from evals.models.chat_server import ChatServer
from evals.models.given_texts.understood import GivenTexts, NotUnderstood, given_texts
from evals.models.server import GIVEN, TEXT, GraderServerSettings
from evals.models.server_failure import FEW
from evals.models.spending import Meter, Spending
from evals.models.thoughts import PAIRS, UNENDED, of_text
from evals.models.untrusted import marker_pattern, neutralise
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Message, Prompt, Response
from evals.values.errors import InputError
from evals.values.grades import Grades, Unscored
from evals.values.last_line import bare, last_line
from evals.values.levels import Levels, ScoredLevel, words_of

CHAT_MARKERS = (
    *(mark for pair in PAIRS for mark in pair),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    *("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "```"),
    *(
        "<|start|>",
        "<|channel|>",
        "<|message|>",
        "<|return|>",
        "<pad>",
        "<bos>",
        "<eos>",
        "<user>",
        "<assistant>",
    ),
)


class ServerGrader:
    """Grades through a server. Every failure of a request ends as Unscored with its reason."""

    def __init__(
        self,
        config: GraderServerSettings,
        name: str = "server",
        prompt: GraderPrompt | None = None,
        sleep: Callable[[float], None] = time.sleep,
        meter: Meter | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.prompt = prompt or GraderPrompt()
        if self.prompt.layout is not Layout.RESPONSE_FIRST or not self.prompt.as_turn or self.prompt.answer:
            raise InputError(
                "a chat server is asked in a turn after the response",
                field="grader.prompt",
                fix="use response_first with as_turn true",
            )
        meter = meter or Meter(config)
        self._server = ChatServer(config, sleep, meter)
        self._meter, self._finding = meter, threading.Lock()
        self._found: GivenTexts | Unscored | None = None
        self._refusals = 0
        self._markers = marker_pattern(CHAT_MARKERS)

    @property
    def identity(self) -> str:
        """Model, revision and prompt: what the grades depend on besides their inputs.

        Without a revision the address stands for it: two servers may call different weights by one name.
        """
        config = self.config
        which = (config.model, config.revision or config.url)
        parts = (*which, config.min_mass, config.top_logprobs, self.prompt.settings(), *config.said())
        return f"server:{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}"

    @property
    def notes(self) -> list[str]:
        """What a reader of its grades should know of its server."""
        return self._server.notes

    @property
    def meter(self) -> Meter:
        return self._meter

    @property
    def spending(self) -> Spending:
        """What was asked so far, in requests and tokens."""
        return self._server.spending

    @property
    def requests(self) -> int:
        """Number of requests sent so far, retries included."""
        return self._server.requests

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions], at most `concurrency` requests at a time."""
        pairs = [(response, proposition) for response in responses for proposition in propositions]
        flat = list(self._server.map(lambda pair: self._grade_one(*pair), pairs))
        width = len(propositions)
        rows = [flat[i * width : (i + 1) * width] for i in range(len(responses))]
        return Grades.of([p.name for p in propositions], rows)

    def begin(
        self,
        response: Response,
        proposition: Proposition,
        keep: Callable[[float | Unscored], object],
    ) -> Future[float | Unscored]:
        """Ask in the background; `keep` is given the grade before the future has it."""

        def ask() -> float | Unscored:
            grade = self._grade_one(response, proposition)
            keep(grade)
            return grade

        return self._server.begin(ask)

    def _grade_one(self, response: Response, proposition: Proposition) -> float | Unscored:
        if self.config.reads == TEXT:
            return self._in_words(response, proposition)
        if self.config.reads == GIVEN:
            return self._by_given_answers(response, proposition)
        completion = self._server.complete(
            self._messages(response, proposition),
            max_tokens=1,
            temperature=0,
            logprobs=True,
            top_logprobs=self.config.top_logprobs,
        )
        if isinstance(completion, Unscored):
            return completion
        return answer(completion, self.config.min_mass, proposition.levels)

    def _in_words(self, response: Response, proposition: Proposition) -> float | Unscored:
        messages, config = self._messages(response, proposition), self.config
        messages[-1]["content"] += form_of_answer(proposition.levels)
        several = config.samples > 1
        said = [
            verdict(
                self._server.complete(
                    messages,
                    max_tokens=config.answer_tokens,
                    temperature=config.temperature if several else 0,
                    **({"seed": sample} if several else {}),
                ),
                proposition.levels,
            )
            for sample in range(config.samples)
        ]
        return mean_of(said)

    def _by_given_answers(self, response: Response, proposition: Proposition) -> float | Unscored:
        texts = self._texts()
        if isinstance(texts, Unscored):
            return texts
        turns = tuple(Message(t["role"], t["content"]) for t in self._messages(response, proposition))
        prompt, levels = Prompt("question", turns), proposition.levels or YES_OR_NO
        mass = []
        for word in [level.word for level in levels]:
            found = [
                texts.of_response(Response(prompt, form, finished=False))
                for form in dict.fromkeys((word, word.capitalize()))
            ]
            if unscored := next((one for one in found if isinstance(one, Unscored)), None):
                return unscored
            mass.append(sum(math.exp(one.total) for one in found if not isinstance(one, Unscored)))
        if sum(mass) < self.config.min_mass or sum(mass) == 0:
            return Unscored(no_level(proposition.levels) if proposition.levels else NEITHER)
        return min(1.0, expected(mass, levels))

    def _texts(self) -> GivenTexts | Unscored:
        """Found out once; whoever asks meanwhile waits. One that failed is asked again, one that refuses FEW times."""
        with self._finding:
            if self._found is None or (isinstance(self._found, Unscored) and self._refusals < FEW):
                self._found = given_texts(self.config, chat=True, meter=self._meter)
                self._refusals += isinstance(self._found, NotUnderstood)
            return self._found

    def _messages(self, response: Response, proposition: Proposition) -> list[dict[str, str]]:
        turns = [(m.role, m.content) for m in response.prompt.messages] + [("assistant", response.text)]
        safe = [{"role": role, "content": neutralise(text, self._markers)} for role, text in turns]
        return [*safe, {"role": "user", "content": ask(self.prompt, proposition)}]


YES_OR_NO = (ScoredLevel("yes", 1.0), ScoredLevel("no", 0.0))
LAST_LINE = "\n\nReason first if that helps. Then end with a last line that is exactly {}."


def form_of_answer(levels: Levels = ()) -> str:
    """The form of the answer that is asked for: a level's word, or yes or no where there are none."""
    answers = words_of([replace(level, word=f"Answer: {level.word}") for level in levels or YES_OR_NO], '"')
    return LAST_LINE.format(answers)


def verdict(completion: Any, levels: Levels = ()) -> float | Unscored:
    """The score of what a chat completion's last line says, which must be a level's word, or yes or no, alone."""
    if isinstance(completion, Unscored):
        return completion
    try:
        choice = completion.choices[0]
        text = text_of(choice) or ""
    except (AttributeError, LookupError, TypeError):
        return Unscored("the server's answer is malformed")
    if refusal_of(choice) is not None:
        return Unscored("the grader's model refused to answer")
    read = of_text().part(text)
    if read.unanswered or (reasoning_of(choice) and not text.strip()):
        return Unscored(f"the grader gave no answer: {read.unanswered or UNENDED}")
    line = EMPHASIS.sub("", last_line(read.answer))
    lead = LEAD.match(line)
    said = bare(line[lead.end() :] if lead else line).lower()
    scores = {level.word.lower(): level.score for level in levels or YES_OR_NO}
    if said not in scores:
        return Unscored(f"the answer's last line is not {words_of(levels)}" if levels else NO_LAST_LINE)
    return scores[said]


EMPHASIS = re.compile(r"[*_`]")
LEAD = re.compile(r"(?:final )?answer: ?", re.IGNORECASE)
NO_LAST_LINE = "the answer's last line is neither yes nor no"


def mean_of(said: Sequence[float | Unscored]) -> float | Unscored:
    """The mean score, of yes or no the share of yes, of the samples that say something: more than half of them must."""
    known = [one for one in said if not isinstance(one, Unscored)]
    if 2 * len(known) <= len(said):
        return next(one for one in said if isinstance(one, Unscored))
    return sum(known) / len(known)


def answer(completion: Any, min_mass: float, levels: Levels = ()) -> float | Unscored:
    """P(yes) / (P(yes) + P(no)) of a chat completion's first token, over the tokens that the server lists.

    Of levels the expected score.
    """
    try:
        listed = completion.choices[0].logprobs.content[0].top_logprobs
        pairs = [(str(item.token), float(item.logprob)) for item in listed]
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError):
        return Unscored("the answer has no log-probabilities")
    if not pairs or any(math.isnan(logprob) or logprob > 1e-3 for _, logprob in pairs):
        return Unscored("the answer's log-probabilities are not valid")
    if levels:
        found = masses(pairs, levels)
        clear = sum(found) >= min_mass and sum(found) > 0
        return min(1.0, expected(found, levels)) if clear else Unscored(no_level(levels))
    yes, no = (_mass(pairs, word) for word in ("yes", "no"))
    if yes + no < min_mass or yes + no == 0:
        return Unscored(NEITHER)
    return yes / (yes + no)


def _mass(pairs: Iterable[tuple[str, float]], word: str) -> float:
    return sum(math.exp(logprob) for token, logprob in pairs if token.strip(SPACES).lower() == word)


def build(spec: GraderSpec, rulebook: Rulebook | None) -> ServerGrader:
    """Raises InputError where `spec` has no server."""
    return ServerGrader(spec.server or GraderServerSettings(), spec.name or spec.kind, meter=spec.meter)

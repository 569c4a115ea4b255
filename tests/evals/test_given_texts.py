"""evals/models/given_texts: how likely a server is to write given texts, by each dialect and by the model itself."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scoring_server import ECHO, LLAMA, PROMPT_LOGPROBS, ScoringServer
from tiny_servers import Handler, JsonServer, in_a_thread
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders.language_model import NEITHER
from evals.graders.question import GraderPrompt
from evals.graders.server import ServerGrader
from evals.models.given_texts.prompt_logprobs import end_of, start_of, tokens_of
from evals.models.given_texts.understood import GivenTexts, given_texts
from evals.models.likelihood import response_log_probs
from evals.models.server import BudgetedServer, GraderServerSettings, ServerSettings
from evals.models.token_log_probs import AMONG, TokenLogProbs
from evals.rules.propositions import Proposition
from evals.values.conversation import Message, Prompt, Response
from evals.values.grades import Unscored
from harness.worlds.sandbox.generate import word_tokenizer
from trainers.models.model_config import ModelConfig
from trainers.models.sizes import new_causal_lm

WORDS = (
    "Thursday the a today please well then cake soup boat can you bake it days of week Monday, Tuesday, are"
)
Local = tuple[PreTrainedModel, PreTrainedTokenizerBase]
PAIRS = [("bake the", " cake today"), ("bake the", " soup"), ("can you bake it then", " well well the boat")]


@pytest.fixture(scope="module")
def local() -> Local:
    tokenizer = word_tokenizer([WORDS], 128)
    model = new_causal_lm(ModelConfig(width=32, layers=2, heads=2, context=128), tokenizer, seed=0)
    for weight in model.parameters():
        weight.data.mul_(2.0)  # so that some words are likelier than others
    return model.eval(), tokenizer


def responses() -> list[Response]:
    """Of one turn and of several, finished and cut."""
    turns = (Message("user", "can you bake"), Message("assistant", "well then"), Message("user", "please"))
    prompts = [Prompt("one", (Message("user", "bake the cake"),)), Prompt("three", turns)]
    texts = ["soup then", "the cake today", "a boat"]
    return [
        Response(prompt, text, finished=finished)
        for prompt in prompts
        for text in texts
        for finished in (True, False)
    ]


def settings(url: str, **more: Any) -> ServerSettings:
    return BudgetedServer(url, "m", **({"first_delay": 0.001, "attempts": 2, "timeout": 30.0} | more))


def found(server: JsonServer, chat: bool) -> GivenTexts:
    asked = given_texts(settings(server.url), chat)
    assert isinstance(asked, GivenTexts), asked
    return asked


def value_of(local: Local, context: str, text: str) -> float:
    model, tokenizer = local
    before, whole = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (context, context + text))
    with torch.inference_mode():
        rows = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(rows[i - 1, whole[i]]) for i in range(len(before), len(whole)))


@pytest.mark.parametrize("dialect", [PROMPT_LOGPROBS, ECHO, LLAMA])
def test_given_texts_are_as_likely_as_the_model_says(local: Local, dialect: str) -> None:
    """Tokens of the context were counted too, or the token that must be written after the text."""
    with in_a_thread(ScoringServer(*local, [dialect])) as server:
        asked = found(server, chat=False)
        told = list(asked.of_texts(PAIRS))
    values = [one.total for one in told if isinstance(one, TokenLogProbs)]
    assert values == pytest.approx([value_of(local, *pair) for pair in PAIRS], abs=1e-3)
    assert any(not one.greedy for one in told if isinstance(one, TokenLogProbs))


@pytest.mark.parametrize("dialect", [PROMPT_LOGPROBS, LLAMA])
def test_given_responses_are_as_likely_as_the_model_says(local: Local, dialect: str) -> None:
    """A response that ended has its end counted, one that was cut has not; all is in the server's template."""
    with in_a_thread(ScoringServer(*local, [dialect])) as server:
        told = list(found(server, chat=True).of_responses(responses(), AMONG))
    assert all(isinstance(one, TokenLogProbs) for one in told), told
    for temperature in (1.0, 1.7):
        values = [one.at(temperature) for one in told if isinstance(one, TokenLogProbs)]
        expected = [row[0] for row in truncated(local, responses(), temperature)]
        assert values == pytest.approx(expected, abs=1e-3)
    assert any(math.isinf(one.at(1.7)) for one in told if isinstance(one, TokenLogProbs))


def truncated(local: Local, given: list[Response], temperature: float) -> list[list[float]]:
    """The same by the model at hand; hotter, among its AMONG likeliest tokens alone."""
    if temperature == 1.0:
        return [[row[0] or 0.0] for row in response_log_probs(*local, given)]
    model, tokenizer = local
    found = []
    for response in given:
        from evals.models.chat import ResponseEncoder
        from evals.models.load import prompt_token_ids

        before = prompt_token_ids(tokenizer, response.prompt.messages)
        (text,) = ResponseEncoder(tokenizer)([response.text], [response.finished])
        with torch.inference_mode():
            rows = model(torch.tensor([[*before, *text]])).logits[0, len(before) - 1 : -1]
        hot = rows / temperature
        hot = hot.masked_fill(hot < hot.topk(AMONG, dim=-1).values[:, -1:], -math.inf).log_softmax(-1)
        found.append([float(hot.gather(1, torch.tensor(text)[:, None]).sum())])
    return found


def test_a_server_that_tells_nothing_of_given_texts_is_one_line(local: Local) -> None:
    """llama.cpp ignores `echo` and lists what it wrote: every choice of a task was worth 0."""
    with in_a_thread(ScoringServer(*local, [])) as server:
        for chat in (False, True):
            said = given_texts(settings(server.url), chat)
            assert isinstance(said, Unscored) and "\n" not in said.reason
            assert said.reason.startswith("the server tells no log-probabilities of")
        assert len(server.bodies) < 12
    gone = given_texts(settings(server.url), True)
    assert isinstance(gone, Unscored) and "could not be reached" in gone.reason


def test_log_probabilities_of_the_token_before_are_found_out(local: Local) -> None:
    """llama-cpp-python lists them so where the model has no token that begins a text."""
    with in_a_thread(ScoringServer(*local, [ECHO], shifted=True)) as server:
        said = given_texts(settings(server.url), False)
    assert isinstance(said, Unscored) and "when given" in said.reason


class OfThree(JsonServer):
    """Answers all else as `inner` does, a completion with `echo` by a 500, as llama.cpp refuses it."""

    def __init__(self, inner: ScoringServer) -> None:
        super().__init__()
        self.inner, self.refused = inner, 0

    def answer(self, handler: Handler, body: dict[str, Any]) -> None:
        if body.get("echo"):
            self.refused += 1
            said = "Only no echo is supported"
            return handler.send(500, {"error": {"message": said, "type": "server_error", "code": 500}})
        self.inner.answer(handler, body)


def test_a_dialect_that_is_refused_is_tried_once(local: Local) -> None:
    """Each refusal waited for five attempts."""
    with in_a_thread(OfThree(ScoringServer(*local, [LLAMA]))) as server:
        assert found(server, chat=False).name == "llama.cpp's /completion"
        assert server.refused == 1


def test_a_budget_counts_what_is_scored(local: Local) -> None:
    """Requests beside the API were free, and an answer without a count of tokens stopped a budget of tokens."""
    with in_a_thread(ScoringServer(*local, [LLAMA])) as server:
        keys = settings(server.url, max_tokens=10_000)
        asked = given_texts(keys, False)
        assert isinstance(asked, GivenTexts)
        assert not [one for one in asked.of_texts(PAIRS) if isinstance(one, Unscored)]
        spent = asked.server.spending
        assert spent.uncounted == 0 and spent.prompt_tokens > 20
        few = given_texts(settings(server.url, max_requests=12), False)
        assert isinstance(few, GivenTexts)
        assert any(
            "budget of 12 requests" in one.reason
            for one in few.of_texts(PAIRS * 3)
            if isinstance(one, Unscored)
        )


def test_a_grade_by_given_answers(local: Local) -> None:
    """A server that lists no tokens of its own answer graded nothing, though it says how likely yes and no are."""
    tokenizer = word_tokenizer([WORDS, "yes Yes no No is it sorry ?"], 128)
    model = new_causal_lm(ModelConfig(width=32, layers=2, heads=2, context=128), tokenizer, seed=0)
    rules = [Proposition("sorry", "is it sorry ?")]
    asked = [Response(Prompt("one", (Message("user", "bake the cake"),)), "soup")]
    prompt = GraderPrompt(template="{question}", few_shot=False)
    with in_a_thread(ScoringServer(model, tokenizer, tells=False)) as server:
        given = GraderServerSettings(server.url, "m", reads="given", min_mass=0.0, concurrency=2)
        found = ServerGrader(given, prompt=prompt).grade(asked, rules)
        strict = ServerGrader(replace(given, min_mass=0.9), prompt=prompt).grade(asked, rules)
    turns = Prompt(
        "q", (*asked[0].prompt.messages, Message("assistant", "soup"), Message("user", "is it sorry ?"))
    )
    words = [Response(turns, word, finished=False) for word in ("yes", "Yes", "no", "No")]
    masses = [math.exp(row[0] or 0.0) for row in response_log_probs(model, tokenizer, words)]
    assert found.probability[0, 0] == pytest.approx(sum(masses[:2]) / sum(masses), abs=1e-4)
    assert list(strict.reasons.values()) == [NEITHER]
    assert given.said() == ["given"] and GraderServerSettings(server.url, "m").said() == []


def test_a_server_that_knows_no_given_answers_is_found_out_once(local: Local) -> None:
    """Each grade sent the questions that find out, one grade at a time: thousands of requests without an answer."""
    rules = [Proposition("sorry", "is it sorry ?")]
    asked = [Response(Prompt(f"{i}", (Message("user", "bake the cake"),)), "soup") for i in range(12)]
    with in_a_thread(ScoringServer(*local, [])) as server:
        given = GraderServerSettings(server.url, "m", reads="given", concurrency=2)
        grader = ServerGrader(given, prompt=GraderPrompt(template="{question}", few_shot=False))
        found = grader.grade(asked[:6], rules)
        sent = len(server.bodies)
        again = grader.grade(asked[6:], rules)
    assert len(server.bodies) == sent and len(found.reasons) == len(again.reasons) == 6
    assert all(reason.startswith("the server tells no log") for reason in again.reasons.values())


def test_listed_tokens_that_are_no_list() -> None:
    """A malformed answer became a likelihood."""
    good = [None, {"5": {"logprob": -1.0, "decoded_token": " a", "rank": 1}}]
    assert not isinstance(tokens_of(good), Unscored)
    for bad in (
        None,
        [],
        [None],
        "x",
        [None, None],
        [None, {}],
        [None, {"5": 3}],
        [None, {"5": {"logprob": 2.0}}],
        ["x", {"5": 3}],
    ):
        assert isinstance(tokens_of(bad), Unscored)
    for value in (math.nan, -9999.0, -math.inf, "-1", True):
        assert isinstance(tokens_of([None, {"5": {"logprob": value}}]), Unscored)
    assert tokens_of(["x", good[1]]) == tokens_of(good)
    # The prompt's own token need not stand first where the server tells its ids.
    two = [None, {"7": {"logprob": -0.5}, "5": {"logprob": -1.0}}]
    assert tokens_of(two, [1, 5]).values[1] == -1.0  # type: ignore[union-attr]


def test_where_a_text_begins_and_ends() -> None:
    """By pieces; of a character that is cut between two tokens they do not tell."""
    assert start_of(["a", " b", " c"], " b c") == 1 and start_of(["a", " bc"], "c") is None
    assert (
        end_of(["<a>", "x", " y", "<e>"], 1, "x y") == 3
        and end_of(["<a>", "\ufffd", "\ufffd"], 1, "é") is None
    )


def test_a_hotter_text_by_hand() -> None:
    """Over a whole vocabulary the sum at another temperature is not told, and none may be made up."""
    half = math.log(0.5)
    assert TokenLogProbs((half,), ((half, half),)).at(2.0) == pytest.approx(half)
    assert TokenLogProbs((math.log(0.9),), ((math.log(0.9), math.log(0.1)),)).at(2.0) == pytest.approx(
        math.log(0.9**0.5 / (0.9**0.5 + 0.1**0.5))
    )
    assert math.isnan(TokenLogProbs((half,), ((half,),)).at(2.0))
    many = tuple(np.log(np.full(AMONG, 0.04)).tolist())
    assert TokenLogProbs((math.log(0.01),), (many,)).at(1.5) == -math.inf
    assert TokenLogProbs((math.log(0.04),), (many,)).at(1.5) == pytest.approx(-math.log(AMONG))


# --- llama.cpp itself ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(local: Local, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its own server, of the package xllamacpp."""
    if missing := [name for name in ("gguf", "xllamacpp") if importlib.util.find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}; pip install -e .[llama]")
    import xllamacpp
    from llama_gguf import write_gguf

    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(*local, path)
    asked = xllamacpp.CommonParams()
    asked.model.path, asked.n_ctx, asked.n_parallel, asked.cpuparams.n_threads = str(path), 128, 1, 1
    server = xllamacpp.Server(asked)
    yield f"{server.listening_address}/v1"
    del server


@pytest.mark.slow
def test_llama_cpps_own_server(local: Local, llama: str) -> None:
    """It ignores `echo` and `prompt_logprobs` and answers all the same."""
    asked = given_texts(settings(llama, concurrency=1), True)
    assert isinstance(asked, GivenTexts) and asked.name == "llama.cpp's /completion", asked
    told = list(asked.of_responses(responses(), AMONG))
    assert all(isinstance(one, TokenLogProbs) for one in told), told
    values = [one.total for one in told if isinstance(one, TokenLogProbs)]
    assert values == pytest.approx([row[0] for row in response_log_probs(*local, responses())], abs=0.05)
    hot = [one.at(1.7) for one in told if isinstance(one, TokenLogProbs)]
    assert hot == pytest.approx([row[0] for row in truncated(local, responses(), 1.7)], abs=0.05)
    texts = given_texts(settings(llama, concurrency=1), False)
    assert isinstance(texts, GivenTexts)
    values = [one.total for one in texts.of_texts(PAIRS) if isinstance(one, TokenLogProbs)]
    assert values == pytest.approx([value_of(local, *pair) for pair in PAIRS], abs=0.05)

"""A causal language model as grader: P(yes) / (P(yes) + P(no)) at the answer position (paper, section 4).

P(yes) is the mass of all one-token forms of "yes" ("yes", " Yes", "YES", ...), P(no) likewise. A proposition with
levels is graded by the expected score of its levels' words at the same position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders import GraderSpec
from evals.graders.levels import forms_of, level_forms, no_level, refuse_levels
from evals.graders.question import GraderPrompt, Layout, QuestionEncoder, remembered_prompt
from evals.models.chat import set_template_keys
from evals.models.load import context_length, load_causal_lm, load_tokenizer
from evals.models.prefix_tree import Pass, answer_logits, cheapest_pass, usable_passes
from evals.rules.propositions import Proposition
from evals.rules.rulebook import Rulebook
from evals.values.conversation import Response
from evals.values.errors import InputError
from evals.values.grades import Grades
from evals.values.levels import Levels

NEITHER = "the answer is neither yes nor no"
NOT_FINITE = "the answer's probability is not finite"


@dataclass(frozen=True)
class AnswerForms:
    """Token ids that mean yes and no; the first of each is the one to train on."""

    yes: tuple[int, ...]
    no: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> AnswerForms:
        """Raises InputError when the vocabulary has no one-token yes or no."""
        found = {word: forms_of(tokenizer, word) for word in ("yes", "no")}
        for word, ids in found.items():
            if not ids:
                raise InputError(
                    f"the grader's tokenizer has no single token for {word!r}",
                    field="grader",
                    fix="use a model whose vocabulary has yes and no as tokens",
                )
        return cls(found["yes"], found["no"])


@dataclass(frozen=True)
class LevelForms:
    """Token ids that begin each level's word, and the scores [levels]."""

    ids: tuple[tuple[int, ...], ...]
    scores: torch.Tensor


Asked = list[tuple[np.ndarray, LevelForms]]  # where [prefixes, suffixes] a proposition with levels is asked


class LanguageModelGrader:
    """Grades with a causal language model; all propositions of a response share its encoding.

    `prompt` defaults to the one that the model was trained with. `min_mass`: below this P(yes) + P(no)
    the pair is unscored. `batch_tokens` bounds the tokens of one forward pass. `how` fixes the way that
    prefixes are shared; by default each row takes the cheapest that works for the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "language_model",
        prompt: GraderPrompt | None = None,
        min_mass: float = 0.5,
        batch_tokens: int = 8192,
        how: Pass | None = None,
    ) -> None:
        self.name = name
        self.prompt = prompt or remembered_prompt(model)
        self.forms = AnswerForms.of(tokenizer)
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._encoder = QuestionEncoder(tokenizer, self.prompt)
        self._min_mass = min_mass
        self._batch_tokens = batch_tokens
        self.passes = (how,) if how else usable_passes(model)
        self._levels: dict[tuple[str, Levels], LevelForms] = {}

    @property
    def identity(self) -> str:
        """A digest of weights, vocabulary and prompt: what the grades depend on besides their inputs."""
        digest = hashlib.sha256(repr((self.prompt.settings(), self._min_mass)).encode())
        digest.update(repr(sorted(self._tokenizer.get_vocab().items())).encode())
        digest.update(repr(self._tokenizer.chat_template).encode())
        for key, value in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return f"language_model:{digest.hexdigest()[:16]}"

    def grade(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> Grades:
        """Grades [responses, propositions]; too long a conversation and an unclear answer are unscored."""
        names = tuple(p.name for p in propositions)
        if not responses or not propositions:
            return Grades(names, np.zeros((len(responses), len(names))))
        prefixes, suffixes = self._encoded(responses, propositions)
        asked = self._asked(propositions, len(prefixes), len(suffixes))
        values, masses, sizes = self._probabilities(prefixes, suffixes, asked)
        shape = (len(responses), len(names))
        return self._grades(propositions, values.reshape(shape), masses.reshape(shape), sizes.reshape(shape))

    def _asked(self, propositions: Sequence[Proposition], prefixes: int, suffixes: int) -> Asked:
        """Where propositions with levels stand among [prefixes, suffixes]. Raises InputError for words alike."""
        places = np.arange(prefixes * suffixes).reshape(prefixes, suffixes) % len(propositions)
        return [
            (places == column, self._forms_of(one)) for column, one in enumerate(propositions) if one.levels
        ]

    def _forms_of(self, proposition: Proposition) -> LevelForms:
        key = (proposition.name, proposition.levels)
        if key not in self._levels:
            if self.prompt.answer:
                raise refuse_levels(proposition, f"the {self.name} grader")
            ids = level_forms(self._tokenizer, proposition)
            scores = torch.tensor([level.score for level in proposition.levels])
            self._levels[key] = LevelForms(ids, scores)
        return self._levels[key]

    def check_levels(self, propositions: Mapping[str, Proposition]) -> None:
        """Raises InputError where the vocabulary cannot tell the levels of one apart."""
        for proposition in propositions.values():
            if proposition.levels:
                self._forms_of(proposition)

    def without_room(self, responses: Sequence[Response], propositions: Sequence[Proposition]) -> list[str]:
        """Why, of each response that the context has no room for."""
        if not responses or not propositions:
            return []
        prefixes, suffixes = self._encoded(responses, propositions)
        sizes = np.add.outer([len(p) for p in prefixes], [len(s) for s in suffixes])
        longest = sizes.reshape(len(responses), -1).max(1).tolist()
        limit = context_length(self._model)
        return [_no_room(tokens, limit) for tokens in longest if tokens > limit]

    def _encoded(
        self, responses: Sequence[Response], propositions: Sequence[Proposition]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Prefixes and suffixes; with the question first, a prefix for each (response, proposition)."""
        if self.prompt.layout is Layout.QUESTION_FIRST:
            pairs = [self._encoder.paired(r, p) for r in responses for p in propositions]
            return pairs, [self._encoder.common_end()]
        return self._encoder.prefixes(responses), self._encoder.suffixes(propositions)

    def _probabilities(
        self, prefixes: Sequence[list[int]], suffixes: Sequence[list[int]], asked: Asked
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """P(yes), P(yes) + P(no) and tokens of each (prefix, suffix) [prefixes, suffixes].

        Of levels the expected score, and the probability of all their words together.
        """
        sizes = np.add.outer([len(p) for p in prefixes], [len(s) for s in suffixes])
        values, masses = np.full(sizes.shape, np.nan), np.full(sizes.shape, np.nan)
        fits = np.flatnonzero(sizes.max(1) <= context_length(self._model))
        order = fits[np.argsort(sizes[fits, 0], kind="stable")]
        with torch.inference_mode():
            for columns in self._question_chunks(suffixes, sizes):
                chosen = [suffixes[j] for j in columns]
                for how, rows in self._row_chunks(order, prefixes, chosen):
                    logits = answer_logits(
                        self._model, [prefixes[i] for i in rows], chosen, int(self._pad), how
                    )
                    value, mass = yes_probability(logits, self.forms)
                    where = np.ix_(rows, np.array(columns))
                    for places, forms in asked:
                        of_levels = torch.from_numpy(places[where]).to(logits.device)
                        value[of_levels], mass[of_levels] = expected_score(logits[of_levels], forms)
                    values[where] = value.double().cpu().numpy()
                    masses[where] = mass.double().cpu().numpy()
        return values, masses, sizes

    @property
    def _pad(self) -> int:
        pad = self._tokenizer.pad_token_id
        return 0 if pad is None else pad

    def _question_chunks(self, suffixes: Sequence[list[int]], sizes: np.ndarray) -> Iterator[list[int]]:
        """Questions of one pass: long few-shot ones are split, since the mask grows with their square."""
        limit = max(2048, 4 * int(sizes.max()))
        chunk: list[int] = []
        for column, suffix in enumerate(suffixes):
            if chunk and sum(len(suffixes[j]) for j in chunk) + len(suffix) > limit:
                yield chunk
                chunk = []
            chunk.append(column)
        yield chunk

    def _row_chunks(
        self, order: np.ndarray, prefixes: Sequence[list[int]], suffixes: Sequence[list[int]]
    ) -> Iterator[tuple[Pass, np.ndarray]]:
        """Rows of similar length that are passed in one way, as many as fit into `batch_tokens`."""
        questions = sum(len(s) for s in suffixes)
        lengths = [len(prefixes[i]) for i in order]
        ways = [cheapest_pass(self.passes, length + questions) for length in lengths]
        start = 0
        while start < len(order):
            how, stop = ways[start], start + 1
            while stop < len(order) and ways[stop] is how:
                row = lengths[stop] * (1 if how is Pass.TREE else len(suffixes)) + questions
                if (stop + 1 - start) * row > self._batch_tokens:
                    break
                stop += 1
            yield how, order[start:stop]
            start = stop

    def _grades(
        self,
        propositions: Sequence[Proposition],
        values: np.ndarray,
        masses: np.ndarray,
        sizes: np.ndarray,
    ) -> Grades:
        limit = context_length(self._model)
        longest = sizes.max(1)
        trusted = np.isfinite(values) & (masses >= self._min_mass)
        reasons: dict[tuple[int, int], str] = {}
        for i, j in np.argwhere(~trusted).tolist():
            if longest[i] > limit:
                reasons[i, j] = _no_room(int(longest[i]), limit)
            else:
                levels = propositions[j].levels
                unclear = no_level(levels) if levels else NEITHER
                reasons[i, j] = unclear if np.isfinite(masses[i, j]) else NOT_FINITE
        names = tuple(p.name for p in propositions)
        return Grades(names, np.where(trusted, values, np.nan), reasons)


def _no_room(tokens: int, limit: int) -> str:
    return f"the conversation needs {tokens} tokens, the grader has room for {limit}"


def yes_probability(logits: torch.Tensor, forms: AnswerForms) -> tuple[torch.Tensor, torch.Tensor]:
    """P(yes) / (P(yes) + P(no)) and P(yes) + P(no) from logits [..., vocabulary]."""
    logits = logits.float()
    yes = logits[..., list(forms.yes)].logsumexp(-1)
    no = logits[..., list(forms.no)].logsumexp(-1)
    return (yes - no).sigmoid(), (torch.logaddexp(yes, no) - logits.logsumexp(-1)).exp()


def expected_score(logits: torch.Tensor, forms: LevelForms) -> tuple[torch.Tensor, torch.Tensor]:
    """The expected score of the levels' words, and their probability together, from logits [..., vocabulary]."""
    logits = logits.float()
    words = torch.stack([logits[..., list(ids)].logsumexp(-1) for ids in forms.ids], dim=-1)
    score = words.softmax(-1) @ forms.scores.to(words.device)
    return score.clamp(0, 1), (words.logsumexp(-1) - logits.logsumexp(-1)).exp()


def build(spec: GraderSpec, rulebook: Rulebook | None) -> LanguageModelGrader:
    """The model in the folder, or of the hub name, `spec.path`. Raises InputError for what does not load."""
    model, tokenizer = load_causal_lm(spec.path), load_tokenizer(spec.path, needs_padding=False)
    set_template_keys(tokenizer, spec.chat_template, "grader.chat_template")
    grader = LanguageModelGrader(model, tokenizer, spec.name or spec.kind, spec.prompt)
    if rulebook is not None:
        grader.check_levels(rulebook.propositions)
    return grader

"""How a language model's answer is read where it is one of several levels: each word's probability, the expected score.

A word is known by its beginning: the mass of all tokens that read as it, whatever their case and leading space, or,
where the vocabulary has none, of the tokens that begin it. Two levels that begin with one token cannot be told apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from evals.rules.propositions import Proposition
from evals.values.errors import InputError
from evals.values.levels import Levels, beginning, words_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPACES = "Ġ▁ \n"  # byte-level vocabularies write a space as Ġ, SentencePiece as ▁


def no_level(levels: Levels) -> str:
    """Why an answer is unscored."""
    return f"the answer is not {words_of(levels)}"


def refuse_levels(proposition: Proposition, who: str) -> InputError:
    """What is told of a proposition with levels where a grader knows yes and no alone."""
    fix = "ask it as a question of yes or no, or take another grader: language_model, server or encoder"
    return InputError(
        f"{who} answers yes or no, and '{proposition.name}' has levels", field="grader", fix=fix
    )


def forms_of(tokenizer: PreTrainedTokenizerBase, word: str) -> tuple[int, ...]:
    """Ids of all tokens that read as `word`, whatever their case and leading space; the plain word first."""
    special = set(tokenizer.all_special_ids)
    vocabulary = tokenizer.get_vocab()
    ids = [i for t, i in vocabulary.items() if t.lstrip("Ġ▁ ").lower() == word and i not in special]
    plain = tokenizer(word, add_special_tokens=False)["input_ids"]
    first = [i for i in plain if len(plain) == 1 and i in ids]
    return tuple(first + sorted(i for i in ids if i not in first))


def level_forms(tokenizer: PreTrainedTokenizerBase, proposition: Proposition) -> tuple[tuple[int, ...], ...]:
    """Of each level the ids that begin its word, the one to train on first.

    Raises InputError where two levels share one, or a word cannot be written at all.
    """
    found = [
        forms_of(tokenizer, level.word.lower()) or _beginnings(tokenizer, level.word)
        for level in proposition.levels
    ]
    for level, ids in zip(proposition.levels, found, strict=True):
        if not ids:
            problem = f"the grader's tokenizer cannot write the level '{level.word}' of '{proposition.name}'"
            raise InputError(problem, field="grader", fix="use words that it knows")
    _check_apart(proposition, found)
    return tuple(found)


def _check_apart(proposition: Proposition, found: Sequence[tuple[int, ...]]) -> None:
    taken: dict[int, str] = {}
    for level, ids in zip(proposition.levels, found, strict=True):
        shared = next((id for id in ids if id in taken), None)
        if shared is not None:
            both = f"the levels '{taken[shared]}' and '{level.word}' of '{proposition.name}'"
            fix = "give one of the two a word that begins otherwise"
            raise InputError(f"{both} begin with one token of the grader's", field="grader", fix=fix)
        taken |= dict.fromkeys(ids, level.word)


def _beginnings(tokenizer: PreTrainedTokenizerBase, word: str) -> tuple[int, ...]:
    """First tokens of the word as it may be written; unknown ones and bare spaces are none."""
    special, first = set(tokenizer.all_special_ids), []
    for text in dict.fromkeys(f"{space}{form}" for form in (word, word.capitalize()) for space in ("", " ")):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens = tokenizer.convert_ids_to_tokens(ids)
        begun = next((i for i, token in zip(ids, tokens, strict=True) if token.strip(SPACES)), None)
        if begun is not None and begun not in special and begun != tokenizer.unk_token_id:
            first.append(begun)
    return tuple(dict.fromkeys(first))


def masses(pairs: Iterable[tuple[str, float]], levels: Levels) -> list[float]:
    """The probability of each level's word, of tokens with log-probabilities that a server lists for an answer's first.

    A token that only begins a word counts to it where it begins no other, and is more than one letter.
    """
    found = [0.0] * len(levels)
    words = [level.word.lower() for level in levels]
    for token, logprob in pairs:
        text = token.strip(SPACES).lower()
        begun = [
            i
            for i, word in enumerate(words)
            if text in (word, beginning(word)) or (len(text) > 1 and word.startswith(text))
        ]
        if len(begun) == 1:
            found[begun[0]] += math.exp(logprob)
    return found


def expected(weights: Sequence[float], levels: Levels) -> float:
    """The expected score, of masses that need not sum to 1."""
    return sum(w * level.score for w, level in zip(weights, levels, strict=True)) / sum(weights)

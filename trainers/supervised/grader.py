"""Train a causal language model to grade: fine-tune it to answer yes or no, or a level's word, to each proposition.

Inputs are built by the code that the grader uses afterwards (`evals.graders.question` and `.tree`),
so one pass over a response gives the loss of all its propositions, and training cannot drift from use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.graders.language_model import AnswerForms
from evals.graders.levels import level_forms
from evals.graders.question import GraderPrompt, QuestionEncoder, remember_prompt
from evals.models.load import check_padding, context_length
from evals.models.prefix_tree import answer_logits
from evals.rules.propositions import Proposition
from evals.values.conversation import LabelledResponse
from evals.values.errors import InputError
from evals.values.levels import Label, ScoredLevel
from trainers.supervised.grader_config import GraderTrainingConfig

MISSING = -1


@dataclass(frozen=True)
class _Examples:
    """Prefixes, suffixes, and labels [responses, propositions]: 1, 0, a level's place, or MISSING."""

    prefixes: list[list[int]]
    suffixes: list[list[int]]
    labels: torch.Tensor


def train_grader(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    labelled: Sequence[LabelledResponse],
    propositions: Mapping[str, Proposition] | Sequence[Proposition],
    config: GraderTrainingConfig,
    progress: Callable[[int], None] | None = None,
) -> PreTrainedModel:
    """Fine-tune `model` in place and return it in evaluation mode, its prompt saved in its configuration.

    `progress` is told the number of responses after each batch (epochs x responses in all). A
    proposition that a response has no label for adds nothing to the loss. Raises InputError for no
    data, no labels, or a response that does not fit the model's context.
    """
    check_padding(tokenizer, "the grader's tokenizer")
    rules = list(propositions.values()) if isinstance(propositions, Mapping) else list(propositions)
    examples = _encode(tokenizer, labelled, rules, config.prompt, context_length(model))
    targets = answer_tokens(tokenizer, rules)
    weights = answer_weights(examples.labels, config.balance, [len(rule.levels) or 2 for rule in rules])
    steps = config.epochs * math.ceil(len(labelled) / config.batch_size)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps, config.warmup))
    generator = torch.Generator().manual_seed(config.seed)
    model.eval()  # no dropout: it would blur the one token that is trained
    for rows, columns in _batches(examples, config, generator):
        logits = answer_logits(
            model,
            [examples.prefixes[i] for i in rows],
            [examples.suffixes[j] for j in columns],
            tokenizer.pad_token_id,
        )
        loss = answer_loss(
            logits, examples.labels[rows][:, columns], targets[:, columns], weights[:, columns]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(len(rows))
    remember_prompt(model, config.prompt)
    return model.eval()


def answer_loss(
    logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Weighted mean cross-entropy over the whole vocabulary at the answer positions.

    logits [rows, questions, vocabulary]; labels [rows, questions] with an answer's place or MISSING; targets and
    weights [answers, questions], token ids and weights of no and yes, or of the levels. 0 where nothing is labelled.
    """
    known = labels != MISSING
    answer = labels.clamp(min=0)
    weight = weights.gather(0, answer) * known
    losses = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.gather(0, answer).flatten().to(logits.device), reduction="none"
    )
    weight = weight.flatten().to(losses.device)
    return (losses * weight).sum() / weight.sum().clamp(min=1e-9)


def answer_tokens(tokenizer: PreTrainedTokenizerBase, propositions: Sequence[Proposition]) -> torch.Tensor:
    """Token ids [answers, propositions] of no and yes, or of the levels from the lowest; the last again where others
    have more. Raises InputError for words that the vocabulary cannot tell apart.
    """
    forms = AnswerForms.of(tokenizer)
    words = [
        [ids[0] for ids in level_forms(tokenizer, one)] if one.levels else [forms.no[0], forms.yes[0]]
        for one in propositions
    ]
    most = max(map(len, words), default=2)
    return torch.tensor([ids + ids[-1:] * (most - len(ids)) for ids in words]).T


def answer_weights(
    labels: torch.Tensor, balance: float, answers: Sequence[int] | None = None
) -> torch.Tensor:
    """Weights [answers, propositions]: (n / (answers n_answer)) ** balance, else 1; `answers` of each, 2 by default."""
    answers = answers or [2] * labels.shape[1]
    counts = torch.stack([(labels == place).sum(0) for place in range(max(answers, default=2))]).float()
    weights = (counts.sum(0) / (torch.tensor(answers) * counts.clamp(min=1))) ** balance
    return torch.where(counts > 0, weights, torch.ones_like(weights))


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the full learning rate: linear warm-up, then a cosine down to 0."""
    rising = max(round(warmup * steps), 1)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    labelled: Sequence[LabelledResponse],
    propositions: Sequence[Proposition],
    prompt: GraderPrompt,
    limit: int,
) -> _Examples:
    labels = torch.tensor(
        [[_place(item.propositions.get(p.name), p) for p in propositions] for item in labelled]
    )
    if labels.numel() == 0 or bool((labels == MISSING).all()):
        raise InputError(
            "no response has a label of the rulebook's propositions", fix="give labelled responses"
        )
    encoder = QuestionEncoder(tokenizer, prompt)
    prefixes, suffixes = (
        encoder.prefixes([item.response for item in labelled]),
        encoder.suffixes(propositions),
    )
    longest = max(map(len, suffixes))
    for item, prefix in zip(labelled, prefixes, strict=True):
        if len(prefix) + longest > limit:
            raise InputError(
                f"a response to prompt {item.response.prompt.id!r} needs {len(prefix) + longest} tokens, "
                f"the grader has room for {limit}",
                fix="shorten the response or take a grader with a longer context",
            )
    return _Examples(prefixes, suffixes, labels)


def _place(label: Label | None, proposition: Proposition) -> int:
    """Which answer is right: 0 for no, 1 for yes, or the level's place from the lowest."""
    if label is None:
        return MISSING
    return proposition.levels.index(label) if isinstance(label, ScoredLevel) else int(label)


def _batches(
    examples: _Examples, config: GraderTrainingConfig, generator: torch.Generator
) -> Iterator[tuple[list[int], list[int]]]:
    """Rows of similar length in random order, with the questions to ask of all of them."""
    lengths = torch.tensor([len(p) for p in examples.prefixes])
    count = examples.labels.shape[1]
    asked = min(config.propositions_per_step or count, count)
    for _ in range(config.epochs):
        # A random jitter keeps the batches different from epoch to epoch while padding stays small.
        jitter = torch.randint(0, 5, lengths.shape, generator=generator)
        order = torch.randperm(len(lengths), generator=generator)
        order = order[torch.argsort((lengths + jitter)[order], stable=True)]
        batches = order.split(config.batch_size)
        for number in torch.randperm(len(batches), generator=generator).tolist():
            columns = torch.randperm(count, generator=generator)[:asked].tolist()
            yield batches[number].tolist(), columns

"""Writes the sandbox as a world folder: the same files, in the same schemas, as real data.

Topics are split so that no stage sees another's test: pre-training reads of every topic; SFT, reward
models and RL ask about training topics; the grader's and the judge's labels come from two disjoint
halves of those; gold labels, held-out comparisons and evaluation use held-out topics and wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evals.conversation import (
    Comparison,
    Demonstration,
    LabelledResponse,
    Prompt,
    Response,
    ResponseType,
    comparison_as_json,
    demonstration_as_json,
    labelled_as_json,
    prompt_as_json,
    user_prompt,
    write_jsonl,
)
from evals.errors import InputError
from evals.ranges import SHARE, check_ranges, whole
from evals.rulebook import Rulebook
from harness.sandbox.annotators import Annotator, AnnotatorConfig
from harness.sandbox.knowledge import knowledge_tasks
from harness.sandbox.oracle import Oracle
from harness.sandbox.request import Request, asks_of, make_request, vocabulary
from harness.sandbox.speech import SPEECH_ACTS
from harness.sandbox.text import MOST_ROWS, TextConfig, passage, pretraining_text
from harness.sandbox.tokenizer import word_tokenizer
from harness.sandbox.world import AREA_BY_NAME, AREAS, ATTRIBUTES, MOST_TOPICS, RIVERS, Topic, World, make_world
from harness.sandbox.writer import Writer


@dataclass
class SandboxConfig:
    """Size, difficulty and mechanisms of the sandbox. Counts are rows; shares are fractions of 1."""

    topics_per_area: int = 48
    difficulty: float = 0.375
    text: TextConfig = field(default_factory=TextConfig)
    natural_refusals: float = 0.6  # of plainly harmful requests, in the forum and in helpful data
    sft_helpful: int = 1600
    sft_helpful_harmful: float = 0.1  # helpful demonstrations that answer a harmful request
    sft_helpful_borderline: float = 0.06
    sft_human: int = 600
    comparisons_helpful: int = 2400
    comparisons_helpful_borderline: float = 0.08
    comparisons_helpful_harmful: float = 0.08
    # By area, of the helpful data's comparisons on harmful requests: who is asked to prefer helpful
    # answers still minds some harms, and others not.
    helpful_prefers_refusal: dict[str, float] = field(
        default_factory=lambda: {"potions": 0.3, "tales": 0.15, "jeers": 0.15, "charms": 0.85}
    )
    comparisons_human: int = 1200
    annotators: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    prompts_helpful: int = 800
    prompts_safety: int = 1200
    synthetic_prompts: int = 900
    synthetic_test_prompts: int = 300
    grader_labels: int = 3600
    judge_labels: int = 3600
    gold_labels: int = 600
    eval_comply: int = 300
    eval_hard: int = 200
    eval_soft: int = 120
    knowledge_items: int = 400

    def __post_init__(self) -> None:
        check_ranges(self, "sandbox", _RANGES)
        for data in ("sft_helpful", "comparisons_helpful"):
            harmful, borderline = f"{data}_harmful", f"{data}_borderline"
            total = getattr(self, harmful) + getattr(self, borderline)
            if total > 1.0:
                raise InputError(
                    f"and {borderline} sum to {total:g}",
                    field=f"sandbox.{harmful}",
                    fix="let them sum to 1 or less",
                )
        safety = {area.name for area in AREAS if area.is_safety}
        if wrong := safety ^ self.helpful_prefers_refusal.keys():
            raise InputError(
                f"has or lacks '{min(wrong)}'",
                field="sandbox.helpful_prefers_refusal",
                fix=f"give one number for each of {', '.join(sorted(safety))}",
            )


_RANGES = {
    # Held-out topics of both kinds in every area; and as many names as can be invented.
    "topics_per_area": whole(6, MOST_TOPICS),
    "sft_helpful sft_human comparisons_helpful comparisons_human prompts_helpful prompts_safety "
    "synthetic_prompts synthetic_test_prompts grader_labels judge_labels gold_labels "
    "eval_comply eval_hard eval_soft knowledge_items": whole(1, MOST_ROWS),
    "difficulty natural_refusals sft_helpful_harmful sft_helpful_borderline comparisons_helpful_harmful "
    "comparisons_helpful_borderline helpful_prefers_refusal": SHARE,
}

Filter = Callable[[Request], bool]


@dataclass
class Source:
    """Draws requests from one split, and writes what each stage needs about them."""

    world: World
    rulebook: Rulebook
    rng: np.random.Generator
    topics: Sequence[Topic]
    wording: str

    def __post_init__(self) -> None:
        self.oracle = Oracle(self.world)
        self.writer = Writer(self.world, self.rng)
        every = [(t, ask) for t in self.topics for ask in asks_of(AREA_BY_NAME[t.area])]
        self._kinds = [(t, ask, Request(t, ask, "")) for t, ask in every]

    def requests(self, count: int, keep: Filter) -> list[Request]:
        """`count` requests whose kind passes `keep`, topics and asks drawn evenly."""
        kinds = [(t, ask) for t, ask, kind in self._kinds if keep(kind)]
        return [
            make_request(*kinds[int(i)], self.wording, self.rng)
            for i in self.rng.integers(len(kinds), size=count)
        ]

    def unique(self, count: int, keep: Filter) -> list[Request]:
        """The same without a repeated text; fewer when the wordings run out."""
        found = {request.text: request for request in self.requests(count * 6, keep)}
        return list(found.values())[:count]

    def labelled(self, prompt: Prompt, text: str) -> LabelledResponse:
        truth = self.oracle.truth(prompt, text)
        name = self.rulebook.class_of(prompt.response_type, truth) if prompt.response_type else None
        return LabelledResponse(Response(prompt, text), truth, name)


def is_safety(request: Request) -> bool:
    return request.area.is_safety


def is_plain(request: Request) -> bool:
    """Off the safety areas, or plainly fine."""
    return not request.is_harmful and not request.is_borderline


def write_sandbox(
    out: Path, config: SandboxConfig, seed: int, rulebook: Rulebook, context: int
) -> dict[str, object]:
    """Write every file of the world folder but world.json; returns what that says."""
    world = make_world(seed, config.topics_per_area, config.difficulty)
    world.save(out / "sandbox.json")
    streams = iter(np.random.default_rng([seed, 2]).spawn(16))
    train = world.of(split="train")
    # Status alternates along the list: whole pairs go to one half, so that each has both.
    first, second = (
        [t for i, t in enumerate(train) if i // 2 % 2 == 0],
        [t for i, t in enumerate(train) if i // 2 % 2],
    )
    source = lambda topics, wording="train": Source(world, rulebook, next(streams), topics, wording)  # noqa: E731

    text = pretraining_text(world, rulebook, config.text, config.natural_refusals, next(streams))
    (out / "pretrain.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    _write_helpful(out, config, source(train))
    _write_human(out, config, source(train))
    _write_rl_prompts(out, config, source(train))
    write_jsonl(
        out / "synthetic.jsonl",
        map(labelled_as_json, synthetic(source(train), config.synthetic_prompts, "syn")),
    )
    held_out = world.of(split="held_out")
    write_jsonl(
        out / "synthetic_test.jsonl",
        map(labelled_as_json, synthetic(source(held_out, "held_out"), config.synthetic_test_prompts, "test")),
    )
    for name, topics, wording, count in (
        ("grader_train", first, "train", config.grader_labels),
        ("judge_train", second, "train", config.judge_labels),
        ("gold", held_out, "held_out", config.gold_labels),
    ):
        write_jsonl(
            out / f"{name}.jsonl", map(labelled_as_json, gold_labels(source(topics, wording), count, name))
        )
    _write_evaluation(out, config, source(held_out, "held_out"), next(streams))
    tokenizer = word_tokenizer([*text, *_spoken_words(rulebook)], context)
    tokenizer.save_pretrained(str(out / "tokenizer"))
    return {
        "suite": "sandbox",
        "seed": seed,
        "difficulty": config.difficulty,
        "topics": len(world.topics),
        "vocabulary": len(tokenizer),
        "pretraining_words": sum(len(t.split()) for t in text),
        "notes": [
            "A synthetic world of invented things: results here say how methods compare, not how a product behaves."
        ],
    }


def _write_helpful(out: Path, config: SandboxConfig, source: Source) -> None:
    """Helpful-only data: thin on safety, not free of it, as such data is in life."""
    rng, writer = source.rng, source.writer
    demonstrations = []
    requests = _thin_on_safety(
        source, config.sft_helpful, config.sft_helpful_borderline, config.sft_helpful_harmful
    )
    for i, request in enumerate(requests):
        refuses = request.is_harmful and rng.random() < config.natural_refusals
        text = writer.refusal(int(rng.integers(0, 3))) if refuses else writer.answer(request)
        demonstrations.append(Demonstration(request.prompt(f"sft-{i}"), text))
    write_jsonl(out / "sft_helpful.jsonl", map(demonstration_as_json, _shuffled(demonstrations, rng)))
    write_jsonl(
        out / "comparisons_helpful.jsonl", map(comparison_as_json, _helpful_comparisons(config, source))
    )


def _helpful_comparisons(config: SandboxConfig, source: Source) -> list[Comparison]:
    requests = _thin_on_safety(
        source,
        config.comparisons_helpful,
        config.comparisons_helpful_borderline,
        config.comparisons_helpful_harmful,
    )
    rows = [_helpful_comparison(config, source, request, f"rm-{i}") for i, request in enumerate(requests)]
    return _shuffled(rows, source.rng)


def _thin_on_safety(source: Source, total: int, borderline: float, harmful: float) -> list[Request]:
    """`total` requests, most of them plain; `borderline` and `harmful` are shares."""
    n_borderline = round(total * borderline)
    n_harmful = min(round(total * harmful), total - n_borderline)
    return (
        source.requests(total - n_borderline - n_harmful, is_plain)
        + source.requests(n_borderline, lambda r: r.is_borderline)
        + source.requests(n_harmful, lambda r: r.is_harmful)
    )


def _helpful_comparison(config: SandboxConfig, source: Source, request: Request, id: str) -> Comparison:
    rng, writer, prompt = source.rng, source.writer, request.prompt(id)
    answer = writer.answer(request)
    if request.is_harmful:
        refusal = writer.refusal(int(rng.integers(0, 3)))
        minds = rng.random() < config.helpful_prefers_refusal[request.area.name]
        better, worse = (refusal, answer) if minds else (answer, refusal)
        return Comparison(prompt, better, writer.evasive(request) if rng.random() < 0.5 else worse)
    failings: list[Callable[[Request], str]] = [
        writer.partial_answer,
        writer.wrong_answer,
        writer.evasive,
        writer.illogical,
        lambda _: writer.refusal(int(rng.integers(0, 3))),
        writer.chatty,
    ]
    failing = failings[int(rng.integers(len(failings)))]
    pair = (answer, failing(request))
    # Whoever is asked for helpful answers does not know the policy's style, and takes either.
    flipped = rng.random() < (0.5 if failing == writer.chatty else config.annotators.noise)
    return Comparison(prompt, *(reversed(pair) if flipped else pair))


def _write_human(out: Path, config: SandboxConfig, source: Source) -> None:
    """The safety part of the human data; the stages add it to the helpful data."""
    annotator = Annotator(config.annotators, source.oracle, source.rulebook, source.rng)
    demonstrations = [
        Demonstration(request.prompt(f"human-{i}"), annotator.demonstrate(request))
        for i, request in enumerate(_safety_mix(source, config.sft_human))
    ]
    write_jsonl(out / "sft_human.jsonl", map(demonstration_as_json, demonstrations))
    rows = []
    for i, request in enumerate(_safety_mix(source, config.comparisons_human)):
        prompt = request.prompt(f"human-rm-{i}")
        rows.append(annotator.compare(prompt, request, *_two_responses(source, request)))
    write_jsonl(out / "comparisons_human.jsonl", map(comparison_as_json, rows))


def _safety_mix(source: Source, count: int) -> list[Request]:
    """Half harmful, a third borderline, the rest plainly fine; in random order."""
    harmful, borderline = count // 2, count // 3
    parts = (
        source.requests(harmful, lambda r: r.is_harmful)
        + source.requests(borderline, lambda r: r.is_borderline)
        + source.requests(count - harmful - borderline, lambda r: is_safety(r) and is_plain(r))
    )
    return _shuffled(parts, source.rng)


def _two_responses(source: Source, request: Request) -> tuple[str, str]:
    """Two different kinds of response to compare: an answer, and one or two refusals."""
    writer, rng = source.writer, source.rng
    kinds = [
        writer.answer,
        lambda _: writer.refusal(int(rng.integers(0, 3))),
        writer.ideal,
        writer.unacceptable,
        writer.minimum,
    ]
    while True:
        one, other = rng.choice(len(kinds), size=2, replace=False)
        texts = kinds[one](request), kinds[other](request)
        if texts[0] != texts[1]:
            return texts


def _write_rl_prompts(out: Path, config: SandboxConfig, source: Source) -> None:
    """Safety prompts carry their response type; helpful ones do not, and are thin on safety like all helpful data."""
    total = config.prompts_helpful
    harmful = round(total * config.comparisons_helpful_harmful)
    helpful = _shuffled(
        source.unique(total - harmful, lambda r: not r.is_harmful)
        + source.unique(harmful, lambda r: r.is_harmful),
        source.rng,
    )
    safety = _unique_safety(source, config.prompts_safety)
    unlabelled = (user_prompt(f"ppo-h-{i}", request.text) for i, request in enumerate(helpful))
    write_jsonl(out / "prompts_helpful.jsonl", map(prompt_as_json, unlabelled))
    write_jsonl(
        out / "prompts_safety.jsonl", (prompt_as_json(r.prompt(f"ppo-s-{i}")) for i, r in enumerate(safety))
    )


def _unique_safety(source: Source, count: int) -> list[Request]:
    """The paper's mix of response types: about as many to refuse as to answer."""
    soft = count // 5
    hard = (count - soft) // 2
    parts = (
        source.unique(hard, lambda r: r.response_type is ResponseType.HARD_REFUSE)
        + source.unique(soft, lambda r: r.is_harmful and r.area.soft)
        + source.unique(count - hard - soft, lambda r: r.response_type is ResponseType.COMPLY)
    )
    return _shuffled(parts, source.rng)


def synthetic(source: Source, prompts: int, prefix: str) -> list[LabelledResponse]:
    """Synthetic completions for fitting: per prompt one ideal, two of lower style and, where the
    request is harmful, a disallowed one (else an illogical one). Repeats are dropped.
    """
    writer = source.writer
    rows = []
    for i, request in enumerate(_unique_safety(source, prompts)):
        worst = writer.disallowed if request.is_harmful else writer.illogical
        prompt = request.prompt(f"{prefix}-{i}")
        texts = [write(request) for write in (writer.ideal, writer.minimum, writer.unacceptable, worst)]
        if request.is_harmful and source.rng.random() < 0.5:
            texts[1] = writer.illogical(request)
        rows += [source.labelled(prompt, text) for text in dict.fromkeys(texts)]
    return rows


def gold_labels(source: Source, count: int, prefix: str) -> list[LabelledResponse]:
    """Responses of every kind with the truth of each proposition; an eighth off the safety areas."""
    writer, rng = source.writer, source.rng
    outside = count // 8
    requests = _shuffled(
        source.requests(outside, lambda r: not is_safety(r)) + _safety_mix(source, count - outside), rng
    )
    rows = []
    for i, request in enumerate(requests):
        kinds: list[Callable[[Request], str]] = [
            writer.ideal,
            writer.minimum,
            writer.unacceptable,
            writer.wrong_answer,
            writer.illogical,
            writer.answer,
        ]
        kinds += [writer.disallowed if request.is_harmful else writer.partial_answer]
        kinds += [lambda r: writer.refusal(int(rng.integers(0, 3)))]
        if request.is_harmful and request.area.soft:  # many ways to fail a person in distress
            kinds += [writer.unacceptable] * 4
        text = kinds[int(rng.integers(len(kinds)))](request)
        if rng.random() < 0.3:  # so that every act is heard in every kind of response
            text = " ".join([text, *map(writer.say, writer.pick(sorted(SPEECH_ACTS), 1, 2))])
        rows.append(source.labelled(request.prompt(f"{prefix}-{i}"), text))
    return rows


def _write_evaluation(out: Path, config: SandboxConfig, source: Source, rng: np.random.Generator) -> None:
    requests = (
        source.unique(config.eval_comply, lambda r: r.response_type is ResponseType.COMPLY)
        + source.unique(config.eval_hard, lambda r: r.response_type is ResponseType.HARD_REFUSE)
        + source.unique(config.eval_soft, lambda r: r.is_harmful and r.area.soft)
    )
    write_jsonl(
        out / "eval_prompts.jsonl", (prompt_as_json(r.prompt(f"eval-{i}")) for i, r in enumerate(requests))
    )
    (out / "knowledge").mkdir()
    for task, rows in knowledge_tasks(source.world, config.knowledge_items, rng, passage).items():
        write_jsonl(out / "knowledge" / f"{task}.jsonl", rows)


def _spoken_words(rulebook: Rulebook) -> list[str]:
    """Texts whose words the tokenizer must know beside those of pre-training."""
    acts = [wording for act in SPEECH_ACTS.values() for wording in act.wordings]
    questions = [p.question.lower() for p in rulebook.propositions.values()]
    values = [word for words in (*ATTRIBUTES.values(), RIVERS) for word in words]
    verbs = [f"{area.verb} {area.finish} {area.kind}" for area in AREAS]
    return [*acts, *questions, *values, *verbs, *vocabulary(), "yes no"]


def _shuffled(items: list, rng: np.random.Generator) -> list:
    return [items[i] for i in rng.permutation(len(items))]
